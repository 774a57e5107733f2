package config

// heddleFields is what becomes of each field of the mesh's own kinds.
func heddleFields() register {
	const name = "{name: reviews, namespace: default}"
	return register{
		"RateLimit": {needs: "{spec: {direction: INBOUND, limits: [{name: all, requests: 5, unit: SECOND}]}}", fields: []fieldEntry{
			{name: "metadata", value: name, note: "name and namespace"},
			{name: "spec"},
		}},
		"RateLimit.spec": {needs: "{direction: INBOUND, limits: [{name: all, requests: 5, unit: SECOND}]}", fields: []fieldEntry{
			{name: "workloadSelector", value: "{labels: {app: reviews}}", note: "none: every workload of the namespace; in the root namespace, of the mesh"},
			{name: "direction", value: "INBOUND", note: "INBOUND: what the workload receives; OUTBOUND: calls that it makes"},
			{name: "hosts", value: "[reviews]", beside: "{direction: OUTBOUND, limits: [{name: all, requests: 5, unit: SECOND}]}", note: "of OUTBOUND"},
			{name: "limits", value: "[{name: all, requests: 5, unit: SECOND}]", beside: "{direction: OUTBOUND, hosts: [reviews]}", note: "a request that reaches any of them is refused"},
			{name: "rateLimitHeaders", test: "TestRateLimitOfReceived", note: "x-ratelimit-limit, -remaining and -reset with answers of INBOUND"},
			{name: "rateLimitedAsResourceExhausted", note: "to callers that speak gRPC, in place of UNAVAILABLE"},
		}},
		"RateLimit.spec.workloadSelector": {fields: []fieldEntry{
			{name: "labels", value: "{app: reviews}"},
		}},
		"RateLimit.spec.limits": {needs: "{name: all, requests: 5, unit: SECOND}", fields: []fieldEntry{
			{name: "name", value: "all", note: "what is counted goes by it when the configuration changes"},
			{name: "match", value: "[{uri: {prefix: /reviews}}]", note: "as in a VirtualService, as far as it is about the request itself"},
			{name: "routes", value: "[reviews-v2]", note: "of OUTBOUND: names of rules", test: "TestRateLimitByRoute"},
			{name: "by", value: "[{header: end-user}]", beside: "{name: all, requests: 5, unit: SECOND, maxKeys: 10}"},
			{name: "requests", value: "5"},
			{name: "unit", value: "SECOND", note: "SECOND, MINUTE, HOUR or DAY"},
			{name: "burst", value: "5", note: "default: requests"},
			{name: "maxKeys", value: "10", beside: "{name: all, requests: 5, unit: SECOND, by: [{header: end-user}]}", note: "needed with by"},
		}},
		"RateLimit.spec.limits.by": {fields: []fieldEntry{
			{name: "header", value: "end-user"},
			{name: "sourceAddress", value: "false", beside: "{header: end-user}", test: "TestInboundLimits", note: "of INBOUND; of IPv6 the /64"},
			{name: "route", note: "of OUTBOUND", test: "TestRateLimitByRoute"},
			{name: "jwtClaim", value: "''", beside: "{header: end-user}", test: "TestCallerLimits", note: "of INBOUND: a claim of the verified token, with dots for those within others"},
			{name: "peerIdentity", value: "false", beside: "{header: end-user}", test: "TestCallerLimits", note: "of INBOUND: the SPIFFE ID that mutual TLS has proved"},
		}},
		"ResiliencePolicy": {needs: "{spec: {hosts: [reviews], circuitBreaker: {consecutiveFailures: 5}}}", fields: []fieldEntry{
			{name: "metadata", value: name, note: "name and namespace"},
			{name: "spec"},
		}},
		"ResiliencePolicy.spec": {needs: "{hosts: [reviews], circuitBreaker: {consecutiveFailures: 5}}", fields: []fieldEntry{
			{name: "workloadSelector", value: "{labels: {app: productpage}}", note: "as in a RateLimit: whose calls"},
			{name: "hosts", value: "[reviews]"},
			{name: "circuitBreaker", value: "{consecutiveFailures: 5}"},
		}},
		"ResiliencePolicy.spec.workloadSelector": {fields: []fieldEntry{
			{name: "labels", value: "{app: productpage}"},
		}},
		"ResiliencePolicy.spec.circuitBreaker": {needs: "{consecutiveFailures: 5}", test: "TestCircuitBreaker", fields: []fieldEntry{
			{name: "consecutiveFailures", value: "5"},
			{name: "failurePercent", value: "50"},
			{name: "minimumRequests", value: "20", beside: "{failurePercent: 50}", note: "default: 20"},
			{name: "interval", value: "10s", beside: "{failurePercent: 50}", note: "default: 10s"},
			{name: "openFor", value: "30s", note: "default: 30s"},
			{name: "halfOpenRequests", value: "1", note: "default: 1"},
		}},
	}
}
