package config

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
)

// A matchConflict is a match of a delegate that none of those above allows for; sub is its place.
type matchConflict struct {
	sub   int
	field string
}

// joinMatches joins each match of the delegate with all that it does not contradict. One that contradicts them all
// makes the whole rule void.
func joinMatches(rootNamespace string, root []*networking.HTTPMatchRequest, leafNamespace string, leaf []*networking.HTTPMatchRequest) ([]*networking.HTTPMatchRequest, matchConflict) {
	root, leaf = fullGateways(root, rootNamespace), fullGateways(leaf, leafNamespace)
	if len(root) == 0 {
		return leaf, matchConflict{}
	}
	if len(leaf) == 0 {
		return root, matchConflict{}
	}
	var out []*networking.HTTPMatchRequest
	for i, l := range leaf {
		taken, field := false, ""
		for _, r := range root {
			if f := contradiction(r, l); f != "" {
				field = f
				continue
			}
			out, taken = append(out, joinMatch(r, l)), true
		}
		if !taken {
			return nil, matchConflict{i, field}
		}
	}
	return out, matchConflict{}
}

// fullGateways gives the matches with gateways by names that do not depend on where they are written.
func fullGateways(matches []*networking.HTTPMatchRequest, namespace string) []*networking.HTTPMatchRequest {
	out := slices.Clone(matches)
	for i, m := range out {
		if len(m.GetGateways()) == 0 {
			continue
		}
		m = proto.CloneOf(m)
		for j, g := range m.Gateways {
			if g = strings.TrimPrefix(g, "./"); g != meshGateway && !strings.ContainsAny(g, "/.") {
				g = namespace + "/" + g
			}
			m.Gateways[j] = g
		}
		out[i] = m
	}
	return out
}

func joinMatch(root, leaf *networking.HTTPMatchRequest) *networking.HTTPMatchRequest {
	out := proto.CloneOf(leaf)
	out.Name = joinNames(root.GetName(), leaf.GetName())
	inherit(&out.Uri, root.GetUri())
	inherit(&out.Scheme, root.GetScheme())
	inherit(&out.Method, root.GetMethod())
	inherit(&out.Authority, root.GetAuthority())
	out.Headers = union(root.GetHeaders(), leaf.GetHeaders())
	out.WithoutHeaders = union(root.GetWithoutHeaders(), leaf.GetWithoutHeaders())
	out.QueryParams = union(root.GetQueryParams(), leaf.GetQueryParams())
	out.SourceLabels = union(root.GetSourceLabels(), leaf.GetSourceLabels())
	if out.Port == 0 {
		out.Port = root.GetPort()
	}
	if out.SourceNamespace == "" {
		out.SourceNamespace = root.GetSourceNamespace()
	}
	if len(out.Gateways) == 0 {
		out.Gateways = root.GetGateways()
	}
	if out.StatPrefix == "" {
		out.StatPrefix = root.GetStatPrefix()
	}
	return out
}

// union has the entries of both, the later one's where both have one.
func union[V any](a, b map[string]V) map[string]V {
	if len(a) == 0 {
		return b
	}
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// contradiction names the field in which a delegate's match is not part of the one above it, "" for none.
func contradiction(root, leaf *networking.HTTPMatchRequest) string {
	for _, f := range []struct {
		name       string
		root, leaf *networking.StringMatch
	}{
		{"uri", root.GetUri(), leaf.GetUri()}, {"scheme", root.GetScheme(), leaf.GetScheme()},
		{"method", root.GetMethod(), leaf.GetMethod()}, {"authority", root.GetAuthority(), leaf.GetAuthority()},
	} {
		if !within(f.root, f.leaf) {
			return f.name
		}
	}
	for _, f := range []struct {
		name       string
		root, leaf map[string]*networking.StringMatch
	}{
		{"headers", root.GetHeaders(), leaf.GetHeaders()}, {"withoutHeaders", root.GetWithoutHeaders(), leaf.GetWithoutHeaders()},
		{"queryParams", root.GetQueryParams(), leaf.GetQueryParams()},
	} {
		for _, key := range sortedKeys(f.leaf) {
			if !within(f.root[key], f.leaf[key]) {
				return f.name + "." + key
			}
		}
	}
	for _, key := range sortedKeys(leaf.GetSourceLabels()) {
		if value, ok := root.GetSourceLabels()[key]; ok && value != leaf.GetSourceLabels()[key] {
			return "sourceLabels." + key
		}
	}
	switch {
	case root.GetIgnoreUriCase() != leaf.GetIgnoreUriCase():
		return "ignoreUriCase"
	case root.GetPort() > 0 && leaf.GetPort() > 0 && root.GetPort() != leaf.GetPort():
		return "port"
	case root.GetSourceNamespace() != "" && leaf.GetSourceNamespace() != root.GetSourceNamespace():
		return "sourceNamespace" // Istio: it has to be repeated
	case len(root.GetGateways()) > 0 && slices.ContainsFunc(leaf.GetGateways(), func(g string) bool { return !slices.Contains(root.GetGateways(), g) }):
		return "gateways"
	}
	return ""
}

// within reports whether what the delegate's condition takes is taken by the one above as well. Of two expressions
// nobody can tell, and so one on either side stands alone; and so does, in Istio, a condition on mere presence.
func within(root, leaf *networking.StringMatch) bool {
	if root == nil || leaf == nil {
		return true
	}
	exact, prefix := leaf.GetExact(), leaf.GetPrefix()
	switch {
	case root.GetRegex() != "" || leaf.GetRegex() != "":
		return false
	case root.GetExact() != "":
		return prefix == "" && exact == root.GetExact()
	case root.GetPrefix() != "":
		return (exact != "" || prefix != "") && strings.HasPrefix(exact+prefix, root.GetPrefix())
	}
	return false
}
