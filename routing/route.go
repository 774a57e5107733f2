package routing

import (
	"math/bits"

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
	// Split lists the destinations; traffic is shared by weight.
	Split []Destination
	// Retry is the rule's policy, nil for none. It may be shared between routes.
	Retry *resilience.Retry
}

// A Destination is one share of a route's traffic.
type Destination struct {
	Cluster string // opaque name; "outbound|<port>|<subset>|<host>" where Istio documents gave it
	// Index is the cluster's place in the snapshot, -1 where the snapshot has no such cluster: the call
	// is then answered 503, flag NC.
	Index  int
	Weight uint32
	// Missing says, where Index is -1, what is missing.
	Missing string
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
