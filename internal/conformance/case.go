package conformance

import (
	"net/http"

	"github.com/heddlemesh/mesh"
)

// A Case is one row of the table.
type Case struct {
	Group, Name string
	Cite        string // where the expectation is written down
	Deviation   string // why it is not what Istio does, where it is not

	Config   string        // YAML
	Workload mesh.Workload // who calls
	Upstream Upstream      // how the endpoints behave
	Request  Request
	Repeat   int // how often; 0 is once

	// What must come out. Want holds for every call, unless Shares stands instead of it. In Want the zero
	// of Status means 200 and that of Flag "-"; no attempt is expected after a rejection and one otherwise,
	// unless Attempts says more; other zero fields are not looked at.
	Want   Result
	Shares map[string]float64 // percent of the calls, by the endpoint that answered or the flag of the error
	Cycle  []string           // the endpoints that answer in turn, beginning with any of them
	Random bool               // the endpoints that answer, several, do not take turns

	// Except names drivers that cannot run the row, and why. What follows from the row itself a driver finds
	// out by itself (Driver.Adapt).
	Except map[string]string
}

// A Request is what the caller asks for.
type Request struct {
	Method string // "" is GET, or the only one that the driver has: the row is not about it
	URL    string
	Host   string // the Host header where it is not the URL's
	Header http.Header
	Body   string
	Stream bool // the body can be read once only
}

// A Result is what came out of one call: what the caller was told, and what the upstream saw.
type Result struct {
	Route    string // the rule that matched
	Cluster  string
	Attempts int

	Endpoint string // the address of the upstream that answered, as it recorded it
	Tried    int    // how many different endpoints the call reached for
	Proto    string // what the upstream saw on the wire, here and below
	Host     string
	Path     string // with the query
	Header   http.Header
	Body     string

	Status int    // what the caller got
	GRPC   int    // the grpc-status the caller got, 0 where there was none
	Flag   string // "-" or the flag of the rejection
}

// Cases gives the whole table.
func Cases() []Case {
	groups := []struct {
		name string
		rows []Case
	}{
		{"hosts", hostRows()},
		{"uri", uriRows()},
		{"order", orderRows()},
		{"headers", headerRows()},
		{"method", methodRows()},
		{"scheme", schemeRows()},
		{"authority", authorityRows()},
		{"query", queryRows()},
		{"port", portRows()},
		{"workload", workloadRows()},
		{"weights", weightRows()},
		{"subsets", subsetRows()},
		{"destination", destinationRows()},
		{"destinationrule", destinationRuleRows()},
		{"loadbalancer", loadBalancerRows()},
		{"endpoints", endpointRows()},
		{"visibility", visibilityRows()},
		{"retries", retryRows()},
		{"grpc", grpcRows()},
		{"protocol", protocolRows()},
	}
	var all []Case
	for _, g := range groups {
		for _, c := range g.rows {
			c.Group = g.name
			all = append(all, c)
		}
	}
	return all
}
