package call

import (
	"strconv"
	"strings"
	"unsafe"
)

// A Room is where the texts stand that are made for one request: a path that is rewritten, a header value with commands in
// it. Once it has grown, making them allocates nothing. What it gave is good until Empty. A nil Room allocates each text
// by itself, for callers who do not know how long they are needed. It belongs to one goroutine; its zero value is empty.
type Room struct {
	texts []byte
}

// Join gives the parts as one text.
func (r *Room) Join(parts ...string) string {
	if r == nil {
		return strings.Join(parts, "")
	}
	from := len(r.texts)
	for _, p := range parts {
		r.texts = append(r.texts, p...)
	}
	return r.since(from)
}

// Int gives a number as text.
func (r *Room) Int(n int64) string {
	if r == nil {
		return strconv.FormatInt(n, 10)
	}
	from := len(r.texts)
	r.texts = strconv.AppendInt(r.texts, n, 10)
	return r.since(from)
}

// since gives what was appended since there were from bytes. Where appending has moved the buffer, texts before it stay where they
// are.
func (r *Room) since(from int) string {
	text := r.texts[from:]
	return unsafe.String(unsafe.SliceData(text), len(text))
}

// Empty makes room again: texts given so far are no longer good.
func (r *Room) Empty() {
	if r.texts = r.texts[:0]; cap(r.texts) > mostRoom {
		r.texts = nil
	}
}

// Leave lets go of the texts given so far, which stay good for whoever has them.
func (r *Room) Leave() { r.texts = nil }

const mostRoom = 16 << 10 // that is kept, in bytes
