package meshtest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// A conn is one end of a connection in memory, with the addresses and the errors that TCP would have. It is
// safe for concurrent use.
type conn struct {
	net.Conn // of net.Pipe
	local    *net.TCPAddr
	remote   *net.TCPAddr
	peer     *conn
	reset    *atomic.Bool // of both ends

	once   sync.Once
	closed chan struct{}
}

// connect makes a connection.
func connect(from, to *net.TCPAddr) (client, server *conn) {
	c, s := net.Pipe()
	reset := new(atomic.Bool)
	client = &conn{Conn: c, local: from, remote: to, reset: reset, closed: make(chan struct{})}
	server = &conn{Conn: s, local: to, remote: from, reset: reset, closed: make(chan struct{})}
	client.peer, server.peer = server, client
	return client, server
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.failure("read", err)
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.failure("write", err)
}

// Close closes this end: the other one reads what was written, then the end of the stream.
func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// Reset closes this end so that the other one gets ECONNRESET.
func (c *conn) Reset() {
	c.reset.Store(true)
	_ = c.Close()
}

// failure says what a pipe's error is on TCP.
func (c *conn) failure(op string, err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-c.closed:
		return c.opError(op, net.ErrClosed)
	default:
	}
	switch {
	case c.reset.Load():
		return c.opError(op, os.NewSyscallError(op, syscall.ECONNRESET))
	case errors.Is(err, io.ErrClosedPipe):
		return c.opError(op, os.NewSyscallError(op, syscall.EPIPE))
	case errors.Is(err, io.EOF):
		return io.EOF
	}
	return c.opError(op, err)
}

func (c *conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}
