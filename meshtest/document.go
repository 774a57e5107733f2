package meshtest

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/heddlemesh/mesh/config"
)

// A document is one text of the configuration: a document, or a List of them. It is not changed.
type document struct {
	origin  config.Origin
	body    []byte
	items   []*yaml.Node // the documents in it; nil where none is about services
	entries []entry
}

// An entry is what declares hosts: a ServiceEntry, or a Service of Kubernetes.
type entry struct {
	root      *yaml.Node
	namespace string
	kube      bool
	hosts     []string // canonical
	ports     []*yaml.Node
}

func newDocument(origin config.Origin, body []byte) (*document, error) {
	d := &document{origin: origin, body: body}
	if !bytes.Contains(body, []byte("ServiceEntry")) && !isKube(body) {
		return d, nil
	}
	var file yaml.Node
	if err := yaml.Unmarshal(body, &file); err != nil || len(file.Content) == 0 {
		return nil, fmt.Errorf("read %s:%d: %w", origin.File, origin.Line, err)
	}
	root := resolve(file.Content[0])
	d.items = []*yaml.Node{root}
	if text(field(root, "kind")) == "List" {
		d.items = resolve(field(root, "items")).Content
	}
	for _, item := range d.items {
		item = resolve(item)
		spec, namespace := field(item, "spec"), namespaceIn(item)
		switch text(field(item, "kind")) {
		case "ServiceEntry":
			e := entry{root: item, namespace: namespace}
			if hosts := field(spec, "hosts"); hosts != nil {
				for _, h := range hosts.Content {
					e.hosts = append(e.hosts, canonical(text(h)))
				}
			}
			if ports := field(spec, "ports"); ports != nil {
				e.ports = ports.Content
			}
			d.entries = append(d.entries, e)
		case kubeServiceKind:
			if text(field(item, "apiVersion")) == "v1" {
				d.entries = append(d.entries, entry{root: item, namespace: namespace, kube: true,
					hosts: []string{kubeHost(item)}, ports: kubePorts(spec)})
			}
		}
	}
	return d, nil
}

// canonical is a host as the registry keeps it.
func canonical(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// render gives the texts of the document's parts, with the endpoints of the services that have instances.
// Every line keeps its number in the file.
func (d *document) render(services map[string]*service, kube map[string]string) [][]byte {
	var items []*yaml.Node
	changed := false
	for _, item := range d.items {
		item = resolve(item)
		parts, other := []*yaml.Node{item}, false
		switch text(field(item, "kind")) {
		case "ServiceEntry":
			parts, other = withInstances(item, services, kube)
		case kubeServiceKind:
			parts, other = kubeWithInstances(item, services)
		case kubeSliceKind:
			if s := services[sliceHost(item)]; s != nil {
				parts, other = nil, true
			}
		}
		changed = changed || other
		items = append(items, parts...)
	}
	if !changed {
		return [][]byte{append(bytes.Repeat([]byte("\n"), d.origin.Line-1), d.body...)}
	}
	texts := make([][]byte, len(items))
	for n, item := range items {
		p := printer{line: 1, shift: d.origin.Line - 1}
		p.node(item)
		texts[n] = p.text.Bytes()
	}
	return texts
}

// withInstances gives the documents that a ServiceEntry comes to: its hosts without instances keep what the
// YAML says, each with instances has an entry of its own. kube has the namespaces of the hosts that are Services of
// Kubernetes: those have their instances already.
func withInstances(root *yaml.Node, services map[string]*service, kube map[string]string) (parts []*yaml.Node, changed bool) {
	spec := field(root, "spec")
	hosts := field(spec, "hosts")
	if hosts == nil {
		return []*yaml.Node{root}, false
	}
	var with []*service
	var without []*yaml.Node
	for _, h := range hosts.Content {
		s := services[canonical(text(h))]
		switch {
		case s == nil:
			without = append(without, h)
		case kube[s.host] != namespaceIn(root):
			with = append(with, s)
		}
	}
	if len(without) == len(hosts.Content) {
		return []*yaml.Node{root}, false
	}
	if len(without) > 0 {
		parts = append(parts, set(root, "spec", set(spec, "hosts", list(without...))))
	}
	for _, s := range with {
		own := unset(spec, "workloadSelector")
		own = set(own, "hosts", list(str(s.host)))
		own = set(own, "resolution", str("STATIC"))
		own = set(own, "endpoints", s.endpoints())
		part := set(root, "spec", own)
		if len(parts) > 0 { // the first one has the document's name
			metadata := field(root, "metadata")
			part = set(part, "metadata", set(metadata, "name",
				str(fmt.Sprintf("%s.meshtest-%d", text(field(metadata, "name")), len(parts)))))
		}
		parts = append(parts, part)
	}
	return parts, true
}
