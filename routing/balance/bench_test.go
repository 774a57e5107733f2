package balance_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/heddlemesh/mesh/routing/balance"
)

var sizes = []int{3, 100, 10_000}

func eachPicker(b *testing.B, run func(b *testing.B, p balance.Picker)) {
	b.Helper()
	for _, a := range everyAlgorithm {
		for _, n := range sizes {
			for name, all := range map[string][]*balance.Endpoint{"equal": equal(n), "weighted": mixed(n)} {
				b.Run(fmt.Sprintf("%v/%s/%d", a, name, n), func(b *testing.B) {
					b.ReportAllocs()
					run(b, balance.New(balance.Config{Algorithm: a}, all, 1))
				})
			}
		}
	}
}

// BenchmarkPick includes drawing the random bits; BenchmarkRandomBits is that alone.
func BenchmarkPick(b *testing.B) {
	eachPicker(b, func(b *testing.B, p balance.Picker) {
		rnd := random(1)
		for b.Loop() {
			p.Pick(balance.Draw{Random: rnd.Uint64()})
		}
	})
}

func BenchmarkPickParallel(b *testing.B) {
	eachPicker(b, func(b *testing.B, p balance.Picker) {
		b.RunParallel(func(pb *testing.PB) {
			rnd := random(rand.Uint64())
			for pb.Next() {
				p.Pick(balance.Draw{Random: rnd.Uint64()})
			}
		})
	})
}

// BenchmarkPickSteep is round robin at its worst: nearly all positions of a passage are passed over.
func BenchmarkPickSteep(b *testing.B) {
	for _, n := range sizes {
		weights := make([]uint32, n)
		weights[0] = 1 << 31
		all := endpoints(weights...)
		for _, a := range algorithms {
			b.Run(fmt.Sprintf("%v/%d", a, n), func(b *testing.B) {
				b.ReportAllocs()
				p, rnd := balance.New(balance.Config{Algorithm: a}, all, 1), random(1)
				for b.Loop() {
					p.Pick(balance.Draw{Random: rnd.Uint64()})
				}
			})
		}
	}
}

func BenchmarkRandomBits(b *testing.B) {
	b.ReportAllocs()
	rnd := random(1)
	for b.Loop() {
		rnd.Uint64()
	}
}

// BenchmarkPickHashed is a pick by a hash, and BenchmarkPickStep the first one after it.
func BenchmarkPickHashed(b *testing.B) {
	eachHashed(b, balance.Draw{Hashed: true})
}

func BenchmarkPickStep(b *testing.B) {
	eachHashed(b, balance.Draw{Hashed: true, Step: 1})
}

func eachHashed(b *testing.B, d balance.Draw) {
	b.Helper()
	for _, a := range hashing {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%v/%d", a, n), func(b *testing.B) {
				b.ReportAllocs()
				p, rnd := balance.New(balance.Config{Algorithm: a}, equal(n), 1), random(1)
				for b.Loop() {
					d.Hash = rnd.Uint64()
					p.Pick(d)
				}
			})
		}
	}
}

// BenchmarkPickUneven has endpoints ejected, warming up, and in localities of which one spills.
func BenchmarkPickUneven(b *testing.B) {
	for name, c := range map[string]struct {
		config balance.Config
		do     func(i, n int, e *balance.Endpoint)
	}{
		"one ejected": {do: func(i, n int, e *balance.Endpoint) {
			if i == n/2 {
				e.Eject()
			}
		}},
		"half ejected": {do: func(i, n int, e *balance.Endpoint) {
			if i%2 == 0 {
				e.Eject()
			}
		}},
		"nearly all ejected": {do: func(i, n int, e *balance.Endpoint) {
			if i != n/2 {
				e.Eject()
			}
		}},
		"one warming": {config: balance.Config{Warmup: balance.Warmup{Duration: 1 << 40, MinimumPercent: 10}},
			do: func(i, n int, e *balance.Endpoint) {
				if i == n/2 {
					e.Join(1 << 40)
				}
			}},
		"levels": {config: balance.Config{Locality: &balance.LocalityPolicy{}},
			do: func(i, n int, e *balance.Endpoint) {
				e.Def.Locality = []string{"", "eu/a", "eu/b"}[i%3]
				if i%2 == 0 {
					e.Eject()
				}
			}},
	} {
		for _, a := range everyAlgorithm {
			for _, n := range sizes {
				b.Run(fmt.Sprintf("%s/%v/%d", name, a, n), func(b *testing.B) {
					b.ReportAllocs()
					all := equal(n)
					for i, e := range all {
						c.do(i, n, e)
					}
					c.config.Algorithm = a
					p, rnd := balance.New(c.config, all, 1), random(1)
					for b.Loop() {
						p.Pick(balance.Draw{Random: rnd.Uint64(), Now: 1 << 40})
					}
				})
			}
		}
	}
}

// BenchmarkNew is what a change of endpoints costs.
func BenchmarkNew(b *testing.B) {
	for _, a := range everyAlgorithm {
		for _, n := range sizes {
			for name, all := range map[string][]*balance.Endpoint{"equal": equal(n), "weighted": mixed(n)} {
				b.Run(fmt.Sprintf("%v/%s/%d", a, name, n), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						balance.New(balance.Config{Algorithm: a}, all, 1)
					}
				})
			}
		}
	}
}

// BenchmarkNewLargestRing is what weights of 1 and 2³²-1 cost a ring.
func BenchmarkNewLargestRing(b *testing.B) {
	b.ReportAllocs()
	all := endpoints(1, 1<<32-1)
	for b.Loop() {
		balance.New(balance.Config{Algorithm: balance.RingHash}, all, 1)
	}
}
