package transport

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/telemetry"
)

// noop is a leaf that answers at once: what is measured over it is the mesh alone.
type noop struct{ _ int }

type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }

func (l *noop) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, ProtoMajor: 1, Body: emptyBody{}, Request: req}, nil
}

type noopPools struct{ leaf noop }

func (p *noopPools) Open(*discovery.Endpoint, snapshot.Policy, *Load) any { return &p.leaf }
func (p *noopPools) Release(any)                                          {}

// benchRig: n hosts of three endpoints, each with ten rules ahead of the one that matches, and metrics.
func benchRig(tb testing.TB, n int) (*RoundTripper, []*http.Request) {
	tb.Helper()
	return benchRigWith(tb, n, telemetry.NewStore(telemetry.Options{}))
}

// benchRigWith is benchRig with the store, nil for no metrics.
func benchRigWith(tb testing.TB, n int, metrics *telemetry.Store) (*RoundTripper, []*http.Request) {
	tb.Helper()
	registry := new(discovery.Registry)
	e := NewEngine(Config{Registry: registry, Pools: new(noopPools), Metrics: metrics})
	tb.Cleanup(e.Close)
	var hosts []*routing.VirtualHost
	s := &snapshot.Snapshot{Version: "1"}
	reqs := make([]*http.Request, n)
	retry := resilience.DefaultRetry()
	for i := range n {
		host := fmt.Sprintf("svc%05d.default.svc.cluster.local", i)
		k := discovery.Key{Host: host, Port: 9080}
		registry.Publish(k, discovery.NewSet(
			discovery.Endpoint{Address: discovery.TCP("10.0.0.1", 9080)},
			discovery.Endpoint{Address: discovery.TCP("10.0.0.2", 9080)},
			discovery.Endpoint{Address: discovery.TCP("10.0.0.3", 9080)}))
		v := &routing.VirtualHost{Host: host, Port: 9080, HTTP: true}
		for j := range 10 {
			v.Routes = append(v.Routes, &routing.Route{Name: "r", Retry: &retry,
				Matches: []routing.Match{{PathKind: routing.PathPrefix, Path: call.Prefix(fmt.Sprintf("/r%d/", j)),
					Headers: []routing.HeaderMatch{{Name: call.NewName("end-user"), Value: call.Exact("jason")}}}},
				Split: []routing.Destination{{Index: i}}})
		}
		v.Routes = append(v.Routes, &routing.Route{Name: "all", Retry: &retry, Split: []routing.Destination{{Index: i}}})
		hosts = append(hosts, v)
		s.Clusters = append(s.Clusters, snapshot.Cluster{Name: host, Set: k})
		reqs[i], _ = http.NewRequest("GET", "http://"+host+":9080/r5/x", nil)
		reqs[i].Header.Set("User-Agent", "bench")
	}
	s.Tables = map[string]*routing.Table{snapshot.Mesh: routing.NewTable(hosts)}
	if err := e.Publish(tb.Context(), s); err != nil {
		tb.Fatal(err)
	}
	return NewRoundTripper(e, &noop{}), reqs
}

func exchange(tb testing.TB, rt http.RoundTripper, req *http.Request) {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		tb.Fatal(err)
	}
	resp.Body.Read(nil)
	resp.Body.Close()
}

// TestAllocs holds the budget of the plain path: one allocation, 96 bytes, over what the leaf itself
// allocates — with routing, balancing, accounting and the default retry policy on.
func TestAllocs(t *testing.T) {
	rt, reqs := benchRig(t, 1)
	leaf := &noop{}
	bare := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			exchange(b, leaf, reqs[0])
		}
	})
	meshed := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			exchange(b, rt, reqs[0])
		}
	})
	allocs := meshed.AllocsPerOp() - bare.AllocsPerOp()
	bytes := meshed.AllocedBytesPerOp() - bare.AllocedBytesPerOp()
	t.Logf("added: %d allocations, %d bytes, %d ns", allocs, bytes, meshed.NsPerOp()-bare.NsPerOp())
	if allocs > 1 || bytes > 96 {
		t.Errorf("the mesh adds %d allocations and %d bytes; the budget is 1 and 96", allocs, bytes)
	}
}

func BenchmarkRoundTripper(b *testing.B) {
	for _, n := range []int{0, 1, 64, 1000, 10000} {
		name := fmt.Sprintf("hosts=%d", n)
		var rt http.RoundTripper = &noop{}
		var reqs []*http.Request
		if n == 0 {
			name = "bare"
			_, reqs = benchRig(b, 1)
		} else {
			rt, reqs = benchRig(b, n)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			order := rand.New(rand.NewPCG(1, 1)).Perm(len(reqs))
			i := 0
			for b.Loop() {
				exchange(b, rt, reqs[order[i]])
				if i++; i == len(order) {
					i = 0
				}
			}
		})
	}
}

func BenchmarkRoundTripperParallel(b *testing.B) {
	rt, reqs := benchRig(b, 64)
	exchangeAll(b, rt, reqs)
}

// exchangeAll makes the calls on all processors, each from one of them on.
func exchangeAll(b *testing.B, rt http.RoundTripper, reqs []*http.Request) {
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		i := rand.IntN(len(reqs))
		for pb.Next() {
			exchange(b, rt, reqs[i])
			if i++; i == len(reqs) {
				i = 0
			}
		}
	})
}

// resilient turns outlier detection, a retry budget and per-try-free retries on for the rig's clusters, or leaves them off.
func resilient(tb testing.TB, rt *RoundTripper, on bool) {
	tb.Helper()
	live := rt.engine.Snapshot()
	next := &snapshot.Snapshot{Version: "2", Tables: live.Tables, Clusters: slices.Clone(live.Clusters)}
	if on {
		for i := range next.Clusters {
			p := &next.Clusters[i].Policy
			p.Outlier = &resilience.Outlier{Consecutive5xx: 5, ConsecutiveGateway: 3, MaxPercent: 50}
			p.Budget = resilience.Budget{Share: true, Percent: 20, Min: 3}
		}
	}
	if err := rt.engine.Publish(tb.Context(), next); err != nil {
		tb.Fatal(err)
	}
}

// TestAllocsOfResilience: ejection, a budget and a retry policy that have nothing to do cost no allocation.
func TestAllocsOfResilience(t *testing.T) { // not parallel: allocations are counted
	rt, reqs := benchRig(t, 1)
	cost := func(on bool) testing.BenchmarkResult {
		resilient(t, rt, on)
		return testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				exchange(b, rt, reqs[0])
			}
		})
	}
	without, with := cost(false), cost(true)
	t.Logf("added: %d allocations, %d bytes, %d ns", with.AllocsPerOp()-without.AllocsPerOp(),
		with.AllocedBytesPerOp()-without.AllocedBytesPerOp(), with.NsPerOp()-without.NsPerOp())
	if with.AllocsPerOp() > without.AllocsPerOp() || with.AllocedBytesPerOp() > without.AllocedBytesPerOp() {
		t.Errorf("idle resilience adds %d allocations and %d bytes", with.AllocsPerOp()-without.AllocsPerOp(),
			with.AllocedBytesPerOp()-without.AllocedBytesPerOp())
	}
}

// BenchmarkResilience is what ejection, a budget and a retry policy cost while they have nothing to do; -cpu 1,2 says whether
// processors share a cache line for it.
func BenchmarkResilience(b *testing.B) {
	for _, on := range []bool{false, true} {
		rt, reqs := benchRig(b, 64)
		resilient(b, rt, on)
		b.Run(map[bool]string{false: "off", true: "idle"}[on], func(b *testing.B) { exchangeAll(b, rt, reqs) })
	}
}
