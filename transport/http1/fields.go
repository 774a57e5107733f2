package http1

import (
	"bytes"
	"unsafe"
)

// Fields are the field lines of one head or trailer section in the order they came: an index over the buffer
// that holds them, whose strings alias that buffer. Several goroutines may read a Fields at once.
type Fields struct {
	b     []byte // the section
	list  []field
	seen  uint32 // bit 1<<id: the field is there
	twice uint32 // and more than once
}

// A field is where one field line stands in its section: name, then value between at and end.
type field struct {
	name, at, end uint32
	nameLen       uint16
	id            FieldID
}

// maxName bounds a field name; nameLen holds it.
const maxName = 256

func (f *Fields) reset() {
	f.b, f.list, f.seen, f.twice = nil, f.list[:0], 0, 0
}

// Own copies the section, in one allocation: strings that are looked up from now on are the caller's, for ever.
func (f *Fields) Own() { f.b = bytes.Clone(f.b) }

// view gives bytes as a string without a copy. The buffer beneath is written again only after the section has ended.
func view(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// Len gives the number of field lines.
func (f *Fields) Len() int { return len(f.list) }

// ID tells which field line i is.
func (f *Fields) ID(i int) FieldID { return f.list[i].id }

// Name gives the name of field line i as it was sent.
func (f *Fields) Name(i int) string {
	e := &f.list[i]
	return view(f.b[e.name : e.name+uint32(e.nameLen)])
}

// Value gives the value of field line i without the whitespace around it.
func (f *Fields) Value(i int) string {
	e := &f.list[i]
	return view(f.b[e.at:e.end])
}

// Is reports whether field line i has the name, in any case.
func (f *Fields) Is(i int, name string) bool {
	return int(f.list[i].nameLen) == len(name) && equalFold(f.Name(i), name)
}

// Has reports whether a known field is there.
func (f *Fields) Has(id FieldID) bool { return f.seen&(1<<id) != 0 }

// Known gives the i-th value, from 0, of a known field, and whether there is one.
func (f *Fields) Known(id FieldID, i int) (string, bool) {
	if !f.Has(id) {
		return "", false
	}
	for n := range f.list {
		if f.list[n].id != id {
			continue
		}
		if i == 0 {
			return f.Value(n), true
		}
		i--
	}
	return "", false
}

// Get gives the i-th value, from 0, of a field by its name in any case, and whether there is one.
func (f *Fields) Get(name string, i int) (string, bool) {
	for n := range f.list {
		if !f.Is(n, name) {
			continue
		}
		if i == 0 {
			return f.Value(n), true
		}
		i--
	}
	return "", false
}

// Lists reports whether a token stands in one of the comma-separated values of a known field, in any case.
// Lists(FieldConnection, name) tells whether Connection nominates a field.
func (f *Fields) Lists(id FieldID, token string) bool {
	if !f.Has(id) {
		return false
	}
	for n := range f.list {
		if f.list[n].id == id && listed(f.Value(n), token) {
			return true
		}
	}
	return false
}

// only gives the value of a known field that may come once, and whether it is there.
func (f *Fields) only(id FieldID, twice *Error) (string, bool, *Error) {
	if f.twice&(1<<id) != 0 {
		return "", false, twice
	}
	v, ok := f.Known(id, 0)
	return v, ok, nil
}

// add parses one field line, b[start:end] without its CRLF, and notes where it stands (RFC 9112 §5).
func (f *Fields) add(b []byte, start, end int) *refusal {
	line := b[start:end]
	i := 0
	for i < len(line) && classes[line[i]]&isToken != 0 {
		i++
	}
	switch {
	case i == len(line):
		return errNoColon
	case line[i] != ':':
		return badName(line, i)
	case i == 0:
		return errEmptyName
	case i > maxName:
		return errNameSize
	}
	at := i + 1
	for at < len(line) && (line[at] == ' ' || line[at] == '\t') {
		at++
	}
	stop := len(line)
	for stop > at && (line[stop-1] == ' ' || line[stop-1] == '\t') {
		stop--
	}
	if !text(line[at:stop]) {
		return badValue(line[at:stop])
	}
	id := Identify(view(line[:i]))
	f.twice |= f.seen & (1 << id)
	f.seen |= 1 << id
	f.list = append(f.list, field{name: uint32(start), nameLen: uint16(i), at: uint32(start + at), end: uint32(start + stop), id: id})
	return nil
}

// badName says what is wrong at byte i, where the name should have ended.
func badName(line []byte, i int) *refusal {
	switch c := line[i]; {
	case i == 0 && (c == ' ' || c == '\t'):
		return errFold
	case c == '\r':
		return errBareCR
	case c != ' ' && c != '\t':
		return errName
	}
	for _, c := range line[i:] {
		if c == ':' {
			return errSpaceColon
		}
	}
	return errNoColon
}

func badValue(value []byte) *refusal {
	for _, c := range value {
		if c == '\r' {
			return errBareCR
		}
	}
	return errValue
}
