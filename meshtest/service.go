package meshtest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const clusterDomain = ".svc.cluster.local"

// A service is one host with instances. world.mu guards it.
type service struct {
	host      string       // as the registry keeps it
	namespace string       // of its ServiceEntry, where the YAML has none
	ports     []*yaml.Node // of its ServiceEntry, where the YAML has none any more or never had
	instances []*Instance
}

func (s *service) endpoints() *yaml.Node {
	n := list()
	for _, i := range s.instances {
		e := object("address", str(i.addr.Addr().String()))
		if len(i.labels) > 0 {
			labels := object()
			for _, k := range slices.Sorted(maps.Keys(i.labels)) {
				labels = set(labels, k, str(i.labels[k]))
			}
			e = set(e, "labels", labels)
		}
		if i.account != "" {
			e = set(e, "serviceAccount", str(i.account))
		}
		n.Content = append(n.Content, e)
	}
	return n
}

// entry is the ServiceEntry of a service that the YAML does not have.
func (s *service) entry() []byte {
	spec := object("hosts", list(str(s.host)), "resolution", str("STATIC"), "ports", list(s.ports...), "endpoints", s.endpoints())
	if s.secured() {
		spec = set(spec, "location", str("MESH_INTERNAL"))
	}
	var p printer
	p.node(object(
		"apiVersion", str("networking.istio.io/v1"),
		"kind", str("ServiceEntry"),
		"metadata", object("name", str("meshtest."+s.host), "namespace", str(s.namespace)),
		"spec", spec,
	))
	return p.text.Bytes()
}

// secured reports whether the instances have identities.
func (s *service) secured() bool { return len(s.instances) > 0 && s.instances[0].account != "" }

// newPort declares a port.
func newPort(number int, protocol string) *yaml.Node {
	n := strconv.Itoa(number)
	return object("number", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: n},
		"name", str(strings.ToLower(protocol)+"-"+n), "protocol", str(protocol))
}

// protocolOf gives a port's protocol, by its name where it declares none.
func protocolOf(p *yaml.Node) string {
	protocol := text(field(p, "protocol"))
	if protocol == "" {
		protocol, _, _ = strings.Cut(text(field(p, "name")), "-")
	}
	return strings.ToUpper(protocol)
}

// speaksHTTP2 reports whether everybody who reads the configuration takes the port for HTTP/2.
func speaksHTTP2(p *yaml.Node) bool {
	protocol := protocolOf(p)
	return protocol == "GRPC" || protocol == "HTTP2"
}

// notHTTP2 says why a gRPC instance cannot have the port.
func (s *service) notHTTP2(where string, p *yaml.Node) error {
	if where == "" {
		where = "<the test>"
	}
	number, _ := portNumbers(p)
	return fmt.Errorf("%s (%s) has port %d for %s, and gRPC needs HTTP/2, which a sidecar would not speak there: "+
		"its protocol must be GRPC or HTTP2", s.host, where, number, protocolOf(p))
}

// portNumbers gives the service's port and the one that its endpoints listen on.
func portNumbers(p *yaml.Node) (number, target int) {
	number, _ = strconv.Atoi(text(field(p, "number"))) // the mesh has read it
	if target, _ = strconv.Atoi(text(field(p, "targetPort"))); target == 0 {
		target = number
	}
	return number, target
}

// fullName gives the registry's name for a host as a workload of the namespace writes it: what the
// documents declare under that name, else the Kubernetes name where it has no dot.
func fullName(host, namespace string, declared func(string) bool) string {
	host = canonical(host)
	full := host
	switch parts := strings.Split(host, "."); {
	case len(parts) == 1:
		full = host + "." + namespace + clusterDomain
	case len(parts) == 2:
		full = host + clusterDomain
	case len(parts) == 3 && parts[2] == "svc":
		full = host + strings.TrimPrefix(clusterDomain, ".svc")
	}
	if !declared(host) && (declared(full) || !strings.Contains(host, ".")) {
		return full
	}
	return host
}

// shortName is the way a workload of the namespace would write the name.
func shortName(host, namespace string) string {
	name, ok := strings.CutSuffix(host, clusterDomain)
	if !ok {
		return host
	}
	return strings.TrimSuffix(name, "."+namespace)
}

// namespaceOf is where a service of the name belongs.
func namespaceOf(host, fallback string) string {
	if name, ok := strings.CutSuffix(host, clusterDomain); ok {
		if _, namespace, ok := strings.Cut(name, "."); ok && !strings.Contains(namespace, ".") {
			return namespace
		}
	}
	return fallback
}

// declaredPorts are the ports that the documents give a host.
func declaredPorts(docs []*document, host string) (ports []*yaml.Node) {
	for _, d := range docs {
		for _, e := range d.entries {
			if !slices.Contains(e.hosts, host) {
				continue
			}
			if e.kube {
				return e.ports // a ServiceEntry of the same host adds none
			}
			ports = append(ports, e.ports...)
		}
	}
	return ports
}

// declaredAt says where the documents declare a host, "" where they do not.
func declaredAt(docs []*document, host string) string {
	for _, d := range docs {
		for _, e := range d.entries {
			if slices.Contains(e.hosts, host) {
				return fmt.Sprintf("%s:%d", d.origin.File, d.origin.Line+e.root.Line-1)
			}
		}
	}
	return ""
}

func labelText(labels map[string]string) string {
	parts := make([]string, 0, len(labels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}
