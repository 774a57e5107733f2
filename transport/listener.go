package transport

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/internal/drain"
)

// SniffTimeout is how long a new connection may say nothing before a Listener closes it. After the first
// byte the server's own time-outs count.
const SniffTimeout = 10 * time.Second

const (
	// maxSniffs bounds the connections that a Listener has accepted and not yet handed out; each costs a
	// descriptor and a goroutine. With that many waiting, a new one takes the place of the one that has been
	// silent longest: a client that speaks is through within a round trip, so silence alone cannot shut it
	// out. Where all have spoken and the server is behind, new ones wait in the kernel's backlog.
	maxSniffs = 1024

	// speakTime is how long connections that were taken last, before the end, may say nothing.
	speakTime = time.Second

	// Accept errors that pass, such as a lack of descriptors, are tried again after these waits, doubling.
	minAcceptWait = 5 * time.Millisecond
	maxAcceptWait = time.Second

	// tlsHandshake is the first byte of a TLS ClientHello (RFC 8446 §5.1). No HTTP request begins with it.
	tlsHandshake = 0x16
)

// InboundCounts says how many connections were closed before a server saw them.
type InboundCounts struct {
	Silent  uint64 `json:"silent"`  // nothing came within SniffTimeout
	Crowded uint64 `json:"crowded"` // nothing came before too many others were waiting as well
	TLS     uint64 `json:"tls"`     // began a TLS handshake where none is taken: the mesh's nor the program's
	// Plaintext is those without mutual TLS where a PeerAuthentication requires it.
	Plaintext uint64 `json:"plaintext"`
	// Handshake is those whose handshake failed, or took longer than SniffTimeout.
	Handshake uint64 `json:"handshake"`
}

type inboundCounters struct{ silent, crowded, tls, plaintext, handshake atomic.Uint64 }

// A listener hears the first byte of every connection before Accept returns it, each in a goroutine of its
// own, so that a silent connection never keeps another waiting. It starts with the first Accept and ends,
// leaving nothing behind, with Close.
type listener struct {
	net.Listener
	counters *inboundCounters
	guard    *guard
	timeout  time.Duration

	slots   chan struct{} // one for each connection being sniffed or ready
	ready   chan net.Conn
	done    chan struct{} // closed by Close
	ended   chan struct{} // closed when the loop has ended, with err
	err     error
	last    chan struct{} // closed when nothing more is accepted after leave
	running sync.WaitGroup
	// sniffing are those of running that have a connection to hand out.
	sniffing sync.WaitGroup
	// handed are connections that Accept has given, or is about to, and whose server has not come back for the next: until
	// then it may not have noted the connection. returned are those that it has.
	handed, returned atomic.Int32

	mu      sync.Mutex // guards what follows
	started bool
	closed  bool
	leaving bool
	silent  list.List // of *sniffed, longest silent first
}

type sniffed struct {
	conn net.Conn
	// waits says that somebody listens to it, and has heard nothing yet that would tell what it is: only then is it silent.
	waits atomic.Bool
	gone  bool // closed by evict or Close; guarded by listener.mu
}

func newListener(inner net.Listener, counters *inboundCounters, g *guard) *listener {
	return &listener{Listener: inner, counters: counters, guard: g, timeout: SniffTimeout,
		slots: make(chan struct{}, maxSniffs), ready: make(chan net.Conn),
		done: make(chan struct{}), ended: make(chan struct{}), last: make(chan struct{})}
}

// Accept implements net.Listener. What it gives is a connection whose first byte has come, or a *tls.Conn
// of the inner listener as it is.
func (l *listener) Accept() (net.Conn, error) {
	l.start()
	if n := l.returned.Load(); n > 0 && l.returned.CompareAndSwap(n, n-1) {
		l.handed.Add(-1)
	}
	select {
	case conn := <-l.ready:
		l.returned.Add(1)
		return conn, nil
	case <-l.ended:
		return nil, l.err
	}
}

// Close implements net.Listener: it closes the inner listener and every connection not yet handed out, and
// waits for the listener's goroutines.
func (l *listener) Close() error {
	l.mu.Lock()
	first, left := !l.closed, l.leaving
	l.closed = true
	var pending []net.Conn
	for e := l.silent.Front(); e != nil; e = e.Next() {
		s := e.Value.(*sniffed)
		s.gone = true
		pending = append(pending, s.conn)
	}
	l.silent.Init()
	l.mu.Unlock()
	if first {
		close(l.done)
	}
	err := l.Listener.Close()
	for _, conn := range pending {
		_ = conn.Close()
	}
	l.running.Wait()
	if left && errors.Is(err, net.ErrClosed) {
		return nil // leave closed it
	}
	return err
}

// leave ends listening in good order: it returns when whoever was connected by then has been handed out, but for
// those that say nothing within speakTime. Accept blocks from there on until Close.
func (l *listener) leave(ctx context.Context) {
	l.mu.Lock()
	begun := l.started && !l.closed && !l.leaving
	l.leaving = true
	l.mu.Unlock()
	if !begun {
		return
	}
	if !drain.Stop(l.Listener) {
		_ = l.Listener.Close()
	}
	select {
	case <-l.last:
	case <-l.done:
		return
	case <-ctx.Done():
		return
	}
	handed := make(chan struct{})
	l.running.Go(func() {
		l.sniffing.Wait()
		close(handed)
	})
	t := time.NewTimer(speakTime)
	defer t.Stop()
	select {
	case <-handed:
		l.settle(ctx, t.C)
	case <-t.C:
	case <-l.done:
	case <-ctx.Done():
	}
}

// settle waits until the server has come back for more, having noted all that it was given.
func (l *listener) settle(ctx context.Context, limit <-chan time.Time) {
	check := time.NewTicker(time.Millisecond)
	defer check.Stop()
	for l.handed.Load() > 0 {
		select {
		case <-check.C:
		case <-limit:
			return
		case <-l.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// isLeaving reports whether leave has been called.
func (l *listener) isLeaving() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaving
}

// takeQueue admits what the kernel has accepted while the listener was ending, and closes it.
func (l *listener) takeQueue() {
	for conn := drain.Queued(l.Listener); conn != nil; conn = drain.Queued(l.Listener) {
		if !l.admit(conn) {
			break
		}
	}
	_ = l.Listener.Close()
	close(l.last)
}

func (l *listener) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.started:
		return
	case l.closed:
		l.err = net.ErrClosed
		close(l.ended)
	default:
		l.running.Go(l.loop)
	}
	l.started = true
}

func (l *listener) loop() {
	defer close(l.ended)
	var wait time.Duration
	for {
		conn, err := l.Listener.Accept()
		var passing interface{ Temporary() bool }
		switch {
		case err == nil:
			wait = 0
			if !l.admit(conn) {
				l.err = net.ErrClosed
				return
			}
		case l.isLeaving():
			l.takeQueue()
			<-l.done
			l.err = net.ErrClosed
			return
		case errors.As(err, &passing) && passing.Temporary():
			wait = min(max(2*wait, minAcceptWait), maxAcceptWait)
			if !l.pause(wait) {
				l.err = net.ErrClosed
				return
			}
		default:
			l.err = err
			return
		}
	}
}

// pause waits, or reports false as soon as the listener is closed.
func (l *listener) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.done:
		return false
	}
}

// admit starts to sniff a connection. It reports false where the listener is closed.
func (l *listener) admit(conn net.Conn) bool {
	select {
	case l.slots <- struct{}{}:
	default:
		for l.evict() {
			runtime.Gosched()
		}
		select {
		case l.slots <- struct{}{}:
		case <-l.done:
			_ = conn.Close()
			return false
		}
	}
	s := &sniffed{conn: conn}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return false
	}
	e := l.silent.PushBack(s)
	l.sniffing.Add(1)
	l.running.Go(func() {
		defer l.sniffing.Done()
		l.sniff(s, e)
		<-l.slots
	})
	return true
}

// evict closes the connection that has been silent longest, if one is silent. One that nobody has listened to yet is not: it reports that
// there are such only, and then it is to be asked again when their goroutines have run.
func (l *listener) evict() (again bool) {
	l.mu.Lock()
	e := l.silent.Front()
	for e != nil && !e.Value.(*sniffed).waits.Load() {
		e = e.Next()
	}
	again = e == nil && l.silent.Len() > 0
	var conn net.Conn
	if e != nil {
		s := l.silent.Remove(e).(*sniffed)
		s.gone = true
		conn = s.conn
	}
	l.mu.Unlock()
	if conn != nil {
		l.counters.crowded.Add(1)
		_ = conn.Close()
	}
	return again
}

// sniff waits for the first byte and, where the port takes it, the TLS handshake, and hands the connection over, or
// closes it.
func (l *listener) sniff(s *sniffed, e *list.Element) {
	s.waits.Store(true)
	conn, refused, err := l.guard.hear(s.conn, l.timeout)
	s.waits.Store(false)
	l.mu.Lock()
	gone := s.gone
	if !gone {
		l.silent.Remove(e)
	}
	l.mu.Unlock()
	switch {
	case gone:
	case err != nil:
		if errors.Is(err, os.ErrDeadlineExceeded) {
			l.counters.silent.Add(1)
		}
		_ = s.conn.Close()
	case refused != nil:
		l.counters.refused(refused)
		_ = s.conn.Close()
	default:
		l.handed.Add(1)
		select {
		case l.ready <- conn:
		case <-l.done:
			l.handed.Add(-1)
			_ = s.conn.Close()
		}
	}
}

// hear waits for what a connection begins with: err is that nothing came, refused that the port does not take it, or
// policies do not let it in.
func (g *guard) hear(inner net.Conn, timeout time.Duration) (conn net.Conn, refused, err error) {
	conn, refused, err = g.begin(inner, timeout)
	if refused == nil && err == nil && !g.allowed(conn) {
		refused = errDenied
	}
	return conn, refused, err
}

func (g *guard) begin(inner net.Conn, timeout time.Duration) (conn net.Conn, refused, err error) {
	var first byte
	conn = inner
	// The program's own TLS stays as it is: net/http does its handshake, and HTTP/2 needs the type.
	if _, own := inner.(*tls.Conn); !own && !g.o.silent {
		if conn, first, err = peek(inner, timeout); err != nil {
			return nil, nil, err
		}
	}
	if first != tlsHandshake {
		conn, refused = g.admit(conn, first)
		return conn, refused, nil
	}
	if err = conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, nil, err
	}
	secured, refused := g.admit(conn, first)
	if refused == nil {
		err = conn.SetDeadline(time.Time{})
	}
	return secured, refused, err
}

func (c *inboundCounters) refused(why error) {
	switch {
	case errors.Is(why, errDenied): // InboundDecided has it
	case errors.Is(why, errPlaintext):
		c.plaintext.Add(1)
	case errors.Is(why, errNotTaken), errors.Is(why, errNotMesh):
		c.tls.Add(1)
	default:
		c.handshake.Add(1)
	}
}
