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
	for _, a := range algorithms {
		for _, n := range sizes {
			for name, all := range map[string][]*balance.Endpoint{"equal": equal(n), "weighted": mixed(n)} {
				b.Run(fmt.Sprintf("%v/%s/%d", a, name, n), func(b *testing.B) {
					b.ReportAllocs()
					run(b, balance.New(a, all, 1))
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
			p.Pick(rnd.Uint64())
		}
	})
}

func BenchmarkPickParallel(b *testing.B) {
	eachPicker(b, func(b *testing.B, p balance.Picker) {
		b.RunParallel(func(pb *testing.PB) {
			rnd := random(rand.Uint64())
			for pb.Next() {
				p.Pick(rnd.Uint64())
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
				p, rnd := balance.New(a, all, 1), random(1)
				for b.Loop() {
					p.Pick(rnd.Uint64())
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

// BenchmarkNew is what a change of endpoints costs.
func BenchmarkNew(b *testing.B) {
	for _, a := range algorithms {
		for name, all := range map[string][]*balance.Endpoint{"equal": equal(10_000), "weighted": mixed(10_000)} {
			b.Run(fmt.Sprintf("%v/%s/10000", a, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					balance.New(a, all, 1)
				}
			})
		}
	}
}
