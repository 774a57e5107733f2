package authz

import (
	"fmt"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// Action is what a policy does with the requests that it matches (AuthorizationPolicy.action).
type Action uint8

const (
	// Allow lets them in, and nothing that no policy of this action matches.
	Allow Action = iota
	// Deny keeps them out, whatever else allows them.
	Deny
	// Audit marks them.
	Audit
	// Custom has somebody else asked about them, before the other actions are looked at.
	Custom
)

func (a Action) String() string {
	switch a {
	case Allow:
		return "ALLOW"
	case Deny:
		return "DENY"
	case Audit:
		return "AUDIT"
	case Custom:
		return "CUSTOM"
	}
	return fmt.Sprintf("Action(%d)", uint8(a))
}

// Attribute is what a Term looks at. The comments give Istio's names of it.
type Attribute uint8

const (
	Path             Attribute = iota // to.operation.paths
	Host                              // to.operation.hosts
	Method                            // to.operation.methods
	Port                              // to.operation.ports, destination.port
	SourceIP                          // from.source.ipBlocks, source.ip
	RemoteIP                          // from.source.remoteIpBlocks, remote.ip
	DestinationIP                     // destination.ip
	SNI                               // connection.sni
	Header                            // request.headers[Name]
	Principal                         // from.source.principals, source.principal
	Namespace                         // from.source.namespaces, source.namespace
	ServiceAccount                    // from.source.serviceAccounts, source.serviceAccount: "namespace/name"
	TrustDomain                       // from.source.trustDomains, source.trustDomain
	RequestPrincipal                  // from.source.requestPrincipals, request.auth.principal
	Audiences                         // request.auth.audiences
	Presenter                         // request.auth.presenter
	Claim                             // request.auth.claims[…][…]
	attributeEnd
)

// OfPeer reports an attribute that only a verified certificate has.
func (a Attribute) OfPeer() bool { return a >= Principal && a <= TrustDomain }

// OfToken reports an attribute that only a verified token has.
func (a Attribute) OfToken() bool { return a >= RequestPrincipal && a <= Claim }

// A Policy is one AuthorizationPolicy that applies to the workload.
type Policy struct {
	Namespace, Name string
	Action          Action
	// Provider names who is asked (provider.name). It is for Custom, and one for all policies of a Set.
	Provider string
	// DryRun says that the policy only tells what it would do (annotation istio.io/dry-run). It is for Allow and Deny.
	DryRun bool
	// Rules match where one of them does. A policy without rules matches nothing.
	Rules []Rule
}

// A Rule matches where one of From holds, one of To, and all of When. An empty list holds for every request.
type Rule struct {
	From [][]Term // of each the terms must all hold, here and in To
	To   [][]Term
	When []Term
}

// A Term compares one attribute: it must be like one of Values, where there are any, and like none of Not. Values are
// written as in Istio: "abc", "abc*", "*abc" or "*" for anything but nothing; paths may be templates (see
// [CheckTemplate]), ports are numbers, addresses are "192.0.2.1" or "192.0.2.0/24".
type Term struct {
	Attribute   Attribute
	Name        string   // of Header
	Keys        []string // of Claim, from the outermost
	Values, Not []string
}

// A Set is the policies of one workload. It is immutable and safe for concurrent use. A nil Set allows everything.
type Set struct {
	custom               phase
	provider             string // whom custom asks
	deny, allow, audit   phase
	shadowDeny, shadowed phase // of dry-run policies, shadowed those that allow
	allows, shadowAllows bool  // there are policies that allow, whatever their rules
}

// New compiles policies. Their order does not matter, but that of two rules that match either may be named. Its errors
// are about values that are none: addresses, ports, templates.
func New(policies []Policy) (*Set, error) {
	s := new(Set)
	s.custom.restricts, s.deny.restricts, s.shadowDeny.restricts, s.audit.restricts = true, true, true, true
	for i := range policies {
		p := &policies[i]
		into := &s.allow
		switch {
		case p.Action == Custom:
			if len(s.custom.rules) > 0 && s.provider != p.Provider {
				return nil, fmt.Errorf("compile policy %s/%s: provider %q beside %q: only one can be asked", p.Namespace, p.Name, p.Provider, s.provider)
			}
			into, s.provider = &s.custom, p.Provider
		case p.Action == Deny && p.DryRun:
			into = &s.shadowDeny
		case p.Action == Deny:
			into = &s.deny
		case p.Action == Audit:
			into = &s.audit
		case p.DryRun:
			into, s.shadowAllows = &s.shadowed, true
		default:
			s.allows = true
		}
		for k := range p.Rules {
			r, err := compileRule(p, k)
			if err != nil {
				return nil, fmt.Errorf("compile policy %s/%s: rules[%d]: %w", p.Namespace, p.Name, k, err)
			}
			into.rules = append(into.rules, r)
		}
	}
	for _, p := range []*phase{&s.custom, &s.deny, &s.allow, &s.audit, &s.shadowDeny, &s.shadowed} {
		p.build()
	}
	return s, nil
}

// A rule is a compiled Rule.
type rule struct {
	name     string // as Istio's proxies name it in their logs
	from, to [][]term
	when     []term
}

func compileRule(p *Policy, at int) (rule, error) {
	r := rule{name: fmt.Sprintf("ns[%s]-policy[%s]-rule[%d]", p.Namespace, p.Name, at)}
	from := &p.Rules[at]
	alternatives := func(list [][]Term) ([][]term, error) {
		var all [][]term
		for _, one := range list {
			terms, err := compileTerms(one)
			if err != nil {
				return nil, err
			}
			all = append(all, terms)
		}
		return all, nil
	}
	var err error
	if r.from, err = alternatives(from.From); err != nil {
		return r, err
	}
	if r.to, err = alternatives(from.To); err != nil {
		return r, err
	}
	r.when, err = compileTerms(from.When)
	return r, err
}

// A term is a compiled Term.
type term struct {
	attribute Attribute
	header    *call.Name
	keys      []string
	is, not   *values // nil for none
}

func compileTerms(list []Term) ([]term, error) {
	var terms []term
	for i := range list {
		t := &list[i]
		if t.Attribute >= attributeEnd {
			return nil, fmt.Errorf("no attribute %d", t.Attribute)
		}
		c := term{attribute: t.Attribute, keys: t.Keys}
		if t.Attribute == Header {
			c.header = call.NewName(t.Name)
		}
		var err error
		if c.is, err = compileValues(t.Attribute, t.Values); err != nil {
			return nil, err
		}
		if c.not, err = compileValues(t.Attribute, t.Not); err != nil {
			return nil, err
		}
		terms = append(terms, c)
	}
	return terms, nil
}

// holds reports whether the rule does.
func (r *rule) holds(q *Request, restricts bool) bool {
	return oneHolds(r.to, q, restricts) && oneHolds(r.from, q, restricts) && allHold(r.when, q, restricts)
}

func oneHolds(alternatives [][]term, q *Request, restricts bool) bool {
	for _, terms := range alternatives {
		if allHold(terms, q, restricts) {
			return true
		}
	}
	return len(alternatives) == 0
}

func allHold(terms []term, q *Request, restricts bool) bool {
	for i := range terms {
		if !terms[i].holds(q, restricts) {
			return false
		}
	}
	return true
}

// Uses reports whether a rule of the policies looks at such an attribute.
func Uses(policies []Policy, of func(Attribute) bool) bool {
	has := func(terms []Term) bool {
		for i := range terms {
			if of(terms[i].Attribute) {
				return true
			}
		}
		return false
	}
	for _, p := range policies {
		for _, r := range p.Rules {
			for _, list := range [][][]Term{r.From, r.To, {r.When}} {
				for _, terms := range list {
					if has(terms) {
						return true
					}
				}
			}
		}
	}
	return false
}

// lowered gives what is compared without regard to case.
func lowered(a Attribute, s string) string {
	if a == Host {
		return strings.ToLower(s)
	}
	return s
}
