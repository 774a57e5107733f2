package accesslog

import (
	"maps"
	"slices"
)

// WithoutEmpty gives the format that writes nothing in the place of what is not there, where others have "-", and of JSON leaves out
// keys with null, and objects and lists that nothing is left of (config/core/v3 SubstitutionFormatString omit_empty_values).
func (f *Format) WithoutEmpty() *Format {
	g := *f
	g.omits = true
	if f.object != nil {
		g.top = memberOf(f.object)
	}
	return &g
}

// A member is a value of a format of JSON: one by itself, or what has members.
type member struct {
	key     []byte  // with its colon, nil for none
	leaf    *Format // nil for what has members
	brace   [2]byte
	members []member
}

// memberOf makes it of a value that a format was made of.
func memberOf(v any) *member {
	n := new(member)
	switch v := v.(type) {
	case map[string]any:
		n.brace = [2]byte{'{', '}'}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			m := memberOf(v[key])
			m.key = append(appendJSON([]byte{'"'}, key), '"', ':')
			n.members = append(n.members, *m)
		}
	case []any:
		n.brace = [2]byte{'[', ']'}
		for _, one := range v {
			n.members = append(n.members, *memberOf(one))
		}
	default:
		n.leaf = &Format{omits: true}
		_ = n.leaf.json(v, 0) // it was read before
	}
	return n
}

// append appends the value, unless there is none.
func (n *member) append(b []byte, e *Entry) (_ []byte, some bool) {
	before := len(b)
	b = append(b, n.key...)
	if n.leaf != nil {
		if p := n.leaf.parts; len(p) == 1 && p[0].literal == nil && p[0].as == jsonValue {
			v := p[0].op.of(e)
			if v.kind == nothing {
				return b[:before], false
			}
			return v.appendJSON(b), true
		}
		return n.leaf.Append(b, e), true
	}
	b = append(b, n.brace[0])
	for i := range n.members {
		at := len(b)
		if some {
			b = append(b, ',')
		}
		var there bool
		if b, there = n.members[i].append(b, e); there {
			some = true
		} else {
			b = b[:at]
		}
	}
	if !some {
		return b[:before], false
	}
	return append(b, n.brace[1]), true
}
