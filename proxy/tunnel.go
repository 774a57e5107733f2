package proxy

import (
	"net"
	"sync/atomic"

	"github.com/heddlemesh/mesh/transport"
)

// A tunnel joins a client with whom it has reached, both ways. Each has a goroutine of its own, which has a small stack: the session's,
// whose stack has grown until they were joined, ends.
type tunnel struct {
	session *session
	up      net.Conn
	tally   *transport.Tally
	finish  func()
	left    atomic.Int32 // directions that have not ended

	forth, back flow
}

// tunnel joins the client with up. The session is the tunnel's from then on, which closes up and calls finish at its end.
func (s *session) tunnel(up net.Conn, tally *transport.Tally, finish func()) {
	if s.wire.captor != nil {
		s.wire.captor.unheard.leave(s)
	}
	tally.Opened(up.RemoteAddr().String(), addressOf(up.LocalAddr()))
	t := &tunnel{session: s, up: up, tally: tally, finish: finish}
	s.wire.forward.active.Add(1)
	s.wire.forward.total.Add(1)
	begun := s.asked || s.state.CompareAndSwap(int32(sessionFresh), int32(sessionActive))
	if !begun || !s.attend(up) { // woken to end, or cut off
		t.end()
		return
	}
	s.tunnelled.Store(true)
	for _, d := range [...]interface{ Remove() }{s.reading, s.working, s.still} {
		d.Remove()
	}
	s.joined = true
	t.left.Store(2)
	first := taken(s.conn)
	s.conn = nil // it is not read from any more
	s.wire.running.Add(2)
	t.forth.tunnel, t.forth.dst, t.forth.src, t.forth.count, t.forth.first = t, up, s.nc, tally.Received, first
	t.back.tunnel, t.back.dst, t.back.src, t.back.count = t, s.nc, up, tally.Sent
	s.mu.Lock()
	s.became = t
	s.mu.Unlock()
	go t.run(&t.forth)
	go t.run(&t.back)
}

// stay has both directions run to their end. It is called when their connections are closed, or their time is up.
func (t *tunnel) stay() {
	t.forth.stay()
	t.back.stay()
}

// run moves one direction until it is parked or ends. The last that ends ends the tunnel, and the session.
func (t *tunnel) run(f *flow) {
	if !f.stream() {
		return
	}
	t.session.wire.parked.forget(f)
	t.stay()
	if t.left.Add(-1) == 0 {
		t.end()
		t.session.end()
	}
	t.session.wire.running.Done()
}

func (t *tunnel) end() {
	t.session.attend(nil)
	_ = t.up.Close()
	t.finish()
	t.session.wire.forward.active.Add(-1)
	t.tally.Closed()
}
