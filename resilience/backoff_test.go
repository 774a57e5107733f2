package resilience_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/resilience"
)

// Envoy's router documentation gives the first three bounds for the defaults: 0-24 ms, 0-74 ms, 0-174 ms.
func TestBackoffBounds(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		backoff resilience.Backoff
		retry   int
		bound   time.Duration // the first that is never reached
	}{
		"default first":         {resilience.Backoff{}, 1, 25 * ms},
		"default second":        {resilience.Backoff{}, 2, 75 * ms},
		"default third":         {resilience.Backoff{}, 3, 175 * ms},
		"default fourth":        {resilience.Backoff{}, 4, 250 * ms},
		"default hundredth":     {resilience.Backoff{}, 100, 250 * ms},
		"zero counts as first":  {resilience.Backoff{}, 0, 25 * ms},
		"below zero, too":       {resilience.Backoff{}, math.MinInt, 25 * ms},
		"own base, ten times":   {resilience.Backoff{Base: 2 * ms}, 9, 20 * ms},
		"own base and limit":    {resilience.Backoff{Base: 2 * ms, Max: 5 * ms}, 2, 5 * ms},
		"limit not reached":     {resilience.Backoff{Base: 2 * ms, Max: time.Hour}, 2, 6 * ms},
		"limit below the base":  {resilience.Backoff{Base: 20 * ms, Max: 5 * ms}, 1, 5 * ms},
		"negative is unset":     {resilience.Backoff{Base: -1, Max: -1}, 1, 25 * ms},
		"one nanosecond":        {resilience.Backoff{Base: 1, Max: 1}, 1, 1},
		"no overflow at 62":     {resilience.Backoff{Base: 3, Max: math.MaxInt64}, 62, math.MaxInt64},
		"no overflow at 63":     {resilience.Backoff{Base: 1, Max: math.MaxInt64}, 63, math.MaxInt64},
		"no overflow at 64":     {resilience.Backoff{Base: 1, Max: math.MaxInt64}, 64, math.MaxInt64},
		"no overflow anywhere":  {resilience.Backoff{Base: 1, Max: math.MaxInt64}, math.MaxInt, math.MaxInt64},
		"ten times the longest": {resilience.Backoff{Base: math.MaxInt64}, 1, math.MaxInt64},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := c.backoff.Wait(c.retry, 0); got != 0 {
				t.Errorf("with the smallest random bits: %v, want 0", got)
			}
			if got := c.backoff.Wait(c.retry, math.MaxUint64); got != c.bound-1 {
				t.Errorf("with the largest random bits: %v, want just below %v", got, c.bound)
			}
			half := c.backoff.Wait(c.retry, 1<<63)
			if want := c.bound / 2; half != want {
				t.Errorf("with the middle random bits: %v, want %v", half, want)
			}
		})
	}
}

func TestBackoffIsUniform(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	const draws, buckets = 50_000, 10
	var seen [buckets]int
	for range draws {
		wait := resilience.Backoff{}.Wait(2, rnd.Uint64())
		seen[int(wait*buckets/(75*time.Millisecond))]++
	}
	for i, n := range seen {
		if share := float64(n) / draws; math.Abs(share-0.1) > 0.015 {
			t.Errorf("bucket %d of %d has %.3f of the draws, want 0.1", i, buckets, share)
		}
	}
}
