package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/snapshot"
)

// beginAnswer reads a request's head, sends the head of an answer of 10 bytes and 5 of those, and waits for the end.
func beginAnswer(c net.Conn, br *bufio.Reader) {
	if _, err := http.ReadRequest(br); err != nil {
		return
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
	_, _ = io.Copy(io.Discard, br)
}

// TestSlowReaderIsNotTheEndpoint: where the route's time-out cuts an answer off that has begun, nobody knows whether the
// endpoint or the reader was slow, and Envoy holds it against no endpoint.
func TestSlowReaderIsNotTheEndpoint(t *testing.T) {
	t.Parallel()
	for _, header := range []http.Header{nil, {"X-Envoy-Expected-Rq-Timeout-Ms": {"100"}}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, snapshot.HTTP1, pipeLeaves(beginAnswer), "10.0.0.1:80")
			r.route.Timeout = time.Second
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://svc/", nil)
			req.Header = header
			resp, err := r.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the body ends with %v", err)
			}
			_ = resp.Body.Close()
			if r.blamed() != 0 {
				t.Error("the endpoint is blamed")
			}
		})
	}
}

// TestBrokenOffIsTheEndpoint: an answer that breaks off is.
func TestBrokenOffIsTheEndpoint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.HTTP1, pipeLeaves(func(c net.Conn, br *bufio.Reader) {
			_, _ = http.ReadRequest(br)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		}), "10.0.0.1:80")
		resp, err := r.client.Get("http://svc/")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the body ends with %v", err)
		}
		_ = resp.Body.Close()
		if r.blamed() != 1 {
			t.Error("nobody is blamed")
		}
	})
}

// TestToldTimeCutsTheAnswer: an endpoint that heeds the time that the request has told breaks its answer off then.
func TestToldTimeCutsTheAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.HTTP1, pipeLeaves(func(c net.Conn, br *bufio.Reader) {
			_, _ = http.ReadRequest(br)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
			time.Sleep(100 * time.Millisecond)
		}), "10.0.0.1:80")
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://svc/", nil)
		req.Header.Set("X-Envoy-Expected-Rq-Timeout-Ms", "100")
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("the body is whole")
		}
		_ = resp.Body.Close()
		if r.blamed() != 0 {
			t.Error("the endpoint is blamed")
		}
	})
}

var errOwn = errors.New("the program's own")

// TestOwnBodyIsNotTheEndpoint: a request's body that fails while the answer is read is the program's mistake.
func TestOwnBodyIsNotTheEndpoint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.HTTP1, pipeLeaves(beginAnswer), "10.0.0.1:80")
		body, fill := io.Pipe()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://svc/", body)
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = fill.CloseWithError(errOwn)
		if _, err := io.ReadAll(resp.Body); !errors.Is(err, errOwn) {
			t.Errorf("the body ends with %v", err)
		}
		_ = resp.Body.Close()
		if r.blamed() != 0 {
			t.Error("the endpoint is blamed")
		}
	})
}

// A failingReader gives what it has, and then an error.
type failingReader struct {
	io.Reader
	err error
}

func (f failingReader) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err == io.EOF {
		err = f.err
	}
	return n, err
}

// TestOwnBodyOverHTTP2: what is wrong with a body that the program could make again is the program's mistake too.
func TestOwnBodyOverHTTP2(t *testing.T) {
	t.Parallel()
	bodies := []struct {
		name   string
		body   func() io.ReadCloser
		length int64
		want   call.Reason
	}{
		{"fails", func() io.ReadCloser { return io.NopCloser(failingReader{strings.NewReader("x"), errOwn}) }, -1, call.ReasonCanceled},
		{"is too short", func() io.ReadCloser { return io.NopCloser(strings.NewReader("x")) }, 2, call.ReasonInvalidRequest},
		{"is too long", func() io.ReadCloser { return io.NopCloser(strings.NewReader("xyz")) }, 2, call.ReasonInvalidRequest},
	}
	for _, b := range bodies {
		for _, again := range []bool{true, false} {
			t.Run(b.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := &framedWorld{streams: 10}
					w.start(t, snapshot.Policy{}, "10.0.0.1:80")
					req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://svc/?10s", b.body())
					req.ContentLength = b.length
					if again {
						req.GetBody = func() (io.ReadCloser, error) { return b.body(), nil }
					}
					resp, err := w.rig.rt.RoundTrip(req)
					if err == nil {
						_ = resp.Body.Close()
					}
					if got := call.ReasonOf(err); got != b.want {
						t.Errorf("told: %v, %v", got, err)
					}
					if w.rig.blamed() != 0 {
						t.Error("the endpoint is blamed")
					}
				})
			})
		}
	}
}

// TestSurplusIsToldBeforeTheAnswer: who has announced less than the body has hears of that, however fast the endpoint answers
// what was announced.
func TestSurplusIsToldBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	for name, parts := range map[string][]string{"in one piece": {"hello!"}, "in pieces": {"hel", "lo", "!"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, snapshot.HTTP1, nil, serveRaw(t, func(c net.Conn, br *bufio.Reader) {
				req, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				if _, err := io.ReadFull(req.Body, make([]byte, 5)); err == nil {
					t.Error("the endpoint got it all")
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			}))
			for range 100 {
				body, fill := io.Pipe()
				go func() {
					for _, p := range parts {
						_, _ = io.WriteString(fill, p)
					}
				}()
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://svc/", body)
				req.ContentLength = 5
				resp, err := r.rt.RoundTrip(req)
				if err == nil {
					_ = resp.Body.Close()
				}
				if call.ReasonOf(err) != call.ReasonInvalidRequest {
					t.Fatalf("told: %v", err)
				}
			}
			if r.blamed() != 0 {
				t.Error("the endpoint is blamed")
			}
		})
	}
}
