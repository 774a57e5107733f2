package config

import (
	"fmt"
	"math"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

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
	if len(s.GetIngress()) > 0 {
		v.unbuilt(p.at("ingress"), "calls would come in on other ports than those it lists, and go elsewhere from there")
	}
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
		default:
			v.egressPort(at, l, ports, i)
		}
		if l.GetBind() != "" {
			v.unenforced(at.at("bind"), "bind")
		}
		if l.GetCaptureMode() != networking.CaptureMode_DEFAULT {
			v.unenforced(at.at("captureMode"), "captureMode")
		}
		v.egressHosts(at.at("hosts"), l.GetHosts())
	}
}

func (v *validation) egressPort(at fieldPath, l *networking.IstioEgressListener, ports map[uint32]int, i int) {
	port, p := l.GetPort(), at.at("port")
	if strings.HasPrefix(l.GetBind(), "unix:") {
		v.unbuilt(at.at("bind"), "programs would find nothing at that socket")
		return
	}
	v.port(p.at("number"), port.GetNumber())
	if first, again := ports[port.GetNumber()]; again {
		v.refuseValue(p.at("number"), fmt.Sprintf("repeats egress[%d]", first), "put their hosts together")
	} else {
		ports[port.GetNumber()] = i
	}
	switch name := port.GetProtocol(); {
	case strings.EqualFold(name, "HTTP_PROXY"):
		v.unbuilt(p.at("protocol"), "calls on other ports would not find these hosts")
	case name != "" && !isIn(name, protocols...):
		v.refuseValue(p.at("protocol"), "is no protocol", oneOf(name, protocols))
	}
	//nolint:staticcheck // SA1019: a deprecated field that documents still have
	if port.GetTargetPort() != 0 {
		v.doubt(p.at("targetPort"), "targetPort is ignored, by Istio too", "remove it")
	}
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
