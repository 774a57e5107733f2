package config

import (
	"bytes"
	"encoding/binary"

	"go.yaml.in/yaml/v3"
)

// An outline is what is left of a document's nodes once it is decoded: where each field stands, in about ten bytes, where two nodes take
// more than three hundred. A value is written as what it is, its line, counted from that of what it is in, its column, and for objects and
// lists the length of what they hold and that; before each field of an object stand its name and the place of that. Aliases hold what
// they stand for, so that only a document that has passed its checker has an outline.
type outline []byte

// What a value is.
const (
	scalarMark = iota
	nullMark
	objectMark
	listMark
	aliasMark // added to what it stands for
)

// A mark is one value of an outline.
type mark struct {
	line, column int
	what         byte
	inside       []byte
}

func newOutline(d *document) outline { return appendOutline(nil, d, d.root, 0) }

func appendOutline(to []byte, d *document, n *yaml.Node, within int) []byte {
	held, what := target(n), byte(scalarMark)
	switch {
	case held.Kind == yaml.MappingNode:
		what = objectMark
	case held.Kind == yaml.SequenceNode:
		what = listMark
	case isNull(held):
		what = nullMark
	}
	if held != n {
		what += aliasMark
	}
	to = appendPlace(append(to, what), d, n, within)
	if what&^aliasMark < objectMark {
		return to
	}
	var inside []byte
	for i, c := range held.Content {
		if held.Kind == yaml.MappingNode && i%2 == 0 {
			inside = append(binary.AppendUvarint(inside, uint64(len(c.Value))), c.Value...)
			inside = appendPlace(inside, d, c, n.Line)
			continue
		}
		inside = appendOutline(inside, d, c, n.Line)
	}
	return append(binary.AppendUvarint(to, uint64(len(inside))), inside...)
}

func appendPlace(to []byte, d *document, n *yaml.Node, within int) []byte {
	line, column := d.position(n)
	return binary.AppendUvarint(binary.AppendVarint(to, int64(line-within)), uint64(column))
}

// A tracing reads an outline from its beginning.
type tracing struct{ rest []byte }

func (t *tracing) uvarint() int {
	v, n := binary.Uvarint(t.rest)
	t.rest = t.rest[n:]
	return int(v)
}

func (t *tracing) take(n int) []byte {
	b := t.rest[:n]
	t.rest = t.rest[n:]
	return b
}

func (t *tracing) place(within int) (line, column int) {
	v, n := binary.Varint(t.rest)
	t.rest = t.rest[n:]
	return within + int(v), t.uvarint()
}

func (t *tracing) value(within int) mark {
	m := mark{what: t.take(1)[0]}
	m.line, m.column = t.place(within)
	if m.what&^aliasMark >= objectMark {
		m.inside = t.take(t.uvarint())
	}
	return m
}

// field gives the value of an object's field and the place of its name, as entry does.
func (m mark) field(name string) (key, value mark, found bool) {
	if m.what&^aliasMark != objectMark {
		return key, value, false
	}
	for t := (tracing{m.inside}); len(t.rest) > 0; {
		written := t.take(t.uvarint())
		var k mark
		k.line, k.column = t.place(m.line)
		v := t.value(m.line)
		if string(written) == name {
			return k, v, true
		}
		if !found && bytes.IndexByte(written, '_') >= 0 && camel(string(written)) == name {
			key, value, found = k, v, true
		}
	}
	return key, value, found
}

// element gives the n-th value of a list.
func (m mark) element(n int) (mark, bool) {
	if m.what&^aliasMark != listMark {
		return mark{}, false
	}
	for t := (tracing{m.inside}); len(t.rest) > 0; n-- {
		if v := t.value(m.line); n == 0 {
			return v, true
		}
	}
	return mark{}, false
}

// at is document.at, and found says whether the whole path was there.
func (o outline) at(path []any) (line, column int, found bool) {
	value := (&tracing{o}).value(0)
	var key *mark
	for _, step := range path {
		switch step := step.(type) {
		case string:
			k, v, ok := value.field(step)
			if !ok {
				return value.opened(key, false)
			}
			key, value = &k, v
		case int:
			v, ok := value.element(step)
			if !ok {
				return value.opened(key, false)
			}
			key, value = nil, v
		}
	}
	return value.opened(key, true)
}

// opened gives the place at which an editor should open for the value: its own, or that of its key.
func (m mark) opened(key *mark, found bool) (line, column int, whole bool) {
	if key != nil && (m.what == objectMark || m.what == listMark || m.what == nullMark) {
		return key.line, key.column, found
	}
	return m.line, m.column, found
}
