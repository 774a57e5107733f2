package config

const (
	oneRule   = "{hosts: [reviews], http: [{route: [{destination: {host: reviews}}]}]}"
	oneTarget = "{route: [{destination: {host: reviews}}]}"
)

const mirrorsOf = "of requests of up to 64 KiB and unary RPCs; streams of gRPC are not copied"

// virtualServiceFields is what becomes of each field of a VirtualService.
func virtualServiceFields() register {
	return register{
		"VirtualService": {needs: oneRule, fields: []fieldEntry{
			{name: "hosts", value: "[reviews]"},
			{name: "gateways", value: "[mesh]"},
			{name: "http"},
			{name: "tls", test: "TestConnRules", value: "[{match: [{sniHosts: [reviews]}], route: [{destination: {host: reviews}}]}]", note: "of captured connections and of a program's own TLS"},
			{name: "tcp", test: "TestConnRules", value: "[{route: [{destination: {host: reviews}}]}]"},
			{name: "exportTo", value: `["*"]`},
		}},
		"HTTPRoute": {needs: oneTarget, fields: []fieldEntry{
			{name: "name"},
			{name: "match"},
			{name: "route"},
			{name: "redirect", test: "TestRedirectAndDirectResponse", beside: alone},
			{name: "directResponse", beside: alone},
			{name: "delegate", beside: alone},
			{name: "rewrite"},
			{name: "timeout", test: "TestRouteTimeout"},
			{name: "retries"},
			{name: "fault", test: "TestFaults"},
			{name: "mirror", note: mirrorsOf},
			{name: "mirrors", test: "TestMirror", note: mirrorsOf},
			{name: "mirrorPercent", test: "TestOldSpellings", value: "10", beside: "{route: [{destination: {host: reviews}}], mirror: {host: reviews}}"},
			{name: "mirrorPercentage", beside: "{route: [{destination: {host: reviews}}], mirror: {host: reviews}}"},
			{name: "corsPolicy", test: "TestCORS"},
			{name: "headers"},
		}},
		"TLSRoute": {needs: "{match: [{sniHosts: [reviews]}], route: [{destination: {host: reviews}}]}", test: "TestConnRules", fields: []fieldEntry{
			{name: "match"},
			{name: "route"},
		}},
		"TLSMatchAttributes": {needs: "{sniHosts: [reviews]}", test: "TestConnRules", fields: []fieldEntry{
			{name: "sniHosts", value: "[reviews]"},
			{name: "destinationSubnets", value: "[10.0.0.0/8]"},
			{name: "port"},
			{name: "sourceLabels"},
			{name: "gateways", value: "[mesh]"},
			{name: "sourceNamespace"},
		}},
		"TCPRoute": {needs: oneTarget, test: "TestConnRules", fields: []fieldEntry{
			{name: "match"},
			{name: "route"},
		}},
		"L4MatchAttributes": {test: "TestConnRules", fields: []fieldEntry{
			{name: "destinationSubnets", value: "[10.0.0.0/8]"},
			{name: "port"},
			{name: "sourceSubnet", outcome: Warned, value: "10.0.0.0/8"},
			{name: "sourceLabels"},
			{name: "gateways", value: "[mesh]"},
			{name: "sourceNamespace"},
		}},
		"RouteDestination": {needs: "{destination: {host: reviews}}", test: "TestConnRules", fields: []fieldEntry{
			{name: "destination"},
			{name: "weight", value: "100"},
		}},
		"HTTPMatchRequest": {fields: []fieldEntry{
			{name: "name"},
			{name: "uri"},
			{name: "scheme"},
			{name: "method"},
			{name: "authority"},
			{name: "headers"},
			{name: "port"},
			{name: "sourceLabels"},
			{name: "gateways", value: "[mesh]"},
			{name: "queryParams"},
			{name: "ignoreUriCase", beside: "{uri: {prefix: /a}}"},
			{name: "withoutHeaders"},
			{name: "sourceNamespace"},
			{name: "statPrefix", outcome: Warned},
		}},
		"StringMatch": {needs: "{prefix: /a}", fields: []fieldEntry{
			{name: "exact", value: "/a"},
			{name: "prefix", value: "/a"},
			{name: "regex", value: "/a.*"},
		}},
		"HTTPRouteDestination": {needs: "{destination: {host: reviews}}", fields: []fieldEntry{
			{name: "destination"},
			{name: "weight", value: "100"},
			{name: "headers", test: "TestRewriteAndHeaders"},
		}},
		"Destination": {needs: "{host: reviews}", fields: []fieldEntry{
			{name: "host"},
			{name: "subset"},
			{name: "port"},
		}},
		"PortSelector": {needs: "{number: 9080}", fields: []fieldEntry{
			{name: "number"},
		}},
		"Headers": {test: "TestRewriteAndHeaders", fields: []fieldEntry{
			{name: "request"},
			{name: "response"},
		}},
		"Headers.HeaderOperations": {test: "TestRewriteAndHeaders", fields: []fieldEntry{
			{name: "set"},
			{name: "add"},
			{name: "remove"},
		}},
		"HTTPRedirect": {needs: "{uri: /b}", test: "TestRedirectAndDirectResponse", fields: []fieldEntry{
			{name: "uri", value: "/b"},
			{name: "authority", value: "shop.example.com"},
			{name: "port"},
			{name: "derivePort", test: "TestCompilesActions"},
			{name: "scheme", test: "TestCompilesActions", value: "https"},
			{name: "redirectCode", value: "302"},
			{name: "prefixRewrite", value: "/b"},
		}},
		"HTTPDirectResponse": {needs: "{status: 503}", test: "TestRedirectAndDirectResponse", fields: []fieldEntry{
			{name: "status", value: "503"},
			{name: "body"},
		}},
		"HTTPBody": {needs: "{string: x}", test: "TestRedirectAndDirectResponse", fields: []fieldEntry{
			{name: "string"},
			{name: "bytes", test: "TestCompilesActions"},
		}},
		"Delegate": {needs: "{name: x}", fields: []fieldEntry{
			{name: "name"},
			{name: "namespace"},
		}},
		"HTTPRewrite": {needs: "{uri: /b}", test: "TestRewriteAndHeaders", fields: []fieldEntry{
			{name: "uri", value: "/b"},
			{name: "authority", value: "shop.example.com"},
			{name: "uriRegexRewrite", beside: alone},
		}},
		"RegexRewrite": {needs: "{match: /a, rewrite: /b}", test: "TestRewriteAndHeaders", fields: []fieldEntry{
			{name: "match", value: "/a"},
			{name: "rewrite", value: "/b"},
		}},
		"HTTPRetry": {needs: "{attempts: 2}", fields: []fieldEntry{
			{name: "attempts", value: "2"},
			{name: "perTryTimeout"},
			{name: "retryOn", value: "5xx"},
			{name: "retryRemoteLocalities", test: "TestRetryRemoteLocalities"},
			{name: "retryIgnorePreviousHosts", test: "TestHashedRetriesStay"},
			{name: "backoff"},
		}},
		"HTTPFaultInjection": {test: "TestFaults", fields: []fieldEntry{
			{name: "delay"},
			{name: "abort"},
		}},
		"HTTPFaultInjection.Delay": {needs: "{fixedDelay: 1s}", test: "TestFaults", fields: []fieldEntry{
			{name: "percent", test: "TestOldSpellings"},
			{name: "fixedDelay"},
			{name: "exponentialDelay", outcome: Refused},
			{name: "percentage"},
		}},
		"HTTPFaultInjection.Abort": {needs: "{httpStatus: 503}", test: "TestFaults", fields: []fieldEntry{
			{name: "httpStatus", value: "503"},
			{name: "grpcStatus", value: "UNAVAILABLE"},
			{name: "http2Error", outcome: Refused},
			{name: "percentage"},
			{name: "percent", outcome: Warned},
		}},
		"Percent": {fields: []fieldEntry{
			{name: "value"},
		}},
		"HTTPMirrorPolicy": {needs: "{destination: {host: reviews}}", test: "TestMirror", fields: []fieldEntry{
			{name: "destination"},
			{name: "percentage"},
		}},
		"CorsPolicy": {test: "TestCORS", fields: []fieldEntry{
			{name: "allowOrigin"},
			{name: "allowOrigins"},
			{name: "allowMethods"},
			{name: "allowHeaders"},
			{name: "exposeHeaders"},
			{name: "maxAge"},
			{name: "allowCredentials"},
			{name: "unmatchedPreflights", test: "TestCompilesActions"},
		}},
	}
}
