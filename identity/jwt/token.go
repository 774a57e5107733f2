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

// A Refusal says why a token is not taken, in the words of Envoy's jwt_authn filter; the caller hears it. It shows nothing
// of the token. It is immutable.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// The refusals.
const (
	NotCompact   Refusal = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
	BadHeader    Refusal = "Jwt header is an invalid JSON"
	BadAlgorithm Refusal = "Jwt header [alg] is not supported"
	BadPayload   Refusal = "Jwt payload is an invalid JSON"
	BadTime      Refusal = "Jwt payload has an invalid time"
	Expired      Refusal = "Jwt is expired"
	NotYetValid  Refusal = "Jwt not yet valid"
	NoIssuer     Refusal = "Jwt issuer is not configured"
	NoAudience   Refusal = "Audiences in Jwt are not allowed"
	NoKey        Refusal = "Jwks doesn't have key to match kid or alg from Jwt"
	NoKeySet     Refusal = "Jwks remote fetch is failed"
	BadSignature Refusal = "Jwt verification fails"
	Ambiguous    Refusal = "Jwt is not the only one of the request"
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

// A node is a claim as policies see it.
type node struct {
	texts   []string
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
	if strings.ContainsFunc(s, notOfToken) || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return nil, NotCompact
	}
	strict := base64.RawURLEncoding.Strict()
	header, errH := strict.DecodeString(parts[0])
	payload, errP := strict.DecodeString(parts[1])
	signature, errS := strict.DecodeString(parts[2])
	if errH != nil || errP != nil || errS != nil {
		return nil, NotCompact
	}
	h, err := parseObject(header)
	if err != nil {
		return nil, BadHeader
	}
	p := &parsed{input: s[:len(parts[0])+1+len(parts[1])], signature: signature, payload: parts[1]}
	var ok bool
	if p.algorithm, ok = h["alg"].(string); !ok || !slices.Contains(algorithms, p.algorithm) {
		return nil, BadAlgorithm
	}
	for _, name := range []string{"crit", "b64"} { // extensions that we would have to understand (RFC 7515 §4.1.11, RFC 7797)
		if _, there := h[name]; there {
			return nil, BadHeader
		}
	}
	if kid, there := h["kid"]; there {
		if p.kid, p.named = kid.(string); !p.named {
			return nil, BadHeader
		}
	}
	if p.claims, err = parseObject(payload); err != nil {
		return nil, BadPayload
	}
	return p, nil
}

func notOfToken(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.')
}

var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// token reads the claims that are registered (RFC 7519 §4.1). exp has to be there.
func (p *parsed) token() (*Token, error) {
	t := &Token{claims: p.claims, payload: p.payload}
	for name, into := range map[string]*string{"iss": &t.issuer, "sub": &t.subject, "azp": &t.presenter} {
		if v, there := p.claims[name]; there {
			var ok bool
			if *into, ok = v.(string); !ok {
				return nil, BadPayload
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
			return nil, BadPayload
		}
	}
	exp, ok := p.time("exp")
	if !ok || exp.IsZero() {
		return nil, BadTime
	}
	nbf, okN := p.time("nbf")
	iat, okI := p.time("iat")
	if !okN || !okI {
		return nil, BadTime
	}
	t.expires = exp
	if t.notBefore = nbf; iat.After(nbf) {
		t.notBefore = iat
	}
	return t, nil
}

// time reads a NumericDate of whole seconds, zero where there is none.
func (p *parsed) time(name string) (time.Time, bool) {
	v, there := p.claims[name]
	if !there {
		return time.Time{}, true
	}
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	const latest = 253402300799 // the year 9999
	s, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil || s < 0 || s > latest {
		return time.Time{}, false
	}
	return time.Unix(s, 0), true
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
