package goaway

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Goodbyes are those of one server. They are safe for concurrent use.
type Goodbyes struct {
	// Handler gives what serves the requests of one connection, by what net/http hands over for it. It is set before the server serves. Default: that.
	Handler func(h http.Handler, c *Conn) http.Handler

	attached sync.Once
	telling  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns map[*Conn]struct{}
	said  bool
}

// heardTime is how long clients may take to answer the PING before the second GOAWAY comes.
const heardTime = time.Second

// Attach has the server's connections of HTTP/2 be told. It is called once, before the server serves; BaseContext is wrapped, which net/http calls
// when it has set up HTTP/2 and has no connection yet. ConnState goes on to hear of the connections that the server's listeners gave, and
// SetKeepAlivesEnabled(false) counts for HTTP/1 alone: of a connection without a stream net/http would make a GOAWAY that leaves out who is on his way.
func (g *Goodbyes) Attach(srv *http.Server) {
	base := srv.BaseContext
	srv.BaseContext = func(l net.Listener) context.Context {
		g.attached.Do(func() { g.wrap(srv) })
		if base != nil {
			return base(l)
		}
		return context.Background()
	}
}

func (g *Goodbyes) wrap(srv *http.Server) {
	serve := srv.TLSNextProto[unencrypted]
	if serve == nil {
		return
	}
	srv.TLSNextProto[unencrypted] = func(srv *http.Server, conn *tls.Conn, h http.Handler) {
		if over, ok := conn.NetConn().(interface{ UnencryptedNetConn() net.Conn }); ok {
			c := g.add(over.UnencryptedNetConn())
			defer g.remove(c)
			conn = tls.Client(unsecured{conn.NetConn(), c}, nil)
			srv, h = c.server(srv), g.handler(h, c)
		}
		serve(srv, conn, h)
	}
	if srv.TLSNextProto["h2"] != nil {
		srv.TLSNextProto["h2"] = func(srv *http.Server, conn *tls.Conn, h http.Handler) {
			if !prefaced(conn) {
				_ = conn.Close()
				return
			}
			c := g.add(conn)
			defer g.remove(c)
			serve(c.server(srv), tls.Client(unsecured{conn, securedConn{c, conn}}, nil), g.handler(h, c))
		}
	}
}

// server gives what net/http's HTTP/2 asks of the server that a connection is of.
func (c *Conn) server(srv *http.Server) *http.Server {
	of := &http.Server{MaxHeaderBytes: srv.MaxHeaderBytes, ReadTimeout: srv.ReadTimeout, WriteTimeout: srv.WriteTimeout, ErrorLog: srv.ErrorLog, HTTP2: srv.HTTP2}
	if report := srv.ConnState; report != nil {
		of.ConnState = func(_ net.Conn, state http.ConnState) { report(c.Conn, state) }
	}
	return of
}

func (g *Goodbyes) handler(h http.Handler, c *Conn) http.Handler {
	if g.Handler == nil {
		return h
	}
	return g.Handler(h, c)
}

// unencrypted is net/http's name for HTTP/2 on a connection that is no *tls.Conn, and of which the preface has been read.
const unencrypted = "unencrypted_http2"

// unsecured is how net/http hands such a connection over: within the *tls.Conn that the functions of TLSNextProto take.
type unsecured struct {
	net.Conn
	within net.Conn
}

// UnencryptedNetConn gives the connection that is to be served.
func (u unsecured) UnencryptedNetConn() net.Conn { return u.within }

// wholePreface is what a client sends first (RFC 9113 §3.4).
const wholePreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// prefaceTime is how long it may take. It is net/http's own.
const prefaceTime = 10 * time.Second

// prefaced reads the preface, and reports whether it is there in time.
func prefaced(conn net.Conn) bool {
	var b [len(wholePreface)]byte
	err := conn.SetReadDeadline(time.Now().Add(prefaceTime))
	if err == nil {
		_, err = io.ReadFull(conn, b[:])
	}
	return err == nil && string(b[:]) == wholePreface && conn.SetReadDeadline(time.Time{}) == nil
}

func (g *Goodbyes) add(conn net.Conn) *Conn {
	c := &Conn{Conn: conn, of: g}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns == nil {
		g.conns = make(map[*Conn]struct{})
	}
	g.conns[c] = struct{}{}
	c.due = g.said
	return c
}

// remove forgets a connection that has ended.
func (g *Goodbyes) remove(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

// Say begins: each connection hears it between two frames, and those that come from now on hear it first.
func (g *Goodbyes) Say() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.said {
		return
	}
	g.said = true
	for c := range g.conns {
		g.telling.Go(c.tell) // who does not read is not waited for
	}
}

// Wait waits until every connection has answered or has ended, for heardTime at the most.
func (g *Goodbyes) Wait(ctx context.Context) {
	late := time.NewTimer(heardTime)
	defer late.Stop()
	check := time.NewTicker(time.Millisecond)
	defer check.Stop()
	for g.unheard() {
		select {
		case <-check.C:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// End waits until nobody is being told any more. Whoever does not read must have been cut off by then.
func (g *Goodbyes) End() { g.telling.Wait() }

func (g *Goodbyes) unheard() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		if !c.heard.Load() {
			return true
		}
	}
	return false
}
