package routing

import (
	"math/bits"
	"time"

	"github.com/heddlemesh/mesh/resilience"
)

// A Route is one rule: what it matches and where it sends. It is immutable once in a Table.
type Route struct {
	// Name is what access logs, errors and explain show; "default" for a service without rules.
	Name string
	// Origin says where the rule was written, for people: kind, name, field, file:line.
	Origin string
	// Matches are ORed; none means that the rule takes every request.
	Matches []Match
	// Split lists the destinations; traffic is shared by weight. A rule that answers itself has none.
	Split []Destination
	// Redirect and Direct answer without asking anybody. At most one is set.
	Redirect *Redirect
	Direct   *DirectResponse
	// Answer edits the header of such an answer. For what comes from a destination see there.
	Answer *HeaderOps
	// CORS, Fault and Rewrite are nil for none.
	CORS    *CORS
	Fault   *resilience.Fault
	Rewrite *Rewrite
	// Mirrors get a copy of the request, each by itself; their answers are thrown away.
	Mirrors []Mirror
	// Timeout bounds the whole call: all tries, the waits between them and the answer's body. 0 for none.
	Timeout time.Duration
	// Retry is the rule's policy, nil for none. It may be shared between routes.
	Retry *resilience.Retry
	// Preset says which of these values are the preset's, for people; "" for none.
	Preset string
}

// A Destination is one share of a route's traffic.
type Destination struct {
	Cluster string // opaque name; "outbound|<port>|<subset>|<host>" where Istio documents gave it
	// Index is the cluster's place in the snapshot, -1 where the snapshot has no such cluster: the call
	// is then answered 503, flag NC.
	Index  int
	Weight uint32
	// Request and Response edit the headers of what goes there and comes from there, the rule's operations
	// among them.
	Request, Response *HeaderOps
	// Authority takes the place of the request's, before the rule's rewrite has its say; "" for none
	// (Headers.request.set of host).
	Authority string
	// Missing says, where Index is -1, what is missing.
	Missing string
}

// A Mirror is a destination of copies.
type Mirror struct {
	Cluster string
	Index   int // as Destination.Index
	Missing string
	Share   uint32 // of calls, per million
}

// Title gives the name that the route goes by for what m took: the route's, with the match's where that has
// one.
func (r *Route) Title(m *Match) string {
	if m == nil {
		return r.Name
	}
	return m.full
}

// Pick shares traffic by weight (HTTPRouteDestination.weight): each destination gets weight ÷ sum. A lone
// destination gets all whatever its weight; weight 0 among several gets none. It gives nil where there is
// no destination or all weights are 0.
func (r *Route) Pick(rnd uint64) *Destination {
	if len(r.Split) == 1 {
		return &r.Split[0]
	}
	var total uint64
	for i := range r.Split {
		total += uint64(r.Split[i].Weight)
	}
	x, _ := bits.Mul64(rnd, total) // uniform in [0, total)
	for i := range r.Split {
		w := uint64(r.Split[i].Weight)
		if x < w {
			return &r.Split[i]
		}
		x -= w
	}
	return nil
}
