package config

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	security "istio.io/api/security/v1beta1"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/snapshot"
)

// authorizationPolicy looks for rules that ask for something of HTTP on ports that speak another protocol: connections there have no
// paths, methods, headers or tokens, so that such a rule allows none of them, and one that denies does so whatever it asks for
// (istio.io, AuthorizationPolicy; authz.ForTCP).
func (l *linter) authorizationPolicy(p fieldPath, a *security.AuthorizationPolicy) {
	grants := a.GetAction() == security.AuthorizationPolicy_ALLOW
	var opaque map[string]string
	for i, r := range a.GetRules() {
		if !asksForHTTP(r, l.d.key.Namespace) {
			continue
		}
		if opaque == nil {
			opaque = l.opaquePorts(a.GetSelector().GetMatchLabels())
		}
		at := p.at("rules", i)
		for k, to := range r.GetTo() {
			for n, port := range to.GetOperation().GetPorts() {
				l.ofHTTP(at.at("to", k, "operation", "ports", n), grants, opaque, port)
			}
		}
		if !grants && !namesPorts(r) { // one that allows may well be for the other ports only
			l.ofHTTP(at, grants, opaque, slices.Sorted(maps.Keys(opaque))...)
		}
	}
}

// ofHTTP tells what becomes of connections to those of the ports that do not speak HTTP.
func (l *linter) ofHTTP(p fieldPath, grants bool, opaque map[string]string, ports ...string) {
	var them []string
	for _, port := range ports {
		if of := opaque[port]; of != "" {
			them = append(them, port+" of "+of)
		}
	}
	if len(them) == 0 {
		return
	}
	what, hint := "denies every connection", "name the ports that it is for"
	if grants {
		what, hint = "lets in no connection", "write a rule for the port by what a connection has: sources and ports"
	}
	l.warn(p, codeNotHTTP, fmt.Sprintf("the rule asks for something of HTTP and %s to port %s, which speaks another protocol", what, strings.Join(them, ", ")), hint)
}

// opaquePorts lists the ports of the workloads that a policy selects which a service has and says of that they do not speak HTTP,
// with its name.
func (l *linter) opaquePorts(selector map[string]string) map[string]string {
	all := make(map[string]string)
	everywhere := l.d.key.Namespace == l.root()
	for _, s := range l.services {
		for _, p := range s.ports {
			if p.protocol != snapshot.Opaque {
				continue
			}
			set := l.endpoints()[discovery.Key{Host: s.host, Port: uint16(p.number)}]
			if set == nil {
				continue
			}
			for i := range set.Len() {
				e := set.At(i)
				_, port, err := net.SplitHostPort(e.Address.Addr)
				if err == nil && all[port] == "" && (everywhere || e.Namespace == l.d.key.Namespace) && e.Matches(selector) {
					all[port] = s.host
				}
			}
		}
	}
	return all
}

// policySelector finds a policy that selects none of the workloads that are known.
func (l *linter) policySelector(p fieldPath, labels map[string]string) {
	if len(labels) == 0 || l.isFor(l.d, labels) {
		return
	}
	everywhere, known := l.d.key.Namespace == l.root(), false
	of := func(namespace string) bool { return everywhere || namespace == l.d.key.Namespace }
	for namespace, list := range l.backing().workloads {
		for _, w := range list {
			if known = known || of(namespace); of(namespace) && hasLabels(w.entry.GetLabels(), labels) {
				return
			}
		}
	}
	if !known {
		return
	}
	for _, set := range l.endpoints() { // those that are written in a ServiceEntry
		for i := range set.Len() {
			if e := set.At(i); of(e.Namespace) && e.Matches(labels) {
				return
			}
		}
	}
	l.warn(p, codeNoWorkload, "selects none of the workloads in these documents: the "+l.d.key.Kind+" is for nobody",
		"compare with the labels of its Pods and WorkloadEntries")
}

// asksForHTTP reports a rule that looks at what only a request of HTTP has.
func asksForHTTP(r *security.Rule, namespace string) bool {
	var one authz.Rule
	for _, f := range r.GetFrom() {
		one.From = append(one.From, written(sourceTerms(f.GetSource(), namespace)))
	}
	for _, t := range r.GetTo() {
		one.To = append(one.To, written(operationTerms(t.GetOperation())))
	}
	for _, w := range r.GetWhen() {
		if t, ok := conditionTerm(w, namespace); ok {
			one.When = append(one.When, t)
		}
	}
	return authz.Uses([]authz.Policy{{Rules: []authz.Rule{one}}}, authz.Attribute.OfHTTP)
}

// namesPorts reports a rule that is for some ports only.
func namesPorts(r *security.Rule) bool {
	for _, w := range r.GetWhen() {
		if t, ok := conditionTerm(w, ""); ok && t.Attribute == authz.Port {
			return true
		}
	}
	for _, t := range r.GetTo() {
		if len(t.GetOperation().GetPorts())+len(t.GetOperation().GetNotPorts()) > 0 {
			return true
		}
	}
	return false
}
