package routing

import "github.com/heddlemesh/mesh/call"

// HeaderOps is what happens to the header of a message, in Envoy's order: fields are removed, then all values are
// made, then fields are set, then added to (Headers.HeaderOperations; Envoy, HeaderParser::evaluateHeaders). It is
// immutable.
type HeaderOps struct {
	Remove []*call.Name
	Edits  []HeaderEdit
	// Then is what follows on the header that these have left, nil for nothing.
	Then *HeaderOps
}

// A HeaderEdit sets a field or adds a value to it. A value that comes to nothing, as when the header that
// it copies is missing, leaves the field alone.
type HeaderEdit struct {
	Name  *call.Name
	Value call.Template
	Add   bool // beside the values there are; otherwise in their place
}

// Empty reports whether there is nothing to do.
func (o *HeaderOps) Empty() bool {
	return o == nil || len(o.Remove) == 0 && len(o.Edits) == 0 && o.Then.Empty()
}

// Apply edits a header. Where v shows that header to templates, they see it after the removals and before the rest:
// what is removed cannot be copied, and no value depends on another one.
func (o *HeaderOps) Apply(h call.HeaderEditor, v *call.Values) {
	for ; o != nil; o = o.Then {
		o.apply(h, v)
	}
}

func (o *HeaderOps) apply(h call.HeaderEditor, v *call.Values) {
	for _, n := range o.Remove {
		h.Remove(n)
	}
	var few [8]string
	values := few[:0]
	for i := range o.Edits {
		values = append(values, o.Edits[i].Value.Text(v))
	}
	for _, adding := range [...]bool{false, true} {
		for i := range o.Edits {
			switch e := &o.Edits[i]; {
			case e.Add != adding || values[i] == "":
			case adding:
				h.Add(e.Name, values[i])
			default:
				h.Set(e.Name, values[i])
			}
		}
	}
}
