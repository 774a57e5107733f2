package config

import (
	"fmt"
	"net/netip"
)

func (v *validation) kubeSlice(s *kubeSlice) {
	if v.d.labels[serviceNameLabel] == "" {
		v.doubt(fieldPath{"metadata", "labels"}, "the endpoints belong to no Service", "write its name in the label "+serviceNameLabel)
	}
	at := fieldPath{"addressType"}
	if s.AddressType == "" {
		v.refuse(at, "addressType is missing", oneOf("", addressTypes))
	}
	v.enum(at, s.AddressType, addressTypes...)
	byName := make(map[string]int)
	for i := range s.Ports {
		port, at := &s.Ports[i], fieldPath{"ports", i}
		if first, again := byName[port.Name]; again {
			v.refuse(at.at("name"), fmt.Sprintf("%s repeats ports[%d]", quoted(port.Name), first), "names of ports are unique")
		} else {
			byName[port.Name] = i
		}
		if port.Name != "" && (len(port.Name) > longestLabel || !dnsLabel.MatchString(port.Name)) {
			v.refuseValue(at.at("name"), "is no name of a port", "write at most 63 lower case letters, digits and '-'")
		}
		v.enum(at.at("protocol"), port.Protocol, "TCP", "UDP", "SCTP")
		if port.Port != nil {
			v.port(at.at("port"), uint32(*port.Port))
		}
	}
	if len(s.Ports) == 0 && len(s.Endpoints) > 0 {
		v.doubt(fieldPath{"endpoints"}, "the EndpointSlice has no ports: its endpoints are not used", "write ports, with the names of the Service's")
	}
	for i := range s.Endpoints {
		v.kubeEndpoint(fieldPath{"endpoints", i}, s.AddressType, &s.Endpoints[i])
	}
}

var addressTypes = []string{"IPv4", "IPv6", "FQDN"}

func (v *validation) kubeEndpoint(p fieldPath, addressType string, e *kubeEndpoint) {
	if len(e.Addresses) == 0 {
		v.refuse(p.at("addresses"), "addresses is missing", "every endpoint has one")
	}
	for i, a := range e.Addresses {
		v.endpointIP(p.at("addresses", i), addressType, a)
	}
	if c := e.Conditions; c.Terminating != nil && *c.Terminating && c.Ready == nil {
		v.doubt(p.at("conditions"), "an endpoint that does not say whether it is ready counts as ready, and this one is terminating",
			"write ready: false")
	}
}

// endpointIP checks an address of the type. Loopback, which the API server refuses, is where a workload of the
// same machine is.
func (v *validation) endpointIP(p fieldPath, addressType, address string) {
	if addressType == "FQDN" {
		if problem, hint := checkHost(address); problem != "" {
			v.refuseValue(p, problem, hint)
		} else if isWildcard(address) {
			v.refuseValue(p, "is no address", "write one name")
		}
		return
	}
	a, err := netip.ParseAddr(address)
	switch {
	case err != nil || a.Zone() != "" || a.Is4In6():
		v.refuseValue(p, "is no IP address", "write one of "+addressType)
	case a.IsUnspecified() || a.IsMulticast():
		v.refuseValue(p, "is no address of an endpoint", "write the one that it listens on")
	case addressType == "IPv4" && !a.Is4(), addressType == "IPv6" && !a.Is6():
		v.refuseValue(p, "is not of the slice's addressType, "+addressType, "an EndpointSlice has addresses of one type")
	}
}

// kubePod checks what becomes an endpoint.
func (v *validation) kubePod(p *kubePod) {
	if ip := p.Status.PodIP; ip != "" && !isIP(ip) {
		v.refuseValue(fieldPath{"status", "podIP"}, "is no IP address", "write one, or remove it where there is none yet")
	}
}
