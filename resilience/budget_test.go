package resilience_test

import (
	"sync"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/resilience"
)

// TestBudgetLimit: Istio's own examples, 25 requests and 2 (DestinationRule, retryBudget.minRetryConcurrency).
func TestBudgetLimit(t *testing.T) {
	t.Parallel()
	usual := resilience.Budget{Share: true, Percent: 20, Min: 3}
	for _, c := range []struct {
		budget   resilience.Budget
		requests int64
		want     int64
	}{
		{usual, 25, 5}, {usual, 2, 3}, {usual, 0, 3}, {usual, -1, 3}, {usual, 29, 5}, {usual, 30, 6},
		{resilience.Budget{Share: true}, 1000, 0}, {resilience.Budget{Max: 7}, 1000, 7},
	} {
		if got := c.budget.Limit(c.requests); got != c.want {
			t.Errorf("%+v of %d: %d, want %d", c.budget, c.requests, got, c.want)
		}
	}
	if b := (resilience.Budget{}); b.Limited() || !usual.Limited() || !(&resilience.Budget{Max: 1}).Limited() {
		t.Error("limited is not what has a limit")
	}
}

func TestRetriesUnderWay(t *testing.T) {
	t.Parallel()
	var r resilience.Retries
	var wg sync.WaitGroup
	var mu sync.Mutex
	most := int64(0)
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if r.Take(3) {
					mu.Lock()
					most = max(most, r.Active())
					mu.Unlock()
					r.Give()
				}
			}
		})
	}
	wg.Wait()
	if r.Active() != 0 || r.Take(0) || !r.Take(1) || r.Take(1) {
		t.Errorf("%d left", r.Active())
	}
}

// TestRecentRequests: budgetInterval counts what began in it.
func TestRecentRequests(t *testing.T) {
	t.Parallel()
	var r resilience.Retries
	const s = time.Second
	for _, c := range []struct {
		at   time.Duration
		sum  uint64
		want int64
	}{
		{1 * s, 40, 40},     // the first time: all there were
		{11 * s, 140, 100},  // ten seconds later
		{16 * s, 190, 100},  // 150 in 15 s
		{21 * s, 240, 100},  // 100 in 10 s
		{121 * s, 240, 0},   // none since
		{122 * s, 1240, 99}, // 1000 in 101 s
		{123 * s, 0, 0},     // all endpoints went
	} {
		got := r.Recent(c.at, c.sum, 10*s)
		if got < c.want-1 || got > c.want+1 {
			t.Errorf("at %v of %d: %d, want %d", c.at, c.sum, got, c.want)
		}
	}
}

// TestBudgetString: what explain shows of each bound.
func TestBudgetString(t *testing.T) {
	t.Parallel()
	for want, b := range map[string]resilience.Budget{
		"":                                  {},
		"retry budget: 7 under way at most": {Max: 7},
		"retry budget: 12.5 % of the requests under way at most, 3 in any case":               {Share: true, Percent: 12.5, Min: 3},
		"retry budget: 20 % of the requests of the last 10s under way at most, 1 in any case": {Share: true, Percent: 20, Min: 1, Interval: 10 * time.Second},
	} {
		if got := b.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
