package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/snapshot"
)

// A destRule is one DestinationRule with its host resolved.
type destRule struct {
	doc  *document
	spec *networking.DestinationRule
	host string
}

// A mergedRule is what several rules of one namespace for one host come to: the policy of the oldest that has
// one, and the subsets of all (istio.io, pilot/pkg/model/destination_rule.go).
type mergedRule struct {
	first   *destRule
	policy  *destRule // whose policy counts, nil where none has one
	subsets []ruleSubset
}

type ruleSubset struct {
	*networking.Subset
	doc   *document
	index int // of spec.subsets
}

type ruleKey struct {
	namespace, host string
	selected        bool // merged of the rules that select this workload
}

func (c *compiler) readDestinationRules(docs []*document) {
	for _, d := range docs {
		spec, ok := d.spec.(*networking.DestinationRule)
		if !ok {
			continue
		}
		if sel := spec.GetWorkloadSelector(); sel != nil &&
			(d.key.Namespace != c.workload.Namespace || !hasLabels(c.workload.Labels, sel.GetMatchLabels())) {
			continue
		}
		c.rules[d.key.Namespace] = append(c.rules[d.key.Namespace],
			&destRule{doc: d, spec: spec, host: resolveHost(spec.GetHost(), d.key.Namespace)})
	}
}

// rule finds the DestinationRule for a service: rules of the client's namespace first, unless that is the
// root namespace, then those exported from the service's, then those of the root namespace. The first
// step with a matching host decides, inside it the most specific host.
func (c *compiler) rule(s *service) *mergedRule {
	if found, ok := c.chosen[s]; ok {
		return found
	}
	client := c.workload.Namespace
	var m *mergedRule
	if client != c.root() {
		m = c.bestRule(client, s.host)
	}
	if m == nil && s.namespace != client {
		m = c.bestRule(s.namespace, s.host)
	}
	if m == nil && s.namespace != c.root() {
		m = c.bestRule(c.root(), s.host)
	}
	c.chosen[s] = m
	return m
}

func (c *compiler) bestRule(namespace, host string) *mergedRule {
	best, selected := "", false
	for _, r := range c.rules[namespace] {
		if !covers(r.host, host) || !c.sees(r.spec.GetExportTo(), c.mesh.GetDefaultDestinationRuleExportTo(), namespace) {
			continue
		}
		sel := r.spec.GetWorkloadSelector() != nil
		if best == "" || moreSpecific(r.host, best) || r.host == best && sel && !selected {
			best, selected = r.host, sel
		}
	}
	if best == "" {
		return nil
	}
	return c.merge(ruleKey{namespace, best, selected})
}

func (c *compiler) merge(key ruleKey) *mergedRule {
	if m := c.merged[key]; m != nil {
		return m
	}
	m := &mergedRule{}
	for _, r := range c.rules[key.namespace] {
		if r.host != key.host || (r.spec.GetWorkloadSelector() != nil) != key.selected {
			continue
		}
		if m.first == nil {
			m.first = r
		} else if !slices.Equal(r.spec.GetExportTo(), m.first.spec.GetExportTo()) {
			continue
		}
		if m.policy == nil && r.spec.GetTrafficPolicy() != nil {
			m.policy = r
		}
		for i, s := range r.spec.GetSubsets() {
			if m.subset(s.GetName()) == nil {
				m.subsets = append(m.subsets, ruleSubset{s, r.doc, i})
			}
		}
	}
	c.merged[key] = m
	return m
}

func (m *mergedRule) subset(name string) *ruleSubset {
	for i := range m.subsets {
		if m.subsets[i].GetName() == name {
			return &m.subsets[i]
		}
	}
	return nil
}

// moreSpecific orders hosts: exact before wildcard, then the longer (host.Name order).
func moreSpecific(a, b string) bool {
	if wa, wb := isWildcard(a), isWildcard(b); wa != wb {
		return wb
	}
	return len(a) > len(b)
}

// policy gives of a cluster how its endpoints are used, and the labels of its subset, or that calls go where the caller has
// pointed them: by the service's resolution NONE, or by PASSTHROUGH, which is istiod's ORIGINAL_DST cluster and has no
// endpoints to choose from either. missing says why the subset does not exist.
func (c *compiler) policy(s *service, p *servicePort, subset string) (made snapshot.Cluster, missing string) {
	policy := &made.Policy
	policy.Protocol = p.protocol
	rule := c.rule(s)
	if rule == nil && subset != "" {
		return made, fmt.Sprintf("subset %s of %s is not defined: no DestinationRule applies to the host", subset, s.host)
	}
	var blocks *networking.TrafficPolicy
	alwaysOne := rule != nil && rule.policy != nil && rule.policy.doc.annotations[alwaysOneAnnotation] == "true"
	if rule != nil && rule.policy != nil {
		blocks = override(nil, rule.policy.spec.GetTrafficPolicy(), p.number)
	}
	if subset != "" {
		sub := rule.subset(subset)
		if sub == nil {
			return made, fmt.Sprintf("subset %s of %s is not defined by %s (%s)%s",
				subset, s.host, rule.first.doc.key, rule.first.doc.place("spec", "subsets"), rule.subsetList())
		}
		made.Select = maps.Clone(sub.GetLabels())
		alwaysOne = alwaysOne || sub.doc.annotations[alwaysOneAnnotation] == "true"
		blocks = override(blocks, sub.GetTrafficPolicy(), p.number)
	}
	c.balancing(policy, blocks)
	c.connections(policy, blocks.GetConnectionPool())
	none := s.resolution == networking.ServiceEntry_NONE
	made.Direct = none || blocks.GetLoadBalancer().GetSimple() == networking.LoadBalancerSettings_PASSTHROUGH
	if !made.Direct { // below what is about choosing an endpoint: a preset sends no call elsewhere
		blocks, made.Preset = c.defaults.under(blocks)
	}
	policy.Outlier, policy.Budget = outlierPolicy(blocks.GetOutlierDetection(), alwaysOne), retryBudget(blocks)
	switch {
	case blocks.GetTls() == nil:
		policy.Automatic = c.automatic(s, p.number, subset)
	case blocks.GetTls().GetMode() == networking.ClientTLSSettings_ISTIO_MUTUAL:
		policy.TLS = c.meshTLS(s, p.number, subset)
	default:
		policy.TLS = originates(blocks.GetTls(), s)
	}
	if policy.TLS != nil && made.Direct {
		return made, c.unsecured(s, rule, none)
	}
	if pp := blocks.GetProxyProtocol(); pp != nil {
		if missing := c.unproxied(s, p, rule, made.Direct); missing != "" {
			return made, missing
		}
		policy.ProxyProtocol = uint8(pp.GetVersion()) + 1
	}
	if made.Direct && blocks.GetConnectionPool() != nil {
		c.add(rule.first.doc.finding(Warning, codeUnbuilt, false, []any{"spec", "host"},
			fmt.Sprintf("connectionPool has no effect on calls to %s: they go where the caller has pointed them, over connections of the program's own", s.host),
			"remove it, or have the service's endpoints chosen by the mesh"))
	}
	return made, ""
}

// unsecured says why a service whose calls go where the caller has pointed them cannot be called over TLS, and adds the
// finding. They go as the program makes them: without the mesh's TLS, if they were made.
func (c *compiler) unsecured(s *service, rule *mergedRule, none bool) string {
	why, hint := "tls with loadBalancer PASSTHROUGH is not built in this version yet", "write another loadBalancer"
	if none {
		why, hint = "tls with resolution NONE is not built in this version yet", "write resolution: DNS in "+s.doc.key.String()
	}
	c.add(rule.first.doc.finding(Error, codeUnbuilt, false, []any{"spec", "host"},
		fmt.Sprintf("%s: calls to %s get 503, flag NC", why, s.host), hint))
	return why + ": " + s.host
}

// unproxied says why calls to a service cannot begin with a header of the PROXY protocol, "" where they can, and adds the finding.
func (c *compiler) unproxied(s *service, p *servicePort, rule *mergedRule, direct bool) string {
	if p.protocol == snapshot.Opaque && !direct {
		return ""
	}
	why := "proxyProtocol of HTTP is not built in this version yet"
	if direct {
		why = "proxyProtocol of calls that go where the caller has pointed them is not built in this version yet"
	}
	c.add(rule.first.doc.finding(Error, codeUnbuilt, false, []any{"spec", "host"},
		fmt.Sprintf("%s: calls to port %d of %s get 503, flag NC", why, p.number, s.host), "remove it, or give the port the protocol TCP"))
	return why + ": " + s.host
}

func (m *mergedRule) subsetList() string {
	if len(m.subsets) == 0 {
		return ", which has no subsets"
	}
	names := make([]string, len(m.subsets))
	for i, s := range m.subsets {
		names[i] = s.GetName()
	}
	return ", which has " + strings.Join(names, ", ")
}

// override lays a policy over the one above it, block by block; its settings for the port, where it has
// some, replace the whole set of blocks (istio.io, pilot/pkg/networking/util MergeTrafficPolicy).
func override(base, over *networking.TrafficPolicy, port uint32) *networking.TrafficPolicy {
	if over == nil {
		return base
	}
	for _, p := range over.GetPortLevelSettings() {
		if p.GetPort().GetNumber() == port {
			return &networking.TrafficPolicy{LoadBalancer: p.GetLoadBalancer(), ConnectionPool: p.GetConnectionPool(),
				OutlierDetection: p.GetOutlierDetection(), Tls: p.GetTls()}
		}
	}
	out := &networking.TrafficPolicy{LoadBalancer: base.GetLoadBalancer(), ConnectionPool: base.GetConnectionPool(),
		OutlierDetection: base.GetOutlierDetection(), Tls: base.GetTls(), RetryBudget: base.GetRetryBudget(), ProxyProtocol: base.GetProxyProtocol()}
	if over.GetLoadBalancer() != nil {
		out.LoadBalancer = over.GetLoadBalancer()
	}
	if over.GetConnectionPool() != nil {
		out.ConnectionPool = over.GetConnectionPool()
	}
	if over.GetOutlierDetection() != nil {
		out.OutlierDetection = over.GetOutlierDetection()
	}
	if over.GetTls() != nil {
		out.Tls = over.GetTls()
	}
	if over.GetProxyProtocol() != nil {
		out.ProxyProtocol = over.GetProxyProtocol()
	}
	if over.GetRetryBudget() != nil {
		out.RetryBudget = over.GetRetryBudget()
	}
	return out
}
