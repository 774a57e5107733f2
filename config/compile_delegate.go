package config

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
)

// A rule is one HTTP rule as it applies: as a VirtualService has it, or as a delegate has it, joined with the rule
// that hands over to it.
type rule struct {
	*networking.HTTPRoute
	doc   *document // where it is written
	index int       // of spec.http there
	from  string    // where the rule stands that hands over, "" for none
}

func (r *rule) origin() string {
	at := r.doc.originOf("spec", "http", r.index)
	if r.from != "" {
		at += ", delegated by " + r.from
	}
	return at
}

// isDelegate reports a VirtualService that has rules for others and no hosts of its own.
func isDelegate(s *networking.VirtualService) bool { return len(s.GetHosts()) == 0 }

func (c *compiler) readDelegates(docs []*document) {
	c.delegates, c.hosted = make(map[Key]*document), make(map[Key]*document)
	for _, d := range docs {
		switch s, ok := d.spec.(*networking.VirtualService); {
		case !ok:
		case isDelegate(s):
			c.delegates[d.key] = d
		default:
			c.hosted[d.key] = d
		}
	}
}

// delegateKey names the VirtualService that a rule hands over to, by default one of the rule's namespace.
func delegateKey(d *networking.Delegate, own string) Key {
	k := Key{Kind: "VirtualService", Namespace: d.GetNamespace(), Name: d.GetName()}
	if k.Namespace == "" {
		k.Namespace = own
	}
	return k
}

// rulesOf lists a VirtualService's HTTP rules with those of its delegates in their places. A rule whose delegate is
// not there is left out, and so are rules of the delegate that contradict it: their requests go on to the rules
// below (istio.io, pilot/pkg/model/virtualservice.go mergeVirtualServicesIfNeeded).
func (c *compiler) rulesOf(d *document, s *networking.VirtualService) []rule {
	rules := make([]rule, 0, len(s.GetHttp()))
	for i, r := range s.GetHttp() {
		if r.GetDelegate() == nil {
			rules = append(rules, rule{HTTPRoute: r, doc: d, index: i})
			continue
		}
		to := c.delegate(d, i, r.GetDelegate())
		if to == nil {
			continue
		}
		if !slices.Contains(c.delegated, to) {
			c.delegated = append(c.delegated, to)
		}
		for j, sub := range to.spec.(*networking.VirtualService).GetHttp() {
			joined, conflict := joinRules(d, r, to, sub)
			if joined == nil {
				c.conflict(d, i, to, j, conflict)
				continue
			}
			rules = append(rules, rule{HTTPRoute: joined, doc: to, index: j, from: d.originOf("spec", "http", i)})
		}
	}
	return rules
}

// delegate finds what the i-th rule hands over to, nil where that is not there or not for it.
func (c *compiler) delegate(d *document, i int, to *networking.Delegate) *document {
	key := delegateKey(to, d.key.Namespace)
	found := c.delegates[key]
	problem, hint := "", ""
	switch {
	case found == nil && c.hosted[key] != nil:
		problem = fmt.Sprintf("%s (%s) has hosts, and so is no delegate", key, c.hosted[key].place("spec", "hosts"))
		hint = "remove its hosts, or send requests to a service"
	case found == nil:
		problem = "there is no " + key.String()
		hint = "add it, without hosts"
		if near, ok := nearest(key.Namespace+"/"+key.Name, delegateNames(c.delegates)); ok {
			hint = "did you mean " + quoted(near) + "?"
		}
	case !exported(found.spec.(*networking.VirtualService).GetExportTo(), c.mesh.GetDefaultVirtualServiceExportTo(), key.Namespace, d.key.Namespace):
		problem = fmt.Sprintf("%s (%s) is not exported to namespace %s", key, found.place("spec", "exportTo"), d.key.Namespace)
		hint = "add the namespace to its exportTo"
	default:
		return found
	}
	c.add(d.finding(Error, "IST0101", false, []any{"spec", "http", i, "delegate", "name"},
		problem+"; the rule is left out, its requests go on to the rules below it, and get 404, flag NR, where none takes them", hint))
	return nil
}

func delegateNames(delegates map[Key]*document) []string {
	names := make([]string, 0, len(delegates))
	for k := range delegates {
		names = append(names, k.Namespace+"/"+k.Name)
	}
	slices.Sort(names)
	return names
}

// conflict says at both places that the delegate's rule is left out.
func (c *compiler) conflict(root *document, i int, to *document, j int, why matchConflict) {
	there, here := []any{"spec", "http", j}, []any{"spec", "http", i}
	if why.sub >= 0 {
		there = append(there, "match", why.sub)
	}
	c.add(to.finding(Error, codeConflict, false, there,
		fmt.Sprintf("left out: %s contradicts every match of %s http[%d] (%s), which hands over to it",
			why.field, root.key, i, root.place(here...)), "match part of what is handed over"))
	c.add(root.finding(Error, codeConflict, false, append(here, "delegate"),
		fmt.Sprintf("http[%d] of %s (%s) is left out: its %s contradicts every match here", j, to.key, to.place(there...), why.field), ""))
}

// joinRules gives a delegate's rule with the conditions of the one that hands over added to its own. What it does
// not say itself it has from there. nil says that no request can meet both.
func joinRules(rootDoc *document, root *networking.HTTPRoute, leafDoc *document, leaf *networking.HTTPRoute) (*networking.HTTPRoute, matchConflict) {
	matches, conflict := joinMatches(rootDoc.key.Namespace, root.GetMatch(), leafDoc.key.Namespace, leaf.GetMatch())
	if conflict.field != "" {
		return nil, conflict
	}
	out := proto.CloneOf(leaf)
	out.Match = matches
	out.Name = joinNames(root.GetName(), leaf.GetName())
	inherit(&out.Rewrite, root.GetRewrite())
	inherit(&out.DirectResponse, root.GetDirectResponse())
	inherit(&out.Timeout, root.GetTimeout())
	inherit(&out.Retries, root.GetRetries())
	inherit(&out.Fault, root.GetFault())
	inherit(&out.Mirror, fullDestination(root.GetMirror(), rootDoc))
	//nolint:staticcheck // SA1019: a deprecated field that documents still have
	inherit(&out.MirrorPercent, root.GetMirrorPercent())
	inherit(&out.MirrorPercentage, root.GetMirrorPercentage())
	inherit(&out.CorsPolicy, root.GetCorsPolicy())
	inherit(&out.Headers, root.GetHeaders())
	if out.Mirrors == nil {
		for _, m := range root.GetMirrors() {
			m = proto.CloneOf(m)
			m.Destination = fullDestination(m.GetDestination(), rootDoc)
			out.Mirrors = append(out.Mirrors, m)
		}
	}
	// What is answered here goes nowhere, and a redirect goes before any other answer (pilot route.go, translateRoute).
	switch {
	case out.Redirect != nil:
		out.DirectResponse, out.Route, out.Rewrite = nil, nil, nil
	case out.DirectResponse != nil:
		out.Route, out.Rewrite = nil, nil
	}
	return out, matchConflict{}
}

func inherit[T any](own **T, from *T) {
	if *own == nil {
		*own = from
	}
}

func joinNames(root, leaf string) string {
	if root == "" || leaf == "" {
		return root + leaf
	}
	return root + "-" + leaf
}

// fullDestination gives a destination whose host no longer depends on where it is written.
func fullDestination(d *networking.Destination, doc *document) *networking.Destination {
	if d == nil {
		return nil
	}
	d = proto.CloneOf(d)
	d.Host = resolveHost(d.GetHost(), doc.key.Namespace)
	return d
}

// checkDelegates finds delegates that no rule hands over to, be it visible or not.
func (c *compiler) checkDelegates(docs []*document) {
	named := make(map[Key]bool)
	for _, d := range docs {
		if s, ok := d.spec.(*networking.VirtualService); ok && !isDelegate(s) {
			for _, r := range s.GetHttp() {
				if r.GetDelegate() != nil {
					named[delegateKey(r.GetDelegate(), d.key.Namespace)] = true
				}
			}
		}
	}
	for _, d := range docs {
		if c.delegates[d.key] == d && !named[d.key] {
			c.add(d.finding(Warning, codeDoubtful, false, []any{"metadata", "name"},
				"it has no hosts, and no rule delegates to it: its rules are not used", "name its hosts, or name it in a rule's delegate"))
		}
	}
}
