package routing

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// A Rewrite changes path and authority on the way to the endpoint (HTTPRewrite). The query stays.
type Rewrite struct {
	// Path takes the place of what the match took: the prefix, or the whole path where the match was exact or
	// by expression. A rule without a condition on the path has matched the prefix "/". "" keeps the path.
	Path string
	// Regex, where there is one, takes the place of Path: each part of the path that it finds is replaced by
	// Substitution, in which \0 to \9 stand for its groups (HTTPRewrite.uriRegexRewrite).
	Regex        *regexp.Regexp
	Substitution Substitution
	// Authority is the new Host header or :authority, "" for the old one.
	Authority string
}

// PathOf gives the path of a request that m took, nil for a rule without matches. It begins with a slash: what an
// expression leaves without gets one, so that it cannot be read as another host's (RFC 9112 §3.2). It reports false for
// a path that has no safe spelling: "/a../b" with "/x/" for "/a" leads out of "/x/", and what cuts an escape in two makes
// another of it.
func (w *Rewrite) PathOf(q *call.Request, m *Match) (rewritten string, safe bool) {
	path := q.Path
	switch {
	case w == nil:
		return path, true
	case w.Regex != nil:
		rewritten = w.Substitution.replaceAll(w.Regex, path)
		if !strings.HasPrefix(rewritten, "/") {
			rewritten = "/" + rewritten
		}
	case w.Path != "":
		front, rest := replaceMatched(path, m, w.Path)
		rewritten = q.Room.Join(front, rest)
	default:
		return path, true
	}
	return rewritten, sound(rewritten)
}

// sound reports a path, perhaps with a query, that has a safe spelling and no dot segment, encoded ones included.
func sound(path string) bool {
	path, _, _ = strings.Cut(path, "?")
	if _, ok := call.CanonicalPath(path); !ok {
		return false
	}
	for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		switch strings.ReplaceAll(strings.ToLower(segment), "%2e", ".") {
		case ".", "..":
			return false
		}
	}
	return true
}

// replaceMatched puts text in the place of what the match took of the path: the new path is front and rest.
func replaceMatched(path string, m *Match, text string) (front, rest string) {
	taken := 1 // the "/" of a match on nothing
	if m != nil {
		switch m.PathKind {
		case PathExact, PathRegex:
			taken = len(path)
		case PathPrefix:
			taken = len(m.Path.Text())
		case PathSegment:
			// Gateway API, ReplacePrefixMatch: slashes between the two come to one.
			rest = path[len(strings.TrimSuffix(m.Path.Text(), "/")):]
			if front = strings.TrimSuffix(text, "/"); front+rest == "" {
				return "/", ""
			}
			return front, rest
		}
	}
	return text, path[min(taken, len(path)):]
}

// A Substitution is the right side of an RE2 rewrite: text in which \0 to \9 stand for groups, \\ for a
// backslash.
type Substitution struct {
	parts []substitutionPart
}

type substitutionPart struct {
	text  string
	group int // -1 for text
}

// ParseSubstitution reads it. A backslash before anything else stands for itself.
func ParseSubstitution(s string) Substitution {
	var out Substitution
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			out.parts = append(out.parts, substitutionPart{text.String(), -1})
			text.Reset()
		}
	}
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			switch c := s[i+1]; {
			case c >= '0' && c <= '9':
				flush()
				out.parts = append(out.parts, substitutionPart{group: int(c - '0')})
				i++
				continue
			case c == '\\':
				i++
			}
		}
		text.WriteByte(s[i])
	}
	flush()
	return out
}

// replaceAll is RE2::GlobalReplace, which Envoy's regex_rewrite is.
func (s Substitution) replaceAll(re *regexp.Regexp, path string) string {
	found := re.FindAllStringSubmatchIndex(path, -1)
	if found == nil {
		return path
	}
	var b strings.Builder
	at := 0
	for _, m := range found {
		b.WriteString(path[at:m[0]])
		for _, p := range s.parts {
			switch {
			case p.group < 0:
				b.WriteString(p.text)
			case 2*p.group+1 < len(m) && m[2*p.group] >= 0:
				b.WriteString(path[m[2*p.group]:m[2*p.group+1]])
			}
		}
		at = m[1]
	}
	b.WriteString(path[at:])
	return b.String()
}

// A Redirect is answered without asking anybody (HTTPRedirect; Envoy, RedirectAction).
type Redirect struct {
	Code      int    // 301, 302, 303, 307 or 308
	Path      string // the whole new path, "" to keep it; a query in it takes the place of the request's, a fragment stays last
	Prefix    string // takes the place of what the match took, "" for nothing
	Authority string // "" keeps the request's, with its port
	Scheme    string // "" keeps the request's
	Port      uint16 // 0 for none of its own
}

// Location gives the Location header of the answer to q, which m took.
func (r *Redirect) Location(q *call.Request, m *Match) string {
	scheme := r.Scheme
	if scheme == "" {
		scheme = q.Scheme
	}
	path, rest, query, fragment := q.Path, "", q.Query, ""
	switch {
	case r.Path != "":
		path = r.Path
		if i := strings.IndexByte(path, '#'); i >= 0 {
			path, fragment = path[:i], path[i:]
		}
		if strings.Contains(path, "?") {
			query = ""
		}
	case r.Prefix != "":
		path, rest = replaceMatched(path, m, r.Prefix)
	}
	host, port := r.authority(q, scheme)
	mark := ""
	if query != "" {
		mark = "?"
	}
	return q.Room.Join(scheme, "://", host, port, path, rest, mark, query, fragment)
}

// authority is Envoy's: a new host stands without port, the request's keeps its own unless it was the
// default of a scheme that changes.
func (r *Redirect) authority(q *call.Request, scheme string) (host, port string) {
	host = r.Authority
	if host == "" {
		host = q.Authority
		if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
			host, port = host[:i], host[i:]
		}
		if scheme != q.Scheme && port == defaultPort(q.Scheme) {
			port = ""
		}
	}
	if r.Port != 0 {
		port = ":" + strconv.Itoa(int(r.Port))
		if port == defaultPort(scheme) {
			port = ""
		}
	}
	return host, port
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return ":443"
	}
	return ":80"
}

// A DirectResponse is answered without asking anybody (HTTPDirectResponse).
type DirectResponse struct {
	Status int
	Body   []byte
}
