package snapshot

import (
	"slices"
	"strings"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
)

// A RateLimit is one limit on calls: those that the workload receives, or those that it makes to the virtual hosts
// that list it (routing.VirtualHost.Limits). Each process counts for itself.
type RateLimit struct {
	// Name is unique in the snapshot. What was counted stays with it: the same limit by the same name goes on
	// where the snapshot before ended.
	Name string
	resilience.RateLimit
	// Inbound limits what the workload receives.
	Inbound bool
	// Matches narrows the limit to requests that one of them takes. Default: all.
	Matches []routing.Match
	// Routes narrows it to calls by these rules (routing.Route.Name). Default: all.
	Routes []string
	// Headers adds Envoy's x-ratelimit-limit, -remaining and -reset to answers.
	Headers bool
	// Exhausted tells callers that speak gRPC RESOURCE_EXHAUSTED in place of UNAVAILABLE (Envoy,
	// rate_limited_as_resource_exhausted).
	Exhausted bool
	// Origin says where it is written, for people.
	Origin string
}

// Takes reports whether the limit is for the request, which the rule took, nil for none. An odd spelling of the path must
// not lead past it: what has no canonical one it takes whatever Matches say, and of what is received it takes too what
// Matches would take if slashes that follow each other were one.
func (r *RateLimit) Takes(q *call.Request, route *routing.Route) bool {
	if len(r.Routes) > 0 && (route == nil || !slices.Contains(r.Routes, route.Name)) {
		return false
	}
	if len(r.Matches) == 0 || q.Path == "" || r.matches(q) {
		return true
	}
	if !r.Inbound || !strings.Contains(q.Path, "//") {
		return false
	}
	merged := *q
	for strings.Contains(merged.Path, "//") {
		merged.Path = strings.ReplaceAll(merged.Path, "//", "/")
	}
	return r.matches(&merged)
}

func (r *RateLimit) matches(q *call.Request) bool {
	for i := range r.Matches {
		if r.Matches[i].Takes(q) {
			return true
		}
	}
	return false
}

// A Breaker is the circuit breaker of a service. It is comparable. Each process has its own.
type Breaker struct {
	Name string // its state stays with it, as with RateLimit
	resilience.CircuitBreaker
}

func (b *Breaker) same(o *Breaker) bool {
	if b == nil || o == nil {
		return b == o
	}
	return *b == *o
}
