package transport

import (
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/authz"
)

// A Guest is a request that is under way.
type Guest interface {
	// Ask asks whom a CUSTOM policy names about the request, by Gate.Ask: about the Stay's own Arrival when it enters, about a copy
	// when it is asked again.
	Ask(g Gate, q *Arrival, rule string) Verdict
	// Denied ends the request, whatever of it has happened. It is called once at most for each Enter, never after Leave has
	// returned, from a goroutine of the engine's, and must not wait.
	Denied(v *Verdict)
}

// A Stay is a request that has come in, from when policies let it in to its end. When they change they are asked again, at
// once, and a request that they would not let in any more is ended. Its Arrival is only read between Enter and Leave. It may
// be used again, by one at a time.
type Stay struct {
	Arrival

	guest Guest
	at    uint32 // chooses the shard, 0 for not yet
	shard *stayShard

	prev, next *Stay // guarded by shard.mu, as is what follows
	gate       Gate  // that has let it in
	ending     bool  // Denied is to be called
	out        bool  // or has been
	listed     bool
	asker      Gate // by which CUSTOM policies have asked
	asking     bool // and do again
}

// stays are the requests under way. A Stay is used by one processor for the most part, and keeps its shard.
type stays struct{ shards [shards]stayShard }

const shards = 16

type stayShard struct {
	mu    sync.Mutex
	first *Stay
	ended *sync.Cond // a Denied has returned; nil before the first
	_     [40]byte   // a cache line each
}

// Enter asks the policies whether the request is to be let in. Where it is, the verdict's Status is 0, and Leave has to be
// called at its end.
func (s *Stay) Enter(e *Engine, guest Guest) Verdict {
	if s.at == 0 {
		s.at = rand.Uint32() | 1<<31
	}
	s.shard = &e.live.stays.shards[s.at%shards]
	s.guest = guest
	for {
		g := e.Gate()
		v := Verdict{gate: g}
		if !g.None() {
			if v = s.decide(g); v.Status != 0 {
				return v
			}
			v.gate = g
		}
		if s.list(g) {
			return v
		}
	}
}

// decide is the order of what is asked: whom CUSTOM policies name, then whose token it is and what the others say.
func (s *Stay) decide(g Gate) Verdict {
	s.Arrival.again()
	if !s.Unsound {
		if rule := g.Custom(&s.Arrival); rule != "" {
			if v := s.guest.Ask(g, &s.Arrival, rule); v.Status != 0 {
				return v
			}
		}
	}
	return g.Decide(&s.Arrival)
}

// join is Enter for a request that the gate has let in.
func (s *Stay) join(g Gate, guest Guest) Verdict {
	s.shard, s.guest = &g.engine.live.stays.shards[0], guest
	if s.list(g) {
		return Verdict{gate: g}
	}
	return s.Enter(g.engine, guest)
}

// list notes the request. It reports false where the gate is not that of this moment any more.
func (s *Stay) list(g Gate) bool {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	if g.engine.Gate() != g {
		return false
	}
	s.gate, s.asker, s.listed, s.out, s.prev, s.next = g, g, true, false, nil, s.shard.first
	if s.next != nil {
		s.next.prev = s
	}
	s.shard.first = s
	return true
}

// Leave ends a request that was let in. It waits for a Denied that is under way. A second one does nothing.
func (s *Stay) Leave() {
	h := s.shard
	h.mu.Lock()
	defer h.mu.Unlock()
	for s.ending {
		h.ended.Wait()
	}
	if !s.listed {
		return
	}
	s.listed = false
	if s.next != nil {
		s.next.prev = s.prev
	}
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		h.first = s.next
	}
	s.prev, s.next = nil, nil
}

// Own has f put what lasts in the place of what the arrival aliases, before that goes.
func (s *Stay) Own(f func(*Arrival)) {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	f(&s.Arrival)
}

// A denied is a request that is to be ended, and what was decided on.
type denied struct {
	*Stay
	gate    Gate
	verdict Verdict
	asked   Arrival
}

// Ask asks the policies where they have changed, for who is about to act, and waits for whom CUSTOM policies name: when it returns,
// Denied has been called where it is to be.
func (s *Stay) Ask() {
	h := s.shard
	h.mu.Lock()
	d, out := h.ask(s)
	for !out && (s.ending || s.asking) {
		h.ended.Wait()
	}
	now := s.gate
	again := !out && !s.out && s.asker != now && now.asks != nil
	if s.asker = now; again {
		h.cond()
		s.asking = true
	}
	h.mu.Unlock()
	switch {
	case out:
		d.end()
	case again:
		s.askAgain(now)
	}
}

// askAgain asks whom the CUSTOM policies of this moment name.
func (s *Stay) askAgain(now Gate) {
	q := s.copied()
	q.again()
	var v Verdict
	if q.Prepare() {
		if rule := now.Custom(&q); rule != "" {
			v = s.guest.Ask(now, &q, rule)
		}
	}
	h := s.shard
	h.mu.Lock()
	out := v.Status != 0 && s.listed && !s.out
	s.asking, s.out, s.ending = false, s.out || out, s.ending || out
	h.ended.Broadcast()
	h.mu.Unlock()
	if out {
		s.guest.Denied(&v)
		h.mu.Lock()
		s.ending = false
		h.ended.Broadcast()
		h.mu.Unlock()
	}
}

// copied gives the arrival with a view of its own.
func (q *Arrival) copied() Arrival {
	c := Arrival{Request: q.Request, Unsound: q.Unsound, opaque: q.opaque, came: q.came, query: q.query, over: q.over, asked: q.asked, answer: q.answer}
	view := *q.Request.Request
	c.Request.Request = &view
	return c
}

// cond gives what is waited for until a Denied has returned. h.mu is held.
func (h *stayShard) cond() {
	if h.ended == nil {
		h.ended = sync.NewCond(&h.mu)
	}
}

// check asks about every request that was let in by other policies than those of this moment.
func (l *stays) check() {
	for i := range l.shards {
		out := l.shards[i].check()
		for k := range out {
			out[k].end()
		}
	}
}

func (h *stayShard) check() []denied {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []denied
	for s := h.first; s != nil; s = s.next {
		if d, is := h.ask(s); is {
			out = append(out, d)
		}
	}
	return out
}

// ask asks about one. h.mu is held.
func (h *stayShard) ask(s *Stay) (d denied, out bool) {
	now := s.gate.engine.Gate()
	if s.out || now == s.gate {
		return d, false
	}
	s.gate = now
	v, asked := now.again(&s.Arrival)
	if v.Status == 0 {
		return d, false
	}
	h.cond()
	s.ending, s.out = true, true
	return denied{s, now, v, asked}, true
}

// end ends the request.
func (d *denied) end() {
	d.guest.Denied(&d.verdict)
	d.gate.engine.report(&d.verdict, &d.asked.Request)
	h := d.shard
	h.mu.Lock()
	defer h.mu.Unlock()
	d.ending = false
	h.ended.Broadcast()
}

// again decides about a request that was let in as if it came now, and gives what was decided on. It tells nobody, and
// changes nothing of q.
func (g Gate) again(q *Arrival) (Verdict, Arrival) {
	now := q.copied()
	now.begin()
	if g.None() && g.conns == nil {
		return Verdict{}, now
	}
	now.Unsound = !now.Prepare() || now.Unsound
	now.Headers = now.came
	if !now.opaque && !now.Unsound && !now.asked && g.Custom(&now) != "" { // nobody can be asked about it now
		return Verdict{Status: http.StatusForbidden, Reason: externalError, Details: externalError, Flag: externalFlag}, now
	}
	return g.judge(&now), now
}

// badRequest is the verdict on what has two readings.
func badRequest() Verdict {
	return Verdict{Status: http.StatusBadRequest, Body: http.StatusText(http.StatusBadRequest), Reason: "bad_request", Details: "bad_request"}
}

// outlive has a connection closed that a request has become, when the request would not be let in any more.
func (e *Engine) outlive(conn net.Conn, q *Arrival) { e.follow(conn, q, e.Gate()) }

// follow has a connection closed that the gate has let in, when it would not be let in any more. It does nothing where the
// system does not tell when a connection is gone.
func (e *Engine) follow(conn net.Conn, q *Arrival, gate Gate) {
	if conn == nil {
		return
	}
	kept := q.copied()
	asked := gate
	e.live.addTunnel(conn, func() bool { // by one goroutine at a time
		now := e.Gate()
		if now == asked {
			return true
		}
		asked = now
		v, q := now.again(&kept)
		if v.Status != 0 {
			now.engine.report(&v, &q.Request)
		}
		return v.Status == 0
	})
	if e.Gate() != gate { // it has changed before anybody knew of the connection
		e.live.changed()
	}
}

// letsIn reports whether policies let a connection in that is not HTTP, and has it closed when they do not any more. Where they do
// not, details are Envoy's of that.
func (e *Engine) letsIn(conn net.Conn, local netip.AddrPort) (details string, ok bool) {
	q := Arrival{opaque: true, Request: authz.Request{Request: &call.Request{Headers: call.HTTPHeaders(nil)}, Local: local}}
	if c := e.Caller(conn); c != nil {
		q.Peer = c.Policy
	}
	if from, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		q.Source = from.AddrPort().Addr()
	}
	if direct := PhysicalPeer(conn); direct.IsValid() {
		q.Source, q.Remote = direct.Addr(), q.Source
	}
	if own, ok := conn.(*tls.Conn); ok {
		q.SNI = own.ConnectionState().ServerName
	}
	q.Prepare()
	gate := e.Gate()
	if gate.conns != nil {
		if v := gate.Decide(&q); v.Status != 0 {
			return v.Details, false
		}
	}
	e.follow(conn, &q, gate)
	return "", true
}
