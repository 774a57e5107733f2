package config

import (
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
)

// routesFor compiles a VirtualService's HTTP rules as they apply to calls of this workload to the port.
func (c *compiler) routesFor(v *virtualService, port uint32) []*routing.Route {
	if r, ok := v.routes[port]; ok {
		return r
	}
	var routes []*routing.Route
	for i := range v.rules {
		if r := c.route(&v.rules[i], port); r != nil {
			routes = append(routes, r)
		}
	}
	v.routes[port] = routes
	return routes
}

// route compiles one rule, nil where none of its matches can apply to this workload and port.
func (c *compiler) route(rule *rule, port uint32) *routing.Route {
	r := &routing.Route{Name: call.Printable(rule.GetName()), Origin: rule.origin(), Retry: c.retry}
	if own := rule.GetRetries(); own != nil {
		r.Retry = c.retryPolicy(own)
	}
	r.Retry = repeating(r.Retry, rule.doc.annotations[retryAnnotation], rule.doc.annotations[hedgeAnnotation] == "true")
	if r.Name == "" {
		r.Name = rule.doc.key.Namespace + "/" + rule.doc.key.Name + "/http[" + strconv.Itoa(rule.index) + "]"
	}
	for _, m := range rule.GetMatch() {
		if c.applies(m, port) {
			r.Matches = append(r.Matches, match(m))
		}
	}
	if len(rule.GetMatch()) > 0 && len(r.Matches) == 0 {
		return nil
	}
	for _, d := range rule.GetRoute() {
		to := c.destination(rule.doc, d.GetDestination(), port)
		to.Weight = uint32(d.GetWeight())
		r.Split = append(r.Split, to)
	}
	c.stays(r, rule.GetRetries())
	c.actions(r, rule, port)
	c.bound(r, rule.HTTPRoute)
	return r
}

// applies decides what is about the caller and the listener: it never changes for one workload and port.
func (c *compiler) applies(m *networking.HTTPMatchRequest, port uint32) bool {
	return (m.GetPort() == 0 || m.GetPort() == port) &&
		bindsMesh(m.GetGateways()) &&
		(m.GetSourceNamespace() == "" || m.GetSourceNamespace() == c.workload.Namespace) &&
		hasLabels(c.workload.Labels, m.GetSourceLabels())
}

// destination resolves one destination. Without a port it is the service's only one, or the listener's
// (Destination.port).
func (c *compiler) destination(d *document, dest *networking.Destination, listener uint32) routing.Destination {
	host := resolveHost(dest.GetHost(), d.key.Namespace)
	port := dest.GetPort().GetNumber()
	if port == 0 {
		port = listener
		if s := c.service(host); s != nil && len(s.ports) == 1 {
			port = s.ports[0].number
		}
	}
	var out routing.Destination
	out.Cluster, out.Index, out.Missing = c.cluster(host, port, dest.GetSubset())
	return out
}

// retryPolicy reads HTTPRoute.retries and the mesh's default for rules without: attempts 0 for none.
func (c *compiler) retryPolicy(r *networking.HTTPRetry) *resilience.Retry {
	if r.GetAttempts() <= 0 {
		return nil
	}
	p := c.defaults.retry
	p.Attempts = int(r.GetAttempts())
	if r.GetRetryOn() != "" {
		// validate has refused what does not parse.
		p.On, p.Codes, _ = resilience.ParseRetryOn(r.GetRetryOn())
	}
	if b := r.GetBackoff(); b != nil {
		p.Backoff = resilience.Backoff{Base: b.AsDuration()}
	}
	if prev := r.GetRetryIgnorePreviousHosts(); prev != nil {
		p.AvoidPrevious = prev.GetValue()
	}
	p.PerTry = r.GetPerTryTimeout().AsDuration()
	p.Elsewhere = r.GetRetryRemoteLocalities().GetValue()
	return &p
}

// retryAnnotation on a VirtualService lets its rules repeat requests that may have been processed: "true" all of them, as
// Istio does, "with-key" those that bring an Idempotency-Key.
const retryAnnotation = "heddle.dev/retry-non-idempotent"

// hedgeAnnotation on a VirtualService has unary RPCs that may be repeated go on beside their next try, where perTryTimeout has passed.
const hedgeAnnotation = "heddle.dev/hedge-on-per-try-timeout"

// repeatsBy are retryAnnotation's values.
var repeatsBy = map[string]resilience.Repeats{
	"": resilience.RepeatsNone, "false": resilience.RepeatsNone, "with-key": resilience.RepeatsKeyed, "true": resilience.RepeatsAll,
}

// repeating gives the policy of a rule whose document is annotated so.
func repeating(p *resilience.Retry, annotated string, hedge bool) *resilience.Retry {
	repeats := repeatsBy[annotated]
	if p == nil || repeats == p.Repeats && hedge == p.Hedge {
		return p
	}
	own := *p
	own.Repeats, own.Hedge = repeats, hedge
	return &own
}

// match compiles one HTTPMatchRequest.
func match(m *networking.HTTPMatchRequest) routing.Match {
	out := routing.Match{
		Name:      call.Printable(m.GetName()),
		Scheme:    optionalMatch(m.GetScheme()),
		Method:    optionalMatch(m.GetMethod()),
		Authority: optionalMatch(m.GetAuthority()),
	}
	if uri := m.GetUri(); uri != nil {
		out.Path = stringMatch(uri)
		switch out.Path.Kind() {
		case call.MatchExact:
			out.PathKind = routing.PathExact
		case call.MatchPrefix:
			out.PathKind = routing.PathPrefix
		case call.MatchRegex:
			out.PathKind = routing.PathRegex
		}
		if m.GetIgnoreUriCase() {
			out.Path = out.Path.IgnoringCase()
		}
	}
	for _, name := range sortedKeys(m.GetHeaders()) {
		if !ignoredHeader(name) {
			out.Headers = append(out.Headers, routing.HeaderMatch{Name: call.NewName(name), Value: fieldMatch(m.GetHeaders()[name])})
		}
	}
	for _, name := range sortedKeys(m.GetWithoutHeaders()) {
		if !ignoredHeader(name) {
			out.Headers = append(out.Headers, routing.HeaderMatch{Name: call.NewName(name), Value: fieldMatch(m.GetWithoutHeaders()[name]), Invert: true})
		}
	}
	for _, name := range sortedKeys(m.GetQueryParams()) {
		out.Query = append(out.Query, routing.QueryMatch{Name: name, Value: fieldMatch(m.GetQueryParams()[name])})
	}
	return out
}

// ignoredHeader lists the keys that HTTPMatchRequest.headers ignores: they have fields of their own.
func ignoredHeader(name string) bool {
	return slices.Contains([]string{"uri", "scheme", "method", "authority"}, strings.ToLower(name))
}

// fieldMatch is stringMatch for header and query fields, where the expression "*" stands for presence.
func fieldMatch(m *networking.StringMatch) call.StringMatch {
	if m.GetRegex() == "*" {
		return call.Present()
	}
	return stringMatch(m)
}

func stringMatch(m *networking.StringMatch) call.StringMatch {
	switch t := m.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		return call.Exact(t.Exact)
	case *networking.StringMatch_Prefix:
		return call.Prefix(t.Prefix)
	case *networking.StringMatch_Regex:
		if re, err := call.Regex(t.Regex); err == nil { // validate has refused the others
			return re
		}
	}
	return call.Present()
}

func optionalMatch(m *networking.StringMatch) *call.StringMatch {
	if m == nil {
		return nil
	}
	s := stringMatch(m)
	return &s
}
