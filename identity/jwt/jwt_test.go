package jwt_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/jwt"
)

var now = time.Unix(1_800_000_000, 0)

const iat = 1_800_000_000

func parseKeys(t testing.TB, keys ...string) *jwt.KeySet {
	t.Helper()
	s, err := jwt.ParseKeySet([]byte(jwks(keys...)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func rule(keys *jwt.KeySet) jwt.Rule { return jwt.Rule{Issuer: "https://issuer.example", Keys: keys} }

func bearer(token string) *jwt.Request {
	return &jwt.Request{Headers: call.HTTPHeaders{"Authorization": {"Bearer " + token}}}
}

// TestAlgorithms: attacks.md C-040.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		for _, aud := range []any{"web", []string{"x", "web"}} {
			r := rule(parseKeys(t, publicJWK(signerOf(alg), `,"kid":"k"`)))
			r.Audiences = []string{"web"}
			s := jwt.New([]jwt.Rule{r})
			token := sign(t, alg, `{"alg":"`+alg+`","kid":"k"}`, claims(iat, map[string]any{"aud": aud}))
			for range 2 { // the second time from the cache
				found := s.Check(bearer(token), now)
				if found.Err != nil || found.Token == nil || found.Token.Principal() != "https://issuer.example/alice" || found.At == nil {
					t.Errorf("%s, %v: %+v", alg, aud, found)
				}
			}
		}
	}
}

// TestRefusals: attacks.md C-041 to C-049.
func TestRefusals(t *testing.T) {
	t.Parallel()
	es := publicJWK(signerOf("ES256"), `,"kid":"k"`)
	keys := parseKeys(t, es)
	two := parseKeys(t, es, publicJWK(signerOf("RS256"), `,"kid":"r","alg":"RS256"`))
	bound := parseKeys(t, publicJWK(signerOf("RS256"), `,"kid":"r","alg":"RS256"`))
	head := `{"alg":"ES256","kid":"k"}`
	good := sign(t, "ES256", head, claims(iat, nil))
	parts := strings.Split(good, ".")
	with := func(changes map[string]any) string { return sign(t, "ES256", head, claims(iat, changes)) }
	header := func(h string) string { return sign(t, "ES256", h, claims(iat, nil)) }
	payload := func(p string) string { return sign(t, "ES256", head, p) }
	zeros := b64(make([]byte, 64))
	pem := b64([]byte("the public key as a secret"))
	for _, c := range []struct {
		name, token string
		keys        *jwt.KeySet
		want        error
	}{
		{"good", good, keys, nil},
		{"good, by kid of two", good, two, nil},
		{"no kid, two keys, one fits", sign(t, "ES256", `{"alg":"ES256"}`, claims(iat, nil)), two, nil},
		{"alg none", b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", keys, jwt.NotCompact},
		{"alg none, signed", header(`{"alg":"none","kid":"k"}`), keys, jwt.BadAlgorithm},
		{"alg None", header(`{"alg":"None","kid":"k"}`), keys, jwt.BadAlgorithm},
		{"alg empty", header(`{"alg":"","kid":"k"}`), keys, jwt.BadAlgorithm},
		{"alg absent", header(`{"kid":"k"}`), keys, jwt.NoAlgorithm},
		{"alg list", header(`{"alg":["ES256"],"kid":"k"}`), keys, jwt.NoAlgorithm},
		{"HS256", b64([]byte(`{"alg":"HS256","kid":"k"}`)) + "." + parts[1] + "." + pem, keys, jwt.BadAlgorithm},
		{"PS256 with a key for RS256", sign(t, "PS256", `{"alg":"PS256","kid":"r"}`, claims(iat, nil)), bound, jwt.NoKey},
		{"ES384 on P-256", header(`{"alg":"ES384","kid":"k"}`), keys, jwt.NoKey},
		{"zeros", parts[0] + "." + parts[1] + "." + zeros, keys, jwt.BadSignature},
		{"signature cut", good[:len(good)-2], keys, jwt.BadSignature},
		{"signature longer", good + "AAAA", keys, jwt.BadSignature},
		{"padding", good + "==", keys, jwt.BadBase64},
		{"other alphabet", parts[0] + "." + parts[1] + "." + strings.Repeat("+", 86), keys, jwt.BadBase64},
		{"whitespace", parts[0] + "\n." + parts[1] + "." + parts[2], keys, jwt.BadHeader64},
		{"whitespace in the payload", parts[0] + "." + parts[1] + "\r\n." + parts[2], keys, jwt.BadPayload64},
		{"trailing bits", parts[0] + "." + parts[1] + "." + parts[2][:85] + "_", keys, jwt.BadBase64},
		{"kid unknown", header(`{"alg":"ES256","kid":"x"}`), keys, jwt.NoKey},
		{"kid a path", header(`{"alg":"ES256","kid":"../../dev/null"}`), keys, jwt.NoKey},
		{"kid no text", header(`{"alg":"ES256","kid":1}`), keys, jwt.BadKid},
		{"key in the header", header(`{"alg":"ES256","kid":"x","jwk":` + es + `,"jku":"https://a","x5c":["a"]}`), keys, jwt.NoKey},
		{"key in the header, good kid", header(`{"alg":"ES256","kid":"k","jku":"https://a","cty":"JWT"}`), keys, nil},
		{"crit", header(`{"alg":"ES256","kid":"k","crit":["exp"]}`), keys, jwt.Critical},
		{"b64", header(`{"alg":"ES256","kid":"k","b64":false}`), keys, jwt.Critical},
		{"header twice", header(`{"alg":"ES256","alg":"ES256","kid":"k"}`), keys, jwt.BadHeader},
		{"header no object", header(`[]`), keys, jwt.BadHeader},
		{"header and more", header(`{"alg":"ES256","kid":"k"}{}`), keys, jwt.BadHeader},
		{"exp missing", with(map[string]any{"exp": nil}), keys, jwt.NoExpiry},
		{"exp at the edge", with(map[string]any{"exp": iat - 59}), keys, nil},
		{"exp past the edge", with(map[string]any{"exp": iat - 60}), keys, jwt.Expired},
		{"exp a fraction", with(map[string]any{"exp": iat + 0.5}), keys, jwt.Refusal("Jwt payload [exp] field is not an integer")},
		{"exp text", with(map[string]any{"exp": "1900000000"}), keys, jwt.Refusal("Jwt payload [exp] field is not an integer")},
		{"exp 2^63", payload(`{"iss":"https://issuer.example","exp":9223372036854775808}`), keys, jwt.Refusal("Jwt payload [exp] field is not an integer")},
		{"exp far away", payload(`{"iss":"https://issuer.example","exp":922337203685477580}`), keys, jwt.Refusal("Jwt payload [exp] field is not a positive integer")},
		{"exp negative", with(map[string]any{"exp": -1}), keys, jwt.Refusal("Jwt payload [exp] field is not a positive integer")},
		{"nbf at the edge", with(map[string]any{"nbf": iat + 60}), keys, nil},
		{"nbf past the edge", with(map[string]any{"nbf": iat + 61}), keys, jwt.NotYetValid},
		{"iat past the edge", with(map[string]any{"iat": iat + 61}), keys, jwt.NotYetValid},
		{"aud missing", with(map[string]any{"aud": nil}), keys, jwt.NoAudience},
		{"aud another", with(map[string]any{"aud": "we"}), keys, jwt.NoAudience},
		{"aud longer", with(map[string]any{"aud": "web/x"}), keys, jwt.NoAudience},
		{"aud empty", with(map[string]any{"aud": []string{}}), keys, jwt.BadAudience},
		{"aud nested", with(map[string]any{"aud": []any{[]string{"web"}}}), keys, jwt.BadAudience},
		{"iss with a slash", with(map[string]any{"iss": "https://issuer.example/"}), keys, jwt.NoIssuer},
		{"iss in capitals", with(map[string]any{"iss": "https://ISSUER.example"}), keys, jwt.NoIssuer},
		{"iss missing", with(map[string]any{"iss": nil}), keys, jwt.NoIssuer},
		{"iss no text", with(map[string]any{"iss": 1}), keys, jwt.Refusal("Jwt payload [iss] field is not a string")},
		{"claim twice", payload(`{"iss":"https://issuer.example","exp":1900000000,"exp":1900000000}`), keys, jwt.BadPayload},
		{"claim twice, deep", payload(`{"a":{"b":1,"b":2},"exp":1900000000}`), keys, jwt.BadPayload},
		{"deep", payload(strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)), keys, jwt.BadPayload},
		{"not UTF-8", payload("{\"a\":\"\xff\"}"), keys, jwt.BadPayload},
		{"dots", strings.Repeat(".", 10_000), keys, jwt.NotCompact},
		{"JWE", "a.b.c.d.e", keys, jwt.NotCompact},
		{"long", parts[0] + "." + strings.Repeat("A", 1<<20) + "." + parts[2], keys, jwt.NotCompact},
		{"empty", "", keys, jwt.NotCompact},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := rule(c.keys)
			r.Audiences = []string{"web"}
			found := jwt.New([]jwt.Rule{r}).Check(bearer(c.token), now)
			if !errors.Is(found.Err, c.want) || (found.Token != nil) != (c.want == nil) {
				t.Errorf("got %v, want %v", found.Err, c.want)
			}
		})
	}
}

// TestLocations: where tokens stand, and requests that have more than one (attacks.md C-050, C-051).
func TestLocations(t *testing.T) {
	t.Parallel()
	key := publicJWK(signerOf("EdDSA"), "")
	good := sign(t, "EdDSA", `{"alg":"EdDSA"}`, claims(iat, nil))
	other := sign(t, "EdDSA", `{"alg":"EdDSA"}`, claims(iat, map[string]any{"sub": "bob"}))
	everywhere := []jwt.Location{{Place: jwt.InHeader, Field: call.NewName("x-token"), Prefix: "Token "}, {Place: jwt.InQuery, Name: "t"}, {Place: jwt.InCookie, Name: "session"}}
	h := func(pairs ...string) call.HTTPHeaders {
		all := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			all.Add(pairs[i], pairs[i+1])
		}
		return call.HTTPHeaders(all)
	}
	for _, c := range []struct {
		name  string
		from  []jwt.Location
		q     jwt.Request
		token bool
		want  error
	}{
		{"none", nil, jwt.Request{Headers: h()}, false, nil},
		{"bearer", nil, jwt.Request{Headers: h("Authorization", "Bearer "+good)}, true, nil},
		{"small letters", nil, jwt.Request{Headers: h("Authorization", "bearer "+good)}, true, nil},
		{"two spaces", nil, jwt.Request{Headers: h("Authorization", "Bearer  "+good)}, false, jwt.NotCompact},
		{"joined", nil, jwt.Request{Headers: h("Authorization", "Bearer "+good+",Bearer "+good)}, false, jwt.NotCompact},
		{"basic", nil, jwt.Request{Headers: h("Authorization", "Basic YTpi")}, false, nil},
		{"basic and bearer", nil, jwt.Request{Headers: h("Authorization", "Basic YTpi", "Authorization", "Bearer "+good)}, false, jwt.Ambiguous},
		{"twice", nil, jwt.Request{Headers: h("Authorization", "Bearer "+good, "Authorization", "Bearer "+good)}, false, jwt.Ambiguous},
		{"query", nil, jwt.Request{Headers: h(), Query: "a=b&access_token=" + good}, true, nil},
		{"query, twice", nil, jwt.Request{Headers: h(), Query: "access_token=" + good + "&access%5ftoken=" + good}, false, jwt.Ambiguous},
		{"header and query, one token", nil, jwt.Request{Headers: h("Authorization", "Bearer "+good), Query: "access_token=" + good}, true, nil},
		{"header and query, two", nil, jwt.Request{Headers: h("Authorization", "Bearer "+good), Query: "access_token=" + other}, false, jwt.Ambiguous},
		{"own header", everywhere, jwt.Request{Headers: h("X-Token", "Token "+good)}, true, nil},
		{"own header, other prefix", everywhere, jwt.Request{Headers: h("X-Token", good)}, false, nil},
		{"own parameter", everywhere, jwt.Request{Headers: h(), Query: "t=" + good}, true, nil},
		{"cookie", everywhere, jwt.Request{Headers: h("Cookie", "a=b; session="+good)}, true, nil},
		{"two cookies", everywhere, jwt.Request{Headers: h("Cookie", "session="+good+"; session="+other)}, false, jwt.Ambiguous},
		{"cookie and parameter", everywhere, jwt.Request{Headers: h("Cookie", "session="+good), Query: "t=" + other}, false, jwt.Ambiguous},
		{"authorization is none of the places", everywhere, jwt.Request{Headers: h("Authorization", "Bearer "+good)}, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := rule(parseKeys(t, key))
			r.From = c.from
			s := jwt.New([]jwt.Rule{r})
			for range 2 {
				found := s.Check(&c.q, now)
				if !errors.Is(found.Err, c.want) || (found.Token != nil) != c.token {
					t.Errorf("%+v, want %v", found, c.want)
				}
			}
		})
	}
}

// TestClaims: what policies and headers make of claims (attacks.md C-052).
func TestClaims(t *testing.T) {
	t.Parallel()
	r := rule(parseKeys(t, publicJWK(signerOf("EdDSA"), "")))
	r.Delimited = []string{"roles"}
	r.PayloadTo = call.NewName("x-payload")
	for _, c := range []string{"sub", "n", "yes", "nested.name", "list", "bad", "half", "gone"} {
		r.ClaimsTo = append(r.ClaimsTo, jwt.ClaimTo{Name: call.NewName("x-" + c), Keys: strings.Split(c, ".")})
	}
	payload := claims(iat, map[string]any{"azp": "app", "scope": "read write", "roles": "a b", "text": "a b", "list": []string{"x", "y"}, "mixed": []any{"x", 1},
		"n": 7, "half": 0.5, "yes": true, "nested": map[string]any{"name": "deep"}, "a.b": "dotted", "bad": "a\r\nb: c", "null": nil})
	found := jwt.New([]jwt.Rule{r}).Check(bearer(sign(t, "EdDSA", `{"alg":"EdDSA"}`, payload)), now)
	if found.Err != nil {
		t.Fatal(found.Err)
	}
	token := found.Token
	for _, c := range []struct {
		keys []string
		want []string
	}{
		{[]string{"sub"}, []string{"alice"}}, {[]string{"scope"}, []string{"read", "write"}}, {[]string{"roles"}, []string{"a", "b"}},
		{[]string{"text"}, []string{"a b"}}, {[]string{"list"}, []string{"x", "y"}}, {[]string{"mixed"}, nil}, {[]string{"n"}, nil}, {[]string{"yes"}, nil},
		{[]string{"nested", "name"}, []string{"deep"}}, {[]string{"nested"}, nil}, {[]string{"a", "b"}, nil}, {[]string{"a.b"}, []string{"dotted"}}, {[]string{"gone"}, nil},
	} {
		if got, ok := token.Claim(c.keys); !slices.Equal(got, c.want) || ok != (c.want != nil) {
			t.Errorf("%v: %q, %v", c.keys, got, ok)
		}
	}
	if token.Presenter() != "app" || !slices.Equal(token.Audiences(), []string{"web", "api"}) || token.Claims()["sub"] != "alice" {
		t.Errorf("presenter %q, audiences %q", token.Presenter(), token.Audiences())
	}
	var fields []string
	for _, f := range token.Fields() {
		if f.Name.Lower() == "x-payload" {
			if b, err := base64.RawURLEncoding.DecodeString(f.Value); err != nil || string(b) != payload {
				t.Errorf("payload %q, %v", b, err)
			}
			continue
		}
		fields = append(fields, f.Name.Lower()+": "+f.Value)
	}
	if want := []string{"x-sub: alice", "x-n: 7", "x-yes: true", "x-nested.name: deep"}; !slices.Equal(fields, want) {
		t.Errorf("fields %q, want %q", fields, want)
	}
}

// TestKeySets: attacks.md A-060; no error shows a key.
func TestKeySets(t *testing.T) {
	t.Parallel()
	es := publicJWK(signerOf("ES256"), `,"kid":"k"`)
	for name, c := range map[string]struct{ text, want string }{
		"good":            {jwks(es), ""},
		"not JSON":        {"<html>", "no JSON object"},
		"no keys":         {`{}`, "no key for signatures"},
		"empty":           {`{"keys":[]}`, "no key for signatures"},
		"private":         {jwks(strings.Replace(es, "{", `{"d":"c2VjcmV0",`, 1)), "a private key"},
		"symmetric":       {jwks(`{"kty":"oct","k":"c2VjcmV0"}`), "a symmetric key"},
		"kid twice":       {jwks(es, es), "another key's too"},
		"encryption":      {jwks(strings.Replace(es, "{", `{"use":"enc",`, 1)), "no key for signatures"},
		"unknown kind":    {jwks(`{"kty":"XYZ"}`, es), ""},
		"short RSA":       {jwks(`{"kty":"RSA","n":"` + b64(make([]byte, 128)) + `","e":"AQAB"}`), "bits"},
		"alg of another":  {jwks(strings.Replace(es, "{", `{"alg":"RS256",`, 1)), "alg does not go"},
		"off the curve":   {jwks(`{"kty":"EC","crv":"P-256","x":"` + b64(make([]byte, 32)) + `","y":"` + b64(make([]byte, 32)) + `"}`), "no point"},
		"secp256k1":       {jwks(`{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}`), "no curve"},
		"member twice":    {`{"keys":[],"keys":[` + es + `]}`, "twice"},
		"something after": {jwks(es) + "x", "follows"},
	} {
		_, err := jwt.ParseKeySet([]byte(c.text))
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "c2VjcmV0")) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// canonical reports a token whose parts have one spelling.
func canonical(token string) bool {
	return !slices.ContainsFunc(strings.Split(token, "."), func(part string) bool {
		b, err := base64.RawURLEncoding.DecodeString(part)
		return err != nil || b64(b) != part
	})
}

// josed is what go-jose makes of a token: the same rules over another implementation.
func josed(keys *jose.JSONWebKeySet, token string) bool {
	parsed, err := josejwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
		jose.ES256, jose.ES384, jose.ES512, jose.EdDSA})
	if err != nil || len(parsed.Headers) != 1 {
		return false
	}
	var c josejwt.Claims
	var raw map[string]any
	for _, k := range keys.Keys {
		if id := parsed.Headers[0].KeyID; id != "" && id != k.KeyID {
			continue
		}
		if err = parsed.Claims(k.Key, &c, &raw); err == nil {
			break
		}
	}
	if err != nil || c.Expiry == nil {
		return false
	}
	return c.ValidateWithLeeway(josejwt.Expected{Issuer: "https://issuer.example", AnyAudience: josejwt.Audience{"web"}, Time: now}, jwt.Leeway) == nil
}

// TestSecondVerifier mutates tokens and holds what becomes of them against go-jose. Both refuse the same, but for what the
// one is stricter about and says so.
func TestSecondVerifier(t *testing.T) {
	t.Parallel()
	n := 7_000 // of which a quarter stay as they are
	if testing.Short() {
		n = 600
	}
	algs := []string{"RS256", "PS384", "ES256", "EdDSA"}
	var texts []string
	for i, alg := range []string{"RS256", "ES256", "EdDSA"} {
		texts = append(texts, publicJWK(signerOf(alg), fmt.Sprintf(`,"kid":"k%d"`, i)))
	}
	var theirs jose.JSONWebKeySet
	for _, text := range texts {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON([]byte(text)); err != nil {
			t.Fatal(err)
		}
		theirs.Keys = append(theirs.Keys, k)
	}
	r := rule(parseKeys(t, texts...))
	r.Audiences = []string{"web"}
	s := jwt.New([]jwt.Rule{r})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	d := rand.New(rand.NewPCG(seed, 3))
	of := func(list ...string) string { return list[d.IntN(len(list))] }
	var tokens []string
	for _, alg := range algs {
		kid := map[string]string{"RS256": "k0", "PS384": "k0", "ES256": "k1", "EdDSA": "k2"}[alg]
		for _, changes := range []map[string]any{nil, {"aud": "web"}, {"aud": "x"}, {"exp": iat - 59}, {"exp": iat - 61}, {"nbf": iat + 59}, {"nbf": iat + 61}, {"iss": "x"}, {"sub": nil}} {
			tokens = append(tokens, sign(t, alg, of(`{"alg":"`+alg+`"}`, `{"alg":"`+alg+`","kid":"`+kid+`"}`, `{"typ":"JWT","alg":"`+alg+`"}`), claims(iat, changes)))
		}
	}
	accepted := 0
	for range n {
		token := tokens[d.IntN(len(tokens))]
		switch d.IntN(8) {
		case 0, 1:
		case 2:
			at := d.IntN(len(token))
			token = token[:at] + of("A", "_", "-", ".", "=", "x") + token[at+1:]
		case 3:
			at := d.IntN(len(token))
			token = token[:at] + token[at+1:]
		case 4:
			at := d.IntN(len(token))
			token = token[:at] + of("A", ".", "x", "AAAA") + token[at:]
		case 5: // parts of two tokens
			a, b := strings.Split(token, "."), strings.Split(tokens[d.IntN(len(tokens))], ".")
			token = strings.Join([]string{of(a[0], b[0]), of(a[1], b[1]), of(a[2], b[2])}, ".")
		case 6: // another header, signed anew by somebody's key
			p := strings.Split(token, ".")
			alg := algs[d.IntN(len(algs))]
			input := b64([]byte(`{"alg":"`+of("none", "HS256", alg, alg)+`","kid":"`+of("k0", "k1", "k9")+`"}`)) + "." + p[1]
			token = input + "." + b64(signature(t, alg, input))
		case 7:
			token = token[:d.IntN(len(token))]
		}
		ours, other := s.Check(bearer(token), now).Err == nil, josed(&theirs, token)
		if other && !canonical(token) { // bits that no byte needs: go-jose does not look at them
			other = false
		}
		if ours != other {
			t.Fatalf("seed %d: taken %v, by go-jose %v: %s", seed, ours, other, token)
		}
		if ours {
			accepted++
		}
	}
	if accepted < n/20 || accepted > n*19/20 {
		t.Errorf("%d of %d are taken: the draw tells nothing", accepted, n)
	}
}

func FuzzToken(f *testing.F) {
	for _, alg := range []string{"ES256", "EdDSA"} {
		f.Add(sign(f, alg, `{"alg":"`+alg+`"}`, claims(iat, nil)))
	}
	f.Add("a.b.c")
	f.Add("..")
	s := jwt.New([]jwt.Rule{rule(parseKeys(f, publicJWK(signerOf("RS256"), "")))}) // nobody here has its private half
	f.Fuzz(func(t *testing.T, token string) {
		if found := s.Check(bearer(token), now); found.Token != nil {
			t.Errorf("%q is taken", token)
		}
	})
}

func FuzzKeySet(f *testing.F) {
	f.Add([]byte(jwks(publicJWK(signerOf("ES256"), ""), publicJWK(signerOf("RS256"), `,"kid":"a"`))))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := jwt.ParseKeySet(text)
		if (s == nil) == (err == nil) {
			t.Errorf("%v, %v", s, err)
		}
		if err == nil && strings.Contains(string(text), `"kty":"oct"`) {
			t.Error("a symmetric key is taken")
		}
	})
}

func cached(tb testing.TB) (*jwt.Set, *jwt.Request) {
	s := jwt.New([]jwt.Rule{rule(parseKeys(tb, publicJWK(signerOf("ES256"), "")))})
	q := bearer(sign(tb, "ES256", `{"alg":"ES256"}`, claims(iat, nil)))
	if err := s.Check(q, now).Err; err != nil {
		tb.Fatal(err)
	}
	return s, q
}

// cachedRemote is cached with keys that were fetched.
func cachedRemote(tb testing.TB) (*jwt.Set, *jwt.Request) {
	f := newIssuerNet(tb, writes(jwks(publicJWK(signerOf("ES256"), "")))).fetcher(nil)
	tb.Cleanup(f.Close)
	s := f.Follow(tb.Context(), jwt.New([]jwt.Rule{remoteRule(keysURL)}))
	q := bearer(fresh(tb, "ES256", ""))
	if err := s.Check(q, time.Now()).Err; err != nil {
		tb.Fatal(err)
	}
	return s, q
}

func TestAllocs(t *testing.T) {
	s, q := cached(t)
	if n := testing.AllocsPerRun(100, func() { s.Check(q, now) }); n != 0 {
		t.Errorf("a token that is known costs %v allocations", n)
	}
	s, q = cachedRemote(t)
	if n := testing.AllocsPerRun(100, func() { s.Check(q, time.Now()) }); n != 0 {
		t.Errorf("a token that is known costs %v allocations, with keys that were fetched", n)
	}
}

func BenchmarkCached(b *testing.B) {
	b.Run("written", func(b *testing.B) {
		s, q := cached(b)
		b.ReportAllocs()
		for b.Loop() {
			s.Check(q, now)
		}
	})
	b.Run("fetched", func(b *testing.B) {
		s, q := cachedRemote(b)
		at := time.Now()
		b.ReportAllocs()
		for b.Loop() {
			s.Check(q, at)
		}
	})
}

// BenchmarkES256 verifies a token that is not known, beside go-jose.
func BenchmarkES256(b *testing.B) {
	key := publicJWK(signerOf("ES256"), "")
	keys := parseKeys(b, key)
	token := sign(b, "ES256", `{"alg":"ES256"}`, claims(iat, nil))
	q := bearer(token)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			if jwt.New([]jwt.Rule{rule(keys)}).Check(q, now).Err != nil {
				b.Fatal("refused")
			}
		}
	})
	b.Run("go-jose", func(b *testing.B) {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON([]byte(key)); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			parsed, err := josejwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
			var c josejwt.Claims
			if err != nil || parsed.Claims(k.Key, &c) != nil {
				b.Fatal("refused")
			}
		}
	})
}
