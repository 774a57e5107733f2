package config

import (
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A nodeReader is a type that reads its own value.
type nodeReader interface {
	read(n *yaml.Node) complaint
}

// object reads an object into a struct, by the names in its json tags. It is what message is for the kinds that
// have no descriptor. A field that is called "*" takes all that no other does; without one they are refused.
func (w *decoding) object(n *yaml.Node, into reflect.Value) {
	n = target(n)
	if n.Kind != yaml.MappingNode {
		w.refuse(expected("an object", n, ""))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		w.path = append(w.path, key.Value)
		if f, names := objectField(into, key.Value); f.IsValid() {
			w.objectValue(value, f)
		} else {
			w.unknown(key, names)
		}
		w.path = w.path[:len(w.path)-1]
	}
}

// objectField finds the field of the name, or gives the names that there are.
func objectField(object reflect.Value, name string) (field reflect.Value, names []string) {
	t := object.Type()
	for i := range t.NumField() {
		tag := t.Field(i).Tag.Get("json")
		if tag == name && tag != "*" {
			return object.Field(i), nil
		}
		names = append(names, tag)
	}
	if last := len(names) - 1; names[last] == "*" {
		return object.Field(last), nil
	}
	return reflect.Value{}, names
}

func (w *decoding) objectValue(n *yaml.Node, into reflect.Value) {
	n = target(n)
	var bad complaint
	if r, ok := into.Addr().Interface().(nodeReader); ok {
		bad = r.read(n)
	} else {
		switch into.Kind() {
		case reflect.Struct:
			w.object(n, into)
		case reflect.Pointer:
			into.Set(reflect.New(into.Type().Elem()))
			if m, ok := into.Interface().(proto.Message); ok {
				w.message(n, m.ProtoReflect())
			} else {
				w.objectValue(n, into.Elem())
			}
		case reflect.Slice:
			w.objectList(n, into)
		case reflect.Map:
			if into.Type().Elem().Kind() == reflect.Struct {
				w.objectMap(n, into)
			} else {
				into.Set(reflect.ValueOf(w.strings(n)))
			}
		case reflect.String:
			var s string
			s, bad = textValue(n)
			into.SetString(s)
		case reflect.Bool:
			var b bool
			b, bad = boolValue(n)
			into.SetBool(b)
		case reflect.Int32:
			var v protoreflect.Value
			if v, bad = wholeValue(n, protoreflect.Int32Kind); bad == (complaint{}) {
				into.SetInt(v.Int())
			}
		default:
			panic("config: no reader for " + into.Type().String())
		}
	}
	if bad != (complaint{}) {
		w.refuse(bad)
	}
}

// objectList reads a list. Kubernetes writes an empty one as null.
func (w *decoding) objectList(n *yaml.Node, into reflect.Value) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		w.refuse(expected("a list", n, "begin each element with \"- \""))
		return
	}
	list := reflect.MakeSlice(into.Type(), len(n.Content), len(n.Content))
	for i, e := range n.Content {
		w.path = append(w.path, i)
		if isNull(target(e)) {
			w.refuse(complaint{fmt.Sprintf("element %d of the list is null", i), "remove it or give it a value"})
		} else {
			w.objectValue(e, list.Index(i))
		}
		w.path = w.path[:len(w.path)-1]
	}
	into.Set(list)
}

// objectMap reads an object whose keys are the writer's choice and whose values are objects.
func (w *decoding) objectMap(n *yaml.Node, into reflect.Value) {
	if n.Kind != yaml.MappingNode {
		w.refuse(expected("an object", n, ""))
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		value := reflect.New(into.Type().Elem()).Elem()
		w.path = append(w.path, n.Content[i].Value)
		w.objectValue(n.Content[i+1], value)
		w.path = w.path[:len(w.path)-1]
		into.SetMapIndex(reflect.ValueOf(n.Content[i].Value), value)
	}
}
