package balance

import "strings"

// A Locality is where something runs.
type Locality struct{ Region, Zone, SubZone string }

// ParseLocality reads "region/zone/subzone", of which the later parts may be missing (WorkloadEntry.locality).
// A subzone takes whatever follows.
func ParseLocality(s string) Locality {
	var l Locality
	l.Region, s, _ = strings.Cut(s, "/")
	l.Zone, l.SubZone, _ = strings.Cut(s, "/")
	return l
}

// String gives the form that ParseLocality reads, without trailing slashes.
func (l Locality) String() string {
	return strings.TrimRight(l.Region+"/"+l.Zone+"/"+l.SubZone, "/")
}

// in reports whether the locality is the one described or inside it: a part that is missing or "*" stands for
// all, a region that is missing for none but itself (Istio's LocalityMatch).
func (l Locality) in(pattern string) bool {
	p := ParseLocality(pattern)
	return (p.Region == "*" || p.Region == l.Region) &&
		(p.Zone == "*" || p.Zone == "" || p.Zone == l.Zone) &&
		(p.SubZone == "*" || p.SubZone == "" || p.SubZone == l.SubZone)
}

// A LocalityPolicy is what the places of endpoints mean for who calls them (DestinationRule
// loadBalancer.localityLbSetting). The zero value prefers what is near: the client's subzone, zone, region, then
// all others. It is for who compiles rules to leave it out where Istio does not fail over: without outlier
// detection, unless there is Distribute.
type LocalityPolicy struct {
	// Distribute says how calls from a place are spread. Of several that match the client the first counts;
	// where there is any, the other fields do not.
	Distribute []Distribution
	// Failover names the region that is next for a region. Of several for one region the first counts.
	Failover []Failover
	// FailoverPriority are labels, "key" or "key=value": the more of them from the first on an endpoint shares
	// with the client, or has with that value, the sooner it is used. Places then count only where there is
	// Failover too, among endpoints of the same priority. Without labels of the client it has no effect.
	FailoverPriority []string
}

// A Distribution spreads the calls from a place ("region/zone/subzone", of which later parts can be missing or
// "*"). Endpoints in places that are not named get nothing.
type Distribution struct {
	From string
	To   []Share // of several that match an endpoint the first counts
}

// A Share is the weight of a place, and is split by weight where several localities are in it. Shares add up to
// 100 in Istio, but any sum will do; 0 is no share.
type Share struct {
	To     string
	Weight uint32
}

// A Failover is where calls from a region go when it cannot serve them.
type Failover struct{ From, To string }

// The labels that stand for an endpoint's place, as Istio adds them to each endpoint.
const (
	labelRegion  = "topology.kubernetes.io/region"
	labelZone    = "topology.kubernetes.io/zone"
	labelSubZone = "topology.istio.io/subzone"
	labelNetwork = "topology.istio.io/network"
)

// label gives the value of a label, which for labels of place is the place where there is one.
func label(key string, labels map[string]string, at Locality, network string) string {
	var place string
	switch key {
	case labelRegion:
		place = at.Region
	case labelZone:
		place = at.Zone
	case labelSubZone:
		place = at.SubZone
	case labelNetwork:
		place = network
	}
	if place != "" {
		return place
	}
	return labels[key]
}
