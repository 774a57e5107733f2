package grpcmesh

import (
	"net"

	"google.golang.org/grpc/attributes"
)

// A settingsConn is a connection of HTTP/2 whose client side hears how many streams the server takes at a time
// (SETTINGS_MAX_CONCURRENT_STREAMS, RFC 9113 §6.5.2). grpc-go keeps to it and does not tell. It is read by one goroutine.
type settingsConn struct {
	net.Conn
	heard func(streams uint32)
	// What is read is in the header of a frame, or in its payload.
	head     [frameHead]byte
	have     int // bytes of the header
	left     int // bytes of the payload
	settings bool
	one      [6]byte // a setting
	part     int     // bytes of it
}

const (
	frameHead     = 9 // RFC 9113 §4.1
	frameSettings = 4
	frameAck      = 1
	maxStreams    = 3
)

// Read implements net.Conn.
func (c *settingsConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.watch(p[:n])
	return n, err
}

func (c *settingsConn) watch(p []byte) {
	for len(p) > 0 {
		if c.left > 0 {
			part := p[:min(c.left, len(p))]
			p = p[len(part):]
			c.left -= len(part)
			if c.settings {
				c.set(part)
			}
			continue
		}
		n := copy(c.head[c.have:], p)
		p = p[n:]
		if c.have += n; c.have < frameHead {
			return
		}
		c.have, c.part = 0, 0
		c.left = int(c.head[0])<<16 | int(c.head[1])<<8 | int(c.head[2])
		c.settings = c.head[3] == frameSettings && c.head[4]&frameAck == 0
	}
}

// set reads settings, of which the last can come in parts.
func (c *settingsConn) set(p []byte) {
	for len(p) > 0 {
		n := copy(c.one[c.part:], p)
		p = p[n:]
		if c.part += n; c.part < len(c.one) {
			return
		}
		c.part = 0
		if c.one[0] == 0 && c.one[1] == maxStreams {
			c.heard(uint32(c.one[2])<<24 | uint32(c.one[3])<<16 | uint32(c.one[4])<<8 | uint32(c.one[5]))
		}
	}
}

// watched has the balancer's connection hear what the endpoint says of streams.
func watched(raw net.Conn, a *attributes.Attributes) net.Conn {
	c, _ := a.Value(connKey{}).(*conn)
	if c == nil {
		return raw
	}
	c.streams.Store(unlimited)
	return &settingsConn{Conn: raw, heard: func(n uint32) { c.streams.Store(max(int64(n), 1)) }}
}
