package config

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/snapshot"
)

const unixPrefix = "unix://"

// sidecar checks what a workload may call. What the kind says of calls that come in is refused where it moves them
// or keeps them out, and warned about otherwise.
func (v *validation) sidecar(p fieldPath, s *networking.Sidecar) {
	if len(s.GetEgress())+len(s.GetIngress()) == 0 && s.GetOutboundTrafficPolicy() == nil && s.GetInboundConnectionPool() == nil {
		v.refuse(p, "the Sidecar says nothing", "write egress, or outboundTrafficPolicy")
	}
	if sel := s.GetWorkloadSelector(); sel != nil {
		at := p.at("workloadSelector")
		if len(sel.GetLabels()) == 0 {
			v.doubt(at, "the selector has no labels: the Sidecar is for the whole namespace", "name the labels of the workloads, or remove it")
		}
		v.labels(at.at("labels"), sel.GetLabels())
	}
	v.ingress(p.at("ingress"), s.GetIngress())
	if s.GetInboundConnectionPool() != nil {
		v.inboundPool(p.at("inboundConnectionPool"), s.GetInboundConnectionPool())
	}
	v.egress(p.at("egress"), s.GetEgress())
	if o := s.GetOutboundTrafficPolicy(); o != nil && o.GetEgressProxy() != nil {
		at := p.at("outboundTrafficPolicy", "egressProxy")
		v.destination(at, o.GetEgressProxy())
		if o.GetMode() != networking.OutboundTrafficPolicy_ALLOW_ANY {
			v.refuse(at, "egressProxy needs mode ALLOW_ANY", "write mode: ALLOW_ANY, or remove it")
		}
		v.unbuilt(at, "calls to unknown hosts would go to these hosts themselves, past the proxy")
	}
}

// inboundPool checks how the program may be connected to, of which there is one limit yet.
func (v *validation) inboundPool(p fieldPath, pool *networking.ConnectionPoolSettings) {
	v.whole(p.at("tcp", "maxConnections"), int64(pool.GetTcp().GetMaxConnections()), 0, math.MaxInt32)
	others := slices.DeleteFunc(setFields(pool), func(name string) bool { return name == "tcp.maxConnections" })
	if len(others) > 0 {
		v.unenforced(p, listed(others))
	}
}

func (v *validation) egress(p fieldPath, list []*networking.IstioEgressListener) {
	ports, whole := make(map[uint32]int, len(list)), -1
	for i, l := range list {
		at, port := p.at(i), l.GetPort()
		switch {
		case port == nil && whole >= 0:
			v.refuse(at, fmt.Sprintf("has no port, like egress[%d]", whole), "one listener is for all ports that no other has: put their hosts together")
		case port == nil:
			if whole = i; i < len(list)-1 {
				v.refuse(at, "is for all ports and not the last", "move it behind those with a port")
			}
			if l.GetBind() != "" {
				v.refuse(at.at("bind"), "bind needs a port", "write the port, or remove it")
			}
			if l.GetCaptureMode() == networking.CaptureMode_NONE {
				v.unenforced(at.at("captureMode"), "captureMode NONE of the listener for all ports; write one for each port")
			}
		default:
			v.egressPort(at, l, ports, i)
			if first := slices.IndexFunc(list[:i], func(o *networking.IstioEgressListener) bool { return o.GetBind() == l.GetBind() }); first >= 0 && strings.HasPrefix(l.GetBind(), unixPrefix) {
				v.refuseValue(at.at("bind"), fmt.Sprintf("repeats egress[%d]", first), "make one listener of them")
			}
		}
		v.egressHosts(at.at("hosts"), l.GetHosts())
	}
}

func (v *validation) egressPort(at fieldPath, l *networking.IstioEgressListener, ports map[uint32]int, i int) {
	port, bind := l.GetPort(), l.GetBind()
	if path, unix := strings.CutPrefix(bind, unixPrefix); unix {
		if port.GetNumber() != 0 {
			v.refuseValue(at.at("port", "number"), "is a port, and bind a Unix socket", "write 0")
		}
		if !strings.HasPrefix(path, "/") && (len(path) < 2 || path[0] != '@') {
			v.refuseValue(at.at("bind"), "is no absolute path of a socket", "write unix:///path, or unix://@name")
		}
		if l.GetCaptureMode() == networking.CaptureMode_IPTABLES {
			v.refuse(at.at("captureMode"), "nothing captures connections to a Unix socket", "write NONE")
		}
		if speechOf(port.GetProtocol()) == snapshot.SpeaksAny {
			v.refuse(at.at("port"), "a Unix socket needs a protocol", "write protocol: HTTP, or what else is spoken there")
		}
	} else {
		v.listenerPort(at, port.GetNumber(), bind, ports, i)
	}
	if unix := strings.HasPrefix(bind, unixPrefix); bind != "" && !unix && l.GetCaptureMode() == networking.CaptureMode_IPTABLES {
		v.unenforced(at.at("bind"), "bind of a listener whose calls are captured: it is for its port on every address")
	}
	v.sidecarPort(at.at("port"), port, true)
}

// listenerPort checks a port that may be listed once, and the address that it is on.
func (v *validation) listenerPort(at fieldPath, number uint32, bind string, ports map[uint32]int, i int) {
	v.port(at.at("port", "number"), number)
	if first, again := ports[number]; again {
		v.refuseValue(at.at("port", "number"), fmt.Sprintf("repeats %v[%d]", at[len(at)-2], first), "make one listener of them")
	} else {
		ports[number] = i
	}
	if bind != "" && !isIP(bind) {
		v.refuseValue(at.at("bind"), "is no IP address", "write one, or remove it")
	}
}

func (v *validation) sidecarPort(p fieldPath, port *networking.SidecarPort, calls bool) {
	name := port.GetProtocol()
	if name != "" && !isIn(name, protocols...) && !(calls && strings.EqualFold(name, httpProxy)) {
		v.refuseValue(p.at("protocol"), "is no protocol", oneOf(name, protocols))
	}
	//nolint:staticcheck // SA1019: a deprecated field that documents still have
	if port.GetTargetPort() != 0 {
		v.doubt(p.at("targetPort"), "targetPort is ignored, by Istio too", "remove it")
	}
}

// ingress checks listeners for callers.
func (v *validation) ingress(p fieldPath, list []*networking.IstioIngressListener) {
	ports := make(map[uint32]int, len(list))
	for i, l := range list {
		at := p.at(i)
		if l.GetPort() == nil {
			v.refuse(at, "port is missing", "write the port that callers connect to")
			continue
		}
		v.listenerPort(at, l.GetPort().GetNumber(), l.GetBind(), ports, i)
		v.sidecarPort(at.at("port"), l.GetPort(), false)
		if to := l.GetDefaultEndpoint(); to != "" && !isProgram(to) {
			v.refuseValue(at.at("defaultEndpoint"), "is no address of the program", "write 127.0.0.1:PORT, [::1]:PORT, 0.0.0.0:PORT, [::]:PORT or unix:///path")
		}
		if l.GetTls() != nil {
			v.unbuilt(at.at("tls"), "callers would be served without TLS, and without their certificates being looked at")
		}
		if l.GetConnectionPool() != nil {
			v.inboundPool(at.at("connectionPool"), l.GetConnectionPool())
		}
	}
}

// isProgram reports whether a program of the machine can listen there (IstioIngressListener.defaultEndpoint).
func isProgram(to string) bool {
	if path, unix := strings.CutPrefix(to, unixPrefix); unix {
		return strings.HasPrefix(path, "/")
	}
	ap, err := netip.ParseAddrPort(to)
	a := ap.Addr()
	return err == nil && ap.Port() != 0 && (a.IsUnspecified() || a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || a == netip.IPv6Loopback())
}

// egressHosts checks entries of the form namespace/dnsName.
func (v *validation) egressHosts(p fieldPath, hosts []string) {
	const form = `write "namespace/dnsName", with "*" for all namespaces or hosts and "." for the own namespace`
	if len(hosts) == 0 {
		v.refuse(p, "hosts is missing", `write "*/*" for all`)
	}
	excludes := 0
	seen := make(map[string]int, len(hosts))
	for i, entry := range hosts {
		at := p.at(i)
		if first, again := seen[entry]; again {
			v.doubt(at, fmt.Sprintf("%s repeats hosts[%d]", quoted(entry), first), "remove one of them")
		}
		seen[entry] = i
		namespace, host, slash := strings.Cut(entry, "/")
		rest, except := strings.CutPrefix(namespace, "~")
		switch {
		case !slash || host == "" || namespace == "":
			v.refuseValue(at, "is no host of a Sidecar", form)
			continue
		case rest != "" && rest != "*" && rest != "." && !isLabel(rest):
			v.refuseValue(at, "names no namespace", form)
			continue
		}
		if problem, hint := checkHost(host); problem != "" && !isIP(host) {
			v.refuseValue(at, problem, hint)
		}
		if except {
			excludes++
		}
	}
	if excludes > 0 && excludes == len(hosts) && !(excludes == 1 && hosts[0] == "~/*") {
		v.doubt(p, "every entry takes hosts out, and none brings any in: nothing can be called", `add "*/*", or write "~/*" alone`)
	}
}
