package config

import (
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A kindShape is the objects of a kind, the outer before the inner. What lies within a field that is not honoured is
// left out: it fares as the field does.
type kindShape struct {
	kind     string
	register register
	objects  []*objectShape
}

// An objectShape is one object with its fields, in the order of their declaration.
type objectShape struct {
	name   string
	places []string
	fields []fieldShape

	// The first way to get there: the object that it is part of, and the field of it. nil for the kind's own.
	in    *objectShape
	field *fieldShape
}

type fieldShape struct {
	name          string
	list, mapping bool
	scalar        string          // what its values are called; "" for an object
	values        []string        // of an enumeration
	object        string          // name of the object
	message       message         // its type, one of the two
	fields        reflect.Type    // of a struct
	choice        map[string]bool // other members of the same one-of
}

type message = protoreflect.MessageDescriptor

func shapeOf(kind string) *kindShape {
	s := &kindShape{kind: kind, register: newRegister()}
	info := kinds[kind]
	if info.object != nil {
		s.structure(reflect.TypeOf(info.object()).Elem(), kind, kind, nil, nil)
	} else {
		md := info.new().ProtoReflect().Descriptor()
		s.message(md, "spec", nil, nil)
	}
	return s
}

// find gives the object of the name if it is there already.
func (s *kindShape) find(name string) *objectShape {
	i := slices.IndexFunc(s.objects, func(o *objectShape) bool { return o.name == name })
	if i < 0 {
		return nil
	}
	return s.objects[i]
}

// objectName is a message's name without its package: those of Istio's own API need none.
func objectName(md message) string {
	name := strings.TrimPrefix(string(md.FullName()), string(md.ParentFile().Package())+".")
	if p := string(md.ParentFile().Package()); strings.HasPrefix(p, "istio.type.") {
		name = "type." + name
	}
	return name
}

func (s *kindShape) message(md message, place string, in *objectShape, field *fieldShape) {
	name := objectName(md)
	if o := s.find(name); o != nil {
		o.places = append(o.places, place)
		return
	}
	o := &objectShape{name: name, places: []string{place}, in: in, field: field}
	s.objects = append(s.objects, o)
	for i := range md.Fields().Len() {
		o.fields = append(o.fields, messageField(md.Fields().Get(i)))
	}
	if md.FullName() == retiredOf {
		o.fields = append(o.fields, fieldShape{name: retiredField, scalar: "whole number"})
	}
	s.inner(o, place)
}

// inner goes on with the objects of the fields that are honoured.
func (s *kindShape) inner(o *objectShape, place string) {
	for i := range o.fields {
		f := &o.fields[i]
		if e, _ := s.register[o.name].entry(f.name, ""); f.object == "" || e.outcome != Honoured {
			continue
		}
		at := place + "." + f.name + f.brackets()
		if f.message != nil {
			s.message(f.message, at, o, f)
		} else {
			s.structure(f.fields, f.object, at, o, f)
		}
	}
}

func (f *fieldShape) brackets() string {
	switch {
	case f.list:
		return "[]"
	case f.mapping:
		return "{}"
	}
	return ""
}

func messageField(fd protoreflect.FieldDescriptor) fieldShape {
	f := fieldShape{name: fd.JSONName(), list: fd.IsList(), mapping: fd.IsMap(), choice: make(map[string]bool)}
	if choice := fd.ContainingOneof(); choice != nil {
		for i := range choice.Fields().Len() {
			if other := choice.Fields().Get(i); other != fd {
				f.choice[other.JSONName()] = true
			}
		}
	}
	if fd.IsMap() {
		fd = fd.MapValue()
	}
	switch fd.Kind() {
	case protoreflect.MessageKind:
		md := fd.Message()
		if md.ParentFile().Package() != "google.protobuf" {
			f.object, f.message = objectName(md), md
			return f
		}
		switch md.Name() {
		case "Duration":
			f.scalar = "duration"
		case "Struct":
			f.scalar = "object"
		default: // the wrappers
			f.scalar = scalarName(md.Fields().ByName("value").Kind())
		}
	case protoreflect.EnumKind:
		f.scalar = "enumeration"
		for i := range fd.Enum().Values().Len() {
			f.values = append(f.values, string(fd.Enum().Values().Get(i).Name()))
		}
	default:
		f.scalar = scalarName(fd.Kind())
	}
	return f
}

func scalarName(k protoreflect.Kind) string {
	switch k {
	case protoreflect.StringKind:
		return "string"
	case protoreflect.BytesKind:
		return "bytes"
	case protoreflect.BoolKind:
		return "boolean"
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return "number"
	}
	return "whole number"
}

// structure is message for the kinds that have no descriptor. The place of their outermost object is the document.
func (s *kindShape) structure(t reflect.Type, name, place string, in *objectShape, field *fieldShape) {
	o := &objectShape{name: name, places: []string{place}, in: in, field: field}
	s.objects = append(s.objects, o)
	for i := range t.NumField() {
		tag := t.Field(i).Tag.Get("json")
		if in == nil && slices.Contains([]string{"apiVersion", "kind"}, tag) {
			continue
		}
		f := fieldShape{name: tag}
		ft := t.Field(i).Type
		for ft.Kind() == reflect.Pointer || ft.Kind() == reflect.Slice {
			f.list = f.list || ft.Kind() == reflect.Slice
			ft = ft.Elem()
		}
		switch {
		case ft == reflect.TypeFor[opaque]():
			f.scalar = "anything"
		case ft == reflect.TypeFor[portOrName]():
			f.scalar = "port number or name"
		case ft == reflect.TypeFor[span]():
			f.scalar = "duration"
		case reflect.PointerTo(ft).Implements(reflect.TypeFor[proto.Message]()):
			f.scalar = ft.Name() // of another kind, where it is described
		case ft.Kind() == reflect.Struct:
			f.object, f.fields = name+"."+tag, ft
		case ft.Kind() == reflect.Map && ft.Elem().Kind() == reflect.Struct:
			f.mapping, f.object, f.fields = true, name+"."+tag, ft.Elem()
		case ft.Kind() == reflect.Map:
			f.mapping, f.scalar = true, "string"
		case ft.Kind() == reflect.Bool:
			f.scalar = "boolean"
		case ft.Kind() == reflect.Int32:
			f.scalar = "whole number"
		default:
			f.scalar = "string"
		}
		o.fields = append(o.fields, f)
	}
	s.inner(o, place)
}

// keys collects the keys of the fields that a node has.
func (s *kindShape) keys(o *objectShape, n *yaml.Node, into map[string]bool) {
	n = target(n)
	for i := range o.fields {
		f := &o.fields[i]
		_, value := entry(n, f.name)
		if value == nil {
			continue
		}
		value = target(value)
		into[o.name+"."+f.name] = true
		if len(f.values) > 0 {
			into[o.name+"."+f.name+"="+value.Value] = true
		}
		inner := s.find(f.object)
		switch {
		case inner == nil:
		case f.list:
			for _, e := range value.Content {
				s.keys(inner, e, into)
			}
		case f.mapping:
			for j := 1; j < len(value.Content); j += 2 {
				s.keys(inner, value.Content[j], into)
			}
		default:
			s.keys(inner, value, into)
		}
	}
}

// typeName says what documents write.
func (f *fieldShape) typeName() string {
	name := f.scalar
	if len(f.values) > 0 {
		name = "one of " + listed(f.values)
	}
	if f.object != "" {
		name = f.object
	}
	switch {
	case f.list:
		return "list of " + name
	case f.mapping:
		return "map to " + name
	}
	return name
}
