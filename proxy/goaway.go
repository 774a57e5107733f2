package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/transport"
)

// Goodbyes tell the connections of one HTTP/2 server that it ends, in the two steps of RFC 9113 §6.8. net/http knows the second only: its
// GOAWAY names the last stream that has come by then, and drops those that are on their way. So before it every connection hears a
// GOAWAY that leaves none out, and a PING, whose answer says that the client has read it. They are safe for concurrent use.
type goodbyes struct {
	telling sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns map[*http2Conn]struct{}
	said  bool
}

// heardTime is how long clients may take to answer the PING before the second GOAWAY comes.
const heardTime = time.Second

// attach has the server's connections of HTTP/2 be told. The server must not be serving yet, and serves one listener.
func (g *goodbyes) attach(srv *http.Server) {
	srv.BaseContext = func(net.Listener) context.Context { // by now net/http has set up HTTP/2, and has no connection yet
		serve := srv.TLSNextProto[unencrypted]
		if serve == nil {
			return context.Background()
		}
		srv.TLSNextProto[unencrypted] = func(srv *http.Server, conn *tls.Conn, h http.Handler) {
			if over, ok := conn.NetConn().(interface{ UnencryptedNetConn() net.Conn }); ok {
				c := g.add(over.UnencryptedNetConn())
				defer g.remove(c)
				conn = tls.Client(unsecured{conn.NetConn(), c}, nil)
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
				serve(srv, tls.Client(unsecured{conn, securedHTTP2Conn{c, conn}}, nil), h)
			}
		}
		return context.Background()
	}
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
const wholePreface = http2Preface + "\r\nSM\r\n\r\n"

// prefaced reads the preface, and reports whether it is there in time.
func prefaced(conn net.Conn) bool {
	var b [len(wholePreface)]byte
	err := conn.SetReadDeadline(time.Now().Add(transport.DefaultReadHeaderTimeout))
	if err == nil {
		_, err = io.ReadFull(conn, b[:])
	}
	return err == nil && string(b[:]) == wholePreface && conn.SetReadDeadline(time.Time{}) == nil
}

func (g *goodbyes) add(conn net.Conn) *http2Conn {
	c := &http2Conn{Conn: conn, of: g}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns == nil {
		g.conns = make(map[*http2Conn]struct{})
	}
	g.conns[c] = struct{}{}
	c.due = g.said
	return c
}

// remove forgets a connection that has ended.
func (g *goodbyes) remove(c *http2Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

// say begins: each connection hears it between two frames, and those that come from now on hear it first.
func (g *goodbyes) say() {
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

// wait waits until every connection has answered or has ended, for heardTime at the most.
func (g *goodbyes) wait(ctx context.Context) {
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

func (g *goodbyes) unheard() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		if !c.heard.Load() {
			return true
		}
	}
	return false
}

// An http2Conn is a connection of net/http's server between whose frames something can be said. What it costs is to follow the heads
// of the frames.
type http2Conn struct {
	net.Conn
	of    *goodbyes
	asked atomic.Bool // the PING has been sent
	heard atomic.Bool // it is answered, or nobody is to be asked
	in    frames      // the reader's alone

	mu  sync.Mutex // is held while something is written; guards what follows
	out frames
	due bool // the goodbye is to be written when a frame is over
}

// A securedHTTP2Conn is one over TLS, of which net/http wants to know the state.
type securedHTTP2Conn struct {
	*http2Conn
	tls *tls.Conn
}

// ConnectionState is crypto/tls.Conn's.
func (c securedHTTP2Conn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// Read implements net.Conn. net/http reads a frame when it has seen to the one before it: when the PING's answer comes, every request
// in front of it has begun.
func (c *http2Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for rest := b[:n]; len(rest) > 0; {
		taken, over := c.in.next(rest)
		rest = rest[taken:]
		if over && c.in.is(framePing, flagAck) && c.asked.Load() {
			c.heard.Store(true)
		}
	}
	return n, err
}

// Write implements net.Conn.
func (c *http2Conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	written := 0
	for at := 0; at < len(b); {
		taken, over := c.out.next(b[at:])
		at += taken
		if over && c.out.is(frameGoAway, 0) { // of net/http's own, and no stream may be let in again
			c.due = false
			c.heard.Store(true)
		}
		if c.due && c.out.between() {
			n, err := c.Conn.Write(b[written:at])
			if written += n; err != nil {
				return written, err
			}
			if err = c.write(); err != nil {
				return written, err
			}
		}
	}
	n, err := c.Conn.Write(b[written:])
	return written + n, err
}

// tell writes the goodbye, or has it written when the frame under way is over.
func (c *http2Conn) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.due = !c.heard.Load(); c.due && c.out.between() {
		_ = c.write() // the server hears of it by its own next write
	}
}

// goodbye is a GOAWAY that leaves no stream out, NO_ERROR, and a PING.
const goodbye = "\x00\x00\x08\x07\x00\x00\x00\x00\x00" + "\x7f\xff\xff\xff\x00\x00\x00\x00" +
	"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + "draining"

// write writes the goodbye. mu is held.
func (c *http2Conn) write() error {
	c.due = false
	c.asked.Store(true)
	_, err := io.WriteString(c.Conn, goodbye)
	return err
}

// Types and flags of frames (RFC 9113 §6).
const (
	frameHeaders      = 0x1
	framePushPromise  = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameContinuation = 0x9
	flagAck           = 0x1
	flagEndHeaders    = 0x4
)

// Frames follow one direction of a connection, from its first frame on (RFC 9113 §4.1).
type frames struct {
	head [9]byte
	n    int  // of head
	left int  // of the payload
	any  bool // one is over
}

// next takes bytes up to the end of the frame that they belong to, and reports whether that has come.
func (f *frames) next(b []byte) (taken int, over bool) {
	if f.n == len(f.head) && f.left == 0 {
		f.n = 0
	}
	if f.n < len(f.head) {
		taken = copy(f.head[f.n:], b)
		if f.n += taken; f.n < len(f.head) {
			return taken, false
		}
		f.left = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
	}
	n := min(f.left, len(b)-taken)
	f.left -= n
	over = f.left == 0
	f.any = f.any || over
	return taken + n, over
}

// is reports the type of the frame that is over, and whether it has the flags.
func (f *frames) is(kind, flags byte) bool { return f.head[3] == kind && f.head[4]&flags == flags }

// between reports whether another frame may come here: behind the first, which is SETTINGS, and not within a block of header fields.
func (f *frames) between() bool {
	if !f.any || f.n < len(f.head) || f.left > 0 {
		return false
	}
	switch f.head[3] {
	case frameHeaders, framePushPromise, frameContinuation:
		return f.head[4]&flagEndHeaders != 0
	}
	return true
}
