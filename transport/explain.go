package transport

import (
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing"
)

// A Decision is what the mesh would do with a request, and why, without doing it.
type Decision struct {
	Version string `json:"version"` // of the configuration
	Host    string `json:"host"`    // as asked for, canonical
	Port    uint16 `json:"port"`
	Method  string `json:"method"`
	Path    string `json:"path"` // the canonical spelling rules are matched on

	// Verdict is "forward", "passthrough", "reply" (the rule answers) or "reject".
	Verdict string `json:"verdict"`
	// Flag is the response flag of a rejection ("NR", "NC", "UH", …), "-" for none.
	Flag string `json:"flag"`
	// Why says in words what led to the verdict, where the rest does not.
	Why string `json:"why,omitempty"`

	VirtualHost string          `json:"virtualHost,omitempty"` // the host in the route table
	HostOrigin  string          `json:"hostOrigin,omitempty"`  // where it is declared
	Trials      []routing.Trial `json:"rules,omitempty"`       // every rule in list order
	Route       string          `json:"route,omitempty"`       // the one that matched
	Origin      string          `json:"origin,omitempty"`      // where it is written
	Effects     []string        `json:"effects,omitempty"`     // what it does beside choosing a destination

	Destinations []DestinationView `json:"destinations,omitempty"`
}

// A DestinationView is one share of the matched route's traffic.
type DestinationView struct {
	Cluster   string         `json:"cluster"`
	Origin    string         `json:"origin,omitempty"`  // where its subset and policy are written
	Share     float64        `json:"share"`             // of the route's traffic, 0 to 1
	Missing   string         `json:"missing,omitempty"` // why there is no such cluster (flag NC)
	Balancer  string         `json:"balancer,omitempty"`
	Protocol  string         `json:"protocol,omitempty"`
	Direct    bool           `json:"direct,omitempty"` // sent to the host itself
	Effects   []string       `json:"effects,omitempty"`
	KeptBy    string         `json:"keptBy,omitempty"`           // what calls are kept together by: "header x-user"
	KeptAt    string         `json:"keptAt,omitempty"`           // the endpoint that this request's hash leads to, "" where it has none
	From      string         `json:"from,omitempty"`             // the place that endpoints are seen from, where places count
	TLS       string         `json:"tls,omitempty"`              // how the mesh secures connections
	Breaker   string         `json:"breaker,omitempty"`          // the service's circuit breaker and its state
	Outlier   string         `json:"outlierDetection,omitempty"` // what ejects, for how long and how many
	Budget    string         `json:"retryBudget,omitempty"`      // how many retries may be under way
	Preset    string         `json:"preset,omitempty"`           // which of these are a preset's
	Endpoints []EndpointView `json:"endpoints,omitempty"`
}

// Explain decides about a request without making a call: the same functions on the same snapshot, with
// every rule tried in turn and no random choice among destinations.
func (e *Engine) Explain(q *call.Request) Decision {
	st := e.state.Load()
	d := Decision{Version: st.snap.Version, Host: q.Host, Port: q.Port, Method: q.Method, Path: q.Path,
		Verdict: "passthrough", Flag: call.ReasonNone.Flag()}
	var host *routing.VirtualHost
	var known []uint16
	if t := st.snap.Tables[q.Scope]; t != nil {
		host, known = lookup(t, q)
	}
	if host == nil {
		d.Why = "the mesh does not know the host"
		if len(known) > 0 {
			d.Why = "the mesh knows the host, but not on this port; its ports are " + portList(known)
		}
		return d.outside(st.policy)
	}
	d.VirtualHost, d.HostOrigin = host.Host, host.Origin
	route := host.Default
	var match *routing.Match
	switch {
	case !host.HTTP:
		d.Why = "the port's protocol is not HTTP: rules of HTTP do not apply"
		if route, d.Trials = host.ExplainConn(q); route == nil {
			d.Why = "no rule for connections takes it"
			return d.outside(st.policy)
		}
	case q.Scheme == "https":
		d.Why = "the program's own TLS: rules of HTTP do not apply"
		if route == nil {
			return d.outside(st.policy)
		}
	case q.Path == "":
		return d.reject(call.ReasonInvalidRequest, "the path or the Host header has no safe spelling")
	default:
		route, match, d.Trials = host.Explain(q)
	}
	if route == nil {
		return d.reject(call.ReasonNoRoute, "no rule matches")
	}
	d.Verdict, d.Route, d.Origin = "forward", route.Name, route.Origin
	for _, t := range d.Trials {
		if t.Matched {
			d.Route = t.Route
		}
	}
	d.Effects = route.Effects(q, match)
	if route.Redirect != nil || route.Direct != nil {
		d.Verdict = "reply"
		return d
	}
	d.Effects = append(d.Effects, st.limitsOn(host, route, q)...)
	if _, safe := route.Rewrite.PathOf(q, match); !safe {
		return d.reject(call.ReasonInvalidRequest, unsafeRewrite)
	}
	now := e.now()
	e.sweepAll(st, now)
	d.Destinations = e.destinations(st, route, q, now)
	return d.judge()
}

// outside says what becomes of a call to what the mesh does not know, which d.Why has said.
func (d Decision) outside(p OutboundTrafficPolicy) Decision {
	if p == AllowAny {
		return d
	}
	return d.reject(call.ReasonUnknownHost, d.Why+"; "+onlyRegistry(nil))
}

func (d Decision) reject(r call.Reason, why string) Decision {
	d.Verdict, d.Flag, d.Why = "reject", r.Flag(), why
	return d
}

// judge says what becomes of the call where all its destinations agree.
func (d Decision) judge() Decision {
	var missing, empty, direct, share int
	for _, v := range d.Destinations {
		if v.Share == 0 {
			continue
		}
		share++
		switch {
		case v.Missing != "":
			missing++
		case v.Direct:
			direct++
		case len(v.Endpoints) == 0:
			empty++
		}
	}
	switch share {
	case 0:
		return d.reject(call.ReasonNoCluster, "the route has no destination")
	case missing:
		return d.reject(call.ReasonNoCluster, call.ReasonNoCluster.Error())
	case empty:
		return d.reject(call.ReasonNoEndpoint, call.ReasonNoEndpoint.Error())
	case direct:
		d.Verdict = "passthrough"
	}
	return d
}

func (e *Engine) destinations(st *state, r *routing.Route, q *call.Request, now time.Duration) []DestinationView {
	var total float64
	for i := range r.Split {
		total += float64(r.Split[i].Weight)
	}
	views := make([]DestinationView, len(r.Split))
	for i := range r.Split {
		s := &r.Split[i]
		v := &views[i]
		v.Cluster, v.Missing, v.Effects = s.Cluster, s.Missing, s.Effects()
		switch {
		case len(r.Split) == 1:
			v.Share = 1
		case total > 0:
			v.Share = float64(s.Weight) / total
		}
		if s.Index < 0 || s.Index >= len(st.clusters) {
			continue
		}
		c := st.clusters[s.Index]
		v.Origin = st.snap.Clusters[s.Index].Origin // c may be older than the text
		v.Preset = st.snap.Clusters[s.Index].Preset
		v.Direct = c.def.Direct
		v.Balancer, v.Protocol = c.def.Policy.Algorithm.String(), protocolOf(&c.def.Policy)
		v.Endpoints = c.view(now)
		c.explain(v, q, e.identity != nil)
	}
	return views
}

// String tells the decision as text, from the host to the endpoints.
func (d Decision) String() string {
	var b strings.Builder
	d.write(&b)
	return b.String()
}
