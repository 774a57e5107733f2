package resilience_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/resilience"
)

func TestHits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		share uint32
		rnd   uint64
		want  bool
	}{
		{0, 0, false},
		{1, 0, true},
		{1, math.MaxUint64 / resilience.PerMillion * 2, false},
		{resilience.PerMillion, math.MaxUint64, true},
		{resilience.PerMillion - 1, math.MaxUint64, false},
		{resilience.PerMillion / 2, math.MaxUint64/2 - 10, true},
		{resilience.PerMillion / 2, math.MaxUint64/2 + 10, false},
	} {
		if got := resilience.Hits(c.share, c.rnd); got != c.want {
			t.Errorf("Hits(%d, %d) = %v", c.share, c.rnd, got)
		}
	}
}

// TestFaultDraws: delay and abort are independent, so that 20 % and 50 % are both in 10 %.
func TestFaultDraws(t *testing.T) {
	t.Parallel()
	f := &resilience.Fault{Delay: time.Second, DelayShare: 200_000, AbortStatus: 500, AbortShare: 500_000}
	rnd := rand.New(rand.NewPCG(1, 2))
	var delayed, aborted, both int
	const n = 100_000
	for range n {
		d, a := f.Draw(rnd.Uint64(), rnd.Uint64())
		if d != 0 && d != time.Second {
			t.Fatal(d)
		}
		if d != 0 {
			delayed++
		}
		if a {
			aborted++
		}
		if d != 0 && a {
			both++
		}
	}
	for _, c := range []struct {
		what string
		got  int
		want float64
	}{{"delayed", delayed, .2}, {"aborted", aborted, .5}, {"both", both, .1}} {
		if share := float64(c.got) / n; math.Abs(share-c.want) > .01 {
			t.Errorf("%s: %.3f, want %.2f within 0.01", c.what, share, c.want)
		}
	}
	var none *resilience.Fault
	if d, a := none.Draw(0, 0); d != 0 || a {
		t.Error("no fault, and yet one is injected")
	}
}
