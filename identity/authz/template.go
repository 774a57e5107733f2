package authz

import (
	"errors"
	"strings"
)

// A template is a path with operators in the place of whole segments: {*} for one segment, {**} for any number of
// them, none too, as the last operator (Envoy, extensions.path.match.uri_template).
type template struct {
	prefix   string   // up to the first operator
	segments []string // between the slashes after that, "{*}" and "{**}" among them
	whole    string
}

const anySegment, anyRest = "{*}", "{**}"

func isTemplate(s string) bool {
	return strings.Contains(s, anySegment) || strings.Contains(s, anyRest)
}

// CheckTemplate says what is wrong with a path that has {*} or {**} in it, nil for nothing or for a path that is no
// template.
func CheckTemplate(path string) error {
	if !isTemplate(path) {
		return nil
	}
	_, err := parseTemplate(path)
	return err
}

func parseTemplate(s string) (template, error) {
	t := template{whole: s}
	if !strings.HasPrefix(s, "/") {
		return t, errors.New("a path template begins with a slash")
	}
	last := false
	for segment := range strings.SplitSeq(s[1:], "/") {
		operator := segment == anySegment || segment == anyRest
		switch {
		case !operator && strings.ContainsAny(segment, "*{}"):
			return t, errors.New("{*} and {**} stand for whole segments, and beside them a template has no '*', '{' or '}'")
		case operator && last:
			return t, errors.New("{**} is the last operator of a template")
		}
		last = last || segment == anyRest
		t.segments = append(t.segments, segment)
	}
	t.prefix = s[:strings.Index(s, "{")]
	return t, nil
}

// match reports whether the whole path is like the template.
func (t *template) match(path string) bool {
	if !strings.HasPrefix(path, t.prefix) {
		return false
	}
	rest := path[1:]
	for i, segment := range t.segments {
		if segment == anyRest { // what follows is literal: the path ends with it
			tail := t.whole[strings.Index(t.whole, anyRest)+len(anyRest):]
			return strings.HasSuffix(rest, tail)
		}
		end := strings.IndexByte(rest, '/')
		final := i == len(t.segments)-1
		switch {
		case final != (end < 0):
			return false
		case final:
			end = len(rest)
		}
		if segment == anySegment && end == 0 || segment != anySegment && rest[:end] != segment {
			return false
		}
		if !final {
			rest = rest[end+1:]
		}
	}
	return true
}
