package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestServerCodecReverseProxy: the standard library's proxy, as a handler and behind middleware that wraps the writer.
func TestServerCodecReverseProxy(t *testing.T) { eachMode(t, testServerReverseProxy) }

type countingWriter struct {
	http.ResponseWriter
	n int
}

func (c *countingWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += n
	return n, err
}

func testServerReverseProxy(t *testing.T, opts ...InboundOption) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		b, err := io.ReadAll(r.Body)
		_, _ = w.Write(b)
		w.Header().Set("Sum", fmt.Sprint(len(b), err))
	}))
	defer up.Close()
	target, _ := url.Parse(up.URL)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, FlushInterval: -1,
		ErrorLog: log.New(io.Discard, "", 0)}
	in, l := inbound(t), listen(t)
	run(t, in, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxy.ServeHTTP(&countingWriter{ResponseWriter: w}, r)
	})}, l, opts...)
	c := client(t, false)
	for _, size := range []int{0, 10, 1 << 20} {
		resp, err := c.Post("http://"+l.Addr().String(), "text/plain", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		if got := body(t, resp); len(got) != size || resp.Trailer.Get("Sum") != fmt.Sprint(size, error(nil)) {
			t.Errorf("%d bytes of %d, trailer %v", len(got), size, resp.Trailer)
		}
	}
}

// TestServerCodecGoroutines: a connection costs one goroutine, idle or not.
func TestServerCodecGoroutines(t *testing.T) {
	in, l := inbound(t), listen(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	run(t, in, &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-leave
	})}, l, modes["codec"]...)
	const conns = 50
	var before int
	for i := range conns + 1 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		io.WriteString(c, get("/", ""))
		<-entered
		if i == 0 {
			before = runtime.NumGoroutine()
		}
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+conns; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines for %d connections more", runtime.NumGoroutine()-before, conns)
		}
	}
	close(leave)
}

// TestServerCodecHalfABody: who sends half a body that the handler does not want, and then nothing, has the answer all the same, as late as
// the head may be, and the connection ends.
func TestServerCodecHalfABody(t *testing.T) {
	t.Parallel()
	in, l := inbound(t), listen(t)
	srv := &http.Server{ReadHeaderTimeout: 100 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/duplex" {
			_ = http.NewResponseController(w).EnableFullDuplex()
		}
		io.WriteString(w, "no")
	})}
	run(t, in, srv, l, modes["codec"]...)
	for _, request := range []string{"POST / HTTP/1.1\r\nContent-Length: 100", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked", "POST /duplex HTTP/1.1\r\nContent-Length: 100"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		io.WriteString(c, request+"\r\nHost: a\r\n\r\n5\r\nhal")
		answer, err := io.ReadAll(c)
		if text := string(answer); err != nil || !strings.HasPrefix(text, "HTTP/1.1 200 ") || !strings.HasSuffix(text, "no") {
			t.Errorf("%q: %q, %v", request, text, err)
		}
	}
}

// TestServerCodecBuffers: idle connections hold none, and none is lost.
func TestServerCodecBuffers(t *testing.T) {
	t.Parallel()
	in, l := inbound(t), listen(t)
	var held atomic.Int64
	srv := &http.Server{Handler: http.HandlerFunc(echo), ErrorLog: log.New(io.Discard, "", 0)}
	own := in.Listener(l)
	in.begin(srv, own, modes["codec"]).codec.limits.Held = &held
	run(t, in, srv, own, modes["codec"]...)
	for _, text := range []string{post("Content-Length: 5\r\n", "hello"), post("Transfer-Encoding: chunked\r\n", "x\r\n"), "GET / HTTP/1.1\r\n\r\n",
		post("Content-Length: 50\r\n", "hello"), get("/", "") + get("/", "")} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, text)
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
	}
	for deadline := time.Now().Add(10 * time.Second); held.Load() != 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are held", held.Load())
		}
	}
}

// TestServerCodecLateUse: what a handler keeps of a request beyond its end touches no other.
func TestServerCodecLateUse(t *testing.T) {
	t.Parallel()
	in, l := inbound(t), listen(t)
	kept := make(chan http.ResponseWriter, 1)
	var request *http.Request
	run(t, in, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/first" {
			request = r
			kept <- w
			return
		}
		late := <-kept
		if _, err := io.WriteString(late, "late"); err == nil {
			t.Error("a late Write succeeds")
		}
		if _, err := request.Body.Read(make([]byte, 4)); err == nil {
			t.Error("a late Read succeeds")
		}
		rc := http.NewResponseController(late)
		if rc.SetReadDeadline(past) == nil || rc.SetWriteDeadline(past) == nil || rc.Flush() == nil {
			t.Error("late control succeeds")
		}
		if _, _, err := rc.Hijack(); err == nil {
			t.Error("a late Hijack succeeds")
		}
		late.WriteHeader(500)
		fmt.Fprint(w, request.URL.Path, request.Header.Get("A"))
	})}, l, modes["codec"]...)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	io.WriteString(c, "POST /first HTTP/1.1\r\nHost: a\r\nA: kept\r\nContent-Length: 2\r\n\r\nhi"+get("/second", "A: other\r\n"))
	for _, want := range []string{"", "/firstkept"} {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := body(t, resp); got != want || resp.StatusCode != 200 {
			t.Errorf("%d %q, want %q", resp.StatusCode, got, want)
		}
	}
}

// TestServerCodecDeadlines: a handler bounds its own reads, and the next request has no bound.
func TestServerCodecDeadlines(t *testing.T) { eachMode(t, testServerDeadlines) }

func testServerDeadlines(t *testing.T, opts ...InboundOption) {
	in, l := inbound(t), listen(t)
	run(t, in, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetReadDeadline(past); err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/body" {
			if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Read: %v", err)
			}
		}
	})}, l, opts...)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for _, text := range []string{get("/", ""), get("/", ""), "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"} {
		io.WriteString(c, text)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		body(t, resp)
	}
}

// TestServerCodecHTTP2: both ways into HTTP/2 go past the codec, and Shutdown waits for them too.
func TestServerCodecHTTP2(t *testing.T) {
	t.Parallel()
	in, l := inbound(t), listen(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		fmt.Fprint(w, r.Proto)
	})}
	run(t, in, srv, l, modes["codec"]...)
	got := make(chan string, 1)
	c := client(t, true)
	go func() {
		resp, err := c.Get("http://" + l.Addr().String())
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		got <- string(b)
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := in.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	close(leave)
	if proto := <-got; proto != "HTTP/2.0" {
		t.Errorf("got %q", proto)
	}
	if err := in.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
