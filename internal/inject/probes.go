package inject

import (
	"bytes"
	"encoding/json"
	"strings"

	"go.yaml.in/yaml/v3"
)

// probeKinds are the probes of a container, and the last part of the path at which the sidecar makes them for a kubelet.
var probeKinds = []struct{ field, path string }{{"livenessProbe", "livez"}, {"readinessProbe", "readyz"}, {"startupProbe", "startupz"}}

// A probing is one probe of a container that the sidecar will make.
type probing struct {
	path string // at which it is asked
	node *yaml.Node
	spec probeSpec
}

// probings are those of a pod.
type probings []probing

// A probeSpec is a probe in Istio's JSON (ISTIO_KUBE_APP_PROBERS), of one kind.
type probeSpec struct {
	HTTPGet        *httpProbe `json:"httpGet,omitempty"`
	TCPSocket      *portProbe `json:"tcpSocket,omitempty"`
	GRPC           *grpcProbe `json:"grpc,omitempty"`
	TimeoutSeconds int        `json:"timeoutSeconds,omitempty"`
}

type httpProbe struct {
	Path    string        `json:"path,omitempty"`
	Port    int           `json:"port"`
	Scheme  string        `json:"scheme,omitempty"`
	Headers []headerField `json:"httpHeaders,omitempty"`
}

type headerField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type portProbe struct {
	Port int `json:"port"`
}

type grpcProbe struct {
	Port    int    `json:"port"`
	Service string `json:"service,omitempty"`
}

// probes finds the probes that a kubelet makes by the network, which mutual TLS and policies would keep out: those of containers, and
// of init containers that stay.
func (p *pod) probes() probings {
	var all probings
	if p.settings.noRewrite {
		return nil
	}
	for _, list := range []string{"initContainers", "containers"} {
		for _, c := range items(p.spec, list) {
			name := text(c, "name")
			for _, kind := range probeKinds {
				n := get(c, kind.field)
				if n == nil {
					continue
				}
				field := list + "[" + name + "]." + kind.field
				if spec, ok := p.probe(field, c, n); ok {
					all = append(all, probing{path: "/app-health/" + name + "/" + kind.path, node: n, spec: spec})
				}
			}
			for _, hook := range []string{"postStart", "preStop"} {
				if at := get(c, "lifecycle", hook, "httpGet"); at != nil {
					p.warn(at, "%s[%s].lifecycle.%s.httpGet: the kubelet speaks no mutual TLS; where policies ask for that, it will fail", list, name, hook)
				}
			}
		}
	}
	return all
}

// probe reads one; false where it stays as it is.
func (p *pod) probe(field string, container, n *yaml.Node) (s probeSpec, ok bool) {
	s.TimeoutSeconds, _ = number(n, "timeoutSeconds")
	var at *yaml.Node
	port := 0
	switch {
	case get(n, "httpGet") != nil:
		at = get(n, "httpGet")
		port = portOf(container, at)
		s.HTTPGet = &httpProbe{Path: text(at, "path"), Port: port, Scheme: text(at, "scheme")}
		for _, h := range items(at, "httpHeaders") {
			s.HTTPGet.Headers = append(s.HTTPGet.Headers, headerField{text(h, "name"), text(h, "value")})
		}
	case get(n, "tcpSocket") != nil:
		at = get(n, "tcpSocket")
		port = portOf(container, at)
		s.TCPSocket = &portProbe{port}
	case get(n, "grpc") != nil:
		at = get(n, "grpc")
		port = portOf(container, at)
		s.GRPC = &grpcProbe{port, text(at, "service")}
	default:
		return s, false // a command, which needs no network
	}
	if host := get(at, "host"); host != nil {
		p.warn(host, "%s: it asks the host %s, and is left as it is", field, host.Value)
		return s, false
	}
	if port == 0 {
		p.refuse(at, "%s: expected a port, by number or by a name of the container's ports, found %q", field, text(at, "port"))
		return s, false
	}
	return s, true
}

// portOf resolves a probe's port, 0 where it is none.
func portOf(container, at *yaml.Node) int {
	if n, ok := number(at, "port"); ok && n > 0 && n < 1<<16 {
		return n
	}
	for _, p := range items(container, "ports") {
		if name := text(p, "name"); name != "" && name == text(at, "port") {
			n, _ := number(p, "containerPort")
			return n
		}
	}
	return 0
}

// rewrite has the kubelet ask the sidecar. When and how often it does stays as it is.
func (all probings) rewrite(port int) {
	for _, one := range all {
		n := one.node
		for i := 0; i+1 < len(n.Content); i += 2 {
			switch n.Content[i].Value {
			case "httpGet", "tcpSocket", "grpc":
				n.Content[i].SetString("httpGet")
				n.Content[i+1] = fields{{"path", one.path}, {"port", port}}.node()
			}
		}
	}
}

// json is what the sidecar is told of the probes, "" for none.
func (all probings) json() string {
	if len(all) == 0 {
		return ""
	}
	specs := make(map[string]probeSpec, len(all))
	for _, one := range all {
		specs[one.path] = one.spec
	}
	var b bytes.Buffer
	_ = writeJSON(&b, specs) // it has no value that JSON has not
	return strings.TrimSpace(b.String())
}

// writeJSON writes a value in one line, with the letters that it has.
func writeJSON(b *bytes.Buffer, v any) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
