package balance_test

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/routing/balance"
)

func TestAlgorithmNames(t *testing.T) {
	t.Parallel()
	var zero balance.Algorithm
	for a, want := range map[balance.Algorithm]string{
		zero: "LEAST_REQUEST", balance.RoundRobin: "ROUND_ROBIN", balance.Random: "RANDOM",
		balance.RingHash: "RING_HASH", balance.Maglev: "MAGLEV", 77: "Algorithm(77)",
	} {
		if got := a.String(); got != want {
			t.Errorf("%d is %q, want %q", a, got, want)
		}
	}
}

func TestNoEndpoint(t *testing.T) {
	t.Parallel()
	for _, a := range everyAlgorithm {
		for name, none := range map[string][]*balance.Endpoint{"nil": nil, "empty": {}} {
			p := balance.New(balance.Config{Algorithm: a}, none, 1)
			if e := p.Pick(balance.Draw{Random: math.MaxUint64}); e != nil || p.Len() != 0 {
				t.Errorf("%v over %s: picked %v of %d", a, name, e, p.Len())
			}
		}
	}
}

func TestOneEndpoint(t *testing.T) {
	t.Parallel()
	for _, a := range everyAlgorithm {
		for _, weight := range []uint32{0, 1, math.MaxUint32} {
			all := endpoints(weight)
			p := balance.New(balance.Config{Algorithm: a}, all, 7)
			all[0].Failed()
			all[0].Begin()
			if p.Pick(balance.Draw{}) != all[0] || p.Pick(balance.Draw{Random: math.MaxUint64}) != all[0] {
				t.Errorf("%v: the one endpoint of weight %d is not picked", a, weight)
			}
		}
	}
}

func TestPickerKeepsItsList(t *testing.T) {
	t.Parallel()
	for _, a := range everyAlgorithm {
		all := mixed(5)
		want := slices.Clone(all)
		p := balance.New(balance.Config{Algorithm: a}, all, 3)
		clear(all)
		var got []*balance.Endpoint
		for i := range p.Len() {
			got = append(got, p.At(i))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v: the list changed with the caller's slice", a)
		}
		counts(t, p, 100, 1)
	}
}

// TestShares holds every algorithm, without load, to the weights.
func TestShares(t *testing.T) {
	t.Parallel()
	for name, weights := range map[string][]uint32{
		"equal pair":     {1, 1},
		"equal":          {3, 3, 3, 3, 3},
		"unset is one":   {0, 1, 0, 1},
		"unset beside 3": {0, 3},
		"canary":         {90, 10},
		"mixed":          {1, 2, 3, 4, 5},
		"steep":          {1, 10, 100, 1000},
		"one heavy":      {1, 1, 1, 1, 60_000, 1},
		"beyond 16 bits": {100_000, 200_000, 700_000},
		"largest":        {math.MaxUint32, math.MaxUint32 / 2, math.MaxUint32 / 4},
		"largest, equal": {math.MaxUint32, math.MaxUint32},
		"extremes":       {math.MaxUint32, 1, math.MaxUint32, 1},
	} {
		for _, a := range algorithms {
			t.Run(name+"/"+a.String(), func(t *testing.T) {
				t.Parallel()
				p := balance.New(balance.Config{Algorithm: a}, endpoints(weights...), 12345)
				wantShares(t, counts(t, p, 20_000, 99), weights, 1.5)
			})
		}
	}
}

// TestPickIsInTheSet tries sizes, weights and random bits at their edges.
func TestPickIsInTheSet(t *testing.T) {
	t.Parallel()
	rnd := random(5)
	for _, a := range algorithms {
		for n := 2; n < 70; n++ {
			weights := make([]uint32, n)
			for i := range weights {
				weights[i] = rnd.Uint32() >> rnd.UintN(32)
			}
			for _, set := range [][]*balance.Endpoint{equal(n), endpoints(weights...)} {
				for _, e := range set {
					for range rnd.UintN(4) {
						e.Begin()
					}
				}
				p := balance.New(balance.Config{Algorithm: a}, set, rnd.Uint64())
				for _, edge := range []uint64{0, 1, 1<<32 - 1, 1 << 32, 1 << 63, math.MaxUint64 - 1, math.MaxUint64} {
					if e := p.Pick(balance.Draw{Random: edge}); !slices.Contains(set, e) {
						t.Fatalf("%v over %d: random bits %x pick %v", a, n, edge, e)
					}
				}
				counts(t, p, 50, rnd.Uint64())
			}
		}
	}
}

// TestConcurrentPicks has many callers pick, begin, fail, succeed and end on one picker.
func TestConcurrentPicks(t *testing.T) {
	t.Parallel()
	const callers, picks = 8, 2000
	for _, a := range everyAlgorithm {
		for name, all := range map[string][]*balance.Endpoint{"equal": equal(7), "weighted": mixed(7)} {
			t.Run(a.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				p := balance.New(balance.Config{Algorithm: a}, all, 3)
				var wg sync.WaitGroup
				for c := range callers {
					rnd := random(uint64(c))
					wg.Go(func() {
						for i := range picks {
							e := p.Pick(balance.Draw{Random: rnd.Uint64()})
							e.Begin()
							if i%3 == 0 {
								e.Failed()
							} else {
								e.Succeeded()
							}
							e.End(1)
						}
					})
				}
				wg.Wait()
				var total uint64
				for _, e := range all {
					c := e.Counts()
					if c.Active != 0 {
						t.Errorf("%d attempts are still under way", c.Active)
					}
					total += c.Total
				}
				if total != callers*picks {
					t.Errorf("%d attempts were counted, want %d", total, callers*picks)
				}
			})
		}
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	near := &balance.LocalityPolicy{}
	for _, a := range everyAlgorithm {
		for name, c := range map[string]struct {
			all    []*balance.Endpoint
			config balance.Config
			eject  int
		}{
			"one": {all: equal(1)}, "two": {all: equal(2)}, "equal": {all: equal(10)}, "weighted": {all: mixed(10)},
			"ejected": {all: mixed(10), eject: 9}, "all ejected": {all: mixed(10), eject: 10},
			"panic":   {all: mixed(10), eject: 8, config: balance.Config{PanicThreshold: 50}},
			"warming": {all: mixed(10), config: balance.Config{Warmup: balance.Warmup{Duration: time.Hour, MinimumPercent: 10, Aggression: 2}}},
			"levels":  {all: mixed(10), eject: 4, config: balance.Config{Locality: near}},
		} {
			for i, e := range c.all {
				e.Def.Locality = []string{"", "eu/a", "eu/b"}[i%3]
				e.Join(time.Duration(i) * time.Minute)
				if i < c.eject {
					e.Eject()
				}
			}
			c.config.Algorithm = a
			p, rnd, i := balance.New(c.config, c.all, 1), random(1), 0
			if n := testing.AllocsPerRun(200, func() {
				i++
				p.Pick(balance.Draw{Random: rnd.Uint64(), Hash: rnd.Uint64(), Hashed: i%2 == 0, Step: uint8(i % 5)})
			}); n != 0 {
				t.Errorf("%v over %s: %v allocations", a, name, n)
			}
		}
	}
}
