package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// gatewayKind is a kind that this version does not serve, and whose documents rules refer to all the same.
const gatewayKind = "Gateway"

// gateways looks at what binds rules to gateways. Where the documents have no Gateway at all, theirs are elsewhere.
func (l *linter) gateways() {
	known := make(map[Key]*networking.Gateway)
	var order []*document
	for _, d := range l.docs {
		if d.key.Kind != gatewayKind {
			continue
		}
		known[d.key] = d.readGateway()
		order = append(order, d)
	}
	if len(known) == 0 {
		return
	}
	for _, d := range l.docs {
		if v, ok := d.spec.(*networking.VirtualService); ok {
			l.d, l.found = d, 0
			l.bindings(fieldPath{"spec"}, v, known)
		}
	}
	l.sameGatewayHosts(order, known)
	for _, d := range order {
		if g := known[d.key]; g != nil {
			l.d, l.found = d, 0
			l.gateway(fieldPath{"spec"}, g)
		}
	}
}

// gateway finds what istiod would refuse. It refuses nothing here, where Gateways have no effect.
func (l *linter) gateway(p fieldPath, g *networking.Gateway) {
	if len(g.GetServers()) == 0 {
		l.say(Error, p, codeGateway, "has no servers: it serves nothing", "write servers: [{port: ..., hosts: [...]}]")
	}
	protocols, names := make(map[string]string), make(map[string]bool)
	for i, server := range g.GetServers() {
		at, port := p.at("servers", i), server.GetPort()
		if port.GetNumber() == 0 || port.GetName() == "" || port.GetProtocol() == "" {
			l.say(Error, at.at("port"), codeGateway, "needs number, name and protocol", "")
		}
		key, protocol := fmt.Sprint(server.GetBind(), ":", port.GetNumber()), strings.ToUpper(port.GetProtocol())
		if had, again := protocols[key]; again && had != protocol {
			l.say(Error, at.at("port", "protocol"), codeGateway, fmt.Sprintf("port %d is %s in one server and %s in another", port.GetNumber(), had, protocol), "take another port")
		}
		if protocols[key] = protocol; port.GetName() != "" && names[port.GetName()] {
			l.say(Error, at.at("port", "name"), codeGateway, "two servers have a port "+quoted(port.GetName()), "give it another name")
		}
		names[port.GetName()] = true
		if len(server.GetHosts()) == 0 {
			l.say(Error, at.at("hosts"), codeGateway, "names no host", `write "*" for all`)
		}
		for j, host := range server.GetHosts() {
			if !isServed(host) {
				l.say(Error, at.at("hosts", j), codeGateway, quoted(host)+" is neither a host nor namespace/host", `write "shop.example.com", "namespace/*.example.com" or "./*"`)
			}
		}
	}
}

// isServed reports the host of a server: a host, or with what namespace its rules are of, "*" for all and "." for the Gateway's.
func isServed(written string) bool {
	namespace, host, slash := strings.Cut(written, "/")
	if !slash {
		host = written
	} else if namespace != "*" && namespace != "." && !dnsLabel.MatchString(namespace) {
		return false
	}
	host = strings.TrimPrefix(host, "*.")
	return host == "*" || subdomain.MatchString(canonicalName(host))
}

// readGateway gives what the document says, nil where it cannot be read: it is not served, and so not refused.
func (d *document) readGateway() *networking.Gateway {
	_, n := entry(d.tree(), "spec")
	if n == nil {
		return nil
	}
	g := new(networking.Gateway)
	w := decoding{d: d, path: []any{"spec"}}
	if w.message(n, g.ProtoReflect()); len(w.found) > 0 {
		return nil
	}
	return g
}

// bindings checks the gateways that a VirtualService names, and that they serve its hosts.
func (l *linter) bindings(p fieldPath, v *networking.VirtualService, known map[Key]*networking.Gateway) {
	l.missingGateways(p.at("gateways"), v.GetGateways(), known)
	for i, r := range v.GetHttp() {
		for j, m := range r.GetMatch() {
			l.missingGateways(p.at("http", i, "match", j, "gateways"), m.GetGateways(), known)
		}
	}
	if len(v.GetGateways()) == 0 || bindsMesh(v.GetGateways()) {
		return
	}
	var served []string
	for _, name := range v.GetGateways() {
		key, ok := l.gatewayKey(name)
		g := known[key]
		if !ok || g == nil {
			return
		}
		for _, server := range g.GetServers() {
			for _, host := range server.GetHosts() {
				if dns, ok := servedHost(host, key.Namespace, l.d.key.Namespace); ok {
					served = append(served, dns)
				}
			}
		}
	}
	for i, host := range v.GetHosts() {
		if !slices.ContainsFunc(served, func(s string) bool { return covers(s, host) || covers(host, s) }) {
			l.warn(p.at("hosts", i), codeGatewayHost, quoted(host)+" is no host of "+listed(v.GetGateways())+": nothing reaches these rules by it",
				"add it to the hosts of a server of the gateway")
		}
	}
}

func (l *linter) missingGateways(p fieldPath, names []string, known map[Key]*networking.Gateway) {
	for i, name := range names {
		key, ok := l.gatewayKey(name)
		if _, there := known[key]; ok && !there {
			l.say(Error, p.at(i), "IST0101", "there is no "+key.String()+": these rules are for nothing", "add the Gateway, or name another")
		}
	}
}

// gatewayKey reads namespace/name, ./name or a name of the document's own namespace; ok is false for mesh and for
// the old way to name one.
func (l *linter) gatewayKey(written string) (key Key, ok bool) {
	namespace, name, slash := strings.Cut(written, "/")
	switch {
	case !slash:
		namespace, name = l.d.key.Namespace, written
	case namespace == ".":
		namespace = l.d.key.Namespace
	}
	return Key{Kind: gatewayKind, Namespace: namespace, Name: name}, written != meshGateway && (slash || !strings.Contains(written, "."))
}

// servedHost takes the host of a server, which may be namespace/host, for rules of another namespace.
func servedHost(written, gateway, rules string) (host string, ok bool) {
	namespace, host, slash := strings.Cut(written, "/")
	if !slash {
		return canonicalName(written), true
	}
	return canonicalName(host), namespace == "*" || namespace == rules || namespace == "." && gateway == rules
}

// sameGatewayHosts finds servers of two Gateways for the same workloads, port and host.
func (l *linter) sameGatewayHosts(order []*document, known map[Key]*networking.Gateway) {
	type place struct {
		d    *document
		path fieldPath
	}
	first := make(map[string]place)
	for _, d := range order {
		g := known[d.key]
		l.d, l.found = d, 0
		for i, server := range g.GetServers() {
			for j, host := range server.GetHosts() {
				key := fmt.Sprint(selectorKey(g.GetSelector()), server.GetPort().GetNumber(), server.GetBind(), host)
				at := fieldPath{"spec", "servers", i, "hosts", j}
				if was, again := first[key]; !again {
					first[key] = place{d, at}
				} else if was.d != d {
					l.warn(at, codeSameGatewayHost, fmt.Sprintf("%s has %s on port %d for the same workloads already (%s)",
						was.d.key, quoted(host), server.GetPort().GetNumber(), was.d.place(was.path...)), "keep one of them")
				}
			}
		}
	}
}

func selectorKey(labels map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, "%q=%q ", k, labels[k])
	}
	return b.String()
}
