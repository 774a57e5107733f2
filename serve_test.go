package mesh_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/heddlemesh/mesh"
)

// serveMesh serves h on loopback until the test ends and gives the URL.
func serveMesh(t testing.TB, m *mesh.Mesh, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, ended := &http.Server{Handler: h}, make(chan error, 1)
	go func() { ended <- m.Serve(srv, l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve ended with %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// relay calls the service a, with the given headers, for every request.
func relay(t testing.TB, m *mesh.Mesh, ctx func(context.Context) context.Context, own http.Header) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(ctx(r.Context()), http.MethodGet, "http://a:9080/", nil)
		req.Header = own.Clone()
		if req.Header == nil {
			req.Header = make(http.Header)
		}
		resp, err := m.Client().Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		io.Copy(w, resp.Body)
	})
}

// TestTraceHeadersTravel: DESIGN §5 — a header already on the request wins, then an active OpenTelemetry
// span, then what Handler received.
func TestTraceHeadersTravel(t *testing.T) {
	t.Parallel()
	addr, port := upstream(t, func(w http.ResponseWriter, r *http.Request) { json.NewEncoder(w).Encode(r.Header) })
	m := start(t, mesh.WithConfig(entry("a.default.svc.cluster.local", "HTTP", addr, port)))
	const received, span = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-03"
	state, _ := trace.ParseTraceState("own=1,other=2")
	inSpan := func(ctx context.Context) context.Context {
		return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, SpanID: trace.SpanID{17, 18, 19, 20, 21, 22, 23, 24},
			TraceFlags: 0xff, TraceState: state}))
	}
	same := func(ctx context.Context) context.Context { return ctx }
	for name, c := range map[string]struct {
		ctx           func(context.Context) context.Context
		own           http.Header
		parent, state string
	}{
		"received":               {ctx: same, parent: received, state: "vendor=x"},
		"in a span":              {ctx: inSpan, parent: span, state: "own=1,other=2"},
		"on the request":         {ctx: inSpan, own: http.Header{"Traceparent": {"mine"}}, parent: "mine"},
		"in an invalid span":     {ctx: func(ctx context.Context) context.Context { return trace.ContextWithSpan(ctx, nil) }, parent: received, state: "vendor=x"},
		"a context of one's own": {ctx: func(context.Context) context.Context { return t.Context() }},
	} {
		url := serveMesh(t, m, relay(t, m, c.ctx, c.own))
		req, _ := http.NewRequest(http.MethodGet, url, nil)
		req.Header.Set("Traceparent", received)
		req.Header.Set("Tracestate", "vendor=x")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var saw http.Header
		err = json.NewDecoder(resp.Body).Decode(&saw)
		resp.Body.Close()
		if err != nil || saw.Get("Traceparent") != c.parent || saw.Get("Tracestate") != c.state {
			t.Errorf("%s: the upstream saw %v, %v", name, saw, err)
		}
	}
}

// TestSpanAllocs: looking for a span costs nothing where there is none.
func TestSpanAllocs(t *testing.T) {
	ctx := t.Context()
	engine := start(t).Engine()
	if n := testing.AllocsPerRun(100, func() { engine.Carry(ctx, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A toldListener tells that it is closed.
type toldListener struct {
	net.Listener
	closed chan struct{}
	once   sync.Once
}

func (l *toldListener) Close() error {
	defer l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

func TestShutdownDrains(t *testing.T) {
	addr, port := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	before := runtime.NumGoroutine()
	m, err := mesh.New(t.Context(), mesh.WithConfig(entry("a.default.svc.cluster.local", "HTTP", addr, port)), discard)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &toldListener{Listener: tcp, closed: make(chan struct{})}
	entered, leave := make(chan struct{}), make(chan struct{})
	next := relay(t, m, func(ctx context.Context) context.Context { return ctx }, nil)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		next.ServeHTTP(w, r) // the mesh is there until the last request has ended
	})}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Serve(srv, l); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve ended with %v", err)
		}
	})
	wg.Go(func() {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		if got, err := get(t, c, "http://"+l.Addr().String()); got != "ok" || err != nil {
			t.Errorf("the request under way got %q, %v", got, err)
		}
	})
	<-entered
	wg.Go(func() {
		if err := m.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
	<-l.closed
	close(leave)
	wg.Wait()
	if _, err := get(t, m.Client(), "http://a:9080/"); !errors.Is(err, mesh.ReasonClosed) {
		t.Errorf("a call after Shutdown: %v", err)
	}
	if err := m.Shutdown(t.Context()); err != nil {
		t.Errorf("the second Shutdown: %v", err)
	}
	settle(t, func() bool { return runtime.NumGoroutine() <= before+5 })
}

func TestMeshWaitReady(t *testing.T) {
	t.Parallel()
	m := start(t, mesh.WithConfig(entry("a.default.svc.cluster.local", "HTTP", "127.0.0.1", "1")))
	for _, hosts := range [][]string{nil, {"a"}, {"a:9080", "a.default", "A.default.svc.cluster.local."}} {
		if err := m.WaitReady(t.Context(), hosts...); err != nil {
			t.Errorf("%q: %v", hosts, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := m.WaitReady(ctx, "a", "b", "a:1")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "b (the mesh does not know it), a:1 (") {
		t.Errorf("%v", err)
	}
	done := make(chan error, 1)
	go func() { done <- m.WaitReady(t.Context(), "b") }()
	if err := m.Apply(t.Context(), entry("b.default.svc.cluster.local", "HTTP", "127.0.0.1", "1")); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("a host that came: %v", err)
	}
}

// TestListenerAndHandlerAlone: for servers that the program runs by itself.
func TestListenerAndHandlerAlone(t *testing.T) {
	t.Parallel()
	m := start(t)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("X-Request-Id"))
	}))}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(m.Listener(inner)) }()
	if got, err := get(t, http.DefaultClient, "http://"+inner.Addr().String()); len(got) != 36 || err != nil {
		t.Errorf("request id %q, %v", got, err)
	}
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "\x16\x03\x01")
	io.ReadAll(c)
	c.Close()
	if n := m.Status().Inbound.TLS; n != 1 {
		t.Errorf("Status counts %d", n)
	}
	srv.Close()
	<-ended
}
