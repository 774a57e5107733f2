package resilience

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/heddlemesh/mesh/call"
)

// A CircuitBreaker says when attempts on a whole service stop, and for how long. It is a value: two that are equal
// are the same. At least one of Consecutive and Percent is not 0.
type CircuitBreaker struct {
	Consecutive uint32 // failures in a row that open it; 0 for no such limit
	// Percent of the attempts in Window that open it, 1 to 100, where there were Minimum at least. 0 for no such limit.
	Percent uint32
	Minimum uint32
	Window  time.Duration
	OpenFor time.Duration // how long it lets nothing through
	Probes  uint32        // attempts let through after that; it closes when as many succeed, and opens when one fails
}

// windowBuckets is how finely the window moves.
const windowBuckets = 10

// A Breaker is the state of one CircuitBreaker: closed, open or half-open. It is safe for concurrent use. Its clock is
// package time's.
type Breaker struct {
	def    CircuitBreaker
	state  *gobreaker.CircuitBreaker[struct{}]
	probes atomic.Int64 // under way

	usual, probe pass // what a Pass can be
}

// NewBreaker makes a closed breaker.
func NewBreaker(def CircuitBreaker) *Breaker {
	s := gobreaker.Settings{MaxRequests: def.Probes, Timeout: def.OpenFor, ReadyToTrip: def.trips}
	if def.Percent > 0 {
		s.Interval, s.BucketPeriod = def.Window, max(def.Window/windowBuckets, 1)
	}
	b := &Breaker{def: def, state: gobreaker.NewCircuitBreaker[struct{}](s)}
	b.usual, b.probe = pass{breaker: b}, pass{breaker: b, probe: true}
	return b
}

func (d CircuitBreaker) trips(n gobreaker.Counts) bool {
	return d.Consecutive > 0 && n.ConsecutiveFailures >= d.Consecutive ||
		d.Percent > 0 && n.Requests >= d.Minimum && uint64(n.TotalFailures)*100 >= uint64(d.Percent)*uint64(n.Requests)
}

// Definition gives what the breaker was made of.
func (b *Breaker) Definition() CircuitBreaker { return b.def }

// State says "closed", "open" or "half-open".
func (b *Breaker) State() string { return b.state.State().String() }

// A Pass is an attempt that a breaker let through. The zero Pass is of no breaker. It is a value: Release is called once.
type Pass struct{ *pass }

type pass struct {
	breaker *Breaker
	probe   bool
}

// Enter asks for an attempt. A nil breaker lets everything through.
func (b *Breaker) Enter() (p Pass, ok bool) {
	if b == nil {
		return Pass{}, true
	}
	switch b.state.State() {
	case gobreaker.StateOpen:
		return Pass{}, false
	case gobreaker.StateHalfOpen:
		if b.probes.Add(1) > int64(b.def.Probes) {
			b.probes.Add(-1)
			return Pass{}, false
		}
		return Pass{&b.probe}, true
	}
	return Pass{&b.usual}, true
}

// Record counts how the attempt ended. What says nothing of the endpoint (call.Outcome.Neutral) does not count, nor
// does, while it is tried whether the service is back, what had begun before.
func (p Pass) Record(o *call.Outcome) {
	if p.pass == nil || o.Neutral() || !p.probe && p.breaker.state.State() == gobreaker.StateHalfOpen {
		return
	}
	verdict := succeeded
	if o.Failed() {
		verdict = failed
	}
	// Entering and ending in one, for which gobreaker allocates nothing; while it is open this counts nothing.
	_, _ = p.breaker.state.Execute(verdict)
}

// Release gives the place of an attempt back that tried whether the service is back.
func (p Pass) Release() {
	if p.pass != nil && p.probe {
		p.breaker.probes.Add(-1)
	}
}

var errFailed = errors.New("failed")

func succeeded() (struct{}, error) { return struct{}{}, nil }
func failed() (struct{}, error)    { return struct{}{}, errFailed }
