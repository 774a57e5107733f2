package config

import (
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// originOf says where a rule stands: kind namespace/name http[i] (file:line:column).
func (d *document) originOf(path ...any) string {
	return d.key.String() + " " + d.fieldOrigin(path...)
}

// fieldOrigin is originOf for a document that is named already.
func (d *document) fieldOrigin(path ...any) string {
	line, column := d.at(path...)
	return strings.TrimPrefix(pathString(path), "spec.") +
		" (" + d.origin.File + ":" + strconv.Itoa(line) + ":" + strconv.Itoa(column) + ")"
}

// hostOrigin says where a port of a host is declared.
func (s *service) hostOrigin(p *servicePort) string {
	declared := p.doc.originOf("spec", "ports", p.index)
	if s.alias != nil {
		return s.doc.originOf("spec", "externalName") + ", another name of " + declared
	}
	return declared
}

// clusterOrigin says where the subset and the policy of a cluster are written, "" where no rule has a say. It names
// what override takes.
func (c *compiler) clusterOrigin(s *service, port uint32, subset string) string {
	rule := c.rule(s)
	if rule == nil {
		return ""
	}
	origin := ""
	if sub := rule.subset(subset); sub != nil {
		path := []any{"spec", "subsets", sub.index}
		if i := portSettings(sub.GetTrafficPolicy(), port); i >= 0 {
			return sub.doc.originOf(append(path, "trafficPolicy", "portLevelSettings", i)...)
		}
		origin = sub.doc.originOf(path...)
		if rule.policy != nil && sub.doc == rule.policy.doc {
			return origin + ", " + sub.doc.fieldOrigin(rule.policy.policyPath(port)...)
		}
	}
	if rule.policy == nil {
		return origin
	}
	if origin != "" {
		origin += ", "
	}
	return origin + rule.policy.doc.originOf(rule.policy.policyPath(port)...)
}

// policyPath leads to the rule's policy for a port: its settings for it where it has some, which replace the rest.
func (r *destRule) policyPath(port uint32) []any {
	path := []any{"spec", "trafficPolicy"}
	if i := portSettings(r.spec.GetTrafficPolicy(), port); i >= 0 {
		path = append(path, "portLevelSettings", i)
	}
	return path
}

func portSettings(t *networking.TrafficPolicy, port uint32) int {
	return slices.IndexFunc(t.GetPortLevelSettings(), func(p *networking.TrafficPolicy_PortTrafficPolicy) bool {
		return p.GetPort().GetNumber() == port
	})
}
