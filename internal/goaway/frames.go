package goaway

import "encoding/binary"

// Types and flags of frames (RFC 9113 §6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	framePushPromise  = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameContinuation = 0x9
	flagAck           = 0x1
	flagEndStream     = 0x1
	flagEndHeaders    = 0x4
)

// Frames follow one direction of a connection, from its first frame on (RFC 9113 §4.1).
type frames struct {
	head [9]byte
	n    int  // of head
	left int  // of the payload
	any  bool // one is over
}

// next takes bytes up to the end of the frame that they belong to, and reports whether that has come.
func (f *frames) next(b []byte) (taken int, over bool) {
	if f.n == len(f.head) && f.left == 0 {
		f.n = 0
	}
	if f.n < len(f.head) {
		taken = copy(f.head[f.n:], b)
		if f.n += taken; f.n < len(f.head) {
			return taken, false
		}
		f.left = f.size()
	}
	n := min(f.left, len(b)-taken)
	f.left -= n
	over = f.left == 0
	f.any = f.any || over
	return taken + n, over
}

// missing gives the bytes of a head that are to come next, 0 within a payload.
func (f *frames) missing() int {
	switch {
	case f.left > 0:
		return 0
	case f.n == len(f.head):
		return f.n
	}
	return len(f.head) - f.n
}

// stream gives the number of the stream that the frame is of, size that of its payload. Its head is whole.
func (f *frames) stream() uint32 { return binary.BigEndian.Uint32(f.head[5:]) &^ (1 << 31) }
func (f *frames) size() int {
	return int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
}

// is reports the type of the frame that is over, and whether it has the flags.
func (f *frames) is(kind, flags byte) bool { return f.head[3] == kind && f.head[4]&flags == flags }

// between reports whether another frame may come here: behind the first, which is SETTINGS, and not within a block of header fields.
func (f *frames) between() bool {
	if !f.any || f.n < len(f.head) || f.left > 0 {
		return false
	}
	switch f.head[3] {
	case frameHeaders, framePushPromise, frameContinuation:
		return f.head[4]&flagEndHeaders != 0
	}
	return true
}
