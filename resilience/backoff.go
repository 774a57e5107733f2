package resilience

import (
	"math"
	"math/bits"
	"time"
)

// DefaultBackoffBase is the base of the back-off where a policy names none.
const DefaultBackoffBase = 25 * time.Millisecond

// Backoff says how long to wait before a retry (HTTPRetry.backoff, Envoy's retry_back_off). The zero value
// is the default: 25 ms, at most 250 ms.
type Backoff struct {
	Base time.Duration // 25 ms where it is not positive
	Max  time.Duration // ten times Base where it is not positive
}

// Wait gives the time to wait before the given retry, which counts from 1: uniform from 0 up to
// (2^retry − 1)·Base, that bound limited to Max. rnd is 64 uniformly random bits.
func (b Backoff) Wait(retry int, rnd uint64) time.Duration {
	base, most := b.Base, b.Max
	if base <= 0 {
		base = DefaultBackoffBase
	}
	if most <= 0 {
		most = times(base, 10)
	}
	bound := min(times(base, 1<<min(max(retry, 1), 63)-1), most)
	wait, _ := bits.Mul64(rnd, uint64(bound))
	return time.Duration(wait)
}

// times multiplies, and stays at the longest duration there is.
func times(d time.Duration, n uint64) time.Duration {
	over, product := bits.Mul64(uint64(d), n)
	if over != 0 || product > math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(product)
}
