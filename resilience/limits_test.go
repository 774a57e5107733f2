package resilience

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestGauge(t *testing.T) {
	t.Parallel()
	var g Gauge
	for range 3 {
		if !g.Enter(3) {
			t.Fatal("refused below the limit")
		}
	}
	if g.Enter(3) || g.Active() != 3 {
		t.Error("the limit does not hold")
	}
	if g.Enter(2) {
		t.Error("a lower limit does not hold")
	}
	if !g.Enter(0) || !g.Enter(-1) || g.Active() != 5 {
		t.Error("no limit refuses")
	}
	for range 3 {
		g.Leave()
	}
	if !g.Enter(3) || g.Active() != 3 {
		t.Error("what left still counts")
	}
}

// However many come at once, never more than the limit are in.
func TestGaugeIsExact(t *testing.T) {
	t.Parallel()
	const most = 7
	var g Gauge
	var in, peak atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 2000 {
				if !g.Enter(most) {
					continue
				}
				n := in.Add(1)
				if p := peak.Load(); n > p && !peak.CompareAndSwap(p, n) && n > most {
					t.Error("too many are in")
				}
				in.Add(-1)
				g.Leave()
			}
		})
	}
	wg.Wait()
	if peak.Load() > most || g.Active() != 0 {
		t.Errorf("%d were in at a time, %d stayed", peak.Load(), g.Active())
	}
}
