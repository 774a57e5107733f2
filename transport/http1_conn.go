package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport/http1"
)

// An http1Conn is one connection and the exchange on it: one at a time.
type http1Conn struct {
	leaf      *http1Leaf
	conn      *http1.Conn
	name      string // its key in the pool
	asks      bool   // http1.Conn.Ask saves a system call on it
	buffers   bool   // a body of moderate size can be written before the endpoint reads
	interrupt func() // ends reads and writes, made once
	requests  int
	since     time.Time            // of its last use
	tls       *tls.ConnectionState // for the answers, nil for plain text

	// Of the exchange.
	w       http1.Writer
	p       http1.Response
	stop    func() bool // takes the interruption by the context back; nil where the context cannot end
	upload  *upload     // nil where the body was sent with the head, or there is none
	persist bool        // it may be used again after this
}

// exchange sends the request and reads the head of its answer. It gives errNothingSent where another connection must be
// tried, and then has left the body as it was; otherwise the body is closed, now or when it has been sent.
func (c *http1Conn) exchange(s *sending) (*http.Response, error) {
	c.persist = !s.closes
	if s.ctx.Done() != nil {
		c.stop = context.AfterFunc(s.ctx, c.interrupt)
	}
	err := c.send(s)
	switch {
	case err == nil:
	case malformedMessage(err):
		c.end(c.w.Sent() == 0)
		s.abandon()
		return nil, &exchangeError{call.Outcome{Reason: call.ReasonInvalidRequest}, err}
	case c.requests > 1 && c.w.Sent() == 0 && s.ctx.Err() == nil:
		c.end(false)
		return nil, errNothingSent
	}
	if c.upload == nil {
		s.sent(err)
	}
	// Where sending failed, an answer may have come before the connection ended.
	if err := c.head(s); err != nil {
		err = c.failure(s, err)
		c.end(false)
		return nil, err
	}
	return c.answer(s)
}

// malformedMessage finds what breaks the rules of HTTP, read or about to be written.
func malformedMessage(err error) bool {
	_, is := errors.AsType[*http1.Error](err)
	return is
}

// send writes the request: head and body at once where that is all there.
func (c *http1Conn) send(s *sending) error {
	w := &c.w
	w.Reset(c.conn)
	var says *Says
	if f := c.leaf.leaf; f.key.tls.Mesh {
		says = f.leaves.says
	}
	s.head(w, s.closes || c.requests == c.leaf.requests, says)
	if err := w.End(); err != nil {
		return err
	}
	if s.atOnce() && (len(s.whole) == 0 || c.buffers) {
		s.trailers(w)
		s.wroteHeaders()
		if c.asks && c.requests > 1 {
			return c.conn.Ask(w, s.whole)
		}
		return w.Finish(s.whole)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	s.wroteHeaders()
	c.upload = startUpload(c, s)
	return nil
}

var errInformational = errors.New("more than 8 informational responses")

// head reads the head of the final answer.
func (c *http1Conn) head(s *sending) error {
	if s.trace != nil && s.trace.GotFirstResponseByte != nil {
		if err := c.conn.WaitReadable(); err != nil {
			return err
		}
		s.trace.GotFirstResponseByte()
	}
	for n := 0; ; n++ {
		if err := c.conn.ReadResponse(&c.p, s.method); err != nil {
			if n > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // it was answering
			}
			return err
		}
		status := c.p.Status()
		if status >= 200 || status == http.StatusSwitchingProtocols {
			return nil
		}
		if n == http1.MaxInformational {
			return errInformational
		}
		if status == http.StatusContinue && c.upload != nil {
			c.upload.proceed(true)
		}
		if err := s.informed(&c.p); err != nil {
			return &bodyError{err}
		}
	}
}

// failure says why an exchange got no answer.
func (c *http1Conn) failure(s *sending, err error) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if c.upload != nil {
		if err := c.upload.failed(); err != nil {
			return err
		}
	}
	var own *bodyError
	switch {
	case errors.As(err, &own):
		return err
	case malformedMessage(err), errors.Is(err, errInformational), errors.Is(err, errSwitched):
		return &exchangeError{call.Outcome{Reason: call.ReasonProtocol}, err}
	}
	stale := c.requests > 1 && len(c.conn.Buffered()) == 0 && !errors.Is(err, io.ErrUnexpectedEOF)
	untouched := c.upload == nil && c.w.Sent() == 0 // an upload begins when the head was sent
	return &exchangeError{call.Outcome{Reason: call.ReasonReset, Unprocessed: untouched, StaleReuse: stale}, err}
}

// end ends the exchange. alive says that the answer was read to its end.
func (c *http1Conn) end(alive bool) {
	if c.stop != nil && !c.stop() {
		alive = false
	}
	alive = alive && c.persist
	up := c.upload
	c.stop, c.upload = nil, nil
	if up == nil {
		c.settle(alive)
		return
	}
	up.answered(alive)
}

// settle keeps the connection for the next request or closes it.
func (c *http1Conn) settle(alive bool) {
	c.w.Release()
	if !alive {
		_ = c.conn.Close()
		return
	}
	c.since = time.Now()
	c.leaf.pool.Put(c.name, c.conn, c.since)
	if load := c.leaf.leaf.key.load; load != nil {
		load.wake()
	}
}

// An exchangeError is the failure of an exchange with its outcome. It says what its cause says.
type exchangeError struct {
	outcome call.Outcome
	err     error
}

func (e *exchangeError) Error() string { return e.err.Error() }
func (e *exchangeError) Unwrap() error { return e.err }

// Closed implements http1.Owner.
func (c *http1Conn) Closed() {
	c.leaf.leaf.counts.closed()
	if load := c.leaf.leaf.key.load; load != nil {
		load.Connections.Leave()
		load.wake()
	}
}
