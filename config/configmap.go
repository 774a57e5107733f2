package config

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v3"
)

// istiod reads its MeshConfig from a ConfigMap, as text: that is where people have it.
const (
	meshConfigKind    = "MeshConfig"
	meshConfigMapKind = "ConfigMap"
	meshConfigMapName = "istio"
	meshConfigKey     = "mesh"         // of data
	meshNetworksKey   = "meshNetworks" // of data, beside it
)

// inConfigMap reports a MeshConfig that stands in a ConfigMap. No other ConfigMap is a document here.
func (d *document) inConfigMap() bool { return d.key.Kind == meshConfigMapKind }

// kind is the document's kind as the register has it.
func (d *document) kind() string {
	if d.inConfigMap() {
		return meshConfigKind
	}
	return d.key.Kind
}

// body leads to what the document says, behind all that tells which one it is.
func (d *document) body() fieldPath {
	if d.inConfigMap() {
		return fieldPath{"data", meshConfigKey}
	}
	return fieldPath{"spec"}
}

// holdsMeshConfig reports istiod's own ConfigMap, of whatever namespace: readMesh says of which it counts.
func (d *document) holdsMeshConfig() bool {
	if d.apiVersion != "v1" || d.key.Kind != meshConfigMapKind || d.key.Name != meshConfigMapName {
		return false
	}
	_, _, there := d.find([]any{"data", meshConfigKey})
	return there
}

// meshConfigMap parses the text within the ConfigMap and puts what it says in the place of it, at the lines and
// columns of the file: from there on it is a document like any other.
func (p *parser) meshConfigMap(d *document, version string, aliased *int) {
	_, data, _ := d.find([]any{"data"})
	key, n := entry(target(data), meshConfigKey)
	n = target(n)
	path := []any(d.body())
	if !isText(n) {
		p.add(d.refuse(path, "expected text, found "+describe(n), `write "mesh: |" and indent the settings below it`))
		return
	}
	text := []byte(n.Value)
	place := d.within(n)
	if tooDense(text) {
		p.add(d.refuse(path, "the text holds too many values", ""))
		return
	}
	inner, bad := parseYAML(text)
	if bad != nil {
		line, column := place(lineColumn(text, bad.offset))
		if n.Style&yaml.LiteralStyle == 0 {
			line, column = d.position(n)
		}
		p.add(d.findingAt(line, column, Error, codeSchema, true, pathString(path), bad.message, bad.hint))
		return
	}
	if inner == nil {
		inner = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line, Column: n.Column} // all defaults
	} else {
		move(inner, place)
	}
	for i := range target(data).Content {
		if target(data).Content[i] == key {
			target(data).Content[i+1] = inner
		}
	}
	p.resource(d, version, aliased)
}

// within gives the function that turns a line and column of a text within the document into those of the file. In
// block text ("|") each line is one of the file's; in quotes, where it need not be, all is where the text begins.
func (d *document) within(n *yaml.Node) func(line, column int) (int, int) {
	if n.Style&yaml.LiteralStyle == 0 {
		return func(int, int) (int, int) { return n.Line, n.Column }
	}
	indent, row := 0, n.Line
	for line := range strings.Lines(n.Value) {
		row++
		if strings.TrimSpace(line) != "" {
			indent = max(0, len(d.page.row(row))-len(strings.TrimRight(line, "\n")))
			break
		}
	}
	return func(line, column int) (int, int) { return n.Line + line, indent + column }
}

// row gives a line of the file, without its end.
func (p *page) row(line int) []byte {
	rest := p.text
	for range line - p.line {
		_, rest, _ = bytes.Cut(rest, []byte("\n"))
	}
	row, _, _ := bytes.Cut(rest, []byte("\n"))
	return bytes.TrimRight(row, "\r")
}

// move puts the nodes of a text where place says. Aliases are not followed, as in shift.
func move(n *yaml.Node, place func(line, column int) (int, int)) {
	n.Line, n.Column = place(n.Line, n.Column)
	for _, c := range n.Content {
		move(c, place)
	}
}
