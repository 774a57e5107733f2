package conformance

import (
	"slices"
	"strings"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// lookupMutations are faults in finding the host and the rules for it.
func lookupMutations() []Mutation {
	return []Mutation{
		{Name: "look-up ignores wildcards", Groups: []string{"hosts"}, edit: func(d *draft) {
			d.hosts = slices.DeleteFunc(d.hosts, func(v *routing.VirtualHost) bool { return strings.HasPrefix(v.Host, "*") })
		}},
		{Name: "look-up ignores exact hosts where a wildcard takes them", Groups: []string{"hosts"}, edit: func(d *draft) {
			d.hosts = slices.DeleteFunc(d.hosts, func(v *routing.VirtualHost) bool {
				return strings.HasSuffix(v.Host, ".example.com") && !strings.HasPrefix(v.Host, "*")
			})
		}},
		{Name: "unknown hosts known", Groups: []string{"hosts", "visibility", "kubernetes", "sidecar"}, edit: func(d *draft) {
			for _, port := range []uint16{80, 81, 1234, 8080, 9080} {
				d.hosts = append(d.hosts, &routing.VirtualHost{Host: "*", Port: port, HTTP: true})
			}
		}},
		{Name: "wildcards take too much", Groups: []string{"hosts"}, edit: func(d *draft) {
			d.eachHost(func(v *routing.VirtualHost) {
				if base, ok := strings.CutPrefix(v.Host, "*."); ok {
					v.Also = append(v.Also, base, "*"+base)
				}
			})
		}},
		{Name: "other names forgotten", Groups: []string{"hosts", "kubernetes"}, edit: func(d *draft) {
			d.eachHost(func(v *routing.VirtualHost) { v.Also = nil })
		}},
		{Name: "no host known", Groups: []string{"hosts", "visibility", "endpoints"}, edit: func(d *draft) { d.hosts = nil }},
		{Name: "hosts have one another's rules", Groups: []string{"hosts", "port", "destination"}, edit: func(d *draft) {
			if len(d.hosts) == 0 {
				return
			}
			first := d.hosts[0].Routes
			for i, v := range d.hosts[:len(d.hosts)-1] {
				v.Routes = d.hosts[i+1].Routes
			}
			d.hosts[len(d.hosts)-1].Routes = first
		}},
		{Name: "rules forgotten", Groups: []string{"visibility", "workload", "destination"}, edit: func(d *draft) {
			d.eachHost(func(v *routing.VirtualHost) {
				if v.Default != nil {
					v.Routes = []*routing.Route{v.Default}
				} else {
					v.Routes = nil
				}
			})
		}},
		{Name: "opaque ports have rules", Groups: []string{"protocol", "kubernetes"}, edit: func(d *draft) {
			d.eachHost(func(v *routing.VirtualHost) { v.HTTP = true })
		}},
		{Name: "every port is opaque", Groups: []string{"protocol", "order", "kubernetes"}, edit: func(d *draft) {
			d.eachHost(func(v *routing.VirtualHost) {
				v.HTTP = false
				if v.Default == nil && len(v.Routes) > 0 {
					v.Default = v.Routes[len(v.Routes)-1]
				}
			})
		}},
	}
}

// matchMutations are faults in the conditions of rules and in their order.
func matchMutations() []Mutation {
	return []Mutation{
		{Name: "rules reversed", Groups: []string{"order", "workload", "uri", "headers", "method", "scheme", "authority", "query", "port"},
			Except: map[string]string{"grpc/query": noQuery}, edit: func(d *draft) {
				d.eachHost(func(v *routing.VirtualHost) { slices.Reverse(v.Routes) })
			}},
		{Name: "first entry of a list only", Groups: []string{"order"}, edit: func(d *draft) {
			d.eachRoute(func(r *routing.Route) { r.Matches = r.Matches[:min(len(r.Matches), 1)] })
		}},
		{Name: "fields besides the path not read", Groups: []string{"order"}, edit: func(d *draft) {
			d.eachMatch(func(m *routing.Match) { m.Method, m.Headers = nil, nil })
		}},
		{Name: "last rule takes what no rule matches", Groups: []string{"order"}, edit: func(d *draft) {
			d.eachHost(func(v *routing.VirtualHost) { v.Routes[len(v.Routes)-1].Matches = nil })
		}},
		matches("path not read", "uri", func(m *routing.Match) { m.PathKind = routing.PathAny }),
		matches("prefix becomes exact", "uri", func(m *routing.Match) {
			if m.PathKind == routing.PathPrefix {
				m.PathKind, m.Path = routing.PathExact, respelled(&m.Path, call.Exact)
			}
		}),
		matches("prefix becomes segments", "uri", func(m *routing.Match) {
			if m.PathKind == routing.PathPrefix {
				m.PathKind = routing.PathSegment
			}
		}),
		matches("exact becomes prefix", "uri", func(m *routing.Match) {
			if m.PathKind == routing.PathExact {
				m.PathKind, m.Path = routing.PathPrefix, respelled(&m.Path, call.Prefix)
			}
		}),
		matches("regex searches", "uri", func(m *routing.Match) {
			if m.PathKind == routing.PathRegex {
				m.Path = respelled(&m.Path, func(s string) call.StringMatch {
					searching, err := call.Regex("(?:.*)(?:" + s + ")(?:.*)")
					if err != nil {
						return call.Present()
					}
					return searching
				})
			}
		}),
		matches("ignoreUriCase forgotten", "uri", func(m *routing.Match) {
			switch m.PathKind {
			case routing.PathExact:
				m.Path = call.Exact(m.Path.Text())
			case routing.PathPrefix:
				m.Path = call.Prefix(m.Path.Text())
			}
		}),
		matches("every path ignores case", "uri", func(m *routing.Match) { m.Path = m.Path.IgnoringCase() }),
		matches("headers not read", "headers", func(m *routing.Match) { m.Headers = nil }),
		matches("last header only", "headers", func(m *routing.Match) { m.Headers = m.Headers[max(0, len(m.Headers)-1):] }),
		matches("withoutHeaders not inverted", "headers", func(m *routing.Match) {
			for i := range m.Headers {
				m.Headers[i].Invert = false
			}
		}),
		matches("every header condition is presence", "headers", func(m *routing.Match) {
			for i := range m.Headers {
				m.Headers[i].Value = call.Present()
			}
		}),
		matches("method not read", "method", func(m *routing.Match) { m.Method = nil }),
		matches("scheme not read", "scheme", func(m *routing.Match) { m.Scheme = nil }),
		matches("authority not read", "authority", func(m *routing.Match) { m.Authority = nil }),
		matches("query not read", "query", func(m *routing.Match) { m.Query = nil }),
		{Name: "first query parameter only", Groups: []string{"query"}, Except: map[string]string{"grpc": noQuery}, edit: func(d *draft) {
			d.eachMatch(func(m *routing.Match) { m.Query = m.Query[:min(1, len(m.Query))] })
		}},
	}
}

// Why gRPC cannot notice some faults.
const (
	noQuery     = "an RPC has no query: no rule about one takes it"
	alwaysHTTP2 = "gRPC is HTTP/2, whatever the port's protocol"
)

// targetMutations are faults in what a rule leads to.
func targetMutations() []Mutation {
	return []Mutation{
		{Name: "weights swapped", Groups: []string{"weights"}, edit: func(d *draft) {
			d.eachRoute(func(r *routing.Route) {
				for i, j := 0, len(r.Split)-1; i < j; i, j = i+1, j-1 {
					r.Split[i].Weight, r.Split[j].Weight = r.Split[j].Weight, r.Split[i].Weight
				}
			})
		}},
		{Name: "weights even", Groups: []string{"weights"}, edit: func(d *draft) {
			d.eachDestination(func(to *routing.Destination) { to.Weight = 1 })
		}},
		{Name: "first destination gets all", Groups: []string{"weights"}, edit: func(d *draft) {
			d.eachRoute(func(r *routing.Route) { r.Split = r.Split[:min(1, len(r.Split))] })
		}},
		{Name: "subset selects everything", Groups: []string{"subsets", "destinationrule", "uri", "headers", "weights", "endpoints", "kubernetes"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) { c.Select = nil })
		}},
		{Name: "subset selects nobody", Groups: []string{"subsets", "destinationrule"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) {
				if c.Subset != "" {
					c.Select = map[string]string{"no": "endpoint"}
				}
			})
		}},
		{Name: "missing cluster falls back to another", Groups: []string{"subsets", "destination", "destinationrule", "visibility", "weights"}, edit: func(d *draft) {
			d.eachDestination(func(to *routing.Destination) {
				if to.Index < 0 && len(d.clusters) > 0 {
					to.Index, to.Cluster = 0, d.clusters[0].Name
				}
			})
		}},
		{Name: "wrong cluster", Groups: []string{"destination", "subsets", "visibility", "workload"}, edit: func(d *draft) {
			d.eachDestination(func(to *routing.Destination) {
				if to.Index >= 0 {
					to.Index = (to.Index + 1) % len(d.clusters)
				}
			})
		}},
		{Name: "endpoints of another port", Groups: []string{"endpoints", "kubernetes"}, edit: func(d *draft) {
			sets := slices.Clone(d.clusters)
			for i := range d.clusters {
				d.clusters[i].Set = sets[(i+1)%len(sets)].Set
			}
		}},
		{Name: "endpoints and the host itself confused", Groups: []string{"endpoints"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) { c.Direct = !c.Direct })
		}},
		balancer("balancer always random", balance.Random, "loadbalancer", "destinationrule", "protocol"),
		balancer("balancer always takes turns", balance.RoundRobin, "loadbalancer", "destinationrule"),
		{Name: "HTTP/2 becomes HTTP/1.1", Groups: []string{"protocol", "grpc", "kubernetes"}, Except: map[string]string{"grpc": alwaysHTTP2}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) {
				if c.Policy.Protocol == snapshot.HTTP2 {
					c.Policy.Protocol = snapshot.HTTP1
				}
			})
		}},
		{Name: "every port speaks HTTP/2", Groups: []string{"protocol", "kubernetes"}, Except: map[string]string{"grpc": alwaysHTTP2}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) { c.Policy.Protocol = snapshot.HTTP2 })
		}},
	}
}

// retryMutations are faults in what is repeated.
func retryMutations() []Mutation {
	return []Mutation{
		{Name: "no retry", Groups: []string{"retries", "grpc"}, edit: func(d *draft) {
			d.eachRoute(func(r *routing.Route) { r.Retry = nil })
		}},
		{Name: "retries where the rule says none", Groups: []string{"retries"}, edit: func(d *draft) {
			d.eachRoute(func(r *routing.Route) {
				if r.Retry == nil || r.Retry.Attempts == 0 {
					p := resilience.DefaultRetry()
					r.Retry = &p
				}
			})
		}},
		retries("one retry fewer", func(p *resilience.Retry) { p.Attempts-- }),
		retries("one retry more", func(p *resilience.Retry) { p.Attempts++ }),
		retries("everything repeated", func(p *resilience.Retry) {
			p.On = ^resilience.Condition(0)
			p.Codes = []int{400, 404, 409, 429, 500, 502, 503, 504}
		}),
		retries("connect failure only", func(p *resilience.Retry) { p.On = resilience.OnConnectFailure }),
		{Name: "endpoints that failed not avoided", Groups: []string{"retries", "grpc"}, Except: map[string]string{
			"grpc/retries": "a channel leaves out endpoints that it could not connect to, whatever the rule says",
		}, edit: func(d *draft) {
			d.eachRetry(func(p *resilience.Retry) { p.AvoidPrevious = false })
		}},
		{Name: "status codes forgotten", Groups: []string{"retries"}, Except: map[string]string{
			"grpc": "an RPC is not answered by an HTTP status",
		}, edit: func(d *draft) {
			d.eachRetry(func(p *resilience.Retry) { p.Codes = nil })
		}},
	}
}
