package balance

import (
	"time"

	"github.com/heddlemesh/mesh/resilience"
)

// Eject takes the endpoint out: pickers pass over it from now on, except in panic. It reports whether that
// changed anything; who hears so makes new pickers where the endpoint is, for the sake of spill and panic.
func (e *Endpoint) Eject() (changed bool) { return !e.state.ejected.Swap(true) }

// Uneject puts the endpoint back, and reports whether that changed anything. It does not warm up again: only
// what was away or failed health checks does (Join).
func (e *Endpoint) Uneject() (changed bool) { return e.state.ejected.Swap(false) }

// Healthy reports whether the endpoint is not ejected.
func (e *Endpoint) Healthy() bool { return !e.state.ejected.Load() }

// Streaks are the failures that outlier detection counts.
func (e *Endpoint) Streaks() *resilience.Streaks { return &e.state.streaks }

// Join notes when the endpoint joined its cluster, by any clock that goes on from there, in Draw.Now: from then
// on it warms up. An endpoint that never joined has been there since the clock began.
func (e *Endpoint) Join(now time.Duration) { e.state.joined.Store(int64(now)) }

func (e *Endpoint) joined() time.Duration { return time.Duration(e.state.joined.Load()) }

// Healthy counts the endpoints that are not ejected.
func Healthy(endpoints []*Endpoint) (n int) {
	for _, e := range endpoints {
		if e.Healthy() {
			n++
		}
	}
	return n
}
