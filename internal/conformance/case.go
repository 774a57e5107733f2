package conformance

import (
	"net/http"
	"strconv"
	"strings"
	"time"

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
	Preset   mesh.Preset
	Upstream Upstream // how the endpoints behave
	Request  Request
	Repeat   int // how often; 0 is once

	// What must come out. Want holds for every call, unless Shares stands instead of it. In Want the zero
	// of Status means 200 and that of Flag "-"; no attempt is expected after a rejection and one otherwise,
	// unless Attempts says more; other zero fields are not looked at.
	Want   Result
	First  int                // how many calls Want holds for, where Then holds for those after them; 0 for all
	Then   Result             // as Want
	Shares map[string]float64 // percent of the calls, by what became of them (kindsOf)
	Cycle  []string           // the endpoints that answer in turn, beginning with any of them
	Random bool               // the endpoints that answer, several, do not take turns
	// Keys is how many requests there are: "{n}" in URL and header stands for 0, 1 and so on, below it, from call
	// to call. Calls of one request are answered by one endpoint, those of all by several.
	Keys int
	// Fake gives the row a clock of its own (testing/synctest), on which waiting costs nothing and copies are there
	// when a call is over.
	Fake bool

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
	// Deadline is the caller's own, 0 for one that no row reaches.
	Deadline time.Duration
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

	unsaid bool // of an RPC: no grpc-status came back

	SNI    string // the server name that the upstream was asked for by TLS
	Caller string // the name in the caller's certificate

	Answer  http.Header   // the header of what the caller got
	Text    string        // its body; of an RPC the message of its status
	Flags   string        // of what was injected: "DI", "FI", "DI,FI"
	Details string        // Envoy's response code details where the rule has answered: no endpoint was asked then
	Took    time.Duration // by the row's own clock
	Copies  []Copy        // what mirrors saw, by address; in a row an empty list is none
}

// A Copy is a request that a mirror saw.
type Copy struct {
	At, Method, Host, Path string
	Header                 http.Header // in a row those that count
	Body                   string
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
		{"redirect", redirectRows()},
		{"direct", directRows()},
		{"rewrite", rewriteRows()},
		{"headerops", headerOpsRows()},
		{"cors", corsRows()},
		{"fault", faultRows()},
		{"timeout", timeoutRows()},
		{"mirror", mirrorRows()},
		{"hash", hashRows()},
		{"locality", localityRows()},
		{"outlier", outlierRows()},
		{"tls", tlsRows()},
		{"limits", limitRows()},
		{"breaker", breakerRows()},
		{"preset", presetRows()},
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
