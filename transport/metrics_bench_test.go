package transport

import (
	"net/http"
	"net/http/httptest"
	"testing"

	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/telemetry"
)

// BenchmarkMetrics is what recording costs: a call, and a request behind Handler, with metrics and without.
func BenchmarkMetrics(b *testing.B) {
	for _, on := range []bool{false, true} {
		var store *telemetry.Store
		name := "off"
		if on {
			store, name = telemetry.NewStore(telemetry.Options{}), "on"
		}
		b.Run("call/"+name, func(b *testing.B) {
			rt, reqs := benchRigWith(b, 1, store)
			b.ReportAllocs()
			for b.Loop() {
				exchange(b, rt, reqs[0])
			}
		})
		b.Run("request/"+name, func(b *testing.B) {
			serve, r := metered(b, store)
			b.ReportAllocs()
			for b.Loop() {
				serve.ServeHTTP(noWriter{}, r)
			}
		})
	}
}

type noWriter struct{}

func (noWriter) Header() http.Header         { return http.Header{} }
func (noWriter) Write(p []byte) (int, error) { return len(p), nil }
func (noWriter) WriteHeader(int)             {}

// metered gives a handler of nothing behind the mesh, and a request to it.
func metered(tb testing.TB, store *telemetry.Store) (http.Handler, *http.Request) {
	tb.Helper()
	e := NewEngine(Config{Registry: new(discovery.Registry), Pools: new(noopPools), Metrics: store})
	tb.Cleanup(e.Close)
	r := httptest.NewRequest(http.MethodGet, "http://web/", nil)
	r.Header.Set("X-Request-Id", "1")
	return NewInbound(e).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })), r
}

// TestAllocsOfMetrics: recording adds no allocation to a call or a request.
func TestAllocsOfMetrics(t *testing.T) { // not parallel: allocations are counted
	cost := func(store *telemetry.Store) (call, request float64) {
		rt, reqs := benchRigWith(t, 1, store)
		serve, r := metered(t, store)
		return testing.AllocsPerRun(1000, func() { exchange(t, rt, reqs[0]) }), testing.AllocsPerRun(1000, func() { serve.ServeHTTP(noWriter{}, r) })
	}
	callOff, requestOff := cost(nil)
	callOn, requestOn := cost(telemetry.NewStore(telemetry.Options{}))
	if callOn > callOff || requestOn > requestOff {
		t.Errorf("metrics add %v allocations to a call, %v to a request", callOn-callOff, requestOn-requestOff)
	}
}

// TestAllocsOfTraces: a trace that is not sampled costs six allocations of a call by net/http, the copy of its header among them, and of a
// request; under one that others have not sampled a call costs nothing more.
func TestAllocsOfTraces(t *testing.T) { // not parallel: allocations are counted
	cost := func(tracer *telemetry.Tracer, header http.Header) (call, request float64) {
		store := telemetry.NewStore(telemetry.Options{})
		rt, reqs := benchRigWith(t, 1, store)
		rt.engine.tracer = tracer
		if header != nil {
			reqs[0].Header = header
		}
		serve, r := metered(t, store)
		serve.(*handler).in.engine.tracer = tracer
		return testing.AllocsPerRun(1000, func() { exchange(t, rt, reqs[0]) }), testing.AllocsPerRun(1000, func() { serve.ServeHTTP(noWriter{}, r) })
	}
	none := 0.0
	tracer := telemetry.NewTracer(telemetry.TracerOptions{Provider: tracenoop.NewTracerProvider(), Sampling: &none})
	plainCall, plainRequest := cost(nil, nil)
	call, request := cost(tracer, nil)
	t.Logf("not sampled: %v more for a call, %v for a request", call-plainCall, request-plainRequest)
	if call-plainCall > 6 || request-plainRequest > 6 {
		t.Errorf("a trace that is not sampled adds %v allocations to a call, %v to a request, the budget is 6", call-plainCall, request-plainRequest)
	}
	above := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}}
	plainCall, _ = cost(nil, above)
	if call, _ = cost(tracer, above); call > plainCall {
		t.Errorf("under a trace that is not sampled a call allocates %v times more", call-plainCall)
	}
	if call, request := cost(telemetry.NewTracer(telemetry.TracerOptions{}), nil); call > plainCall || request > plainRequest {
		t.Errorf("a tracer without a provider adds %v and %v allocations", call-plainCall, request-plainRequest)
	}
}
