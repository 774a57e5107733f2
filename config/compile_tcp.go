package config

import (
	"net/netip"
	"strconv"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/routing"
)

// A connRule is what a TCPRoute and a TLSRoute have in common.
type connRule struct {
	field   string // "tcp" or "tls"
	index   int
	matches []connMatch
	route   []*networking.RouteDestination
}

// A connMatch is what their matches have in common.
type connMatch interface {
	GetDestinationSubnets() []string
	GetPort() uint32
	GetSourceLabels() map[string]string
	GetGateways() []string
	GetSourceNamespace() string
}

// tcpRules and tlsRules list a VirtualService's rules for connections.
func tcpRules(s *networking.VirtualService) []connRule {
	rules := make([]connRule, len(s.GetTcp()))
	for i, r := range s.GetTcp() {
		rules[i] = connRule{field: "tcp", index: i, route: r.GetRoute()}
		for _, m := range r.GetMatch() {
			rules[i].matches = append(rules[i].matches, m)
		}
	}
	return rules
}

func tlsRules(s *networking.VirtualService) []connRule {
	rules := make([]connRule, len(s.GetTls()))
	for i, r := range s.GetTls() {
		rules[i] = connRule{field: "tls", index: i, route: r.GetRoute()}
		for _, m := range r.GetMatch() {
			rules[i].matches = append(rules[i].matches, m)
		}
	}
	return rules
}

// connRules compiles the rules for connections to a port: those of tls where it is one of TLS, else those of tcp. For what they do
// not take see routing.VirtualHost.Rest.
func (c *compiler) connRules(h *routing.VirtualHost, v *virtualService, port uint32) {
	if v == nil || h.HTTP || h.UDP {
		return
	}
	rules := tcpRules(v.spec)
	if h.TLS {
		rules = tlsRules(v.spec)
	}
	for _, r := range rules {
		if to := c.connRule(v, &r, port); to != nil {
			h.Conns = append(h.Conns, to)
		}
	}
}

// connRule compiles one rule, nil where none of its matches can apply to this workload and port.
func (c *compiler) connRule(v *virtualService, rule *connRule, port uint32) *routing.ConnRule {
	out := &routing.ConnRule{Route: &routing.Route{Origin: v.doc.originOf("spec", rule.field, rule.index),
		Name: v.doc.key.Namespace + "/" + v.doc.key.Name + "/" + rule.field + "[" + strconv.Itoa(rule.index) + "]"}}
	for _, m := range rule.matches {
		if m.GetPort() != 0 && m.GetPort() != port || !bindsMesh(m.GetGateways()) ||
			m.GetSourceNamespace() != "" && m.GetSourceNamespace() != c.workload.Namespace ||
			!hasLabels(c.workload.Labels, m.GetSourceLabels()) {
			continue
		}
		match := routing.ConnMatch{}
		if tls, ok := m.(*networking.TLSMatchAttributes); ok {
			for _, name := range tls.GetSniHosts() {
				match.Names = append(match.Names, canonicalName(name))
			}
		}
		for _, s := range m.GetDestinationSubnets() {
			if p, ok := subnet(s); ok { // validate has refused the others
				match.To = append(match.To, p)
			}
		}
		out.Matches = append(out.Matches, match)
	}
	if len(rule.matches) > 0 && len(out.Matches) == 0 {
		return nil
	}
	for _, d := range rule.route {
		to := c.destination(v.doc, d.GetDestination(), port)
		to.Weight = uint32(d.GetWeight())
		out.Route.Split = append(out.Route.Split, to)
	}
	c.stays(out.Route, nil)
	return out
}

// subnet reads an address or a CIDR.
func subnet(s string) (netip.Prefix, bool) {
	if ip, err := netip.ParseAddr(s); err == nil {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), ip.Zone() == ""
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err == nil
}
