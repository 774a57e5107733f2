package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/discovery"
)

// inbound is the receiving side of a mesh without configuration.
func inbound(t testing.TB) *Inbound {
	t.Helper()
	e := NewEngine(Config{Registry: new(discovery.Registry), Pools: new(noopPools)})
	t.Cleanup(e.Close)
	return NewInbound(e)
}

// run serves until the test ends and checks how Serve ends.
func run(t testing.TB, in *Inbound, srv *http.Server, l net.Listener, opts ...InboundOption) {
	t.Helper()
	if srv.ErrorLog == nil {
		srv.ErrorLog = log.New(io.Discard, "", 0)
	}
	ended := make(chan error, 1)
	go func() { ended <- in.Serve(srv, l, opts...) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve ended with %v", err)
		}
	})
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// eachMode runs a test with HTTP/1.1 of net/http and of the server codec.
func eachMode(t *testing.T, test func(*testing.T, ...InboundOption)) {
	for name, opts := range modes {
		t.Run(name, func(t *testing.T) { test(t, opts...) })
	}
}

// modes are the two that Serve has for HTTP/1.1.
var modes = map[string][]InboundOption{"net/http": nil, "codec": {WithServerCodec(nil)}}

// client speaks the protocol and nothing else.
func client(t testing.TB, h2c bool) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols), ExpectContinueTimeout: time.Minute}
	if h2c {
		tr.Protocols.SetUnencryptedHTTP2(true)
	} else {
		tr.Protocols.SetHTTP1(true)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// TestServeSpeaksAllOfHTTP: what a program could do with net/http it can do behind Serve.
func TestServeSpeaksAllOfHTTP(t *testing.T) { eachMode(t, testServeSpeaksAllOfHTTP) }

func testServeSpeaksAllOfHTTP(t *testing.T, opts ...InboundOption) {
	t.Parallel()
	file := t.TempDir() + "/f"
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	next := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/proto", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			<-next
		}
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %s", b, r.Trailer.Get("X-In"))
		w.Header().Set("X-Sum", "42")
	})
	in := inbound(t)
	l := listen(t)
	run(t, in, &http.Server{Handler: mux}, l, opts...)
	base := "http://" + l.Addr().String()
	for proto, h2c := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		c := client(t, h2c)
		do := func(req *http.Request) *http.Response {
			t.Helper()
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		get := func(path string) *http.Response {
			req, _ := http.NewRequest("GET", base+path, nil)
			return do(req)
		}
		if got := body(t, get("/proto")); got != proto {
			t.Errorf("spoke %s, want %s", got, proto)
		}
		if got := body(t, get("/file")); len(got) != 1<<20 {
			t.Errorf("%s: a file of %d bytes", proto, len(got))
		}
		resp := get("/events")
		events := bufio.NewReader(resp.Body)
		for i := range 3 { // each arrives before the handler goes on
			if line, err := events.ReadString('\n'); line != fmt.Sprintf("data: %d\n", i) || err != nil {
				t.Errorf("%s: event %q, %v", proto, line, err)
			}
			events.ReadString('\n')
			next <- struct{}{}
		}
		resp.Body.Close()
		req, _ := http.NewRequest("POST", base+"/trailers", io.NopCloser(strings.NewReader("body")))
		req.Trailer = http.Header{"X-In": {"7"}}
		req.Header.Set("Expect", "100-continue")
		var continued atomic.Bool
		trace := &httptrace.ClientTrace{Got100Continue: func() { continued.Store(true) }}
		resp = do(req.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
		if got := body(t, resp); got != "body 7" || resp.Trailer.Get("X-Sum") != "42" || !continued.Load() {
			t.Errorf("%s: %q, trailer %v, 100-continue %v", proto, got, resp.Trailer, continued.Load())
		}
	}
}

func TestServeHijack(t *testing.T) { eachMode(t, testServeHijack) }

func testServeHijack(t *testing.T, opts ...InboundOption) {
	t.Parallel()
	in := inbound(t)
	l := listen(t)
	run(t, in, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		rw.Flush()
		io.Copy(c, rw)
	})}, l, opts...)
	req, _ := http.NewRequest("GET", "http://"+l.Addr().String(), nil)
	req.Header.Set("Connection", "upgrade")
	req.Header.Set("Upgrade", "websocket")
	resp, err := client(t, false).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	rwc, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("status %d, %v, body %T", resp.StatusCode, resp.Header, resp.Body)
	}
	defer rwc.Close()
	io.WriteString(rwc, "ping")
	rwc.(interface{ CloseWrite() error }).CloseWrite()
	if got, err := io.ReadAll(rwc); string(got) != "ping" || err != nil {
		t.Errorf("echoed %q, %v", got, err)
	}
}

// TestSilentConnectionsBlockNobody: two hundred that say nothing, and one that does.
func TestSilentConnectionsBlockNobody(t *testing.T) { eachMode(t, testSilentConnectionsBlockNobody) }

func testSilentConnectionsBlockNobody(t *testing.T, opts ...InboundOption) {
	t.Parallel()
	in := inbound(t)
	l := in.Listener(listen(t))
	l.(*listener).slots = make(chan struct{}, 150) // fewer than are silent
	run(t, in, &http.Server{Handler: http.NotFoundHandler()}, l, opts...)
	for range 200 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	c := client(t, false)
	c.Timeout = SniffTimeout / 2
	for range 10 {
		resp, err := c.Get("http://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		c.CloseIdleConnections() // each on a connection of its own
	}
	if n := in.Counts().Crowded; n == 0 || n > 60 {
		t.Errorf("%d of 200 were evicted over 150 places", n)
	}
}

func TestServeConfigures(t *testing.T) {
	t.Parallel()
	in := inbound(t)
	configured := func(srv *http.Server) *http.Server {
		l := listen(t)
		l.Close()
		if err := in.Serve(srv, l); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve on a closed listener: %v", err)
		}
		return srv
	}
	srv := configured(&http.Server{})
	if srv.MaxHeaderBytes != 64<<10 || srv.ReadHeaderTimeout != 10*time.Second || srv.IdleTimeout != time.Hour ||
		srv.HTTP2.MaxConcurrentStreams != 100 || srv.Protocols.String() != "{HTTP1,HTTP2,UnencryptedHTTP2}" {
		t.Errorf("defaults: %+v", srv)
	}
	first := srv.Handler
	if configured(srv); srv.Handler != first {
		t.Error("the second Serve wrapped the handler again")
	}
	own := in.Handler(nil)
	if configured(&http.Server{Handler: own, DisableGeneralOptionsHandler: true}).Handler != own {
		t.Error("a handler wrapped by Handler was wrapped again")
	}
	h2 := &http.HTTP2Config{MaxReadFrameSize: 1 << 16}
	srv = configured(&http.Server{MaxHeaderBytes: 1, ReadTimeout: time.Second, HTTP2: h2,
		Protocols: new(http.Protocols)})
	if srv.MaxHeaderBytes != 1 || srv.ReadHeaderTimeout != 0 || srv.IdleTimeout != 0 || srv.Protocols.String() != "{}" ||
		srv.HTTP2.MaxReadFrameSize != 1<<16 || srv.HTTP2.MaxConcurrentStreams != 100 || h2.MaxConcurrentStreams != 0 {
		t.Errorf("the program's own settings: %+v, %+v", srv, h2)
	}
	srv = configured(&http.Server{ReadHeaderTimeout: -1, IdleTimeout: time.Minute, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 7},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}})
	if srv.ReadHeaderTimeout != -1 || srv.IdleTimeout != time.Minute || srv.HTTP2.MaxConcurrentStreams != 7 || srv.Protocols.String() != "{HTTP1}" {
		t.Errorf("the program's own settings: %+v", srv)
	}
	if err := in.Serve(nil, listen(t)); err == nil {
		t.Error("Serve without a server succeeded")
	}
	if err := in.Serve(&http.Server{}, nil); err == nil {
		t.Error("Serve without a listener succeeded")
	}
}

// TestServeOnTwoListeners: concurrently, and with the handler wrapped once.
func TestServeOnTwoListeners(t *testing.T) { eachMode(t, testServeOnTwoListeners) }

func testServeOnTwoListeners(t *testing.T, opts ...InboundOption) {
	t.Parallel()
	in := inbound(t)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })}
	srv.ErrorLog = log.New(io.Discard, "", 0)
	c := client(t, false)
	var addrs []string
	for range 2 {
		l := in.Listener(listen(t))
		if in.Listener(l) != l {
			t.Error("a Listener was wrapped in another")
		}
		run(t, in, srv, l, opts...)
		addrs = append(addrs, l.Addr().String())
	}
	for _, addr := range addrs {
		resp, err := c.Get("http://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		body(t, resp)
	}
}

func TestShutdown(t *testing.T) { eachMode(t, testShutdown) }

func testShutdown(t *testing.T, opts ...InboundOption) {
	t.Parallel()
	in := inbound(t)
	l := listen(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		io.WriteString(w, "finished")
	})}
	run(t, in, srv, l, opts...)
	idle := listen(t)
	run(t, in, &http.Server{}, idle, opts...)
	var wg sync.WaitGroup
	wg.Go(func() {
		resp, err := client(t, false).Get("http://" + l.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		if got := body(t, resp); got != "finished" {
			t.Errorf("the request under way got %q", got)
		}
	})
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := in.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown with a request under way: %v", err)
	}
	for _, l := range []net.Listener{l, idle} {
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a listener takes connections after Shutdown: %v", err)
		}
	}
	if err := in.Serve(&http.Server{}, listen(t)); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
	wg.Go(func() {
		if err := in.Shutdown(t.Context()); err != nil {
			t.Errorf("the second Shutdown: %v", err)
		}
	})
	close(leave)
	wg.Wait()
}

// TestServersAreForgotten: an Inbound does not keep what its owner has shut down.
func TestServersAreForgotten(t *testing.T) { eachMode(t, testServersAreForgotten) }

func testServersAreForgotten(t *testing.T, opts ...InboundOption) {
	t.Parallel()
	in := inbound(t)
	for range 3 {
		srv := httptest.NewUnstartedServer(nil)
		ended := make(chan error, 1)
		go func() { ended <- in.Serve(srv.Config, srv.Listener, opts...) }()
		if err := srv.Config.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-ended
	}
	if n := len(in.servers); n != 0 {
		t.Errorf("%d servers kept", n)
	}
	in.engine.Close()
	if err := in.Serve(&http.Server{}, listen(t)); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve after Close: %v", err)
	}
}

// TestServeLeavesNothing: connections in every state, and then no goroutine.
func TestServeLeavesNothing(t *testing.T) { eachMode(t, testServeLeavesNothing) }

func testServeLeavesNothing(t *testing.T, opts ...InboundOption) {
	before := runtime.NumGoroutine()
	in := inbound(t)
	l := listen(t)
	srv := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan error, 1)
	go func() { ended <- in.Serve(srv, l, opts...) }()
	for i := range 60 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		io.WriteString(c, []string{"", "\x16", "G", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI"}[i%6])
	}
	srv.Close()
	<-ended
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}

// wheelTicks is how much later than said a deadline of the codec's wheel comes.
const wheelTicks = 200 * time.Millisecond

// TestServeEndsSlowRequests: B-050 — a header that does not come to its end, in whatever protocol it might be.
func TestServeEndsSlowRequests(t *testing.T) { eachMode(t, testServeEndsSlowRequests) }

func testServeEndsSlowRequests(t *testing.T, opts ...InboundOption) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in, l := inbound(t), newPipes()
		srv := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: log.New(io.Discard, "", 0)}
		ended := make(chan error, 1)
		go func() { ended <- in.Serve(srv, l, opts...) }()
		for _, begin := range []string{"G", "P", "PRI * HTTP/2.0", "GET / HTTP/1.1\r\nX: "} {
			c := l.dial(t)
			began := time.Now()
			var dripping sync.WaitGroup
			dripping.Go(func() {
				io.WriteString(c, begin)
				for err := error(nil); err == nil; _, err = io.WriteString(c, "x") {
					<-time.After(time.Second)
				}
			})
			if _, err := io.Copy(io.Discard, c); err != nil || time.Since(began) > DefaultReadHeaderTimeout+wheelTicks {
				t.Errorf("%q: left open for %v, %v", begin, time.Since(began), err)
			}
			c.Close()
			dripping.Wait()
		}
		srv.Close()
		<-ended
	})
}

// TestShutdownResetsNobody: clients come all the time, each on a connection of its own; whoever is connected
// is answered.
func TestShutdownResetsNobody(t *testing.T) { eachMode(t, testShutdownResetsNobody) }

func testShutdownResetsNobody(t *testing.T, opts ...InboundOption) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("without Linux a connection is reset now and then")
	}
	for range 20 {
		in := inbound(t)
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		run(t, in, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") })}, l, opts...)
		var clients sync.WaitGroup
		var served atomic.Int32
		over := make(chan struct{})
		for range 4 {
			clients.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
					}
					visit(t, l.Addr().String(), &served)
				}
			})
		}
		for served.Load() < 20 {
			visit(t, l.Addr().String(), &served)
		}
		if err := in.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		close(over)
		clients.Wait()
	}
}

// visit fails the test where a connection that was made gets no answer.
func visit(t *testing.T, addr string, served *atomic.Int32) {
	began := time.Now()
	conn, err := net.DialTimeout("tcp", addr, 50*time.Millisecond) // a dropped SYN is sent again after a second
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	spoke := time.Since(began)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		if spoke > speakTime/2 {
			return // the machine was busy: nobody waits for a client that is silent so long
		}
		t.Errorf("a connection that was made got %v", err)
		return
	}
	if got := body(t, resp); got != "served" {
		t.Errorf("a connection that was made got %q", got)
	}
	served.Add(1)
}

// TestServeOptionsAsterisk: OPTIONS * goes through Handler like every request. Then it is answered as net/http does, or by
// the program where that wants it.
func TestServeOptionsAsterisk(t *testing.T) { eachMode(t, testServeOptionsAsterisk) }

func testServeOptionsAsterisk(t *testing.T, opts ...InboundOption) {
	t.Parallel()
	ask := func(t *testing.T, base, fields string) (*http.Response, string) {
		t.Helper()
		c, err := net.Dial("tcp", base)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "OPTIONS * HTTP/1.1\r\nHost: a\r\n%sConnection: close\r\n\r\n", fields)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		return resp, body(t, resp)
	}
	program := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "id "+r.Header.Get("X-Request-Id")) })
	for _, own := range []bool{false, true} {
		for _, wrapped := range []bool{false, true} {
			in, l := inbound(t), listen(t)
			srv := &http.Server{Handler: program, DisableGeneralOptionsHandler: own}
			if wrapped {
				srv.Handler = in.Handler(srv.Handler)
			}
			run(t, in, srv, l, opts...)
			resp, text := ask(t, l.Addr().String(), "")
			if resp.StatusCode != http.StatusOK || own == (text == "") || own && text == "id " || !own && resp.ContentLength != 0 {
				t.Errorf("own %v, wrapped %v: %s, %q", own, wrapped, resp.Status, text)
			}
			if resp, _ := ask(t, l.Addr().String(), strings.Repeat("A: b\r\n", MaxHeaderFields)); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("own %v, wrapped %v: %s past Handler", own, wrapped, resp.Status)
			}
			if resp, _ := ask(t, l.Addr().String(), "Content-Length: 3\r\n\r\nabc"); resp.StatusCode != http.StatusOK {
				t.Errorf("own %v, wrapped %v: %s for a body", own, wrapped, resp.Status)
			}
		}
	}
}
