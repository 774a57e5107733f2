package config

import (
	"strings"
	"testing"
)

// TestValidateRequestAuthentication: "!" is refused; attacks.md.
func TestValidateRequestAuthentication(t *testing.T) {
	t.Parallel()
	keys := func(members string) string { return `'{"keys":[{` + members + `}]}'` }
	rules := func(s string) string { return "{jwtRules: [" + s + "]}" }
	with := func(more string) string { return rules("{issuer: a, jwks: " + sampleKeys + ", " + more + "}") }
	for _, c := range []struct{ name, spec, want string }{
		{"good", rules(jwtSample), ""},
		{"no rules", "{}", ""},
		{"two issuers", rules(jwtSample + ", {issuer: b, jwks: " + sampleKeys + "}"), ""},
		{"no issuer", rules("{jwks: " + sampleKeys + "}"), "! spec.jwtRules[0].issuer ~ missing"},
		{"issuer twice, other keys", rules(jwtSample + ", {issuer: a, jwks: " + strings.Replace(sampleKeys, `"kty"`, `"kid":"k","kty"`, 1) + "}"), "! spec.jwtRules[1].issuer ~ other keys"},
		{"jwksUri", rules("{issuer: a, jwksUri: 'https://a.example/jwks', timeout: 2s}"), ""},
		{"jwksUri without an issuer", rules("{jwksUri: 'https://a.example/jwks'}"), ""},
		{"discovery", rules("{issuer: 'https://a.example'}"), ""},
		{"discovery, no URL", rules("{issuer: a@example.com}"), "! spec.jwtRules[0].issuer ~ asked for its keys"},
		{"jwksUri ftp", rules("{issuer: a, jwksUri: 'ftp://a.example/jwks'}"), "! spec.jwtRules[0].jwksUri ~ http or https"},
		{"jwksUri file", rules("{issuer: a, jwksUri: 'file:///etc/passwd'}"), "! spec.jwtRules[0].jwksUri ~ http or https"},
		{"jwksUri without a scheme", rules("{issuer: a, jwksUri: a.example/jwks}"), "! spec.jwtRules[0].jwksUri ~ http or https"},
		{"jwksUri without a host", rules("{issuer: a, jwksUri: 'https:///jwks'}"), "! spec.jwtRules[0].jwksUri ~ no host"},
		{"jwksUri bad port", rules("{issuer: a, jwksUri: 'https://a.example:70000/jwks'}"), "! spec.jwtRules[0].jwksUri ~ port"},
		{"jwksUri port 0", rules("{issuer: a, jwksUri: 'https://a.example:0/jwks'}"), "! spec.jwtRules[0].jwksUri ~ port"},
		{"jwksUri with a user", rules("{issuer: a, jwksUri: 'https://u:c2VjcmV0@a.example/jwks'}"), "! spec.jwtRules[0].jwksUri ~ user"},
		{"jwksUri metadata", rules("{issuer: a, jwksUri: 'http://169.254.169.254/latest'}"), "! spec.jwtRules[0].jwksUri ~ link-local"},
		{"jwksUri metadata, mapped", rules("{issuer: a, jwksUri: 'http://[::ffff:a9fe:a9fe]/'}"), "! spec.jwtRules[0].jwksUri ~ link-local"},
		{"jwksUri metadata, Alibaba", rules("{issuer: a, jwksUri: 'http://100.100.100.200/'}"), "! spec.jwtRules[0].jwksUri ~ metadata"},
		{"issuer link-local", rules("{issuer: 'https://[fe80::1]'}"), "! spec.jwtRules[0].issuer ~ link-local"},
		{"timeout negative", rules("{issuer: a, jwksUri: 'https://a.example/jwks', timeout: -1s}"), "! spec.jwtRules[0].timeout ~ negative"},
		{"timeout zero", rules("{issuer: a, jwksUri: 'https://a.example/jwks', timeout: 0s}"), "! spec.jwtRules[0].timeout ~ shorter"},
		{"both", rules("{issuer: a, jwksUri: 'https://a.example/jwks', jwks: " + sampleKeys + "}"), "! spec.jwtRules[0].jwksUri ~ exclude"},
		{"not JSON", rules("{issuer: a, jwks: x}"), "! spec.jwtRules[0].jwks ~ no JSON"},
		{"no keys", rules(`{issuer: a, jwks: '{"keys":[]}'}`), "! spec.jwtRules[0].jwks ~ no key"},
		{"private key", rules("{issuer: a, jwks: " + keys(`"kty":"OKP","crv":"Ed25519","d":"c2VjcmV0","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`) + "}"), "! spec.jwtRules[0].jwks ~ private key"},
		{"symmetric key", rules("{issuer: a, jwks: " + keys(`"kty":"oct","k":"c2VjcmV0"`) + "}"), "! spec.jwtRules[0].jwks ~ symmetric"},
		{"empty audience", with("audiences: ['']"), "! spec.jwtRules[0].audiences[0] ~ nobody"},
		{"token in Host", with("fromHeaders: [{name: Host}]"), "! spec.jwtRules[0].fromHeaders[0].name ~ tokens stand in"},
		{"token in :path", with("fromHeaders: [{name: ':path'}]"), "! spec.jwtRules[0].fromHeaders[0].name ~ no name"},
		{"no parameter", with("fromParams: ['']"), "! spec.jwtRules[0].fromParams[0] ~ no parameter"},
		{"bad cookie", with("fromCookies: ['a b']"), "! spec.jwtRules[0].fromCookies[0] ~ no name"},
		{"payload to Host", with("outputPayloadToHeader: host"), "! spec.jwtRules[0].outputPayloadToHeader ~ must not write"},
		{"claim to the peer's field", with("outputClaimToHeaders: [{header: X-Forwarded-Client-Cert, claim: sub}]"), "! spec.jwtRules[0].outputClaimToHeaders[0].header ~ must not write"},
		{"claim to a length", with("outputClaimToHeaders: [{header: Content-Length, claim: sub}]"), "! spec.jwtRules[0].outputClaimToHeaders[0].header ~ must not write"},
		{"no claim", with("outputClaimToHeaders: [{header: x-a}]"), "! spec.jwtRules[0].outputClaimToHeaders[0].claim ~ missing"},
		{"targetRefs", "{targetRefs: [{kind: Gateway, name: g}], jwtRules: [" + jwtSample + "]}", "! spec.targetRefs ~ not built"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(policyDoc("", c.spec), "AuthorizationPolicy", "RequestAuthentication", 1)
			head, piece, _ := strings.Cut(c.want, " ~ ")
			got := ""
			for _, f := range allFindings(text) {
				if f.Refused && (got == "" || strings.Contains(f.Message+f.Hint, piece)) {
					got = "! " + f.Path
				}
				if strings.Contains(f.String(), "c2VjcmV0") {
					t.Errorf("shows a key: %v", f)
				}
			}
			if got != head {
				t.Errorf("found %q, want %q: %v", got, c.want, allFindings(text))
			}
		})
	}
}

// TestPlainKeySources: keys that come by http are accepted, as in Istio, with a warning.
func TestPlainKeySources(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"{issuer: a, jwksUri: 'http://a.example/jwks'}":          "spec.jwtRules[0].jwksUri",
		"{issuer: 'HTTP://a.example'}":                           "spec.jwtRules[0].issuer",
		"{issuer: a, jwksUri: 'https://a.example/jwks'}":         "",
		"{issuer: 'http://a.example', jwks: " + sampleKeys + "}": "",
	} {
		text := strings.Replace(policyDoc("", "{jwtRules: ["+spec+"]}"), "AuthorizationPolicy", "RequestAuthentication", 1)
		got := ""
		for _, f := range allFindings(text) {
			if f.Level == Warning && strings.Contains(f.Message, "come by http") {
				got = f.Path
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q: %v", spec, got, want, allFindings(text))
		}
	}
}
