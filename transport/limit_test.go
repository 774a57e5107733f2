package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

const plenty = 1_000_000_000

// limit publishes the snapshot of a benchRig again, with rate limits on its hosts and on what is received, and a circuit
// breaker for each of its services, none of which is ever reached.
func limitRig(tb testing.TB, e *Engine) {
	tb.Helper()
	s := *e.Snapshot()
	rate := resilience.RateLimit{Requests: plenty, Per: time.Second, Burst: plenty}
	keyed := rate
	keyed.By, keyed.MaxKeys = []resilience.LimitKey{{Kind: resilience.LimitByHeader, Header: call.NewName("user-agent")}, {Kind: resilience.LimitByRoute}}, 10
	s.Limits = []snapshot.RateLimit{{Name: "all", RateLimit: rate}, {Name: "each", RateLimit: keyed}, {Name: "in", RateLimit: keyed, Inbound: true}}
	for _, h := range s.Tables[snapshot.Mesh].VirtualHosts() {
		h.Limits = []int{0, 1}
	}
	s.Clusters = append([]snapshot.Cluster(nil), s.Clusters...)
	for i := range s.Clusters {
		s.Clusters[i].Breaker = &snapshot.Breaker{Name: s.Clusters[i].Name, CircuitBreaker: resilience.CircuitBreaker{Consecutive: 5, OpenFor: time.Second, Probes: 1}}
	}
	if err := e.Publish(tb.Context(), &s); err != nil {
		tb.Fatal(err)
	}
}

// TestLimitAllocs: limits and circuit breakers that are never reached allocate nothing.
func TestLimitAllocs(t *testing.T) {
	rt, reqs := benchRig(t, 1)
	measure := func(f func(b *testing.B)) testing.BenchmarkResult {
		return testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				f(b)
			}
		})
	}
	forth := func(b *testing.B) { exchange(b, rt, reqs[0]) }
	h := NewInbound(rt.engine).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r := httptest.NewRequest(http.MethodGet, "/reviews/1", nil)
	r.Header = http.Header{"X-Request-Id": {"1"}, "User-Agent": {"bench"}}
	w := httptest.NewRecorder()
	back := func(*testing.B) { h.ServeHTTP(w, r) }
	plain, plainBack := measure(forth), measure(back)
	limitRig(t, rt.engine)
	limited, limitedBack := measure(forth), measure(back)
	t.Logf("a call takes %d ns, with limits %d; a request received %d ns, with limits %d", plain.NsPerOp(), limited.NsPerOp(), plainBack.NsPerOp(), limitedBack.NsPerOp())
	if plain.AllocsPerOp() != limited.AllocsPerOp() || plain.AllocedBytesPerOp() != limited.AllocedBytesPerOp() {
		t.Errorf("calls: %d allocations of %d bytes, with limits %d of %d", plain.AllocsPerOp(), plain.AllocedBytesPerOp(), limited.AllocsPerOp(), limited.AllocedBytesPerOp())
	}
	if plainBack.AllocsPerOp() != limitedBack.AllocsPerOp() {
		t.Errorf("requests: %d allocations, with limits %d", plainBack.AllocsPerOp(), limitedBack.AllocsPerOp())
	}
}

// BenchmarkLimits: what limits and circuit breakers that are never reached cost a call.
func BenchmarkLimits(b *testing.B) {
	rt, reqs := benchRig(b, 1)
	for _, c := range []struct {
		name string
		set  func()
	}{{"none", func() {}}, {"limits and a breaker", func() { limitRig(b, rt.engine) }}} {
		b.Run(c.name, func(b *testing.B) {
			c.set()
			b.ReportAllocs()
			for b.Loop() {
				exchange(b, rt, reqs[0])
			}
		})
	}
}

// limited is a rig with the limits on its host, or on what it receives.
func limitedRig(t *testing.T, limits ...snapshot.RateLimit) *rig {
	t.Helper()
	r := newRig(t, snapshot.HTTP1, nil, serve(t, func(http.ResponseWriter, *http.Request) {}))
	r.limit(t, limits...)
	return r
}

func (r *rig) limit(t *testing.T, limits ...snapshot.RateLimit) {
	t.Helper()
	h := &routing.VirtualHost{Host: "svc", Port: 80, HTTP: true, Routes: []*routing.Route{r.route}, Default: r.route}
	for i := range limits {
		if !limits[i].Inbound {
			h.Limits = append(h.Limits, i)
		}
	}
	err := r.engine.Publish(t.Context(), &snapshot.Snapshot{Version: "2", Limits: limits,
		Tables:   map[string]*routing.Table{snapshot.Mesh: routing.NewTable([]*routing.VirtualHost{h})},
		Clusters: []snapshot.Cluster{{Name: "outbound|80||svc", Set: key}}})
	if err != nil {
		t.Fatal(err)
	}
}

// an hourly limit never gives a token back while a test runs.
func hourly(name string, n int, more ...func(*snapshot.RateLimit)) snapshot.RateLimit {
	l := snapshot.RateLimit{Name: name, RateLimit: resilience.RateLimit{Requests: n, Per: time.Hour, Burst: n}}
	for _, f := range more {
		f(&l)
	}
	return l
}

func receiving(l *snapshot.RateLimit) { l.Inbound = true }

func (r *rig) get() error {
	resp, err := r.client.Get("http://svc/a")
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// TestRateLimitedCall: what the program is told.
func TestRateLimitedCall(t *testing.T) {
	t.Parallel()
	r := limitedRig(t, hourly("default/a/all", 1, func(l *snapshot.RateLimit) { l.Exhausted = true }))
	if err := r.get(); err != nil {
		t.Fatal(err)
	}
	err := r.get()
	var e *call.Error
	if !errors.As(err, &e) || !errors.Is(err, call.ReasonRateLimited) {
		t.Fatalf("got %v", err)
	}
	if e.HTTPStatus() != 429 || e.Flag() != "RL" || e.GRPCStatusCode() != 8 || e.Attempts != 0 || e.Route != "r" ||
		e.RetryAfter < 59*time.Minute || e.RetryAfter > time.Hour || !strings.Contains(e.Error(), "default/a/all allows 1 requests an hour, 1 at once in this process") {
		t.Errorf("%+v\n%v", e, e)
	}
}

// TestLimitsOutliveSwaps: a new configuration with the same limit goes on where the old one ended; another limit, or one
// of another name, begins anew; and what is gone is gone.
func TestLimitsOutliveSwaps(t *testing.T) {
	t.Parallel()
	r := limitedRig(t, hourly("a", 2))
	want := func(when string, n int) {
		t.Helper()
		got := 0
		for r.get() == nil {
			if got++; got > 9 {
				break
			}
		}
		if got != n {
			t.Errorf("%s: %d calls were let through, want %d", when, got, n)
		}
	}
	want("at first", 2)
	r.limit(t, hourly("z", 5), hourly("a", 2, func(l *snapshot.RateLimit) { l.Origin, l.Headers = "elsewhere", true }))
	want("the same by its name", 0)
	r.limit(t, hourly("a", 3))
	want("a larger one", 3)
	r.limit(t, hourly("b", 1))
	want("another", 1)
	r.limit(t)
	want("none", 10)
	r.limit(t, hourly("b", 1))
	want("the other again", 1)
}

// TestRenewCountsOnce: deciding again about one call counts it once.
func TestRenewCountsOnce(t *testing.T) {
	t.Parallel()
	r := limitedRig(t, hourly("a", 2))
	var c Call
	q := &call.Request{Method: "GET", Scheme: "http", Host: "svc", Port: 80, Authority: "svc", Path: "/", Headers: call.HTTPHeaders(nil)}
	step := r.engine.Begin(context.Background(), &c, q)
	for range 5 {
		step = c.Renew(q)
	}
	if step.Kind != Forward {
		t.Errorf("renewed: %+v", step)
	}
	if err := r.get(); err != nil {
		t.Errorf("the second call: %v", err)
	}
}

// TestLimitsAreNarrow: by match, by route, and not by an odd spelling of the path.
func TestLimitsAreNarrow(t *testing.T) {
	t.Parallel()
	onPath := func(l *snapshot.RateLimit) {
		l.Matches = []routing.Match{{PathKind: routing.PathPrefix, Path: call.Prefix("/admin")}}
	}
	l := hourly("a", 1, onPath)
	route := &routing.Route{Name: "r"}
	for _, c := range []struct {
		path string
		want bool
	}{{"/admin/x", true}, {"/other", false}, {"", true}} {
		if got := l.Takes(&call.Request{Path: c.path}, route); got != c.want {
			t.Errorf("path %q: %v", c.path, got)
		}
	}
	l.Routes = []string{"s"}
	if l.Takes(&call.Request{Path: "/admin/x"}, route) || l.Takes(&call.Request{Path: "/admin/x"}, nil) {
		t.Error("a limit on route s takes others")
	}
}

// TestHandlerLimits: a request too many is answered as Envoy does, the program does not see it, and the header says how
// many are left.
func TestHandlerLimits(t *testing.T) {
	t.Parallel()
	r := limitedRig(t, hourly("in", 2, receiving, func(l *snapshot.RateLimit) { l.Headers = true }))
	served := 0
	front := httptest.NewServer(NewInbound(r.engine).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served++
		w.WriteHeader(http.StatusTeapot)
	})))
	defer front.Close()
	ask := func(h http.Header) *http.Response {
		t.Helper()
		req, _ := http.NewRequest(http.MethodGet, front.URL, nil)
		req.Header = h
		resp, err := front.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	for _, left := range []string{"1", "0"} {
		resp := ask(nil)
		if resp.StatusCode != http.StatusTeapot || resp.Header.Get("X-Ratelimit-Limit") != "2" || resp.Header.Get("X-Ratelimit-Remaining") != left ||
			resp.Header.Get("X-Ratelimit-Reset") == "" || resp.Header.Get("X-Envoy-Ratelimited") != "" {
			t.Errorf("let through: %d %v", resp.StatusCode, resp.Header)
		}
	}
	resp := ask(nil)
	if resp.StatusCode != 429 || resp.Header.Get("X-Envoy-Ratelimited") != "true" || resp.Header.Get("Retry-After") == "" ||
		resp.Header.Get("X-Ratelimit-Remaining") != "0" || resp.ContentLength != int64(len(BodyLimited)) || resp.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("one too many: %d %v", resp.StatusCode, resp.Header)
	}
	resp = ask(http.Header{"Content-Type": {"application/grpc"}})
	if resp.StatusCode != 200 || resp.Header.Get("Grpc-Status") != "14" || resp.Header.Get("X-Envoy-Ratelimited") != "true" {
		t.Errorf("one too many of gRPC: %d %v", resp.StatusCode, resp.Header)
	}
	if served != 2 {
		t.Errorf("the program saw %d requests", served)
	}
}

// TestHandlerLimitsBySpelling: no spelling of a path leads past the limit on it.
func TestHandlerLimitsBySpelling(t *testing.T) {
	t.Parallel()
	r := limitedRig(t, hourly("in", 1, receiving, func(l *snapshot.RateLimit) {
		l.Matches = []routing.Match{{PathKind: routing.PathPrefix, Path: call.Prefix("/admin/")}}
	}))
	h := NewInbound(r.engine).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for i, path := range []string{"/admin/x", "/admin/x", "/%61dmin/x", "//admin/x", "/./admin/x", "/a/../admin/x", "/admin%00/x", "/admin/%2e%2e/admin/x"} {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.RequestURI, req.URL.Path, req.URL.RawPath = path, path, ""
		if p, err := req.URL.Parse(path); err == nil && !strings.HasPrefix(path, "//") {
			req.URL = p
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if limited := w.Code == 429; limited != (i > 0) {
			t.Errorf("%s: %d", path, w.Code)
		}
		_, _ = io.Copy(io.Discard, w.Body)
	}
}

// TestExplainLimits: explain says what is limited, and counts nothing.
func TestExplainLimits(t *testing.T) {
	t.Parallel()
	l := hourly("default/a/all", 1, func(l *snapshot.RateLimit) {
		l.Origin, l.MaxKeys = "RateLimit default/a limits[0] (a.yaml:7:5)", 9
		l.By = []resilience.LimitKey{{Kind: resilience.LimitByHeader, Header: call.NewName("X-User")}, {Kind: resilience.LimitByRoute}}
	})
	r := limitedRig(t, l)
	q := &call.Request{Method: "GET", Scheme: "http", Host: "svc", Port: 80, Authority: "svc", Path: "/", Headers: call.HTTPHeaders(nil)}
	for range 3 {
		d := r.engine.Explain(q)
		const want = "rate limit default/a/all: 1 requests an hour, 1 at once, for each header x-user and route (9 of them at most), in each process; RateLimit default/a limits[0] (a.yaml:7:5)"
		if len(d.Effects) != 1 || d.Effects[0] != want {
			t.Errorf("effects %q", d.Effects)
		}
	}
	if err := r.get(); err != nil {
		t.Error("explaining counts:", err)
	}
}
