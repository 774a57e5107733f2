package http1

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// minBuffer is the smallest buffer: what a connection reads a head into at first.
const minBuffer = 8 << 10

// A buffer is pooled by its class: 0 for 8 KiB, and each class twice the one before, up to maxBuffer. It never
// changes its length, so it goes back to where it came from.
type buffer struct {
	b     []byte
	class int
	free  bool // handed back; what sees it afterwards is a defect
	held  *atomic.Int64
}

var buffers = [...]sync.Pool{
	{New: func() any { return newBuffer(0) }},
	{New: func() any { return newBuffer(1) }},
	{New: func() any { return newBuffer(2) }},
	{New: func() any { return newBuffer(3) }},
	{New: func() any { return newBuffer(4) }},
}

func newBuffer(class int) *buffer { return &buffer{b: make([]byte, minBuffer<<class), class: class} }

// takeBuffer gives a buffer of at least size bytes, at most maxBuffer. held, nil for none, counts it until it is handed back.
func takeBuffer(size int, held *atomic.Int64) *buffer {
	class := 0
	if size > minBuffer {
		class = min(bits.Len(uint(size-1)/minBuffer), len(buffers)-1)
	}
	b := buffers[class].Get().(*buffer)
	b.free, b.held = false, held
	if held != nil {
		held.Add(int64(len(b.b)))
	}
	if tracing != nil {
		tracing(b, true)
	}
	return b
}

// putBuffer hands b back; nil is nothing.
func putBuffer(b *buffer) {
	if b == nil {
		return
	}
	if b.free {
		panic("http1: buffer handed back twice") // two connections would share it
	}
	b.free = true
	if b.held != nil {
		b.held.Add(-int64(len(b.b)))
		b.held = nil
	}
	if tracing != nil {
		tracing(b, false)
	}
	buffers[b.class].Put(b)
}

// tracing is set by this package's tests alone: it counts buffers and overwrites those handed back.
var tracing func(b *buffer, taken bool)
