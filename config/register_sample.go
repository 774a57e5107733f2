package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// describe tells what becomes of a field, and of those of its values that fare otherwise.
func (s *kindShape) describe(o *objectShape, f *fieldShape) ([]FieldInfo, error) {
	register := s.register[o.name]
	whole, ok := register.entry(f.name, "")
	if !ok {
		return nil, fmt.Errorf("describe field %s.%s: the register has no entry", o.name, f.name)
	}
	info := func(value string) (FieldInfo, error) {
		e, _ := register.entry(f.name, value)
		i := FieldInfo{Object: o.name, Name: f.name, Value: value, Type: f.typeName(), Outcome: e.outcome, Why: e.note, Test: e.test}
		if e.outcome == Honoured {
			i.Of = f.object
		}
		found, err := s.judge(o, f, value)
		if err != nil || len(found) == 0 {
			return i, err
		}
		i.Code = found[0].Code
		if i.Why == "" {
			i.Why = reason(&found[0], f.name)
		}
		return i, nil
	}
	first, err := info("")
	if err != nil {
		return nil, err
	}
	list := []FieldInfo{first}
	for _, value := range f.values {
		if e, _ := register.entry(f.name, value); e.name != whole.name {
			one, err := info(value)
			if err != nil {
				return nil, err
			}
			list = append(list, one)
		}
	}
	return list, nil
}

// reason is what a finding says, short where it is known what kind of finding it is.
func reason(f *Finding, field string) string {
	const notBuilt = "not built yet"
	if f.Code == codeUnbuilt {
		if _, because, ok := strings.Cut(f.Hint, "because "); ok && f.Refused {
			return notBuilt + ": " + because
		}
		if what, ok := strings.CutPrefix(f.Message, "without effect, not built in this version yet: "); ok {
			if what == field || strings.HasSuffix(what, "."+field) {
				return notBuilt
			}
			return notBuilt + ": " + what
		}
	}
	if f.Hint == "" {
		return f.Message
	}
	return f.Message + "; " + f.Hint
}

// judge feeds validation the smallest document that has the field, and gives what it finds about it.
func (s *kindShape) judge(o *objectShape, f *fieldShape, value string) ([]Finding, error) {
	text, path, err := s.sample(o, f, value)
	if err != nil {
		return nil, err
	}
	resources, found := Parse("sample.yaml", text)
	if len(found) > 0 || len(resources) != 1 {
		return nil, fmt.Errorf("parse sample of %s.%s: %v\n%s", o.name, f.name, found, text)
	}
	d := resources[0].doc
	if found = d.decode(); len(found) == 0 {
		found = d.validate()
	}
	// What stands nearest to the field is about it; what is found elsewhere is not.
	found = slices.DeleteFunc(found, func(f Finding) bool { return !related(f.Path, path) })
	slices.SortStableFunc(found, func(a, b Finding) int { return int(b.Level) - int(a.Level) })
	return found, nil
}

// related reports that one path leads to the other.
func related(a, b string) bool {
	long, short := a, b
	if len(long) < len(short) {
		long, short = short, long
	}
	rest, ok := strings.CutPrefix(long, short)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// sample writes the smallest document with the field, and gives the field's path in it.
func (s *kindShape) sample(o *objectShape, f *fieldShape, value string) (text []byte, path string, err error) {
	e, _ := s.register[o.name].entry(f.name, value)
	if value == "" {
		value = e.value
	}
	inner, err := s.sampleValue(f, value)
	if err != nil {
		return nil, "", fmt.Errorf("sample of %s.%s: %w", o.name, f.name, err)
	}
	object, err := s.with(o, &e, f, inner)
	if err != nil {
		return nil, "", err
	}
	path = f.name
	for up := o; up.in != nil; up = up.in {
		e, _ := s.register[up.in.name].entry(up.field.name, "")
		steps := up.field.name
		switch {
		case up.field.list:
			object, steps = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{object}}, steps+"[0]"
		case up.field.mapping:
			key := cmp.Or(e.key, "x")
			object, steps = mapNode(key, object), steps+"."+key
		}
		path = steps + "." + path
		if object, err = s.with(up.in, &e, up.field, object); err != nil {
			return nil, "", err
		}
	}
	info := kinds[s.kind]
	head := fmt.Sprintf("apiVersion: %s\nkind: %s\n", info.apiVersions()[0], s.kind)
	if info.object == nil {
		path, object = "spec."+path, mapNode("spec", object)
	}
	if _, n := entry(object, "metadata"); n == nil {
		head += "metadata: {name: reviews, namespace: default}\n"
	}
	body, err := yaml.Marshal(object)
	return append([]byte(head), body...), path, err
}

func mapNode(key string, value *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: key}, value}}
}

// with gives the object with what it needs, and the field.
func (s *kindShape) with(o *objectShape, e *fieldEntry, f *fieldShape, value *yaml.Node) (*yaml.Node, error) {
	beside := e.beside
	if beside == "" {
		beside = s.register[o.name].needs
	}
	out := &yaml.Node{Kind: yaml.MappingNode}
	if beside != "" {
		n, err := parseFlow(beside)
		if err != nil {
			return nil, fmt.Errorf("what stands beside %s.%s: %w", o.name, f.name, err)
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if key := n.Content[i].Value; key != f.name && !f.choice[key] {
				out.Content = append(out.Content, n.Content[i], n.Content[i+1])
			}
		}
	}
	name := f.name
	if name == "*" { // whatever has no place of its own
		name = "annotations"
	}
	out.Content = append(out.Content, mapNode(name, value).Content...)
	return out, nil
}

func parseFlow(text string) (*yaml.Node, error) {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		return nil, err
	}
	return n.Content[0], nil
}

// sampleValue is the register's value for the field, or one that its type suggests.
func (s *kindShape) sampleValue(f *fieldShape, text string) (*yaml.Node, error) {
	if text == "" {
		text = map[string]string{
			"duration": "1s", "boolean": "true", "string": "x", "bytes": "eA==", "anything": "x", "object": "{}",
			"number": "1", "whole number": "1", "port number or name": "80",
		}[f.scalar]
		switch {
		case len(f.values) > 0:
			text = f.values[len(f.values)-1]
		case f.object != "":
			if text = s.register[f.object].needs; text == "" {
				text = "{}"
			}
		}
		switch {
		case f.list:
			text = "[" + text + "]"
		case f.mapping:
			text = "{x: " + text + "}"
		}
	}
	return parseFlow(text)
}
