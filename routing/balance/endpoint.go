package balance

import (
	"crypto/x509"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/telemetry"
)

// An Endpoint is the live record of one address in one cluster. What it counts outlives snapshots, pickers
// and re-resolution. It is safe for concurrent use.
type Endpoint struct {
	Def     *discovery.Endpoint
	Conns   any // the connection pool that the driver made for this endpoint
	metrics atomic.Pointer[telemetry.Group]
	heard   atomic.Pointer[Heard]
	state   *state
}

// Metrics gives what calls to the endpoint are recorded in, nil for nothing or before the first.
func (e *Endpoint) Metrics() *telemetry.Group { return e.metrics.Load() }

// Measure has calls to the endpoint recorded in g.
func (e *Endpoint) Measure(g *telemetry.Group) { e.metrics.Store(g) }

// Heard is what an endpoint has said of the workload that it is in. It is immutable.
type Heard struct {
	Certificate *x509.Certificate // by which it was proved to be
	Said        string            // telemetry.PeerMetadata
	Metrics     *telemetry.Group  // in the place of the endpoint's
}

// Heard gives what the endpoint has said last, nil for nothing.
func (e *Endpoint) Heard() *Heard { return e.heard.Load() }

// Hear keeps what it says now.
func (e *Endpoint) Hear(h *Heard) { e.heard.Store(h) }

// state is what all definitions of one endpoint share.
type state struct {
	active  atomic.Int64  // attempts under way
	streak  atomic.Int32  // failures since the last success
	retired atomic.Bool   // discovery no longer has it
	total   atomic.Uint64 // attempts ever begun
	failed  atomic.Uint64
	nanos   atomic.Int64 // time that ended attempts took
	newest  atomic.Pointer[any]
	joined  atomic.Int64 // when, by the clock of picks
	ejected atomic.Bool
	streaks resilience.Streaks
	_       [48]byte // every call writes these: no two endpoints share a cache line
}

// NewEndpoint makes the record of an endpoint that is new to its cluster.
func NewEndpoint(def *discovery.Endpoint, conns any) *Endpoint {
	return &Endpoint{Def: def, Conns: conns, state: new(state)}
}

// Redefined gives the same record under a new definition: other labels or another weight, the same
// address, connections and counts.
func (e *Endpoint) Redefined(def *discovery.Endpoint) *Endpoint {
	return &Endpoint{Def: def, Conns: e.Conns, state: e.state}
}

// Reopened puts another connection pool in place of the one that the record has. It is called before the
// record is in use; the same endpoint's earlier records keep theirs.
func (e *Endpoint) Reopened(conns any) {
	e.Conns = conns
	e.state.newest.Store(&conns)
}

// Newest gives the connection pool that was put in place last, whichever record of the endpoint is asked, nil
// where it still is the first.
func (e *Endpoint) Newest() any {
	if conns := e.state.newest.Load(); conns != nil {
		return *conns
	}
	return nil
}

// Same reports whether both are records of the same endpoint, under whichever definition.
func (e *Endpoint) Same(o *Endpoint) bool { return e.state == o.state }

// Begin counts an attempt that starts.
func (e *Endpoint) Begin() {
	e.state.active.Add(1)
	e.state.total.Add(1)
}

// End counts an attempt that is over — its body has ended, or there was none — and the time it took. It
// reports whether the connections can go: the endpoint is retired and this was the last attempt on it.
func (e *Endpoint) End(took time.Duration) (release bool) {
	e.state.nanos.Add(int64(took))
	return e.state.active.Add(-1) == 0 && e.state.retired.Load()
}

// Retire notes that discovery no longer has the endpoint. It reports whether the connections can go now;
// otherwise End will say so.
func (e *Endpoint) Retire() (release bool) {
	e.state.retired.Store(true)
	return e.state.active.Load() == 0
}

// Failed notes that the endpoint failed an attempt, Succeeded that it served one. Attempts that say
// nothing about the endpoint call neither.
func (e *Endpoint) Failed() {
	e.state.failed.Add(1)
	if e.state.streak.Load() < maxStreak { // more would count for nothing, and one day wrap
		e.state.streak.Add(1)
	}
}

// Succeeded ends the endpoint's streak of failures.
func (e *Endpoint) Succeeded() {
	if e.state.streak.Load() != 0 {
		e.state.streak.Store(0)
	}
}

// Counts is what an endpoint has counted since it was made.
type Counts struct {
	Active  int64         // attempts under way
	Total   uint64        // attempts begun
	Failed  uint64        // attempts the endpoint failed
	Latency time.Duration // mean time of an attempt to its body's end
}

// Counts reads the counters. They are read one after the other while calls go on.
func (e *Endpoint) Counts() Counts {
	c := Counts{Active: e.state.active.Load(), Total: e.state.total.Load(), Failed: e.state.failed.Load()}
	if ended := int64(c.Total) - c.Active; ended > 0 {
		c.Latency = time.Duration(e.state.nanos.Load() / ended)
	}
	return c
}

// maxStreak is how many failures in a row are told apart. An endpoint that has as many loses to every one
// that has not, however busy that is: no number added to its load would do for every traffic.
const maxStreak = 8

// load is what least-request compares: requests in flight, plus one for each failure in a row. An
// endpoint that fails at once has nothing in flight and would otherwise attract every request.
func (e *Endpoint) load() int64 { return e.state.active.Load() + int64(e.state.streak.Load()) }

// down reports whether the endpoint has only failed of late.
func (e *Endpoint) down() bool { return e.state.streak.Load() >= maxStreak }

// onlyFailed reports whether failures are all there is to the endpoint's load.
func (e *Endpoint) onlyFailed() bool { return e.state.streak.Load() != 0 && e.state.active.Load() == 0 }

// weight is the endpoint's share; an unset one is 1 (WorkloadEntry.weight).
func (e *Endpoint) weight() uint32 { return max(e.Def.Weight, 1) }
