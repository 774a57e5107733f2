package inject

import (
	"math"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Documents are changed as nodes, so that what nobody looks at stays.

// resolved follows an alias.
func resolved(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// find gives the value of a key of a mapping, and the key; nil where there is none.
func find(n *yaml.Node, name string) (key, value *yaml.Node) {
	n = resolved(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name && n.Content[i].Kind == yaml.ScalarNode {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

// get gives what is at the end of a path of keys, nil where there is nothing, or null.
func get(n *yaml.Node, path ...string) *yaml.Node {
	for _, name := range path {
		_, n = find(n, name)
		n = resolved(n)
	}
	if n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	return n
}

// text gives a scalar at the end of a path, "" where there is none.
func text(n *yaml.Node, path ...string) string {
	if n = get(n, path...); n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// number gives an integer at the end of a path, in whatever form YAML has for one, as 0x539 or 1337.0, or in quotes.
func number(n *yaml.Node, path ...string) (int, bool) {
	if n = get(n, path...); n == nil || n.Kind != yaml.ScalarNode {
		return 0, false
	}
	var value any
	if err := n.Decode(&value); err != nil {
		return 0, false
	}
	switch v := value.(type) {
	case int:
		return v, true
	case float64:
		return int(v), v == math.Trunc(v) && math.Abs(v) < 1<<53
	case string:
		i, err := strconv.Atoi(v)
		return i, err == nil
	}
	return 0, false
}

// yes reports whether what is at the end of a path is true, in any of YAML 1.1's words for it, which kubectl takes.
func yes(n *yaml.Node, path ...string) bool {
	n = get(n, path...)
	is := false
	return n != nil && n.Decode(&is) == nil && is
}

// twice finds a key that a mapping among a node's parts has a second time: which one counts is not the same to all who read YAML.
func twice(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.MappingNode {
		seen := make(map[string]bool)
		for i := 0; i+1 < len(n.Content); i += 2 {
			if key := n.Content[i]; key.Kind == yaml.ScalarNode {
				if seen[key.Value] {
					return key
				}
				seen[key.Value] = true
			}
		}
	}
	for _, one := range n.Content {
		if found := twice(one); found != nil {
			return found
		}
	}
	return nil
}

// items gives the entries of a list.
func items(n *yaml.Node, path ...string) []*yaml.Node {
	if n = get(n, path...); n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	all := make([]*yaml.Node, len(n.Content))
	for i, one := range n.Content {
		all[i] = resolved(one)
	}
	return all
}

// borrowed finds an alias, or a merge, among a node's own parts: what is changed there changes in another place too.
func borrowed(n *yaml.Node) *yaml.Node {
	if n == nil || n.Kind == yaml.AliasNode || n.Tag == "!!merge" {
		return n
	}
	for _, one := range n.Content {
		if found := borrowed(one); found != nil {
			return found
		}
	}
	return nil
}

// list gives the list of a mapping, which it makes where there is none.
func list(n *yaml.Node, name string) *yaml.Node {
	_, l := find(n, name)
	if l == nil {
		l = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		n.Content = append(n.Content, scalar(name), l)
	}
	if l.Kind == yaml.ScalarNode { // null
		*l = yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", HeadComment: l.HeadComment, LineComment: l.LineComment, FootComment: l.FootComment}
	}
	if len(l.Content) == 0 {
		l.Style &^= yaml.FlowStyle
	}
	return l
}

func scalar(s string) *yaml.Node {
	n := new(yaml.Node)
	n.SetString(s)
	return n
}

// A field is one of a mapping that is made. Its value is a string, a bool, an int, a list of strings, fields, a list of fields or a node.
type field struct {
	name  string
	value any
}

type fields []field

// add appends a field.
func (f *fields) add(name string, value any) { *f = append(*f, field{name, value}) }

func (f fields) node() *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, one := range f {
		n.Content = append(n.Content, scalar(one.name), node(one.value))
	}
	return n
}

func node(value any) *yaml.Node {
	switch v := value.(type) {
	case *yaml.Node:
		return v
	case fields:
		return v.node()
	case []fields:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, one := range v {
			n.Content = append(n.Content, one.node())
		}
		return n
	case []string:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, s := range v {
			n.Content = append(n.Content, scalar(s))
		}
		return n
	case string:
		return scalar(v)
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v)}
	case int:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(v)}
	}
	panic("no value of a field")
}
