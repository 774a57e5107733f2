package authz

import "slices"

// A phase is the rules of one action, found by what they ask for: a request is compared only with rules that name its
// path, its caller or its host, and with those that name none of them.
type phase struct {
	restricts bool
	rules     []rule
	keyed     [len(indexed)]keyed
	rest      []uint32
}

// indexed are the attributes that rules are found by. Of those that a rule asks for it is filed under the one that the
// fewest rules share a value of.
var indexed = [...]Attribute{Path, ServiceAccount, Principal, RequestPrincipal, Namespace, Host}

// maxKeys is how many values a rule may be filed under; maxFiled how many all rules may be.
const (
	maxKeys  = 64
	maxFiled = 1 << 18
)

// keyed is the rules that ask for one attribute.
type keyed struct {
	exact   map[string][]uint32
	prefix  map[string][]uint32
	lengths []int    // of the prefixes, each once
	all     []uint32 // every rule that is filed here
}

// A filing is the values of one attribute that a rule cannot hold without.
type filing struct {
	at              int // in indexed
	exact, prefixes []string
}

func (p *phase) build() {
	shared := make([]map[string]int, len(indexed))
	for i := range shared {
		shared[i] = make(map[string]int)
	}
	filings := make([][]filing, len(p.rules))
	filed := 0
	for i := range p.rules {
		if filed > maxFiled {
			break
		}
		filings[i] = p.rules[i].filings()
		for _, f := range filings[i] {
			for _, s := range slices.Concat(f.exact, f.prefixes) {
				shared[f.at][s]++
				filed++
			}
		}
	}
	for i := range p.rules {
		best, least := -1, 0
		for k, f := range filings[i] {
			most := 0
			for _, s := range slices.Concat(f.exact, f.prefixes) {
				most = max(most, shared[f.at][s])
			}
			if best < 0 || most < least {
				best, least = k, most
			}
		}
		if best < 0 {
			p.rest = append(p.rest, uint32(i))
			continue
		}
		p.file(uint32(i), &filings[i][best])
	}
	for i := range p.keyed {
		slices.Sort(p.keyed[i].lengths)
	}
}

func (p *phase) file(rule uint32, f *filing) {
	k := &p.keyed[f.at]
	if k.all == nil {
		k.exact, k.prefix = make(map[string][]uint32), make(map[string][]uint32)
	}
	k.all = append(k.all, rule)
	for _, s := range f.exact {
		k.exact[s] = append(k.exact[s], rule)
	}
	for _, s := range f.prefixes {
		k.prefix[s] = append(k.prefix[s], rule)
		if !slices.Contains(k.lengths, len(s)) {
			k.lengths = append(k.lengths, len(s))
		}
	}
}

// filings lists what the rule can be filed under.
func (r *rule) filings() []filing {
	var list []filing
	for at, a := range indexed {
		if f, ok := filingOf(a, [][]term{r.when}); ok {
			f.at = at
			list = append(list, f)
			continue
		}
		for _, alternatives := range [][][]term{r.to, r.from} {
			if f, ok := filingOf(a, alternatives); ok {
				f.at = at
				list = append(list, f)
				break
			}
		}
	}
	return list
}

// filingOf gathers the values of an attribute, where each of the alternatives asks for it and all of them can be looked
// up.
func filingOf(a Attribute, alternatives [][]term) (filing, bool) {
	var f filing
	for _, terms := range alternatives {
		at := slices.IndexFunc(terms, func(t term) bool { return t.attribute == a && t.is.findable() })
		if at < 0 {
			return f, false
		}
		for v := terms[at].is; v != nil; v = v.spelt {
			f.exact = append(f.exact, v.few...)
			for s := range v.exact {
				f.exact = append(f.exact, s)
			}
			f.prefixes = append(f.prefixes, v.prefixes...)
			for i := range v.templates {
				f.prefixes = append(f.prefixes, v.templates[i].prefix)
			}
		}
	}
	return f, len(alternatives) > 0 && len(f.exact)+len(f.prefixes) <= maxKeys
}

func (v *values) findable() bool {
	return v != nil && !v.present && len(v.suffixes) == 0 && len(v.few)+len(v.exact)+len(v.prefixes)+len(v.templates) <= maxKeys
}

// match gives a rule that holds, nil for none.
func (p *phase) match(q *Request) *rule {
	if len(p.rules) == 0 {
		return nil
	}
	for i := range p.keyed {
		if len(p.keyed[i].all) == 0 {
			continue
		}
		if r := p.look(&p.keyed[i], indexed[i], q); r != nil {
			return r
		}
	}
	return p.first(p.rest, q)
}

// look tries the rules that are filed under what the request has of the attribute. Where that is not known it could be
// any of them.
func (p *phase) look(k *keyed, a Attribute, q *Request) *rule {
	var texts []string
	var alone [1]string
	switch a {
	case Path:
		texts = q.paths[:q.spelt]
	case Host:
		texts = q.hosts[:q.hosted]
	case RequestPrincipal:
		if q.Token != nil {
			alone[0] = q.Token.Principal()
		}
		texts = alone[:]
	default:
		alone[0] = q.Peer.text(a)
		texts = alone[:]
	}
	if len(texts) == 0 || texts[0] == "" {
		if !p.restricts {
			return nil
		}
		return p.first(k.all, q)
	}
	for _, s := range texts {
		if r := p.first(k.exact[s], q); r != nil {
			return r
		}
		for _, n := range k.lengths {
			if n > len(s) {
				break
			}
			if r := p.first(k.prefix[s[:n]], q); r != nil {
				return r
			}
		}
	}
	return nil
}

func (p *phase) first(rules []uint32, q *Request) *rule {
	for _, i := range rules {
		if r := &p.rules[i]; r.holds(q, p.restricts) {
			return r
		}
	}
	return nil
}
