package transport

import (
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// clocked is an engine with one host whose clock and dice are the test's.
type clocked struct {
	*Engine
	registry *discovery.Registry
	now      time.Duration
	route    *routing.Route
}

func newClocked(t *testing.T, p snapshot.Policy, endpoints ...discovery.Endpoint) *clocked {
	t.Helper()
	c := &clocked{registry: new(discovery.Registry)}
	c.registry.Publish(key, discovery.NewSet(endpoints...))
	c.Engine = NewEngine(Config{Registry: c.registry, Pools: new(noopPools), Rand: rand.New(rand.NewPCG(1, 2)).Uint64,
		Now: func() time.Duration { return c.now }})
	t.Cleanup(c.Close)
	retry := resilience.DefaultRetry()
	c.route = &routing.Route{Name: "r", Retry: &retry, Split: []routing.Destination{{}}}
	err := c.Publish(t.Context(), &snapshot.Snapshot{Version: "1",
		Tables: map[string]*routing.Table{snapshot.Mesh: routing.NewTable([]*routing.VirtualHost{
			{Host: "svc", Port: 80, HTTP: true, Routes: []*routing.Route{c.route}}})},
		Clusters: []snapshot.Cluster{{Name: "c", Set: key, Policy: p}}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shares makes calls and gives the percentage of each endpoint.
func (c *clocked) shares(t *testing.T, n int) map[string]float64 {
	t.Helper()
	got := map[string]float64{}
	for range n {
		got[once(t, c.Engine, hashedRequest("X", ""))] += 100 / float64(n)
	}
	return got
}

func wantShares(t *testing.T, when string, got, want map[string]float64) {
	t.Helper()
	for addr := range want {
		if math.Abs(got[addr]-want[addr]) > 1.5 {
			t.Errorf("%s: %v, want %v", when, got, want)
			return
		}
	}
}

func at(addr, locality string) discovery.Endpoint {
	return discovery.Endpoint{Address: discovery.TCP(addr, 80), Locality: locality}
}

// TestWarmUp: who joins gets its share by and by; who was there from the beginning does not warm up.
func TestWarmUp(t *testing.T) {
	t.Parallel()
	for _, a := range []balance.Algorithm{balance.RoundRobin, balance.LeastRequest} {
		c := newClocked(t, snapshot.Policy{Config: balance.Config{Algorithm: a,
			Warmup: balance.Warmup{Duration: 100 * time.Second, MinimumPercent: 10, Aggression: 1}}},
			at("10.0.0.1", ""), at("10.0.0.2", ""))
		const one, two, three = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"
		wantShares(t, "in the beginning", c.shares(t, 10_000), map[string]float64{one: 50, two: 50})
		c.now = time.Hour
		c.registry.Publish(key, discovery.NewSet(at("10.0.0.1", ""), at("10.0.0.2", ""), at("10.0.0.3", "")))
		for after, factor := range map[time.Duration]float64{0: .1, 50 * time.Second: .5, 100 * time.Second: 1, time.Hour: 1} {
			c.now = time.Hour + after
			share := 100 * factor / (2 + factor)
			if a == balance.LeastRequest && factor < 1 {
				// Without load LEAST_REQUEST of equal weights draws two and takes one by its factor: only that it is
				// less than a share of its own is the mesh's to promise.
				if got := c.shares(t, 10_000)[three]; got > 30 || got < 1 {
					t.Errorf("%v after %v: %v %% of the calls", a, after, got)
				}
				continue
			}
			wantShares(t, a.String()+" after "+after.String(), c.shares(t, 10_000), map[string]float64{one: (100 - share) / 2, two: (100 - share) / 2, three: share})
		}
		// Explained while it warms up.
		c.now = time.Hour + 50*time.Second
		if d := c.Explain(hashedRequest("X", "")).String(); strings.Count(d, "warming up: 50 % of its weight") != 1 {
			t.Errorf("%s", d)
		}
	}
}

// TestFailoverAsEndpointsGo: the level that serves is the nearest that has endpoints, as they go and come.
func TestFailoverAsEndpointsGo(t *testing.T) {
	t.Parallel()
	near, zone, region, next, far := at("10.0.0.1", "us/a/1"), at("10.0.0.2", "us/a/2"), at("10.0.0.3", "us/b/1"), at("10.0.0.4", "ap/x/1"), at("10.0.0.5", "eu/y/1")
	c := newClocked(t, snapshot.Policy{Config: balance.Config{
		Locality: &balance.LocalityPolicy{Failover: []balance.Failover{{From: "us", To: "ap"}}},
		Client:   &balance.Client{Locality: balance.ParseLocality("us/a/1")}}}, near, zone, region, next, far)
	all := []discovery.Endpoint{near, zone, region, next, far}
	for i := range all {
		c.registry.Publish(key, discovery.NewSet(all[i:]...))
		if got := c.shares(t, 50); len(got) != 1 || got[all[i].Address.Addr] == 0 {
			t.Errorf("with %d gone: %v", i, got)
		}
	}
	c.registry.Publish(key, discovery.NewSet(all...))
	if got := c.shares(t, 50); got["10.0.0.1:80"] < 99 {
		t.Errorf("all back: %v", got)
	}
	d := c.Explain(hashedRequest("X", ""))
	var priorities []int
	for _, e := range d.Destinations[0].Endpoints {
		priorities = append(priorities, *e.Priority)
	}
	if !slices.Equal(priorities, []int{0, 1, 2, 3, 4}) || !strings.Contains(d.String(), "endpoints are seen from us/a/1") {
		t.Errorf("%v\n%s", priorities, d)
	}
}

// TestDistribute: each place its share, and what is not named is explained as unused.
func TestDistribute(t *testing.T) {
	t.Parallel()
	c := newClocked(t, snapshot.Policy{Config: balance.Config{
		Locality: &balance.LocalityPolicy{Distribute: []balance.Distribution{{From: "us/*", To: []balance.Share{{To: "us/*", Weight: 70}, {To: "eu/*", Weight: 30}}}}},
		Client:   &balance.Client{Locality: balance.ParseLocality("us/a")}}}, at("10.0.0.1", "us/a/1"), at("10.0.0.2", "us/b/1"), at("10.0.0.3", "eu/x/1"), at("10.0.0.4", "ap/y/1"))
	wantShares(t, "all there", c.shares(t, 20_000), map[string]float64{"10.0.0.1:80": 35, "10.0.0.2:80": 35, "10.0.0.3:80": 30})
	if d := c.Explain(hashedRequest("X", "")); !d.Destinations[0].Endpoints[3].Unused || !strings.Contains(d.String(), "gets no calls from here") {
		t.Errorf("%s", d)
	}
	c.registry.Publish(key, discovery.NewSet(at("10.0.0.1", "us/a/1"), at("10.0.0.4", "ap/y/1")))
	wantShares(t, "Europe gone", c.shares(t, 2_000), map[string]float64{"10.0.0.1:80": 100})
}

// TestHashedRetry: where retries may leave the hash's endpoint they go on along the hash, so that those of one key meet
// again; where they may not, they stay.
func TestHashedRetry(t *testing.T) {
	t.Parallel()
	var endpoints []discovery.Endpoint
	for _, a := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"} {
		endpoints = append(endpoints, at(a, ""))
	}
	for _, avoids := range []bool{true, false} {
		c := newClocked(t, snapshot.Policy{Config: balance.Config{Algorithm: balance.RingHash},
			Hash: snapshot.HashPolicy{Kind: snapshot.HashHeader, Name: "x-user", Header: call.NewName("x-user")}}, endpoints...)
		c.route.Retry.AvoidPrevious = avoids
		tries := func(user string) (tried []string) {
			q := hashedRequest("X-User", user)
			var one Call
			c.Begin(t.Context(), &one, q)
			for range 3 {
				a, err := one.Pick(nil)
				if err != nil {
					t.Fatal(err)
				}
				tried = append(tried, a.Endpoint.Def.Address.Addr)
				o := call.Outcome{Reason: call.ReasonConnect, Unprocessed: true}
				a.Finish()
				one.Next(o, true)
			}
			return tried
		}
		for _, user := range []string{"jason", "a", "b", "c"} {
			first := tries(user)
			if !slices.Equal(tries(user), first) {
				t.Errorf("%s: two calls of one key are tried elsewhere", user)
			}
			slices.Sort(first)
			if n := len(slices.Compact(first)); avoids && n != 3 || !avoids && n != 1 {
				t.Errorf("%s, avoiding %v: %d endpoints of three tries", user, avoids, n)
			}
		}
	}
}

// TestExplainsHash: the key, and where it leads.
func TestExplainsHash(t *testing.T) {
	t.Parallel()
	e, _ := hashRig(t, snapshot.HashPolicy{Kind: snapshot.HashHeader, Name: "x-user", Header: call.NewName("x-user")}, balance.RingHash)
	q := hashedRequest("X-User", "jason")
	d := e.Explain(q)
	if v := d.Destinations[0]; v.KeptBy != "header x-user" || v.KeptAt != once(t, e, q) || v.Balancer != "RING_HASH" {
		t.Errorf("%+v", v)
	}
	if s := d.String(); !strings.Contains(s, "kept together by header x-user: this request's endpoint is 10.0.0.") {
		t.Errorf("%s", s)
	}
	d = e.Explain(&call.Request{Method: "GET", Scheme: "http", Host: "svc", Port: 80, Path: "/", Headers: call.HTTPHeaders(http.Header{})})
	if s := d.String(); d.Destinations[0].KeptAt != "" || !strings.Contains(s, "which this request has not") {
		t.Errorf("%s", s)
	}
}
