package balance_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/routing/balance"
)

var everyAlgorithm = append(slices.Clone(algorithms), hashing...)

// draws makes picks with both random bits and a hash.
func draws(p balance.Picker, seed uint64) func() *balance.Endpoint {
	rnd := random(seed)
	return func() *balance.Endpoint {
		return p.Pick(balance.Draw{Random: rnd.Uint64(), Hash: rnd.Uint64(), Hashed: true})
	}
}

func TestEject(t *testing.T) {
	t.Parallel()
	e := equal(1)[0]
	if !e.Healthy() || e.Uneject() {
		t.Error("a new endpoint is not healthy")
	}
	if !e.Eject() || e.Eject() || e.Healthy() || e.Redefined(e.Def).Healthy() {
		t.Error("an ejection is not noted once, under every definition")
	}
	if !e.Uneject() || e.Uneject() || !e.Healthy() {
		t.Error("the end of an ejection is not noted once")
	}
}

// TestEjectedIsPassedOver: the others have their shares, exactly as without it, on the picker that was there
// before and on one made anew; and when it is back it has its own.
func TestEjectedIsPassedOver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		weights []uint32
		out     []int
	}{
		"one of two":        {[]uint32{1, 1}, []int{0}},
		"one of two, heavy": {[]uint32{9, 1}, []int{0}},
		"one of three":      {[]uint32{1, 1, 1}, []int{1}},
		"half":              {[]uint32{1, 1, 1, 1, 1, 1}, []int{0, 1, 2}},
		"by turns":          {[]uint32{1, 1, 1, 1, 1, 1}, []int{0, 2, 4}},
		"mixed":             {[]uint32{1, 2, 3, 4, 5}, []int{4}},
		"all but two":       {[]uint32{8, 1, 8, 8, 3, 8, 8}, []int{0, 2, 3, 5, 6}},
		"the heavy one":     {[]uint32{100_000, 1, 2, 3}, []int{0}},
		"all but one":       {[]uint32{1, 1, 1, 1, 1, 1, 1, 1}, []int{0, 1, 2, 3, 4, 6, 7}},
		"in a large set":    {make([]uint32, 500), []int{7, 8, 9, 10, 11, 12, 13, 14}},
	} {
		for _, a := range everyAlgorithm {
			t.Run(name+"/"+a.String(), func(t *testing.T) {
				t.Parallel()
				all := endpoints(c.weights...)
				config := balance.Config{Algorithm: a, RingSize: 1 << 15}
				before := balance.New(config, all, 1)
				for _, i := range c.out {
					all[i].Eject()
				}
				for when, p := range map[string]balance.Picker{"before": before, "after": balance.New(config, all, 2)} {
					weights, want := make([]uint32, p.Len()), 0.0
					for i := range weights {
						if e := p.At(i); e.Healthy() {
							weights[i] = max(e.Def.Weight, 1)
							want += float64(weights[i])
						}
					}
					const picks = 10_000
					seen := countsOf(t, p, picks, draws(p, 3))
					for i, n := range seen {
						if weights[i] == 0 && n != 0 {
							t.Errorf("made %s: an ejected endpoint has %d picks", when, n)
						}
						if off := 100 * (float64(n)/picks - float64(weights[i])/want); off > 1.5 || off < -1.5 {
							t.Errorf("made %s: endpoint %d is %.2f points off its share", when, i, off)
						}
					}
				}
				for _, i := range c.out {
					all[i].Uneject()
				}
				byIndex := make([]uint32, before.Len())
				for i := range byIndex {
					byIndex[i] = before.At(i).Def.Weight
				}
				wantShares(t, countsOf(t, before, 10_000, draws(before, 4)), byIndex, 1.5)
			})
		}
	}
}

// TestRoundRobinPassesOver: the others keep their order.
func TestRoundRobinPassesOver(t *testing.T) {
	t.Parallel()
	all := equal(4)
	p := balance.New(balance.Config{Algorithm: balance.RoundRobin}, all, 0)
	all[1].Eject()
	for i := range 9 {
		if e := p.Pick(balance.Draw{}); e != []*balance.Endpoint{all[0], all[2], all[3]}[i%3] {
			t.Fatalf("pick %d is %v", i, e.Def.Address)
		}
	}
}

// TestAllEjected: none is picked, or all are, as the threshold says.
func TestAllEjected(t *testing.T) {
	t.Parallel()
	for _, a := range everyAlgorithm {
		for _, n := range []int{1, 2, 3, 10} {
			for _, all := range [][]*balance.Endpoint{equal(n), mixed(n)} {
				never := balance.New(balance.Config{Algorithm: a}, all, 1)
				before := balance.New(balance.Config{Algorithm: a, PanicThreshold: 1}, all, 1)
				for _, e := range all {
					e.Eject()
				}
				if e := draws(never, 1)(); e != nil {
					t.Errorf("%v of %d: picked %v", a, n, e.Def.Address)
				}
				if e := draws(balance.New(balance.Config{Algorithm: a}, all, 1), 1)(); e != nil {
					t.Errorf("%v of %d: a picker made anew picked %v", a, n, e.Def.Address)
				}
				after := balance.New(balance.Config{Algorithm: a, PanicThreshold: 1}, all, 1)
				for _, p := range []balance.Picker{before, after} {
					for i, picks := range countsOf(t, p, 2000, draws(p, 1)) {
						if picks == 0 {
							t.Errorf("%v of %d: in panic endpoint %d is not picked", a, n, i)
						}
					}
				}
				all[0].Uneject()
				if e := draws(never, 1)(); e != all[0] {
					t.Errorf("%v of %d: the one that is back is not picked", a, n)
				}
			}
		}
	}
}

// TestPanic: below the threshold all have their shares, ejected or not.
func TestPanic(t *testing.T) {
	t.Parallel()
	weights := []uint32{1, 2, 3, 4, 5, 5, 4, 3, 2, 1}
	for _, a := range everyAlgorithm {
		for _, healthy := range []int{3, 5, 6} {
			all := endpoints(weights...)
			for _, e := range all[healthy:] {
				e.Eject()
			}
			p := balance.New(balance.Config{Algorithm: a, PanicThreshold: 50, RingSize: 1 << 15}, all, 1)
			byIndex := make([]uint32, p.Len())
			for i := range byIndex {
				byIndex[i] = p.At(i).Def.Weight
			}
			seen := countsOf(t, p, 10_000, draws(p, 5))
			if healthy < 5 {
				wantShares(t, seen, byIndex, 1.5)
				continue
			}
			for i, n := range seen {
				if !p.At(i).Healthy() && n > 0 {
					t.Errorf("%v: with %d of 10 healthy an ejected endpoint has %d picks", a, healthy, n)
				}
			}
		}
	}
}

// TestConcurrentEjections has endpoints go and come back under picks. One is out all the time and never
// picked; one never is, so that there always is an endpoint.
func TestConcurrentEjections(t *testing.T) {
	t.Parallel()
	near := &balance.LocalityPolicy{}
	for _, a := range everyAlgorithm {
		for name, config := range map[string]balance.Config{
			"flat": {Algorithm: a}, "levels": {Algorithm: a, Locality: near, PanicThreshold: 30},
			"warming": {Algorithm: a, Warmup: balance.Warmup{Duration: time.Second}},
		} {
			t.Run(a.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				all := mixed(9)
				for i, e := range all {
					e.Def.Locality = []string{"", "eu/a", "eu/b"}[i%3]
					e.Join(time.Duration(i) * 100 * time.Millisecond)
				}
				all[4].Eject()
				p := balance.New(config, all, 3)
				var pickers, changers sync.WaitGroup
				stop := make(chan struct{})
				for c := range 2 {
					changers.Go(func() {
						rnd := random(uint64(c))
						for {
							select {
							case <-stop:
								return
							default:
							}
							e := all[5+rnd.IntN(4)]
							if rnd.IntN(2) == 0 {
								e.Eject()
							} else {
								e.Uneject()
							}
						}
					})
				}
				for c := range 4 {
					pickers.Go(func() {
						rnd := random(uint64(100 + c))
						for i := range 2000 {
							e := p.Pick(balance.Draw{Random: rnd.Uint64(), Hash: rnd.Uint64(), Hashed: i%2 == 0,
								Step: uint8(i % 4), Now: time.Duration(i) * time.Millisecond})
							if e == nil || e == all[4] {
								t.Errorf("picked %v", e)
								return
							}
							e.Begin()
							e.End(1)
						}
					})
				}
				pickers.Wait()
				close(stop)
				changers.Wait()
			})
		}
	}
}
