package config

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

const (
	// maxDepth is four times what the deepest Istio document needs.
	maxDepth = 64
	// maxAliased is how many nodes the aliases of one YAML document may stand for. Nodes that are written
	// out need no budget: the size of the text bounds them.
	maxAliased = 200_000
)

// A checker looks at the shape of a document, before anything is read from it: what passes has unique keys,
// no merge keys, no explicit types, and can be walked, aliases followed, in bounded time.
type checker struct {
	d       *document
	path    []any
	aliased *int // nodes visited through aliases so far, by all documents of one section
	within  int  // aliases being followed just now
	stop    bool
	found   []Finding
}

// check reports what is wrong with the document's shape.
func (d *document) check(aliased *int) []Finding {
	c := checker{d: d, aliased: aliased}
	c.node(d.root)
	return c.found
}

func (c *checker) refuse(n *yaml.Node, message, hint string) {
	c.found = append(c.found, c.d.refuseAt(n, c.path, message, hint))
	c.stop = c.stop || len(c.found) >= maxDocumentFindings
}

func (c *checker) node(n *yaml.Node) {
	if c.stop {
		return
	}
	if len(c.path) > maxDepth {
		c.refuse(n, fmt.Sprintf("nested deeper than %d levels", maxDepth), "")
		c.found[len(c.found)-1].Path = pathString(c.path[:4]) + "…"
		c.stop = true
		return
	}
	if c.within > 0 {
		if *c.aliased++; *c.aliased > maxAliased {
			c.refuse(n, fmt.Sprintf("aliases stand for more than %d values", maxAliased), "write the values out")
			c.stop = true
			return
		}
	}
	if n.Style&yaml.TaggedStyle != 0 && !harmlessTag(n) {
		c.refuse(n, "explicit type "+clip(n.Tag)+" is not accepted", "write the value without it")
	}
	switch n.Kind {
	case yaml.AliasNode:
		c.within++
		c.node(n.Alias)
		c.within--
	case yaml.SequenceNode:
		for i, e := range n.Content {
			c.step(i, e)
		}
	case yaml.MappingNode:
		c.keys(n)
		for i := 0; i+1 < len(n.Content); i += 2 {
			c.step(n.Content[i].Value, n.Content[i+1])
		}
	}
}

func (c *checker) step(step any, n *yaml.Node) {
	c.path = append(c.path, step)
	c.node(n)
	c.path = c.path[:len(c.path)-1]
}

// harmlessTag reports an explicit type that says what the value is anyway, or makes it text.
func harmlessTag(n *yaml.Node) bool {
	switch n.Kind {
	case yaml.ScalarNode:
		return n.Tag == "!!str"
	case yaml.MappingNode:
		return n.Tag == "!!map"
	case yaml.SequenceNode:
		return n.Tag == "!!seq"
	}
	return true
}

// keys checks the keys of one mapping.
func (c *checker) keys(n *yaml.Node) {
	const few = 16 // up to here comparing each with each is cheaper than a map
	var seen map[string]*yaml.Node
	if len(n.Content) > 2*few {
		seen = make(map[string]*yaml.Node, len(n.Content)/2)
	}
	for i := 0; i+1 < len(n.Content) && !c.stop; i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			c.refuse(key, "a key is not plain text", "write keys out, without an alias, list or object")
			continue
		case key.Tag == "!!merge":
			c.refuse(key, "merge key << is not accepted", "write the merged fields out")
			continue
		}
		first := seen[key.Value]
		if seen == nil {
			for j := 0; j < i && first == nil; j += 2 {
				if n.Content[j].Value == key.Value {
					first = n.Content[j]
				}
			}
		} else if first == nil {
			seen[key.Value] = key
		}
		if first != nil {
			c.path = append(c.path, key.Value)
			c.refuse(key, fmt.Sprintf("key %s is written twice, on lines %d and %d", quoted(key.Value), first.Line, key.Line),
				"keep one of them")
			c.path = c.path[:len(c.path)-1]
		}
	}
}
