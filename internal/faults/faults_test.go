package faults_test

import (
	"math"
	"net/http"
	"os"
	"testing"
	"time"
)

const threshold = 5 // failures in a row that eject an upstream

// A fault is a row of reference/attacks.md §4.4, and what it may cost.
type fault struct {
	name string
	breakage
	all    bool   // every upstream has it, not the first alone
	first  bool   // from the beginning, not from a fifth of the load on
	policy policy // its own; else judged, as below
	manner manner // of the client
	gets   limit  // on failed GETs
	posts  limit  // on failed POSTs
	single bool   // what met the fault was told, and is not sent again whatever its method
	back   bool   // the upstream has to be used again when it is mended
	check  func(r *run)
}

// A limit is on the requests that may fail.
type limit int

const (
	none      limit = iota // one in 10,000
	met                    // those that meet the fault until its upstream is ejected
	rare                   // one in 1,000
	unbounded              // all that meet it
)

// hangs gives the time after which an attempt or a call is given up where a fault is that nothing comes. Whatever comes, comes
// sooner, though the race detector and other tests have most of the machine.
func hangs() time.Duration {
	if raceEnabled {
		return 4 * time.Second
	}
	return time.Second
}

// length is how long each fault is under load: HEDDLE_FAULTS, or few enough requests to wait for.
func length(tb testing.TB) time.Duration {
	if v := os.Getenv("HEDDLE_FAULTS"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			tb.Fatalf("HEDDLE_FAULTS=%s is no time: %v", v, err)
		}
		return d
	}
	if testing.Short() || raceEnabled {
		return 40 * time.Millisecond
	}
	return 60 * time.Millisecond
}

// atLength reports whether the load is that of HEDDLE_FAULTS, and not only some requests.
func atLength() bool { return os.Getenv("HEDDLE_FAULTS") != "" }

// together runs the test beside others, unless the load is to be that of HEDDLE_FAULTS: then it has the machine for itself.
func together(t *testing.T) {
	if !atLength() {
		t.Parallel()
	}
}

// TestFaults: whatever breaks, nothing that is not idempotent is sent twice, and no byte is lost, doubled or another's;
// and no more requests fail than the row allows for.
func TestFaults(t *testing.T) {
	together(t)
	d := length(t)
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			p := f.policy
			if p == (policy{}) {
				p = judged(d, "")
			}
			each(t, by(p), func(r *run) { r.meet(f, d) })
		})
	}
}

// judged is the policy of most faults: retries, and ejection for about as long as the fault is there.
func judged(d time.Duration, route string) policy {
	return policy{
		traffic: "outlierDetection: {consecutive5xxErrors: 5, interval: " +
			(d / 20).String() + ", baseEjectionTime: " + (d * 3 / 5).String() + ", maxEjectionPercent: 66}",
		route: "retries: {attempts: 2, retryOn: 'connect-failure,refused-stream,reset,5xx'" + route + "}",
	}
}

func newRun(tb testing.TB, name string) *run {
	r := &run{name: name, tb: tb}
	for host := range 3 {
		r.upstreams = append(r.upstreams, newUpstream(tb, host, &r.book))
	}
	return r
}

// meet puts the subject under load, breaks what the fault breaks, mends it and judges.
func (r *run) meet(f fault, d time.Duration) {
	broken := r.upstreams[:1]
	if f.all {
		broken = r.upstreams
	}
	began, lasted := time.Time{}, time.Duration(0)
	inject := event{0.2, func() {
		began = time.Now()
		for _, u := range broken {
			u.inject(f.breakage)
		}
	}}
	if f.first {
		inject.at = 0
	}
	strikes := f.head != nil || f.answer != nil || f.accepted != nil
	lift := event{0.8, func() {
		if strikes {
			r.untilStruck()
		}
		for _, u := range broken {
			if err := u.lift(); err != nil {
				r.tb.Errorf("%s: %v", r.name, err)
			}
		}
		lasted = time.Since(began)
	}}
	r.load(d, f.manner, inject, lift)
	if f.back {
		r.untilBack()
	}
	if f.check != nil {
		f.check(r)
	}
	r.end()
	if strikes && f.share == 0 && r.book.met == 0 && atLength() {
		r.tb.Errorf("%s: nothing met the fault", r.name)
	}
	// An upstream that comes back while it is still broken is ejected anew.
	rounds := 1 + int(lasted/max(d*3/5, 1))
	r.limits(f, (threshold+r.peak)*rounds)
}

// untilStruck waits, where the machine is slow to deliver what was sent, until some of it has met the fault.
func (r *run) untilStruck() {
	for {
		r.book.mu.Lock()
		struck := r.book.met > 0
		r.book.mu.Unlock()
		r.mu.Lock()
		over := r.inFlight == 0
		r.mu.Unlock()
		if struck || over {
			return
		}
		<-time.After(time.Millisecond)
	}
}

// untilBack makes requests until the first upstream has seen one more.
func (r *run) untilBack() {
	before, end := r.book.reached(0), time.Now().Add(patience)
	for r.book.reached(0) == before {
		if time.Now().After(end) {
			r.tb.Errorf("%s: the upstream is mended, and not used again", r.name)
			return
		}
		r.one()
		<-time.After(time.Millisecond)
	}
}

// countable is how many requests it takes for one in a thousand to be told from chance; of fewer it is judged by chance.
const countable = 5000

// luck gives how many events there are at most, of which mean are expected, but once in a million times (Poisson).
func luck(mean float64) int {
	p := math.Exp(-mean)
	rest, n := 1-p, 0
	for ; rest > 1e-6; rest -= p {
		n++
		p *= mean / float64(n)
	}
	return n
}

func TestLuck(t *testing.T) {
	t.Parallel()
	for mean, want := range map[float64]int{0: 0, 0.001: 1, 0.3: 5, 1: 9} { // of tables
		if got := luck(mean); got != want {
			t.Errorf("mean %v: %d, want %d", mean, got, want)
		}
	}
}

// limits judges how many failed; struck is how many may meet the fault.
func (r *run) limits(f fault, struck int) {
	failed, all := make(map[string]int), make(map[string]int)
	for _, t := range r.told {
		if t.excuse {
			continue
		}
		m := methodOf(t.id)
		all[m]++
		if t.failed() {
			failed[m]++
			if failed[m] <= 3 {
				r.tb.Logf("%s: %s %d failed: status %d, %v %s", r.name, m, t.id, t.status, t.err, r.of(t.id))
			}
		}
	}
	if r.left > 0 {
		r.tb.Logf("%s: the machine is too slow for the load, so how many fail says nothing; the ledger does", r.name)
		return
	}
	for m, l := range map[string]limit{http.MethodGet: f.gets, http.MethodPost: f.posts} {
		may := map[limit]int{none: all[m] / 10_000, met: struck, rare: all[m], unbounded: all[m]}[l]
		if l == rare && atLength() && r.left == 0 && r.exact {
			may = 1 + all[m]/1000
			if all[m] < countable {
				may = luck(float64(all[m]) / 1000)
			}
		}
		if failed[m] > may {
			r.tb.Errorf("%s: %d of %d %s failed, at most %d may", r.name, failed[m], all[m], m, may)
		}
		if failed[m] > 0 {
			r.tb.Logf("%s: %d of %d %s failed", r.name, failed[m], all[m], m)
		}
	}
	if f.single {
		r.singly()
	}
}

// singly judges that what met the fault was not sent again.
func (r *run) singly() {
	seen, sent := make(map[uint64]int), make(map[uint64]int)
	for _, e := range r.book.entries {
		seen[e.id]++
	}
	for _, t := range r.told {
		sent[t.id] = max(1, int(t.sent.Load()))
	}
	for _, e := range r.book.entries {
		if e.met && seen[e.id] > sent[e.id] {
			r.tb.Errorf("%s: request %d was answered in part, and sent again: %s", r.name, e.id, r.of(e.id))
		}
	}
}
