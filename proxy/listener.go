package proxy

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/internal/drain"
	"github.com/heddlemesh/mesh/internal/socket"
)

// speakTime is how long connections that were taken last may take to begin their first request.
const speakTime = time.Second

// A gentleListener can stop listening before it is closed: what it has handed out by then is served.
type gentleListener struct {
	net.Listener
	accepted atomic.Int64
	conns    connections
	overload *overload     // nil for none
	rejected atomic.Uint64 // by it

	ended bool       // the two are Accept's own
	left  []net.Conn // of the queue

	stopping atomic.Bool
	ceded    atomic.Bool   // somebody else accepts from the socket
	quiet    chan struct{} // closed when nothing is accepted any more
	quieten  sync.Once
	closed   chan struct{}
	closing  sync.Once
}

func newGentleListener(l net.Listener) *gentleListener {
	return &gentleListener{Listener: l, quiet: make(chan struct{}), closed: make(chan struct{})}
}

// Accept implements net.Listener. After stop it gives what was left in the queue and blocks until Close. It is
// called by one goroutine, as by every server.
func (l *gentleListener) Accept() (net.Conn, error) {
	if !l.ended {
		conn, err := l.accept()
		if err == nil {
			l.accepted.Add(1)
			return conn, nil
		}
		if !l.stopping.Load() {
			return nil, err
		}
		for conn := l.queued(); conn != nil; conn = l.queued() {
			l.accepted.Add(1)
			l.left = append(l.left, conn)
		}
		_ = l.Listener.Close()
		l.ended = true
	}
	if n := len(l.left); n > 0 {
		conn := l.left[n-1]
		l.left = l.left[:n-1]
		return conn, nil
	}
	l.quieten.Do(func() { close(l.quiet) })
	<-l.closed
	return nil, net.ErrClosed
}

// accept gives the next connection that there is memory for.
func (l *gentleListener) accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || !l.overload.rejects() {
			return conn, err
		}
		l.rejected.Add(1)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // nothing of it stays
		}
		_ = conn.Close()
	}
}

// queued takes who waits, unless that is for somebody else to do.
func (l *gentleListener) queued() net.Conn {
	if l.ceded.Load() {
		return nil
	}
	return drain.Queued(l.Listener)
}

// Close implements net.Listener.
func (l *gentleListener) Close() error {
	l.closing.Do(func() { close(l.closed) })
	if err := l.Listener.Close(); !l.stopping.Load() {
		return err
	}
	return nil // it was closed already
}

// stop ends listening and waits until connections that were taken last have begun a request, for speakTime at the most.
func (l *gentleListener) stop(ctx context.Context) {
	l.stopping.Store(true)
	if !l.ceded.Load() && !drain.Stop(l.Listener) {
		_ = l.Listener.Close()
	}
	select {
	case <-l.quiet:
	case <-l.closed:
		return
	case <-ctx.Done():
		return
	}
	silent, cancel := context.WithTimeout(ctx, speakTime)
	defer cancel()
	l.await(silent, l.fresh)
}

// rest waits until no request is under way. The server's answers must end their connections by then.
func (l *gentleListener) rest(ctx context.Context) { l.await(ctx, l.busy) }

// await waits until something is not so any more.
func (l *gentleListener) await(ctx context.Context, so func() bool) {
	check := time.NewTicker(time.Millisecond)
	defer check.Stop()
	for so() {
		select {
		case <-check.C:
		case <-ctx.Done():
			return
		}
	}
}

// busy reports connections that have a request.
func (l *gentleListener) busy() bool {
	l.conns.mu.Lock()
	defer l.conns.mu.Unlock()
	for s := range l.conns.open {
		if sessionState(s.state.Load()) == sessionActive && !s.tunnelled.Load() {
			return true
		}
	}
	return l.conns.active > 0
}

// fresh reports connections that have not had a request yet.
func (l *gentleListener) fresh() bool {
	l.conns.mu.Lock()
	defer l.conns.mu.Unlock()
	for s := range l.conns.open {
		if sessionState(s.state.Load()) == sessionFresh {
			return true
		}
	}
	return l.conns.fresh > 0 || l.conns.served < l.accepted.Load()
}

// enter notes a session; it reports false where none are taken any more.
func (c *connections) enter(s *session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.served++
	if c.closed {
		return false
	}
	if c.open == nil {
		c.open = make(map[*session]struct{})
	}
	c.open[s] = struct{}{}
	return true
}

func (c *connections) leave(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, s)
}

// shut takes no more sessions and ends those that have no request under way.
func (c *connections) shut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for s := range c.open {
		s.wake()
	}
}

// cut ends all sessions.
func (c *connections) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.open {
		s.cut()
	}
}

// connections are those that the servers of one listener have seen: net/http's by what that makes of them, and the
// sessions of the wire.
type connections struct {
	mu     sync.Mutex // guards what follows
	open   map[*session]struct{}
	closed bool
	state  map[net.Conn]http.ConnState
	served int64
	fresh  int // have not had a request
	active int // have one
}

// changed implements http.Server.ConnState.
func (c *connections) changed(conn net.Conn, to http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from, ok := c.state[conn]; ok {
		c.count(from, -1)
	}
	switch to {
	case http.StateClosed, http.StateHijacked:
		delete(c.state, conn)
		return
	}
	if c.state == nil {
		c.state = make(map[net.Conn]http.ConnState)
	}
	c.state[conn] = to
	c.count(to, 1)
}

func (c *connections) count(s http.ConnState, by int) {
	switch s {
	case http.StateNew:
		c.fresh += by
	case http.StateActive:
		c.active += by
	}
}

// listen opens a listener that can end without resetting anybody.
func listen(network, address string) (net.Listener, error) {
	if network == "unix" {
		return socket.Listen(address)
	}
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	return c.Listen(context.Background(), network, address)
}
