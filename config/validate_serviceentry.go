package config

import (
	"fmt"
	"net/netip"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// mostHosts is how many hosts one ServiceEntry may have.
const mostHosts = 256

// mostSuggested is how many names are searched for one that was meant.
const mostSuggested = 100

func (v *validation) serviceEntry(p fieldPath, s *networking.ServiceEntry) {
	v.entryHosts(p, s)
	v.addresses(p.at("addresses"), s)
	declared := v.servicePorts(p.at("ports"), s.GetPorts())
	if len(s.GetPorts()) == 0 {
		v.doubt(p.at("ports"), "the service has no ports: nothing can call it", "declare its ports")
	}
	v.resolution(p, s)
	for i, e := range s.GetEndpoints() {
		v.entryEndpoint(p.at("endpoints", i), s, e, declared)
	}
	if s.GetWorkloadSelector() != nil {
		if len(s.GetEndpoints()) > 0 {
			v.refuse(p.at("workloadSelector"), "endpoints and workloadSelector exclude each other", "keep one of them")
		}
		v.labels(p.at("workloadSelector", "labels"), s.GetWorkloadSelector().GetLabels())
	}
	v.checkExportTo(p.at("exportTo"), s.GetExportTo())
	v.certificateNames(p.at("subjectAltNames"), s.GetSubjectAltNames())
}

func (v *validation) entryHosts(p fieldPath, s *networking.ServiceEntry) {
	hosts := s.GetHosts()
	p = p.at("hosts")
	switch {
	case len(hosts) == 0:
		v.refuse(p, "hosts is missing", "name at least one host")
	case len(hosts) > mostHosts:
		v.refuse(p, fmt.Sprintf("there are %d hosts", len(hosts)), fmt.Sprintf("%d are the most: split the entry", mostHosts))
	}
	seen := make(map[string]int, len(hosts))
	for i, host := range hosts {
		if host == "*" {
			v.refuseValue(p.at(i), "is every host and so no service", `name the host, or a domain as in "*.shop.com"`)
		} else if v.host(p.at(i), host) && isWildcard(host) && !strings.HasPrefix(host, "*.") {
			v.doubt(p.at(i), quoted(host)+" is a wildcard within a label", `write a whole label, as in "*.shop.com"`)
		}
		if first, again := seen[canonicalName(host)]; again {
			v.refuseValue(p.at(i), fmt.Sprintf("repeats hosts[%d]", first), "keep one of them")
		} else {
			seen[canonicalName(host)] = i
		}
	}
}

// addresses checks the virtual addresses of a service.
func (v *validation) addresses(p fieldPath, s *networking.ServiceEntry) {
	resolves := s.GetResolution() != networking.ServiceEntry_NONE && s.GetResolution() != networking.ServiceEntry_STATIC
	seen := make(map[netip.Prefix]int, len(s.GetAddresses()))
	for i, text := range s.GetAddresses() {
		block, err := parseAddress(text)
		switch {
		case err != nil:
			v.refuseValue(p.at(i), "is no address", "write an IP address, or a range as in 10.1.0.0/16")
			continue
		case resolves && strings.Contains(text, "/"):
			v.refuseValue(p.at(i), "is a range", fmt.Sprintf("resolution %s takes single addresses", s.GetResolution()))
		}
		if first, again := seen[block]; again {
			v.refuseValue(p.at(i), fmt.Sprintf("repeats addresses[%d]", first), "keep one of them")
		} else {
			seen[block] = i
		}
	}
}

// parseAddress reads an IP address or a range of them, without a zone.
func parseAddress(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err == nil && a.Zone() != "" {
		err = fmt.Errorf("parse address %q: has a zone", s)
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), err
}

var protocols = []string{
	"HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "TCP", "TLS", "MYSQL", "REDIS", "UDP",
}

// servicePorts checks the ports and gives their indexes by name.
func (v *validation) servicePorts(p fieldPath, ports []*networking.ServicePort) (byName map[string]int) {
	byName = make(map[string]int, len(ports))
	byNumber := make(map[uint32]int, len(ports))
	for i, port := range ports {
		at, name, n := p.at(i), port.GetName(), port.GetNumber()
		v.port(at.at("number"), n)
		if first, again := byNumber[n]; again && n != 0 {
			v.refuseValue(at.at("number"), fmt.Sprintf("repeats ports[%d]", first), "numbers of ports are unique")
		} else {
			byNumber[n] = i
		}
		v.labelName(at.at("name"), name, "name of a port")
		if first, again := byName[name]; again && name != "" {
			v.refuseValue(at.at("name"), fmt.Sprintf("repeats ports[%d]", first), "names of ports are unique")
		} else {
			byName[name] = i
		}
		if port.GetProtocol() != "" && !isIn(port.GetProtocol(), protocols...) {
			v.refuseValue(at.at("protocol"), "is no protocol", oneOf(port.GetProtocol(), protocols))
		}
		if port.GetTargetPort() != 0 {
			v.port(at.at("targetPort"), port.GetTargetPort())
		}
	}
	return byName
}

// resolution checks what the way to find endpoints asks of the rest.
func (v *validation) resolution(p fieldPath, s *networking.ServiceEntry) {
	at, endpoints := p.at("resolution"), s.GetEndpoints()
	switch s.GetResolution() {
	case networking.ServiceEntry_NONE:
		if len(endpoints) > 0 {
			v.refuse(p.at("endpoints"), "resolution NONE has no endpoints: calls go to the address that the caller asked for",
				"write resolution: STATIC, or DNS")
		}
	case networking.ServiceEntry_STATIC:
		if len(endpoints) == 0 && s.GetWorkloadSelector() == nil {
			v.refuse(at, "resolution STATIC has neither endpoints nor workloadSelector", "write one of them")
		}
	case networking.ServiceEntry_DNS, networking.ServiceEntry_DNS_ROUND_ROBIN:
		if s.GetResolution() == networking.ServiceEntry_DNS_ROUND_ROBIN && len(endpoints) > 1 {
			v.refuse(p.at("endpoints"), fmt.Sprintf("resolution DNS_ROUND_ROBIN has %d endpoints", len(endpoints)),
				"it takes one at most: write resolution: DNS")
		}
		for i, host := range s.GetHosts() {
			if isWildcard(host) && len(endpoints) == 0 {
				v.refuseValue(p.at("hosts", i), "cannot be resolved", "a wildcard with resolution DNS needs endpoints")
			}
		}
		if s.GetResolution() == networking.ServiceEntry_DNS_ROUND_ROBIN {
			v.warn(at, codeUnbuilt, "the name is looked up whenever a connection is opened, and the first address that answers is taken: "+
				"addresses are not taken in turn", "write resolution: DNS where every address should be an endpoint")
		}
	case networking.ServiceEntry_DYNAMIC_DNS:
		v.unbuilt(at, "the hosts would have no endpoints")
	}
}

// entryEndpoint checks an endpoint that is written in the ServiceEntry, whose ports it may only name.
func (v *validation) entryEndpoint(p fieldPath, s *networking.ServiceEntry, e *networking.WorkloadEntry, ports map[string]int) {
	v.workloadEntry(p, e)
	for _, name := range sortedKeys(e.GetPorts()) {
		if _, known := ports[name]; !known {
			hint := "declare it in the service's ports"
			if len(ports) <= mostSuggested {
				hint = oneOf(name, sortedKeys(ports))
			}
			v.refuseKey(p.at("ports", name), "is no port of the service", hint)
		}
	}
	switch s.GetResolution() {
	case networking.ServiceEntry_STATIC:
		if problem, _ := checkHost(e.GetAddress()); problem == "" { // else it has been refused, or is an IP address
			v.refuseValue(p.at("address"), "is no IP address", "write one or unix:///path, or resolution: DNS")
		}
	case networking.ServiceEntry_DNS, networking.ServiceEntry_DNS_ROUND_ROBIN:
		if isUnix(e.GetAddress()) {
			v.refuseValue(p.at("address"), "cannot be resolved", "write resolution: STATIC")
		}
	}
	if isUnix(e.GetAddress()) && len(s.GetPorts()) != 1 {
		v.refuseValue(p.at("address"), fmt.Sprintf("is a unix socket, and the service has %d ports", len(s.GetPorts())),
			"a service with unix sockets has one port")
	}
}

func isUnix(address string) bool { return strings.HasPrefix(address, "unix:") }

// workloadEntry checks one endpoint, be it a document of its own or part of a ServiceEntry.
func (v *validation) workloadEntry(p fieldPath, w *networking.WorkloadEntry) {
	v.endpointAddress(p, w)
	for _, name := range sortedKeys(w.GetPorts()) {
		if !isLabel(name) {
			v.refuseKey(p.at("ports", name), "is no name of a port", "write letters, digits and '-'")
		}
		v.port(p.at("ports", name), w.GetPorts()[name])
	}
	v.labels(p.at("labels"), w.GetLabels())
	if w.GetLocality() != "" {
		v.locality(p.at("locality"), w.GetLocality(), false)
	}
}

func (v *validation) endpointAddress(p fieldPath, w *networking.WorkloadEntry) {
	const form = "write an IP address, a host name or unix:///path"
	address := w.GetAddress()
	p = p.at("address")
	switch {
	case address == "":
		if w.GetNetwork() == "" {
			v.refuse(p, "address is missing", form)
		}
	case isUnix(address):
		path, ok := strings.CutPrefix(address, "unix://")
		if !ok || !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || strings.ContainsRune(path, 0) {
			v.refuseValue(p, "is no absolute path of a socket", "write unix:///path")
		}
		if len(w.GetPorts()) > 0 {
			v.refuse(p[:len(p)-1].at("ports"), "a unix socket has no ports", "remove them")
		}
	case isIP(address):
		if strings.Contains(address, "%") {
			v.refuseValue(p, "has a zone", "write the address alone")
		}
	case isWildcard(address):
		v.refuseValue(p, "is no address", form)
	default:
		problem, _ := checkHost(address)
		switch {
		case strings.HasPrefix(problem, "names a port"):
			v.refuseValue(p, problem, "write the port in ports")
		case problem != "":
			v.refuseValue(p, problem, form)
		}
	}
}
