package authz

// OfHTTP reports an attribute that only a request has; a connection of another protocol has none of them.
func (a Attribute) OfHTTP() bool {
	switch a {
	case Path, Host, Method, Header:
		return true
	}
	return a.OfToken()
}

// ForTCP gives what of policies goes for connections that are not HTTP, as Istio's proxies have it (pilot/pkg/security/authz/model):
// of a rule that grants, all or nothing; a rule that takes away does so whatever the attributes of HTTP were to be. Nobody is asked
// about connections: what a CUSTOM policy matches is denied.
func ForTCP(policies []Policy) []Policy {
	list := make([]Policy, len(policies))
	for i, p := range policies {
		if p.Action == Custom {
			p.Action = Deny
		}
		rules := p.Rules
		p.Rules = nil
		for _, r := range rules {
			if p.Action == Allow && Uses([]Policy{{Rules: []Rule{r}}}, Attribute.OfHTTP) {
				continue
			}
			p.Rules = append(p.Rules, Rule{From: alternativesForTCP(r.From), To: alternativesForTCP(r.To), When: termsForTCP(r.When)})
		}
		list[i] = p
	}
	return list
}

func alternativesForTCP(list [][]Term) [][]Term {
	all := make([][]Term, len(list))
	for i := range list {
		all[i] = termsForTCP(list[i])
	}
	return all
}

func termsForTCP(terms []Term) []Term {
	var left []Term
	for _, t := range terms {
		if !t.Attribute.OfHTTP() {
			left = append(left, t)
		}
	}
	return left
}
