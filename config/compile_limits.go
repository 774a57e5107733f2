package config

import (
	"slices"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

// A limitedHost is a host, or a wildcard, of an OUTBOUND RateLimit, with the limits on calls to it.
type limitedHost struct {
	host   string
	limits []int
}

// A breakingHosts is a ResiliencePolicy with a circuit breaker, and its hosts.
type breakingHosts struct {
	doc     *document
	hosts   []string
	breaker resilience.CircuitBreaker
}

// readLimits takes the rate limits and circuit breakers that are about the calling workload.
func (c *compiler) readLimits(docs []*document) {
	for _, d := range docs {
		switch s := d.spec.(type) {
		case *rateLimit:
			if c.isAbout(d, s.Spec.WorkloadSelector) {
				c.readLimit(d, &s.Spec)
			}
		case *resiliencePolicy:
			if c.isAbout(d, s.Spec.WorkloadSelector) {
				c.breakers = append(c.breakers, breakingHosts{d, resolveHosts(d, s.Spec.Hosts), s.Spec.CircuitBreaker.compile()})
			}
		}
	}
}

// isAbout reports whether a policy of the mesh's own kinds is about the workload: one of its namespace or of the root
// namespace, that selects it.
func (c *compiler) isAbout(d *document, s *workloadSelector) bool {
	return isIn(d.key.Namespace, c.workload.Namespace, c.root()) && hasLabels(c.workload.Labels, s.labels())
}

func resolveHosts(d *document, hosts []string) []string {
	list := make([]string, len(hosts))
	for i, h := range hosts {
		list[i] = resolveHost(h, d.key.Namespace)
	}
	return list
}

func (c *compiler) readLimit(d *document, s *rateLimitSpec) {
	var indices []int
	for i := range s.Limits {
		l := &s.Limits[i]
		indices = append(indices, len(c.limits))
		c.limits = append(c.limits, snapshot.RateLimit{
			Name: d.key.Namespace + "/" + d.key.Name + "/" + l.Name, RateLimit: l.compile(),
			Inbound: s.Direction == directionInbound, Matches: l.matches(), Routes: l.Routes,
			Headers: s.RateLimitHeaders, Exhausted: s.ResourceExhausted,
			Origin: d.originOf("spec", "limits", i),
		})
	}
	if s.Direction == directionOutbound {
		for _, h := range resolveHosts(d, s.Hosts) {
			c.limited = append(c.limited, limitedHost{h, indices})
		}
	}
}

func (l *limitSpec) compile() resilience.RateLimit {
	r := resilience.RateLimit{Requests: int(*l.Requests), Per: limitUnits[l.Unit], MaxKeys: int(orElse(l.MaxKeys, 0))}
	r.Burst = int(orElse(l.Burst, *l.Requests))
	for _, k := range l.By {
		switch {
		case k.Header != "":
			r.By = append(r.By, resilience.LimitKey{Kind: resilience.LimitByHeader, Header: call.NewName(k.Header)})
		case k.SourceAddress:
			r.By = append(r.By, resilience.LimitKey{Kind: resilience.LimitBySource})
		case k.Route:
			r.By = append(r.By, resilience.LimitKey{Kind: resilience.LimitByRoute})
		case k.PeerIdentity:
			r.By = append(r.By, resilience.LimitKey{Kind: resilience.LimitByPeer})
		case k.JWTClaim != "":
			r.By = append(r.By, resilience.LimitKey{Kind: resilience.LimitByClaim, Claim: strings.Split(k.JWTClaim, ".")})
		}
	}
	return r
}

func (l *limitSpec) matches() []routing.Match {
	list := make([]routing.Match, len(l.Match))
	for i, m := range l.Match {
		list[i] = match(m)
	}
	return list
}

func (b *circuitBreaker) compile() resilience.CircuitBreaker {
	r := resilience.CircuitBreaker{
		Consecutive: uint32(orElse(b.ConsecutiveFailures, 0)),
		OpenFor:     time.Duration(orElse(b.OpenFor, span(defaultBreakerOpen))),
		Probes:      uint32(orElse(b.HalfOpenRequests, defaultBreakerProbes)),
	}
	if b.FailurePercent != nil {
		r.Percent = uint32(*b.FailurePercent)
		r.Minimum = uint32(orElse(b.MinimumRequests, defaultBreakerMinimum))
		r.Window = time.Duration(orElse(b.Interval, span(defaultBreakerWindow)))
	}
	return r
}

// limitHosts gives the virtual hosts their limits.
func (c *compiler) limitHosts(hosts []*routing.VirtualHost) {
	for _, l := range c.limited {
		for _, h := range hosts {
			if !covers(l.host, h.Host) {
				continue
			}
			for _, i := range l.limits {
				if !slices.Contains(h.Limits, i) {
					h.Limits = append(h.Limits, i)
				}
			}
		}
	}
}

// breaker gives the circuit breaker of a service, nil for none.
func (c *compiler) breaker(host string) *snapshot.Breaker {
	p := c.breaking(host)
	if p == nil {
		return nil
	}
	return &snapshot.Breaker{Name: p.doc.key.Namespace + "/" + p.doc.key.Name + " for " + host, CircuitBreaker: p.breaker}
}

// breaking finds the policy whose circuit breaker a service has: the first that names it, else the first with a wildcard
// for it.
func (c *compiler) breaking(host string) *breakingHosts {
	var wild *breakingHosts
	for i := range c.breakers {
		p := &c.breakers[i]
		if slices.Contains(p.hosts, host) {
			return p
		}
		if wild == nil && slices.ContainsFunc(p.hosts, func(h string) bool { return covers(h, host) }) {
			wild = p
		}
	}
	return wild
}
