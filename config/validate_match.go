package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/call"
)

// httpMatch checks one HTTPMatchRequest.
func (v *validation) httpMatch(p fieldPath, m *networking.HTTPMatchRequest) {
	if m.GetUri() != nil {
		v.uri(p.at("uri"), m.GetUri())
	}
	v.stringMatch(p.at("scheme"), m.GetScheme())
	v.stringMatch(p.at("method"), m.GetMethod())
	v.stringMatch(p.at("authority"), m.GetAuthority())
	v.headerMatches(p.at("headers"), m.GetHeaders())
	v.headerMatches(p.at("withoutHeaders"), m.GetWithoutHeaders())
	for _, name := range sortedKeys(m.GetQueryParams()) {
		if name == "" {
			v.refuseKey(p.at("queryParams", name), "is no query parameter", "name one")
		}
		v.fieldMatch(p.at("queryParams", name), m.GetQueryParams()[name])
	}
	if m.GetPort() != 0 {
		v.port(p.at("port"), m.GetPort())
	}
	v.labels(p.at("sourceLabels"), m.GetSourceLabels())
	if m.GetSourceNamespace() != "" {
		v.namespace(p.at("sourceNamespace"), m.GetSourceNamespace())
	}
	v.gateways(p.at("gateways"), m.GetGateways())
	if m.GetStatPrefix() != "" {
		v.unenforced(p.at("statPrefix"), "statPrefix")
	}
}

// uri is matched with the path alone, which begins with a slash and has no query.
func (v *validation) uri(p fieldPath, m *networking.StringMatch) {
	v.stringMatch(p, m)
	kind, text := "", ""
	switch t := m.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		kind, text = "exact", t.Exact
	case *networking.StringMatch_Prefix:
		if kind, text = "prefix", t.Prefix; text == "" {
			return // stringMatch has said so
		}
	default:
		return
	}
	switch {
	case !strings.HasPrefix(text, "/") && !(kind == "exact" && text == "*"): // OPTIONS *
		v.doubt(p.at(kind), quoted(text)+" can never match: paths begin with \"/\"", "write "+quoted("/"+text))
	case strings.ContainsAny(text, "?#"):
		v.doubt(p.at(kind), quoted(text)+" can never match: the query is not part of the path", "match it with queryParams")
	case !spellable(kind, text):
		hint := "no request has such a path"
		if canonical, ok := call.CanonicalPath(text); ok {
			hint = "write " + quoted(canonical)
		}
		v.doubt(p.at(kind), quoted(text)+" can never match: rules see paths in their one canonical spelling", hint)
	}
}

// spellable reports whether a path in canonical spelling can be, or begin with, the text. A prefix may end within an
// escape, or before what makes a dot part of a name.
func spellable(kind, text string) bool {
	rests := []string{""}
	if kind == "prefix" {
		rests = []string{"", "a", "2F", "F", "0", "B"}
	}
	return slices.ContainsFunc(rests, func(rest string) bool {
		canonical, ok := call.CanonicalPath(text + rest)
		return ok && canonical == text+rest
	})
}

func (v *validation) headerMatches(p fieldPath, matches map[string]*networking.StringMatch) {
	for _, name := range sortedKeys(matches) {
		at := p.at(name)
		switch {
		case strings.HasPrefix(name, "@request.auth.claims"):
			v.unbuilt(at, "claims of a token would not be looked at")
			continue
		case strings.HasPrefix(name, ":"):
			v.refuseKey(at, "is no header that can be matched", "uri, scheme, method and authority are fields of the match itself")
		case !isToken(name):
			v.refuseKey(at, "is no name of a header", "write letters, digits and '-'")
		case ignoredHeader(name):
			v.doubt(at, quoted(name)+" is ignored as the name of a header", "the match has a field of that name beside "+fieldName(p))
		}
		v.fieldMatch(at, matches[name])
	}
}

// fieldMatch is stringMatch for headers and query parameters, where "*" stands for any value.
func (v *validation) fieldMatch(p fieldPath, m *networking.StringMatch) {
	if m.GetRegex() != "*" {
		v.stringMatch(p, m)
	}
}

func (v *validation) stringMatch(p fieldPath, m *networking.StringMatch) {
	switch t := m.GetMatchType().(type) {
	case *networking.StringMatch_Regex:
		v.regex(p.at("regex"), t.Regex)
	case *networking.StringMatch_Prefix:
		if t.Prefix == "" {
			v.doubt(p.at("prefix"), "an empty prefix matches every value", "write {} to ask whether there is any value")
		}
	}
}

// regex checks that RE2 takes the expression. The position is that of the value; the offset counts within it.
func (v *validation) regex(p fieldPath, expr string) bool {
	_, err := call.Regex(expr)
	if bad, ok := errors.AsType[*call.RegexError](err); ok {
		v.refuseValue(p, fmt.Sprintf("at byte %d: %s", bad.Offset, bad.Reason),
			fmt.Sprintf("write a regular expression of RE2, 1 to %d bytes, for the whole value", call.MaxRegex))
	}
	return err == nil
}

// reachable warns of rules and matches that no request gets to.
func (v *validation) reachable(p fieldPath, rules []*networking.HTTPRoute) {
	caught := -1 // the first rule that takes everything
	first := make(map[string]fieldPath)
	for i, r := range rules {
		if caught >= 0 {
			v.warn(p.at(i), codeUnreachable, fmt.Sprintf("never reached: http[%d] (%s) takes every request", caught, v.d.place(p.at(caught)...)),
				"move it before that rule, or remove it")
			continue
		}
		if r.GetDelegate() != nil {
			continue // what its delegate does not take goes on
		}
		if len(r.GetMatch()) == 0 {
			caught = i
			continue
		}
		repeats := v.repeatedMatches(p.at(i, "match"), r.GetMatch(), first)
		if len(repeats) == len(r.GetMatch()) {
			v.warn(p.at(i), codeUnreachable, "never reached: "+repeats[0].message, "change the match, or remove the rule")
		} else {
			for _, again := range repeats {
				v.warn(again.path, codeIneffective, again.message, "remove it")
			}
		}
		for _, m := range r.GetMatch() {
			if caught < 0 && matchesAll(m) {
				caught = i
			}
		}
	}
}

type repeatedMatch struct {
	path    fieldPath
	message string
}

// repeatedMatches finds the matches that ask for what an earlier one asks for. first keeps where each stood
// first.
func (v *validation) repeatedMatches(p fieldPath, matches []*networking.HTTPMatchRequest, first map[string]fieldPath) []repeatedMatch {
	var repeats []repeatedMatch
	for i, m := range matches {
		key, at := matchKey(m), p.at(i)
		if was, again := first[key]; again {
			repeats = append(repeats, repeatedMatch{at, fmt.Sprintf("%s is the same as %s (%s)",
				pathString(at[1:]), pathString(was[1:]), v.d.place(was...))})
		} else {
			first[key] = at
		}
	}
	return repeats
}

// matchKey is equal for matches that ask for the same: their names and statistics aside.
func matchKey(m *networking.HTTPMatchRequest) string {
	if m.GetName() != "" || m.GetStatPrefix() != "" {
		m = proto.CloneOf(m)
		m.Name, m.StatPrefix = "", ""
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return m.String()
	}
	return string(b)
}

// matchesAll reports a match without a condition.
func matchesAll(m *networking.HTTPMatchRequest) bool {
	return anyPath(m.GetUri()) && m.GetScheme().GetMatchType() == nil && m.GetMethod().GetMatchType() == nil &&
		m.GetAuthority().GetMatchType() == nil && len(m.GetHeaders()) == 0 && len(m.GetWithoutHeaders()) == 0 &&
		len(m.GetQueryParams()) == 0 && m.GetPort() == 0 && len(m.GetSourceLabels()) == 0 &&
		m.GetSourceNamespace() == "" && len(m.GetGateways()) == 0
}

func anyPath(uri *networking.StringMatch) bool {
	switch t := uri.GetMatchType().(type) {
	case nil:
		return true
	case *networking.StringMatch_Prefix:
		return t.Prefix == "/" || t.Prefix == ""
	case *networking.StringMatch_Regex:
		return t.Regex == ".*" || t.Regex == "/.*"
	}
	return false
}
