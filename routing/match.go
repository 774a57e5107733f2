package routing

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// PathKind says how a match reads the path.
type PathKind uint8

const (
	PathAny     PathKind = iota
	PathExact            // the whole path
	PathPrefix           // textual: "/foo" takes "/foobar" (Istio)
	PathSegment          // by segment: "/foo" takes "/foo" and "/foo/bar" only (Gateway API, Ingress)
	PathRegex            // RE2 over the whole path
)

// A Match is one entry of a rule's match list: all its fields must hold (Istio's HTTPMatchRequest). What
// is about the calling workload — source labels and namespace, gateways, the port — has been decided when
// the table was compiled for that workload and is not here.
type Match struct {
	// Name makes the route's name "route.match" for what this match takes (HTTPMatchRequest.name).
	Name      string
	PathKind  PathKind
	Path      call.StringMatch // for PathSegment a prefix matcher
	Scheme    *call.StringMatch
	Method    *call.StringMatch
	Authority *call.StringMatch
	Headers   []HeaderMatch
	Query     []QueryMatch

	full string // the route's name with this match's, made when the table is
}

// A HeaderMatch is a condition on one header field. Several fields of one name are read as one value
// joined by commas, as Envoy's route matching does.
type HeaderMatch struct {
	Name   *call.Name
	Value  call.StringMatch
	Invert bool // withoutHeaders: a field that is missing passes
}

// A QueryMatch is a condition on the first value of one query parameter, as it is spelled: escapes are not
// decoded (Envoy's QueryParameterMatcher over parseQueryString).
type QueryMatch struct {
	Name  string
	Value call.StringMatch
}

// Takes reports whether the request satisfies all conditions.
func (m *Match) Takes(q *call.Request) bool { return m.pathMatches(q.Path) && m.restMatches(q) }

// pathMatches reports whether the path satisfies the match's path condition.
func (m *Match) pathMatches(path string) bool {
	switch m.PathKind {
	case PathAny:
		return true
	case PathSegment:
		return segmentPrefix(path, m.Path.Text())
	default:
		return m.Path.Match(path)
	}
}

// segmentPrefix: a trailing slash of the prefix does not count (Gateway API HTTPPathMatch PathPrefix).
func segmentPrefix(path, prefix string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// restMatches decides everything but the path.
func (m *Match) restMatches(q *call.Request) bool {
	if m.Method != nil && !m.Method.Match(q.Method) ||
		m.Scheme != nil && !m.Scheme.Match(q.Scheme) ||
		m.Authority != nil && !m.Authority.Match(q.Authority) {
		return false
	}
	for i := range m.Headers {
		if !m.Headers[i].matches(q) {
			return false
		}
	}
	for i := range m.Query {
		if !m.Query[i].matches(q) {
			return false
		}
	}
	return true
}

func (h *HeaderMatch) matches(q *call.Request) bool {
	v, ok := headerValue(q, h.Name)
	if !ok {
		return h.Invert
	}
	return h.Value.Match(v) != h.Invert
}

// headerValue gives the field's value; it allocates only where the field is there several times.
func headerValue(q *call.Request, name *call.Name) (string, bool) {
	switch h := q.Headers.(type) {
	case nil:
		return "", false
	case call.HTTPHeaders: // one look-up in place of two
		switch v := h[name.Canonical()]; len(v) {
		case 0:
			return "", false
		case 1:
			return v[0], true
		}
	}
	v, ok := q.Headers.Value(name, 0)
	if !ok {
		return "", false
	}
	more, ok := q.Headers.Value(name, 1)
	if !ok {
		return v, true
	}
	var b strings.Builder
	b.WriteString(v)
	for i := 2; ok; i++ {
		b.WriteByte(',')
		b.WriteString(more)
		more, ok = q.Headers.Value(name, i)
	}
	return b.String(), true
}

func (p *QueryMatch) matches(q *call.Request) bool {
	v, ok := QueryValue(q.Query, p.Name)
	return ok && p.Value.Match(v)
}

// QueryValue finds the first parameter of the name, as it is spelled.
func QueryValue(query, name string) (string, bool) {
	for query != "" {
		pair, rest := query, ""
		if i := strings.IndexByte(query, '&'); i >= 0 {
			pair, rest = query[:i], query[i+1:]
		}
		if len(pair) >= len(name) && pair[:len(name)] == name {
			if key, value, _ := strings.Cut(pair, "="); key == name {
				return value, true
			}
		}
		query = rest
	}
	return "", false
}

// why says which condition the request fails, "" where it passes all. It is for people: it allocates.
func (m *Match) why(q *call.Request) string {
	if !m.pathMatches(q.Path) {
		return fmt.Sprintf("path %s is not %s", strconv.Quote(q.Path), m.pathString())
	}
	for _, c := range [...]struct {
		what, got string
		m         *call.StringMatch
	}{{"method", q.Method, m.Method}, {"scheme", q.Scheme, m.Scheme}, {"authority", q.Authority, m.Authority}} {
		if c.m != nil && !c.m.Match(c.got) {
			return fmt.Sprintf("%s %s is not %s", c.what, strconv.Quote(c.got), c.m)
		}
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		if h.matches(q) {
			continue
		}
		v, ok := headerValue(q, h.Name)
		switch {
		case h.Invert:
			return fmt.Sprintf("header %s: %s is %s, which the rule excludes", h.Name, strconv.Quote(v), &h.Value)
		case !ok:
			return fmt.Sprintf("header %s is missing, the rule wants %s", h.Name, &h.Value)
		}
		return fmt.Sprintf("header %s: %s is not %s", h.Name, strconv.Quote(v), &h.Value)
	}
	for i := range m.Query {
		p := &m.Query[i]
		if p.matches(q) {
			continue
		}
		v, ok := QueryValue(q.Query, p.Name)
		if !ok {
			return fmt.Sprintf("query parameter %s is missing, the rule wants %s", call.Printable(p.Name), &p.Value)
		}
		return fmt.Sprintf("query parameter %s=%s is not %s", call.Printable(p.Name), strconv.Quote(v), &p.Value)
	}
	return ""
}

func (m *Match) pathString() string {
	if m.PathKind == PathSegment {
		return "segment prefix " + strconv.Quote(m.Path.Text())
	}
	return m.Path.String()
}

// String lists the conditions as people write them.
func (m *Match) String() string {
	var c []string
	if m.PathKind != PathAny {
		c = append(c, "path "+m.pathString())
	}
	if m.Method != nil {
		c = append(c, "method "+m.Method.String())
	}
	if m.Scheme != nil {
		c = append(c, "scheme "+m.Scheme.String())
	}
	if m.Authority != nil {
		c = append(c, "authority "+m.Authority.String())
	}
	for i := range m.Headers {
		not := ""
		if m.Headers[i].Invert {
			not = "not "
		}
		c = append(c, "header "+m.Headers[i].Name.Lower()+" "+not+m.Headers[i].Value.String())
	}
	for i := range m.Query {
		c = append(c, "query "+call.Printable(m.Query[i].Name)+" "+m.Query[i].Value.String())
	}
	if len(c) == 0 {
		return "any request"
	}
	return strings.Join(c, ", ")
}
