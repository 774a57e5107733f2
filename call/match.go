package call

import (
	"regexp"
	"strconv"
)

// MatchKind says how a StringMatch compares.
type MatchKind uint8

const (
	MatchPresent MatchKind = iota // any value, the empty one included
	MatchExact
	MatchPrefix // textual: "/foo" matches "/foobar"
	MatchRegex  // RE2, the whole value
)

// A StringMatch is Istio's StringMatch, compiled. The zero value matches any value that is there.
// It is immutable and safe for concurrent use.
type StringMatch struct {
	kind MatchKind
	fold bool
	text string
	re   *regexp.Regexp
}

// Exact matches the one value, byte for byte.
func Exact(s string) StringMatch { return StringMatch{kind: MatchExact, text: s} }

// Prefix matches every value that begins with s.
func Prefix(s string) StringMatch { return StringMatch{kind: MatchPrefix, text: s} }

// Present matches any value.
func Present() StringMatch { return StringMatch{} }

// IgnoringCase gives the matcher that takes ASCII letters of either case as equal. It has no effect on a
// regular expression (HTTPMatchRequest.ignoreUriCase).
func (m StringMatch) IgnoringCase() StringMatch {
	m.fold = m.kind != MatchRegex
	return m
}

// Kind says how the matcher compares.
func (m *StringMatch) Kind() MatchKind { return m.kind }

// Text is what the matcher compares with.
func (m *StringMatch) Text() string { return m.text }

// Folds reports whether the matcher ignores case.
func (m *StringMatch) Folds() bool { return m.fold }

// Match reports whether the value matches. It does not allocate.
func (m *StringMatch) Match(s string) bool {
	switch m.kind {
	case MatchPresent:
		return true
	case MatchExact:
		return s == m.text || m.fold && len(s) == len(m.text) && asciiEqualFold(s, m.text)
	case MatchPrefix:
		return len(s) >= len(m.text) &&
			(s[:len(m.text)] == m.text || m.fold && asciiEqualFold(s[:len(m.text)], m.text))
	default:
		return m.re.MatchString(s)
	}
}

// String gives the matcher as people write it: exact "v", prefix "v", regex "v", present.
func (m *StringMatch) String() string {
	var kind string
	switch m.kind {
	case MatchPresent:
		return "present"
	case MatchExact:
		kind = "exact "
	case MatchPrefix:
		kind = "prefix "
	default:
		kind = "regex "
	}
	s := kind + strconv.Quote(m.text)
	if m.fold {
		s += " ignoring case"
	}
	return s
}

func asciiEqualFold(a, b string) bool {
	for i := range len(a) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}
