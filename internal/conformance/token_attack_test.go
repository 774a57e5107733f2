package conformance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// signedToken signs a header and a payload as they are.
func signedToken(header, payload string) string {
	input := base64url([]byte(header)) + "." + base64url([]byte(payload))
	return input + "." + base64url(ed25519.Sign(issuerKey, []byte(input)))
}

// attackTokens are values of Authorization that nobody is let in by, by the rows of attacks.md that they are of, each with the
// status of its answer.
func attackTokens() map[string]struct {
	values []string
	status int
} {
	const head = `{"alg":"EdDSA","kid":"a"}`
	exp := time.Now().Add(time.Hour).Unix()
	payload := func(more string) string {
		return fmt.Sprintf(`{"iss":"https://issuer.example","aud":"web","exp":%d%s}`, exp, more)
	}
	good := signedToken(head, payload(""))
	parts := strings.Split(good, ".")
	all := map[string]struct {
		values []string
		status int
	}{}
	add := func(name string, status int, tokens ...string) {
		for i, t := range tokens {
			tokens[i] = "Bearer " + t
		}
		all[name] = struct {
			values []string
			status int
		}{tokens, status}
	}
	for name, header := range map[string]string{
		"C-041 none": `{"alg":"none"}`, "C-041 None": `{"alg":"None"}`, "C-041 empty": `{"alg":""}`, "C-041 absent": `{"kid":"a"}`, "C-041 list": `{"alg":["EdDSA"]}`,
		"C-042 HS256": `{"alg":"HS256","kid":"a"}`, "C-043 ES256": `{"alg":"ES256","kid":"a"}`, "C-044 unknown kid": `{"alg":"EdDSA","kid":"b"}`,
		"C-044 kid a path": `{"alg":"EdDSA","kid":"../../dev/null"}`, "C-044 kid a URL": `{"alg":"EdDSA","kid":"https://evil.example/jwks"}`, "C-044 kid no text": `{"alg":"EdDSA","kid":1}`,
		"C-045 crit": `{"alg":"EdDSA","kid":"a","crit":["exp"]}`, "C-045 b64": `{"alg":"EdDSA","kid":"a","b64":false}`, "C-049 twice": `{"alg":"EdDSA","alg":"EdDSA","kid":"a"}`,
		"C-045 jku": `{"alg":"EdDSA","kid":"b","jku":"https://evil.example/jwks","x5u":"https://evil.example","jwk":{"kty":"OKP"}}`,
	} {
		add(name, 401, signedToken(header, payload("")))
	}
	for name, text := range map[string]string{
		"C-046 no exp": `{"iss":"https://issuer.example","aud":"web"}`, "C-046 past": `{"iss":"https://issuer.example","aud":"web","exp":1}`,
		"C-046 fraction": fmt.Sprintf(`{"iss":"https://issuer.example","aud":"web","exp":%d.5}`, exp), "C-046 text": `{"iss":"https://issuer.example","aud":"web","exp":"9999999999"}`,
		"C-046 2^63": `{"iss":"https://issuer.example","aud":"web","exp":9223372036854775808}`, "C-046 negative": `{"iss":"https://issuer.example","aud":"web","exp":-1}`,
		"C-046 nbf": payload(fmt.Sprintf(`,"nbf":%d`, exp)), "C-046 iat": payload(fmt.Sprintf(`,"iat":%d`, exp)),
		"C-048 slash": strings.Replace(payload(""), "issuer.example", "issuer.example/", 1), "C-048 case": strings.Replace(payload(""), "issuer.example", "ISSUER.example", 1),
		"C-048 prefix": strings.Replace(payload(""), "issuer.example", "issuer.example.evil", 1), "C-048 none": strings.Replace(payload(""), "iss", "isx", 1),
		"C-049 claim twice": payload(`,"aud":"web"`), "C-049 deep": payload(`,"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40)), "C-049 not UTF-8": payload(",\"a\":\"\xff\""),
		"C-047 empty list": strings.Replace(payload(""), `"aud":"web"`, `"aud":[]`, 1), "C-047 nested": strings.Replace(payload(""), `"aud":"web"`, `"aud":[["web"]]`, 1),
	} {
		add(name, 401, signedToken(head, text))
	}
	for name, aud := range map[string]string{"C-047 another": `"aud":"api"`, "C-047 longer": `"aud":"web/x"`, "C-047 shorter": `"aud":"we"`, "C-047 none": `"x":"web"`} {
		add(name, 403, signedToken(head, strings.Replace(payload(""), `"aud":"web"`, aud, 1)))
	}
	add("C-043 no signature", 401, parts[0]+"."+parts[1]+".")
	add("C-043 zeros", 401, parts[0]+"."+parts[1]+"."+base64url(make([]byte, 64)))
	add("C-043 cut", 401, good[:len(good)-2])
	add("C-043 longer", 401, good+"AAAA")
	add("C-043 padding", 401, good+"==")
	add("C-049 dots", 401, strings.Repeat(".", 1000))
	add("C-049 JWE", 401, "a.b.c.d.e")
	add("C-049 long", 401, parts[0]+"."+strings.Repeat("A", 20<<10)+"."+parts[2])
	add("C-050 two spaces", 401, " "+good)
	add("C-050 joined", 401, good+",Bearer "+good)
	add("C-050 twice", 401, good, good)
	return all
}

// TestAttackTokens: rows C-041 to C-050 of attacks.md in every face. The program is never asked, and the good token beside them is
// taken.
func TestAttackTokens(t *testing.T) {
	t.Parallel()
	jwks := strings.Replace(authentication("r", "https://issuer.example", ", audiences: [web]"), `"crv"`, `"kid":"a","crv"`, 1)
	all := attackTokens()
	good := "Bearer " + signedToken(`{"alg":"EdDSA","kid":"a","cty":"JWT"}`, fmt.Sprintf(`{"iss":"https://issuer.example","aud":["api","web"],"exp":%d}`, time.Now().Add(time.Hour).Unix()))
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			app := &witness{make(chan string, 1)}
			addr := f.serve(t, inboundMesh(t, jwks), app)
			for name, c := range all {
				got := f.ask(t, addr, visit{method: "GET", target: "/", host: "web", header: http.Header{"Authorization": c.values}})
				if got.status != c.status || len(app.seen) > 0 {
					t.Errorf("%s: answered %d %q, want %d; the program is asked: %v", name, got.status, got.body, c.status, len(app.seen) > 0)
				}
			}
			if got := f.ask(t, addr, visit{method: "GET", target: "/", host: "web", header: http.Header{"Authorization": {good}}}); got.status != 200 {
				t.Errorf("the good token is answered with %d %q", got.status, got.body)
			}
		})
	}
	t.Run("gRPC", func(t *testing.T) {
		t.Parallel()
		f := newGRPCFace(t, inboundMesh(t, jwks))
		want := map[int]codes.Code{401: codes.Unauthenticated, 403: codes.PermissionDenied}
		for name, c := range all {
			if code, message, ran := f.call(t.Context(), "/pkg.Service/Method", "web", metadata.MD{"authorization": c.values}); code != want[c.status] || ran {
				t.Errorf("%s: %v %q, ran %v", name, code, message, ran)
			}
		}
		if code, message, ran := f.call(t.Context(), "/pkg.Service/Method", "web", metadata.Pairs("authorization", good)); code != codes.OK || !ran {
			t.Errorf("the good token: %v %q", code, message)
		}
	})
}

// TestGoodTokens: row C-040 in every face: what is signed by each kind of key, for one audience and for several, is taken.
func TestGoodTokens(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signers := map[jose.SignatureAlgorithm]crypto.Signer{jose.RS256: rsaKey, jose.PS256: rsaKey, jose.ES256: ecKey, jose.EdDSA: issuerKey}
	var set jose.JSONWebKeySet
	var tokens []string
	for alg, key := range signers {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: string(alg), Algorithm: string(alg)})
		for _, aud := range []string{`"web"`, `["api","web"]`} {
			s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: string(alg)}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			signed, err := s.Sign(fmt.Appendf(nil, `{"iss":"https://issuer.example","sub":%q,"aud":%s,"exp":%d}`, alg, aud, time.Now().Add(time.Hour).Unix()))
			if err != nil {
				t.Fatal(err)
			}
			token, err := signed.CompactSerialize()
			if err != nil {
				t.Fatal(err)
			}
			tokens = append(tokens, token)
		}
	}
	jwks, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	config := remote("{issuer: 'https://issuer.example', audiences: [web], jwks: '"+string(jwks)+"'}") +
		policy("p", "{rules: [{from: [{source: {requestPrincipals: ['https://issuer.example/*']}}]}]}")
	m := inboundMesh(t, config)
	for _, f := range faces {
		addr := f.serve(t, m, &witness{make(chan string, 1)})
		for _, token := range tokens {
			if got := f.ask(t, addr, visit{method: "GET", target: "/", host: "web", header: http.Header{"Authorization": {"Bearer " + token}}}); got.status != 200 {
				t.Errorf("%s: %d %q: %s", f.name, got.status, got.body, token)
			}
		}
	}
	rpc := newGRPCFace(t, m)
	for _, token := range tokens {
		if code, message, ran := rpc.call(t.Context(), "/pkg.Service/Method", "web", metadata.Pairs("authorization", "Bearer "+token)); code != codes.OK || !ran {
			t.Errorf("gRPC: %v %q: %s", code, message, token)
		}
	}
}
