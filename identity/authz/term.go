package authz

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/heddlemesh/mesh/call"
)

// A look is what comparing an attribute with a list comes to.
type look struct {
	unknown bool // nothing is known of the attribute: it could be anything
	there   bool // it has a value
	some    bool // one reading of it is in the list
	every   bool // every reading is
}

// holds reports whether the attribute is as the term asks. Of a rule that restricts a term holds where it possibly does,
// of one that grants where it certainly does.
func (t *term) holds(q *Request, restricts bool) bool {
	if t.is != nil {
		l := t.look(q, t.is)
		switch {
		case l.unknown && (!restricts || t.is.present): // that something is there can be told of what is not
			return false
		case restricts && !l.some && !l.unknown, !restricts && !(l.there && l.every):
			return false
		}
	}
	if t.not != nil {
		l := t.look(q, t.not)
		switch {
		case restricts:
			return !(l.there && l.every)
		case t.not.present:
			return !l.some
		default:
			return l.there && !l.some
		}
	}
	return true
}

func (t *term) look(q *Request, v *values) look {
	switch t.attribute {
	case Path:
		return q.lookPath(v)
	case Host:
		return q.lookHost(v)
	case Method:
		return text(q.Method, v)
	case Port:
		if q.Local.Port() == 0 {
			return look{unknown: true}
		}
		return plain(v.hasPort(q.Local.Port()))
	case SourceIP:
		return address(q.Source, v)
	case DestinationIP:
		return address(q.Local.Addr(), v)
	case RemoteIP:
		return q.lookRemote(v)
	case Header:
		return q.lookHeader(t.header, v)
	case SNI:
		return known(q.SNI, v)
	case Principal, Namespace, ServiceAccount, TrustDomain:
		return known(q.Peer.text(t.attribute), v)
	case Audiences, Claim:
		return q.lookClaim(t, v)
	default:
		return q.lookToken(t.attribute, v)
	}
}

func plain(in bool) look { return look{there: true, some: in, every: in} }

// text looks at a value that every request has.
func text(s string, v *values) look { return plain(v.match(s)) }

// known looks at a value that is unknown where it is empty.
func known(s string, v *values) look {
	if s == "" {
		return look{unknown: true}
	}
	return text(s, v)
}

func address(a netip.Addr, v *values) look {
	if !a.IsValid() {
		return look{unknown: true}
	}
	return plain(v.contains(a.Unmap().WithZone("")))
}

func (p *Peer) text(a Attribute) string {
	switch a {
	case Principal:
		return p.Principal
	case Namespace:
		return p.Namespace
	case ServiceAccount:
		return p.ServiceAccount
	}
	return p.TrustDomain
}

func (q *Request) lookPath(v *values) look {
	l := look{there: true, every: true}
	for i, s := range q.paths[:q.spelt] {
		in := v.match(s) || i > 0 && v.spelt != nil && v.spelt.match(s)
		l.some = l.some || in
		l.every = l.every && in
	}
	return l
}

// lookHost takes the forms of a host for one: they name the same.
func (q *Request) lookHost(v *values) look {
	if q.hosted == 0 {
		return look{unknown: true}
	}
	for _, s := range q.hosts[:q.hosted] {
		if v.match(s) {
			return plain(true)
		}
	}
	return plain(false)
}

// lookHeader reads the values of a field one by one, and with them the elements of lists, which some programs make of
// one value and some of several (RFC 9110 §5.3), without the space around them, which HTTP/2 lets through.
func (q *Request) lookHeader(n *call.Name, v *values) look {
	l := look{every: true}
	for i := 0; ; i++ {
		s, ok := q.Headers.Value(n, i)
		if !ok {
			break
		}
		l.there = l.there || s != ""
		in := v.match(s)
		l.every = l.every && in
		l.some = l.some || in || !utf8.ValidString(s) || elementIn(s, v)
	}
	l.every = l.every && l.there
	return l
}

func elementIn(s string, v *values) bool {
	for rest := s; rest != ""; {
		var one string
		one, rest, _ = strings.Cut(rest, ",")
		if one = strings.TrimSpace(one); len(one) < len(s) && v.match(one) {
			return true
		}
	}
	return false
}

// lookRemote compares the client's address. Where nobody is believed that is the address at the other end, for that is all
// that is certain, and each address that x-forwarded-for has may be the client's.
func (q *Request) lookRemote(v *values) look {
	if q.Hops > 0 {
		if _, ok := q.Headers.Value(forwardedFor, 0); !ok {
			return address(q.remote(), v)
		}
		return address(q.client(), v)
	}
	l := address(q.remote(), v)
	for one := range q.forwarded {
		a, err := netip.ParseAddr(one)
		in := err == nil && v.contains(a.Unmap().WithZone(""))
		l.some = l.some || in
		l.every = l.every && in
	}
	return l
}

func (q *Request) remote() netip.Addr {
	if q.Remote.IsValid() {
		return q.Remote
	}
	return q.Source
}

// client is the address that the first of the proxies that are believed was asked from, invalid where they do not say.
func (q *Request) client() netip.Addr {
	n := 0
	for range q.forwarded {
		n++
	}
	n -= q.Hops
	for one := range q.forwarded {
		if n == 0 {
			a, _ := netip.ParseAddr(one)
			return a
		}
		n--
	}
	return netip.Addr{}
}

// forwarded lists what x-forwarded-for has, from the client's side.
func (q *Request) forwarded(yield func(string) bool) {
	for i := 0; ; i++ {
		s, ok := q.Headers.Value(forwardedFor, i)
		if !ok {
			return
		}
		for s != "" {
			var one string
			one, s, _ = strings.Cut(s, ",")
			if one = strings.Trim(one, " \t"); one != "" && !yield(one) {
				return
			}
		}
	}
}

func (q *Request) lookToken(a Attribute, v *values) look {
	switch {
	case q.Token == nil:
		return look{unknown: true}
	case a == RequestPrincipal:
		return known(q.Token.Principal(), v)
	}
	return listed([]string(nil), q.Token.Presenter(), v)
}

func (q *Request) lookClaim(t *term, v *values) look {
	if q.Token == nil {
		return look{unknown: true}
	}
	if t.attribute == Audiences {
		return listed(q.Token.Audiences(), "", v)
	}
	list, _ := q.Token.Claim(t.keys)
	return listed(list, "", v)
}

// listed looks at what a verified token says: it has each value of a list, and what it does not say it has not.
func listed(list []string, alone string, v *values) look {
	l := look{there: len(list) > 0 || alone != ""}
	in := alone != "" && v.match(alone)
	for _, s := range list {
		in = in || v.match(s)
	}
	l.some, l.every = in, in
	return l
}
