package config

// authorizationFields is what becomes of each field of an AuthorizationPolicy and a RequestAuthentication.
func authorizationFields() register {
	const policies, tokens = "TestPolicyRows", "TestTokenRows"
	return register{
		"AuthorizationPolicy": {test: policies, needs: "{rules: [{}]}", fields: []fieldEntry{
			{name: "selector"},
			{name: "targetRef", outcome: Refused, value: "{kind: Service, name: reviews}"},
			{name: "targetRefs", outcome: Refused, value: "[{kind: Service, name: reviews}]"},
			{name: "rules", value: "[{}]"},
			{name: "action"},
			{name: "action=CUSTOM", outcome: Refused},
			{name: "provider", outcome: Refused, value: "{name: opa}", beside: "{action: CUSTOM, rules: [{}]}"},
		}},
		"Rule": {test: policies, fields: []fieldEntry{
			{name: "from", value: "[{source: {namespaces: [a]}}]"},
			{name: "to", value: "[{operation: {paths: [/a]}}]"},
			{name: "when", value: "[{key: source.ip, values: [192.0.2.1]}]"},
		}},
		"Rule.From": {test: policies, fields: []fieldEntry{{name: "source", value: "{namespaces: [a]}"}}},
		"Rule.To":   {test: policies, fields: []fieldEntry{{name: "operation", value: "{paths: [/a]}"}}},
		"Source": {test: policies, fields: []fieldEntry{
			{name: "principals", value: "[cluster.local/ns/a/sa/b]"},
			{name: "notPrincipals", value: "[cluster.local/ns/a/sa/b]"},
			{name: "requestPrincipals", value: "[a/b]"},
			{name: "notRequestPrincipals", value: "[a/b]"},
			{name: "namespaces", value: "[a]"},
			{name: "notNamespaces", value: "[a]"},
			{name: "serviceAccounts", value: "[a]"},
			{name: "notServiceAccounts", value: "[a]"},
			{name: "ipBlocks", value: "[192.0.2.0/24]"},
			{name: "notIpBlocks", value: "[192.0.2.0/24]"},
			{name: "remoteIpBlocks", value: "[192.0.2.0/24]"},
			{name: "notRemoteIpBlocks", value: "[192.0.2.0/24]"},
			{name: "trustDomains", value: "[cluster.local]"},
			{name: "notTrustDomains", value: "[cluster.local]"},
		}},
		"Operation": {test: policies, fields: []fieldEntry{
			{name: "hosts", value: "[a]"},
			{name: "notHosts", value: "[a]"},
			{name: "ports", value: `["80"]`},
			{name: "notPorts", value: `["80"]`},
			{name: "methods", value: "[GET]"},
			{name: "notMethods", value: "[GET]"},
			{name: "paths", value: "[/a]"},
			{name: "notPaths", value: "[/a]"},
		}},
		"Condition": {test: policies, needs: "{key: source.ip, values: [192.0.2.1]}", fields: []fieldEntry{
			{name: "key", value: "source.ip"},
			{name: "values", value: "[192.0.2.1]"},
			{name: "notValues", value: "[192.0.2.1]"},
		}},
		"RequestAuthentication": {test: tokens, needs: "{}", fields: []fieldEntry{
			{name: "selector"},
			{name: "targetRef", outcome: Refused, value: "{kind: Service, name: reviews}"},
			{name: "targetRefs", outcome: Refused, value: "[{kind: Service, name: reviews}]"},
			{name: "jwtRules", value: "[" + jwtSample + "]"},
		}},
		"JWTRule": {test: tokens, needs: jwtSample, fields: []fieldEntry{
			{name: "issuer", value: "a"},
			{name: "audiences", value: "[a]"},
			{name: "jwksUri", value: "https://a.example/jwks", beside: "{issuer: a}", test: "TestRemoteKeyRows", note: "none, and no jwks: the issuer is asked (OpenID Connect Discovery)"},
			{name: "jwks", value: sampleKeys},
			{name: "fromHeaders", value: "[{name: x-token}]"},
			{name: "fromParams", value: "[token]"},
			{name: "fromCookies", value: "[token]"},
			{name: "outputPayloadToHeader", value: "x-payload"},
			{name: "forwardOriginalToken"},
			{name: "outputClaimToHeaders", value: "[{header: x-sub, claim: sub}]"},
			{name: "timeout", value: "1s", beside: "{issuer: a, jwksUri: 'https://a.example/jwks'}", test: "TestRemoteKeyRows", note: "of a fetch, discovery and redirects with it; default 5s"},
			{name: "spaceDelimitedClaims", value: "[roles]"},
		}},
		"JWTHeader": {test: tokens, needs: "{name: x-token}", fields: []fieldEntry{
			{name: "name", value: "x-token"},
			{name: "prefix", value: "'Bearer '"},
		}},
		"ClaimToHeader": {test: tokens, needs: "{header: x-sub, claim: sub}", fields: []fieldEntry{
			{name: "header", value: "x-sub"},
			{name: "claim", value: "sub"},
		}},
	}
}

// sampleKeys is a JWKS of one key.
const (
	sampleKeys = `'{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'`
	jwtSample  = "{issuer: a, jwks: " + sampleKeys + "}"
)
