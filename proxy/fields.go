package proxy

import (
	"net/textproto"
	"strings"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// wireLimits bound what is read from either side: a request's head as net/http bounds it, and one field more than
// transport.MaxHeaderFields, for Host, which net/http does not count.
func wireLimits() *http1.Limits {
	return &http1.Limits{
		Head:   transport.DefaultMaxHeaderBytes,
		Line:   transport.DefaultMaxHeaderBytes,
		Field:  transport.DefaultMaxHeaderBytes,
		Fields: transport.MaxHeaderFields + 1,
	}
}

// A passage is what goes on of a head's fields: the rules of requestHeader and copyResponseHeader on a head as it
// was read. It is the header that the mesh's rules are shown.
type passage struct {
	f     *http1.Fields
	stays [maxFields / 64]uint64 // bit i: field i does not go on
	alike bool                   // a name is like that of a field that frames (see http1.FramingAlike)
	asked bool                   // by one who is not proved to be of the mesh
	// caller is the one that was proved, and x-forwarded-client-cert his; nil for nobody, or of an answer.
	caller *transport.Caller
}

// maxFields is the most that a passage has room for; the limits of both sides are below it.
const maxFields = 256

// sift decides about every field of f.
func (p *passage) sift(f *http1.Fields) {
	p.f = f
	clear(p.stays[:])
	p.alike = false
	nominates := f.Has(http1.FieldConnection) && nominatesOthers(f)
	for i := range f.Len() {
		id := f.ID(i)
		if id == http1.FieldOther {
			name := f.Name(i)
			if name[0]|0x20 == 'x' && (reservedName(name) || p.asked && transport.Claims(name, false)) || nominates && nominatedField(f, name) {
				p.hold(i)
			} else if http1.FramingAlike(name) {
				p.alike = true
				p.hold(i)
			}
			continue
		}
		if id.HopByHop() || nominates && id == http1.FieldUserAgent && nominatedField(f, "User-Agent") {
			p.hold(i)
		}
	}
}

func (p *passage) hold(i int) { p.stays[i/64] |= 1 << (i % 64) }

// goes reports whether field i goes on.
func (p *passage) goes(i int) bool { return p.stays[i/64]&(1<<(i%64)) == 0 }

// Value implements call.Headers. Host is no field of the header, as in net/http: it is the request's authority.
func (p *passage) Value(n *call.Name, i int) (string, bool) {
	name := n.Lower()
	if p.caller != nil && name == transport.ForwardedCert.Lower() {
		return p.caller.Forwarded, i == 0
	}
	for at := range p.f.Len() {
		if !p.f.Is(at, name) || !p.goes(at) || p.f.ID(at) == http1.FieldHost {
			continue
		}
		if i == 0 {
			return p.f.Value(at), true
		}
		i--
	}
	return "", false
}

// nominatesOthers reports whether Connection names more than what is removed in any case.
func nominatesOthers(f *http1.Fields) bool {
	for i := range f.Len() {
		if f.ID(i) != http1.FieldConnection {
			continue
		}
		for v := f.Value(i); v != ""; {
			var one string
			one, v, _ = strings.Cut(v, ",")
			switch one = strings.Trim(one, " \t"); {
			case one == "", strings.EqualFold(one, "keep-alive"), strings.EqualFold(one, "close"), strings.EqualFold(one, "upgrade"):
			default:
				return true
			}
		}
	}
	return false
}

func nominatedField(f *http1.Fields, name string) bool {
	return f.Lists(http1.FieldConnection, name) && !protected(textproto.CanonicalMIMEHeaderKey(name))
}

// reservedName is reserved for a name in any case.
func reservedName(name string) bool {
	const peer, ours = "x-forwarded-client-cert", "x-heddle-"
	return len(name) == len(peer) && http1.Alike(name, peer) || len(name) >= len(ours) && http1.Alike(name[:len(ours)], ours) ||
		transport.PeerField(name)
}

// lateField reports whether a trailer field goes on.
func lateField(name string) bool { return !forbiddenTrailer(textproto.CanonicalMIMEHeaderKey(name)) }

// announced gives what the Trailer field of f announces and goes on, "" for nothing.
func announced(f *http1.Fields) string {
	if !f.Has(http1.FieldTrailer) {
		return ""
	}
	var list []string
	for i := range f.Len() {
		if f.ID(i) != http1.FieldTrailer {
			continue
		}
		for one := range strings.SplitSeq(f.Value(i), ",") {
			if one = strings.Trim(one, " \t"); one != "" && lateField(one) {
				list = append(list, one)
			}
		}
	}
	return strings.Join(list, ", ")
}

// An editedHeader is a head's fields while a rule changes them: those that go on, but for what frames and routes, which
// no rule can reach.
type editedHeader struct {
	list []editedField
}

type editedField struct{ name, value string }

func (h *editedHeader) take(p *passage) {
	h.list = h.list[:0]
	for i := range p.f.Len() {
		switch p.f.ID(i) {
		case http1.FieldHost, http1.FieldContentLength:
		default:
			if p.goes(i) {
				h.list = append(h.list, editedField{p.f.Name(i), p.f.Value(i)})
			}
		}
	}
}

// reset forgets the strings, whose buffers are used again.
func (h *editedHeader) reset() {
	clear(h.list[:cap(h.list)])
	h.list = h.list[:0]
}

// Value implements call.HeaderEditor, as do Set, Add and Remove.
func (h *editedHeader) Value(n *call.Name, i int) (string, bool) {
	for at := range h.list {
		if !h.is(at, n) {
			continue
		}
		if i == 0 {
			return h.list[at].value, true
		}
		i--
	}
	return "", false
}

// Set puts the value where the first one stood.
func (h *editedHeader) Set(n *call.Name, value string) {
	kept, set := h.list[:0], false
	for at := range h.list {
		switch {
		case !h.is(at, n):
			kept = append(kept, h.list[at])
		case !set:
			set = true
			kept = append(kept, editedField{n.Canonical(), value})
		}
	}
	h.list = kept
	if !set {
		h.Add(n, value)
	}
}

// Add appends a value. Of User-Agents there is one: they are joined, as Envoy joins them.
func (h *editedHeader) Add(n *call.Name, value string) {
	if n.Canonical() == "User-Agent" {
		if first, ok := h.Value(n, 0); ok {
			h.Remove(n)
			value = first + "," + value
		}
	}
	h.list = append(h.list, editedField{n.Canonical(), value})
}

// Remove takes all values out.
func (h *editedHeader) Remove(n *call.Name) {
	kept := h.list[:0]
	for at := range h.list {
		if !h.is(at, n) {
			kept = append(kept, h.list[at])
		}
	}
	h.list = kept
}

func (h *editedHeader) is(i int, n *call.Name) bool {
	name := h.list[i].name
	return len(name) == len(n.Lower()) && strings.EqualFold(name, n.Lower())
}

// write adds the fields to a head. What a rule would have to do with framing or the connection is left out.
func (h *editedHeader) write(w *http1.Writer) {
	for i := range h.list {
		f := &h.list[i]
		if key := textproto.CanonicalMIMEHeaderKey(f.name); key == "Content-Length" || key == "Host" || hopByHop(key) {
			continue
		}
		w.Field(f.name, f.value)
	}
}
