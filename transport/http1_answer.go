package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"strings"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/transport/http1"
)

// An http1Answer is a response and its body, in one piece of memory.
type http1Answer struct {
	http.Response
	body answerBody
}

var errSwitched = errors.New("the endpoint switched protocols without being asked to")

// answer makes the response of the head that was read. Its strings are a copy of the head; a body that has ended by now gives
// the connection back.
func (c *http1Conn) answer(s *sending) (*http.Response, error) {
	p := &c.p
	if p.Status() == http.StatusSwitchingProtocols && !c.maySwitch(s) {
		err := c.failure(s, errSwitched)
		c.end(false)
		return nil, err
	}
	if c.upload != nil {
		c.upload.proceed(false)
	}
	p.Own()
	a := &http1Answer{Response: http.Response{
		Status: p.StatusLine(), StatusCode: p.Status(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: p.Minor(),
		Header: headerOf(&p.Fields, p.Has(http1.FieldTransferEncoding)), ContentLength: p.Body.Length(), Body: http.NoBody, Request: s.req,
		TLS: c.tls,
	}}
	if p.Minor() == 0 {
		a.Proto = "HTTP/1.0"
	}
	if p.Has(http1.FieldTransferEncoding) {
		a.TransferEncoding, a.Trailer = []string{"chunked"}, announcedTrailer(&p.Fields)
	}
	switch p.Body.Framing() {
	case http1.NoBody:
		if s.method != http.MethodHead {
			a.ContentLength = 0
		}
	case http1.UntilClose:
		a.Close = true
	default:
	}
	a.Close = a.Close || !p.Persistent() && !p.Tunnel()
	if p.Lists(http1.FieldConnection, "close") {
		delete(a.Header, "Connection") // Close says it
	}
	if p.Tunnel() {
		return c.switched(s, a)
	}
	c.persist = c.persist && p.Persistent()
	if p.Body.Done() {
		c.end(true)
		return &a.Response, nil
	}
	a.body.conn, a.body.ctx, a.body.resp = c, s.ctx, &a.Response
	a.Body = &a.body
	return &a.Response, nil
}

// maySwitch reports that another protocol was asked for and is named (RFC 9110 §7.8, §15.2.2), by an endpoint to which nothing more
// of the request is sent.
func (c *http1Conn) maySwitch(s *sending) bool {
	return len(s.req.Header["Upgrade"]) > 0 && c.upload == nil && c.p.Minor() > 0 &&
		c.p.Has(http1.FieldUpgrade) && c.p.Lists(http1.FieldConnection, "upgrade")
}

// headerOf makes a header of fields that own their memory, its values in one array. What frames a chunked message is left
// out, as net/http does.
func headerOf(f *http1.Fields, chunked bool) http.Header {
	n := f.Len()
	h := make(http.Header, n)
	values := make([]string, n)
	for i := range n {
		if id := f.ID(i); chunked && (id == http1.FieldTransferEncoding || id == http1.FieldTrailer) {
			continue
		}
		key := textproto.CanonicalMIMEHeaderKey(f.Name(i))
		values[i] = f.Value(i)
		if had, ok := h[key]; ok {
			h[key] = append(had, values[i])
		} else {
			h[key] = values[i : i+1 : i+1]
		}
	}
	return h
}

// announcedTrailer gives the trailer fields that a header announces, without values yet.
func announcedTrailer(f *http1.Fields) http.Header {
	var t http.Header
	for i := 0; ; i++ {
		v, ok := f.Known(http1.FieldTrailer, i)
		if !ok {
			return t
		}
		for name := range strings.SplitSeq(v, ",") {
			if name = textproto.TrimString(name); name == "" {
				continue
			}
			if t == nil {
				t = make(http.Header)
			}
			t[textproto.CanonicalMIMEHeaderKey(name)] = nil
		}
	}
}

// An answerBody is the body of a response. One goroutine at a time may read it; Close may be called at any moment.
type answerBody struct {
	conn  *http1Conn // until the end
	ctx   context.Context
	resp  *http.Response
	state atomic.Uint32
	err   error // what reading gives after the end
}

const (
	bodyIdle uint32 = iota
	bodyReading
	bodyEnded
	bodyClosed
)

var (
	errBodyClosed = errors.New("http: read on closed response body")
	errTwoReaders = errors.New("http: concurrent reads of a response body")
)

// Read implements io.Reader.
func (b *answerBody) Read(p []byte) (int, error) {
	if !b.state.CompareAndSwap(bodyIdle, bodyReading) {
		switch b.state.Load() {
		case bodyEnded:
			return 0, b.err
		case bodyClosed:
			return 0, errBodyClosed
		}
		return 0, errTwoReaders
	}
	body := &b.conn.p.Body
	n, err := body.Read(p)
	if err == nil && !body.Done() {
		if b.state.CompareAndSwap(bodyReading, bodyIdle) {
			return n, nil
		}
		b.conn.end(false)
		return n, errBodyClosed
	}
	return n, b.finish(err)
}

// finish ends a body of which nothing more can be read, and gives what Read gives then.
func (b *answerBody) finish(err error) error {
	alive := b.conn.p.Body.Done()
	switch {
	case alive:
		err = io.EOF
		lateFields(&b.resp.Trailer, b.conn.p.Body.Trailer())
	case b.ctx.Err() != nil:
		err = context.Cause(b.ctx)
	case b.conn.upload != nil:
		if own := b.conn.upload.failed(); own != nil {
			err = own
		}
	}
	b.err = err
	if !b.state.CompareAndSwap(bodyReading, bodyEnded) { // closed meanwhile
		err, alive = errBodyClosed, false
	}
	b.conn.end(alive)
	return err
}

// lateFields takes the trailer fields over.
func lateFields(trailer *http.Header, f *http1.Fields) {
	if f.Len() == 0 {
		return
	}
	f.Own()
	h := headerOf(f, false)
	if *trailer == nil {
		*trailer = h
		return
	}
	maps.Copy(*trailer, h)
}

// Close implements io.Closer. A body that was not read to its end costs the connection, but where its end has come already.
func (b *answerBody) Close() error {
	switch b.state.Swap(bodyClosed) {
	case bodyIdle:
		b.conn.end(b.conn.ended())
	case bodyReading:
		b.conn.interrupt() // who reads ends it
	}
	return nil
}

// ended reports whether the end of the body has come, without waiting.
func (c *http1Conn) ended() bool {
	body := &c.p.Body
	switch body.Framing() {
	case http1.Sized:
		if body.Remaining() > int64(body.Buffered()) {
			return false
		}
	case http1.Chunked:
		if body.Buffered() == 0 {
			return false
		}
		if nc := c.conn.NetConn(); nc.SetReadDeadline(past) == nil {
			defer func() { _ = nc.SetReadDeadline(time.Time{}) }()
		}
	default:
		return false
	}
	done, err := body.Drain(64 << 10)
	return done && err == nil
}

// switched makes the answer to a request for another protocol: its body is the connection.
func (c *http1Conn) switched(s *sending, a *http1Answer) (*http.Response, error) {
	if c.stop != nil && !c.stop() {
		err := c.failure(s, context.Canceled)
		_ = c.conn.Close()
		return nil, err
	}
	c.stop = nil
	c.w.Release()
	t := &switched{conn: c, early: bytes.Clone(c.conn.Buffered())}
	c.conn.Discard(len(t.early))
	c.conn.Release()
	a.Body = t
	return &a.Response, nil
}

// A switched is a connection that speaks another protocol. One goroutine may read it and one write it at a time; it may be
// closed at any moment.
type switched struct {
	conn   *http1Conn
	early  []byte // what came with the head
	closed atomic.Bool
}

// Read implements io.Reader.
func (t *switched) Read(p []byte) (int, error) {
	if len(t.early) > 0 {
		n := copy(p, t.early)
		t.early = t.early[n:]
		return n, nil
	}
	return t.conn.conn.NetConn().Read(p)
}

// Write implements io.Writer.
func (t *switched) Write(p []byte) (int, error) { return t.conn.conn.NetConn().Write(p) }

// CloseWrite ends the sending direction.
func (t *switched) CloseWrite() error {
	if cw, ok := t.conn.conn.NetConn().(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return http.ErrNotSupported
}

// Close implements io.Closer.
func (t *switched) Close() error {
	if t.closed.Swap(true) {
		return nil
	}
	return t.conn.conn.Close()
}
