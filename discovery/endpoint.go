package discovery

import (
	"maps"
	"net"
	"slices"
	"strconv"
)

// An Address is where an endpoint listens. It is comparable: pools and endpoint records are keyed by it.
type Address struct {
	Network string // "tcp" or "unix"
	Addr    string // host:port (an IP address or a name to resolve) or a path
	Via     string // a proxy or gateway on the way, "" for none
}

// TCP makes the address of a TCP endpoint.
func TCP(host string, port uint16) Address {
	return Address{Network: "tcp", Addr: net.JoinHostPort(host, strconv.Itoa(int(port)))}
}

// Unix makes the address of an endpoint on a Unix domain socket.
func Unix(path string) Address { return Address{Network: "unix", Addr: path} }

// String gives the address as logs and errors show it: host:port, or unix:///path.
func (a Address) String() string {
	s := a.Addr
	if a.Network == "unix" {
		s = "unix://" + s
	}
	if a.Via != "" {
		s += " via " + a.Via
	}
	return s
}

// An Endpoint is one address of a service as discovery knows it. Its fields are not changed once it is
// part of a Set.
type Endpoint struct {
	Address Address
	// Resolve says that Address names a host to be looked up, and that every address found is an endpoint
	// of its own. Otherwise a name is looked up whenever a connection is opened.
	Resolve        bool
	Labels         map[string]string // what subsets select by
	Weight         uint32            // share of traffic relative to the others; 0 counts as 1
	Locality       string            // region/zone/subzone
	Network        string            // Istio's WorkloadEntry.network
	ServiceAccount string            // the identity the endpoint should prove, with Namespace
	Namespace      string            // of what the endpoint comes from
	// MTLS says that the endpoint takes mutual TLS of the mesh (Istio's label security.istio.io/tlsMode).
	MTLS     bool
	Workload string // kind namespace/name of the WorkloadEntry or Pod it comes from, "" for inline ones
}

// Matches reports whether the endpoint has all the labels of the selector; an empty selector takes all.
func (e *Endpoint) Matches(selector map[string]string) bool {
	for k, v := range selector {
		if got, ok := e.Labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// A Set is everything known of one service port at one moment. It is immutable.
type Set struct {
	endpoints []Endpoint
	missing   string
}

// NewSet makes a set; of endpoints with the same address the first counts.
func NewSet(endpoints ...Endpoint) *Set {
	seen := make(map[Address]bool, len(endpoints))
	s := &Set{endpoints: make([]Endpoint, 0, len(endpoints))}
	for _, e := range endpoints {
		if !seen[e.Address] {
			seen[e.Address] = true
			s.endpoints = append(s.endpoints, e)
		}
	}
	return s
}

// Union gives the endpoints of both sets, for the moment in which a change of endpoints and of what uses
// them is under way. An address that the two define differently is in it under both definitions.
func Union(a, b *Set) *Set {
	u := &Set{endpoints: slices.Clone(a.endpoints)}
	at := make(map[Address]int, len(a.endpoints)) // index in a, which has each address once
	for i := range a.endpoints {
		at[a.endpoints[i].Address] = i
	}
	for i := range b.endpoints {
		e := &b.endpoints[i]
		if have, ok := at[e.Address]; !ok || !a.endpoints[have].equal(e) {
			u.endpoints = append(u.endpoints, *e)
		}
	}
	return u
}

// Len is the number of endpoints.
func (s *Set) Len() int { return len(s.endpoints) }

// At gives the i-th endpoint, in the order of publication. It must not be changed.
func (s *Set) At(i int) *Endpoint { return &s.endpoints[i] }

// Missing says, for people, why endpoints that were declared are not in the set, "" where none is known to be.
func (s *Set) Missing() string { return s.missing }

// Equal reports whether both sets have the same endpoints in the same order. A nil set equals only another.
// What is missing does not count: its words change from one failure to the next.
func (s *Set) Equal(o *Set) bool {
	if s == nil || o == nil {
		return s == o
	}
	return slices.EqualFunc(s.endpoints, o.endpoints, func(a, b Endpoint) bool { return a.equal(&b) })
}

func (e *Endpoint) equal(o *Endpoint) bool {
	return e.Address == o.Address && e.Resolve == o.Resolve && e.Weight == o.Weight && e.Locality == o.Locality &&
		e.Network == o.Network && e.ServiceAccount == o.ServiceAccount && e.Namespace == o.Namespace && e.MTLS == o.MTLS && e.Workload == o.Workload &&
		maps.Equal(e.Labels, o.Labels)
}
