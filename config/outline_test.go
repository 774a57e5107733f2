package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// paths lists the ways to every node under n, and some that lead nowhere.
func paths(n *yaml.Node, at fieldPath, visit func(fieldPath)) {
	visit(at)
	visit(at.at("absent"))
	visit(at.at(len(n.Content)))
	visit(at.at(-1))
	switch n = target(n); n.Kind {
	case yaml.SequenceNode:
		for i, e := range n.Content {
			paths(e, at.at(i), visit)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			paths(n.Content[i+1], at.at(n.Content[i].Value), visit)
			if camel(n.Content[i].Value) != n.Content[i].Value {
				paths(n.Content[i+1], at.at(camel(n.Content[i].Value)), visit)
			}
		}
	}
}

// settled compares what a document says of every path before its nodes are gone and after.
func settled(t *testing.T, d *document) {
	t.Helper()
	type answer struct {
		line, column int
		there        bool
		raw          string
	}
	ask := func(p fieldPath) answer {
		line, column := d.at(p...)
		return answer{line, column, d.has(p), ""}
	}
	var all []fieldPath
	var before []answer
	paths(d.root, nil, func(p fieldPath) {
		a := ask(p)
		all, before = append(all, p), append(before, a)
	})
	deepest := all[len(all)/2]
	raw := d.rawAt(deepest...)
	d.settle()
	if d.root != nil {
		t.Fatal("the nodes are kept")
	}
	for i, p := range all {
		if after := ask(p); after != before[i] {
			t.Errorf("%s: %s is %+v, and was %+v", d.key, pathString(p), after, before[i])
		}
	}
	if again := d.rawAt(deepest...); again != raw {
		t.Errorf("%s: %s is %s, and was %s", d.key, pathString(deepest), again, raw)
	}
}

// TestSettled: every field stands where it stood once the nodes are gone, and what is parsed anew is the document itself.
func TestSettled(t *testing.T) {
	t.Parallel()
	const item = `- apiVersion: networking.istio.io/v1
  kind: ServiceEntry
  metadata: {name: x%s}
  spec:
    hosts: [x]
`
	for name, text := range map[string]string{
		"positions": positioned,
		"one line":  `{"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "e", "labels": {"é": "é", "a": "b"}}, "spec": {"egress": [{"hosts": ["*/*"]}, null, [], {}]}}`,
		"aliases":   strings.Replace(positioned, "timeout:", "timeout: *h", 1) + "  tls: [{match: &m [{sniHosts: [*h]}]}, {match: *m}]\n",
		"a list":    "apiVersion: v1\nkind: List\nitems:\n" + fmt.Sprintf(item, "") + fmt.Sprintf(item, ", namespace: shop"),
		"empty":     strings.SplitAfter(minimal, "spec:")[0] + "\n",
		"settings":  "---\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    connectTimeout: 3s\n    défaut: 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resources, findings := Parse("a.yaml", []byte(text))
			if len(resources) == 0 {
				t.Fatal(findings)
			}
			for _, r := range resources {
				settled(t, r.doc)
			}
		})
	}
	files, err := filepath.Glob("../*/testdata/*.yaml")
	more, _ := filepath.Glob("testdata/*/*.yaml")
	if files = slices.Concat(files, more); err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		resources, _ := Parse(name, text)
		for _, r := range resources {
			settled(t, r.doc)
		}
	}
}

// TestNodesAreNotKept: of a document that a source has handed over there are no nodes left, and its outline is a small part of them.
func TestNodesAreNotKept(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 50 {
		text.WriteString("---\n" + doc("ServiceEntry", fmt.Sprintf("s%d", i), reviewsEntry) + "---\n" + doc("DestinationRule", fmt.Sprintf("s%d", i), reviewsRule))
	}
	nodes, bytes := 0, 0
	resources, _ := Parse("a", []byte(text.String()))
	for _, r := range resources {
		paths(r.doc.root, nil, func(fieldPath) { nodes++ })
	}
	for _, r := range inlineUpdate([][]byte{[]byte(text.String())}).Upsert {
		if r.doc.root != nil {
			t.Fatalf("%s has its nodes still", r.Key)
		}
		bytes += len(r.doc.outline)
	}
	if nodes /= 4; nodes == 0 || bytes > 20*nodes { // paths asks four times for each
		t.Errorf("outlines of %d bytes for %d values", bytes, nodes)
	}
}
