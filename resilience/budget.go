package resilience

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Budget bounds the retries that a cluster has under way at a time, all calls together. A retry is under way from the
// decision for it, the wait before it included, until its answer or failure is known. The zero value is no bound.
type Budget struct {
	// Max is a number (DestinationRule connectionPool.http.maxRetries), 0 for none.
	Max uint32
	// Share says that the bound is a percentage of the requests instead (retryBudget; Envoy, RetryBudget).
	Share bool
	// Percent of the requests under way, 0 to 100. Those that began within Interval count in their place where that is
	// positive.
	Percent  float64
	Interval time.Duration
	// Min is how many may be under way however few requests there are.
	Min uint32
}

// Istio's defaults of retryBudget.
const (
	DefaultBudgetPercent = 20
	DefaultBudgetMin     = 3
)

// Limited reports whether there is a bound at all.
func (b *Budget) Limited() bool { return b.Share || b.Max > 0 }

// Limit gives how many retries may be under way where there are so many requests.
func (b *Budget) Limit(requests int64) int64 {
	if b.Share {
		return max(int64(b.Percent*float64(max(requests, 0))/100), int64(b.Min))
	}
	return int64(b.Max)
}

// String says the bound for people, "" for none.
func (b *Budget) String() string {
	switch {
	case !b.Limited():
		return ""
	case !b.Share:
		return fmt.Sprintf("retry budget: %d under way at most", b.Max)
	case b.Interval > 0:
		return fmt.Sprintf("retry budget: %v %% of the requests of the last %v under way at most, %d in any case", b.Percent, b.Interval, b.Min)
	}
	return fmt.Sprintf("retry budget: %v %% of the requests under way at most, %d in any case", b.Percent, b.Min)
}

// Retries counts the retries under way. The zero value counts none. It is safe for concurrent use.
type Retries struct {
	active atomic.Int64

	mu     sync.Mutex // guards what follows
	asked  bool
	before window // when a span of Budget.Interval began, and the one before that
	latest window
}

// A window is how many requests had begun at a moment.
type window struct {
	at  time.Duration
	sum uint64
}

// Take counts one more, unless there are as many as may be.
func (r *Retries) Take(limit int64) bool {
	if r.active.Add(1) > limit {
		r.active.Add(-1)
		return false
	}
	return true
}

// Give ends one that Take has counted.
func (r *Retries) Give() { r.active.Add(-1) }

// Active gives how many there are.
func (r *Retries) Active() int64 { return r.active.Load() }

// Recent gives how many requests began within the interval, of the sum of all that ever did. It looks back one to two
// intervals and more where it was not asked for long, and takes them to have come evenly: nothing is counted while nobody
// asks. Asked for the first time, it takes them all.
func (r *Retries) Recent(now time.Duration, sum uint64, interval time.Duration) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.asked {
		r.asked, r.latest = true, window{now, sum}
		return int64(sum)
	}
	if now-r.latest.at >= interval {
		r.before, r.latest = r.latest, window{now, sum}
	}
	begun := sum - min(sum, r.before.sum) // endpoints that went took theirs along
	if span := now - r.before.at; span > interval {
		return int64(float64(begun) * float64(interval) / float64(span))
	}
	return int64(begun)
}
