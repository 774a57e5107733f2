package meshtest

import (
	"bytes"
	"encoding/json"
	"slices"

	"go.yaml.in/yaml/v3"
)

// resolve gives what an alias stands for.
func resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// field gives the value of an object's field, nil where there is none.
func field(n *yaml.Node, key string) *yaml.Node {
	if n = resolve(n); n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolve(n.Content[i+1])
		}
	}
	return nil
}

func text(n *yaml.Node) string {
	if n = resolve(n); n == nil {
		return ""
	}
	return n.Value
}

func str(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

func list(items ...*yaml.Node) *yaml.Node { return &yaml.Node{Kind: yaml.SequenceNode, Content: items} }

// object makes an object of names and values in turn.
func object(pairs ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i < len(pairs); i += 2 {
		n.Content = append(n.Content, str(pairs[i].(string)), pairs[i+1].(*yaml.Node))
	}
	return n
}

// set gives a copy of an object in which a field has another value. The original stays as it is.
func set(n *yaml.Node, key string, value *yaml.Node) *yaml.Node {
	o := *resolve(n)
	o.Content = slices.Clone(o.Content)
	for i := 0; i+1 < len(o.Content); i += 2 {
		if o.Content[i].Value == key {
			o.Content[i+1] = value
			return &o
		}
	}
	o.Content = append(o.Content, str(key), value)
	return &o
}

// unset gives a copy of an object without a field.
func unset(n *yaml.Node, key string) *yaml.Node {
	o := *resolve(n)
	o.Content = slices.Clone(o.Content)
	for i := 0; i+1 < len(o.Content); i += 2 {
		if o.Content[i].Value == key {
			o.Content = slices.Delete(o.Content, i, i+2)
			break
		}
	}
	return &o
}

// A printer writes nodes as JSON with line breaks: each node begins on the line that it had, so that
// findings and explanations point at the file that people know.
type printer struct {
	text  bytes.Buffer
	line  int
	shift int // what is added to a node's line
}

func (p *printer) node(n *yaml.Node) {
	n = resolve(n)
	if n.Line > 0 {
		for p.line < n.Line+p.shift {
			p.text.WriteByte('\n')
			p.line++
		}
	}
	switch n.Kind {
	case yaml.MappingNode:
		p.text.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			p.comma(i)
			p.node(n.Content[i])
			p.text.WriteString(": ")
			p.node(n.Content[i+1])
		}
		p.text.WriteByte('}')
	case yaml.SequenceNode:
		p.text.WriteByte('[')
		for i, item := range n.Content {
			p.comma(i)
			p.node(item)
		}
		p.text.WriteByte(']')
	default:
		p.scalar(n)
	}
}

func (p *printer) comma(i int) {
	if i > 0 {
		p.text.WriteString(", ")
	}
}

func (p *printer) scalar(n *yaml.Node) {
	switch n.ShortTag() {
	case "!!str":
		quoted, _ := json.Marshal(n.Value) // a string is never an error
		p.text.Write(quoted)
	case "!!null":
		p.text.WriteString("null")
	default:
		p.text.WriteString(n.Value)
	}
}
