package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// maxStructure bounds the characters of a document that can each begin a node. The parser takes some 200
// bytes for a node, so that 4 MiB of brackets would cost it hundreds of megabytes; real documents have one
// such character in twenty.
const maxStructure = 800_000

// tooDense reports text that would parse to more nodes than any mesh document has.
func tooDense(text []byte) bool {
	if len(text) <= maxStructure {
		return false
	}
	n := 0
	for _, c := range text {
		switch c {
		case ',', ':', '[', '{', '?', '-':
			n++
		}
	}
	return n > maxStructure
}

var errTrailing = errors.New("text after the end of the document")

// readYAML parses one document. It gives nil where r holds none.
func readYAML(r io.Reader) (root *yaml.Node, err error) {
	defer func() {
		// Malformed text must never take the program down, whatever the parser makes of it.
		if p := recover(); p != nil {
			root, err = nil, fmt.Errorf("%v", p)
		}
	}()
	dec := yaml.NewDecoder(r)
	var doc, next yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	// yaml ends the document at a closing bracket and would leave the rest unread without a word.
	if err := dec.Decode(&next); err == nil {
		return nil, errTrailing
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return doc.Content[0], nil
}

// A trickle hands out text byte by byte and so knows how far its reader got.
type trickle struct {
	text []byte
	read int
}

func (t *trickle) Read(p []byte) (int, error) {
	if t.read == len(t.text) {
		return 0, io.EOF
	}
	p[0] = t.text[t.read]
	t.read++
	return 1, nil
}

// A syntaxError is what the parser had to say, and where.
type syntaxError struct {
	offset        int
	message, hint string
}

// yamlPrefix is the parser's own name and its line, which names the beginning of the surrounding block for
// some errors, the fault for others, and is one too small for a third kind.
var yamlPrefix = regexp.MustCompile(`^yaml: (line \d+: )?`)

// parseYAML parses the text of one document. On an error it parses again from a reader that counts, for
// yaml's own positions are not to be relied on: it stops within a few bytes of what it cannot accept.
func parseYAML(text []byte) (*yaml.Node, *syntaxError) {
	root, err := readYAML(bytes.NewReader(text))
	if err == nil {
		return root, nil
	}
	counted := &trickle{text: text}
	_, _ = readYAML(counted)
	e := &syntaxError{offset: wordBefore(text, counted.read)}
	e.message = clip(yamlPrefix.ReplaceAllString(err.Error(), ""))
	switch tab := tabIndent(text, counted.read); {
	case tab >= 0:
		e.offset, e.message, e.hint = tab, "the line is indented with a tab", "indent with spaces"
	case counted.read == len(text) && openEnd.MatchString(e.message):
		e.message += ": the text is cut off"
		e.hint = "close the quote, bracket or block that is still open"
	}
	e.message = "cannot parse YAML: " + e.message
	return nil, e
}

// openEnd are the parser's words for text that ends too early.
var openEnd = regexp.MustCompile(`end of stream|expected ',' or|expected node content`)

// wordBefore gives the beginning of the last word that ends before offset.
func wordBefore(text []byte, offset int) int {
	i := min(offset, len(text))
	for i > 0 && isSpace(text[i-1]) {
		i--
	}
	for i > 0 && !isSpace(text[i-1]) {
		i--
	}
	if i == len(text) && i > 0 { // nothing but space
		return 0
	}
	return i
}

// tabIndent looks for a tab in the indentation of the line at offset and gives its place, or -1.
func tabIndent(text []byte, offset int) int {
	at := max(0, min(offset, len(text))-1)
	start := bytes.LastIndexByte(text[:at], '\n') + 1
	for i := start; i < len(text); i++ {
		switch text[i] {
		case '\t':
			return i
		case ' ':
		default:
			return -1
		}
	}
	return -1
}
