package transport

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

var (
	okay     = call.Outcome{Status: 200}
	internal = call.Outcome{Status: 500}
)

// attempt makes one call whose outcome depends on the endpoint, and gives the endpoint, "" with the error for none.
func (c *clocked) attempt(t *testing.T, outcome func(address string) call.Outcome) (string, error) {
	t.Helper()
	var one Call
	c.Begin(t.Context(), &one, hashedRequest("X", ""))
	a, err := one.Pick(nil)
	if err != nil {
		return "", err
	}
	at := a.Endpoint.Def.Address.Addr
	a.Answered(outcome(at))
	a.Finish()
	one.End(nil)
	return at, nil
}

func alwaysMeets(o call.Outcome) func(string) call.Outcome {
	return func(string) call.Outcome { return o }
}

// failing says that one endpoint fails and the others do not.
func onlyFails(bad string) func(string) call.Outcome {
	return func(at string) call.Outcome {
		if at == bad {
			return internal
		}
		return okay
	}
}

// reached gives the endpoints that n calls reach, "" for calls without.
func (c *clocked) reached(t *testing.T, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		at, _ := c.attempt(t, alwaysMeets(okay))
		got[at]++
	}
	return got
}

const first, second, third = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"

func ejecting(p resilience.Outlier) snapshot.Policy {
	return snapshot.Policy{Config: balance.Config{Algorithm: balance.RoundRobin}, Outlier: &p}
}

func three() []discovery.Endpoint {
	return []discovery.Endpoint{at("10.0.0.1", ""), at("10.0.0.2", ""), at("10.0.0.3", "")}
}

// TestOutlierEjects: the call after the one that reaches the threshold goes elsewhere, and the endpoint comes back at the
// first sweep after its time, longer each time.
func TestOutlierEjects(t *testing.T) {
	t.Parallel()
	c := newClocked(t, ejecting(resilience.Outlier{Consecutive5xx: 3, MaxPercent: 100}), three()...)
	eject := func() {
		t.Helper()
		for failed := 0; failed < 3; {
			if at, _ := c.attempt(t, onlyFails(second)); at == second {
				failed++
			}
		}
		if got := c.reached(t, 30); got[second] != 0 || got[first] == 0 || got[third] == 0 {
			t.Fatalf("after three failures in a row: %v", got)
		}
	}
	c.now = 5 * time.Second
	eject()
	if d := c.Explain(hashedRequest("X", "")).String(); !strings.Contains(d, "ejected for 35s more") {
		t.Errorf("explained: %s", d)
	}
	c.now = 39999 * time.Millisecond // 30 s are over at 35 s; sweeps are at 10 s, 20 s, 30 s, 40 s
	if got := c.reached(t, 30); got[second] != 0 {
		t.Errorf("before the sweep: %v", got)
	}
	c.now = 40 * time.Second
	if got := c.reached(t, 30); got[second] != 10 {
		t.Errorf("after the sweep: %v", got)
	}
	c.now = 41 * time.Second
	eject()
	if views := c.Clusters()[0].Endpoints; views[1].Ejected == nil || views[1].Ejected.Times != 2 || views[1].Ejected.Left != 69*time.Second || views[0].Ejected != nil {
		t.Errorf("ejected again: %+v", views[1].Ejected)
	}
	c.now = 110 * time.Second
	if views := c.Clusters()[0].Endpoints; views[1].Ejected != nil {
		t.Error("who looks does not see that it is back")
	}
	if got := c.reached(t, 30); got[second] != 10 {
		t.Errorf("back again: %v", got)
	}
}

// TestOutlierNeutral: what says nothing of the endpoint ejects nobody (DESIGN.md §3 rule 7).
func TestOutlierNeutral(t *testing.T) {
	t.Parallel()
	c := newClocked(t, ejecting(resilience.Outlier{Consecutive5xx: 1, ConsecutiveGateway: 1, MaxPercent: 100}), three()...)
	for _, r := range []call.Reason{call.ReasonCanceled, call.ReasonNoEndpoint, call.ReasonClosed, call.ReasonInvalidRequest} {
		for range 10 {
			_, _ = c.attempt(t, alwaysMeets(call.Outcome{Reason: r}))
		}
	}
	for range 10 {
		_, _ = c.attempt(t, alwaysMeets(call.Outcome{Status: 404}))
		_, _ = c.attempt(t, alwaysMeets(call.Outcome{Reason: call.ReasonReset, StaleReuse: true}))
	}
	if got := c.reached(t, 30); len(got) != 3 {
		t.Errorf("%v", got)
	}
}

// TestOutlierLimits: maxEjectionPercent, the small pool and its way out, and what becomes of calls when all are out.
func TestOutlierLimits(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]struct {
		policy resilience.Outlier
		panics uint8
		pool   int // that is left when all fail
	}{
		"Istio's 10 % of three":  {resilience.Outlier{MaxPercent: 10}, 0, 3},
		"one always":             {resilience.Outlier{MaxPercent: 10, AlwaysOne: true}, 0, 2},
		"two thirds":             {resilience.Outlier{MaxPercent: 67}, 0, 1},
		"half":                   {resilience.Outlier{MaxPercent: 50}, 0, 2},
		"all":                    {resilience.Outlier{MaxPercent: 100}, 0, 0},
		"all, and then in panic": {resilience.Outlier{MaxPercent: 100}, 50, 3},
		"half, not in panic":     {resilience.Outlier{MaxPercent: 50}, 50, 2},
	} {
		policy := ejecting(p.policy)
		policy.Outlier.Consecutive5xx, policy.PanicThreshold = 2, p.panics
		c := newClocked(t, policy, three()...)
		for range 30 {
			_, _ = c.attempt(t, alwaysMeets(internal))
		}
		got := c.reached(t, 60)
		delete(got, "")
		if len(got) != p.pool {
			t.Errorf("%s: %v", name, got)
		}
		_, err := c.attempt(t, alwaysMeets(okay))
		if p.pool > 0 != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (call.ReasonOf(err) != call.ReasonNoEndpoint || !strings.Contains(err.Error(), "flag UH") || !strings.Contains(err.Error(), "all 3 endpoints are ejected")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOutlierOutlivesSnapshots: ejection is state. It goes on under a new policy's times, and ends where that ejects
// nobody, and where the endpoint is another.
func TestOutlierOutlivesSnapshots(t *testing.T) {
	t.Parallel()
	publish := func(c *clocked, p snapshot.Policy) {
		t.Helper()
		if err := c.Publish(t.Context(), &snapshot.Snapshot{Version: "2",
			Tables:   c.Snapshot().Tables,
			Clusters: []snapshot.Cluster{{Name: "c", Set: key, Policy: p}}}); err != nil {
			t.Fatal(err)
		}
	}
	rig := func() *clocked {
		c := newClocked(t, ejecting(resilience.Outlier{Consecutive5xx: 1, MaxPercent: 50, BaseEjection: time.Hour}), three()...)
		for range 3 {
			_, _ = c.attempt(t, onlyFails(second))
		}
		return c
	}
	c := rig()
	p := ejecting(resilience.Outlier{Consecutive5xx: 9, MaxPercent: 100})
	publish(c, p)
	if got := c.reached(t, 30); got[second] != 0 {
		t.Errorf("another policy: %v", got)
	}
	c.now = 30 * time.Second
	if got := c.reached(t, 30); got[second] == 0 {
		t.Errorf("by the new policy it would be back: %v", got)
	}
	c = rig()
	publish(c, snapshot.Policy{})
	if got := c.reached(t, 90); got[second] == 0 {
		t.Errorf("without outlier detection: %v", got)
	}
	c = rig()
	c.registry.Publish(key, discovery.NewSet(at("10.0.0.1", ""), at("10.0.0.3", "")))
	c.registry.Publish(key, discovery.NewSet(three()...))
	if got := c.reached(t, 30); got[second] == 0 {
		t.Errorf("gone and come: %v", got)
	}
	c = rig()
	c.registry.Publish(key, discovery.NewSet(append(three(), at("10.0.0.4", ""))...))
	if got := c.reached(t, 40); got[second] != 0 || len(got) != 3 {
		t.Errorf("one more endpoint: %v", got)
	}
}

// TestOutlierFailsOver: the level that is nearest loses what it cannot take, as its endpoints are ejected.
func TestOutlierFailsOver(t *testing.T) {
	t.Parallel()
	p := ejecting(resilience.Outlier{Consecutive5xx: 1, MaxPercent: 100})
	p.Locality, p.Client = new(balance.LocalityPolicy), &balance.Client{Locality: balance.ParseLocality("us/a")}
	c := newClocked(t, p, at("10.0.0.1", "us/a"), at("10.0.0.2", "us/a"), at("10.0.0.3", "eu/x"))
	if got := c.reached(t, 100); got[third] != 0 {
		t.Fatalf("in good health: %v", got)
	}
	for got := ""; got != second; {
		got, _ = c.attempt(t, onlyFails(second))
	}
	// One of two is healthy: the level takes 70 %.
	if got := c.shares(t, 10_000); got[second] != 0 || got[third] < 27 || got[third] > 33 {
		t.Errorf("one of two ejected: %v", got)
	}
	c.now = 30 * time.Second
	if got := c.reached(t, 100); got[third] != 0 || got[second] == 0 {
		t.Errorf("back: %v", got)
	}
}

// TestTheSlidesScenario is the circuit breaker of the Istio talk that the mesh began with, its ejection half: one error,
// three minutes, and everybody may go.
func TestTheSlidesScenario(t *testing.T) {
	t.Parallel()
	c := newClocked(t, ejecting(resilience.Outlier{Consecutive5xx: 1, Interval: time.Second, BaseEjection: 3 * time.Minute, MaxPercent: 100}), at("10.0.0.1", ""))
	if _, err := c.attempt(t, alwaysMeets(internal)); err != nil {
		t.Fatal(err)
	}
	for _, now := range []time.Duration{0, time.Second, 179999 * time.Millisecond} {
		c.now = now
		if _, err := c.attempt(t, alwaysMeets(okay)); call.ReasonOf(err) != call.ReasonNoEndpoint {
			t.Errorf("at %v: %v", now, err)
		}
	}
	c.now = 3 * time.Minute
	if _, err := c.attempt(t, alwaysMeets(okay)); err != nil {
		t.Errorf("after three minutes: %v", err)
	}
}

// TestOutlierUnderLoad: ejections, sweeps, changes of endpoints and of the configuration at once; for the race detector,
// and that nothing is out for good.
func TestOutlierUnderLoad(t *testing.T) {
	t.Parallel()
	p := ejecting(resilience.Outlier{Consecutive5xx: 2, MaxPercent: 70, Interval: time.Millisecond, BaseEjection: time.Millisecond})
	p.PanicThreshold = 40
	registry := new(discovery.Registry)
	registry.Publish(key, discovery.NewSet(three()...))
	e := NewEngine(Config{Registry: registry, Pools: new(noopPools)})
	defer e.Close()
	s := &snapshot.Snapshot{Tables: map[string]*routing.Table{snapshot.Mesh: routing.NewTable([]*routing.VirtualHost{
		{Host: "svc", Port: 80, HTTP: true, Routes: []*routing.Route{{Split: []routing.Destination{{}}}}}})},
		Clusters: []snapshot.Cluster{{Name: "c", Set: key, Policy: p}}}
	if err := e.Publish(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5000 {
				var c Call
				e.Begin(t.Context(), &c, hashedRequest("X", ""))
				a, err := c.Pick(nil)
				if err != nil {
					continue
				}
				o := okay
				if rand.IntN(2) == 0 {
					o = internal
				}
				a.Answered(o)
				a.Finish()
			}
		})
	}
	wg.Go(func() {
		for i := range 200 {
			registry.Publish(key, discovery.NewSet(three()[:2+i%2]...))
			e.Clusters()
		}
	})
	wg.Go(func() {
		for i := range 200 {
			next := *s
			next.Clusters = []snapshot.Cluster{{Name: "c", Set: key, Policy: p}}
			next.Clusters[0].Policy.PanicThreshold = uint8(i % 50)
			_ = e.Publish(t.Context(), &next)
		}
	})
	wg.Wait()
	e.now = func() time.Duration { return time.Hour } // nobody is under way
	for _, ep := range e.Clusters()[0].Endpoints {
		if ep.Ejected != nil {
			t.Errorf("%s is out for good", ep.Address)
		}
	}
}
