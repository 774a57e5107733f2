package config

import (
	"fmt"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	networking "istio.io/api/networking/v1alpha3"
)

// decode fills spec, or returns everything that prevents it. Only documents of a served kind are decoded.
func (d *document) decode() []Finding {
	if d.spec != nil {
		return nil
	}
	w := decoding{d: d}
	kind := kinds[d.kind()]
	if kind.object != nil {
		object := kind.object()
		w.object(d.tree(), reflect.ValueOf(object).Elem())
		w.hold(object)
		return w.found
	}
	w.topLevel()
	spec := kind.new()
	w.path = append(w.path, d.body()...)
	if _, n, there := d.find(w.path); !there {
		w.refuse(complaint{"spec is missing", "every " + d.key.Kind + " has one"})
	} else {
		w.message(n, spec.ProtoReflect())
	}
	w.hold(spec)
	return w.found
}

// hold keeps what was decoded, unless something was wrong with it.
func (w *decoding) hold(spec any) {
	if len(w.found) > 0 {
		return
	}
	w.d.spec = spec
	switch s := spec.(type) {
	case *networking.ServiceEntry:
		w.d.entry = s
	case *kubeService:
		w.d.entry = s.entry(w.d)
	}
}

// decoding is one walk of a document's nodes along the descriptors of its type.
type decoding struct {
	d     *document
	path  []any
	found []Finding
}

func (w *decoding) refuse(c complaint) {
	w.add(func() Finding { return w.d.refuse(w.path, c.message, c.hint) })
}

func (w *decoding) refuseAt(n *yaml.Node, message string, hint func() string) {
	w.add(func() Finding { return w.d.refuseAt(n, w.path, message, hint()) })
}

// add keeps a finding while there are few. A finding is made only when it is kept: the nearest of a hundred
// names is not looked for a million times.
func (w *decoding) add(f func() Finding) {
	switch n := len(w.found); {
	case n < maxDocumentFindings:
		w.found = append(w.found, f())
	case n == maxDocumentFindings:
		w.found = append(w.found, w.d.refuse(nil, "too many errors: the rest of the document's are not listed", ""))
	}
}

var (
	topLevelFields  = []string{"apiVersion", "kind", "metadata", "spec", "status"}
	configMapFields = []string{"apiVersion", "kind", "metadata", "data", "binaryData", "immutable"}
)

func (w *decoding) topLevel() {
	fields := topLevelFields
	if w.d.inConfigMap() {
		fields = configMapFields
	}
	root := w.d.tree()
	for i := 0; i+1 < len(root.Content); i += 2 {
		key := root.Content[i]
		if !slices.Contains(fields, key.Value) {
			w.path = append(w.path, key.Value)
			w.unknown(key, fields)
			w.path = w.path[:0]
		}
	}
}

func (w *decoding) unknown(key *yaml.Node, known []string) {
	w.refuseAt(key, "unknown field "+quoted(key.Value), func() string { return oneOf(key.Value, known) })
}

// message reads an object into m.
func (w *decoding) message(n *yaml.Node, m protoreflect.Message) {
	n = target(n)
	if n.Kind != yaml.MappingNode {
		w.refuse(expected("an object", n, ""))
		return
	}
	fields := m.Descriptor().Fields()
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		w.path = append(w.path, key.Value)
		fd := fields.ByJSONName(key.Value)
		if fd == nil {
			fd = fields.ByName(protoreflect.Name(key.Value))
		}
		switch {
		case fd == nil && m.Descriptor().FullName() == retiredOf && key.Value == retiredField:
			// validate says what has become of it
		case fd == nil:
			w.unknown(key, fieldNames(fields))
		case !w.spelledTwice(n, key, fd):
			w.field(key, value, m, fd)
		}
		w.path = w.path[:len(w.path)-1]
	}
}

func fieldNames(fields protoreflect.FieldDescriptors) []string {
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = fields.Get(i).JSONName()
	}
	return names
}

// spelledTwice refuses the protobuf spelling of a field that is there in its JSON spelling too.
func (w *decoding) spelledTwice(n, key *yaml.Node, fd protoreflect.FieldDescriptor) bool {
	if key.Value == fd.JSONName() {
		return false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if other := n.Content[i]; other.Value == fd.JSONName() {
			w.refuseAt(key, fmt.Sprintf("%s and %s are one field, written on lines %d and %d",
				key.Value, other.Value, key.Line, other.Line), func() string { return "keep " + other.Value })
			return true
		}
	}
	return false
}

// field reads one entry of an object into its field.
func (w *decoding) field(key, value *yaml.Node, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	choice := fd.ContainingOneof()
	if choice != nil {
		if first := m.WhichOneof(choice); first != nil {
			w.refuseAt(key, fmt.Sprintf("%s and %s exclude each other", first.JSONName(), fd.JSONName()),
				func() string { return "keep one of them" })
			m = m.New() // still read it, for what else is wrong inside
		}
	}
	var v protoreflect.Value
	ok := true
	switch {
	case fd.IsList():
		v = w.list(value, m.NewField(fd), fd)
	case fd.IsMap():
		v = w.mapping(value, m.NewField(fd), fd)
	default:
		v, ok = w.value(value, m.NewField(fd), fd)
	}
	if !ok {
		if choice == nil {
			return
		}
		v = m.NewField(fd) // the choice is made, though its value is bad: a second one is an error still
	}
	m.Set(fd, v)
}

func (w *decoding) list(n *yaml.Node, into protoreflect.Value, fd protoreflect.FieldDescriptor) protoreflect.Value {
	n = target(n)
	if n.Kind != yaml.SequenceNode {
		w.refuse(expected("a list", n, "begin each element with \"- \""))
		return into
	}
	l := into.List()
	for i, e := range n.Content {
		w.path = append(w.path, i)
		if isNull(target(e)) {
			w.refuse(complaint{fmt.Sprintf("element %d of the list is null", i), "remove it or give it a value"})
		} else if v, ok := w.value(e, l.NewElement(), fd); ok {
			l.Append(v)
		}
		w.path = w.path[:len(w.path)-1]
	}
	return into
}

// mapping reads an object with keys of the writer's choice. Istio's served kinds have text keys only.
func (w *decoding) mapping(n *yaml.Node, into protoreflect.Value, fd protoreflect.FieldDescriptor) protoreflect.Value {
	n = target(n)
	if n.Kind != yaml.MappingNode {
		w.refuse(expected("an object", n, ""))
		return into
	}
	entries := into.Map()
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		w.path = append(w.path, key.Value)
		if k, bad := textValue(key); bad != (complaint{}) {
			w.refuseAt(key, "key: "+bad.message, func() string { return bad.hint })
		} else if v, ok := w.value(value, entries.NewValue(), fd.MapValue()); ok {
			entries.Set(protoreflect.ValueOfString(k).MapKey(), v)
		}
		w.path = w.path[:len(w.path)-1]
	}
	return into
}

// anyObject reads an object of whatever fields: the labels of a log's format.
func (w *decoding) anyObject(n *yaml.Node) (v protoreflect.Value, ok bool) {
	if n = target(n); n.Kind != yaml.MappingNode {
		w.refuse(expected("an object", n, ""))
		return v, false
	}
	var plain map[string]any
	if err := n.Decode(&plain); err != nil {
		w.refuse(complaint{"is no object of texts, numbers, lists and objects", ""})
		return v, false
	}
	s, err := structpb.NewStruct(plain)
	if err != nil {
		w.refuse(complaint{"holds what JSON has not: " + err.Error(), "write texts, numbers, lists and objects"})
		return v, false
	}
	return protoreflect.ValueOfMessage(s.ProtoReflect()), true
}

// value reads one value that is neither list nor map. A message is read into blank. It knows the types that
// occur in the served kinds: TestDecodeAgreesWithProtojson fails for a kind that brings another.
func (w *decoding) value(n *yaml.Node, blank protoreflect.Value, fd protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	var v protoreflect.Value
	var bad complaint
	switch fd.Kind() {
	case protoreflect.MessageKind:
		md := fd.Message()
		if md.ParentFile().Package() != "google.protobuf" {
			w.message(n, blank.Message())
			return blank, true
		}
		if md.Name() == "Duration" {
			d, bad := durationValue(n)
			if bad != (complaint{}) {
				w.refuse(bad)
				return v, false
			}
			return protoreflect.ValueOfMessage(durationpb.New(d).ProtoReflect()), true
		}
		if md.Name() == "Struct" {
			return w.anyObject(n)
		}
		// What is left are the wrappers (UInt32Value, BoolValue, DoubleValue): a scalar that can be absent.
		inner := md.Fields().ByName("value")
		v, ok := w.value(n, protoreflect.Value{}, inner)
		if ok {
			blank.Message().Set(inner, v)
		}
		return blank, ok
	case protoreflect.StringKind:
		var s string
		s, bad = textValue(n)
		v = protoreflect.ValueOfString(s)
	case protoreflect.BoolKind:
		var b bool
		b, bad = boolValue(n)
		v = protoreflect.ValueOfBool(b)
	case protoreflect.EnumKind:
		var e protoreflect.EnumNumber
		e, bad = enumValue(n, fd.Enum())
		v = protoreflect.ValueOfEnum(e)
	case protoreflect.DoubleKind:
		var f float64
		f, bad = realValue(n)
		v = protoreflect.ValueOfFloat64(f)
	case protoreflect.BytesKind:
		var b []byte
		b, bad = bytesValue(n)
		v = protoreflect.ValueOfBytes(b)
	default:
		v, bad = wholeValue(n, fd.Kind())
	}
	if bad != (complaint{}) {
		w.refuse(bad)
		return v, false
	}
	return v, true
}
