package config

import (
	"cmp"
	"fmt"
	"maps"
)

// An Outcome is what this version does with a field.
type Outcome uint8

const (
	// Honoured fields do what Istio's documents say they do.
	Honoured Outcome = iota
	// Idle fields are accepted and change nothing: there is nothing in them for a caller, or for what this
	// version has.
	Idle
	// Warned fields are accepted, not carried out, and a finding says so.
	Warned
	// Refused fields make the set unacceptable: without them a request would go elsewhere, in another form, or
	// where it must not.
	Refused
)

func (o Outcome) String() string {
	switch o {
	case Honoured:
		return "honoured"
	case Idle:
		return "no effect"
	case Warned:
		return "warned about"
	case Refused:
		return "refused"
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// A FieldInfo is one field of a served kind, or one value of it where values fare differently.
type FieldInfo struct {
	Object string // what the field is part of: a message of Istio's ("HTTPRoute"), or a path in a kind ("Service.spec")
	Name   string // as documents write it
	Value  string // of an enumeration, "" for the field as a whole
	Type   string // as documents write it: "string", "duration", "list of HTTPRoute", "one of A, B"
	Of     string // the object that it holds, "" for none, or where the field's outcome is that of all that is in it

	Outcome Outcome
	Why     string // what validation says of it, or a note; "" where there is nothing to add
	Code    string // of the finding about it, "" for none
	Test    string // a test that proves it, where no row of the conformance table can
}

// Key names the field: "HTTPRoute.timeout", "LoadBalancerSettings.simple=RANDOM".
func (f *FieldInfo) Key() string {
	key := f.Object + "." + f.Name
	if f.Value != "" {
		key += "=" + f.Value
	}
	return key
}

// A KindInfo is what becomes of one kind of the mesh. Of those that are not Honoured, which is served, there are no
// objects: their documents are refused or warned about as a whole.
type KindInfo struct {
	Kind     string
	Versions []string // what its documents may give as apiVersion, the newest first
	Outcome  Outcome
	Objects  []ObjectInfo
}

// An ObjectInfo is one object of a kind: where it stands, and its fields.
type ObjectInfo struct {
	Name   string   // "HTTPRoute"
	Places []string // "spec.http[]"
	Fields []FieldInfo
}

// A fieldEntry is one line of the register. The zero outcome is Honoured.
type fieldEntry struct {
	name    string // or name=VALUE
	outcome Outcome
	value   string // YAML, for a field whose sample is not plain to see
	beside  string // YAML, what stands beside it where that is not what the object needs
	key     string // of the sample's entry in a map, "x" where it is ""
	note    string // for what validation has nothing to say of
	test    string // see FieldInfo.Test
}

// An objectEntry is the register of one object.
type objectEntry struct {
	needs  string // YAML: without this the object is refused
	test   string // of the fields that name none
	fields []fieldEntry
}

// alone is what stands beside a field that needs nothing and excludes what the object needs.
const alone = "{}"

// A register is the objects by their names. It is made when it is asked for: a mesh needs none.
type register map[string]objectEntry

func newRegister() register {
	all := make(register)
	for _, part := range []register{virtualServiceFields(), destinationRuleFields(), serviceFields(), scopeFields(), securityFields(), telemetryFields(), heddleFields(), kubernetesFields(), authorizationFields(), providerFields(), collectorFields()} {
		maps.Copy(all, part)
	}
	return all
}

// entry finds the line of a field or, with a value, of one of its values; a value without a line fares as its field.
func (o objectEntry) entry(name, value string) (fieldEntry, bool) {
	for _, wanted := range []string{name + "=" + value, name} {
		for _, f := range o.fields {
			if f.name == wanted {
				f.test = cmp.Or(f.test, o.test)
				return f, true
			}
		}
	}
	return fieldEntry{}, false
}

// RegisteredKinds tells what becomes of each kind, the served ones first and in the order in which people meet them, and
// of each of their fields. The reasons are validation's own words about a document that has the field: it is slow, and
// meant for documents about the mesh.
func RegisteredKinds() ([]KindInfo, error) {
	var list []KindInfo
	for _, kind := range registeredKinds {
		k, err := registeredKind(kind)
		if err != nil {
			return nil, err
		}
		list = append(list, k)
	}
	for _, kind := range KnownKinds() {
		info := kinds[kind]
		switch info.state {
		case kindRestricting:
			list = append(list, KindInfo{Kind: kind, Versions: info.apiVersions(), Outcome: Refused})
		case kindAdditive:
			list = append(list, KindInfo{Kind: kind, Versions: info.apiVersions(), Outcome: Warned})
		}
	}
	return list, nil
}

func registeredKind(kind string) (KindInfo, error) {
	k := KindInfo{Kind: kind, Versions: kinds[kind].apiVersions()}
	shape := shapeOf(kind)
	for _, o := range shape.objects {
		info := ObjectInfo{Name: o.name, Places: o.places}
		for i := range o.fields {
			fields, err := shape.describe(o, &o.fields[i])
			if err != nil {
				return k, err
			}
			info.Fields = append(info.Fields, fields...)
		}
		k.Objects = append(k.Objects, info)
	}
	return k, nil
}

// FieldKeys gives the keys of the fields, and of the values of enumerations, that the documents of a text have
// (FieldInfo.Key), as far as the register goes. Documents that cannot be parsed are passed over.
func FieldKeys(text []byte) map[string]bool {
	keys := make(map[string]bool)
	resources, _ := Parse("text", text)
	for i := range resources {
		d := resources[i].doc
		kind := d.kind()
		if kinds[kind].state != kindServed {
			continue
		}
		shape, n := shapeOf(kind), d.tree()
		if kinds[kind].object == nil {
			_, n, _ = d.find(d.body())
		}
		shape.keys(shape.objects[0], n, keys)
	}
	return keys
}

var registeredKinds = []string{
	"VirtualService", "DestinationRule", "ServiceEntry", "WorkloadEntry", "Sidecar", meshConfigKind, "PeerAuthentication", "RateLimit", "ResiliencePolicy",
	"Service", "EndpointSlice", "Pod", "AuthorizationPolicy",
	"RequestAuthentication", "Telemetry",
}
