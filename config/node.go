package config

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// A page is the text that a document's nodes were parsed from. yaml counts columns in characters; a page
// that holds any beyond ASCII turns them into the bytes that findings speak of.
type page struct {
	line   int // line of the file on which the text begins
	text   []byte
	starts []int // offset of each line; nil where every character is one byte
}

func newPage(line int, text []byte) *page {
	p := &page{line: line, text: text}
	if isASCII(text) {
		return p
	}
	p.starts = []int{0}
	for i, c := range text {
		if c == '\n' {
			p.starts = append(p.starts, i+1)
		}
	}
	return p
}

func isASCII(text []byte) bool {
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// column gives the column in bytes of the character that stands at column in line of the file.
func (p *page) column(line, column int) int {
	row := line - p.line
	if p.starts == nil || row < 0 || row >= len(p.starts) {
		return column
	}
	rest, bytesBefore := p.text[p.starts[row]:], 0
	for range column - 1 {
		_, n := utf8.DecodeRune(rest)
		rest, bytesBefore = rest[n:], bytesBefore+n
	}
	return bytesBefore + 1
}

// shift moves the nodes of a parsed section to the lines of its file. Aliases are not followed: what they
// point at is moved where it stands.
func shift(n *yaml.Node, lines int) {
	if lines == 0 {
		return
	}
	n.Line += lines
	for _, c := range n.Content {
		shift(c, lines)
	}
}

// target is the node itself, or the one an alias stands for.
func target(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// isNull reports a null, be it written out or a value left empty.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// entry gives the nodes of a mapping's key; nil where n is no mapping or has no such key. Protobuf's two
// spellings of one field, fixedDelay and fixed_delay, find each other.
func entry(n *yaml.Node, name string) (key, value *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i].Value; strings.Contains(k, "_") && camel(k) == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

// camel turns a field's protobuf name into its JSON name.
func camel(s string) string {
	var b strings.Builder
	upper := false
	for i := range len(s) {
		c := s[i]
		if c == '_' {
			upper = true
			continue
		}
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper = false
		b.WriteByte(c)
	}
	return b.String()
}

// find follows path as far as the document goes and gives the last node there and the key it is written
// under (nil in a list and at the root). found says whether the whole path was there.
func (d *document) find(path []any) (key, value *yaml.Node, found bool) {
	value = d.tree()
	for _, step := range path {
		in := target(value)
		switch step := step.(type) {
		case string:
			k, v := entry(in, step)
			if v == nil {
				return key, value, false
			}
			key, value = k, v
		case int:
			if in.Kind != yaml.SequenceNode || step < 0 || step >= len(in.Content) {
				return key, value, false
			}
			key, value = nil, in.Content[step]
		}
	}
	return key, value, true
}

// at gives the line and column at which an editor should open for path, a list of field names and indexes:
// the value of a scalar, the key of an object or list. Where the field is absent it is its nearest parent.
func (d *document) at(path ...any) (line, column int) {
	if d.root == nil {
		line, column, _ = d.outline.at(path)
		return line, column
	}
	key, value, _ := d.find(path)
	n := value
	if key != nil && (value.Kind == yaml.MappingNode || value.Kind == yaml.SequenceNode || isNull(value)) {
		n = key
	}
	return d.position(n)
}

// has reports whether something is written at path, be it null.
func (d *document) has(path []any) bool {
	if d.root == nil {
		_, _, found := d.outline.at(path)
		return found
	}
	_, _, found := d.find(path)
	return found
}

func (d *document) position(n *yaml.Node) (line, column int) {
	return n.Line, d.page.column(n.Line, n.Column)
}

// rawAt gives what is written at path in a form fit for one line of a message.
func (d *document) rawAt(path ...any) string {
	_, value, found := d.find(path)
	if !found {
		return "nothing"
	}
	return describe(value)
}

// describe says what a node is: a scalar as it is written, an object or a list in a word.
func describe(n *yaml.Node) string {
	n = target(n)
	switch {
	case n.Kind == yaml.MappingNode:
		return "an object"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "null"
	case n.Tag == "!!str":
		return quoted(n.Value)
	}
	return clip(n.Value)
}

// pathString writes a path as findings do: spec.http[0].timeout.
func pathString(path []any) string {
	var b strings.Builder
	for _, step := range path {
		switch step := step.(type) {
		case int:
			b.WriteByte('[')
			b.WriteString(strconv.Itoa(step))
			b.WriteByte(']')
		case string:
			if !isPlainName(step) {
				b.WriteByte('[')
				b.WriteString(quoted(step))
				b.WriteByte(']')
				continue
			}
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(step)
		}
	}
	return b.String()
}

// isPlainName reports a path step that can stand without brackets and quotes.
func isPlainName(s string) bool {
	for _, r := range s {
		if r != '_' && r != '-' && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r)) {
			return false
		}
	}
	return s != "" && len(s) <= clipLength
}

// clipLength is as much of a document's own text as a message repeats.
const clipLength = 64

func quoted(s string) string {
	if len(s) <= clipLength {
		return strconv.Quote(s)
	}
	return strconv.Quote(strings.ToValidUTF8(s[:clipLength], "")) + "…"
}

// clip is quoted without the quotes.
func clip(s string) string {
	q := quoted(s)
	q, more := strings.CutSuffix(q, "…")
	q = q[1 : len(q)-1]
	if more {
		q += "…"
	}
	return q
}
