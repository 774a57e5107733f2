package jwt

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
)

// A Rule is one issuer whose tokens are believed (RequestAuthentication.jwtRules[]).
type Rule struct {
	Issuer    string   // what iss must be; "" for any
	Audiences []string // of which the token must have one; none for any
	Keys      *KeySet  // nil where they are fetched
	// Source is where the keys are fetched from, by a Fetcher that the set is given to. Default: Keys.
	Source Source
	// From is where tokens stand. Default: "Authorization: Bearer …", and the query parameter access_token.
	From []Location
	// Forward leaves the token in the request (forwardOriginalToken).
	Forward bool
	// PayloadTo is the field that gets the payload, base64; nil for none (outputPayloadToHeader).
	PayloadTo *call.Name
	// ClaimsTo are fields that get claims (outputClaimToHeaders).
	ClaimsTo []ClaimTo
	// Delimited are claims whose texts are lists with spaces, beside scope and permission (spaceDelimitedClaims).
	Delimited []string

	remote *remote // of Source, where a Fetcher follows it
}

// keys gives those that count at this time, nil for none.
func (r *Rule) keys(now time.Time) *KeySet {
	if r.remote != nil {
		return r.remote.keys(now)
	}
	return r.Keys
}

// A ClaimTo puts a claim that is text, a whole number or a boolean into a field.
type ClaimTo struct {
	Name *call.Name
	Keys []string // from the outermost
}

// A Set is the rules of one workload, and the tokens that they have verified. It is safe for concurrent use. A nil Set
// takes no token.
type Set struct {
	rules   []Rule
	outputs []*call.Name // that no caller may write
	cache   cache
}

// New makes a set. Rules of one issuer are alternatives.
func New(rules []Rule) *Set {
	s := &Set{rules: slices.Clone(rules)}
	for i := range s.rules {
		r := &s.rules[i]
		if len(r.From) == 0 {
			r.From = defaultLocations()
		}
		if r.PayloadTo != nil {
			s.outputs = append(s.outputs, r.PayloadTo)
		}
		for _, c := range r.ClaimsTo {
			s.outputs = append(s.outputs, c.Name)
		}
	}
	return s
}

// Changes counts how often the keys of the rules have changed since they were fetched first: what is decided by a token holds
// as long as it stays.
func (s *Set) Changes() uint64 {
	if s == nil {
		return 0
	}
	var n uint64
	for i := range s.rules {
		if m := s.rules[i].remote; m != nil {
			n += m.changes.Load()
		}
	}
	return n
}

// Outputs are the fields that rules write: what a caller has put there is taken off every request.
func (s *Set) Outputs() []*call.Name { return s.outputs }

// A Found is what a request brought. The zero Found is no token.
type Found struct {
	Token *Token
	// Err is the Refusal of the token, or nil.
	Err error
	// At is where it stood.
	At *Location
}

// Check finds the token of a request and verifies it. A request with several different tokens is refused. What was
// verified before costs no allocation.
func (s *Set) Check(q *Request, now time.Time) Found {
	if s == nil {
		return Found{}
	}
	text, err := s.only(q)
	if text == "" || err != nil {
		return Found{Err: err}
	}
	if e := s.cache.get(text); e != nil {
		if at := e.rule.stands(q, text); at != nil && e.keys == e.rule.keys(now) {
			if err := e.token.at(now); err != nil {
				return Found{Err: err}
			}
			return Found{Token: e.token, At: at}
		}
		s.cache.drop(text)
	}
	text = strings.Clone(text) // the request's may be a buffer's
	p, err := parse(text)
	if err != nil {
		return Found{Err: err}
	}
	t, err := p.token()
	if err != nil {
		return Found{Err: err}
	}
	err = NoIssuer
	for i := range s.rules {
		r := &s.rules[i]
		at := r.stands(q, text)
		if at == nil || r.Issuer != "" && r.Issuer != t.issuer {
			continue
		}
		keys := r.keys(now)
		if err = r.verify(keys, p, t, now); err == nil {
			t = r.finish(t)
			s.cache.put(text, &verified{token: t, rule: r, keys: keys})
			return Found{Token: t, At: at}
		}
	}
	return Found{Err: err}
}

// verify holds a token against one rule. The signature comes before what is said of the claims. Where none of the keys is
// the one, those that are fetched may be old.
func (r *Rule) verify(keys *KeySet, p *parsed, t *Token, now time.Time) error {
	if keys == nil {
		return NoKeySet
	}
	fit := keys.find(p.kid, p.named, p.algorithm)
	if !slices.ContainsFunc(fit, func(k *key) bool { return k.verify(p.algorithm, []byte(p.input), p.signature) }) {
		if r.remote != nil {
			r.remote.miss()
		}
		if len(fit) == 0 {
			return NoKey
		}
		return BadSignature
	}
	if err := t.at(now); err != nil {
		return err
	}
	if len(r.Audiences) > 0 && !slices.ContainsFunc(t.audiences, func(a string) bool { return slices.Contains(r.Audiences, a) }) {
		return NoAudience
	}
	return nil
}

// finish prepares what is asked of a token again and again.
func (r *Rule) finish(t *Token) *Token {
	t.rule = r
	t.texts.members = make(map[string]*node, len(t.claims))
	for name, v := range t.claims {
		t.texts.members[name] = nodeOf(v, name == "scope" || name == "permission" || slices.Contains(r.Delimited, name))
	}
	if r.PayloadTo != nil {
		t.fields = append(t.fields, Field{r.PayloadTo, t.payload})
	}
	for _, c := range r.ClaimsTo {
		if v, ok := written(t.claims, c.Keys); ok {
			t.fields = append(t.fields, Field{c.Name, v})
		}
	}
	return t
}

// Fields are what the token's rule puts into the header.
func (t *Token) Fields() []Field { return t.fields }

// Forwarded reports whether the token stays in the request.
func (t *Token) Forwarded() bool { return t.rule.Forward }

// written gives a claim as a field has it. A text that a field cannot hold is none.
func written(claims map[string]any, keys []string) (string, bool) {
	var v any = claims
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	if s, ok := v.(string); ok {
		return s, fieldValue(s)
	}
	return scalar(v)
}

// scalar writes a truth or a whole number.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	case json.Number:
		_, err := v.Int64()
		return v.String(), err == nil
	}
	return "", false
}

// fieldValue reports a text that a field can hold as it is (RFC 9110 §5.5).
func fieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f {
			return false
		}
	}
	return s == "" || s[0] != ' ' && s[len(s)-1] != ' '
}
