package resilience_test

import (
	"math"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
)

var (
	served     = call.Outcome{Status: 200}
	internal   = call.Outcome{Status: 500}
	bad        = call.Outcome{Status: 502}
	unfound    = call.Outcome{Status: 404}
	connect    = call.Outcome{Reason: call.ReasonConnect, Unprocessed: true}
	broken     = call.Outcome{Reason: call.ReasonReset}
	late       = call.Outcome{Reason: call.ReasonTimeout}
	given      = call.Outcome{Reason: call.ReasonCanceled}
	ours       = call.Outcome{Reason: call.ReasonNoEndpoint}
	rpcDown    = call.Outcome{Status: 200, GRPCStatus: 14 + 1}
	rpcUnknown = call.Outcome{Status: 200, GRPCStatus: 5 + 1}
)

// TestOutlierStreaks: Envoy's algorithm as istio-semantics.md §3.5 has it, points 1 and 2.
func TestOutlierStreaks(t *testing.T) {
	t.Parallel()
	three := resilience.Outlier{Consecutive5xx: 3}
	gateway := resilience.Outlier{Consecutive5xx: 5, ConsecutiveGateway: 2}
	split := resilience.Outlier{Consecutive5xx: 3, ConsecutiveGateway: 3, SplitLocal: true, ConsecutiveLocal: 2}
	codes := resilience.Outlier{Consecutive5xx: 2, Codes: []int{404, 502}}
	for name, c := range map[string]struct {
		policy resilience.Outlier
		script []call.Outcome
		at     []int // where the threshold is reached, from 1
	}{
		"5xx in a row":                     {three, []call.Outcome{internal, bad, internal, internal}, []int{3}},
		"again after as many":              {three, []call.Outcome{internal, internal, internal, internal, internal, internal}, []int{3, 6}},
		"an answer begins anew":            {three, []call.Outcome{internal, internal, served, internal, internal, unfound, internal}, nil},
		"whoever gave up says nothing":     {three, []call.Outcome{internal, given, internal, ours, {}, internal}, []int{6}},
		"no answer is a 5xx":               {three, []call.Outcome{connect, broken, late}, []int{3}},
		"grpc-status":                      {three, []call.Outcome{rpcDown, rpcDown, rpcDown}, []int{3}},
		"grpc-status that is no 5xx":       {three, []call.Outcome{rpcDown, rpcDown, rpcUnknown, rpcDown}, nil},
		"off":                              {resilience.Outlier{}, []call.Outcome{internal, bad, connect, late}, nil},
		"gateway errors":                   {gateway, []call.Outcome{bad, bad}, []int{2}},
		"a 500 ends gateway errors":        {gateway, []call.Outcome{bad, internal, bad}, nil},
		"and goes on with 5xx":             {gateway, []call.Outcome{bad, internal, bad, internal, bad}, []int{5}},
		"no answer is a gateway error":     {gateway, []call.Outcome{connect, late}, []int{2}},
		"UNAVAILABLE is a gateway error":   {gateway, []call.Outcome{rpcDown, rpcDown}, []int{2}},
		"split, local":                     {split, []call.Outcome{connect, late}, []int{2}},
		"split, external":                  {split, []call.Outcome{internal, connect, internal, internal}, []int{4}},
		"split, an answer ends local ones": {split, []call.Outcome{connect, internal, broken, served, connect}, nil},
		"split, local off":                 {resilience.Outlier{Consecutive5xx: 1, SplitLocal: true}, []call.Outcome{connect, broken, internal}, []int{3}},
		"codes":                            {codes, []call.Outcome{unfound, bad}, []int{2}},
		"codes, others do not count":       {codes, []call.Outcome{internal, internal, internal, unfound, internal, unfound}, nil},
		"codes, no answer still counts":    {codes, []call.Outcome{unfound, broken}, []int{2}},
		"codes, not of a grpc-status":      {codes, []call.Outcome{rpcDown, rpcDown}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s resilience.Streaks
			var at []int
			for i := range c.script {
				if c.policy.Note(&s, &c.script[i]) {
					at = append(at, i+1)
				}
			}
			if len(at) != len(c.at) {
				t.Fatalf("reached at %v, want %v", at, c.at)
			}
			for i := range at {
				if at[i] != c.at[i] {
					t.Errorf("reached at %v, want %v", at, c.at)
				}
			}
		})
	}
}

// TestOutlierAllows: point 3, the small pool included.
func TestOutlierAllows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		percent       uint8
		always        bool
		ejected, pool int
		want          bool
	}{
		{10, false, 0, 9, false}, {10, false, 0, 10, true}, {10, false, 1, 10, false}, {10, false, 1, 20, true},
		{10, true, 0, 1, true}, {10, true, 1, 9, false}, {100, false, 2, 3, true}, {100, false, 0, 1, true},
		{99, false, 0, 1, false}, {50, false, 1, 4, true}, {50, false, 2, 4, false}, {0, false, 0, 100, false}, {0, true, 0, 100, true},
	} {
		p := resilience.Outlier{MaxPercent: c.percent, AlwaysOne: c.always}
		if got := p.Allows(c.ejected, c.pool); got != c.want {
			t.Errorf("%d %%, always one %v, %d of %d out: %v", c.percent, c.always, c.ejected, c.pool, got)
		}
	}
}

// TestEjectionTimes: points 4 and 5. Sweeps are at 3 s, 13 s, 23 s and so on.
func TestEjectionTimes(t *testing.T) {
	t.Parallel()
	const s, start = time.Second, 3 * time.Second
	p := resilience.Outlier{}
	var e resilience.Ejection
	out := func(at, until time.Duration, n int) {
		t.Helper()
		p.Eject(&e, start, at)
		if got := p.Until(&e, start); got != until || e.Times != n || !e.Out {
			t.Fatalf("ejected at %v: until %v, %d times; want %v and %d", at, got, e.Times, until, n)
		}
		p.Release(&e, start)
		if e.Out {
			t.Fatal("not released")
		}
	}
	out(5*s, 43*s, 1)         // 30 s, and to the next sweep
	out(44*s, 113*s, 2)       // at once again: 60 s
	out(113*s, 203*s, 3)      // at a sweep: 90 s and no more
	out(224*s, 293*s, 2)      // two sweeps in good health took two off
	out(time.Hour, 3633*s, 1) // many
	at := 2 * time.Hour
	p.Eject(&e, start, at)
	for range 50 {
		p.Release(&e, start)
		at = p.Until(&e, start)
		p.Eject(&e, start, at)
	}
	if got := p.Until(&e, start) - at; got != 300*s {
		t.Errorf("after many ejections: %v, want 300s", got)
	}
	p.Release(&e, start)
	p.Eject(&e, start, at+300*s+4*10*s)
	if e.Times > 9 {
		t.Errorf("%d ejections counted: beyond what makes the longest, good health would take long to count", e.Times)
	}

	long := resilience.Outlier{BaseEjection: time.Hour, Interval: time.Minute}
	e = resilience.Ejection{}
	long.Eject(&e, 0, 0)
	long.Release(&e, 0)
	long.Eject(&e, 0, time.Hour)
	if got := long.Until(&e, 0); got != 2*time.Hour {
		t.Errorf("a base beyond the longest: %v", got)
	}
	never := resilience.Outlier{BaseEjection: math.MaxInt64, Interval: math.MaxInt64}
	e = resilience.Ejection{}
	never.Eject(&e, 0, time.Hour)
	if got := never.Until(&e, 0); got != math.MaxInt64 {
		t.Errorf("never back: %v", got)
	}
}

// TestOutlierNoteAllocatesNothing, in any outcome.
func TestOutlierNoteAllocatesNothing(t *testing.T) {
	p := resilience.Outlier{Consecutive5xx: 5, ConsecutiveGateway: 3, Codes: []int{500}}
	var s resilience.Streaks
	all := []call.Outcome{served, internal, bad, connect, late, given, rpcDown}
	if n := testing.AllocsPerRun(100, func() {
		for i := range all {
			p.Note(&s, &all[i])
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkOutlierNote(b *testing.B) {
	p := resilience.Outlier{Consecutive5xx: 5, ConsecutiveGateway: 3}
	var s resilience.Streaks
	b.ReportAllocs()
	for b.Loop() {
		p.Note(&s, &served)
	}
}

// TestOutlierString: what explain shows of each field.
func TestOutlierString(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]*resilience.Outlier{
		"":                       nil,
		"outlier detection: off": {MaxPercent: 10},
		"outlier detection: out for 30s after 5 times 5xx or no answer in a row; 10 % of the endpoints at most":                              {Consecutive5xx: 5, MaxPercent: 10},
		"outlier detection: out for 1m0s after 3 times 502, 503 or 504 or no answer in a row; 0 % of the endpoints at most, one in any case": {ConsecutiveGateway: 3, BaseEjection: time.Minute, AlwaysOne: true},
		"outlier detection: out for 30s after 5 times 429 503, 2 times no answer in a row; 100 % of the endpoints at most":                   {Consecutive5xx: 5, SplitLocal: true, ConsecutiveLocal: 2, Codes: []int{429, 503}, MaxPercent: 100},
	} {
		if got := p.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
