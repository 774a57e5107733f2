package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/heddlemesh/mesh/internal/socket"
	"github.com/heddlemesh/mesh/transport/http1"
)

// A codecSession is one connection of HTTP/1.1, served by one goroutine. While it is idle it holds no buffer.
type codecSession struct {
	line *codecLine
	nc   net.Conn
	conn *http1.Conn
	q    http1.Request
	w    http1.Writer
	raw  syscall.RawConn // of the socket, nil where there is none

	ctx      context.Context // of all its requests; nil until the protocol is known
	tls      *tls.ConnectionState
	remote   string
	given    bool // the connection is another's by now
	deadline bool // one was set for this request
	// reading ends the wait for a request and for the end of its head, working is the watch over the rest.
	reading, working *http1.Deadline
	idle             atomic.Int32

	mu     sync.Mutex         // guards what follows
	cancel context.CancelFunc // of the request under way, nil for none
	writer *codecWriter       // of that request
}

// What a session does, for wake.
const (
	sessionBusy int32 = iota
	sessionIdle
	sessionWoken
)

// watchEvery is how often a client is looked at whose request is under way: one that has gone is noticed that late, with two
// ticks of the wheel at most.
const watchEvery = 500 * time.Millisecond

// preface is how HTTP/2 without TLS begins by prior knowledge (RFC 9113 §3.4).
var preface = []byte("PRI * HTTP/2.0\r\n")

func newCodecSession(n *codecLine, nc net.Conn) *codecSession {
	s := &codecSession{line: n, nc: nc, conn: http1.NewConn(nc, &n.codec.limits)}
	if sc, ok := socket.Beneath(nc).(syscall.Conn); ok {
		s.raw, _ = sc.SyscallConn()
	}
	s.reading = n.wheel.Add(func() { _ = nc.SetReadDeadline(past) })
	s.working = n.wheel.Add(s.look)
	return s
}

// run serves requests until the connection ends.
func (s *codecSession) run() {
	defer s.end()
	secured, ok := s.nc.(*tls.Conn)
	if ok && !s.handshake(secured) {
		return
	}
	for s.await() && s.serve() {
		s.conn.Release()
	}
}

// handshake makes that of the program's own TLS; the mesh's is over by now. It reports false where it fails, and where a
// protocol of net/http's is agreed on.
func (s *codecSession) handshake(secured *tls.Conn) bool {
	srv := s.line.codec.srv
	if err := s.within(headerTime(srv), secured.Handshake); err != nil {
		s.line.codec.report("http: TLS handshake error from %s: %v", s.nc.RemoteAddr(), err)
		return false
	}
	state := secured.ConnectionState()
	s.tls = &state
	if name := state.NegotiatedProtocol; name == "h2" || srv.TLSNextProto[name] != nil && name != "http/1.1" && name != "" {
		s.given = true
		s.line.give(s.nc)
	}
	return !s.given
}

// within calls f, whose reads of the connection fail after d; 0 or less for never.
func (s *codecSession) within(d time.Duration, f func() error) error {
	if d <= 0 {
		return f()
	}
	s.reading.Arm(d)
	err := f()
	if !s.reading.Disarm() {
		return errors.Join(err, errLateRequest)
	}
	return err
}

var errLateRequest = errors.New("the client took too long")

// headerTime and idleTime are what net/http makes of its fields.
func headerTime(srv *http.Server) time.Duration {
	if srv.ReadHeaderTimeout != 0 {
		return srv.ReadHeaderTimeout
	}
	return srv.ReadTimeout
}

func idleTime(srv *http.Server) time.Duration {
	if srv.IdleTimeout != 0 {
		return srv.IdleTimeout
	}
	return srv.ReadTimeout
}

// await waits for the first byte of a request.
func (s *codecSession) await() bool {
	c := s.line.codec
	if s.ctx == nil {
		return s.within(headerTime(c.srv), s.conn.WaitReadable) == nil
	}
	c.srv.ConnState(s.nc, http.StateIdle)
	s.idle.Store(sessionIdle)
	if c.draining.Load() && !s.spoken() {
		return false
	}
	err := s.within(idleTime(c.srv), s.conn.WaitReadable)
	if s.idle.CompareAndSwap(sessionIdle, sessionBusy) {
		return err == nil
	}
	// Woken to end; what has come meanwhile is served all the same.
	if errors.Is(err, errLateRequest) || !s.spoken() {
		return false
	}
	s.mu.Lock() // by now the deadline stands
	err = s.nc.SetReadDeadline(time.Time{})
	s.mu.Unlock()
	s.idle.Store(sessionBusy)
	return err == nil && s.conn.WaitReadable() == nil
}

// spoken reports whether the client has sent something that was not looked at yet.
func (s *codecSession) spoken() bool {
	return len(s.conn.Buffered()) > 0 || s.raw != nil && http1.Waiting(s.raw)
}

// wake ends a connection that is idle.
func (s *codecSession) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle.CompareAndSwap(sessionIdle, sessionWoken) {
		_ = s.nc.SetReadDeadline(past)
	}
}

// cut ends the connection whatever is under way on it.
func (s *codecSession) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel()
	}
	_ = socket.Beneath(s.nc).Close() // TLS would wait for room to say that this is the end
}

// look is the watch, in the wheel's goroutine: the context of a request ends when its client has gone.
func (s *codecSession) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel == nil {
		return
	}
	if http1.Departed(s.raw, s.tls != nil) {
		s.cancel()
		return
	}
	s.working.Arm(watchEvery)
}

// watch begins a request whose context cancel ends; nil ends it.
func (s *codecSession) watch(cancel context.CancelFunc, w *codecWriter) {
	s.mu.Lock()
	s.cancel, s.writer = cancel, w
	s.mu.Unlock()
	switch {
	case cancel == nil:
		s.working.Disarm()
	case s.raw != nil:
		s.working.Arm(watchEvery)
	}
}

// open makes the connection known as one of HTTP/1.1.
func (s *codecSession) open() {
	c := s.line.codec
	if r := s.nc.RemoteAddr(); r != nil {
		s.remote = r.String()
	}
	if state, ok := s.nc.(interface{ ConnectionState() tls.ConnectionState }); ok && s.tls == nil {
		t := state.ConnectionState()
		s.tls = &t
	}
	c.srv.ConnState(s.nc, http.StateNew)
	ctx := context.WithValue(s.line.base, http.ServerContextKey, c.srv)
	ctx = c.srv.ConnContext(ctx, s.nc)
	if ctx == nil {
		panic("ConnContext returned nil")
	}
	s.ctx = context.WithValue(ctx, http.LocalAddrContextKey, s.nc.LocalAddr())
}

// serve reads one request and has it answered. It reports whether another may follow.
func (s *codecSession) serve() bool {
	c := s.line.codec
	s.w.Reset(s.conn)
	defer s.w.Release()
	began := s.bound()
	err := s.within(headerTime(c.srv), func() error { return s.conn.ReadRequest(&s.q) })
	if s.ctx == nil {
		if err != nil && bytes.HasPrefix(s.conn.Buffered(), preface) {
			s.given = true
			s.line.give(s.conn.Detach())
			return false
		}
		s.open()
	}
	if errors.Is(err, errLateRequest) {
		return false
	}
	c.srv.ConnState(s.nc, http.StateActive)
	if err == nil {
		err = s.sound()
	}
	if err != nil {
		s.refuse(err)
		return false
	}
	if d := c.srv.WriteTimeout; d > 0 {
		s.deadline = true
		_ = s.nc.SetWriteDeadline(began.Add(d))
	}
	ctx, cancel := context.WithCancel(s.ctx)
	w, r := newCodecExchange(ctx, s)
	s.watch(cancel, w)
	done := s.call(w, r)
	again := w.finish(done)
	s.watch(nil, nil)
	cancel()
	if r.MultipartForm != nil {
		_ = r.MultipartForm.RemoveAll()
	}
	if s.deadline && !s.given {
		s.deadline = false
		_ = s.nc.SetDeadline(time.Time{})
	}
	return again
}

// bound sets the server's bound on reading a whole request, and says when that began, where anybody asks.
func (s *codecSession) bound() (began time.Time) {
	srv := s.line.codec.srv
	if srv.ReadTimeout > 0 || srv.WriteTimeout > 0 {
		began = time.Now()
	}
	if srv.ReadTimeout > 0 {
		s.deadline = true
		_ = s.nc.SetReadDeadline(began.Add(srv.ReadTimeout))
	}
	return began
}

// call calls the handler. It reports false where that has panicked.
func (s *codecSession) call(w *codecWriter, r *http.Request) (done bool) {
	defer func() {
		if err := recover(); err != nil && err != http.ErrAbortHandler { //nolint:errorlint // it is compared by identity
			stack := make([]byte, 64<<10)
			stack = stack[:runtime.Stack(stack, false)]
			s.line.codec.report("http: panic serving %v: %v\n%s", s.remote, err, stack)
		}
	}()
	s.line.codec.next.ServeHTTP(w, r)
	return true
}

// What a server refuses beside the codec, which a proxy may pass on.
var (
	errSmallMethod  = &http1.Error{Status: http.StatusBadRequest, Rule: "RFC 9110 §9.1", Text: "method with small letters"}
	errTrace        = &http1.Error{Status: http.StatusMethodNotAllowed, Rule: "RFC 9110 §9.3.8", Text: "TRACE is not served"}
	errFramingAlike = &http1.Error{Status: http.StatusBadRequest, Rule: "RFC 9112 §6", Text: "field name like one that frames a message"}
)

// sound refuses what readers behind this one could understand otherwise.
func (s *codecSession) sound() error {
	method := s.q.Method()
	for i := range len(method) {
		if 'a' <= method[i] && method[i] <= 'z' {
			return errSmallMethod
		}
	}
	if method == http.MethodTrace {
		return errTrace
	}
	for i := range s.q.Len() {
		if s.q.ID(i) == http1.FieldOther && http1.FramingAlike(s.q.Name(i)) {
			return errFramingAlike
		}
	}
	return nil
}

// refuse answers a request that is none, and ends the connection.
func (s *codecSession) refuse(err error) {
	bad, ok := errors.AsType[*http1.Error](err)
	if !ok {
		return
	}
	s.line.codec.engine.refusedUnread(s.ctx, bad, s.nc.LocalAddr(), s.nc.RemoteAddr())
	s.w.Response(bad.Status, http.StatusText(bad.Status), "")
	s.w.Field("Date", s.line.codec.date.Field(time.Now()))
	s.w.Field("Content-Type", "text/plain; charset=utf-8")
	s.w.Field("Connection", "close")
	s.w.Length(int64(len(bad.Text)))
	_ = s.nc.SetWriteDeadline(time.Now().Add(lingerTime))
	if s.w.Finish([]byte(bad.Text)) == nil {
		s.linger()
	}
}

// linger lets a client read an answer that came before it had sent everything, before the connection ends: bytes that
// nobody reads would take the answer away from it (RFC 9112 §9.6).
func (s *codecSession) linger() {
	if half, ok := s.nc.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return
		}
	}
	if s.nc.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, s.nc, lingerBytes)
}

// How long, and how much of what comes too late is read.
const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// end closes the connection and forgets it.
func (s *codecSession) end() {
	s.reading.Remove()
	s.working.Remove()
	if !s.given {
		_ = s.conn.Close()
		if s.ctx != nil {
			s.line.codec.srv.ConnState(s.nc, http.StateClosed)
		} else {
			s.line.codec.arrivals.remove(s.nc)
		}
	}
	s.line.leave(s)
}
