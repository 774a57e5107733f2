package http1

import (
	"bytes"
	"net"
)

// Detach gives the connection to somebody else: what was read of it and belongs to no message yet is read from it first.
// The Conn gives its buffers back, and must not be used any more.
func (c *Conn) Detach() net.Conn {
	read := bytes.Clone(c.Buffered())
	c.Discard(len(read))
	c.Release()
	if len(read) == 0 {
		return c.nc
	}
	return &detached{Conn: c.nc, read: read}
}

// A detached is a connection of which something was read.
type detached struct {
	net.Conn
	read []byte
}

// NetConn gives the connection itself, as tls.Conn does: by it the mesh knows whom it has verified.
func (c *detached) NetConn() net.Conn { return c.Conn }

// Read implements net.Conn.
func (c *detached) Read(p []byte) (int, error) {
	if len(c.read) > 0 {
		n := copy(p, c.read)
		if c.read = c.read[n:]; len(c.read) == 0 {
			c.read = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}
