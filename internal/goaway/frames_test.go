package goaway

import (
	"bytes"
	"net"
	"testing"

	"golang.org/x/net/http2"
)

// A sentConn is a connection that remembers what is written to it.
type sentConn struct {
	net.Conn
	b bytes.Buffer
}

func (w *sentConn) Write(b []byte) (int, error) { return w.b.Write(b) }

// TestBetweenFrames: however a server's bytes come, and whenever it is to be said, the goodbye is a frame of its own: behind the first, never
// within a block of header fields, and never behind a GOAWAY of the server's.
func TestBetweenFrames(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	f := http2.NewFramer(&said, nil)
	_ = f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100})
	_ = f.WriteSettingsAck()
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}})
	_ = f.WriteContinuation(1, false, nil)
	_ = f.WriteContinuation(1, true, []byte{0x88})
	_ = f.WriteData(1, true, bytes.Repeat([]byte("x"), 300))
	_ = f.WriteGoAway(1, http2.ErrCodeNo, nil)
	_ = f.WritePing(false, [8]byte{})
	for size := 1; size <= said.Len(); size++ {
		for at := 0; at <= said.Len(); at += size {
			to := new(sentConn)
			c := new(Goodbyes).add(to)
			for i := 0; i < said.Len(); i += size {
				if i == at {
					c.tell()
				}
				piece := said.Bytes()[i:min(i+size, said.Len())]
				if n, err := c.Write(piece); n != len(piece) || err != nil {
					t.Fatalf("%d of %d bytes, %v", n, len(piece), err)
				}
			}
			back := to.b.Bytes()
			own := bytes.Index(back, []byte(goodbye))
			if own >= 0 {
				back = bytes.Replace(bytes.Clone(back), []byte(goodbye), nil, 1)
			}
			if !bytes.Equal(back, said.Bytes()) {
				t.Fatalf("by %d, told at %d: the server's bytes have changed", size, at)
			}
			frames := http2.NewFramer(nil, &to.b)
			var order []http2.FrameType
			for frame, err := frames.ReadFrame(); err == nil; frame, err = frames.ReadFrame() {
				order = append(order, frame.Header().Type)
			}
			want := 8
			if own >= 0 {
				want += 2
			}
			if len(order) != want || order[0] != http2.FrameSettings || (own >= 0) != (at <= said.Len()-2*17) {
				t.Fatalf("by %d, told at %d: %v", size, at, order)
			}
		}
	}
}
