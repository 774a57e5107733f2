package transport

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// An http2Conn is one connection of an http2Pool.
type http2Conn struct {
	pool    *http2Pool
	conn    net.Conn
	cc      *http.ClientConn // nil while it is opened
	told    atomic.Bool      // the endpoint has said how many streams it takes
	streams int              // that many; 0 before it is known
	begun   int              // requests
	until   time.Time        // when nothing more is to begin on it, zero for never
	watched bool             // net/http tells of the end of its streams
}

// room gives how many requests are under way and how many more may begin; below 0 where none ever will. Before the endpoint
// has said how many it takes it gets one.
func (c *http2Conn) room() (under, room int) {
	if c.cc == nil {
		return 0, 0
	}
	if !c.until.IsZero() && !time.Now().Before(c.until) {
		return 0, -1
	}
	under = c.cc.InFlight()
	if c.told.Load() && under < c.streams && len(c.pool.conns) == 1 {
		return under, 1 // Reserve knows better
	}
	room = c.cc.Available()
	switch {
	case !c.told.Load():
		if c.cc.Err() != nil {
			return 0, -1
		}
		return under, min(room, 1-min(under, 1))
	case c.streams == 0 && room > 0:
		c.streams = under + room
		c.pool.streams = c.streams
	case room == 0 && under < c.streams: // it is going away, or now takes fewer: others are better
		return 0, -1
	case room == 0 && c.streams == 0:
		c.streams = max(under, 1)
		c.pool.streams = c.streams
	}
	return under, room
}

// watch has net/http tell of the end of streams, or not: it takes locks whenever a request begins and ends.
func (c *http2Conn) watch(on bool) {
	switch {
	case on == c.watched:
		return
	case on:
		c.cc.SetStateHook(func(*http.ClientConn) { c.pool.leaf.wake() })
	default:
		c.cc.SetStateHook(nil)
	}
	c.watched = on
}

// left says that the connection is one no more.
func (c *http2Conn) left() {
	if load := c.pool.leaf.leaf.key.load; load != nil {
		load.Connections.Leave()
		load.wake()
	}
}

// open connects, within TLS where the policy has it: net/http is given the secured connection as it would be given a
// plain one, and the request's URL says https.
func (c *http2Conn) open(ctx context.Context) (*http.ClientConn, error) {
	f := c.pool.leaf
	nc, err := f.dial(ctx, "", c.pool.name)
	f.leaf.counts.opened(err)
	if err != nil {
		return nil, err
	}
	c.conn = nc
	c.until = f.leaf.leaves.live.rests(nc)
	var conn net.Conn
	heard := &hearingConn{Conn: nc, tell: c.tell, ended: c.pool.leaf.wake, counts: f.leaf.counts}
	if secured, ok := nc.(*tls.Conn); ok {
		conn = &securedConn{heard, secured}
	} else {
		conn = heard
	}
	cc, err := f.transport.NewClientConn(context.WithValue(ctx, dialledKey{}, conn), "http", "endpoint:80")
	if err != nil {
		_ = conn.Close()
	}
	return cc, err
}

// tell says that the endpoint's settings are known.
func (c *http2Conn) tell() {
	c.told.Store(true)
	c.pool.leaf.wake()
}

// A hearingConn tells when what reads it has dealt with the first frame, which is the endpoint's SETTINGS (RFC 9113 §3.4):
// net/http does not say so.
type hearingConn struct {
	net.Conn
	tell  func()
	ended func() // at Close, after which the connection takes no more
	head  [frameHead]byte
	heard int
	told  bool

	counts *connectionCounts
	over   atomic.Bool
}

const frameHead = 9

func (c *hearingConn) Read(p []byte) (int, error) {
	if c.told {
		return c.Conn.Read(p)
	}
	if c.heard >= frameHead {
		length := int(c.head[0])<<16 | int(c.head[1])<<8 | int(c.head[2])
		if c.heard >= frameHead+length {
			c.told = true
			c.tell()
		}
	}
	n, err := c.Conn.Read(p)
	if c.heard < frameHead {
		copy(c.head[c.heard:], p[:n])
	}
	c.heard += n
	return n, err
}

func (c *hearingConn) Close() error {
	if !c.over.Swap(true) {
		c.counts.closed()
	}
	err := c.Conn.Close()
	c.ended()
	return err
}

// A securedConn is one within TLS, of which responses tell.
type securedConn struct {
	*hearingConn
	secured *tls.Conn
}

func (c *securedConn) ConnectionState() tls.ConnectionState { return c.secured.ConnectionState() }

// farewell is how long the end of TLS may take.
const farewell = 250 * time.Millisecond

func (c *securedConn) Close() error {
	t := time.AfterFunc(farewell, func() { _ = c.secured.NetConn().Close() })
	defer t.Stop()
	return c.hearingConn.Close()
}
