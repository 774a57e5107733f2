package proxy

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"testing/iotest"
)

// frameOf is a frame of RFC 6455.
func frameOf(payload []byte, mask bool) []byte {
	f := []byte{0x81}
	bit := byte(0)
	if mask {
		bit = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		f = append(f, bit|byte(n))
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16(append(f, bit|126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, bit|127), uint64(n))
	}
	if mask {
		f = append(f, 1, 2, 3, 4)
	}
	return append(f, payload...)
}

// A written is where a side writes to.
type written struct {
	bytes.Buffer
	half, closed bool
}

func (w *written) CloseWrite() error { w.half = true; return nil }
func (w *written) Close() error      { w.closed = true; return nil }

// TestWebSocketFarewell: whatever the frames, and wherever they are cut, what was under way is written to its end, then comes the Close
// frame, and nothing after it.
func TestWebSocketFarewell(t *testing.T) {
	t.Parallel()
	for _, mask := range []bool{false, true} {
		for _, size := range []int{0, 1, 125, 126, 1 << 16} {
			first, second := frameOf(bytes.Repeat([]byte{0x88}, size), mask), frameOf([]byte("late"), mask)
			for _, cut := range []int{0, 1, 2, 3, 4, 5, 9, 10, 13, 14, len(first) / 2, len(first) - 1, len(first)} {
				if cut < 0 || cut > len(first) {
					continue
				}
				to := new(written)
				side := &webSocketSide{to: to, server: mask}
				write := func(p []byte) {
					if n, err := side.Write(p); n != len(p) || err != nil {
						t.Errorf("%d, %v", n, err)
					}
				}
				write(first[:cut])
				side.farewell()
				write(append(first[cut:], second...))
				write(second)
				whole := 0
				if cut > 0 {
					whole = len(first)
				}
				got := to.Bytes()
				if len(got) < whole || !bytes.Equal(got[:whole], first[:whole]) {
					t.Fatalf("%d bytes, cut at %d: the frame under way was not written", size, cut)
				}
				end := got[whole:]
				switch {
				case mask && (len(end) != 8 || end[0] != 0x88 || end[1] != 0x82 || end[6]^end[2] != 3 || end[7]^end[3] != 0xe9),
					!mask && !bytes.Equal(end, []byte{0x88, 2, 3, 0xe9}):
					t.Errorf("%d bytes, cut at %d: it ends with % x", size, cut, end)
				}
				if !to.half || side.CloseWrite() != nil {
					t.Error("its direction was not ended")
				}
			}
		}
	}
}

// FuzzWebSocketFrames: cut in whatever pieces, a stream passes as it is, and is between two frames where it was when whole.
func FuzzWebSocketFrames(f *testing.F) {
	f.Add(frameOf([]byte("hello"), true))
	f.Add(append(frameOf(make([]byte, 70000), false), 0x81, 0x7f, 0xff))
	f.Fuzz(func(t *testing.T, p []byte) {
		whole, pieces := new(written), new(written)
		a, b := &webSocketSide{to: whole}, &webSocketSide{to: pieces}
		if _, err := a.Write(p); err != nil {
			t.Fatal(err)
		}
		if n, err := b.ReadFrom(iotest.OneByteReader(bytes.NewReader(p))); n != int64(len(p)) || err != nil {
			t.Fatal(n, err)
		}
		if !bytes.Equal(whole.Bytes(), p) || !bytes.Equal(pieces.Bytes(), p) || a.frames.between() != b.frames.between() || a.frames.left != b.frames.left {
			t.Error("the pieces are not the whole")
		}
	})
}

// TestWebSocketReads: a long stream is read in larger pieces, and all of it is passed on.
func TestWebSocketReads(t *testing.T) {
	t.Parallel()
	to := new(written)
	side := &webSocketSide{to: to}
	text := bytes.Repeat([]byte("0123456789"), 30000)
	if n, err := io.Copy(side, bytes.NewReader(text)); n != int64(len(text)) || err != nil || !bytes.Equal(to.Bytes(), text) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := side.ReadFrom(bytes.NewReader(text)); n != int64(len(text)) || err != nil || to.Len() != 2*len(text) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
