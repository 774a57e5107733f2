package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/transport/http1"
)

// An http1Leaf is the HTTP/1.1 connections to one endpoint under one policy, on our own codec. A request is sent and its
// answer received in the caller's goroutine. It is safe for concurrent use.
//
// Unlike net/http's it never sends a request again of which a byte was sent: that a kept connection turned out dead is told
// by Outcome.StaleReuse, and what then happens is the engine's to decide.
type http1Leaf struct {
	leaf *leaf
	dial DialFunc
	pool *http1.Pool[string] // by the host that a connection was secured for, "" where it was not
	// requests is how many one connection serves, 0 for any number.
	requests int
}

// answerLimits bound what an endpoint may answer; net/http takes heads of up to 10 MB.
var answerLimits = http1.Limits{Head: 127 << 10, Field: 127 << 10, Fields: 2000, Line: 16 << 10}

// idlePerHost is how many connections wait for the next request.
const idlePerHost = 64

func newHTTP1Leaf(f *leaf) *http1Leaf {
	set := &f.key.conns
	limits := http1.PoolLimits{IdleTimeout: idleTimeout, MaxAge: set.MaxAge, MaxRequests: set.MaxRequests, PerKey: idlePerHost}
	if set.Idle > 0 {
		limits.IdleTimeout = set.Idle
	}
	h := &http1Leaf{leaf: f, dial: f.dialer(f.secure[0]), pool: http1.NewPool[string](limits), requests: limits.MaxRequests}
	if load := f.key.load; load != nil {
		load.join(h)
	}
	return h
}

// roundTrip does what http.RoundTripper's RoundTrip does.
func (f *http1Leaf) roundTrip(req *http.Request) (*http.Response, error) {
	var s sending
	if err := s.prepare(req); err != nil {
		closeBody(req)
		return nil, err
	}
	var c *http1Conn
	defer func() {
		if c != nil { // a panic of the program's code, its body or its trace
			c.end(false)
		}
	}()
	for {
		var err error
		if c, err = f.connect(&s); err != nil {
			s.abandon()
			return nil, err
		}
		s.connected(c)
		resp, err := c.exchange(&s)
		c = nil
		if err != errNothingSent { //nolint:errorlint // it is never wrapped
			return resp, err
		}
	}
}

// connected tells the program's trace.
func (s *sending) connected(c *http1Conn) {
	if s.trace != nil && s.trace.GotConn != nil {
		info := httptrace.GotConnInfo{Conn: c.conn.NetConn(), Reused: c.requests > 1, WasIdle: c.requests > 1}
		if info.WasIdle {
			info.IdleTime = time.Since(c.since)
		}
		s.trace.GotConn(info)
	}
}

// errNothingSent says that a kept connection turned out dead before it took a byte. It reaches no caller.
var errNothingSent = errors.New("the connection took nothing")

// connect takes a kept connection or opens one.
func (f *http1Leaf) connect(s *sending) (*http1Conn, error) {
	name := ""
	if f.leaf.key.secured {
		name = s.host
	}
	if s.trace != nil && s.trace.GetConn != nil {
		s.trace.GetConn(f.leaf.key.addr.Addr)
	}
	c := f.kept(name)
	if c == nil {
		var err error
		if load := f.leaf.key.load; load != nil {
			c, err = load.connect(s.ctx, f, name, s.waited)
			s.waited = true
		} else {
			c, err = f.open(s.ctx, name)
		}
		if err != nil {
			return nil, err
		}
	}
	if c.requests > 0 && !(c.asks && s.atOnce()) && !c.conn.Alive() { // else Ask looks by itself
		_ = c.conn.Close()
		return f.connect(s)
	}
	c.requests++
	return c, nil
}

// kept takes a connection from the pool, nil where there is none.
func (f *http1Leaf) kept(name string) *http1Conn {
	conn := f.pool.Take(name, time.Now())
	if conn == nil {
		return nil
	}
	return conn.Owner.(*http1Conn)
}

// makeRoom implements bounded.
func (f *http1Leaf) makeRoom() bool { return f.pool.CloseOldest() }

// wake implements bounded: those who wait for HTTP/1.1 do so at the Load.
func (f *http1Leaf) wake() {}

// close ends the leaf: connections in use are closed when their answer has ended.
func (f *http1Leaf) close() {
	f.pool.Close()
	if load := f.leaf.key.load; load != nil {
		load.leave(f)
	}
}

// open makes a connection. The error is a *connectError.
func (f *http1Leaf) open(ctx context.Context, name string) (*http1Conn, error) {
	nc, err := f.dial(ctx, "", name)
	f.leaf.counts.opened(err)
	if err != nil {
		return nil, err
	}
	c := &http1Conn{leaf: f, name: strings.Clone(name), conn: http1.NewConn(nc, &answerLimits)}
	c.conn.Opened, c.conn.Owner = time.Now(), c
	if f.leaf.key.tls.Mesh {
		c.conn.Rests = f.leaf.leaves.live.rests(nc)
	}
	c.interrupt = func() { _ = nc.SetDeadline(past) }
	c.asks = isSocket(nc)
	c.buffers = c.asks
	if t, ok := nc.(*tls.Conn); ok {
		c.buffers = isSocket(t.NetConn())
		c.tls = new(t.ConnectionState())
	}
	return c, nil
}

// past makes reads and writes fail at once.
var past = time.Unix(1, 0)

// isSocket reports a connection whose other end need not read for a write to end.
func isSocket(nc net.Conn) bool {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}
