package http1

import "sync/atomic"

// MaxInformational is how many 1xx responses a caller should take for one request before it gives up on the
// server (RFC 9110 §15.2 sets no bound). The codec does not count them.
const MaxInformational = 8

// maxBuffer is the largest buffer that is pooled, and so the most that one head can take.
const maxBuffer = 128 << 10

// Limits bound what is read from a connection. The zero value of each field is its stated default. A Limits
// must not change while a connection uses it; any number of connections may share one.
type Limits struct {
	// Head bounds the bytes of a head: start line, field lines, line ends. Default 64 KiB, less than 128 KiB.
	// Beyond it: 431.
	Head int
	// Line bounds the bytes of the start line without its end. Default 8 KiB. Beyond it: 414.
	Line int
	// Field bounds the bytes of one field line without its end. Default 32 KiB. Beyond it: 431. A field name
	// has at most 256 bytes in any case.
	Field int
	// Fields bounds the number of field lines of a head, and of a trailer section. Default 100. Beyond it: 431.
	Fields int
	// EmptyLines bounds the empty lines before a request line, which RFC 9112 §2.2 asks servers to skip.
	// Default 1; negative: none.
	EmptyLines int
	// ChunkExtension bounds the bytes of all chunk extensions of one body. Default 4 KiB. Beyond it: 400.
	ChunkExtension int
	// Trailer bounds the bytes of a trailer section. Default 8 KiB, at most 64 KiB. Beyond it: 431.
	Trailer int
	// Held counts the bytes of the buffers that the connections and their writers hold. Default: nobody counts.
	Held *atomic.Int64
}

// withDefaults gives the limits as they apply.
func (l *Limits) withDefaults() Limits {
	var out Limits
	if l != nil {
		out = *l
	}
	or := func(n *int, byDefault, most int) {
		if *n <= 0 {
			*n = byDefault
		}
		*n = min(*n, most)
	}
	or(&out.Head, 64<<10, maxBuffer-1) // a full buffer is beyond it
	or(&out.Line, 8<<10, maxBuffer)
	or(&out.Field, 32<<10, maxBuffer)
	or(&out.Fields, 100, 1<<16)
	or(&out.ChunkExtension, 4<<10, 1<<30)
	or(&out.Trailer, 8<<10, maxBuffer/2)
	switch {
	case out.EmptyLines == 0:
		out.EmptyLines = 1
	case out.EmptyLines < 0:
		out.EmptyLines = 0
	}
	return out
}
