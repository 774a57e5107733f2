package conformance

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/heddlemesh/mesh"
)

// A Case is one row of the table.
type Case struct {
	Group, Name string
	Cite        string // where the expectation is written down
	Deviation   string // why it is not what Istio does, where it is not

	Config   string        // YAML
	Workload mesh.Workload // who calls
	Outbound mesh.OutboundTrafficPolicy
	Upstream Upstream // how the endpoints behave
	Request  Request
	Repeat   int // how often; 0 is once

	// What must come out. Want holds for every call, unless Shares stands instead of it. In Want the zero
	// of Status means 200 and that of Flag "-"; no attempt is expected after a rejection and one otherwise,
	// unless Attempts says more; other zero fields are not looked at.
	Want   Result
	Shares map[string]float64 // percent of the calls, by the endpoint that answered or the flag of the error
	Cycle  []string           // the endpoints that answer in turn, beginning with any of them
	Random bool               // the endpoints that answer, several, do not take turns
	// Keys is how many requests there are: "{n}" in URL and header stands for 0, 1 and so on, below it, from call
	// to call. Calls of one request are answered by one endpoint, those of all by several.
	Keys int

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
	Cookie string // what the caller was given, with "?" for its value

	SNI    string // the server name that the upstream was asked for by TLS
	Caller string // the name in the caller's certificate
}

// request gives the request of the i-th call.
func (c *Case) request(i int) *Request {
	if c.Keys == 0 {
		return &c.Request
	}
	n := strconv.Itoa(i % c.Keys)
	r := c.Request
	r.URL = strings.ReplaceAll(r.URL, "{n}", n)
	r.Header = make(http.Header, len(c.Request.Header))
	for name, values := range c.Request.Header {
		for _, v := range values {
			r.Header.Add(name, strings.ReplaceAll(v, "{n}", n))
		}
	}
	return &r
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
		{"outbound", outboundRows()},
		{"retries", retryRows()},
		{"grpc", grpcRows()},
		{"protocol", protocolRows()},
		{"kubernetes", kubernetesRows()},
		{"delegate", delegateRows()},
		{"sidecar", sidecarRows()},
		{"meshconfig", meshConfigRows()},
		{"workshop", workshopRows()},
		{"hash", hashRows()},
		{"locality", localityRows()},
		{"tls", tlsRows()},
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
