package balance_test

import (
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/heddlemesh/mesh/routing/balance"
)

func TestRoundRobinOrder(t *testing.T) {
	t.Parallel()
	all := equal(3)
	p := balance.New(balance.Config{Algorithm: balance.RoundRobin}, all, 7) // 7 mod 3
	for i := range 9 {
		if e := p.Pick(balance.Draw{}); e != all[(1+i)%3] {
			t.Fatalf("pick %d is %v", i, e.Def.Address)
		}
	}
}

// TestRoundRobinCycle: over one cycle, wherever it begins, each endpoint is picked exactly as often as its
// weight says.
func TestRoundRobinCycle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		weights []uint32
		cycle   []int // picks of each; nil for the weights themselves
	}{
		"equal":            {weights: []uint32{1, 1, 1}},
		"unset":            {weights: []uint32{0, 0}, cycle: []int{1, 1}},
		"one two three":    {weights: []uint32{1, 2, 3}},
		"common divisor":   {weights: []uint32{50, 100, 150}, cycle: []int{1, 2, 3}},
		"canary":           {weights: []uint32{95, 5}, cycle: []int{19, 1}},
		"no common one":    {weights: []uint32{7, 11, 13, 17}},
		"two heavy":        {weights: []uint32{5, 1, 5, 1}},
		"one heavy":        {weights: []uint32{1, 1, 1, 1000}},
		"16 bits":          {weights: []uint32{math.MaxUint16, 1, 256}},
		"scaled to 16":     {weights: []uint32{math.MaxUint32, math.MaxUint32 / math.MaxUint16}, cycle: []int{math.MaxUint16, 1}},
		"scaled up to one": {weights: []uint32{math.MaxUint32, 1}, cycle: []int{math.MaxUint16, 1}},
		"halves":           {weights: []uint32{4_000_000_000, 2_000_000_000}, cycle: []int{math.MaxUint16, 32768}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := c.cycle
			if want == nil {
				for _, w := range c.weights {
					want = append(want, int(w))
				}
			}
			cycle := 0
			for _, n := range want {
				cycle += n
			}
			for seed := range uint64(20) {
				p := balance.New(balance.Config{Algorithm: balance.RoundRobin}, endpoints(c.weights...), seed*0x9e3779b97f4a7c15)
				for range 2 {
					if seen := counts(t, p, cycle, 1); !slices.Equal(seen, want) {
						t.Fatalf("seed %d: a cycle has %v, want %v", seed, seen, want)
					}
				}
			}
		})
	}
}

// TestRoundRobinIsSmooth: at every moment of a cycle, from any beginning, each endpoint is near its share.
func TestRoundRobinIsSmooth(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		weights []uint32
		off     float64 // picks that an endpoint may be ahead or behind
	}{
		"one two three":      {[]uint32{1, 2, 3}, 2},
		"canary":             {[]uint32{90, 10}, 2},
		"one beside ten":     {[]uint32{10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 2},
		"large and small":    {[]uint32{100, 100, 1, 1, 50, 50}, 2},
		"no common divisor":  {[]uint32{7, 11, 13, 17, 19, 23}, 2},
		"a hundred, all odd": {odd(100), 2.5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sum := 0.0
			for _, w := range c.weights {
				sum += float64(w)
			}
			p := balance.New(balance.Config{Algorithm: balance.RoundRobin}, endpoints(c.weights...), 4711)
			seen := make([]float64, p.Len())
			for k := 1.0; k <= sum; k++ {
				e := p.Pick(balance.Draw{})
				for i := range seen {
					if p.At(i) == e {
						seen[i]++
					}
					if want := k * float64(c.weights[i]) / sum; math.Abs(seen[i]-want) > c.off {
						t.Fatalf("after %v picks endpoint %d has %v, want %.1f", k, i, seen[i], want)
					}
				}
			}
		})
	}
}

func odd(n int) []uint32 {
	weights := make([]uint32, n)
	for i := range weights {
		weights[i] = uint32(2*i + 1)
	}
	return weights
}

// TestRoundRobinBeginsAnywhere: clients with different seeds do not all begin with the same endpoint.
func TestRoundRobinBeginsAnywhere(t *testing.T) {
	t.Parallel()
	for name, weights := range map[string][]uint32{"equal": {1, 1, 1, 1, 1}, "weighted": {4, 5, 6, 5, 4}} {
		all := endpoints(weights...)
		rnd := random(11)
		seen := countsOf(t, balance.New(balance.Config{Algorithm: balance.RoundRobin}, all, 0), 10_000, func() *balance.Endpoint {
			return balance.New(balance.Config{Algorithm: balance.RoundRobin}, all, rnd.Uint64()).Pick(balance.Draw{})
		})
		for i, n := range seen {
			if n < 1000 {
				t.Errorf("%s: endpoint %d is the first for %d of 10000 clients", name, i, n)
			}
		}
	}
}

// TestRoundRobinCycleIsExactTogether: callers at once share one sequence, so that a cycle is exact whoever
// picks.
func TestRoundRobinCycleIsExactTogether(t *testing.T) {
	t.Parallel()
	const callers = 8
	for name, weights := range map[string][]uint32{"equal": {5, 5, 5}, "weighted": {40, 80, 120, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := endpoints(weights...)
			p := balance.New(balance.Config{Algorithm: balance.RoundRobin}, all, 99)
			cycle := 0
			for _, w := range weights {
				cycle += int(w)
			}
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for range cycle {
						p.Pick(balance.Draw{}).Begin()
					}
				})
			}
			wg.Wait()
			for i, e := range all {
				if got := e.Counts().Total; got != callers*uint64(weights[i]) {
					t.Errorf("endpoint %d has %d picks, want %d", i, got, callers*weights[i])
				}
			}
		})
	}
}
