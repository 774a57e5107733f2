package transport

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// peek waits for the connection's first byte and gives a connection that has it still to be read.
func peek(conn net.Conn, timeout time.Duration) (net.Conn, byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, 0, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if first, ok, err := look(tcp); ok {
			if err == nil {
				err = conn.SetReadDeadline(time.Time{})
			}
			return conn, first, err
		}
	}
	h := new(head)
	for n := 0; n == 0; {
		var err error
		if n, err = conn.Read(h.first[:]); n == 0 && err != nil {
			return nil, 0, err
		}
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, 0, err
	}
	h.unread.Store(true)
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &peekedTCP{TCPConn: tcp, head: h}, h.first[0], nil
	}
	return &peekedConn{Conn: conn, head: h}, h.first[0], nil
}

// head is the byte that was read ahead.
type head struct {
	first  [1]byte
	unread atomic.Bool
}

// take moves the byte to p, once.
func (h *head) take(p []byte) bool {
	if len(p) == 0 || !h.unread.Load() || !h.unread.CompareAndSwap(true, false) {
		return false
	}
	p[0] = h.first[0]
	return true
}

// A peekedTCP is a TCP connection in all its methods: ReadFrom still uses sendfile and splice, CloseWrite,
// SetLinger and SyscallConn are the socket's own. Who reads the descriptor itself misses the first byte.
type peekedTCP struct {
	*net.TCPConn
	head *head
}

func (c *peekedTCP) Read(p []byte) (int, error) {
	if c.head.take(p) {
		return 1, nil
	}
	return c.TCPConn.Read(p)
}

// WriteTo implements io.WriterTo, which would else be the socket's own and lose the first byte.
func (c *peekedTCP) WriteTo(w io.Writer) (int64, error) {
	var first [1]byte
	var had int64
	if c.head.take(first[:]) {
		n, err := w.Write(first[:])
		had = int64(n)
		if err != nil {
			return had, err
		}
	}
	n, err := c.TCPConn.WriteTo(w)
	return had + n, err
}

// NetConn gives the socket's own connection, as tls.Conn does. Reading from it misses the first byte.
func (c *peekedTCP) NetConn() net.Conn { return c.TCPConn }

// A peekedConn is a connection of any other kind: a Unix domain socket, one in memory.
type peekedConn struct {
	net.Conn
	head *head
}

func (c *peekedConn) Read(p []byte) (int, error) {
	if c.head.take(p) {
		return 1, nil
	}
	return c.Conn.Read(p)
}

// CloseWrite ends the sending side, where the connection knows how to; net/http does so before it closes.
func (c *peekedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// NetConn gives the connection itself, as tls.Conn does. Reading from it misses the first byte.
func (c *peekedConn) NetConn() net.Conn { return c.Conn }
