package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
)

// mostCompared is how many rules of a VirtualService are compared with each other.
const mostCompared = 200

// shadowed finds rules whose every match asks for no less than an earlier one: no request gets to them. Those that
// validate finds, behind a rule for everything or with the same matches, are left to it.
func (l *linter) shadowed(p fieldPath, rules []*networking.HTTPRoute) {
	for i, r := range rules[:min(len(rules), mostCompared)] {
		if len(r.GetMatch()) == 0 || slices.ContainsFunc(r.GetMatch(), matchesAll) {
			return
		}
		by, same := -1, true
		for _, m := range r.GetMatch() {
			j, again := firstCovering(rules[:i], m)
			if j < 0 {
				by = -1
				break
			}
			by, same = max(by, j), same && again
		}
		if by >= 0 && !same {
			l.warn(p.at(i), codeUnreachable, fmt.Sprintf("never reached: what it matches is taken before, at the latest by http[%d] (%s)",
				by, l.d.place(p.at(by)...)), "move it before that rule, or remove it")
		}
	}
}

// firstCovering finds the first rule with a match that takes whatever m does, -1 for none. same says that one of
// them asks for the very same.
func firstCovering(rules []*networking.HTTPRoute, m *networking.HTTPMatchRequest) (at int, same bool) {
	at = -1
	for i, r := range rules {
		if r.GetDelegate() != nil {
			continue // what its delegate does not take goes on
		}
		for _, earlier := range r.GetMatch() {
			if !coversMatch(earlier, m) {
				continue
			}
			if at < 0 {
				at = i
			}
			if matchKey(earlier) == matchKey(m) {
				return at, true
			}
		}
	}
	return at, false
}

// coversMatch reports that every request which takes m takes wide too. It may fail to see it, and is never wrong.
func coversMatch(wide, m *networking.HTTPMatchRequest) bool {
	return coversPath(wide, m) &&
		coversString(wide.GetScheme(), m.GetScheme()) &&
		coversString(wide.GetMethod(), m.GetMethod()) &&
		coversString(wide.GetAuthority(), m.GetAuthority()) &&
		coversFields(wide.GetHeaders(), m.GetHeaders()) &&
		coversFields(wide.GetQueryParams(), m.GetQueryParams()) &&
		sameFields(wide.GetWithoutHeaders(), m.GetWithoutHeaders()) &&
		(wide.GetPort() == 0 || wide.GetPort() == m.GetPort()) &&
		(wide.GetSourceNamespace() == "" || wide.GetSourceNamespace() == m.GetSourceNamespace()) &&
		hasLabels(m.GetSourceLabels(), wide.GetSourceLabels()) &&
		(len(wide.GetGateways()) == 0 || slices.Equal(wide.GetGateways(), m.GetGateways()))
}

func coversPath(wide, m *networking.HTTPMatchRequest) bool {
	if anyPath(wide.GetUri()) {
		return true
	}
	if wide.GetIgnoreUriCase() != m.GetIgnoreUriCase() {
		return false
	}
	return coversString(wide.GetUri(), m.GetUri())
}

func coversString(wide, m *networking.StringMatch) bool {
	switch {
	case wide == nil:
		return true
	case m == nil:
		return false
	case wide.GetMatchType() == nil: // any value
		return true
	}
	prefix, ok := wide.GetMatchType().(*networking.StringMatch_Prefix)
	if !ok {
		return proto.Equal(wide, m)
	}
	switch t := m.GetMatchType().(type) {
	case *networking.StringMatch_Prefix:
		return strings.HasPrefix(t.Prefix, prefix.Prefix)
	case *networking.StringMatch_Exact:
		return strings.HasPrefix(t.Exact, prefix.Prefix)
	}
	return false
}

// coversFields: each field that wide asks for m asks for, in a narrower way at most.
func coversFields(wide, m map[string]*networking.StringMatch) bool {
	for name, value := range wide {
		if ignoredHeader(name) {
			continue
		}
		if theirs, ok := m[name]; !ok || !coversString(value, theirs) {
			return false
		}
	}
	return true
}

func sameFields(a, b map[string]*networking.StringMatch) bool {
	return len(a) == 0 || maps.EqualFunc(a, b, func(x, y *networking.StringMatch) bool { return proto.Equal(x, y) })
}
