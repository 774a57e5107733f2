package config

import (
	"fmt"
	"slices"

	networking "istio.io/api/networking/v1alpha3"
)

// connRoutes checks the rules for connections: tls, then tcp.
func (v *validation) connRoutes(p fieldPath, s *networking.VirtualService) {
	hosts := make([]string, len(s.GetHosts()))
	for i, h := range s.GetHosts() {
		hosts[i] = canonicalName(h)
	}
	for i, r := range s.GetTls() {
		at := p.at("tls", i)
		if len(r.GetMatch()) == 0 {
			v.refuse(at.at("match"), "match is missing", "name at least one host in sniHosts")
		}
		for j, m := range r.GetMatch() {
			v.connMatch(at.at("match", j), m)
			v.sniHosts(at.at("match", j, "sniHosts"), m.GetSniHosts(), hosts)
		}
		v.connDestinations(at.at("route"), r.GetRoute())
	}
	caught := -1
	for i, r := range s.GetTcp() {
		at := p.at("tcp", i)
		if caught >= 0 {
			v.warn(at, codeUnreachable, fmt.Sprintf("never reached: tcp[%d] (%s) takes every connection", caught, v.d.place(p.at("tcp", caught)...)),
				"move it before that rule, or remove it")
		} else if len(r.GetMatch()) == 0 {
			caught = i
		}
		for j, m := range r.GetMatch() {
			v.connMatch(at.at("match", j), m)
			if m.GetSourceSubnet() != "" {
				v.doubt(at.at("match", j, "sourceSubnet"), "sourceSubnet is ignored, by Istio too", "remove it")
			}
		}
		v.connDestinations(at.at("route"), r.GetRoute())
	}
}

func (v *validation) connMatch(p fieldPath, m connMatch) {
	for i, s := range m.GetDestinationSubnets() {
		if _, ok := subnet(s); !ok {
			v.refuseValue(p.at("destinationSubnets", i), "is no address and no CIDR", "write 10.0.0.0/8 or 10.1.2.3")
		}
	}
	if m.GetPort() != 0 {
		v.port(p.at("port"), m.GetPort())
	}
	v.labels(p.at("sourceLabels"), m.GetSourceLabels())
	if m.GetSourceNamespace() != "" {
		v.namespace(p.at("sourceNamespace"), m.GetSourceNamespace())
	}
	v.gateways(p.at("gateways"), m.GetGateways())
}

// sniHosts have to be among the VirtualService's hosts, or under one of them.
func (v *validation) sniHosts(p fieldPath, names, hosts []string) {
	if len(names) == 0 {
		v.refuse(p, "sniHosts is missing", "name at least one host")
	}
	for i, name := range names {
		host := canonicalName(name)
		if host != "*" {
			v.host(p.at(i), name)
		}
		if !slices.ContainsFunc(hosts, func(h string) bool { return h == host || h == "*" || covers(h, host) }) {
			v.refuseValue(p.at(i), "is not among the hosts of the VirtualService", "add it to spec.hosts")
		}
	}
}

func (v *validation) connDestinations(p fieldPath, list []*networking.RouteDestination) {
	if len(list) == 0 {
		v.refuse(p, "route is missing", "say where its connections go")
	}
	weights := make([]int32, len(list))
	for i, d := range list {
		v.routed(p.at(i, "destination"), d.GetDestination())
		weights[i] = d.GetWeight()
	}
	v.weights(p, weights)
}
