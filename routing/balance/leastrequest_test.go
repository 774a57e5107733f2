package balance_test

import (
	"testing"

	"github.com/heddlemesh/mesh/routing/balance"
)

// begin puts n attempts in flight.
func begin(e *balance.Endpoint, n int) {
	for range n {
		e.Begin()
	}
}

func TestLeastRequestOfTwoTakesTheIdleOne(t *testing.T) {
	t.Parallel()
	all := equal(2)
	begin(all[0], 1)
	p := balance.New(balance.Config{Algorithm: balance.LeastRequest}, all, 1)
	if seen := counts(t, p, 10_000, 1); seen[0] != 0 {
		t.Errorf("the busier of two has %d of 10000 picks, want none", seen[0])
	}
}

// With replacement, as in Envoy, the busiest of n is taken only when it is drawn twice: 1/n².
func TestLeastRequestDrawsTwo(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 4, 10} {
		all := equal(n)
		for i, e := range all {
			begin(e, i)
		}
		p := balance.New(balance.Config{Algorithm: balance.LeastRequest}, all, 1)
		// The i-th least loaded wins unless both draws are above it.
		weights := make([]uint32, n)
		for i := range weights {
			weights[i] = uint32(2*(n-i) - 1)
		}
		wantShares(t, counts(t, p, 20_000, 2), weights, 1.5)
	}
}

func TestLeastRequestTieTakesTheFirstDrawn(t *testing.T) {
	t.Parallel()
	for name, all := range map[string][]*balance.Endpoint{"equal": equal(4), "weighted": endpoints(1, 1, 1, 2)} {
		p := balance.New(balance.Config{Algorithm: balance.LeastRequest}, all, 1)
		// The upper half draws the first endpoint whatever the lower half draws.
		for lower := uint64(0); lower < 1<<32; lower += 1 << 27 {
			if e := p.Pick(balance.Draw{Random: lower | 1}); e != all[0] {
				t.Fatalf("%s: lower half %x: picked %v, want the first drawn", name, lower, e.Def.Address)
			}
		}
	}
}

// With load in proportion to weight none is preferred; with equal load the heavy one is.
func TestLeastRequestComparesLoadForWeight(t *testing.T) {
	t.Parallel()
	all := endpoints(1, 4)
	p := balance.New(balance.Config{Algorithm: balance.LeastRequest}, all, 1)
	begin(all[0], 1)
	begin(all[1], 4)
	wantShares(t, counts(t, p, 20_000, 3), []uint32{1, 4}, 1.5)
	begin(all[0], 3) // 4 and 4: the light one only when it is drawn twice, 1/25
	wantShares(t, counts(t, p, 20_000, 4), []uint32{1, 24}, 1.5)
	begin(all[1], 16) // 4 and 20: the heavy one only when it is drawn twice, 16/25
	wantShares(t, counts(t, p, 20_000, 5), []uint32{9, 16}, 1.5)
}

// traffic sends calls of which each endpoint has as many in flight, on average; a failing one answers at
// once.
func traffic(t *testing.T, p balance.Picker, calls, flying int, seed uint64, fails func(*balance.Endpoint) bool) []int {
	t.Helper()
	rnd := random(seed)
	var flight []*balance.Endpoint
	end := func(i int) {
		flight[i].Succeeded()
		flight[i].End(1)
		flight[i] = flight[len(flight)-1]
		flight = flight[:len(flight)-1]
	}
	seen := countsOf(t, p, calls, func() *balance.Endpoint {
		e := p.Pick(balance.Draw{Random: rnd.Uint64()})
		e.Begin()
		if fails(e) {
			e.Failed()
			e.End(0)
		} else if flight = append(flight, e); len(flight) > flying*p.Len() {
			end(rnd.IntN(len(flight)))
		}
		return e
	})
	for len(flight) > 0 {
		end(0)
	}
	return seen
}

// TestFastFailureIsNotLowLoad: an endpoint that fails at once never has anything in flight, and would draw
// every call that looks at it (peers.md R13).
func TestFastFailureIsNotLowLoad(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		all    []*balance.Endpoint
		flying int
		most   float64 // percent of the calls
	}{
		"of two":             {equal(2), 3, 5},
		"of two, idle":       {equal(2), 0, 5},
		"of two, busy":       {equal(2), 100, 5},
		"of three":           {equal(3), 3, 14}, // a ninth for drawing it twice
		"of three, busy":     {equal(3), 100, 14},
		"of ten":             {equal(10), 3, 3},
		"of ten, busy":       {equal(10), 100, 3},
		"heavy of three":     {endpoints(3, 2, 1), 20, 28}, // a quarter for drawing it twice
		"light of three":     {endpoints(1, 2, 3), 20, 5},
		"one of a heavy ten": {endpoints(40, 40, 40, 40, 40, 40, 40, 40, 40, 50), 20, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := balance.New(balance.Config{Algorithm: balance.LeastRequest}, c.all, 1)
			bad := c.all[0]
			const calls = 20_000
			seen := traffic(t, p, calls, c.flying, 6, func(e *balance.Endpoint) bool { return e == bad })
			if share := 100 * float64(seen[0]) / calls; share > c.most {
				t.Errorf("the failing endpoint has %.1f %% of the calls, want at most %.1f %%", share, c.most)
			} else if seen[0] == 0 {
				t.Error("the failing endpoint is never tried again")
			}
			// Once it serves again it has its share again.
			seen = traffic(t, p, calls, c.flying, 7, func(*balance.Endpoint) bool { return false })
			weights := make([]uint32, len(c.all))
			for i, e := range c.all {
				weights[i] = e.Def.Weight
			}
			wantShares(t, seen, weights, 3)
		})
	}
}

// TestFailedEndpointIsTriedAgainWithoutLoad: beside an endpoint that is always idle when a call looks, a
// single failure must not be for ever.
func TestFailedEndpointIsTriedAgainWithoutLoad(t *testing.T) {
	t.Parallel()
	for name, all := range map[string][]*balance.Endpoint{
		"pair": equal(2), "hundred": equal(100), "small canary": endpoints(1, 99),
	} {
		p := balance.New(balance.Config{Algorithm: balance.LeastRequest}, all, 1)
		for range 20 {
			all[0].Failed()
		}
		tried := counts(t, p, 50_000, 8)[0]
		if tried == 0 {
			t.Errorf("%s: the endpoint is never tried again", name)
		}
		if name == "pair" && tried > 50_000/20 {
			t.Errorf("%s: the endpoint has %d of 50000 calls", name, tried)
		}
		all[0].Begin() // while one such try is out there is no second
		if name == "pair" {
			if again := counts(t, p, 10_000, 9)[0]; again != 0 {
				t.Errorf("%s: %d more tries while one is under way", name, again)
			}
		}
		all[0].Succeeded()
		all[0].End(1)
		weights := make([]uint32, len(all))
		for i, e := range all {
			weights[i] = e.Def.Weight
		}
		wantShares(t, counts(t, p, 20_000, 10), weights, 1.5)
	}
}
