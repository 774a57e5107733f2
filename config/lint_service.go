package config

import (
	"fmt"
	"slices"

	networking "istio.io/api/networking/v1alpha3"
)

func (l *linter) serviceEntry(p fieldPath, s *networking.ServiceEntry) {
	none := s.GetResolution() == networking.ServiceEntry_NONE
	switch {
	case none && s.GetWorkloadSelector() != nil:
		l.warn(p.at("workloadSelector"), codeNoResolution, "without effect: resolution NONE, the default, has no endpoints", "write resolution: STATIC")
	case none && !l.written(p.at("resolution")) && !slices.ContainsFunc(s.GetHosts(), isWildcard):
		l.inform(p.at("hosts"), codeNoResolution, "resolution is missing, which is NONE: calls go to the address that the caller finds, and nothing is balanced",
			"write resolution: DNS, or NONE where that is meant")
	}
	if s.GetWorkloadSelector() != nil && !l.written(p.at("location")) {
		l.inform(p.at("workloadSelector"), codeNoLocation, "location is missing, which is MESH_EXTERNAL: calls to these workloads have no mTLS",
			"write location: MESH_INTERNAL where they are of the mesh, or MESH_EXTERNAL")
	}
	if len(s.GetAddresses()) > 0 || !none && !slices.ContainsFunc(s.GetHosts(), isWildcard) {
		return
	}
	for i, port := range s.GetPorts() {
		if isIn(port.GetProtocol(), "TCP") {
			l.inform(p.at("ports", i), codeNeedsAddresses, "captured connections are told apart by address, and the service has none: it takes its port on every address",
				"write addresses, or protocol: TLS with a host that is its SNI")
		}
	}
}

// sidecar: the zero value of the mode is the strict one.
func (l *linter) sidecar(p fieldPath, s *networking.Sidecar) {
	if l.d == l.scope.doc {
		l.emptyListeners(p.at("egress"))
	}
	p = p.at("outboundTrafficPolicy")
	if s.GetOutboundTrafficPolicy() != nil && !l.written(p.at("mode")) {
		l.warn(p, codeRegistryOnly, "outboundTrafficPolicy without a mode is REGISTRY_ONLY: calls to hosts that no document names are rejected",
			"write mode: REGISTRY_ONLY, or ALLOW_ANY")
	}
}

// emptyListeners: the port of a listener for calls is the service's, and bind says where to listen. A service that is there, with other ports, is
// told of; one that no document has may be somewhere else.
func (l *linter) emptyListeners(p fieldPath) {
	for i, e := range l.scope.listeners {
		var other *service
		if e.port == 0 || len(e.claims) > 0 || slices.ContainsFunc(l.services, func(s *service) bool {
			if s.hidden || !e.admits(s.namespace, s.host) {
				return false
			}
			other = s
			return s.port(e.port) != nil
		}) || other == nil {
			continue
		}
		l.inform(p.at(i, "port", "number"), codeEmptyListener, fmt.Sprintf("none of the listener's hosts has the port %d: the ports of %s are %s", e.port, other.host, other.portList()),
			"write a port of the service; bind: unix:///path has the hosts on all their ports")
	}
}
