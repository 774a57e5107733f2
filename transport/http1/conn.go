package http1

import (
	"errors"
	"net"
	"time"
)

// A Conn reads messages from one connection. One goroutine reads at a time; a [Writer] may write meanwhile. To
// interrupt a read from elsewhere, close the net.Conn or set its deadline.
type Conn struct {
	// Opened is when the connection was made, for the age limit of a [Pool]; the zero time is never too old.
	Opened time.Time
	// Rests is when the last request may have begun on it, for a [Pool]; the zero time is never.
	Rests time.Time
	// Owner, where there is one, is told once that the connection has been closed: by Close, which a [Pool] calls too.
	Owner Owner

	nc     net.Conn
	raw    rawConn
	under  *rawConn // of the socket beneath TLS, which is looked at and never read; nil for none
	limits Limits

	// in[r:w] is read and not consumed. in[:floor] belongs to a head or a trailer section that is still looked at, so
	// it stays as it is; floor is 0 when it does not.
	in          *buffer
	r, w, floor int
	head, tail  *buffer // what holds the last head, the last trailer section: in itself, or a buffer left behind by it
	piece       *buffer // what holds the last piece of Body.Next

	open   bool  // the body of the last message is not read to its end
	err    error // why nothing more can be read from nc
	broken bool  // and what was read has no message in it
	final  int   // messages read, 1xx not counted
	one    [1]byte
}

// An Owner keeps what belongs to a connection beside it.
type Owner interface{ Closed() }

var (
	errOpen  = errors.New("http1: read message: the body before it is not done")
	errStale = errors.New("http1: write request: the connection has ended, or has something to read that nobody asked for")
	errStuck = errors.New("http1: read: the connection gives neither bytes nor an error")
)

// NewConn reads from nc within limits, nil for the defaults.
func NewConn(nc net.Conn, limits *Limits) *Conn {
	c := &Conn{nc: nc, limits: limits.withDefaults()}
	c.raw.init(nc, c.limits.Held)
	if over, ok := nc.(interface{ NetConn() net.Conn }); ok && c.raw.conn == nil {
		under := new(rawConn)
		if under.init(over.NetConn(), nil); under.conn != nil {
			c.under = under
		}
	}
	return c
}

// NetConn gives the connection beneath.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Responses gives the number of final responses that were read.
func (c *Conn) Responses() int { return c.final }

// WaitReadable blocks until there is something to read. On TCP and Unix connections it holds no buffer meanwhile but
// that of a message not yet released; on others it reads one byte ahead, into the Conn itself. io.EOF is the
// clean end.
func (c *Conn) WaitReadable() error {
	if c.r < c.w {
		return nil
	}
	return c.fill(true)
}

// Buffered gives the bytes that are read and belong to no message yet: a pipelined request, the first bytes of a tunnel,
// what was not asked for. They are valid until the next call. While a body is not done they are its own.
func (c *Conn) Buffered() []byte {
	if c.in == nil {
		return nil
	}
	return c.in.b[c.r:c.w]
}

// Discard drops the first n of the Buffered bytes.
func (c *Conn) Discard(n int) { c.r += max(0, min(n, c.w-c.r)) }

// Release gives back the buffers of the message that was read last; its strings and pieces end with it. Bytes that
// belong to the next message stay.
func (c *Conn) Release() {
	putBuffer(c.piece)
	c.piece = nil
	if c.tail != c.in && c.tail != c.head {
		putBuffer(c.tail)
	}
	if c.head != c.in {
		putBuffer(c.head)
	}
	c.head, c.tail, c.floor = nil, nil, 0
	c.shrink()
}

// shrink gives the input buffer back where nothing is in it and nobody looks at it.
func (c *Conn) shrink() {
	if c.r == c.w && c.floor == 0 {
		putBuffer(c.in)
		c.in, c.r, c.w = nil, 0, 0
	}
}

// Close closes the connection and gives back its buffers, whatever is in them. Call it from the goroutine that reads.
func (c *Conn) Close() error {
	c.drop()
	err := c.nc.Close()
	if o := c.Owner; o != nil {
		c.Owner = nil
		o.Closed()
	}
	return err
}

func (c *Conn) drop() {
	if c.err == nil {
		c.err = net.ErrClosed
	}
	c.broken = true
	c.r = c.w
	c.Release()
}

// fill reads once, for at least one byte more in in[r:w]. idle says that no message has begun.
func (c *Conn) fill(idle bool) error {
	if c.err != nil {
		return c.err
	}
	c.room()
	if c.in == nil && (idle || c.raw.conn != nil) {
		b, n, err := c.await(0)
		if err != nil {
			return c.fail(err)
		}
		c.in, c.r, c.w = b, 0, n
		return nil
	}
	if c.in == nil {
		c.in = takeBuffer(0, c.limits.Held)
	}
	n, err := c.read(c.in.b[c.w:])
	if err != nil {
		c.shrink()
		return c.fail(err)
	}
	c.w += n
	return nil
}

// fail keeps what ended the reading. A deadline does not: it may be set anew, and nothing was consumed.
func (c *Conn) fail(err error) error {
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		c.err = err
	}
	return err
}

// room makes room behind in[:w], by moving what is not consumed to the front or to a larger buffer.
func (c *Conn) room() {
	if c.in == nil {
		return
	}
	if c.r == c.w {
		c.r, c.w = c.floor, c.floor
		c.shrink()
		if c.in == nil {
			return
		}
	}
	if c.w < len(c.in.b) {
		return
	}
	if c.floor == 0 && c.r > 0 {
		c.w = copy(c.in.b, c.in.b[c.r:c.w])
		c.r = 0
		return
	}
	c.move(takeBuffer(2*(c.w-c.r), c.limits.Held))
}

// move puts what is not consumed into b, which becomes the input buffer.
func (c *Conn) move(b *buffer) {
	n := 0
	if c.in != nil {
		n = copy(b.b, c.in.b[c.r:c.w])
		if c.floor == 0 {
			putBuffer(c.in)
		}
	}
	c.in, c.r, c.w, c.floor = b, 0, n, 0
}

// keep puts bytes that were read past the end of a body where the next message is read from. Nothing is in front of
// them.
func (c *Conn) keep(rest []byte) {
	if len(rest) == 0 {
		return
	}
	if c.in != nil {
		c.r, c.w = c.floor, c.floor
	}
	if c.in == nil || len(c.in.b)-c.w < len(rest) {
		c.move(takeBuffer(len(rest), c.limits.Held))
	}
	c.w += copy(c.in.b[c.w:], rest)
}

// read reads once into p, which is not empty.
func (c *Conn) read(p []byte) (int, error) {
	for range 100 { // an io.Reader may give nothing and no error, though none should
		n, err := c.nc.Read(p)
		switch {
		case n > 0 && n <= len(p):
			return n, nil // an error comes again
		case err != nil:
			return 0, err
		}
	}
	return 0, errStuck
}

// await reads once into a buffer of the size, which it takes when there is something to read.
func (c *Conn) await(size int) (*buffer, int, error) {
	if c.raw.conn != nil {
		return c.raw.await(size)
	}
	if _, err := c.read(c.one[:]); err != nil {
		return nil, 0, err
	}
	b := takeBuffer(size, c.limits.Held)
	b.b[0] = c.one[0]
	return b, 1, nil
}

// Ask finishes the request that w writes to c, where c is Alive, and on TCP and Unix connections waits until there is
// something to read or that has failed, which ReadResponse then tells. It gives the error of [Writer.Finish]; where c is
// not alive nothing of the request is sent. It looks, sends and waits with one system call less than Alive, Finish and ReadResponse.
// Nothing of the request may have been sent before.
func (c *Conn) Ask(w *Writer, last []byte) error {
	if c.raw.conn == nil || c.in != nil || c.open || c.err != nil {
		if !c.Alive() {
			return errStale
		}
		return w.Finish(last)
	}
	b, n, sent, err := c.raw.ask(w, last)
	switch {
	case sent != nil:
		if errors.Is(sent, errStale) {
			_ = c.fail(sent)
		}
		return sent
	case err != nil:
		_ = c.fail(err)
	default:
		c.in, c.r, c.w = b, 0, n
	}
	return nil
}

// Waits reports, without blocking or reading, that there is something to read. Like Alive it cannot see what waits in a net.Conn of
// another kind than TCP, Unix and TLS over these, nor what a TLS connection has read ahead.
func (c *Conn) Waits() bool {
	switch {
	case c.r < c.w:
		return true
	case c.raw.conn != nil:
		return Waiting(c.raw.conn)
	}
	return c.under != nil && Waiting(c.under.conn)
}

// Alive reports, without blocking, whether an idle client connection can be used again: the last body is done, no byte
// came that nobody asked for, and the end was not seen (RFC 9112 §9.5). It cannot see bytes that
// wait in a net.Conn of another kind than TCP, Unix and TLS over these.
func (c *Conn) Alive() bool {
	if c.open || c.err != nil || c.r < c.w {
		return false
	}
	if c.raw.conn != nil {
		return c.raw.quiet()
	}
	if c.under != nil && !c.under.quiet() { // a byte that it finds is lost, and so is the connection
		return false
	}
	// What lies decrypted or half decrypted in a TLS connection shows to a read that may not wait.
	if c.nc.SetReadDeadline(time.Unix(1, 0)) != nil {
		return false
	}
	n, err := c.nc.Read(c.one[:])
	timeout, ok := err.(net.Error) //nolint:errorlint // errors.As would allocate for each request over TLS
	return n == 0 && ok && timeout.Timeout() && c.nc.SetReadDeadline(time.Time{}) == nil
}
