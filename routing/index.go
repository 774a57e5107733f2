package routing

import (
	"bytes"
	"math"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// An index finds the first rule that takes a request without trying them in order. Each match stands in
// one place: by exact path, in a trie by path prefix, by the exact value of a header, or in the rest.
// A look-up tries the matches that these places offer, at most those before the best found so far.
type index struct {
	exact   map[string][]entry
	prefix  node
	headers []headerIndex
	rest    []entry
}

type entry struct {
	order int32  // place in the rule list: the lowest wins
	match *Match // nil takes everything
	route *Route
}

type headerIndex struct {
	name   *call.Name
	values map[string][]entry
}

func newIndex(routes []*Route) *index {
	x := &index{exact: make(map[string][]entry)}
	order := int32(0)
	add := func(m *Match, r *Route) {
		x.add(entry{order: order, match: m, route: r})
		order++
	}
	for _, r := range routes {
		if len(r.Matches) == 0 {
			add(nil, r)
		}
		for i := range r.Matches {
			m := &r.Matches[i]
			m.full = r.Name
			if m.Name != "" {
				m.full += "." + m.Name
			}
			add(m, r)
		}
	}
	return x
}

func (x *index) add(e entry) {
	m := e.match
	if m == nil {
		x.rest = append(x.rest, e)
		return
	}
	if !m.Path.Folds() {
		switch m.PathKind {
		case PathExact:
			x.exact[m.Path.Text()] = append(x.exact[m.Path.Text()], e)
			return
		case PathPrefix:
			x.prefix.add(m.Path.Text(), e)
			return
		case PathSegment:
			// The boundary is checked when the match is tried.
			x.prefix.add(strings.TrimSuffix(m.Path.Text(), "/"), e)
			return
		}
	}
	for i := range m.Headers {
		if h := &m.Headers[i]; !h.Invert && h.Value.Kind() == call.MatchExact && !h.Value.Folds() {
			x.addHeader(h, e)
			return
		}
	}
	x.rest = append(x.rest, e)
}

func (x *index) addHeader(h *HeaderMatch, e entry) {
	value := h.Value.Text()
	for i := range x.headers {
		if x.headers[i].name.Lower() == h.Name.Lower() {
			x.headers[i].values[value] = append(x.headers[i].values[value], e)
			return
		}
	}
	x.headers = append(x.headers, headerIndex{h.Name, map[string][]entry{value: {e}}})
}

// find gives the first entry in list order that takes the request, nil where none does.
func (x *index) find(q *call.Request) *entry {
	best := first(x.exact[q.Path], q, math.MaxInt32, nil, false)
	best = x.prefix.find(q, best)
	for i := range x.headers {
		if v, ok := headerValue(q, x.headers[i].name); ok {
			best = first(x.headers[i].values[v], q, limit(best), best, true)
		}
	}
	return first(x.rest, q, limit(best), best, true)
}

func limit(best *entry) int32 {
	if best == nil {
		return math.MaxInt32
	}
	return best.order
}

// first tries the entries, which stand in list order, up to the place of the best one known.
func first(list []entry, q *call.Request, limit int32, best *entry, checkPath bool) *entry {
	for i := range list {
		e := &list[i]
		if e.order >= limit {
			break
		}
		if m := e.match; m == nil ||
			(!checkPath && m.PathKind != PathSegment || m.pathMatches(q.Path)) && m.restMatches(q) {
			return e
		}
	}
	return best
}

// A node of the prefix trie: the entries whose prefix ends here, and the ways on, by their first byte.
type node struct {
	entries  []entry
	keys     []byte
	labels   []string
	children []*node
}

func (n *node) add(prefix string, e entry) {
	for prefix != "" {
		i := bytes.IndexByte(n.keys, prefix[0])
		if i < 0 {
			child := &node{}
			n.keys = append(n.keys, prefix[0])
			n.labels = append(n.labels, prefix)
			n.children = append(n.children, child)
			n, prefix = child, ""
			break
		}
		common := commonPrefix(prefix, n.labels[i])
		if common < len(n.labels[i]) { // split the way
			rest := n.labels[i][common:]
			n.children[i] = &node{keys: []byte{rest[0]}, labels: []string{rest}, children: []*node{n.children[i]}}
			n.labels[i] = n.labels[i][:common]
		}
		n, prefix = n.children[i], prefix[common:]
	}
	n.entries = append(n.entries, e)
}

func (n *node) find(q *call.Request, best *entry) *entry {
	path := q.Path
	for {
		best = first(n.entries, q, limit(best), best, false)
		if path == "" {
			return best
		}
		i := bytes.IndexByte(n.keys, path[0])
		if i < 0 || len(path) < len(n.labels[i]) || path[:len(n.labels[i])] != n.labels[i] {
			return best
		}
		path = path[len(n.labels[i]):]
		n = n.children[i]
	}
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
