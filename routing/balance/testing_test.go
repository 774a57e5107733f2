package balance_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/routing/balance"
)

var algorithms = []balance.Algorithm{balance.LeastRequest, balance.RoundRobin, balance.Random}

// endpoints makes one endpoint for each weight.
func endpoints(weights ...uint32) []*balance.Endpoint {
	all := make([]*balance.Endpoint, len(weights))
	for i, w := range weights {
		all[i] = balance.NewEndpoint(&discovery.Endpoint{
			Address: discovery.TCP(fmt.Sprintf("10.0.%d.%d", i/256, i%256), 80), Weight: w,
		}, nil)
	}
	return all
}

// equal makes n endpoints of the same weight.
func equal(n int) []*balance.Endpoint { return endpoints(make([]uint32, n)...) }

// mixed makes n endpoints of weight 1 to 5.
func mixed(n int) []*balance.Endpoint {
	weights := make([]uint32, n)
	for i := range weights {
		weights[i] = uint32(i%5) + 1
	}
	return endpoints(weights...)
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// counts picks n times and counts what was picked, by index. It fails for a pick that is not in the set.
func counts(t *testing.T, p balance.Picker, n int, seed uint64) []int {
	t.Helper()
	rnd := random(seed)
	return countsOf(t, p, n, func() *balance.Endpoint { return p.Pick(balance.Draw{Random: rnd.Uint64()}) })
}

func countsOf(t *testing.T, p balance.Picker, n int, pick func() *balance.Endpoint) []int {
	t.Helper()
	index := make(map[*balance.Endpoint]int, p.Len())
	for i := range p.Len() {
		index[p.At(i)] = i
	}
	seen := make([]int, p.Len())
	for range n {
		e := pick()
		i, ok := index[e]
		if !ok {
			t.Fatalf("picked %v, which is not in the set", e)
		}
		seen[i]++
	}
	return seen
}

// wantShares holds what was counted to the weights, within points of a percent.
func wantShares(t *testing.T, seen []int, weights []uint32, points float64) {
	t.Helper()
	var picks int
	var sum float64
	for i := range seen {
		picks += seen[i]
		sum += float64(max(weights[i], 1))
	}
	for i := range seen {
		got, want := 100*float64(seen[i])/float64(picks), 100*float64(max(weights[i], 1))/sum
		if math.Abs(got-want) > points {
			t.Errorf("endpoint %d has %.2f %% of the picks, want %.2f %%", i, got, want)
		}
	}
}
