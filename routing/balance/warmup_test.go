package balance

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestWarmupFactor: max(minimum, (elapsed/duration)^(1/aggression)).
func TestWarmupFactor(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for name, c := range map[string]struct {
		warmup Warmup
		age    time.Duration
		want   float64
	}{
		"at the beginning":         {Warmup{100 * s, 10, 1}, 0, 0.1},
		"below the minimum":        {Warmup{100 * s, 10, 1}, 5 * s, 0.1},
		"a line":                   {Warmup{100 * s, 10, 1}, 25 * s, 0.25},
		"the default":              {Warmup{100 * s, 10, 0}, 25 * s, 0.25},
		"just before the end":      {Warmup{100 * s, 10, 1}, 99 * s, 0.99},
		"at the end":               {Warmup{100 * s, 10, 1}, 100 * s, 1},
		"later":                    {Warmup{100 * s, 10, 1}, 1000 * s, 1},
		"fast at first":            {Warmup{100 * s, 10, 2}, 25 * s, 0.5},
		"slow at first":            {Warmup{100 * s, 10, 0.5}, 50 * s, 0.25},
		"no minimum":               {Warmup{100 * s, 0, 1}, s, 0.01},
		"no minimum, a ms at once": {Warmup{100 * s, 0, 1}, 0, 1e-5},
		"never nothing":            {Warmup{math.MaxInt64, 0, 1e-9}, 0, leastFactor},
		"all of it at once":        {Warmup{100 * s, 100, 1}, 0, 1},
		"more than all of it":      {Warmup{100 * s, 1000, 1}, 0, 1},
		"joins in the future":      {Warmup{100 * s, 10, 1}, -s, 0.1},
		"aggression no number":     {Warmup{100 * s, 10, math.NaN()}, 25 * s, 0.25},
		"aggression negative":      {Warmup{100 * s, 10, -3}, 25 * s, 0.25},
		"minimum no number":        {Warmup{100 * s, math.NaN(), 1}, 25 * s, 0.25},
		"no warm-up":               {Warmup{}, 0, 1},
		"shorter than a ms":        {Warmup{time.Microsecond, 10, 1}, 0, 1},
	} {
		if got := c.warmup.at(c.age); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestWarmupShares holds ROUND_ROBIN and LEAST_REQUEST to weight · factor at several times, within 1.5 points.
func TestWarmupShares(t *testing.T) {
	t.Parallel()
	const s = time.Second
	type joins []time.Duration
	for name, c := range map[string]struct {
		weights []uint32
		joined  joins
		warmup  Warmup
		ejected int // how many of the first
	}{
		"one of two":         {weights: []uint32{1, 1}, joined: joins{0, 1000 * s}, warmup: Warmup{100 * s, 10, 1}},
		"one of ten":         {weights: make([]uint32, 10), joined: joins{9: 1000 * s}, warmup: Warmup{100 * s, 10, 1}},
		"nine of ten":        {weights: make([]uint32, 10), joined: joins{0, 1000 * s, 1000 * s, 1000 * s, 1000 * s, 1000 * s, 1000 * s, 1000 * s, 1000 * s, 1000 * s}, warmup: Warmup{100 * s, 10, 1}},
		"one after another":  {weights: make([]uint32, 5), joined: joins{1000 * s, 980 * s, 960 * s, 940 * s, 920 * s}, warmup: Warmup{100 * s, 10, 1}},
		"weights":            {weights: []uint32{1, 2, 3, 4}, joined: joins{0, 0, 1000 * s, 990 * s}, warmup: Warmup{100 * s, 10, 1}},
		"a heavy one":        {weights: []uint32{1, 1000}, joined: joins{0, 1000 * s}, warmup: Warmup{100 * s, 0.1, 1}},
		"aggressive":         {weights: []uint32{1, 1, 1}, joined: joins{0, 0, 1000 * s}, warmup: Warmup{100 * s, 10, 2}},
		"hardly any at once": {weights: make([]uint32, 40), joined: append(make(joins, 1), nTimes(39, 1000*s)...), warmup: Warmup{100 * s, 0.5, 1}},
		"one is ejected":     {weights: []uint32{1, 1, 1}, joined: joins{0, 0, 1000 * s}, warmup: Warmup{100 * s, 10, 1}, ejected: 1},
		"the warm are all":   {weights: []uint32{1, 1, 1}, joined: joins{0, 990 * s, 1000 * s}, warmup: Warmup{100 * s, 10, 1}, ejected: 1},
	} {
		for _, a := range []Algorithm{LeastRequest, RoundRobin} {
			t.Run(name+"/"+a.String(), func(t *testing.T) {
				t.Parallel()
				var all []*Endpoint
				for i, w := range c.weights {
					e := newEndpoint(w)
					e.Join(c.joined[i])
					if i < c.ejected {
						e.Eject()
					}
					all = append(all, e)
				}
				p := New(Config{Algorithm: a, Warmup: c.warmup}, all, 1)
				rnd := rand.New(rand.NewPCG(1, 2))
				for _, now := range []time.Duration{1000 * s, 1001 * s, 1020 * s, 1060 * s, 1100 * s, 2000 * s} {
					seen := make(map[*Endpoint]float64)
					const picks = 10_000
					for range picks {
						seen[p.Pick(Draw{Random: rnd.Uint64(), Now: now})]++
					}
					sum := 0.0
					share := func(i int) float64 {
						if i < c.ejected {
							return 0
						}
						return float64(all[i].weight()) * c.warmup.at(now-c.joined[i])
					}
					for i := range all {
						sum += share(i)
					}
					for i, e := range all {
						if got, want := 100*seen[e]/picks, 100*share(i)/sum; math.Abs(got-want) > 1.5 {
							t.Errorf("at %v endpoint %d has %.2f %%, want %.2f %%", now, i, got, want)
						}
					}
				}
			})
		}
	}
}

func nTimes(n int, d time.Duration) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = d
	}
	return all
}

// TestWarmupOfAllTogether: endpoints that joined together do not wait for each other, and round robin keeps
// its order.
func TestWarmupOfAllTogether(t *testing.T) {
	t.Parallel()
	var all []*Endpoint
	for range 3 {
		all = append(all, newEndpoint(1))
		all[len(all)-1].Join(time.Hour)
	}
	p := New(Config{Algorithm: RoundRobin, Warmup: Warmup{time.Hour, 10, 1}}, all, 0)
	for i := range 9 {
		if p.Pick(Draw{Now: time.Hour}) != all[i%3] {
			t.Fatalf("pick %d is out of order", i)
		}
	}
}

// TestWarmupIsOver: what has been there for long is not asked for its age.
func TestWarmupIsOver(t *testing.T) {
	t.Parallel()
	w := Warmup{time.Minute, 10, 1}
	young := newEndpoint(1)
	young.Join(time.Hour)
	for name, c := range map[string]struct {
		warming warming
		now     time.Duration
		over    bool
	}{
		"no warm-up":            {newWarming(Warmup{}, []*Endpoint{young, newEndpoint(1)}), 0, true},
		"nothing joined":        {newWarming(w, []*Endpoint{newEndpoint(1), newEndpoint(1)}), 0, true},
		"no endpoint":           {newWarming(w, nil), 0, true},
		"one joined":            {newWarming(w, []*Endpoint{young, newEndpoint(1)}), time.Hour, false},
		"one joined, a bit ago": {newWarming(w, []*Endpoint{young, newEndpoint(1)}), time.Hour + time.Minute - 1, false},
		"one joined, long ago":  {newWarming(w, []*Endpoint{young, newEndpoint(1)}), time.Hour + time.Minute, true},
	} {
		if got := c.warming.over(c.now); got != c.over {
			t.Errorf("%s: over is %v", name, got)
		}
	}
}

// TestWarmupLeavesOthersAlone: RANDOM and the hashes know no warm-up.
func TestWarmupLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	for _, a := range []Algorithm{Random, RingHash, Maglev} {
		all := level([]float64{1}, []uint32{1, 1}).endpoints()
		all[1].Join(time.Hour)
		p := New(Config{Algorithm: a, RingSize: 1 << 16, Warmup: Warmup{time.Hour, 10, 1}}, all, 0)
		n := 0
		for i := range uint64(10_000) {
			if p.Pick(Draw{Random: mix(i), Now: time.Hour}) == all[1] {
				n++
			}
		}
		if n < 4850 || n > 5150 {
			t.Errorf("%v: the new endpoint has %d of 10000 picks", a, n)
		}
	}
}

// TestWarmupComparesLoadForWeight: while an endpoint has a tenth of its weight, one request is as much for it
// as ten.
func TestWarmupComparesLoadForWeight(t *testing.T) {
	t.Parallel()
	old, young := newEndpoint(1), newEndpoint(1)
	young.Join(time.Hour)
	p := New(Config{Warmup: Warmup{time.Hour, 10, 1}}, []*Endpoint{old, young}, 0)
	for range 5 {
		old.Begin()
	}
	young.Begin()
	n := 0
	for i := range uint64(10_000) {
		if p.Pick(Draw{Random: mix(i), Now: time.Hour}) == young {
			n++
		}
	}
	if n > 150 { // only when it is drawn twice, 1/121
		t.Errorf("the young endpoint has %d of 10000 picks", n)
	}
}
