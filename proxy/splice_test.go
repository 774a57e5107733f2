package proxy

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/transport/http1"
)

// tcpPair gives the two ends of a connection.
func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	return near, far
}

// TestStillSplice: what the kernel moves is asked how far it has come, and loses nothing by that; what has not moved twice is
// at its end. The time-outs come by hand.
func TestStillSplice(t *testing.T) {
	t.Parallel()
	wheel := http1.NewWheel(time.Hour)
	defer wheel.Close()
	sends, source := tcpPair(t)
	target, gets := tcpPair(t)
	s := newSession(&wire{wheel: wheel, limits: wireLimits(), idle: time.Hour, conns: new(connections)}, target)
	s.begin()
	s.attend(source)
	const size = 1 << 20
	ended := make(chan spliced, 1)
	go func() {
		var moved int64
		ended <- new(splicer).move(s, ofAnswer, func() int64 { return size - moved },
			func(n int64, _ bool) error { moved += n; return nil }, func(int64) error { return nil }, target, source, size)
	}()
	piece, got := bytes.Repeat([]byte("0123456789abcdef"), 4<<10), make([]byte, 64<<10)
	for range 8 {
		for { // until it is under way again: a look at it would find nothing to ask
			s.mu.Lock()
			asked := s.splices[ofAnswer].source != nil && !s.splices[ofAnswer].probed
			s.mu.Unlock()
			if asked {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if _, err := sends.Write(piece); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(gets, got); err != nil || !bytes.Equal(got, piece) {
			t.Fatal("other bytes", err)
		}
		s.stalled()
	}
	for {
		select {
		case how := <-ended:
			if how != spliceTarget || s.cause() != streamStill {
				t.Errorf("it ended as %d, for %d", how, s.cause())
			}
			return
		case <-time.After(time.Millisecond):
			s.mu.Lock()
			asked := s.splices[ofAnswer].probed
			s.mu.Unlock()
			if !asked {
				s.stalled()
			}
		}
	}
}
