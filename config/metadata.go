package config

import (
	"regexp"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// metadataFields are those of Kubernetes' ObjectMeta: a document read back from a cluster has them all.
var metadataFields = []string{
	"name", "namespace", "labels", "annotations", "creationTimestamp",
	"deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "generation",
	"managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
}

var (
	// RFC 1123 as Kubernetes reads it: a name may have several labels, a namespace is one.
	subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	dnsLabel  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
)

// peekName fills the key as well as an unchecked document allows, so that findings can name it.
func (d *document) peekName(namespace string) {
	_, metadata := entry(d.root, "metadata")
	if metadata == nil {
		return
	}
	text := func(field string) string {
		if _, n := entry(target(metadata), field); n != nil {
			return clip(target(n).Value)
		}
		return ""
	}
	if d.key.Name = text("name"); d.key.Name == "" {
		return
	}
	if d.key.Namespace = text("namespace"); d.key.Namespace == "" {
		d.key.Namespace = namespace
	}
}

// readMetadata fills the document's key, labels, annotations and time of creation. named says that the key
// can be used.
func (d *document) readMetadata(defaultNamespace string) (found []Finding, named bool) {
	w := decoding{d: d, path: []any{"metadata"}}
	key, n := entry(d.root, "metadata")
	if n == nil {
		w.refuse(complaint{"metadata is missing", "every document has metadata.name"})
		return w.found, false
	}
	n = target(n)
	if n.Kind != yaml.MappingNode {
		w.refuse(expected("an object", n, ""))
		return w.found, false
	}
	name, namespace, present := "", defaultNamespace, false
	for i := 0; i+1 < len(n.Content); i += 2 {
		field, value := n.Content[i], n.Content[i+1]
		w.path = append(w.path, field.Value)
		switch field.Value {
		case "name":
			present = true
			name = w.identifier(value, subdomain, 253, "lower case letters, digits, '-' and '.'")
		case "namespace":
			if v := target(value); isText(v) && v.Value == "" {
				break // kubectl takes an empty namespace for none
			}
			namespace = w.identifier(value, dnsLabel, 63, "lower case letters, digits and '-'")
		case "labels":
			d.labels = w.strings(value)
		case "annotations":
			d.annotations = w.strings(value)
		case "creationTimestamp":
			if t, err := time.Parse(time.RFC3339, target(value).Value); err == nil {
				d.created = t
			}
		default:
			if !slices.Contains(metadataFields, field.Value) {
				w.unknown(field, metadataFields)
			}
		}
		w.path = w.path[:1]
	}
	if !present {
		w.path = append(w.path, "name")
		w.refuseAt(key, "metadata.name is missing", func() string { return "every document has one" })
	}
	if name == "" || namespace == "" {
		return w.found, false
	}
	d.key.Name, d.key.Namespace = name, namespace
	return w.found, true
}

// identifier reads a name; it is empty where the name is refused.
func (w *decoding) identifier(n *yaml.Node, form *regexp.Regexp, longest int, letters string) string {
	s, bad := textValue(n)
	switch {
	case bad != (complaint{}):
		w.refuse(bad)
	case s == "":
		w.refuse(complaint{"the name is empty", ""})
	case len(s) > longest || !form.MatchString(s):
		w.refuse(complaint{"invalid name " + quoted(s), "write at most " + strconv.Itoa(longest) + " " + letters +
			", beginning and ending with a letter or digit"})
	default:
		return s
	}
	return ""
}

// strings reads an object of text.
func (w *decoding) strings(n *yaml.Node) map[string]string {
	n = target(n)
	if n.Kind != yaml.MappingNode {
		w.refuse(expected("an object", n, ""))
		return nil
	}
	m := make(map[string]string, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		w.path = append(w.path, key.Value)
		k, badKey := textValue(key)
		v, bad := textValue(value)
		switch {
		case badKey != (complaint{}):
			w.refuseAt(key, "key: "+badKey.message, func() string { return badKey.hint })
		case bad != (complaint{}):
			w.refuse(bad)
		default:
			m[k] = v
		}
		w.path = w.path[:len(w.path)-1]
	}
	return m
}
