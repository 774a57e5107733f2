package transport

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/snapshot"
)

func headers(pairs ...string) http.Header {
	h := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// TestCarryPrecedence: a header on the request wins, then the active span, then what was received; formats
// of trace context are not mixed.
func TestCarryPrecedence(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		received, own http.Header
		parent, state string // the active span
		want          http.Header
	}{
		"nothing": {},
		"what was received": {
			received: headers("X-Request-Id", "r", "Traceparent", "p", "Tracestate", "s", "X-Other", "no"),
			want:     headers("X-Request-Id", "r", "Traceparent", "p", "Tracestate", "s"),
		},
		"the request's own wins": {
			received: headers("X-Request-Id", "r", "Sw8", "received"),
			own:      headers("X-Request-Id", "own"),
			want:     headers("Sw8", "received"),
		},
		"an own traceparent shuts out the received tracestate": {
			received: headers("Traceparent", "p", "Tracestate", "s", "X-Request-Id", "r"),
			own:      headers("Traceparent", "own"),
			want:     headers("X-Request-Id", "r"),
		},
		"a span wins over what was received": {
			received: headers("Traceparent", "p", "Tracestate", "s", "X-B3-Traceid", "b"),
			parent:   "span", state: "state",
			want: headers("Traceparent", "span", "Tracestate", "state", "X-B3-Traceid", "b"),
		},
		"a span without state takes no received state": {
			received: headers("Traceparent", "p", "Tracestate", "s"),
			parent:   "span",
			want:     headers("Traceparent", "span"),
		},
		"a span alone": {
			parent: "span", state: "state",
			want: headers("Traceparent", "span", "Tracestate", "state"),
		},
		"the request's own wins over a span": {
			received: headers("Traceparent", "p", "X-Request-Id", "r"),
			own:      headers("Traceparent", "own", "X-Request-Id", "own"),
			parent:   "span", state: "state",
		},
		"own b3 shuts out the several": {
			received: headers("X-B3-Traceid", "t", "X-B3-Spanid", "s", "X-B3-Sampled", "1", "Traceparent", "p"),
			own:      headers("B3", "own"),
			want:     headers("Traceparent", "p"),
		},
		"one own of the several shuts out b3": {
			received: headers("B3", "b"),
			own:      headers("X-B3-Sampled", "0"),
		},
		"own datadog headers shut out received ones": {
			received: headers("X-Datadog-Trace-Id", "1", "X-Datadog-Parent-Id", "2", "X-Amzn-Trace-Id", "a"),
			own:      headers("X-Datadog-Trace-Id", "own"),
			want:     headers("X-Amzn-Trace-Id", "a"),
		},
		"the first of several values, if it is not oversized": {
			received: headers("X-Request-Id", "first", "X-Request-Id", "second", "Sw8", strings.Repeat("x", maxCarried+1)),
			want:     headers("X-Request-Id", "first"),
		},
		"every header on the list": {
			received: allCarried(), want: allCarried(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &Engine{trace: func(context.Context) (string, string) { return c.parent, c.state }}
			ctx := WithCarried(t.Context(), Collect(call.HTTPHeaders(c.received)))
			got := make(http.Header)
			for _, f := range e.Carry(ctx, call.HTTPHeaders(c.own)) {
				got.Add(f.Name.Canonical(), f.Value)
			}
			if !maps.EqualFunc(got, c.want, slices.Equal) {
				t.Errorf("carried %v, want %v", got, c.want)
			}
			if c.parent == "" {
				if n := len((&Engine{}).Carry(ctx, call.HTTPHeaders(c.own))); n != len(got) {
					t.Errorf("%d headers without a tracer, %d without a span", n, len(got))
				}
			}
		})
	}
}

func allCarried() http.Header {
	h := make(http.Header)
	for _, n := range strings.Fields("x-request-id traceparent tracestate b3 x-b3-traceid x-b3-spanid x-b3-parentspanid " +
		"x-b3-sampled x-b3-flags x-ot-span-context x-cloud-trace-context grpc-trace-bin x-amzn-trace-id " +
		"x-datadog-trace-id x-datadog-parent-id x-datadog-sampling-priority sw8") {
		h.Set(n, "of "+n)
	}
	return h
}

// TestCarriedOnTheWire: with the hidden idempotency key, on every attempt, and the caller's header as it was.
func TestCarriedOnTheWire(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 1)
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) { seen <- r.Header })
	r := newRig(t, snapshot.HTTP1, nil, loopback.Dead(t), addr)
	ctx := WithCarried(t.Context(), Collect(call.HTTPHeaders(headers("X-Request-Id", "r", "Traceparent", "p", "Sw8", "s"))))
	for range 4 { // some of them meet the dead endpoint first
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://svc/", strings.NewReader("x"))
		req.Header.Set("Idempotency-Key", "k")
		req.Header["traceparent"] = []string{"own"}
		before := req.Header.Clone()
		resp, err := r.rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		h := <-seen
		if h.Get("X-Request-Id") != "r" || h.Get("Sw8") != "s" || h.Get("Idempotency-Key") != "k" || !slices.Equal(h["Traceparent"], []string{"own"}) {
			t.Errorf("the upstream saw %v", h)
		}
		if !maps.EqualFunc(before, req.Header, slices.Equal) {
			t.Errorf("the caller's header became %v", req.Header)
		}
	}
}

// TestNothingIsCarriedOutside: calls that pass through, and the program's own TLS, are left as they are.
func TestNothingIsCarriedOutside(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen <- r.Header })
	own := httptest.NewTLSServer(handler)
	t.Cleanup(own.Close)
	outside := serve(t, handler)
	tlsConfig := own.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	tlsConfig.ServerName = "example.com"
	r := newRig(t, snapshot.HTTP1, NewLeaves(nil, tlsConfig), own.Listener.Addr().String())
	r.engine.trace = func(context.Context) (string, string) { return "span", "state" }
	ctx := WithCarried(t.Context(), Collect(call.HTTPHeaders(headers("X-Request-Id", "r"))))
	for _, url := range []string{"http://" + outside, "https://svc:80/"} {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if h := <-seen; h.Get("X-Request-Id") != "" || h.Get("Traceparent") != "" {
			t.Errorf("%s saw %v", url, h)
		}
	}
}

// TestCarriedAllocs holds the budget of carried headers: six allocations over the plain path.
func TestCarriedAllocs(t *testing.T) {
	rt, reqs := benchRig(t, 1)
	measure := func(req *http.Request) (int64, int64) {
		r := testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				exchange(b, rt, req)
			}
		})
		return r.AllocsPerOp(), r.AllocedBytesPerOp()
	}
	plain, plainBytes := measure(reqs[0])
	three := Collect(call.HTTPHeaders(headers("X-Request-Id", "r", "Traceparent", "p", "Tracestate", "s")))
	for name, c := range map[string]struct {
		own      int // further headers on the request
		carried  *Carried
		most     int64
		hasTrace bool
	}{
		"three headers":                   {carried: three, most: 6},
		"three headers beside ten":        {own: 9, carried: three, most: 6},
		"every header":                    {carried: Collect(call.HTTPHeaders(allCarried())), most: 6},
		"nothing":                         {},
		"nothing, asked for a span":       {hasTrace: true},
		"three headers, asked for a span": {carried: three, most: 6, hasTrace: true},
	} {
		rt.engine.trace = nil
		if c.hasTrace {
			rt.engine.trace = func(context.Context) (string, string) { return "", "" }
		}
		req := reqs[0].Clone(WithCarried(t.Context(), c.carried))
		for i := range c.own {
			req.Header.Set("X-Own-"+string(rune('a'+i)), "v")
		}
		allocs, bytes := measure(req)
		t.Logf("%s: %d allocations, %d bytes over the plain path", name, allocs-plain, bytes-plainBytes)
		if allocs-plain > c.most {
			t.Errorf("%s: %d allocations over the plain path, the budget is %d", name, allocs-plain, c.most)
		}
	}
}
