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
	items   []*yaml.Node // the documents in it; nil where none is a ServiceEntry
	entries []entry
}

// An entry is one ServiceEntry.
type entry struct {
	root  *yaml.Node
	hosts []string // canonical
}

func newDocument(origin config.Origin, body []byte) (*document, error) {
	d := &document{origin: origin, body: body}
	if !bytes.Contains(body, []byte("ServiceEntry")) {
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
		if item = resolve(item); text(field(item, "kind")) == "ServiceEntry" {
			e := entry{root: item}
			if hosts := field(field(item, "spec"), "hosts"); hosts != nil {
				for _, h := range hosts.Content {
					e.hosts = append(e.hosts, canonical(text(h)))
				}
			}
			d.entries = append(d.entries, e)
		}
	}
	return d, nil
}

// canonical is a host as the registry keeps it.
func canonical(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// render gives the texts of the document's parts, with the endpoints of the services that have instances.
// Every line keeps its number in the file.
func (d *document) render(services map[string]*service) [][]byte {
	var items []*yaml.Node
	changed := false
	for _, item := range d.items {
		item = resolve(item)
		parts := withInstances(item, services)
		changed = changed || parts != nil
		if parts == nil {
			parts = []*yaml.Node{item}
		}
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
// YAML says, each with instances has an entry of its own. It is nil where there is nothing to change.
func withInstances(root *yaml.Node, services map[string]*service) []*yaml.Node {
	if text(field(root, "kind")) != "ServiceEntry" {
		return nil
	}
	spec := field(root, "spec")
	hosts := field(spec, "hosts")
	if hosts == nil {
		return nil
	}
	var with []*service
	var without []*yaml.Node
	for _, h := range hosts.Content {
		if s := services[canonical(text(h))]; s != nil {
			with = append(with, s)
		} else {
			without = append(without, h)
		}
	}
	if len(with) == 0 {
		return nil
	}
	var parts []*yaml.Node
	if len(without) > 0 {
		parts = append(parts, set(root, "spec", set(spec, "hosts", list(without...))))
	}
	for _, s := range with {
		changed := unset(spec, "workloadSelector")
		changed = set(changed, "hosts", list(str(s.host)))
		changed = set(changed, "resolution", str("STATIC"))
		changed = set(changed, "endpoints", s.endpoints())
		part := set(root, "spec", changed)
		if len(parts) > 0 { // the first one has the document's name
			metadata := field(root, "metadata")
			part = set(part, "metadata", set(metadata, "name",
				str(fmt.Sprintf("%s.meshtest-%d", text(field(metadata, "name")), len(parts)))))
		}
		parts = append(parts, part)
	}
	return parts
}
