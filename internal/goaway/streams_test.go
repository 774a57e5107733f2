package goaway

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2"
)

// TestFollowedStreams: however net/http's bytes come, and whenever the end is asked for, a stream that is followed ends once, behind all that was
// written of it; one that fails says why; and nothing else changes. Nothing is kept of them.
func TestFollowedStreams(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	f := http2.NewFramer(&said, nil)
	_ = f.WriteSettings()
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}})
	_ = f.WriteContinuation(1, true, []byte{0x88})
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0x88}, EndHeaders: true})
	_ = f.WriteData(1, false, []byte("abc"))
	_ = f.WriteData(3, false, bytes.Repeat([]byte("x"), 30))
	_ = f.WriteData(1, false, []byte("de"))
	written := said.Len() // from here on the end may be asked for
	_ = f.WriteData(3, false, bytes.Repeat([]byte("y"), 300))
	_ = f.WriteWindowUpdate(1, 7)
	_ = f.WriteRSTStream(5, http2.ErrCodeInternal)
	_ = f.WriteRSTStream(7, http2.ErrCodeInternal)
	last := said.Len()
	_ = f.WriteData(1, true, nil) // the handler has returned
	_ = f.WriteData(3, true, nil)
	all := said.Bytes()
	for _, size := range []int{1, 2, 5, 8, 9, 10, 13, 14, 40, 100, len(all)} {
		for at := 0; at <= last; at++ {
			if at > 0 && at < written && at%7 > 0 {
				continue
			}
			to := new(sentConn)
			c := new(Goodbyes).add(to)
			c.Follow(1)
			c.Follow(5)
			c.FailStream(5, 10)
			c.Follow(9)
			c.Forget(9)
			asked := false
			for i := 0; i < len(all); i += size {
				if !asked && i >= at {
					asked = true
					_ = c.EndStream(1, 5)
				}
				piece := all[i:min(i+size, len(all))]
				if i+len(piece) > last && !asked {
					asked = true
					_ = c.EndStream(1, 5)
				}
				if n, err := c.Write(piece); n != len(piece) || err != nil {
					t.Fatalf("%d of %d bytes, %v", n, len(piece), err)
				}
			}
			checkFollowed(t, &to.b, size, at)
			if len(c.filter.streams) > 0 {
				t.Fatalf("by %d, at %d: %d streams are followed still", size, at, len(c.filter.streams))
			}
		}
	}
}

func checkFollowed(t *testing.T, b *bytes.Buffer, size, at int) {
	t.Helper()
	f := http2.NewFramer(nil, b)
	data, ends := make(map[uint32]string), make(map[uint32]int)
	resets := make(map[uint32]http2.ErrCode)
	count := 0
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			break
		}
		count++
		switch frame := frame.(type) {
		case *http2.DataFrame:
			if ends[frame.StreamID] > 0 {
				t.Fatalf("by %d, at %d: something comes behind the end", size, at)
			}
			data[frame.StreamID] += string(frame.Data())
			if frame.StreamEnded() {
				ends[frame.StreamID]++
			}
		case *http2.RSTStreamFrame:
			resets[frame.StreamID] = frame.ErrCode
		}
	}
	if count != 13 || data[1] != "abcde" || len(data[3]) != 330 || ends[1] != 1 || ends[3] != 1 || resets[5] != http2.ErrCodeConnect || resets[7] != http2.ErrCodeInternal {
		t.Fatalf("by %d, at %d: %d frames, %q, %d bytes, ends %v, resets %v", size, at, count, data[1], len(data[3]), ends, resets)
	}
}
