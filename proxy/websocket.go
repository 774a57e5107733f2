package proxy

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// A webSocketSide is one end of a tunnelled WebSocket, as it is written to. What is written passes as it comes; its frames are followed, so
// that it can be told that the sidecar goes away (1001, RFC 6455 §7.4.1) between two of them. It is safe for concurrent use.
type webSocketSide struct {
	to     io.WriteCloser
	server bool // it is the endpoint, to which frames are masked (RFC 6455 §5.3)

	mu      sync.Mutex // guards what follows, and writing
	frames  webSocketFrames
	leaving bool // it is to be told
	over    bool // it has been told: nothing more is written
}

const goingAway = 1001

// farewell tells the end, at once or when the frame under way is over. It waits for who writes.
func (s *webSocketSide) farewell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	if !s.over && s.frames.between() {
		s.tell()
	}
}

// tell writes a Close frame. s.mu is held.
func (s *webSocketSide) tell() {
	s.over = true
	frame := binary.BigEndian.AppendUint16([]byte{0x88, 2}, goingAway)
	if s.server {
		var mask [4]byte
		_, _ = rand.Read(mask[:]) // it never fails
		frame = []byte{0x88, 0x80 | 2, mask[0], mask[1], mask[2], mask[3], frame[2] ^ mask[0], frame[3] ^ mask[1]}
	}
	if _, err := s.to.Write(frame); err == nil {
		_ = s.closeWrite()
	}
}

// Write implements io.Writer. Once the end has been told, what comes is read for nobody, so that its Close frame is not lost behind it.
func (s *webSocketSide) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := p
	for !s.over && len(rest) > 0 {
		n := len(rest)
		for at := 0; at < n; {
			at += s.frames.pass(rest[at:])
			if s.leaving && s.frames.between() {
				n = at
			}
		}
		if _, err := s.to.Write(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
		if s.leaving && s.frames.between() {
			s.tell()
		}
	}
	return len(p), nil
}

const (
	webSocketBuffer     = 4 << 10 // to begin with: most WebSockets have little to say
	mostWebSocketBuffer = 32 << 10
)

// ReadFrom implements io.ReaderFrom.
func (s *webSocketSide) ReadFrom(r io.Reader) (total int64, err error) {
	b := make([]byte, webSocketBuffer)
	for {
		n, err := r.Read(b)
		if n > 0 {
			if _, err := s.Write(b[:n]); err != nil {
				return total, err
			}
			total += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		case n == len(b) && n < mostWebSocketBuffer:
			b = make([]byte, 2*n)
		}
	}
}

// CloseWrite ends this direction. It fails where that cannot be done alone.
func (s *webSocketSide) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil
	}
	return s.closeWrite()
}

func (s *webSocketSide) closeWrite() error {
	if half, ok := s.to.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close implements io.Closer.
func (s *webSocketSide) Close() error { return s.to.Close() }

// webSocketFrames knows where in a stream of frames one ends (RFC 6455 §5.2).
type webSocketFrames struct {
	head [14]byte
	n    int    // of head that are known
	left uint64 // of the payload
}

// between reports whether no frame is under way.
func (f *webSocketFrames) between() bool { return f.n == 0 && f.left == 0 }

// pass takes bytes up to the end of a frame, or all, and says how many.
func (f *webSocketFrames) pass(p []byte) (n int) {
	for n < len(p) {
		if f.left > 0 {
			k := min(f.left, uint64(len(p)-n))
			n += int(k)
			if f.left -= k; f.left == 0 {
				return n
			}
			continue
		}
		f.head[f.n] = p[n]
		f.n++
		n++
		if f.headed() && f.left == 0 {
			return n
		}
	}
	return n
}

// headed reports whether the head is whole, and then begins the payload.
func (f *webSocketFrames) headed() bool {
	if f.n < 2 {
		return false
	}
	length, wide := uint64(f.head[1]&0x7f), 0
	switch length {
	case 126:
		wide = 2
	case 127:
		wide = 8
	}
	whole := 2 + wide
	if f.head[1]&0x80 != 0 {
		whole += 4
	}
	if f.n < whole {
		return false
	}
	if wide > 0 {
		length = 0
		for _, b := range f.head[2 : 2+wide] {
			length = length<<8 | uint64(b)
		}
	}
	f.n, f.left = 0, length
	return true
}
