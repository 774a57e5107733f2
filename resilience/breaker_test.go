package resilience_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
)

var (
	passing = call.Outcome{Status: 200}
	failing = call.Outcome{Status: 503}
	unsaid  = call.Outcome{Reason: call.ReasonCanceled}
)

// attempts makes an attempt for each outcome, one after the other, and says which were let through.
func attempts(b *resilience.Breaker, outcomes ...call.Outcome) string {
	var s []byte
	for i := range outcomes {
		p, ok := b.Enter()
		if !ok {
			s = append(s, '-')
			continue
		}
		s = append(s, '+')
		p.Record(&outcomes[i])
		p.Release()
	}
	return string(s)
}

// TestBreaker: what opens it, for how long, and what closes it.
func TestBreaker(t *testing.T) {
	t.Parallel()
	inARow := resilience.CircuitBreaker{Consecutive: 3, OpenFor: 30 * time.Second, Probes: 2}
	share := resilience.CircuitBreaker{Percent: 50, Minimum: 4, Window: 10 * time.Second, OpenFor: time.Second, Probes: 1}
	type step struct {
		after    time.Duration
		outcomes []call.Outcome
		want     string
		state    string
	}
	for name, c := range map[string]struct {
		def   resilience.CircuitBreaker
		steps []step
	}{
		"failures in a row": {inARow, []step{
			{0, []call.Outcome{failing, failing, passing, failing, failing}, "+++++", "closed"},
			{0, []call.Outcome{failing, passing, passing}, "+--", "open"},
			{30 * time.Second, []call.Outcome{passing}, "-", "open"},
			{1, []call.Outcome{passing, passing, failing}, "+++", "closed"},
		}},
		"what is neutral does not count": {inARow, []step{
			{0, []call.Outcome{failing, failing, unsaid, unsaid}, "++++", "closed"},
			{0, []call.Outcome{failing}, "+", "open"},
			{31 * time.Second, []call.Outcome{unsaid, unsaid, unsaid}, "+++", "half-open"},
			{0, []call.Outcome{passing, passing}, "++", "closed"},
		}},
		"a probe that fails": {inARow, []step{
			{0, []call.Outcome{failing, failing, failing}, "+++", "open"},
			{31 * time.Second, []call.Outcome{passing, failing, passing}, "++-", "open"},
		}},
		"a share, of enough": {share, []step{
			{0, []call.Outcome{failing, failing, failing}, "+++", "closed"},
			{0, []call.Outcome{passing}, "+", "closed"}, // a failure opens it, not what comes after
			{0, []call.Outcome{failing, passing}, "+-", "open"},
		}},
		"too small a share": {share, []step{
			{0, []call.Outcome{passing, passing, passing, passing, failing, failing, failing}, "+++++++", "closed"},
			{0, []call.Outcome{failing, passing}, "+-", "open"},
		}},
		"what was long ago": {share, []step{
			{0, []call.Outcome{failing, failing, failing}, "+++", "closed"},
			{11 * time.Second, []call.Outcome{failing, passing, passing, passing}, "++++", "closed"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := resilience.NewBreaker(c.def)
				for i, s := range c.steps {
					time.Sleep(s.after)
					if got := attempts(b, s.outcomes...); got != s.want || b.State() != s.state {
						t.Fatalf("step %d: let through %s and is %s, want %s and %s", i, got, b.State(), s.want, s.state)
					}
				}
			})
		})
	}
}

// TestBreakerProbes: while it is half-open, only so many attempts are under way, and what had begun before says nothing.
func TestBreakerProbes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := resilience.NewBreaker(resilience.CircuitBreaker{Consecutive: 1, OpenFor: time.Second, Probes: 2})
		old, _ := b.Enter()
		attempts(b, failing)
		time.Sleep(1100 * time.Millisecond)
		first, ok1 := b.Enter()
		second, ok2 := b.Enter()
		_, ok3 := b.Enter()
		if !ok1 || !ok2 || ok3 {
			t.Fatalf("let through %v %v %v, want two", ok1, ok2, ok3)
		}
		old.Record(&failing)
		old.Record(&passing)
		old.Release()
		if b.State() != "half-open" {
			t.Fatalf("an attempt from before the trouble made it %s", b.State())
		}
		first.Record(&unsaid)
		first.Release()
		third, ok := b.Enter()
		if !ok {
			t.Fatal("the place of a probe whose caller went away is not free")
		}
		for _, p := range []resilience.Pass{second, third} {
			p.Record(&passing)
			p.Release()
		}
		if b.State() != "closed" {
			t.Errorf("after two good probes it is %s", b.State())
		}
	})
}

func TestNoBreaker(t *testing.T) {
	t.Parallel()
	var none *resilience.Breaker
	if got := attempts(none, failing, failing, failing); got != "+++" {
		t.Errorf("let through %s", got)
	}
}
