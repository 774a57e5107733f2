package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/snapshot"
)

// serveRaw serves each connection by f, and gives the address. What f is given is closed at the end of the test.
func serveRaw(t testing.TB, f func(c net.Conn, br *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.Map
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(c, nil)
			wg.Go(func() {
				defer c.Close()
				f(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		open.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	return l.Addr().String()
}

// A countedBody counts how often it is closed.
type countedBody struct {
	io.Reader
	closed atomic.Int32
	done   chan struct{} // closed by the first Close; nil where nobody waits
}

func (b *countedBody) Close() error {
	if b.closed.Add(1) == 1 && b.done != nil {
		close(b.done)
	}
	return nil
}

// TestCancelAtEveryByte: wherever in the answer the caller gives up, the call ends with the context's error and the
// connection with it.
func TestCancelAtEveryByte(t *testing.T) {
	t.Parallel()
	const whole = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"5\r\nhello\r\n3\r\n us\r\n0\r\nX-T: 1\r\n\r\n"
	for _, kind := range transports[1:] {
		for at := range len(whole) {
			written, gone := make(chan struct{}), make(chan struct{})
			addr := serveRaw(t, func(c net.Conn, br *bufio.Reader) {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				_, _ = io.WriteString(c, whole[:at])
				close(written)
				_, _ = br.ReadByte()
				close(gone)
			})
			rt := newTransport(t, kind, addr)
			ctx, cancel := context.WithCancel(t.Context())
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://svc/", nil)
			go func() { <-written; cancel() }()
			resp, err := rt.RoundTrip(req)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s, after %d bytes: %v", kind, at, err)
			}
			<-gone
		}
	}
}

// TestDeadline: the caller's deadline ends a call that waits, under fake time and over connections in memory.
func TestDeadline(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"} {
		synctest.Test(t, func(t *testing.T) {
			rt := pipeLeaf(t, func(c net.Conn, br *bufio.Reader) {
				if _, err := http.ReadRequest(br); err == nil {
					_, _ = io.WriteString(c, part)
					_, _ = br.ReadByte()
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://svc/", nil)
			began := time.Now()
			resp, err := rt.RoundTrip(req)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
			}
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 3*time.Second {
				t.Errorf("after %q: %v after %v", part, err, took)
			}
		})
	}
}

// pipeLeaves are our leaves over connections in memory, each served by f.
func pipeLeaves(f func(c net.Conn, br *bufio.Reader)) *Leaves {
	return NewLeaves(func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			f(server, bufio.NewReader(server))
		}()
		return client, nil
	}, nil)
}

// pipeLeaf is one of them.
func pipeLeaf(t *testing.T, f func(c net.Conn, br *bufio.Reader)) http.RoundTripper {
	t.Helper()
	leaves := pipeLeaves(f)
	leaf := leaves.Open(endpointAt("10.0.0.1:80"), snapshot.Policy{}, new(Load))
	t.Cleanup(func() { leaves.Release(leaf) })
	return leaf.(http.RoundTripper)
}

// TestContextAfterTheAnswer: a context that ends when the answer has been read does not cost the connection.
func TestContextAfterTheAnswer(t *testing.T) {
	t.Parallel()
	u := newRawUpstream(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false)
	rt := newTransport(t, "own leaf", u.addr)
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://svc/", nil)
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		cancel()
	}
	if got := u.again(rt); u.conns != 1 || got != " >> kept" {
		t.Errorf("%d connections,%s", u.conns, got)
	}
}

// TestContextEndedBefore: nothing is dialled.
func TestContextEndedBefore(t *testing.T) {
	t.Parallel()
	u := newRawUpstream(t, "", false)
	rt := newTransport(t, "own leaf", u.addr)
	cause := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	body := &countedBody{Reader: strings.NewReader("x")}
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://svc/", body)
	if _, err := rt.RoundTrip(req); !errors.Is(err, cause) || u.conns != 0 || body.closed.Load() != 1 {
		t.Errorf("%v, %d connections, body closed %d times", err, u.conns, body.closed.Load())
	}
}

// TestBodyIsClosedOnce: in whichever way a request ends.
func TestBodyIsClosedOnce(t *testing.T) {
	t.Parallel()
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for name, c := range map[string]struct {
		answer string
		cut    bool
		change func(*http.Request)
	}{
		"an answer":          {ok, false, func(*http.Request) {}},
		"a malformed answer": {"nonsense\r\n\r\n", false, func(*http.Request) {}},
		"no answer":          {"", true, func(*http.Request) {}},
		"an invalid method":  {ok, false, func(r *http.Request) { r.Method = "a b" }},
		"an invalid field":   {ok, false, func(r *http.Request) { r.Header.Set("X", "\n") }},
		"too short":          {ok, false, func(r *http.Request) { r.ContentLength = 9 }},
		"too long":           {ok, false, func(r *http.Request) { r.ContentLength = 1 }},
		"no host":            {ok, false, func(r *http.Request) { r.Host, r.URL.Host = "", "" }},
		"by a length":        {ok, false, func(r *http.Request) { r.ContentLength = 5 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newRawUpstream(t, c.answer, c.cut)
			rt := newTransport(t, "own leaf", u.addr)
			body := &countedBody{Reader: strings.NewReader("hello"), done: make(chan struct{})}
			req, _ := http.NewRequest(http.MethodPost, "http://svc/", body)
			req.ContentLength = -1
			c.change(req)
			resp, err := rt.RoundTrip(req)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			u.again(rt) // what sent the body has ended by then, or soon does
			<-body.done
			if n := body.closed.Load(); n != 1 {
				t.Errorf("closed %d times", n)
			}
		})
	}
	dead := newTransport(t, "own leaf", loopback.Dead(t))
	body := &countedBody{Reader: strings.NewReader("hello")}
	req, _ := http.NewRequest(http.MethodPost, "http://svc/", body)
	if _, err := dead.RoundTrip(req); err == nil || body.closed.Load() != 1 {
		t.Errorf("%v, closed %d times", err, body.closed.Load())
	}
}

// TestExpectContinue: the body waits until it is asked for, for a second at most, and does not go where it is not wanted.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	final := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for name, c := range map[string]struct {
		first string // what the endpoint says to the head
		body  bool   // whether it waits for the body then
		want  int
		took  time.Duration
	}{
		"asked for":       {"HTTP/1.1 100 Continue\r\n\r\n", true, 200, 0},
		"not asked for":   {"", true, 200, time.Second},
		"refused":         {"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n", false, 417, 0},
		"answered before": {final, false, 200, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var conns atomic.Int32
				rt := pipeLeaf(t, func(w net.Conn, br *bufio.Reader) {
					conns.Add(1)
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					if _, err = io.WriteString(w, c.first); err == nil && c.body {
						if b, _ := io.ReadAll(req.Body); string(b) != "hello" {
							t.Errorf("body %q", b)
						}
						_, _ = io.WriteString(w, final)
					} else if b, _ := io.ReadAll(br); len(b) > 0 {
						t.Errorf("%q came all the same", b)
					}
				})
				body := &countedBody{Reader: strings.NewReader("hello")}
				req, _ := http.NewRequest(http.MethodPut, "http://svc/", body)
				req.Header.Set("Expect", "100-continue")
				began := time.Now()
				resp, err := rt.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				took := time.Since(began)
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				time.Sleep(time.Minute)
				if resp.StatusCode != c.want || took != c.took || body.closed.Load() != 1 {
					t.Errorf("%d after %v, body closed %d times", resp.StatusCode, took, body.closed.Load())
				}
			})
		})
	}
}

// TestEarlyAnswer: an answer counts although the request is not sent yet, and although it cannot be sent any more.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	for _, end := range []bool{false, true} {
		addr := serveRaw(t, func(c net.Conn, br *bufio.Reader) {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
			if !end {
				_, _ = io.Copy(io.Discard, br)
			}
		})
		rt := newTransport(t, "own leaf", addr)
		pr, pw := io.Pipe()
		req, _ := http.NewRequest(http.MethodPost, "http://svc/", pr)
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != 413 || string(b) != "no" || err != nil {
			t.Errorf("%d %q %v", resp.StatusCode, b, err)
		}
		for { // until the body is given up
			if _, err := io.WriteString(pw, strings.Repeat("v", 1<<16)); err != nil {
				break
			}
		}
	}
}

// TestBothWaysAtOnce: request and answer stream at the same time.
func TestBothWaysAtOnce(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		_ = rc.Flush()
		br := bufio.NewReader(r.Body)
		for {
			line, err := br.ReadString('\n')
			_, _ = io.WriteString(w, strings.ToUpper(line))
			_ = rc.Flush()
			if err != nil {
				return
			}
		}
	})
	rt := newTransport(t, "own leaf", addr)
	pr, pw := io.Pipe()
	req, _ := http.NewRequest(http.MethodPost, "http://svc/", pr)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(resp.Body)
	for i := range 20 {
		_, _ = fmt.Fprintf(pw, "line %d\n", i)
		if line, err := br.ReadString('\n'); line != fmt.Sprintf("LINE %d\n", i) {
			t.Fatalf("%q, %v", line, err)
		}
	}
	_ = pw.Close()
	if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

// TestUpgrade: the connection is the caller's after 101, with what came early.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	for _, kind := range transports[1:] {
		addr := serveRaw(t, func(c net.Conn, br *bufio.Reader) {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ")
			_, _ = io.Copy(c, br)
		})
		rt := newTransport(t, kind, addr)
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://svc/", nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		cancel() // it is not the call's any more
		rwc, ok := resp.Body.(io.ReadWriteCloser)
		if !ok || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "echo" {
			t.Fatalf("%s: %T %v", kind, resp.Body, resp.Status)
		}
		_, _ = io.WriteString(rwc, "and late")
		got := make([]byte, len("early and late"))
		if _, err := io.ReadFull(rwc, got); string(got) != "early and late" {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
		_, _ = rwc.Close(), rwc.Close()
	}
}

// TestTrace: the hooks of net/http/httptrace are called, in the same order by both leaves.
func TestTrace(t *testing.T) {
	t.Parallel()
	for _, kind := range transports[1:] {
		u := newRawUpstream(t, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false)
		rt := newTransport(t, kind, u.addr)
		var want string
		for i := range 2 {
			var mu sync.Mutex
			var events []string
			note := func(format string, args ...any) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, fmt.Sprintf(format, args...))
			}
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GetConn:              func(string) { note("get") },
				GotConn:              func(i httptrace.GotConnInfo) { note("got %v %v", i.Reused, i.WasIdle) },
				ConnectDone:          func(string, string, error) { note("connected") },
				WroteHeaderField:     func(name string, _ []string) { note("field %s", name) },
				WroteHeaders:         func() { note("headers") },
				WroteRequest:         func(i httptrace.WroteRequestInfo) { note("request %v", i.Err) },
				GotFirstResponseByte: func() { note("byte") },
				Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					note("%d %s", code, h.Get("Link"))
					return nil
				},
			})
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://svc/", nil)
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			want = "get got true true field Host field User-Agent headers request <nil> byte 103 </a>"
			if i == 0 {
				want = "get connected got false false field Host field User-Agent headers request <nil> byte 103 </a>"
			}
			mu.Lock()
			if got := strings.Join(events, " "); got != want {
				t.Errorf("%s, request %d:\n got %s\nwant %s", kind, i, got, want)
			}
			mu.Unlock()
		}
	}
}

// TestTraceEndsTheCall: an error of the program's hook is the call's.
func TestTraceEndsTheCall(t *testing.T) {
	t.Parallel()
	u := newRawUpstream(t, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false)
	rt := newTransport(t, "own leaf", u.addr)
	own := errors.New("enough")
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { return own }})
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://svc/", nil)
	if _, err := rt.RoundTrip(req); !errors.Is(err, own) {
		t.Error(err)
	}
}

// TestBodyClosing: reading after the end and after Close, closing twice, closing while somebody reads.
func TestBodyClosing(t *testing.T) {
	t.Parallel()
	get := func(rt http.RoundTripper) *http.Response {
		req, _ := http.NewRequest(http.MethodGet, "http://svc/", nil)
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	var one [1]byte
	u := newRawUpstream(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false)
	rt := newTransport(t, "own leaf", u.addr)
	resp := get(rt)
	_, _ = io.ReadAll(resp.Body)
	if _, err := resp.Body.Read(one[:]); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	_, _ = resp.Body.Close(), resp.Body.Close()
	if _, err := resp.Body.Read(one[:]); err == nil || err == io.EOF {
		t.Errorf("after Close: %v", err)
	}
	// What has come already costs no connection, read or not.
	resp = get(rt)
	_, _ = resp.Body.Read(one[:])
	_ = resp.Body.Close()
	if got := u.again(rt); got != " >> kept" {
		t.Errorf("after half a short body:%s", got)
	}
	// What has not does.
	u = newRawUpstream(t, "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\nok", false)
	rt = newTransport(t, "own leaf", u.addr)
	resp = get(rt)
	reading := make(chan error)
	go func() {
		_, err := io.ReadAll(resp.Body)
		reading <- err
	}()
	_ = resp.Body.Close()
	if err := <-reading; err == nil {
		t.Error("a read ends in peace when the body is closed")
	}
	if got := u.again(rt); got != " >> new" {
		t.Errorf("after half a long body:%s", got)
	}
}

// TestCloseIdleConnections: those that are idle go.
func TestCloseIdleConnections(t *testing.T) {
	t.Parallel()
	u := newRawUpstream(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false)
	rt := newTransport(t, "own leaf", u.addr)
	u.again(rt)
	if got := u.again(rt); got != " >> kept" {
		t.Error(got)
	}
	rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
	if got := u.again(rt); got != " >> new" {
		t.Error(got)
	}
}
