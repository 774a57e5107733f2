package config

// authorizationFields is what becomes of each field of an AuthorizationPolicy and a RequestAuthentication.
func authorizationFields() register {
	const policies, tokens, asked = "TestPolicyRows", "TestTokenRows", "TestExternalRows"
	return register{
		"AuthorizationPolicy": {test: policies, needs: "{rules: [{}]}", fields: []fieldEntry{
			{name: "selector"},
			{name: "targetRef", outcome: Refused, value: "{kind: Service, name: reviews}"},
			{name: "targetRefs", outcome: Refused, value: "[{kind: Service, name: reviews}]"},
			{name: "rules", value: "[{}]"},
			{name: "action"},
			{name: "action=CUSTOM", beside: "{rules: [{}], provider: {name: opa}}", test: asked},
			{name: "provider", value: "{name: opa}", beside: "{action: CUSTOM, rules: [{}]}", test: asked},
		}},
		"AuthorizationPolicy.ExtensionProvider": {test: asked, needs: "{name: opa}", fields: []fieldEntry{{name: "name", value: "opa"}}},
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

// providerFields is what becomes of each field of those of MeshConfig's extensionProviders whom CUSTOM policies ask.
func providerFields() register {
	const asked, settings = "TestExternalRows", "TestExternalSettings"
	idle := func(name, value string) fieldEntry {
		return fieldEntry{name: name, outcome: Idle, value: value, beside: "{name: opa}"}
	}
	cache := fieldEntry{name: "clearRouteCache", outcome: Idle}
	return register{
		"MeshConfig.ExtensionProvider": {test: asked, needs: "{name: opa, envoyExtAuthzHttp: " + providerSample + "}", fields: []fieldEntry{
			{name: "name", value: "opa"},
			{name: "envoyExtAuthzHttp", value: providerSample, beside: "{name: opa}"},
			{name: "envoyExtAuthzGrpc", value: providerSample, beside: "{name: opa}", note: "where the program gives mesh.WithGRPCAuthorizers, as heddle proxy does"},
			{name: "zipkin", value: "{service: a, port: 1}", beside: "{name: opa}", test: "TestTraceProviders", note: "spans go there by its API v2"},
			{name: "opentelemetry", value: "{service: a, port: 1}", beside: "{name: opa}", test: "TestTraceProviders", note: "spans go there by OTLP, over gRPC, or over HTTP"},
			idle("datadog", "{service: a, port: 1}"), idle("stackdriver", "{debug: true}"),
			idle("skywalking", "{service: a, port: 1}"), idle("prometheus", "{}"),
			{name: "envoyFileAccessLog", value: "{path: /dev/stdout}", beside: "{name: opa}", test: "TestAccessLogging"}, idle("envoyHttpAls", "{service: a, port: 1}"),
			idle("envoyTcpAls", "{service: a, port: 1}"), idle("envoyOtelAls", "{service: a, port: 1}"), idle("sds", "{name: a}"),
			idle("lightstep", "{service: a, port: 1}"), idle("opencensus", "{service: a, port: 1}"),
		}},
		"MeshConfig.ExtensionProvider.EnvoyExternalAuthorizationHttpProvider": {test: settings, needs: providerSample, fields: []fieldEntry{
			{name: "service", value: "opa.default.svc.cluster.local", test: asked},
			{name: "port", value: "9191", test: asked},
			{name: "timeout", value: "1s"},
			{name: "pathPrefix", value: "/check", test: asked},
			{name: "failOpen", test: asked},
			cache,
			{name: "statusOnError", value: `"503"`, test: asked},
			{name: "includeHeadersInCheck", value: "[x-user]", test: asked, note: "where includeRequestHeadersInCheck is not written"},
			{name: "includeRequestHeadersInCheck", value: "[x-user, 'x-a-*']", test: asked},
			{name: "includeAdditionalHeadersInCheck", value: "{x-from: mesh}", test: asked},
			{name: "includeRequestBodyInCheck", value: "{maxRequestBytes: 10}", test: asked},
			{name: "headersToUpstreamOnAllow", value: "[x-user]", test: asked},
			{name: "headersToDownstreamOnDeny", value: "[x-why]", test: asked},
			{name: "headersToDownstreamOnAllow", value: "[x-seen]", test: asked},
		}},
		"MeshConfig.ExtensionProvider.EnvoyExternalAuthorizationGrpcProvider": {test: settings, needs: providerSample, fields: []fieldEntry{
			{name: "service", value: "opa.default.svc.cluster.local"},
			{name: "port", value: "9191"},
			{name: "timeout", value: "1s"},
			{name: "failOpen"},
			cache,
			{name: "statusOnError", value: `"503"`},
			{name: "includeRequestBodyInCheck", value: "{maxRequestBytes: 10}"},
		}},
		"MeshConfig.ExtensionProvider.EnvoyFileAccessLogProvider": {test: "TestAccessLogFormats", fields: []fieldEntry{
			{name: "path", value: "/dev/stdout"},
			{name: "logFormat"},
			{name: "omitEmptyValues", value: "true"},
		}},
		"MeshConfig.ExtensionProvider.EnvoyFileAccessLogProvider.LogFormat": {test: "TestAccessLogFormats", fields: []fieldEntry{
			{name: "text", value: `"%RESPONSE_CODE%"`},
			{name: "labels", value: `{code: "%RESPONSE_CODE%"}`},
		}},
		"MeshConfig.ExtensionProvider.EnvoyExternalAuthorizationRequestBody": {test: asked, needs: "{maxRequestBytes: 10}", fields: []fieldEntry{
			{name: "maxRequestBytes", value: "10"},
			{name: "allowPartialMessage"},
			{name: "packAsBytes", note: "of envoyExtAuthzGrpc"},
		}},
	}
}

// sampleKeys is a JWKS of one key.
const (
	sampleKeys     = `'{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'`
	providerSample = "{service: opa.default.svc.cluster.local, port: 9191}"
	jwtSample      = "{issuer: a, jwks: " + sampleKeys + "}"
)
