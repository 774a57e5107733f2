package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

// rig is an engine with one host, "svc" on port 80, over the given endpoints.
type rig struct {
	engine   *Engine
	registry *discovery.Registry
	rt       *RoundTripper
	client   *http.Client
	route    *routing.Route
}

var key = discovery.Key{Host: "svc", Port: 80}

func newRig(t testing.TB, proto snapshot.Protocol, pools Pools, addrs ...string) *rig {
	t.Helper()
	registry := new(discovery.Registry)
	publish(registry, addrs...)
	if pools == nil {
		pools = NewLeaves(nil, nil)
	}
	through := &http.Transport{}
	r := &rig{registry: registry, engine: NewEngine(Config{Registry: registry, Pools: pools})}
	r.rt = NewRoundTripper(r.engine, through)
	r.client = &http.Client{Transport: r.rt}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		r.engine.Close()
	})
	retry := resilience.DefaultRetry()
	r.route = &routing.Route{Name: "r", Retry: &retry, Split: []routing.Destination{{Cluster: "outbound|80||svc"}}}
	r.publish(t, snapshot.Policy{Protocol: proto})
	return r
}

func publish(registry *discovery.Registry, addrs ...string) {
	var eps []discovery.Endpoint
	for _, a := range addrs {
		eps = append(eps, discovery.Endpoint{Address: discovery.Address{Network: "tcp", Addr: a}})
	}
	registry.Publish(key, discovery.NewSet(eps...))
}

func (r *rig) publish(t testing.TB, p snapshot.Policy) {
	t.Helper()
	table := routing.NewTable([]*routing.VirtualHost{{Host: "svc", Port: 80, HTTP: true, Routes: []*routing.Route{r.route}, Default: r.route}})
	err := r.engine.Publish(t.Context(), &snapshot.Snapshot{
		Version: "1", Tables: map[string]*routing.Table{snapshot.Mesh: table},
		Clusters: []snapshot.Cluster{{Name: "outbound|80||svc", Set: key, Policy: p}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func body(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRequestGoesDownUntouched(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Host, r.RequestURI)
	})
	r := newRig(t, snapshot.HTTP1, nil, addr)
	req, _ := http.NewRequest("GET", "http://svc/a%2Fb?x=1;y", nil)
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, resp); got != "GET svc /a%2Fb?x=1;y" {
		t.Errorf("upstream saw %q", got)
	}
	if resp.Request != req {
		t.Error("the leaf got a copy of a request that needed none")
	}
}

func TestCanonicalPathIsSent(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) })
	r := newRig(t, snapshot.HTTP1, nil, addr)
	req, _ := http.NewRequest("GET", "http://svc/a/../%62%2Fc?q", nil)
	before := *req.URL
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, resp); got != "/b%2Fc?q" {
		t.Errorf("upstream saw %q", got)
	}
	if *req.URL != before {
		t.Error("the caller's URL was changed")
	}
	_, err = r.client.Get("http://svc/a%00b")
	if call.ReasonOf(err) != call.ReasonInvalidRequest {
		t.Errorf("a NUL in the path gave %v", err)
	}
}

// TestConnectFailureIsRetriedElsewhere: nothing was sent, so every method qualifies, body and all.
func TestConnectFailureIsRetriedElsewhere(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %q", r.Method, b)
	})
	bodies := map[string]func() io.Reader{
		"rewindable": func() io.Reader { return strings.NewReader("payload") },
		"once only":  func() io.Reader { return io.NopCloser(strings.NewReader("payload")) },
		"none":       func() io.Reader { return nil },
	}
	for name, mk := range bodies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, snapshot.HTTP1, nil, loopback.Dead(t), addr)
			twice := 0
			for range 40 {
				var info CallInfo
				req, _ := http.NewRequestWithContext(Capture(t.Context(), &info), "POST", "http://svc/", mk())
				resp, err := r.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				want := `POST "payload"`
				if name == "none" {
					want = `POST ""`
				}
				if got := body(t, resp); got != want {
					t.Fatalf("upstream saw %s", got)
				}
				if info.Endpoint != addr || info.Attempts < 1 || info.Attempts > 2 {
					t.Fatalf("info %+v", &info)
				}
				twice += info.Attempts - 1
			}
			if twice == 0 {
				t.Error("the dead endpoint was never picked: the test proves nothing")
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	hang := serve(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	reset := serve(t, func(w http.ResponseWriter, r *http.Request) {
		c, _, _ := w.(http.Hijacker).Hijack()
		c.Close()
	})
	dead := loopback.Dead(t)
	t.Run("connect", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, snapshot.HTTP1, nil, dead)
		_, err := r.client.Get("http://svc/")
		var e *call.Error
		if !errors.As(err, &e) || e.Reason != call.ReasonConnect || e.Flag() != "UF" || e.Attempts != 3 ||
			!errors.Is(err, syscall.ECONNREFUSED) || e.Endpoint != dead || e.Route != "r" || e.HTTPStatus() != 503 {
			t.Errorf("%v: %+v", err, e)
		}
	})
	t.Run("reset, POST is not repeated", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, snapshot.HTTP1, nil, reset)
		_, err := r.client.Post("http://svc/", "", strings.NewReader("x"))
		var e *call.Error
		if !errors.As(err, &e) || e.Reason != call.ReasonReset || e.Attempts != 1 {
			t.Errorf("%v: %+v", err, e)
		}
	})
	t.Run("caller cancels", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, snapshot.HTTP1, nil, hang)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://svc/", nil)
		_, err := r.client.Do(req)
		if !errors.Is(err, context.DeadlineExceeded) || call.ReasonOf(err) != call.ReasonCanceled {
			t.Errorf("%v", err)
		}
		if c := r.engine.Clusters()[0].Endpoints[0].Counts; c.Failed != 0 || c.Active != 0 {
			t.Errorf("the endpoint was blamed: %+v", c)
		}
	})
	t.Run("the program's body fails", func(t *testing.T) {
		t.Parallel()
		ok := serve(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
		r := newRig(t, snapshot.HTTP1, nil, ok)
		cause := errors.New("disk on fire")
		_, err := r.client.Post("http://svc/", "", io.MultiReader(strings.NewReader("abc"), failing{cause}))
		if !errors.Is(err, cause) || call.ReasonOf(err) != call.ReasonCanceled {
			t.Errorf("%v", err)
		}
		if c := r.engine.Clusters()[0].Endpoints[0].Counts; c.Failed != 0 || c.Active != 0 {
			t.Errorf("the endpoint was blamed: %+v", c)
		}
	})
	t.Run("no endpoint", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, snapshot.HTTP1, nil)
		_, err := r.client.Get("http://svc/")
		if call.ReasonOf(err) != call.ReasonNoEndpoint || !strings.Contains(err.Error(), "has no endpoints") {
			t.Errorf("%v", err)
		}
	})
	t.Run("undeclared port names the others", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, snapshot.HTTP1, nil, dead)
		_, err := r.client.Get("http://svc:81/")
		if err == nil || !strings.Contains(err.Error(), "does not know the host on port 81, but on 80") {
			t.Errorf("%v", err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, snapshot.HTTP1, nil, dead)
		r.engine.Close()
		closed := &closeCounter{Reader: strings.NewReader("x")}
		_, err := r.client.Post("http://svc/", "", closed)
		if call.ReasonOf(err) != call.ReasonClosed || closed.n.Load() == 0 {
			t.Errorf("%v, body closed %d times", err, closed.n.Load())
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type closeCounter struct {
	io.Reader
	n atomic.Int32
}

func (c *closeCounter) Close() error { c.n.Add(1); return nil }

// TestLoadLastsToTheBodysEnd: an endpoint is busy until the response has been read, and is then free.
func TestLoadLastsToTheBodysEnd(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	r := newRig(t, snapshot.HTTP1, nil, addr)
	active := func() int64 { return r.engine.Clusters()[0].Endpoints[0].Counts.Active }
	for name, finish := range map[string]func(*http.Response){
		"read":         func(resp *http.Response) { io.Copy(io.Discard, resp.Body) },
		"closed":       func(resp *http.Response) { resp.Body.Close() },
		"closed twice": func(resp *http.Response) { resp.Body.Close(); resp.Body.Close() },
	} {
		resp, err := r.client.Get("http://svc/")
		if err != nil {
			t.Fatal(err)
		}
		if active() != 1 {
			t.Errorf("%s: %d active while the body is open", name, active())
		}
		finish(resp)
		if active() != 0 {
			t.Errorf("%s: %d active at the end", name, active())
		}
		resp.Body.Close()
	}
	resp, err := r.client.Head("http://svc/")
	if err != nil || active() != 0 {
		t.Errorf("HEAD: %v, %d active", err, active())
	}
	resp.Body.Close()
}

func TestUpgradeTrailersAndInformational(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			c, rw, _ := w.(http.Hijacker).Hijack()
			defer c.Close()
			io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
			rw.Flush()
			io.Copy(c, rw)
			return
		}
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "body")
		w.Header().Set("X-Sum", "42")
	})
	r := newRig(t, snapshot.HTTP1, nil, addr)
	resp, err := r.client.Get("http://svc/")
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, resp); got != "body" || resp.Trailer.Get("X-Sum") != "42" {
		t.Errorf("body %q, trailer %v", got, resp.Trailer)
	}
	req, _ := http.NewRequest("GET", "http://svc/", nil)
	req.Header.Set("Connection", "upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err = r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	rwc, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != 101 {
		t.Fatalf("status %d, body %T", resp.StatusCode, resp.Body)
	}
	io.WriteString(rwc, "ping")
	rwc.(interface{ CloseWrite() error }).CloseWrite()
	if got, err := io.ReadAll(rwc); string(got) != "ping" || err != nil {
		t.Errorf("echoed %q, %v", got, err)
	}
	rwc.Close()
}

func TestH2C(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto)
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	r := newRig(t, snapshot.HTTP2, nil, s.Listener.Addr().String())
	resp, err := r.client.Get("http://svc/")
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, resp); got != "HTTP/2.0" {
		t.Errorf("the upstream was spoken to in %s", got)
	}
}

// TestConcurrentChurn: endpoints, snapshots and calls change together; nothing fails, nothing leaks.
func TestConcurrentChurn(t *testing.T) {
	t.Parallel()
	a := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "a") })
	b := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "b") })
	r := newRig(t, snapshot.HTTP1, nil, a, b)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				resp, err := r.client.Get("http://svc/")
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	wg.Go(func() {
		for i := range 100 {
			publish(r.registry, [][]string{{a}, {b}, {a, b}}[i%3]...)
		}
	})
	wg.Go(func() {
		for range 100 {
			r.publish(t, snapshot.Policy{ConnectTimeout: time.Second})
		}
	})
	wg.Wait()
	for _, e := range r.engine.Clusters()[0].Endpoints {
		if e.Counts.Active != 0 {
			t.Errorf("%s: %d active at the end", e.Address, e.Counts.Active)
		}
	}
}

// TestStateOutlivesSnapshots: a record keeps its counts through publications and set changes.
func TestStateOutlivesSnapshots(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	r := newRig(t, snapshot.HTTP1, nil, addr)
	get := func() {
		resp, err := r.client.Get("http://svc/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	get()
	r.publish(t, snapshot.Policy{ConnectTimeout: time.Minute})
	get()
	r.registry.Publish(key, discovery.NewSet(discovery.Endpoint{
		Address: discovery.Address{Network: "tcp", Addr: addr}, Weight: 7, Labels: map[string]string{"version": "v2"}}))
	get()
	e := r.engine.Clusters()[0].Endpoints[0]
	if e.Counts.Total != 3 || e.Weight != 7 {
		t.Errorf("%+v", e)
	}
}

func TestExplainAgreesWithCalls(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	r := newRig(t, snapshot.HTTP1, nil, addr)
	req, _ := http.NewRequest("GET", "http://svc/x", nil)
	q, ok := View(req)
	if !ok {
		t.Fatal("no view")
	}
	d := r.engine.Explain(q)
	if d.Verdict != "forward" || d.Route != "r" || d.Destinations[0].Endpoints[0].Address != addr {
		t.Errorf("%+v", d)
	}
}

// TestReplayOverlap: the bytes that an abandoned attempt's last read brings are not lost to the next.
func TestReplayOverlap(t *testing.T) {
	t.Parallel()
	src := &blockingReader{data: bytes.Repeat([]byte("0123456789"), 1000), gate: make(chan struct{})}
	rp := newReplay(&http.Request{Body: io.NopCloser(src)})
	first := rp.body()
	buf := make([]byte, 4)
	if _, err := io.ReadFull(first, buf); err != nil {
		t.Fatal(err)
	}
	src.block.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		first.Read(make([]byte, 100)) // blocks in the source
	}()
	<-src.gate // it is in there
	second := rp.body()
	src.block.Store(false)
	src.gate <- struct{}{}
	<-done
	got, err := io.ReadAll(second)
	if err != nil || !bytes.Equal(got, src.data) {
		t.Errorf("second attempt read %d bytes of %d, %v", len(got), len(src.data), err)
	}
}

type blockingReader struct {
	data  []byte
	off   int
	block atomic.Bool
	gate  chan struct{}
}

func (b *blockingReader) Read(p []byte) (int, error) {
	if b.block.Load() {
		b.gate <- struct{}{}
		<-b.gate
	}
	if b.off == len(b.data) {
		return 0, io.EOF
	}
	n := copy(p, b.data[b.off:])
	b.off += n
	return n, nil
}

// FuzzReplay: whatever the order of reads and attempts, every attempt that can go on reads the source's
// bytes from the first, and none twice.
func FuzzReplay(f *testing.F) {
	f.Add([]byte("hello world"), []byte{3, 0, 5, 1, 200}, 8)
	f.Add(bytes.Repeat([]byte("x"), 300), []byte{255, 0, 255, 0, 10}, 100)
	f.Fuzz(func(t *testing.T, data, script []byte, limit int) {
		src := &closeCounter{Reader: bytes.NewReader(data)}
		rp := newReplay(&http.Request{Body: src})
		rp.limit = max(0, min(limit, 1<<16))
		b := rp.body()
		read := 0
		for _, op := range script {
			if op == 0 {
				if !rp.again() {
					break
				}
				b.Close()
				b, read = rp.body(), 0
				continue
			}
			p := make([]byte, op)
			n, err := b.Read(p)
			if !bytes.Equal(p[:n], data[read:min(read+n, len(data))]) {
				t.Fatalf("attempt read %q at %d of %q", p[:n], read, data)
			}
			read += n
			if err != nil && err != io.EOF {
				t.Fatal(err)
			}
		}
		rp.commit()
		rest, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(rest, data[read:]) {
			t.Fatalf("rest %q at %d of %q: %v", rest, read, data, err)
		}
		b.Close()
		b.Close()
		rp.abandon()
		if src.n.Load() != 1 {
			t.Fatalf("the source was closed %d times", src.n.Load())
		}
	})
}
