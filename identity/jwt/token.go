package jwt

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
)

// Leeway is what clocks may differ by: a token counts as long after exp, and before nbf and iat.
const Leeway = 60 * time.Second

// maxToken is the longest token that is looked at.
const maxToken = 16 << 10

// A Refusal says why a token is not taken, in the words of Envoy's jwt_authn filter where it has them; the caller hears it.
// It shows nothing of the token. It is immutable.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// The refusals, beside those of single claims ("Jwt payload [iat] field is not an integer").
const (
	NotCompact   Refusal = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
	BadHeader64  Refusal = "Jwt header is an invalid Base64url encoded"
	BadHeader    Refusal = "Jwt header is an invalid JSON"
	NoAlgorithm  Refusal = "Jwt header [alg] field is required and must be a string"
	BadAlgorithm Refusal = "Jwt header [alg] is not supported"
	BadKid       Refusal = "Jwt header [kid] field is not a string"
	Critical     Refusal = "Jwt header has extensions that are not supported" // Envoy does not look at them
	BadPayload64 Refusal = "Jwt payload is an invalid Base64url encoded"
	BadPayload   Refusal = "Jwt payload is an invalid JSON"
	BadAudience  Refusal = "Jwt payload [aud] field is not a string or string list"
	NoExpiry     Refusal = "Jwt payload [exp] field is required" // Envoy takes tokens for good
	BadBase64    Refusal = "Jwt signature is an invalid Base64url encoded"
	Expired      Refusal = "Jwt is expired"
	NotYetValid  Refusal = "Jwt not yet valid"
	NoIssuer     Refusal = "Jwt issuer is not configured"
	NoAudience   Refusal = "Audiences in Jwt are not allowed"
	NoKey        Refusal = "Jwks doesn't have key to match kid or alg from Jwt"
	NoKeySet     Refusal = "Jwks remote fetch is failed"
	BadSignature Refusal = "Jwt verification fails"
	Ambiguous    Refusal = "Found multiple Jwt tokens"
)

// A Token is a verified token. It is immutable: what it gives must not be changed.
type Token struct {
	issuer, subject, presenter string
	principal                  string
	audiences                  []string
	claims                     map[string]any
	texts                      node
	payload                    string // as it was signed, base64
	expires, notBefore         time.Time

	rule   *Rule
	fields []Field // what the rule puts into the header
}

// A Field is a header field that a token's rule sets.
type Field struct {
	Name  *call.Name
	Value string
}

// Principal is issuer/subject, "" where one of them is missing (request.auth.principal).
func (t *Token) Principal() string { return t.principal }

// Issuer is who has issued it, iss.
func (t *Token) Issuer() string { return t.issuer }

// Audiences are those of the token (request.auth.audiences).
func (t *Token) Audiences() []string { return t.audiences }

// Presenter is the authorized party, azp (request.auth.presenter).
func (t *Token) Presenter() string { return t.presenter }

// Claims gives the claims; numbers are json.Number.
func (t *Token) Claims() map[string]any { return t.claims }

// Claim gives a claim's texts by its keys from the outermost. ok is false where it is neither text nor a list of texts.
func (t *Token) Claim(keys []string) ([]string, bool) {
	n := &t.texts
	for _, k := range keys {
		if n = n.members[k]; n == nil {
			return nil, false
		}
	}
	return n.texts, n.texts != nil
}

// Values gives a claim's values by its keys from the outermost: what Claim gives, or a whole number or truth as it is written.
func (t *Token) Values(keys []string) []string {
	n := &t.texts
	for _, k := range keys {
		if n = n.members[k]; n == nil {
			return nil
		}
	}
	if n.texts == nil {
		return n.plain
	}
	return n.texts
}

// A node is a claim as policies and limits see it.
type node struct {
	texts   []string
	plain   []string // the one number or truth that it is, which policies do not see
	members map[string]*node
}

// nodeOf prepares a claim. delimited says that a text is a list with spaces.
func nodeOf(v any, delimited bool) *node {
	n := new(node)
	switch v := v.(type) {
	case string:
		if n.texts = []string{v}; delimited {
			n.texts = strings.Fields(v)
		}
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return new(node)
			}
			n.texts = append(n.texts, s)
		}
	case map[string]any:
		n.members = make(map[string]*node, len(v))
		for k, e := range v {
			n.members[k] = nodeOf(e, false)
		}
	default:
		if s, ok := scalar(v); ok {
			n.plain = []string{s}
		}
	}
	return n
}

// A parsed is a token before its signature is verified. Nothing in it is believed.
type parsed struct {
	algorithm, kid string
	named          bool // it has a kid
	input          string
	signature      []byte
	payload        string
	claims         map[string]any
}

// parse takes a token apart (RFC 7515 §3.1, RFC 7519 §3).
func parse(s string) (*parsed, error) {
	if len(s) > maxToken || strings.Count(s, ".") != 2 {
		return nil, NotCompact
	}
	parts := strings.Split(s, ".")
	if parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return nil, NotCompact
	}
	p := &parsed{input: s[:len(parts[0])+1+len(parts[1])], payload: parts[1]}
	header, err := decode(parts[0], BadHeader64)
	if err != nil {
		return nil, err
	}
	if err := p.header(header); err != nil {
		return nil, err
	}
	payload, err := decode(parts[1], BadPayload64)
	if err != nil {
		return nil, err
	}
	if p.claims, err = parseObject(payload); err != nil {
		return nil, BadPayload
	}
	p.signature, err = decode(parts[2], BadBase64)
	return p, err
}

// header reads what the header says of algorithm and key (RFC 7515 §4.1).
func (p *parsed) header(text []byte) error {
	h, err := parseObject(text)
	if err != nil {
		return BadHeader
	}
	var ok bool
	if p.algorithm, ok = h["alg"].(string); !ok {
		return NoAlgorithm
	}
	if !slices.Contains(algorithms, p.algorithm) {
		return BadAlgorithm
	}
	for _, name := range []string{"crit", "b64"} { // extensions that we would have to understand (RFC 7515 §4.1.11, RFC 7797)
		if _, there := h[name]; there {
			return Critical
		}
	}
	if kid, there := h["kid"]; there {
		if p.kid, p.named = kid.(string); !p.named {
			return BadKid
		}
	}
	return nil
}

// decode reads base64url in its one spelling; Go's reader would pass over line ends.
func decode(part string, otherwise Refusal) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || strings.ContainsFunc(part, notOfToken) {
		return nil, otherwise
	}
	return b, nil
}

func notOfToken(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_')
}

var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// token reads the claims that are registered (RFC 7519 §4.1). exp has to be there.
func (p *parsed) token() (*Token, error) {
	t := &Token{claims: p.claims, payload: p.payload}
	for name, into := range map[string]*string{"iss": &t.issuer, "sub": &t.subject, "azp": &t.presenter} {
		if v, there := p.claims[name]; there {
			var ok bool
			if *into, ok = v.(string); !ok {
				return nil, notA(name, "a string")
			}
		}
	}
	if t.issuer != "" && t.subject != "" {
		t.principal = t.issuer + "/" + t.subject
	}
	switch aud := p.claims["aud"].(type) {
	case nil:
	case string:
		t.audiences = []string{aud}
	default:
		if t.audiences = nodeOf(aud, false).texts; t.audiences == nil {
			return nil, BadAudience
		}
	}
	if _, there := p.claims["exp"]; !there {
		return nil, NoExpiry
	}
	var issued time.Time
	for _, c := range []struct {
		name string
		into *time.Time
	}{{"iat", &issued}, {"nbf", &t.notBefore}, {"exp", &t.expires}} {
		var err error
		if *c.into, err = p.time(c.name); err != nil {
			return nil, err
		}
	}
	if issued.After(t.notBefore) {
		t.notBefore = issued
	}
	return t, nil
}

// notA is the refusal of a claim that is of another kind.
func notA(claim, kind string) Refusal {
	return Refusal("Jwt payload [" + claim + "] field is not " + kind)
}

// time reads a NumericDate of whole seconds, zero where there is none.
func (p *parsed) time(name string) (time.Time, error) {
	v, there := p.claims[name]
	if !there {
		return time.Time{}, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, notA(name, "an integer")
	}
	const latest = 253402300799 // the year 9999
	s, err := strconv.ParseInt(n.String(), 10, 64)
	switch {
	case err != nil:
		return time.Time{}, notA(name, "an integer")
	case s < 0 || s > latest:
		return time.Time{}, notA(name, "a positive integer")
	}
	return time.Unix(s, 0), nil
}

// at says whether the token counts at this time.
func (t *Token) at(now time.Time) error {
	switch {
	case !now.Before(t.expires.Add(Leeway)):
		return Expired
	case now.Add(Leeway).Before(t.notBefore):
		return NotYetValid
	}
	return nil
}
