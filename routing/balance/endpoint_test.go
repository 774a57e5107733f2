package balance

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/discovery"
)

func newEndpoint(weight uint32) *Endpoint {
	return NewEndpoint(&discovery.Endpoint{Address: discovery.TCP("10.0.0.1", 80), Weight: weight}, nil)
}

func TestEndpointCounts(t *testing.T) {
	t.Parallel()
	e := newEndpoint(1)
	if c := e.Counts(); c != (Counts{}) {
		t.Fatalf("a new endpoint has counted %+v", c)
	}
	e.Begin()
	e.Begin()
	e.Begin()
	if c, want := e.Counts(), (Counts{Active: 3, Total: 3}); c != want {
		t.Errorf("with three begun: %+v, want %+v", c, want)
	}
	e.Failed()
	e.End(3 * time.Second)
	e.Succeeded()
	e.End(time.Second)
	if c, want := e.Counts(), (Counts{Active: 1, Total: 3, Failed: 1, Latency: 2 * time.Second}); c != want {
		t.Errorf("with two ended: %+v, want %+v", c, want)
	}
}

func TestEndpointRelease(t *testing.T) {
	t.Parallel()
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		if !newEndpoint(1).Retire() {
			t.Error("an idle endpoint's connections cannot go at once")
		}
	})
	t.Run("in use", func(t *testing.T) {
		t.Parallel()
		e := newEndpoint(1)
		e.Begin()
		e.Begin()
		if e.Retire() {
			t.Error("the connections can go with two attempts under way")
		}
		if e.End(0) {
			t.Error("the connections can go with one attempt under way")
		}
		if !e.End(0) {
			t.Error("the connections cannot go after the last attempt")
		}
	})
	t.Run("not retired", func(t *testing.T) {
		t.Parallel()
		e := newEndpoint(1)
		e.Begin()
		if e.End(0) {
			t.Error("the connections of an endpoint that is not retired can go")
		}
	})
}

// TestEndpointReleaseIsNeverMissed: however Retire and the last End fall together, one of them says so.
func TestEndpointReleaseIsNeverMissed(t *testing.T) {
	t.Parallel()
	for range 2000 {
		e := newEndpoint(1)
		e.Begin()
		var released atomic.Int32
		var wg sync.WaitGroup
		for _, f := range []func() bool{e.Retire, func() bool { return e.End(0) }} {
			wg.Go(func() {
				if f() {
					released.Add(1)
				}
			})
		}
		wg.Wait()
		if released.Load() == 0 {
			t.Fatal("nobody was told that the connections can go")
		}
	}
}

func TestEndpointRedefined(t *testing.T) {
	t.Parallel()
	e := NewEndpoint(&discovery.Endpoint{Weight: 1}, "pool")
	e.Begin()
	again := e.Redefined(&discovery.Endpoint{Weight: 5})
	if again.weight() != 5 || e.weight() != 1 {
		t.Errorf("weights %d and %d, want 5 and still 1", again.weight(), e.weight())
	}
	if again.Conns != "pool" || !again.Same(e) || !e.Same(again) {
		t.Error("the redefined record is not of the same endpoint")
	}
	if again.Same(newEndpoint(1)) {
		t.Error("two endpoints are the same")
	}
	again.Failed()
	again.End(0)
	if c := e.Counts(); c.Active != 0 || c.Failed != 1 {
		t.Errorf("the first record has %+v", c)
	}
}

func TestEndpointLoad(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do               func(*Endpoint)
		load             int64
		down, onlyFailed bool
	}{
		"new":             {func(*Endpoint) {}, 0, false, false},
		"in flight":       {func(e *Endpoint) { e.Begin(); e.Begin() }, 2, false, false},
		"a failure":       {func(e *Endpoint) { e.Failed() }, 1, false, true},
		"failed and busy": {func(e *Endpoint) { e.Failed(); e.Begin() }, 2, false, false},
		"one short of it": {func(e *Endpoint) { fail(e, maxStreak-1) }, maxStreak - 1, false, true},
		"down":            {func(e *Endpoint) { fail(e, maxStreak) }, maxStreak, true, true},
		"long down":       {func(e *Endpoint) { fail(e, 1000) }, maxStreak, true, true},
		"served again":    {func(e *Endpoint) { fail(e, 1000); e.Succeeded() }, 0, false, false},
		"failures apart":  {func(e *Endpoint) { e.Failed(); e.Succeeded(); e.Failed() }, 1, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEndpoint(1)
			c.do(e)
			if e.load() != c.load || e.down() != c.down || e.onlyFailed() != c.onlyFailed {
				t.Errorf("load %d, down %v, only failed %v", e.load(), e.down(), e.onlyFailed())
			}
		})
	}
}

func fail(e *Endpoint, n int) {
	for range n {
		e.Failed()
	}
}

// TestEndpointStreakDoesNotWrap: 2³¹ failures in a row must not make a load below zero.
func TestEndpointStreakDoesNotWrap(t *testing.T) {
	t.Parallel()
	e := newEndpoint(1)
	e.state.streak.Store(math.MaxInt32)
	e.Failed()
	if e.load() < 0 || !e.down() {
		t.Errorf("the load is %d", e.load())
	}
}

func TestEndpointWeight(t *testing.T) {
	t.Parallel()
	for weight, want := range map[uint32]uint32{0: 1, 1: 1, 100: 100, math.MaxUint32: math.MaxUint32} {
		if got := newEndpoint(weight).weight(); got != want {
			t.Errorf("weight %d counts as %d, want %d", weight, got, want)
		}
	}
}
