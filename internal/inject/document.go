package inject

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// YAML puts the sidecar into every workload of a stream of documents, JSON being YAML too. Documents without one stay as they are, byte
// by byte. Where a finding is an Error there is no output. The error is about what is no YAML, or about the options.
func YAML(stream []byte, o Options) (out []byte, findings []Finding, err error) {
	o, err = o.complete()
	if err != nil {
		return nil, nil, err
	}
	var b bytes.Buffer
	for _, d := range split(stream) {
		changed, err := d.inject(&o, &findings)
		if err != nil {
			return nil, nil, err
		}
		b.Write(changed)
	}
	for _, f := range findings {
		if f.Level == Error {
			return nil, findings, nil
		}
	}
	return append([]byte{}, b.Bytes()...), findings, nil
}

// directives reports whether a text has nothing but YAML's directives and comments, which stand before a document.
func directives(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '%' && line[0] != '#' {
			return false
		}
	}
	return true
}

// A document is one of a stream: the line that parts it from those before, "" at the start, and its text.
type document struct {
	marker string
	text   []byte
	lines  int // before the text
}

// split parts a stream at the lines that begin with "---" (YAML 1.2 §9.2).
func split(stream []byte) []document {
	var all []document
	d := document{}
	for n, line := range bytes.SplitAfter(stream, []byte("\n")) {
		rest, is := bytes.CutPrefix(line, []byte("---"))
		if !is || len(rest) > 0 && !bytes.ContainsAny(rest[:1], " \t\r\n") {
			d.text = append(d.text, line...)
			continue
		}
		all = append(all, d)
		d = document{marker: string(line), lines: n + 1}
		if beside := strings.TrimSpace(string(rest)); beside != "" && beside[0] != '#' { // the document begins on this line
			d = document{marker: "---\n", text: append([]byte("   "), rest...), lines: n}
		}
	}
	return append(all, d)
}

// inject gives the document's text as it is to be written.
func (d *document) inject(o *Options, findings *[]Finding) ([]byte, error) {
	same := append([]byte(d.marker), d.text...)
	if directives(d.text) {
		return same, nil
	}
	var root yaml.Node
	if err := yaml.Unmarshal(d.text, &root); err != nil {
		return nil, positioned(err, d.lines)
	}
	if len(root.Content) == 0 {
		return same, nil
	}
	changed := false
	for _, object := range objects(root.Content[0]) {
		if workload(object, d.lines, o, findings) {
			changed = true
		}
	}
	if !changed {
		return same, nil
	}
	text, err := write(&root)
	if err != nil {
		return nil, fmt.Errorf("document at line %d: %w", d.lines+1, err)
	}
	return append([]byte(d.marker), text...), nil
}

// write gives a document's text, which is read again: there are texts that YAML's writer does not give back as they were.
func write(root *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if compact(root) {
		e.CompactSeqIndent()
	}
	if err := errors.Join(e.Encode(root), e.Close()); err != nil {
		return nil, err
	}
	var read yaml.Node
	if err := yaml.Unmarshal(b.Bytes(), &read); err != nil || len(split(b.Bytes())) != 1 || !equal(root, &read) {
		return nil, errors.New("it cannot be written as YAML without a change of meaning: write it in a simpler form")
	}
	return b.Bytes(), nil
}

// equal reports whether two nodes say the same.
func equal(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.ShortTag() != b.ShortTag() || a.Value != b.Value || a.Anchor != b.Anchor || len(a.Content) != len(b.Content) {
		return false
	}
	for i := range a.Content {
		if !equal(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

// positioned counts the lines of a YAML error from the start of the stream.
func positioned(err error, lines int) error {
	var line int
	if n, _ := fmt.Sscanf(err.Error(), "yaml: line %d:", &line); n == 1 && lines > 0 {
		_, rest, _ := strings.Cut(err.Error(), fmt.Sprintf("line %d:", line))
		return fmt.Errorf("yaml: line %d:%s", line+lines, rest)
	}
	return err
}

// objects gives the objects of a document: itself, or the items of a List, and of Lists in it, as kubectl has them.
func objects(n *yaml.Node) []*yaml.Node {
	list := get(n, "items")
	if n.Kind == yaml.AliasNode || !strings.HasSuffix(text(n, "kind"), "List") || list == nil || list.Kind != yaml.SequenceNode {
		return []*yaml.Node{n}
	}
	var all []*yaml.Node
	for _, one := range list.Content {
		all = append(all, objects(one)...)
	}
	return all
}

// compact reports whether a document has its lists at the column of their keys.
func compact(n *yaml.Node) bool {
	if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle == 0 {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, v := n.Content[i], n.Content[i+1]
			if v.Kind == yaml.SequenceNode && v.Style&yaml.FlowStyle == 0 && v.Line > key.Line {
				return v.Column == key.Column
			}
		}
	}
	for _, one := range n.Content {
		if one.Kind == yaml.MappingNode || one.Kind == yaml.SequenceNode {
			if compact(one) {
				return true
			}
		}
	}
	return false
}

// JSON gives the documents of a YAML stream as JSON objects, one after the other.
func JSON(stream []byte) ([]byte, error) {
	var b bytes.Buffer
	for d := yaml.NewDecoder(bytes.NewReader(stream)); ; {
		var one any
		err := d.Decode(&one)
		if errors.Is(err, io.EOF) {
			return b.Bytes(), nil
		}
		if err == nil && one != nil {
			err = writeJSON(&b, one)
		}
		if err != nil {
			return nil, err
		}
	}
}
