package goaway

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// A Conn is a connection of net/http's server between whose frames something can be said. What it costs is to follow the heads
// of the frames.
type Conn struct {
	net.Conn
	of    *Goodbyes
	asked atomic.Bool // the PING has been sent
	heard atomic.Bool // it is answered, or nobody is to be asked
	in    frames      // the reader's alone

	mu  sync.Mutex // is held while something is written; guards what follows
	out frames
	due bool // the goodbye is to be written when a frame is over
	// What stands before the connection where streams are followed, nil where none has been, and its write: a function, so that programs without
	// tunnels do not link it.
	filter  *filter
	through func(b []byte) (int, error)
}

// A securedConn is one over TLS, of which net/http wants to know the state.
type securedConn struct {
	*Conn
	tls *tls.Conn
}

// ConnectionState is crypto/tls.Conn's.
func (c securedConn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// Read implements net.Conn. net/http reads a frame when it has seen to the one before it: when the PING's answer comes, every request
// in front of it has begun.
func (c *Conn) Read(b []byte) (int, error) {
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
func (c *Conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.through != nil {
		return c.through(b)
	}
	return c.pass(b)
}

// pass writes, and what is to be said between. mu is held.
func (c *Conn) pass(b []byte) (int, error) {
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
	if written == len(b) {
		return written, nil
	}
	n, err := c.Conn.Write(b[written:])
	return written + n, err
}

// tell writes the goodbye, or has it written when the frame under way is over.
func (c *Conn) tell() {
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
func (c *Conn) write() error {
	c.due = false
	c.asked.Store(true)
	_, err := io.WriteString(c.Conn, goodbye)
	return err
}
