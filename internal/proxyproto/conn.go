package proxyproto

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// A Conn is a connection that begins with a header, which its first Read takes away: after that RemoteAddr is who the header says
// has made it. Whoever calls Read bounds it in time.
type Conn struct {
	*net.TCPConn
	from atomic.Pointer[net.TCPAddr]

	mu   sync.Mutex // guards what follows
	read bool
	rest []byte // read beyond the header
	err  error
}

// Wrap makes one of a connection whose header is to be read.
func Wrap(c *net.TCPConn) *Conn { return &Conn{TCPConn: c} }

// WithHeader makes one of a connection whose header was read.
func WithHeader(c *net.TCPConn, h Header) *Conn {
	wrapped := &Conn{TCPConn: c, read: true}
	wrapped.note(h)
	return wrapped
}

func (c *Conn) note(h Header) {
	if h.From.IsValid() {
		c.from.Store(net.TCPAddrFromAddrPort(h.From))
	}
}

// Read implements net.Conn. Its error is ErrHeader where there is no header.
func (c *Conn) Read(p []byte) (int, error) {
	if n, err, done := c.begin(p); done {
		return n, err
	}
	return c.TCPConn.Read(p)
}

// begin gives what comes before the socket's own bytes.
func (c *Conn) begin(p []byte) (n int, err error, done bool) { //nolint:revive // ST1008: done says whether there is a result
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.read && c.err == nil {
		c.err = c.header()
	}
	switch {
	case c.err != nil:
		return 0, c.err, true
	case len(c.rest) > 0:
		n = copy(p, c.rest)
		if c.rest = c.rest[n:]; len(c.rest) == 0 {
			c.rest = nil
		}
		return n, nil, true
	}
	return 0, nil, false
}

func (c *Conn) header() error {
	b := make([]byte, 0, MaxHeader)
	for {
		n, err := c.TCPConn.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if h, size, perr := Parse(b); perr != nil {
			return perr
		} else if size > 0 {
			c.note(h)
			c.read, c.rest = true, append([]byte(nil), b[size:]...)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// WriteTo implements io.WriterTo, which would else be the socket's own and pass the header on.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}

// RemoteAddr is who the header says has made the connection, once it was read; else, and where it says nothing, the socket's.
func (c *Conn) RemoteAddr() net.Addr {
	if from := c.from.Load(); from != nil {
		return from
	}
	return c.TCPConn.RemoteAddr()
}

// NetConn gives the socket. Who reads from it misses what begin gives.
func (c *Conn) NetConn() net.Conn { return c.TCPConn }

// Direct gives the address of the socket's other end, where RemoteAddr is what the header says; else it is invalid.
func (c *Conn) Direct() netip.AddrPort {
	at, known := c.TCPConn.RemoteAddr().(*net.TCPAddr)
	if c.from.Load() == nil || !known {
		return netip.AddrPort{}
	}
	return at.AddrPort()
}

// A Listener gives connections that begin with a header.
type Listener struct{ net.Listener }

// Accept implements net.Listener. It does not wait for the header.
func (l Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		return Wrap(tcp), nil
	}
	return c, err
}
