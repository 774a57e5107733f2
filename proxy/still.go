package proxy

import (
	"net"
	"net/http"
	"time"
)

// DefaultStreamIdleTimeout is how long nothing may move of a request and its answer, Envoy's stream_idle_timeout.
const DefaultStreamIdleTimeout = 5 * time.Minute

// A splice is a body that the kernel moves: what moves of it is not seen from here.
type splice struct {
	source net.Conn // nil for none
	probed bool     // it was interrupted and has not come back since
}

// moved says that some of the request or the answer has come or gone. It costs an atomic store.
func (s *session) moved() {
	if d := s.wire.idle; d > 0 {
		s.still.Arm(d)
	}
}

// stalled ends a request of which nothing has moved for the time-out, in the wheel's goroutine. Where bodies are spliced it has
// them come back, every half of the time-out, to say whether anything has: twice nothing is the end, and so is not to come
// back, which is to wait for one who takes nothing.
func (s *session) stalled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.watch || s.why != notEnded {
		return
	}
	waiting, stuck := false, false
	for i := range s.splices {
		if p := &s.splices[i]; p.source != nil {
			waiting, stuck = true, stuck || p.probed
			p.probed = true
			_ = p.source.SetReadDeadline(past)
		}
	}
	if waiting && !stuck {
		s.still.Arm(s.wire.idle / 2)
		return
	}
	s.why = streamStill
	s.interrupt()
}

// splicing notes that the kernel moves a body from source. which is its place in splices.
func (s *session) splicing(which int, source net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.splices[which] = splice{source: source}
	if d := s.wire.idle; d > 0 {
		s.still.Arm(d / 2)
	}
}

// spliced notes that the kernel has stopped, after n bytes. It reports whether that was only to say how far it has come.
func (s *session) spliced(which int, n int64) (probed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.splices[which]
	s.splices[which] = splice{}
	if n > 0 {
		s.probes = 0
	}
	if !p.probed || s.why != notEnded || s.halted && which == ofRequest {
		return false
	}
	if n == 0 {
		if s.probes++; s.probes > 1 {
			s.why = streamStill
			s.interrupt()
			return false
		}
	}
	return p.source.SetReadDeadline(time.Time{}) == nil
}

// stillReply answers a request of which nothing has moved, as Envoy does: 408 where the client has not sent all of it, else 504.
func (x *exchange) stillReply(err error) LocalReply {
	l := LocalReply{Status: http.StatusGatewayTimeout, Flag: "SI", Reason: "stream_idle_timeout", Text: "stream timeout", Err: err}
	if !x.q.Body.Done() && !x.upload.complete.Load() {
		l.Status = http.StatusRequestTimeout
	}
	return l
}
