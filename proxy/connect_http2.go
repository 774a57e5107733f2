package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"sync"
	"syscall"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/internal/goaway"
	"github.com/heddlemesh/mesh/transport"
)

// CONNECT over HTTP/2 (RFC 9113 §8.5) is what it is over HTTP/1, on one stream: bytes are DATA frames, the end of one direction is END_STREAM,
// and a connection that fails is a stream error of type CONNECT_ERROR. Flow control is net/http's: who does not read holds up who
// sends to him. The extended one (RFC 8441) is not there: net/http does not offer it.

// connectError is the code of a tunnel whose connection has failed (RFC 9113 §7).
const connectError = 0xa

type streamsKey struct{}

// A streamed is net/http's handler for one connection of HTTP/2, whose requests know that.
type streamed struct {
	http.Handler
	conn *goaway.Conn
}

// streamsOf is goaway.Goodbyes.Handler.
func streamsOf(h http.Handler, c *goaway.Conn) http.Handler { return streamed{h, c} }

// BaseContext is net/http's way to hand a connection's context over.
func (s streamed) BaseContext() context.Context {
	ctx := context.Background()
	if from, ok := s.Handler.(interface{ BaseContext() context.Context }); ok {
		ctx = from.BaseContext()
	}
	return context.WithValue(ctx, streamsKey{}, s.conn)
}

// A streamTunnel is a tunnel on a stream.
type streamTunnel struct {
	visitor
	forward *forwarder
	stream  tunnelStream
	r       *http.Request
}

// tunnelFor gives the tunnel that a request asks for, nil where it asks for none, or may not.
func (f *forwarder) tunnelFor(w http.ResponseWriter, r *http.Request) *streamTunnel {
	if f.connects == nil || r.Method != http.MethodConnect || r.ProtoMajor != 2 || r.URL.Path != "" {
		return nil
	}
	conn, ok := r.Context().Value(streamsKey{}).(*goaway.Conn)
	if !ok {
		return nil
	}
	id, ok := streamID(w)
	if !ok {
		return nil
	}
	return &streamTunnel{visitor{wire: f.connects, nc: conn, began: time.Now(), asked: true}, f,
		tunnelStream{Conn: conn, w: w, control: http.NewResponseController(w), body: r.Body, id: id, ctx: r.Context()}, r}
}

// streamID gives the number of the stream that is answered by w. net/http has no name for it that is exported; where it were called otherwise, ok
// is false and CONNECT over HTTP/2 is refused.
func streamID(w http.ResponseWriter) (id uint32, ok bool) {
	v := reflect.ValueOf(w)
	for _, field := range [...]string{"rws", "stream", "id"} {
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return 0, false
		}
		v = v.FieldByName(field)
	}
	if !v.CanUint() {
		return 0, false
	}
	return uint32(v.Uint()), true
}

// serve is exchange.tunnelTo, and tunnel.
func (t *streamTunnel) serve() {
	w, r, f := t.stream.w, t.r, t.forward
	host, port, err := call.SplitAuthority(r.Host)
	_, sized := r.Header["Content-Length"]
	switch {
	case tooManyFields(r.Header):
		f.reply(w, r, LocalReply{Status: http.StatusRequestHeaderFieldsTooLarge, Flag: "DPE", Reason: "too_many_fields", Text: "more than 100 header fields"})
		return
	case err != nil || port == 0 || sized:
		f.reply(w, r, badRequest("CONNECT names a host and a port, and has no length"))
		return
	}
	name := t.serverName(host, port)
	var c transport.Call
	up, finish, err := t.connect(r.Context(), &c, t.asTCP(host, port, name))
	c.End(err)
	tally := c.Tally(t.began, t.ends(name), err)
	if err != nil {
		tally.Failed(replyOf(err).flags(), "", err)
		if r.Context().Err() != nil {
			panic(http.ErrAbortHandler)
		}
		f.reply(w, r, replyOf(err))
		return
	}
	defer finish()
	defer up.Close()
	if !f.tunnels.add(&t.stream) {
		tally.Failed(call.FlagDC, "", context.Canceled)
		panic(http.ErrAbortHandler)
	}
	defer f.tunnels.remove(&t.stream)
	tally.Opened(up.RemoteAddr().String(), addressOf(up.LocalAddr()))
	defer tally.Closed()
	t.join(up, tally)
}

// join moves both ways to the end.
func (t *streamTunnel) join(up net.Conn, tally *transport.Tally) {
	s := &t.stream
	s.Conn.Follow(s.id)
	s.w.WriteHeader(http.StatusOK)
	if s.control.Flush() != nil {
		s.fail()
		return
	}
	gone := context.AfterFunc(s.ctx, func() { // also where nothing moves that would show it
		resetAtClose(up)
		_ = up.Close()
	})
	defer gone()
	var back sync.WaitGroup
	back.Go(func() { (&flow{dst: s, src: up, count: tally.Sent}).stream() })
	(&flow{dst: up, src: s, count: tally.Received}).stream()
	back.Wait()
}

// A tunnelStream is a stream as one end of a tunnel.
type tunnelStream struct {
	*goaway.Conn // which it is on
	w            http.ResponseWriter
	control      *http.ResponseController
	body         io.Reader
	id           uint32
	ctx          context.Context // of the stream
	written      uint64          // the writer's alone
	failing      sync.Once
}

// Read implements net.Conn. A stream that does not end by END_STREAM is a connection that was reset.
func (s *tunnelStream) Read(b []byte) (int, error) {
	n, err := s.body.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", syscall.ECONNRESET, err)
	}
	return n, err
}

// Write implements net.Conn. It returns when the client's windows have taken it.
func (s *tunnelStream) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.written += uint64(n)
	if err == nil {
		err = s.control.Flush()
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", syscall.EPIPE, err)
	}
	return n, err
}

// CloseWrite ends this direction.
func (s *tunnelStream) CloseWrite() error { return s.Conn.EndStream(s.id, s.written) }

// Close ends the stream, by CONNECT_ERROR where it has not ended.
func (s *tunnelStream) Close() error {
	s.failing.Do(s.fail)
	return nil
}

func (s *tunnelStream) fail() {
	if s.ctx.Err() != nil {
		s.Conn.Forget(s.id)
		return
	}
	s.Conn.FailStream(s.id, connectError)
	_ = s.control.SetWriteDeadline(past) // by which net/http resets a stream
}
