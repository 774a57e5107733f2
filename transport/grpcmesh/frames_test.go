package grpcmesh_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/call"
)

// A framed is a gRPC server made of frames, for what a well-behaved one does not do.
type framed struct {
	t    *testing.T
	addr string
	// asked does with the n-th request of all, from 1, what is to be tried; it returns false for the request to be answered.
	asked func(c *framedConn, n int64, id uint32) (done bool)

	requests, answered, conns, acks atomic.Int64
}

// A framedConn is one connection; its methods may be called by one goroutine at a time.
type framedConn struct {
	net.Conn
	*http2.Framer
	of  *framed
	mu  sync.Mutex
	out bytes.Buffer
	enc *hpack.Encoder
}

func startFramed(t *testing.T, asked func(*framedConn, int64, uint32) bool) *framed {
	t.Helper()
	f := &framed{t: t, asked: asked}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	var serving sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			f.conns.Add(1)
			serving.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return f
}

func (f *framed) serve(raw net.Conn) {
	defer raw.Close()
	if _, err := io.ReadFull(raw, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	c := &framedConn{Conn: raw, Framer: http2.NewFramer(raw, raw), of: f}
	c.enc = hpack.NewEncoder(&c.out)
	if c.WriteSettings() != nil {
		return
	}
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if frame.IsAck() {
				f.acks.Add(1)
				continue
			}
			c.mu.Lock()
			_ = c.WriteSettingsAck()
			c.mu.Unlock()
		case *http2.PingFrame:
			if !frame.IsAck() {
				c.mu.Lock()
				_ = c.WritePing(true, frame.Data)
				c.mu.Unlock()
			}
		case *http2.DataFrame:
			if frame.StreamEnded() {
				if id := frame.StreamID; !f.asked(c, f.requests.Add(1), id) {
					c.answer(id)
				}
			}
		}
	}
}

// answer answers a request with an empty message.
func (c *framedConn) answer(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of.answered.Add(1)
	c.header(id, false, ":status", "200", "content-type", "application/grpc")
	_ = c.WriteData(id, false, []byte{0, 0, 0, 0, 0})
	c.header(id, true, "grpc-status", "0")
}

func (c *framedConn) header(id uint32, end bool, kv ...string) {
	c.out.Reset()
	for i := 0; i < len(kv); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.out.Bytes(), EndHeaders: true, EndStream: end})
}

// TestEndpointsBreakOff (D-022): what an endpoint says that it has not looked at is sent again, whatever the method; what it may have
// acted on is not.
func TestEndpointsBreakOff(t *testing.T) {
	t.Parallel()
	reset := func(code http2.ErrCode) func(*framedConn, uint32) {
		return func(c *framedConn, id uint32) { _ = c.WriteRSTStream(id, code) }
	}
	goAway := func(last bool, code http2.ErrCode, closes bool) func(*framedConn, uint32) {
		return func(c *framedConn, id uint32) {
			if !last {
				id = 0
			}
			_ = c.WriteGoAway(id, code, nil)
			if closes {
				_ = c.Close()
			}
		}
	}
	for name, row := range map[string]struct {
		first    func(*framedConn, uint32) // with the first request
		code     codes.Code
		reason   call.Reason
		requests int64 // that the endpoint sees
		answers  bool  // after it
		rule     string
	}{
		"REFUSED_STREAM": {first: reset(http2.ErrCodeRefusedStream), requests: 2},
		"REFUSED_STREAM, by a rule without retries":   {first: reset(http2.ErrCodeRefusedStream), code: codes.Unavailable, reason: call.ReasonRefused, requests: 1, rule: careful("attempts: 0")},
		"GOAWAY before it, by a rule without retries": {first: goAway(false, http2.ErrCodeNo, false), code: codes.Unavailable, reason: call.ReasonRefused, requests: 1, rule: careful("attempts: 0")},
		"RST_STREAM, INTERNAL_ERROR":                  {first: reset(http2.ErrCodeInternal), code: codes.Internal, requests: 1},
		"RST_STREAM, CANCEL":                          {first: reset(http2.ErrCodeCancel), code: codes.Canceled, requests: 1},
		"RST_STREAM, ENHANCE_YOUR_CALM":               {first: reset(http2.ErrCodeEnhanceYourCalm), code: codes.ResourceExhausted, requests: 1},
		"GOAWAY before it":                            {first: goAway(false, http2.ErrCodeNo, false), requests: 2},
		"GOAWAY before it, and gone":                  {first: goAway(false, http2.ErrCodeNo, true), requests: 2},
		"GOAWAY, ENHANCE_YOUR_CALM":                   {first: goAway(false, http2.ErrCodeEnhanceYourCalm, true), requests: 2},
		"GOAWAY after it, which is answered":          {first: goAway(true, http2.ErrCodeNo, false), requests: 1, answers: true},
		"GOAWAY after it, and gone":                   {first: goAway(true, http2.ErrCodeNo, true), code: codes.Unavailable, reason: call.ReasonReset, requests: 1},
		"gone without a word":                         {first: func(c *framedConn, _ uint32) { _ = c.Close() }, code: codes.Unavailable, reason: call.ReasonReset, requests: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFramed(t, func(c *framedConn, n int64, id uint32) bool {
				if n == 1 {
					c.mu.Lock()
					row.first(c, id)
					c.mu.Unlock()
					return !row.answers
				}
				return false
			})
			m := newMesh(t, service(f.addr)+row.rule)
			cc := dial(t, m, "echo:9080")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := ask(ctx, cc, who)
			if status.Code(err) != row.code || call.ReasonOf(err) != row.reason || f.requests.Load() != row.requests {
				t.Errorf("%v after %d requests, want %v, %v after %d", err, f.requests.Load(), row.code, row.reason, row.requests)
			}
			if _, err := ask(ctx, cc, who); err != nil { // whatever it was, it is over
				t.Errorf("the next: %v", err)
			}
			if n, want := f.requests.Load(), row.requests+1; n != want {
				t.Errorf("the endpoint saw %d requests, want %d", n, want)
			}
			if now, _, _ := active(m); now != 0 {
				t.Errorf("%d attempts under way", now)
			}
		})
	}
}

// TestFewerStreams (D-022): an endpoint that takes fewer streams than before gets no more on a connection, and is asked over another.
func TestFewerStreams(t *testing.T) {
	t.Parallel()
	var first *framedConn
	f := startFramed(t, func(c *framedConn, n int64, _ uint32) bool {
		if n == 1 {
			first = c
		}
		return n == 2 // which is not answered yet
	})
	m := newMesh(t, service(f.addr))
	cc := dial(t, m, "echo:9080")
	must(t, cc, who)
	first.mu.Lock()
	_ = first.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	first.mu.Unlock()
	until(t, "the channel knows", func() bool { return f.acks.Load() == 2 })

	ctx, cancel := context.WithCancel(t.Context())
	held := make(chan error, 1)
	go func() {
		_, err := ask(ctx, cc, who)
		held <- err
	}()
	until(t, "a stream is held", func() bool { return f.requests.Load() == 2 })
	for range 10 {
		must(t, cc, who)
	}
	if n := f.conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
	cancel()
	if err := <-held; status.Code(err) != codes.Canceled {
		t.Error(err)
	}
}
