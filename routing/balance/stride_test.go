package balance

import (
	"slices"
	"testing"
)

// TestStrideFarIn: a sequence that has run for years still gives each its weight.
func TestStrideFarIn(t *testing.T) {
	t.Parallel()
	weights := []uint32{65_521, 65_519, 40_000, 3} // the largest does not divide 2³² ± 1
	var all []*Endpoint
	cycle := 0
	for _, w := range weights {
		all = append(all, newEndpoint(w))
		cycle += int(w)
	}
	for _, from := range []uint64{0, 4*65_521 - 1, 1 << 33, 1<<34 + 1e6, 1<<40 + 5e9, 1<<48 + 7, 1 << 63} {
		p := New(Config{Algorithm: RoundRobin}, all, 0).(*weightedRoundRobin)
		p.next.Store(from)
		seen := make([]uint32, len(all))
		for range cycle {
			seen[slices.Index(all, p.Pick(Draw{}))]++
		}
		if !slices.Equal(seen, weights) {
			t.Errorf("from position %d a cycle has %v, want %v", from, seen, weights)
		}
	}
}
