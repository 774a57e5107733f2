package jwt

import (
	"net/url"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// Place is which part of a request a token stands in.
type Place uint8

const (
	InHeader Place = iota
	InQuery
	InCookie
)

// A Location is where tokens stand.
type Location struct {
	Place  Place
	Field  *call.Name // InHeader
	Prefix string     // of the value, InHeader: "Bearer "
	Name   string     // of the parameter or cookie
}

// Authorization is the field of credentials.
var Authorization = call.NewName("authorization")

var cookieField = call.NewName("cookie")

const bearer = "Bearer "

func defaultLocations() []Location {
	return []Location{{Place: InHeader, Field: Authorization, Prefix: bearer}, {Place: InQuery, Name: "access_token"}}
}

// A Request is the parts of a request that tokens stand in.
type Request struct {
	Headers call.Headers
	Query   string // raw
}

// only gives the one token of a request, "" where it has none.
func (s *Set) only(q *Request) (string, error) {
	token := ""
	for i := range s.rules {
		for k := range s.rules[i].From {
			at := &s.rules[i].From[k]
			for n := 0; ; n++ {
				text, ok := at.value(q, n)
				if !ok {
					break
				}
				switch {
				case text == "" || strings.IndexByte(text, ' ') >= 0 || strings.IndexByte(text, ',') >= 0:
					return "", NotCompact
				case token == "":
					token = text
				case token != text || n > 0:
					return "", Ambiguous
				}
			}
			if at.mixed(q) {
				return "", Ambiguous
			}
		}
	}
	return token, nil
}

// stands gives the location of the rule at which the token is, nil for none.
func (r *Rule) stands(q *Request, token string) *Location {
	for i := range r.From {
		if text, ok := r.From[i].value(q, 0); ok && text == token {
			return &r.From[i]
		}
	}
	return nil
}

// mixed reports a header of credentials that is there twice, whatever the two are.
func (l *Location) mixed(q *Request) bool {
	if l.Place != InHeader || l.Field.Lower() != Authorization.Lower() {
		return false
	}
	_, twice := q.Headers.Value(l.Field, 1)
	return twice
}

// value gives the n-th token at the location.
func (l *Location) value(q *Request, n int) (string, bool) {
	switch l.Place {
	case InQuery:
		return pairs(q.Query, "&", n, func(key string) bool { return unescaped(key) == l.Name }, unescaped)
	case InCookie:
		for i := 0; ; i++ {
			line, ok := q.Headers.Value(cookieField, i)
			if !ok {
				return "", false
			}
			count := 0
			for ; ; count++ {
				v, ok := pairs(line, ";", count, func(key string) bool { return strings.TrimSpace(key) == l.Name }, strings.TrimSpace)
				if !ok {
					break
				}
				if n == count {
					return v, true
				}
			}
			n -= count
		}
	}
	for i := 0; ; i++ {
		v, ok := q.Headers.Value(l.Field, i)
		if !ok {
			return "", false
		}
		if text, ok := l.cut(v); ok {
			if n == 0 {
				return text, true
			}
			n--
		}
	}
}

// cut takes the prefix off. The scheme of Authorization is told without regard to case (RFC 9110 §11.1).
func (l *Location) cut(v string) (string, bool) {
	if l.Prefix == bearer && len(v) >= len(bearer) && strings.EqualFold(v[:len(bearer)], bearer) {
		return v[len(bearer):], true
	}
	return strings.CutPrefix(v, l.Prefix)
}

func unescaped(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// pairs finds the n-th key=value whose key is the one.
func pairs(s, separator string, n int, is func(key string) bool, value func(string) string) (string, bool) {
	for s != "" {
		var one string
		one, s, _ = strings.Cut(s, separator)
		key, v, _ := strings.Cut(one, "=")
		if !is(key) {
			continue
		}
		if n == 0 {
			return value(v), true
		}
		n--
	}
	return "", false
}

// Without gives the text of pairs without those of the location: a query, or a line of cookies.
func (l *Location) Without(s string) string {
	separator, key := "&", unescaped
	if l.Place == InCookie {
		separator, key = ";", strings.TrimSpace
	}
	var kept []string
	for one := range strings.SplitSeq(s, separator) {
		if name, _, _ := strings.Cut(one, "="); key(name) != l.Name {
			kept = append(kept, one)
		}
	}
	return strings.TrimSpace(strings.Join(kept, separator))
}
