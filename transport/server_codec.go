package transport

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/heddlemesh/mesh/transport/http1"
)

// WithServerCodec has Serve read HTTP/1.1 by this module's own codec: what is malformed or has two readings is refused
// (package http1 has the list), and a connection costs one goroutine. HTTP/2 stays net/http's. It counts for the first
// Serve of a server. report, nil for nobody, is told of panics and failed handshakes where the server has no ErrorLog.
// Default: all is net/http's.
func WithServerCodec(report func(format string, args ...any)) InboundOption {
	if report == nil {
		report = func(string, ...any) {}
	}
	return func(o *inboundOptions) { o.codec = report }
}

// A serverCodec is the part of one http.Server that speaks HTTP/1.1. To the rest of it, which is net/http's, it looks like
// one more connection: the presence, whose one request lasts as long as there are connections. So Shutdown waits for these,
// and Close ends them.
type serverCodec struct {
	srv      *http.Server
	next     http.Handler
	arrivals *arrivals
	report   func(format string, args ...any)
	engine   *Engine // is told of what is refused
	limits   http1.Limits
	date     http1.Date
	draining atomic.Bool

	mu    sync.Mutex
	lines map[*codecLine]struct{}
}

type presenceKey struct{}

// newServerCodec takes a server's handler and hooks, which by then are complete.
func newServerCodec(e *Engine, srv *http.Server, a *arrivals, report func(string, ...any)) *serverCodec {
	c := &serverCodec{engine: e, srv: srv, next: srv.Handler, arrivals: a, report: report, lines: make(map[*codecLine]struct{}),
		limits: http1.Limits{Head: srv.MaxHeaderBytes, Field: srv.MaxHeaderBytes, Fields: MaxHeaderFields}}
	if srv.ErrorLog != nil {
		c.report = srv.ErrorLog.Printf
	}
	connContext, connState, baseContext := srv.ConnContext, srv.ConnState, srv.BaseContext
	srv.Handler = c
	srv.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if p, ok := conn.(*presence); ok {
			return context.WithValue(ctx, presenceKey{}, p)
		}
		return connContext(ctx, conn)
	}
	srv.ConnState = func(conn net.Conn, state http.ConnState) {
		if _, ok := conn.(*presence); !ok {
			connState(conn, state)
		}
	}
	srv.BaseContext = func(l net.Listener) context.Context {
		n, ok := l.(*codecLine)
		if ok {
			l = n.Listener
		}
		ctx := context.Background()
		if baseContext != nil {
			ctx = baseContext(l)
		}
		if ok {
			n.base = ctx
		}
		return ctx
	}
	srv.RegisterOnShutdown(c.drain)
	return c
}

// ServeHTTP implements http.Handler for what net/http reads.
func (c *serverCodec) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == presenceMethod {
		if p, ok := r.Context().Value(presenceKey{}).(*presence); ok {
			p.line.run()
			return
		}
	}
	c.next.ServeHTTP(w, r)
}

// serve is srv.Serve(l).
func (c *serverCodec) serve(l net.Listener) error {
	n := &codecLine{Listener: l, codec: c, conns: make(chan net.Conn), closed: make(chan struct{}),
		open: make(map[*codecSession]struct{})}
	n.presence = newPresence(n)
	c.mu.Lock()
	c.lines[n] = struct{}{}
	c.mu.Unlock()
	return c.srv.Serve(n)
}

// drain ends what is idle, and has every other connection end with its answer.
func (c *serverCodec) drain() {
	c.draining.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := range c.lines {
		n.each((*codecSession).wake)
	}
}

// A codecLine is one listener of a server: to net/http it hands out the presence and the connections of HTTP/2.
type codecLine struct {
	net.Listener
	codec    *serverCodec
	base     context.Context // of all its connections
	presence *presence
	present  bool // it has been handed out
	wheel    *http1.Wheel
	running  sync.WaitGroup
	conns    chan net.Conn // of HTTP/2
	closed   chan struct{}
	closing  sync.Once
	err      error // why it was closed

	mu   sync.Mutex // guards what follows
	open map[*codecSession]struct{}
	over bool
}

// Accept implements net.Listener, for net/http.
func (n *codecLine) Accept() (net.Conn, error) {
	if !n.present {
		n.present = true
		return n.presence, nil
	}
	select {
	case nc := <-n.conns:
		return nc, nil
	case <-n.closed:
		return nil, n.err
	}
}

// Close implements net.Listener.
func (n *codecLine) Close() error {
	err := n.Listener.Close()
	n.end(net.ErrClosed)
	return err
}

func (n *codecLine) end(err error) {
	n.closing.Do(func() {
		n.err = err
		close(n.closed)
	})
}

// give hands a connection of HTTP/2 to net/http.
func (n *codecLine) give(nc net.Conn) {
	select {
	case n.conns <- nc:
	case <-n.closed:
		n.codec.arrivals.remove(nc)
		_ = nc.Close()
	}
}

// run serves connections until the listener ends, and then waits for those that are left.
func (n *codecLine) run() {
	n.wheel = http1.NewWheel(0)
	for {
		nc, err := n.Listener.Accept()
		if err != nil {
			n.end(err)
			break
		}
		s := newCodecSession(n, nc)
		if n.enter(s) {
			n.running.Go(s.run)
		} else {
			s.end()
		}
	}
	n.running.Wait()
	n.wheel.Close()
	n.codec.mu.Lock()
	defer n.codec.mu.Unlock()
	delete(n.codec.lines, n)
}

// enter notes a connection; it reports false where the server has been closed.
func (n *codecLine) enter(s *codecSession) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over {
		return false
	}
	n.codec.arrivals.add(s.nc)
	n.open[s] = struct{}{}
	return true
}

func (n *codecLine) leave(s *codecSession) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, s)
}

func (n *codecLine) each(f func(*codecSession)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for s := range n.open {
		f(s)
	}
}

// cut ends all connections.
func (n *codecLine) cut() {
	n.mu.Lock()
	n.over = true
	n.mu.Unlock()
	n.each((*codecSession).cut)
}

// A presence stands for the connections of a codecLine in net/http's server.
type presence struct {
	net.Conn
	line  *codecLine
	other net.Conn
	head  strings.Reader
}

const presenceMethod = "HOLD"

func newPresence(n *codecLine) *presence {
	p := &presence{line: n}
	p.Conn, p.other = net.Pipe()
	p.head.Reset(presenceMethod + " /connections HTTP/1.0\r\n\r\n")
	return p
}

// Read implements net.Conn: the request, and then nothing until the end.
func (p *presence) Read(b []byte) (int, error) {
	if p.head.Len() > 0 {
		return p.head.Read(b)
	}
	return p.Conn.Read(b)
}

// Write implements net.Conn. Nobody hears the answer.
func (p *presence) Write(b []byte) (int, error) { return len(b), nil }

// Close implements net.Conn: net/http calls it when the server is closed, or when nothing is left to wait for.
func (p *presence) Close() error {
	p.line.cut()
	_ = p.other.Close()
	return p.Conn.Close()
}
