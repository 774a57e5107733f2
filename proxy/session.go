package proxy

import (
	"bytes"
	"container/list"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/heddlemesh/mesh/internal/socket"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// A visitor is what goes on through a wire: a connection, or a stream that is to be a tunnel.
type visitor struct {
	wire  *wire
	nc    net.Conn       // on which it has come
	to    netip.AddrPort // where it meant to go that was captured; the zero value of one that was not
	began time.Time      // when it was taken; zero of one that was not captured
	asked bool           // the client has asked for a tunnel, by CONNECT
	said  string         // what the caller has said of himself (see exchanged), "" for nothing
}

// A session is one client connection of HTTP/1, served by one goroutine. While it is idle it holds no buffer.
type session struct {
	visitor
	conn *http1.Conn
	tls  *tls.Conn       // nc where that is one, else nil
	raw  syscall.RawConn // of nc, or of what is beneath; nil where there is none

	app *application // whom requests are for; nil on the outbound side

	unheard   *list.Element     // its place among those that have said too little; guarded by their lock
	caller    *transport.Caller // who it was proved to be from; nil for nobody, and on the outbound side
	handed    bool              // the connection is another's by now
	joined    bool              // the session is a tunnel's, which ends it
	uploaded  chan struct{}     // an upload's goroutine has ended; nil before the first
	state     atomic.Int32      // a sessionState
	tunnelled atomic.Bool       // its request has become a tunnel, which nobody waits for here
	// reading ends the wait for a request and for the end of its head, working is the watch over the rest.
	// and still ends a request of which nothing moves (see session.stalled).
	reading, working, still *http1.Deadline

	mu      sync.Mutex         // guards what follows
	watch   bool               // a request is under way
	up      net.Conn           // to the endpoint, nil between attempts
	cancel  func()             // ends a wait that is none for bytes, nil for none
	until   time.Time          // when the route's time-out has passed, zero for none
	try     time.Time          // when the attempt's own has, zero for none
	over    bool               // it has
	why     ending             // of the request
	begun   bool               // the answer is on its way
	splices [2]splice          // under way: of the request's body, and of the answer's
	probes  int                // looks at them one after the other that found that nothing had moved
	halted  bool               // the request's body is not to be read on
	verdict *transport.Verdict // of who was turned out, nil for nobody
	became  *tunnel            // nil for none
}

// An ending is why a request is not waited for any longer.
type ending uint8

const (
	notEnded    ending = iota
	clientGone         // for whom
	tooLate            // the route's time-out has passed
	streamStill        // nothing has moved for the stream's idle time-out
	turnedOut          // policies have changed and do not let it in any more
)

type sessionState int32

const (
	sessionFresh  sessionState = iota // has had no request yet
	sessionActive                     // has one
	sessionIdle                       // has had one
	sessionWoken                      // is to end, unless a request has come
)

// watchEvery is how often a client is looked at whose request is under way. A client that has gone is noticed that late,
// with two ticks of the wheel at most: no request costs a goroutine for it, or a system call before this time.
const watchEvery = 500 * time.Millisecond

func newSession(w *wire, nc net.Conn) *session {
	s := &session{visitor: visitor{wire: w}, app: w.app}
	s.wrap(nc)
	if w.engine != nil {
		s.caller = w.engine.Caller(nc)
	}
	s.reading = w.wheel.Add(func() { _ = s.nc.SetReadDeadline(past) })
	s.working = w.wheel.Add(s.look)
	s.still = w.wheel.Add(s.stalled)
	return s
}

// wrap makes nc the session's connection.
func (s *session) wrap(nc net.Conn) {
	s.nc, s.conn = nc, http1.NewConn(nc, s.wire.limits)
	s.tls, _ = nc.(*tls.Conn)
	s.raw = nil
	if sc, ok := socket.Beneath(nc).(syscall.Conn); ok {
		s.raw, _ = sc.SyscallConn()
	}
}

var past = time.Unix(1, 0)

// run serves requests until the connection ends.
func (s *session) run() {
	first, over := true, false
	if s.wire.captor != nil {
		s.wire.captor.unheard.enter(s)
		more := s.captured()
		s.wire.captor.unheard.leave(s)
		if s.joined {
			return
		}
		if !more {
			s.end()
			return
		}
	}
	if s.wire.opaque || s.wire.fixed != nil {
		if s.straight(); !s.joined {
			s.end()
		}
		return
	}
	if s.tls != nil && s.wire.captor == nil && !s.handshake() {
		s.end()
		return
	}
	for s.await(first) {
		x := exchanges.Get().(*exchange)
		over, s.handed = x.serve(s, first)
		joins := x.joins
		x.release()
		if joins != nil {
			if joins(); s.joined {
				return
			}
			break
		}
		if over {
			break
		}
		first = false
	}
	s.end()
}

// handshake makes that of TLS, within the time for a request's head. It reports false where it fails, and where HTTP/2 is
// agreed on, which is net/http's.
func (s *session) handshake() bool {
	s.reading.Arm(transport.DefaultReadHeaderTimeout)
	err := s.tls.Handshake()
	if !s.reading.Disarm() || err != nil {
		return false
	}
	if s.tls.ConnectionState().NegotiatedProtocol == "h2" {
		s.handed = true
		s.wire.http2.give(s.nc)
	}
	return !s.handed
}

// await waits for the first byte of a request.
func (s *session) await(first bool) bool {
	from := sessionFresh
	if !first {
		from = sessionIdle
		s.state.Store(int32(sessionIdle))
		if s.wire.forward.draining.Load() && !s.spoken() {
			return false
		}
	}
	if first {
		s.reading.Arm(transport.DefaultReadHeaderTimeout)
	} else {
		s.reading.Arm(transport.DefaultIdleTimeout)
	}
	if !first && s.wire.forward.active.Load() > 0 {
		// Whoever is under way goes first: meanwhile the next request may come, and is read without waiting for it.
		// Where nobody is, giving way would only wake a thread that finds nothing to do.
		runtime.Gosched()
	}
	err := s.conn.WaitReadable()
	if !s.reading.Disarm() {
		return false
	}
	if !s.state.CompareAndSwap(int32(from), int32(sessionActive)) {
		// Woken to end; what has come meanwhile is served all the same.
		s.mu.Lock() // by now the deadline stands
		err = errors.Join(err, s.nc.SetReadDeadline(time.Time{}))
		s.mu.Unlock()
		if err != nil && !timedOut(err) || !s.spoken() {
			return false
		}
		s.state.Store(int32(sessionActive))
		err = s.conn.WaitReadable()
	}
	return err == nil
}

// spoken reports whether the client has sent something that was not looked at yet.
func (s *session) spoken() bool {
	return len(s.conn.Buffered()) > 0 || s.raw != nil && http1.Waiting(s.raw)
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// wake ends a connection on which no request is under way.
func (s *session) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.CompareAndSwap(int32(sessionIdle), int32(sessionWoken)) || s.state.CompareAndSwap(int32(sessionFresh), int32(sessionWoken)) {
		_ = s.nc.SetReadDeadline(past)
	}
}

// cut ends the connection whatever is under way on it.
func (s *session) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = clientGone
	s.interrupt()
	_ = s.nc.Close()
}

// begin starts the watch over a request.
func (s *session) begin() {
	s.mu.Lock()
	s.watch, s.begun, s.until, s.probes = true, false, time.Time{}, 0
	s.try, s.over = time.Time{}, false
	if s.why != clientGone {
		s.why = notEnded
	}
	s.mu.Unlock()
	s.working.Arm(watchEvery)
	s.moved()
}

// bound ends what is left of the request after d.
func (s *session) bound(d time.Duration) {
	s.mu.Lock()
	s.until = time.Now().Add(d)
	s.mu.Unlock()
	s.working.Arm(min(d, watchEvery))
}

// boundTry ends the attempt that begins now after d, 0 for never.
func (s *session) boundTry(d time.Duration) {
	s.mu.Lock()
	s.try, s.over = time.Time{}, false
	if d > 0 {
		s.try = time.Now().Add(d)
	}
	s.mu.Unlock()
	if d > 0 {
		s.working.Arm(min(d, watchEvery))
	}
}

// tryOver ends the watch over an attempt. It reports whether that has had its time, and the call has not.
func (s *session) tryOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	over := s.over && s.why == notEnded
	s.try, s.over = time.Time{}, false
	return over
}

// finish ends the watch. What it does after that concerns nobody.
func (s *session) finish() {
	s.working.Disarm()
	s.still.Disarm()
	s.mu.Lock()
	s.watch, s.up, s.cancel = false, nil, nil
	s.mu.Unlock()
}

// attend names the connection to the endpoint that waiting ends with; nil takes it back. It reports whether there is
// reason to go on.
func (s *session) attend(up net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up = up
	return s.why == notEnded && !s.over
}

// attendCall is attend for a wait that a function ends.
func (s *session) attendCall(cancel func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel = cancel
	return s.why == notEnded && !s.over
}

// answering says that from now on there is no other answer to give.
func (s *session) answering() {
	s.mu.Lock()
	s.begun = true
	s.mu.Unlock()
}

// cause tells why the waiting was ended.
func (s *session) cause() ending {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// deny ends the request that is under way, also where it has become a tunnel.
func (s *session) deny(v *transport.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tunnelled.Load() {
		s.why = clientGone
		_ = socket.Beneath(s.nc).Close()
	} else if s.why == notEnded {
		verdict := *v
		s.why, s.verdict = turnedOut, &verdict
	}
	s.interrupt()
}

// left notes that the client has gone.
func (s *session) left() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = clientGone
	s.interrupt()
}

// look is the watch, in the wheel's goroutine.
func (s *session) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.watch || s.why != notEnded {
		return
	}
	if !s.until.IsZero() && !time.Now().Before(s.until) {
		s.why = tooLate
	} else if s.departed() {
		s.why = clientGone
	}
	if s.why != notEnded {
		s.interrupt()
		return
	}
	if !s.try.IsZero() && !time.Now().Before(s.try) {
		s.try, s.over = time.Time{}, true
		s.interrupt()
	}
	next := watchEvery
	for _, end := range [...]time.Time{s.until, s.try} {
		if !end.IsZero() {
			next = min(next, time.Until(end))
		}
	}
	s.working.Arm(next)
}

// departed reports that the client has gone, as far as that shows.
func (s *session) departed() bool { return s.raw != nil && http1.Departed(s.raw, s.tls != nil) }

// interrupt ends what the request waits for. s.mu is held.
func (s *session) interrupt() {
	if s.became != nil {
		defer s.became.stay() // when the deadlines stand
	}
	if s.up != nil {
		_ = s.up.SetDeadline(past)
	}
	if s.cancel != nil {
		s.cancel()
	}
	if s.begun || s.why == clientGone {
		_ = s.nc.SetDeadline(past)
	}
}

// stopReading ends a read of the request.
func (s *session) stopReading() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halted = true
	_ = s.nc.SetReadDeadline(past)
}

// readAgain takes back a deadline that interrupted a read of the request, where that was not the end.
func (s *session) readAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halted = false
	if s.why != clientGone {
		_ = s.nc.SetReadDeadline(time.Time{})
	}
}

// end closes the connection and forgets it.
func (s *session) end() {
	s.reading.Remove()
	s.working.Remove()
	s.still.Remove()
	switch {
	case s.handed:
	case s.conn == nil: // of a tunnel
		_ = s.nc.Close()
	default:
		_ = s.conn.Close()
	}
	s.wire.conns.leave(s)
}

// linger lets a client read an answer that came before it had sent everything, before the connection ends: bytes that
// nobody reads would take the answer away from it (RFC 9112 §9.6).
func (s *session) linger() {
	if half, ok := s.nc.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return
		}
	}
	if s.nc.SetReadDeadline(time.Now().Add(lingerTimeout)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, s.nc, lingerBytes)
}

// lingerBytes is how much of what comes too late is read.
const lingerBytes = 256 << 10

// http2Preface is how HTTP/2 begins, without TLS by prior knowledge (RFC 9113 §3.4): the first line of it.
const http2Preface = "PRI * HTTP/2.0\r\n"

var preface = []byte(http2Preface)

// speaksHTTP2 reports whether a connection whose first request was refused is one of HTTP/2, and waits for the rest of
// the line where that is not clear yet.
func (s *session) speaksHTTP2() bool { return bytes.HasPrefix(s.conn.Buffered(), preface) }

// hand gives the connection to net/http, with what was read of it.
func (s *session) hand() {
	if s.wire.captor != nil {
		s.handOn()
		return
	}
	s.wire.http2.give(s.conn.Detach())
}
