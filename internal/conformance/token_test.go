package conformance

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh"
)

var issuerKey = ed25519.NewKeyFromSeed([]byte("a seed of thirty-two bytes here!"))

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// tokenOf signs the claims, with iss, sub and an exp in an hour where they say no other.
func tokenOf(claims map[string]any) string {
	all := map[string]any{"iss": "https://issuer.example", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	payload, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	input := base64url([]byte(`{"alg":"EdDSA"}`)) + "." + base64url(payload)
	return input + "." + base64url(ed25519.Sign(issuerKey, []byte(input)))
}

// authentication writes a RequestAuthentication of one rule, with more fields of it.
func authentication(name, issuer, more string) string {
	jwks := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":%q}]}`, base64url(issuerKey.Public().(ed25519.PublicKey)))
	return "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: " + name + "}\nspec:\n  selector: {matchLabels: {app: web}}\n" +
		"  jwtRules:\n  - {issuer: '" + issuer + "', jwks: '" + jwks + "'" + more + "}\n"
}

// A tokenRow is documents and a request, how it is answered, and what the program sees of it.
type tokenRow struct {
	name, config string
	header       http.Header
	query        string
	status       int    // 200, 401 or 403
	body         string // of a 401, and of a 403 that is about a token
	sees         string // "field=value …" that must be there, "!field" that must not, "query=…"
}

func tokenRows() []tokenRow {
	const issuer = "https://issuer.example"
	good := tokenOf(nil)
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	rule := func(more string) string { return authentication("r", issuer, more) }
	allow := func(key, values string) string {
		return policy("p", `{rules: [{when: [{key: "`+key+`", values: [`+values+`]}]}]}`)
	}
	principals := policy("p", "{rules: [{from: [{source: {requestPrincipals: ['https://issuer.example/*']}}]}]}")
	expired := tokenOf(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})
	outputs := ", outputPayloadToHeader: x-payload, outputClaimToHeaders: [{header: x-sub, claim: sub}, {header: x-deep, claim: a.b}]"
	return []tokenRow{
		{"no token", rule(""), nil, "", 200, "", ""},
		{"a token", rule(""), bearer(good), "", 200, "", "!Authorization"},
		{"forwarded", rule(", forwardOriginalToken: true"), bearer(good), "", 200, "", "Authorization=Bearer " + good},
		{"no token's form", rule(""), bearer("a.b"), "", 401, "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections", ""},
		{"broken", rule(""), bearer("a.b.c"), "", 401, "Jwt header is an invalid Base64url encoded", ""},
		{"broken header", rule(""), bearer("e30x.e30.AAAA"), "", 401, "Jwt header is an invalid JSON", ""},
		{"no algorithm", rule(""), bearer("e30.e30.AAAA"), "", 401, "Jwt header [alg] field is required and must be a string", ""},
		{"expired", rule(""), bearer(expired), "", 401, "Jwt is expired", ""},
		{"of another issuer", rule(""), bearer(tokenOf(map[string]any{"iss": "https://other.example"})), "", 401, "Jwt issuer is not configured", ""},
		{"signed by nobody", rule(""), bearer(good[:len(good)-86] + strings.Repeat("A", 86)), "", 401, "Jwt verification fails", ""},
		{"audience", rule(", audiences: [web]"), bearer(tokenOf(map[string]any{"aud": "web"})), "", 200, "", ""},
		{"other audience", rule(", audiences: [web]"), bearer(tokenOf(map[string]any{"aud": "api"})), "", 403, "Audiences in Jwt are not allowed", ""},
		{"two issuers", rule("") + authentication("o", "https://other.example", ""), bearer(tokenOf(map[string]any{"iss": "https://other.example"})), "", 200, "", ""},
		{"in two places", rule(""), bearer(good), "access_token=" + expired, 401, "Found multiple Jwt tokens", ""},
		{"not selected", strings.Replace(rule(""), "app: web", "app: db", 1), bearer("a.b.c"), "", 200, "", "Authorization=Bearer a.b.c"},
		{"fromHeaders", rule(", fromHeaders: [{name: x-token, prefix: 'Token '}]"), http.Header{"X-Token": {"Token " + good}}, "", 200, "", "!X-Token"},
		{"fromHeaders, broken", rule(", fromHeaders: [{name: x-token}]"), http.Header{"X-Token": {"x"}}, "", 401, "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections", ""},
		{"query", rule(""), nil, "a=b&access_token=" + good + "&c=%2f", 200, "", "query=a=b&c=%2f"},
		{"fromParams", rule(", fromParams: [t]"), nil, "t=" + good, 200, "", "query="},
		{"fromParams, broken", rule(", fromParams: [t]"), nil, "t=x", 401, "", ""},
		{"fromCookies", rule(", fromCookies: [session]"), http.Header{"Cookie": {"a=b; session=" + good}}, "", 200, "", "Cookie=a=b"},
		{"fromCookies, broken", rule(", fromCookies: [session]"), http.Header{"Cookie": {"session=x"}}, "", 401, "", ""},
		{"outputs", rule(outputs), bearer(tokenOf(map[string]any{"a": map[string]any{"b": true}})), "", 200, "", "X-Sub=alice X-Deep=true"},
		{"outputs, forged", rule(outputs), http.Header{"Authorization": {"Bearer " + good}, "X-Sub": {"root"}, "X-Deep": {"x"}}, "", 200, "", "X-Sub=alice !X-Deep"},
		{"outputs, forged without a token", rule(outputs), http.Header{"X-Sub": {"root"}, "X-Payload": {"x"}}, "", 200, "", "!X-Sub !X-Payload"},

		{"principal", rule("") + principals, bearer(good), "", 200, "", ""},
		{"principal, no token", rule("") + principals, nil, "", 403, "", ""},
		{"principal, other", rule("") + policy("p", "{rules: [{from: [{source: {requestPrincipals: [https://issuer.example/bob]}}]}]}"), bearer(good), "", 403, "", ""},
		{"notRequestPrincipals", rule("") + policy("p", "{action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]}"), bearer(good), "", 200, "", ""},
		{"claim", rule("") + allow("request.auth.claims[groups]", "dev"), bearer(tokenOf(map[string]any{"groups": []string{"ops", "dev"}})), "", 200, "", ""},
		{"claim, other", rule("") + allow("request.auth.claims[groups]", "dev"), bearer(tokenOf(map[string]any{"groups": "ops"})), "", 403, "", ""},
		{"claim, nested", rule("") + allow("request.auth.claims[a][b]", "x"), bearer(tokenOf(map[string]any{"a": map[string]any{"b": "x"}})), "", 200, "", ""},
		{"scope", rule("") + allow("request.auth.claims[scope]", "write"), bearer(tokenOf(map[string]any{"scope": "read write"})), "", 200, "", ""},
		{"spaceDelimitedClaims", rule(", spaceDelimitedClaims: [roles]") + allow("request.auth.claims[roles]", "b"), bearer(tokenOf(map[string]any{"roles": "a b"})), "", 200, "", ""},
		{"audiences", rule("") + allow("request.auth.audiences", "web"), bearer(tokenOf(map[string]any{"aud": []string{"api", "web"}})), "", 200, "", ""},
		{"presenter", rule("") + allow("request.auth.presenter", "app"), bearer(tokenOf(map[string]any{"azp": "app"})), "", 200, "", ""},
		{"policies see what tokens write", rule(outputs) + allow("request.headers[x-sub]", "alice"), bearer(good), "", 200, "", ""},
		{"policies do not see what callers write there", rule(outputs) + allow("request.headers[x-sub]", "alice"), http.Header{"X-Sub": {"alice"}}, "", 403, "", ""},
	}
}

// A witness is a program that keeps the last request, and the subject that its context knows.
type witness struct{ seen chan string }

func (a *witness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	claims, _ := mesh.ClaimsFromContext(r.Context())
	lines := []string{fmt.Sprintf("subject=%v", claims["sub"]), "query=" + r.URL.RawQuery}
	for name, values := range r.Header {
		for _, v := range values {
			lines = append(lines, name+"="+v)
		}
	}
	select {
	case a.seen <- strings.Join(lines, "\n"):
	default:
	}
	_, _ = io.WriteString(w, "served")
}

// check holds what the program saw against the row.
func (r *tokenRow) check(t *testing.T, seen string) {
	t.Helper()
	lines := strings.Split(seen, "\n")
	wanted := strings.Fields(r.sees)
	if name, _, ok := strings.Cut(r.sees, "=Bearer"); ok && name == "Authorization" {
		wanted = []string{r.sees}
	}
	for _, want := range wanted {
		name, missing := strings.CutPrefix(want, "!")
		has := slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+"=") })
		if missing && has || !missing && !slices.Contains(lines, want) {
			t.Errorf("the program sees %q, want %s", lines, want)
		}
	}
}

// TestTokenRows: RequestAuthentication and what policies make of it, in every face.
func TestTokenRows(t *testing.T) {
	t.Parallel()
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for _, row := range tokenRows() {
				t.Run(row.name, func(t *testing.T) {
					app := &witness{make(chan string, 1)}
					m := inboundMesh(t, row.config)
					v := visit{method: "GET", target: "/reviews/1", host: "web", header: row.header}
					if row.query != "" {
						v.target += "?" + row.query
					}
					got := f.ask(t, f.serve(t, m, app), v)
					if got.status != row.status || row.body != "" && got.body != row.body || row.status == 403 && row.body == "" && got.body != "RBAC: access denied" {
						t.Fatalf("answered %d %q, want %d %q", got.status, got.body, row.status, row.body)
					}
					if row.body == "" && row.status == 403 && got.header.Get("Www-Authenticate") != "" {
						t.Errorf("www-authenticate %q of policies", got.header.Get("Www-Authenticate"))
					}
					if row.status == 401 || row.body != "" {
						if want := `Bearer realm="http://web/reviews/1", error="invalid_token"`; got.header.Get("Www-Authenticate") != want {
							t.Errorf("www-authenticate %q, want %q", got.header.Get("Www-Authenticate"), want)
						}
						if m.Status().Policies.Unauthenticated != 1 {
							t.Errorf("counted %+v", m.Status().Policies)
						}
					}
					select {
					case seen := <-app.seen:
						if row.status != 200 {
							t.Errorf("the program is asked:\n%s", seen)
						}
						row.check(t, seen)
						if strings.HasPrefix(f.name, "Serve") && row.name == "a token" && !strings.Contains(seen, "subject=alice") {
							t.Errorf("the context does not know the claims:\n%s", seen)
						}
					default:
						if row.status == 200 {
							t.Error("the program is not asked")
						}
					}
				})
			}
		})
	}
}

// TestTokenRowsOfRPCs runs the rows whose token is in the metadata.
func TestTokenRowsOfRPCs(t *testing.T) {
	t.Parallel()
	want := map[int]codes.Code{200: codes.OK, 401: codes.Unauthenticated, 403: codes.PermissionDenied}
	for _, row := range tokenRows() {
		if row.query != "" {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := newGRPCFace(t, inboundMesh(t, row.config))
			md := metadata.MD{}
			for name, values := range row.header {
				md[strings.ToLower(name)] = values
			}
			code, message, ran := f.call(t.Context(), "/pkg.Service/Method", "web", md)
			if code != want[row.status] || ran != (row.status == 200) || row.body != "" && message != row.body {
				t.Errorf("%v %q, ran %v; want %v", code, message, ran, want[row.status])
			}
		})
	}
}

// TestPreflight: browsers ask without a token, and their question is none of its issuer's (attacks.md B-040).
func TestPreflight(t *testing.T) {
	t.Parallel()
	ask := http.Header{"Authorization": {"Bearer x"}, "Origin": {"https://a.example"}, "Access-Control-Request-Method": {"GET"}}
	for _, f := range faces {
		addr := f.serve(t, inboundMesh(t, authentication("r", "https://issuer.example", "")), &witness{make(chan string, 1)})
		if got := f.ask(t, addr, visit{method: "OPTIONS", target: "/", host: "web", header: ask}); got.status != 200 {
			t.Errorf("%s: a preflight is answered %d", f.name, got.status)
		}
		for _, missing := range []string{"Origin", "Access-Control-Request-Method", ""} { // what makes it one; without a method's name it is GET
			v := visit{method: "OPTIONS", target: "/", host: "web", header: maps.Clone(ask)}
			if delete(v.header, missing); missing == "" {
				v.method = "GET"
			}
			if got := f.ask(t, addr, v); got.status != 401 {
				t.Errorf("%s: %s without %q is answered %d", f.name, v.method, missing, got.status)
			}
		}
	}
}
