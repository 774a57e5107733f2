package config

import (
	"fmt"
	"slices"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/routing"
)

// checkLimits finds limits and circuit breakers that are for nothing. verified says that tokens are looked at.
func (c *compiler) checkLimits(docs []*document, hosts []*routing.VirtualHost, verified bool) {
	var b *backing
	for _, d := range docs {
		var sel *workloadSelector
		switch s := d.spec.(type) {
		case *rateLimit:
			sel = s.Spec.WorkloadSelector
			if s.Spec.Direction == directionOutbound {
				c.checkPolicyHosts(d, s.Spec.Hosts)
				c.checkRoutes(d, &s.Spec, hosts)
			} else if !verified && c.isAbout(d, sel) {
				c.checkClaims(d, &s.Spec)
			}
		case *resiliencePolicy:
			sel = s.Spec.WorkloadSelector
			c.checkPolicyHosts(d, s.Spec.Hosts)
			if c.isAbout(d, sel) {
				c.checkBreaker(d, s.Spec.Hosts)
			}
		default:
			continue
		}
		if len(sel.labels()) == 0 || c.isAbout(d, sel) {
			continue
		}
		if b == nil {
			b = newBacking(docs)
		}
		c.checkSelector(d, sel, b)
	}
}

// checkClaims finds limits by claims of tokens that nobody looks at.
func (c *compiler) checkClaims(d *document, s *rateLimitSpec) {
	for i := range s.Limits {
		for k, key := range s.Limits[i].By {
			if key.JWTClaim != "" {
				c.add(d.finding(Warning, codeLimits, false, []any{"spec", "limits", i, "by", k, "jwtClaim"},
					"no RequestAuthentication verifies tokens for the workload: all requests are counted as one's",
					"write one with the issuer of the tokens"))
			}
		}
	}
}

// checkSelector finds a policy that selects none of the workloads that are known.
func (c *compiler) checkSelector(d *document, s *workloadSelector, b *backing) {
	known := b.workloads[d.key.Namespace]
	if d.key.Namespace == c.root() || len(known) == 0 ||
		slices.ContainsFunc(known, func(w workload) bool { return hasLabels(w.entry.GetLabels(), s.Labels) }) {
		return
	}
	c.add(d.finding(Warning, codeLimits, false, []any{"spec", "workloadSelector"},
		"selects none of the workloads of namespace "+d.key.Namespace+" in these documents: the "+d.key.Kind+" is for nobody",
		"compare with the labels of its Pods and WorkloadEntries"))
}

// checkPolicyHosts finds hosts that nothing declares.
func (c *compiler) checkPolicyHosts(d *document, hosts []string) {
	for i, h := range resolveHosts(d, hosts) {
		if c.unscoped[h] || isWildcard(h) || c.exists(hostPattern{"*", h}) {
			continue
		}
		c.add(d.finding(Error, "IST0101", false, []any{"spec", "hosts", i},
			fmt.Sprintf("host %s (%s) is not in the registry: the %s is for no call", quoted(hosts[i]), h, d.key.Kind), c.hostHint(hosts[i], h)))
	}
}

// checkRoutes finds names of routes that no rule for the hosts has.
func (c *compiler) checkRoutes(d *document, s *rateLimitSpec, hosts []*routing.VirtualHost) {
	names := make(map[string]bool)
	found := false
	for _, pattern := range resolveHosts(d, s.Hosts) {
		for _, h := range hosts {
			if covers(pattern, h.Host) {
				found = true
				for _, r := range h.Routes {
					names[r.Name] = true
				}
			}
		}
	}
	if !found {
		return // checkPolicyHosts says so, or the workload does not see them
	}
	for i := range s.Limits {
		for j, name := range s.Limits[i].Routes {
			if !names[name] {
				c.add(d.finding(Error, "IST0101", false, []any{"spec", "limits", i, "routes", j},
					fmt.Sprintf("no rule for these hosts has the name %s: it limits no call", quoted(name)), oneOf(name, sortedKeys(names))))
			}
		}
	}
}

// checkBreaker finds circuit breakers of services that another policy has, or that have no endpoints to count.
func (c *compiler) checkBreaker(d *document, hosts []string) {
	for i, h := range resolveHosts(d, hosts) {
		if isWildcard(h) {
			continue
		}
		at := []any{"spec", "hosts", i}
		if p := c.breaking(h); p != nil && p.doc != d {
			c.add(d.finding(Warning, codeLimits, false, at,
				fmt.Sprintf("not used: the circuit breaker of %s is that of %s (%s), which is in effect, %s",
					h, p.doc.key, p.doc.place("spec", "hosts"), before(p.doc, d)), "merge the two, or give them different hosts"))
			continue
		}
		if s := c.service(h); s != nil && s.resolution == networking.ServiceEntry_NONE {
			c.add(d.finding(Warning, codeLimits, false, at,
				h+" has resolution NONE: calls go to the host itself, past the circuit breaker", "give the ServiceEntry resolution DNS"))
		}
	}
}
