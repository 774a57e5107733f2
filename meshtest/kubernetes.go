package meshtest

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Kubernetes' own documents that declare services and endpoints, as package config reads them.
const (
	kubeServiceKind = "Service"
	kubeSliceKind   = "EndpointSlice"
	kubeSliceLabel  = "kubernetes.io/service-name"
)

// isKube reports text that may hold such a document.
func isKube(body []byte) bool {
	return bytes.Contains(body, []byte(kubeServiceKind)) || bytes.Contains(body, []byte(kubeSliceKind))
}

func namespaceIn(root *yaml.Node) string {
	if n := text(field(field(root, "metadata"), "namespace")); n != "" {
		return n
	}
	return defaultNamespace
}

func kubeHost(root *yaml.Node) string {
	return text(field(field(root, "metadata"), "name")) + "." + namespaceIn(root) + clusterDomain
}

// sliceHost is the host whose endpoints an EndpointSlice has.
func sliceHost(root *yaml.Node) string {
	return text(field(field(field(root, "metadata"), "labels"), kubeSliceLabel)) + "." + namespaceIn(root) + clusterDomain
}

// kubePorts gives a Service's ports as a ServiceEntry would have them. Instances listen on the service's own numbers.
func kubePorts(spec *yaml.Node) (ports []*yaml.Node) {
	list := field(spec, "ports")
	if list == nil {
		return nil
	}
	for _, p := range list.Content {
		number, err := strconv.Atoi(text(field(p, "port")))
		if transport := text(field(p, "protocol")); err != nil || transport != "" && transport != "TCP" {
			continue
		}
		port := newPort(number, kubeProtocol(p, number))
		if name := text(field(p, "name")); name != "" {
			port = set(port, "name", str(name))
		}
		ports = append(ports, port)
	}
	return ports
}

// kubeProtocol is the protocol that a Service's port declares: by appProtocol, else by its name up to the first dash,
// else by its number.
func kubeProtocol(p *yaml.Node, number int) string {
	name := text(field(p, "name"))
	if app := text(field(p, "appProtocol")); app != "" {
		name = app
	}
	switch name {
	case "kubernetes.io/h2c":
		return "HTTP2"
	case "kubernetes.io/wss":
		return "HTTPS"
	}
	if strings.HasPrefix(strings.ToLower(name), "grpc-web") {
		return "HTTP"
	}
	name, _, _ = strings.Cut(strings.ToUpper(name), "-")
	switch {
	case slices.Contains([]string{"HTTP2", "GRPC", "HTTPS", "TLS", "TCP", "MONGO", "MYSQL", "REDIS"}, name):
		return name
	case name != "HTTP" && slices.Contains([]int{25, 53, 3306, 27017}, number):
		return "TCP"
	}
	return "HTTP"
}

// kubeWithInstances gives a Service with instances: it selects nothing any more, and a ServiceEntry of its namespace
// has its endpoints.
func kubeWithInstances(root *yaml.Node, services map[string]*service) (parts []*yaml.Node, changed bool) {
	s := services[kubeHost(root)]
	if s == nil || text(field(root, "apiVersion")) != "v1" {
		return []*yaml.Node{root}, false
	}
	spec := unset(field(root, "spec"), "selector")
	if text(field(spec, "type")) == "ExternalName" {
		spec = unset(unset(spec, "type"), "externalName")
	}
	entry := object(
		"apiVersion", str("networking.istio.io/v1"),
		"kind", str("ServiceEntry"),
		"metadata", object("name", str(text(field(field(root, "metadata"), "name"))+".meshtest"), "namespace", str(namespaceIn(root))),
		"spec", object("hosts", list(str(s.host)), "location", str("MESH_INTERNAL"), "resolution", str("STATIC"),
			"ports", list(s.ports...), "endpoints", s.endpoints()))
	entry.Line = root.Line // what is said of it is said of the Service
	return []*yaml.Node{set(root, "spec", spec), entry}, true
}
