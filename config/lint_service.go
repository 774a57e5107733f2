package config

import (
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
	p = p.at("outboundTrafficPolicy")
	if s.GetOutboundTrafficPolicy() != nil && !l.written(p.at("mode")) {
		l.warn(p, codeRegistryOnly, "outboundTrafficPolicy without a mode is REGISTRY_ONLY: calls to hosts that no document names are rejected",
			"write mode: REGISTRY_ONLY, or ALLOW_ANY")
	}
}
