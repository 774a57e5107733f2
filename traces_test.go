package mesh_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/spans"
	"github.com/heddlemesh/mesh/telemetry/export"
)

// A traced is a mesh whose spans are kept, with one service, "reviews", that it serves itself.
type traced struct {
	*mesh.Mesh
	ended spans.Ended
	tp    *export.Provider
	url   string // of the service, past the client's mesh

	mu   sync.Mutex
	seen []http.Header // by the program
}

// traces serves next as reviews. Its own calls by that name come back to it.
func traces(t *testing.T, next http.Handler, opts ...mesh.Option) *traced {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &traced{url: "http://" + l.Addr().String()}
	s.ended, s.tp = spans.Keep(t)
	doc := fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  ports: [{number: 9080, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: %d}}]
`, l.Addr().(*net.TCPAddr).Port)
	opts = append([]mesh.Option{mesh.WithConfig([]byte(doc)), mesh.WithTracerProvider(s.tp), mesh.WithLogger(slog.New(slog.DiscardHandler)),
		mesh.WithWorkload(mesh.Workload{Name: "reviews-v1", Namespace: "default", Labels: map[string]string{"app": "reviews", "version": "v1"}})}, opts...)
	if s.Mesh, err = mesh.New(t.Context(), opts...); err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Header.Clone())
		s.mu.Unlock()
		next.ServeHTTP(w, r)
	})}
	served := make(chan error, 1)
	go func() { served <- s.Serve(srv, l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
		_ = s.Close()
	})
	return s
}

func (s *traced) headers() []http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// get calls the service through the mesh.
func (s *traced) get(ctx context.Context, t *testing.T, path string, header http.Header) int {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://reviews:9080"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// all waits for the spans: a server's ends when its answer is on its way already.
func (s *traced) all(t *testing.T, n int) []export.Span {
	t.Helper()
	var all []export.Span
	for range n {
		all = append(all, <-s.ended)
	}
	select {
	case more := <-s.ended:
		t.Errorf("one span more than %d: %v", n, more)
	default:
	}
	return all
}

// under lists the spans whose parent is id.
func under(all []export.Span, id trace.SpanID) (found []export.Span) {
	for _, s := range all {
		if s.Parent.SpanID() == id {
			found = append(found, s)
		}
	}
	return found
}

func value(s *export.Span, key string) string {
	for _, a := range s.Attributes {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

const (
	upTrace = "0af7651916cd43dd8448eb211c80319c"
	upSpan  = "b7ad6b7169203331"
)

// TestTraceParents: a request that calls on is one trace: its own span, and under it call, attempt and server, each under the
// last, by whichever form of trace context it came in.
func TestTraceParents(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]http.Header{
		"W3C":       {"Traceparent": {"00-" + upTrace + "-" + upSpan + "-01"}, "Tracestate": {"vendor=1"}},
		"B3":        {"B3": {upTrace + "-" + upSpan + "-1"}},
		"B3 fields": {"X-B3-Traceid": {upTrace}, "X-B3-Spanid": {upSpan}, "X-B3-Sampled": {"1"}, "X-B3-Parentspanid": {"00f067aa0ba902b7"}},
		"B3 debug":  {"X-B3-Traceid": {upTrace}, "X-B3-Spanid": {upSpan}, "X-B3-Flags": {"1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *traced
			s = traces(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/in" {
					s.get(r.Context(), t, "/on", nil)
				}
			}), mesh.WithTraceSampling(0))
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/in?secret=1", http.NoBody)
			req.Host, req.Header = "reviews:9080", header.Clone()
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			all := s.all(t, 4)
			parent, _ := trace.SpanIDFromHex(upSpan)
			for depth, want := range []trace.SpanKind{trace.SpanKindServer, trace.SpanKindInternal, trace.SpanKindClient, trace.SpanKindServer} {
				found := under(all, parent)
				if len(found) != 1 || found[0].Kind != want || found[0].Context.TraceID().String() != upTrace {
					t.Fatalf("at depth %d: %v", depth, found)
				}
				parent = found[0].Context.SpanID()
				for _, a := range found[0].Attributes {
					if strings.Contains(a.Value.String(), "secret") {
						t.Errorf("%s has the query: %s", a.Key, a.Value.String())
					}
				}
			}
			for i, h := range s.headers() {
				for _, span := range all {
					if span.Kind == trace.SpanKindServer && strings.HasSuffix(value(&span, "url.path"), []string{"/in", "/on"}[i]) {
						agree(t, h, &span)
					}
				}
				if header["Traceparent"] == nil && h.Get("B3") == "" && h.Get("X-B3-Traceid") == "" {
					t.Errorf("request %d does not go on in the form that it came in: %v", i, h)
				}
				if header["Tracestate"] != nil && h.Get("Tracestate") != "vendor=1" {
					t.Errorf("tracestate %q", h.Get("Tracestate"))
				}
			}
		})
	}
}

// agree holds every form of trace context in a header against the span that it has to name.
func agree(t *testing.T, h http.Header, s *export.Span) {
	t.Helper()
	id, span := s.Context.TraceID().String(), s.Context.SpanID().String()
	if got, want := h.Get("Traceparent"), "00-"+id+"-"+span+"-01"; got != want {
		t.Errorf("traceparent %q, want %q", got, want)
	}
	if got := h.Get("B3"); got != "" && !strings.HasPrefix(got, id+"-"+span+"-1") {
		t.Errorf("b3 %q is not of %s", got, span)
	}
	if got := h.Get("X-B3-Spanid"); got != "" && (got != span || h.Get("X-B3-Traceid") != id || h.Get("X-B3-Parentspanid") != s.Parent.SpanID().String()) {
		t.Errorf("x-b3-spanid %q, x-b3-parentspanid %q are not of %s", got, h.Get("X-B3-Parentspanid"), span)
	}
}

// TestTracePrecedence: the request's own header goes before the context's active span.
func TestTracePrecedence(t *testing.T) {
	t.Parallel()
	s := traces(t, http.NotFoundHandler(), mesh.WithTraceSampling(0))
	ctx, active := s.tp.Tracer("program").Start(t.Context(), "work")
	s.get(ctx, t, "/", nil)
	s.get(ctx, t, "/", http.Header{"Traceparent": {"00-" + upTrace + "-" + upSpan + "-01"}})
	s.get(ctx, t, "/", http.Header{"Traceparent": {"00-" + upTrace + "-" + upSpan + "-00"}}) // whose trace is not sampled
	active.End()
	all := s.all(t, 7)
	own, _ := trace.SpanIDFromHex(upSpan)
	if a, b := under(all, active.SpanContext().SpanID()), under(all, own); len(a) != 1 || len(b) != 1 {
		t.Errorf("%d calls under the active span and %d under the header's, want 1 and 1", len(a), len(b))
	}
	if got := s.headers()[2].Get("Traceparent"); got != "00-"+upTrace+"-"+upSpan+"-00" {
		t.Errorf("a trace that is not sampled goes on as %q", got)
	}
}

// TestTraceSampling: the same seed samples the same requests; x-request-id says which, and a trace that is not sampled says so to
// whoever is called.
func TestTraceSampling(t *testing.T) {
	t.Parallel()
	id := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[49][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	const requests = 200
	var patterns [2]string
	for i := range patterns {
		s := traces(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), mesh.WithTraceSampling(50), mesh.WithSeed(7))
		for range requests {
			s.get(t.Context(), t, "/", nil)
		}
		sampled := 0
		for _, h := range s.headers() {
			x, parent := h.Get("X-Request-Id"), h.Get("Traceparent")
			yes := strings.HasSuffix(parent, "-01") || strings.HasSuffix(parent, "-03") // and random
			if !id.MatchString(x) || yes != (x[14] == '9') || !yes && !strings.HasSuffix(parent, "-00") {
				t.Fatalf("x-request-id %q beside traceparent %q", x, parent)
			}
			if yes {
				sampled++
			}
			patterns[i] += x[14:15]
		}
		if sampled < requests/4 || sampled > requests*3/4 {
			t.Errorf("%d of %d sampled", sampled, requests)
		}
		s.all(t, 3*sampled)
	}
	if patterns[0] != patterns[1] {
		t.Error("the same seed has sampled others")
	}
}

// TestTraceForced: x-client-trace-id asks for a trace, x-envoy-force-trace only where it is believed; x-request-id that says a
// request is traced is.
func TestTraceForced(t *testing.T) {
	t.Parallel()
	const plain = "7f1f2b4e-0a8c-4d59-9c3a-51d1e7c2a001"
	for name, c := range map[string]struct {
		header http.Header
		spans  int // of the server alone
		id     string
	}{
		"nothing":    {http.Header{"X-Request-Id": {plain}}, 0, plain},
		"client":     {http.Header{"X-Request-Id": {plain}, "X-Client-Trace-Id": {"1"}}, 1, plain[:14] + "b" + plain[15:]},
		"a stranger": {http.Header{"X-Request-Id": {plain}, "X-Envoy-Force-Trace": {"1"}}, 0, plain},
		"the id":     {http.Header{"X-Request-Id": {plain[:14] + "a" + plain[15:]}}, 1, plain[:14] + "a" + plain[15:]},
		"no UUID":    {http.Header{"X-Request-Id": {"mine"}}, 0, "mine"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := traces(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), mesh.WithTraceSampling(0))
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, http.NoBody)
			req.Header = c.header
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if got := s.headers()[0].Get("X-Request-Id"); got != c.id {
				t.Errorf("x-request-id %q, want %q", got, c.id)
			}
			s.all(t, c.spans)
		})
	}
}

// TestTraceAttempts: each attempt is a span, the one that failed says how, and the call's has what the program got. A call that no
// endpoint was asked for has its flag.
func TestTraceAttempts(t *testing.T) {
	t.Parallel()
	var once sync.Once
	s := traces(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		once.Do(func() { w.WriteHeader(http.StatusServiceUnavailable) })
	}), mesh.WithTraceSampling(100), mesh.WithConfig([]byte(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {exact: /abort}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: reviews}}]
  - route: [{destination: {host: reviews}}]
    retries: {attempts: 2, retryOn: "5xx"}
`)))
	if code := s.get(t.Context(), t, "/", nil); code != http.StatusOK {
		t.Fatalf("status %d", code)
	}
	all := s.all(t, 5)
	for i := range all {
		span := &all[i]
		if span.Kind != trace.SpanKindInternal {
			continue
		}
		tries := under(all, span.Context.SpanID())
		if len(tries) != 2 || value(&tries[0], "http.response.status_code") != "503" || tries[0].Status != codes.Error ||
			value(&tries[1], "http.response.status_code") != "200" || value(&tries[1], "http.request.resend_count") != "1" {
			t.Errorf("attempts: %v", tries)
		}
		if value(span, "http.status_code") != "200" || value(span, "response_flags") != "-" || span.Status != codes.Unset ||
			value(span, "istio.canonical_service") != "reviews" || value(span, "upstream_cluster") != "" {
			t.Errorf("call: %v", span.Attributes)
		}
		if span.Name != "reviews.default.svc.cluster.local:9080/*" {
			t.Errorf("name %q", span.Name)
		}
	}
	s.get(t.Context(), t, "/abort", nil)
	if all := s.all(t, 1); value(&all[0], "response_flags") != "FI" || value(&all[0], "error.type") != "418" {
		t.Errorf("abort: %v", all[0].Attributes)
	}
}

// TestTracePropagator: the program's own propagator writes and reads in the place of ours.
func TestTracePropagator(t *testing.T) {
	t.Parallel()
	s := traces(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), mesh.WithTraceSampling(100), mesh.WithPropagator(shouting{}))
	s.get(t.Context(), t, "/", nil)
	all := s.all(t, 3)
	if h := s.headers()[0]; h.Get("X-Shout") == "" || h.Get("Traceparent") != "" {
		t.Errorf("the request went on with %v", h)
	}
	ids := map[trace.TraceID]bool{}
	for _, span := range all {
		ids[span.Context.TraceID()] = true
	}
	if len(ids) != 1 {
		t.Errorf("%d traces", len(ids))
	}
}

// shouting is W3C's under another name.
type shouting struct{}

func (shouting) Fields() []string { return []string{"x-shout"} }

func (shouting) Inject(ctx context.Context, c propagation.TextMapCarrier) {
	m := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, m)
	c.Set("x-shout", m.Get("traceparent"))
}

func (shouting) Extract(ctx context.Context, c propagation.TextMapCarrier) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": c.Get("x-shout")})
}

// TestTraceHostile: what a caller writes is cut short and made UTF-8, whatever it is.
func TestTraceHostile(t *testing.T) {
	t.Parallel()
	s := traces(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), mesh.WithTraceSampling(100))
	req, _ := http.NewRequestWithContext(t.Context(), "BREW", s.url+"/"+strings.Repeat("a", 4000)+"%0d%0a%1b", http.NoBody)
	req.Header = http.Header{"User-Agent": {strings.Repeat("\xff\"[31m", 300)}, "X-Request-Id": {strings.Repeat("i", 5000)},
		"Traceparent": {"00-" + strings.Repeat("0", 32) + "-" + upSpan + "-01"}, "Tracestate": {strings.Repeat("x=1,", 500)}, "B3": {"x"}, "X-B3-Traceid": {"zz"}}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	all := s.all(t, 1)
	for _, a := range all[0].Attributes {
		if a.Value.Type() == attribute.STRING && len(a.Value.AsString()) > 1024 {
			t.Errorf("%s has %d bytes", a.Key, len(a.Value.AsString()))
		}
		if text := a.Value.String(); strings.ToValidUTF8(text, "") != text {
			t.Errorf("%s is no UTF-8", a.Key)
		}
	}
	if value(&all[0], "http.request.method") != "_OTHER" || value(&all[0], "http.request.method_original") != "BREW" {
		t.Errorf("method: %v", all[0].Attributes)
	}
}
