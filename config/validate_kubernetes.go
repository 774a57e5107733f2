package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// kubeService checks a Service as the API server does, and says which of its fields no mesh carries out.
func (v *validation) kubeService(s *kubeServiceSpec) {
	p := fieldPath{"spec"}
	if _, _, found := v.d.find(p); !found {
		v.refuse(p, "spec is missing", "every Service has one")
		return
	}
	v.serviceName()
	v.enum(p.at("type"), s.Type, "ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
	v.labels(p.at("selector"), s.Selector)
	v.virtualIPs(p, s)
	v.externalName(p, s)
	v.kubePorts(p, s)
	exportTo := fieldPath{"metadata", "annotations", exportToAnnotation}
	list := v.d.exportTo()
	exportToProblems(list, v.d.key.Namespace, func(i int, problem, hint string) {
		v.refuse(exportTo, quoted(list[i])+" "+problem, hint)
	})

	v.enum(p.at("ipFamilyPolicy"), s.IPFamilyPolicy, "SingleStack", "PreferDualStack", "RequireDualStack")
	for i, family := range s.IPFamilies {
		v.enum(p.at("ipFamilies", i), family, "IPv4", "IPv6")
	}
	v.enum(p.at("externalTrafficPolicy"), s.ExternalTrafficPolicy, "Cluster", "Local")
	if v.enum(p.at("sessionAffinity"), s.SessionAffinity, "None", "ClientIP"); s.SessionAffinity == "ClientIP" {
		v.doubt(p.at("sessionAffinity"), "without effect: it is kube-proxy's, which calls of a mesh do not pass, as in Istio",
			"a DestinationRule's consistentHash is the mesh's way")
	}
	if v.enum(p.at("internalTrafficPolicy"), s.InternalTrafficPolicy, "Cluster", "Local"); s.InternalTrafficPolicy == "Local" {
		v.unbuilt(p.at("internalTrafficPolicy"), "calls would go to other nodes too")
	}
	if v.enum(p.at("trafficDistribution"), s.TrafficDistribution, "PreferClose", "PreferSameZone", "PreferSameNode"); s.TrafficDistribution != "" {
		v.unenforced(p.at("trafficDistribution"), "trafficDistribution: every endpoint counts alike, near or far")
	}
}

// serviceName: unlike those of other kinds it is one label of a DNS name.
func (v *validation) serviceName() {
	if name := v.d.key.Name; len(name) > longestLabel || !dnsLabel.MatchString(name) {
		v.refuseValue(fieldPath{"metadata", "name"}, "is no name of a Service", "write at most 63 lower case letters, digits and '-'")
	}
}

// enum refuses a value that is there and not one of the allowed.
func (v *validation) enum(p fieldPath, value string, allowed ...string) bool {
	if value == "" || slices.Contains(allowed, value) {
		return true
	}
	v.refuse(p, "unknown value "+quoted(value), oneOf(value, allowed))
	return false
}

func (v *validation) virtualIPs(p fieldPath, s *kubeServiceSpec) {
	check := func(p fieldPath, ip string, others bool) {
		_, err := netip.ParseAddr(ip)
		switch {
		case ip == "":
		case s.isExternal():
			v.refuse(p, "an ExternalName has no address of the cluster", "remove it, or write another type")
		case ip == headlessIP && others:
			v.refuseValue(p, "is not the only entry", "a headless Service has no other address")
		case ip != headlessIP && err != nil:
			v.refuseValue(p, "is no address", `write an IP address, or "None" for a headless Service`)
		}
	}
	check(p.at("clusterIP"), s.ClusterIP, false)
	if len(s.ClusterIPs) > 2 {
		v.refuse(p.at("clusterIPs"), fmt.Sprintf("there are %d addresses", len(s.ClusterIPs)), "one of each family is the most")
	}
	for i, ip := range s.ClusterIPs {
		check(p.at("clusterIPs", i), ip, len(s.ClusterIPs) > 1)
	}
	if len(s.ClusterIPs) > 0 && s.ClusterIP != "" && s.ClusterIPs[0] != s.ClusterIP {
		v.refuseValue(p.at("clusterIPs", 0), "is not clusterIP, "+quoted(s.ClusterIP), "the first of clusterIPs is clusterIP")
	}
}

func (v *validation) externalName(p fieldPath, s *kubeServiceSpec) {
	at := p.at("externalName")
	if !s.isExternal() {
		if s.ExternalName != "" {
			v.doubt(at, "without effect: the Service's type is not ExternalName", "write type: ExternalName, or remove it")
		}
		return
	}
	switch problem, hint := checkHost(s.ExternalName); {
	case s.ExternalName == "":
		v.refuse(at, "externalName is missing", "an ExternalName is another name of it")
	case isIP(s.ExternalName):
		v.doubt(at, quoted(s.ExternalName)+" is an address: Kubernetes takes it for a name, and finds nothing",
			"write a Service without selector, and an EndpointSlice")
	case isWildcard(s.ExternalName):
		v.refuseValue(at, "is a wildcard", "write one name")
	case problem != "":
		v.refuseValue(at, problem, hint)
	}
	if len(s.Selector) > 0 {
		v.doubt(p.at("selector"), "without effect: an ExternalName has no endpoints of its own", "remove it")
	}
}

// isPortName reports what names a port on a Pod (RFC 6335 §5.1, IANA_SVC_NAME).
func isPortName(s string) bool {
	return len(s) <= 15 && dnsLabel.MatchString(s) && !strings.Contains(s, "--") &&
		strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz")
}

func (v *validation) kubePorts(p fieldPath, s *kubeServiceSpec) {
	at := p.at("ports")
	if len(s.Ports) == 0 && !s.isExternal() {
		if s.isHeadless() {
			v.doubt(at, "the service has no ports: nothing can call it", "declare its ports")
		} else {
			v.refuse(at, "ports is missing", "only a headless Service or an ExternalName can be without")
		}
	}
	type number struct {
		port     int32
		protocol string
	}
	byName, byNumber := make(map[string]int), make(map[number]int)
	for i := range s.Ports {
		port, at := &s.Ports[i], at.at(i)
		v.port(at.at("port"), uint32(port.Port))
		n := number{port.Port, port.Protocol}
		if n.protocol == "" {
			n.protocol = "TCP"
		}
		if first, again := byNumber[n]; again && port.Port != 0 {
			v.refuseValue(at.at("port"), fmt.Sprintf("repeats ports[%d]", first), "numbers of one protocol's ports are unique")
		} else {
			byNumber[n] = i
		}
		switch first, again := byName[port.Name]; {
		case port.Name == "" && len(s.Ports) > 1:
			v.refuse(at.at("name"), "the name of the port is missing", "only the port of a Service with one can be without")
		case port.Name == "":
		case len(port.Name) > longestLabel || !dnsLabel.MatchString(port.Name):
			v.refuseValue(at.at("name"), "is no name of a port", "write at most 63 lower case letters, digits and '-'")
		case again:
			v.refuseValue(at.at("name"), fmt.Sprintf("repeats ports[%d]", first), "names of ports are unique")
		default:
			byName[port.Name] = i
		}
		v.kubePort(at, s, port)
	}
}

func (v *validation) kubePort(p fieldPath, s *kubeServiceSpec, port *kubeServicePort) {
	known := v.enum(p.at("protocol"), port.Protocol, "TCP", "UDP", "SCTP")
	prefix, name, prefixed := strings.Cut(port.AppProtocol, "/")
	if !prefixed {
		prefix, name = "", port.AppProtocol
	}
	if port.AppProtocol != "" && (!isQualified(name) || prefixed && !subdomain.MatchString(prefix)) {
		v.refuseValue(p.at("appProtocol"), "is no protocol", "write one of Istio's, or a name after a domain and '/', as in kubernetes.io/h2c")
	}
	switch t := port.TargetPort; {
	case !t.given():
	case s.isExternal():
		if t.number != port.Port {
			v.doubt(p.at("targetPort"), "without effect: the name is called on port "+fmt.Sprint(port.Port), "remove it")
		}
	case t.name != "" && !isPortName(t.name):
		hint := "write at most 15 lower case letters, digits and '-', one of them a letter"
		if strings.Trim(t.name, "0123456789") == "" {
			hint = "write " + t.name + " without quotes"
		}
		v.refuseValue(p.at("targetPort"), "is no name of a port", hint)
	case t.name == "":
		v.port(p.at("targetPort"), uint32(t.number))
	}
	v.whole(p.at("nodePort"), int64(port.NodePort), 0, 65535)
	switch {
	case !known:
	case !port.carried():
		v.inform(p, codeSkipped, fmt.Sprintf("port %s skipped: the mesh carries TCP, as Istio does", port), "")
	case port.declared() == "":
		v.inform(p, "IST0118", fmt.Sprintf("port %s does not say what it speaks: calls go to it as HTTP/1.1, and rules of HTTP apply", port),
			`write appProtocol, or a name that begins with the protocol, as in "http-web"`)
	}
}
