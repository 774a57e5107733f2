package transport

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/heddlemesh/mesh/call"
)

// An http2Leaf is the HTTP/2 connections to one endpoint under one policy: net/http's, each by itself
// (http.Transport.NewClientConn), so that which of them a request takes, when there is another and what is sent again is
// decided here. It is safe for concurrent use.
type http2Leaf struct {
	leaf      *leaf
	dial      DialFunc
	transport http.Transport // makes connections of what dial gives, and keeps none

	again atomic.Bool // something changed while mu was held

	mu      sync.Mutex // guards what follows; lock and unlock
	pools   map[string]*http2Pool
	ending  []*http2Conn // take no more requests
	closing []*http2Conn // to be closed by who unlocks
	closed  bool
}

// dialledKey is that of the connection that a leaf's transport makes HTTP/2 of.
type dialledKey struct{}

func newHTTP2Leaf(f *leaf) *http2Leaf {
	h := &http2Leaf{leaf: f, dial: f.dialer(f.secure[1]), pools: make(map[string]*http2Pool)}
	f.configure(&h.transport)
	h.transport.DisableKeepAlives = false // when a connection has served enough is counted here
	h.transport.Protocols = new(http.Protocols)
	h.transport.Protocols.SetUnencryptedHTTP2(true) // TLS is below it, see http2Conn.open
	h.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return ctx.Value(dialledKey{}).(net.Conn), nil
	}
	if load := f.key.load; load != nil {
		load.join(h)
	}
	return h
}

// roundTrip does what http.RoundTripper's RoundTrip does.
func (f *http2Leaf) roundTrip(req *http.Request) (*http.Response, error) {
	name, out := "", req
	if f.leaf.key.secured {
		out = renamed(req, "https")
		name = out.Host
	}
	for {
		l, err := f.connect(req.Context(), name)
		if err != nil {
			closeBody(req)
			return nil, err
		}
		resp, err := l.conn.cc.RoundTrip(out)
		if err == nil {
			return resp, nil
		}
		if unchecked(err) {
			closeBody(req)
		}
		if l.reused && unused(err) && !hasBody(req) && req.Context().Err() == nil {
			continue
		}
		return nil, l.failure(req.Context(), err)
	}
}

// An http2Lease is room for one request on a connection.
type http2Lease struct {
	conn   *http2Conn
	reused bool // it had requests before
	idle   bool // and had none under way
}

// failure marks the error of a kept connection that turned out dead: before the request began on it, or afterwards without a
// word.
func (l *http2Lease) failure(ctx context.Context, err error) error {
	o := classify(ctx, nil, err)
	if l.reused && o.Reason == call.ReasonReset && (o.Unprocessed || l.idle && l.conn.cc.Err() != nil) {
		o.StaleReuse = true
		return &exchangeError{o, err}
	}
	return err
}

// connect gives room for a request on the connection that has the fewest under way, or on another.
func (f *http2Leaf) connect(ctx context.Context, name string) (http2Lease, error) {
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(f.leaf.key.addr.Addr)
	}
	f.mu.Lock()
	p := f.pools[name]
	if p == nil {
		p = &http2Pool{leaf: f, name: name, streams: initialStreams}
		f.pools[name] = p
	}
	var l http2Lease
	if len(p.waiting) == 0 {
		l = p.take()
	}
	var err error
	if l.conn != nil {
		f.unlock()
	} else if l, err = p.wait(ctx); err != nil {
		return http2Lease{}, err
	}
	if trace != nil && trace.GotConn != nil {
		l.tell(trace)
	}
	return l, nil
}

// tell tells the program's trace. What that panics with is no request on the connection.
func (l *http2Lease) tell(trace *httptrace.ClientTrace) {
	told := false
	defer func() {
		if !told {
			l.conn.cc.Release()
		}
	}()
	trace.GotConn(httptrace.GotConnInfo{Conn: l.conn.conn, Reused: l.reused, WasIdle: l.reused && l.idle})
	told = true
}

// unlock gives up mu, closes what is to be closed, and sees to what has changed meanwhile.
func (f *http2Leaf) unlock() {
	f.release()
	f.attend()
}

func (f *http2Leaf) release() {
	closing := f.closing
	f.closing = nil
	f.mu.Unlock()
	for _, c := range closing {
		_ = c.cc.Close()
		c.left()
	}
}

// wake sees to it that what has become free is given to those who wait, and what has ended is forgotten. It may be called
// while it runs, and while mu is held.
func (f *http2Leaf) wake() {
	f.again.Store(true)
	f.attend()
}

func (f *http2Leaf) attend() {
	for f.again.Load() && f.mu.TryLock() {
		f.again.Store(false)
		f.sweep()
		for name, p := range f.pools {
			p.serve()
			if len(p.conns) == 0 && len(p.waiting) == 0 {
				delete(f.pools, name)
			}
		}
		f.release()
	}
}

// sweep forgets connections that have ended, and closes those that were only to end their streams. mu is held.
func (f *http2Leaf) sweep() {
	f.ending = slices.DeleteFunc(f.ending, func(c *http2Conn) bool {
		if c.cc.Err() == nil && c.cc.InFlight() > 0 {
			return false
		}
		f.closing = append(f.closing, c)
		return true
	})
}

// closeIdle closes the connections that no request uses.
func (f *http2Leaf) closeIdle() {
	f.mu.Lock()
	f.retire(func(c *http2Conn) bool { return c.cc.InFlight() == 0 })
	f.unlock()
}

// makeRoom closes one connection that no request uses. It reports whether there was one, and may not know.
func (f *http2Leaf) makeRoom() bool {
	if !f.mu.TryLock() {
		return false
	}
	defer f.unlock()
	for _, p := range f.pools {
		for _, c := range p.conns {
			if len(p.waiting) == 0 && c.cc != nil && c.cc.InFlight() == 0 {
				p.retire(c)
				return true
			}
		}
	}
	return false
}

// close ends the leaf: connections in use are closed when their streams have ended.
func (f *http2Leaf) close() {
	f.mu.Lock()
	f.closed = true
	f.retire(func(*http2Conn) bool { return true })
	f.unlock()
	if load := f.leaf.key.load; load != nil {
		load.leave(f)
	}
}

// retire has the connections that match take no more requests. mu is held.
func (f *http2Leaf) retire(match func(*http2Conn) bool) {
	for _, p := range f.pools {
		for i := len(p.conns) - 1; i >= 0; i-- {
			if c := p.conns[i]; c.cc != nil && match(c) {
				p.retire(c)
			}
		}
	}
}
