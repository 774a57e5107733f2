package config

import (
	"slices"
	"strconv"
	"strings"

	security "istio.io/api/security/v1beta1"

	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/identity/external"
)

// authorization compiles the AuthorizationPolicies for the workload: those of its namespace and of the root namespace
// that select it, as they are for requests and for connections that are not HTTP, and whom those of action CUSTOM ask. It gives
// nil where there are none.
func (c *compiler) authorization(docs []*document) (requests, connections *authz.Set, provider *external.Provider) {
	var policies []authz.Policy
	var custom []customPolicy
	for _, d := range docs {
		spec, ok := d.spec.(*security.AuthorizationPolicy)
		if !ok || !c.isFor(d, spec.GetSelector().GetMatchLabels()) {
			continue
		}
		p := c.authorizationPolicy(d, spec)
		if authz.Uses([]authz.Policy{p}, authz.Attribute.OfPeer) {
			c.add(d.finding(Info, codeUnproved, false, []any{"spec", "rules"},
				"names callers by their certificates: in a program without an identity it allows nobody and denies everybody", ""))
		}
		policies = append(policies, p)
		if p.Action == authz.Custom {
			custom = append(custom, customPolicy{d, p.Provider})
		}
	}
	if len(policies) == 0 {
		return nil, nil, nil
	}
	provider = c.provider(custom)
	if slices.ContainsFunc(custom, func(p customPolicy) bool { return p.name != custom[0].name }) {
		return nil, nil, nil // and the set is refused
	}
	requests, err := authz.New(policies)
	if err == nil {
		connections, err = authz.New(authz.ForTCP(policies))
	}
	if err != nil { // what validation lets through compiles; a policy is not lost where it does not
		c.add(Finding{Code: codeSchema, Level: Error, Refused: true, Message: err.Error()})
	}
	return requests, connections, provider
}

// isFor reports whether a policy of the document is for the workload.
func (c *compiler) isFor(d *document, labels map[string]string) bool {
	return (d.key.Namespace == c.workload.Namespace || d.key.Namespace == c.root()) && hasLabels(c.workload.Labels, labels)
}

func (c *compiler) authorizationPolicy(d *document, spec *security.AuthorizationPolicy) authz.Policy {
	p := authz.Policy{Namespace: d.key.Namespace, Name: d.key.Name}
	switch spec.GetAction() {
	case security.AuthorizationPolicy_DENY:
		p.Action = authz.Deny
	case security.AuthorizationPolicy_AUDIT:
		p.Action = authz.Audit
	case security.AuthorizationPolicy_CUSTOM:
		p.Action, p.Provider = authz.Custom, spec.GetProvider().GetName()
	}
	p.DryRun, _ = strconv.ParseBool(d.annotations[dryRunAnnotation])
	for _, r := range spec.GetRules() {
		var rule authz.Rule
		for _, f := range r.GetFrom() {
			rule.From = append(rule.From, c.inTrustDomains(written(sourceTerms(f.GetSource(), d.key.Namespace))))
		}
		for _, t := range r.GetTo() {
			rule.To = append(rule.To, written(operationTerms(t.GetOperation())))
		}
		for _, w := range r.GetWhen() {
			term, _ := conditionTerm(w, d.key.Namespace)
			rule.When = append(rule.When, term)
		}
		c.inTrustDomains(rule.When)
		p.Rules = append(p.Rules, rule)
	}
	return p
}

// written leaves the terms that say something.
func written(terms []authz.Term) []authz.Term {
	return slices.DeleteFunc(terms, func(t authz.Term) bool { return len(t.Values)+len(t.Not) == 0 })
}

var (
	sourceFields    = []string{"principals", "requestPrincipals", "namespaces", "serviceAccounts", "ipBlocks", "remoteIpBlocks", "trustDomains"}
	operationFields = []string{"hosts", "ports", "methods", "paths"}
)

// sourceTerms gives the fields of a source in the order of sourceFields.
func sourceTerms(s *security.Source, namespace string) []authz.Term {
	return []authz.Term{
		{Attribute: authz.Principal, Values: s.GetPrincipals(), Not: s.GetNotPrincipals()},
		{Attribute: authz.RequestPrincipal, Values: s.GetRequestPrincipals(), Not: s.GetNotRequestPrincipals()},
		{Attribute: authz.Namespace, Values: s.GetNamespaces(), Not: s.GetNotNamespaces()},
		{Attribute: authz.ServiceAccount, Values: accountsOf(s.GetServiceAccounts(), namespace), Not: accountsOf(s.GetNotServiceAccounts(), namespace)},
		{Attribute: authz.SourceIP, Values: s.GetIpBlocks(), Not: s.GetNotIpBlocks()},
		{Attribute: authz.RemoteIP, Values: s.GetRemoteIpBlocks(), Not: s.GetNotRemoteIpBlocks()},
		{Attribute: authz.TrustDomain, Values: s.GetTrustDomains(), Not: s.GetNotTrustDomains()},
	}
}

// accountsOf gives service accounts with their namespaces, that of the policy where none is written.
func accountsOf(list []string, namespace string) []string {
	var full []string
	for _, s := range list {
		if !strings.Contains(s, "/") {
			s = namespace + "/" + s
		}
		full = append(full, s)
	}
	return full
}

// operationTerms gives the fields of an operation in the order of operationFields.
func operationTerms(o *security.Operation) []authz.Term {
	return []authz.Term{
		{Attribute: authz.Host, Values: o.GetHosts(), Not: o.GetNotHosts()},
		{Attribute: authz.Port, Values: o.GetPorts(), Not: o.GetNotPorts()},
		{Attribute: authz.Method, Values: o.GetMethods(), Not: o.GetNotMethods()},
		{Attribute: authz.Path, Values: o.GetPaths(), Not: o.GetNotPaths()},
	}
}

// conditions are the keys without a part in brackets.
var conditions = map[string]authz.Attribute{
	"source.ip": authz.SourceIP, "remote.ip": authz.RemoteIP, "source.namespace": authz.Namespace, "source.principal": authz.Principal,
	"source.serviceAccount": authz.ServiceAccount, "source.trustDomain": authz.TrustDomain, "request.auth.principal": authz.RequestPrincipal,
	"request.auth.audiences": authz.Audiences, "request.auth.presenter": authz.Presenter, "destination.ip": authz.DestinationIP,
	"destination.port": authz.Port, "connection.sni": authz.SNI,
}

const headersKey, claimsKey = "request.headers", "request.auth.claims"

func conditionKeys() []string {
	return append(sortedKeys(conditions), headersKey+"[…]", claimsKey+"[…]")
}

// conditionTerm reads a condition. It reports false for a key that is none.
func conditionTerm(w *security.Condition, namespace string) (authz.Term, bool) {
	t := authz.Term{Values: w.GetValues(), Not: w.GetNotValues()}
	key := w.GetKey()
	if a, ok := conditions[key]; ok {
		t.Attribute = a
		if a == authz.ServiceAccount {
			t.Values, t.Not = accountsOf(t.Values, namespace), accountsOf(t.Not, namespace)
		}
		return t, true
	}
	if rest, ok := strings.CutPrefix(key, headersKey); ok {
		names := bracketed(rest)
		if len(names) != 1 {
			return t, false
		}
		t.Attribute, t.Name = authz.Header, names[0]
		return t, true
	}
	if rest, ok := strings.CutPrefix(key, claimsKey); ok {
		t.Attribute, t.Keys = authz.Claim, bracketed(rest)
		return t, len(t.Keys) > 0
	}
	return t, false
}

// bracketed reads "[a][b]"; nil for what is not of that form.
func bracketed(s string) []string {
	var names []string
	for s != "" {
		name, rest, ok := strings.Cut(strings.TrimPrefix(s, "["), "]")
		if !ok || s[0] != '[' || name == "" || strings.Contains(name, "[") {
			return nil
		}
		names, s = append(names, name), rest
	}
	return names
}

// inTrustDomains adds to each principal of the mesh's trust domain those of its aliases, and the other way round. To
// policies "cluster.local" is the mesh's domain whatever its name is (istio.io, pilot/pkg/security/trustdomain).
func (c *compiler) inTrustDomains(terms []authz.Term) []authz.Term {
	own := c.mesh.GetTrustDomain()
	if own == "" {
		own = clusterDomain
	}
	domains := append([]string{own}, c.mesh.GetTrustDomainAliases()...)
	expand := func(list []string) []string {
		var all []string
		for _, s := range list {
			domain, rest, ok := strings.Cut(s, "/")
			if !ok || domain != clusterDomain && !slices.Contains(domains, domain) {
				all = append(all, s)
				continue
			}
			for _, d := range domains {
				all = append(all, d+"/"+rest)
			}
		}
		return all
	}
	for i := range terms {
		if t := &terms[i]; t.Attribute == authz.Principal {
			t.Values, t.Not = expand(t.Values), expand(t.Not)
		}
	}
	return terms
}
