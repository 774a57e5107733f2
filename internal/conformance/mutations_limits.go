package conformance

import (
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

// limitMutations are faults in what is limited, how far and for whom.
func limitMutations() []Mutation {
	limits := func(name string, edit func(*snapshot.RateLimit)) Mutation {
		return Mutation{Name: name, Groups: []string{"limits"}, edit: func(d *draft) {
			for i := range d.limits {
				edit(&d.limits[i])
			}
		}}
	}
	breakers := func(name string, edit func(*resilience.CircuitBreaker)) Mutation {
		return Mutation{Name: name, Groups: []string{"breaker"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) {
				if c.Breaker != nil {
					b := *c.Breaker
					edit(&b.CircuitBreaker)
					c.Breaker = &b
				}
			})
		}}
	}
	exhausted := limits("RESOURCE_EXHAUSTED not asked for", func(l *snapshot.RateLimit) { l.Exhausted = false })
	exhausted.Except = map[string]string{HTTP{}.Name(): "an error of net/http has no grpc-status"}
	return []Mutation{
		{Name: "limits not read", Groups: []string{"limits"}, edit: func(d *draft) {
			d.eachHost(func(v *routing.VirtualHost) { v.Limits = nil })
		}},
		{Name: "limits are on every host", Groups: []string{"limits"}, edit: func(d *draft) {
			d.eachHost(func(v *routing.VirtualHost) {
				v.Limits = nil
				for i := range d.limits {
					v.Limits = append(v.Limits, i)
				}
			})
		}},
		{Name: "only the first limit", Groups: []string{"limits"}, edit: func(d *draft) {
			d.eachHost(func(v *routing.VirtualHost) { v.Limits = v.Limits[:min(1, len(v.Limits))] })
		}},
		limits("one more is let through", func(l *snapshot.RateLimit) { l.Burst++ }),
		limits("burst not read", func(l *snapshot.RateLimit) { l.Burst = l.Requests }),
		limits("match of a limit not read", func(l *snapshot.RateLimit) { l.Matches = nil }),
		limits("only the first match of a limit", func(l *snapshot.RateLimit) { l.Matches = l.Matches[:min(1, len(l.Matches))] }),
		limits("routes of a limit not read", func(l *snapshot.RateLimit) { l.Routes = nil }),
		exhausted,
		breakers("a breaker opens late", func(b *resilience.CircuitBreaker) { b.Consecutive, b.Minimum = 2*b.Consecutive, 2*b.Minimum }),
		breakers("a breaker opens at once", func(b *resilience.CircuitBreaker) { b.Consecutive, b.Percent = 1, 0 }),
		{Name: "circuit breakers not read", Groups: []string{"breaker"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) { c.Breaker = nil })
		}},
		{Name: "each cluster has a breaker of its own", Groups: []string{"breaker"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) {
				if c.Breaker != nil {
					b := *c.Breaker
					b.Name = c.Name
					c.Breaker = &b
				}
			})
		}},
	}
}
