package resilience

import "sync/atomic"

// Limits bound what a cluster takes at a time (DestinationRule connectionPool, Envoy's circuit_breakers of the default
// priority). 0 of each is no limit. It is comparable.
type Limits struct {
	Connections int // open or being opened (tcp.maxConnections)
	Pending     int // requests without a connection yet (http.http1MaxPendingRequests)
	Requests    int // requests under way, those pending too (http.http2MaxRequests)
}

// A Gauge counts what is under way against a limit, exactly. Its zero value counts from 0. It is safe for concurrent use and
// takes no lock.
type Gauge struct{ n atomic.Int64 }

// Enter counts one more, where the limit lets it: most 0 always does. What entered must Leave.
func (g *Gauge) Enter(most int) bool {
	if most <= 0 {
		g.n.Add(1)
		return true
	}
	for {
		n := g.n.Load()
		if n >= int64(most) {
			return false
		}
		if g.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Leave ends what Enter counted.
func (g *Gauge) Leave() { g.n.Add(-1) }

// Active gives the number under way.
func (g *Gauge) Active() int { return int(g.n.Load()) }

// A Load is what a cluster has taken, whatever its limits were then. It is safe for concurrent use.
type Load struct{ Connections, Pending, Requests Gauge }
