package conformance

import (
	"slices"
	"strings"
)

// grpcRows: answers that carry a grpc-status, on a gRPC port.
func grpcRows() []Case {
	const (
		byDefault = "§2.2 Retries retryOn (default: unavailable, cancelled); §3.1 trailers-only"
		late      = "§3.1 (a status in trailers after a body is never retried)"
		on        = "§3.1 "
	)
	service := serviceEntry("default/reviews", `
hosts: [reviews.default.svc.cluster.local]
location: MESH_INTERNAL
resolution: STATIC
ports: [{number: 9080, name: grpc, protocol: GRPC}]
endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2}, {address: 10.0.0.3}]`)
	retrying := func(on string) string {
		return service + rules("- {name: r, route: [{destination: {host: reviews}}], retries: {attempts: 1, retryOn: \""+on+"\", backoff: 1ms}}")
	}
	const (
		cancelled         = 1
		deadlineExceeded  = 4
		permissionDenied  = 7
		resourceExhausted = 8
		internal          = 13
		unavailable       = 14
	)
	six := strings.Replace(service, "{address: 10.0.0.3}", "{address: 10.0.0.3}, {address: 10.0.0.4}, {address: 10.0.0.5}, {address: 10.0.0.6}", 1)
	again := Result{Attempts: 2, Tried: 2, Proto: "HTTP/2.0", Body: "message"}
	first := func(status int) Result { return Result{Attempts: 1, GRPC: status} }
	rows := []struct {
		name, cite, config string
		script             []Behaviour
		want               Result
	}{
		{"unavailable by default", byDefault, service, []Behaviour{trailersOnly(unavailable)}, again},
		{"cancelled by default", byDefault, service, []Behaviour{trailersOnly(cancelled)}, again},
		{"connect failure by default", byDefault, service, []Behaviour{refused()}, again},
		{"refused stream by default", "§2.2 Retries retryOn (default: refused-stream); §3.1 refused-stream", service, []Behaviour{refusedStream()}, again},
		{"refused stream, exhausted", "§2.2 Retries retryOn (default: refused-stream); §3.6 UR", service, []Behaviour{refusedStream(), refusedStream(), refusedStream()},
			Result{Status: 503, Flag: "UR", Attempts: 3}},
		{"refused stream not asked for", "§3.1 refused-stream; §3.6 UR", retrying("connect-failure"), []Behaviour{refusedStream()},
			Result{Status: 503, Flag: "UR", Attempts: 1}},
		{"internal not by default", byDefault, service, []Behaviour{trailersOnly(internal)}, first(internal)},
		{"permission-denied never", byDefault, service, []Behaviour{trailersOnly(permissionDenied)}, first(permissionDenied)},
		{"unavailable, exhausted", byDefault, service, []Behaviour{trailersOnly(unavailable), trailersOnly(unavailable), trailersOnly(unavailable)},
			Result{Attempts: 3, Tried: 3, GRPC: unavailable}},
		{"each retry elsewhere", "§2.2 Retries retryIgnorePreviousHosts", six + rules("- {name: r, route: [{destination: {host: reviews}}], retries: {attempts: 5, retryOn: unavailable, backoff: 1ms}}"),
			slices.Repeat([]Behaviour{trailersOnly(unavailable)}, 5), Result{Attempts: 6, Tried: 6, Proto: "HTTP/2.0", Body: "message"}},
		{"unavailable after a body", late, service, []Behaviour{lateStatus(unavailable)}, first(unavailable)},
		{"internal", on + "internal", retrying("internal"), []Behaviour{trailersOnly(internal)}, again},
		{"deadline-exceeded", on + "deadline-exceeded", retrying("deadline-exceeded"), []Behaviour{trailersOnly(deadlineExceeded)}, again},
		{"resource-exhausted", on + "resource-exhausted", retrying("resource-exhausted"), []Behaviour{trailersOnly(resourceExhausted)}, again},
		{"unavailable alone, not cancelled", on + "unavailable", retrying("unavailable"), []Behaviour{trailersOnly(cancelled)}, first(cancelled)},
	}
	cases := make([]Case, len(rows))
	for i, r := range rows {
		cases[i] = Case{Name: r.name, Cite: r.cite, Config: r.config, Upstream: Upstream{Script: r.script}, Want: r.want,
			Request: Request{Method: "POST", URL: reviewsURL + "reviews.Reviews/Get", Body: "message",
				Header: map[string][]string{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}}}
	}
	return cases
}

// protocolRows: what the protocol of a port changes.
func protocolRows() []Case {
	const (
		upstream = "§2.1 Protocol selection; §2.5 ports protocol"
		opaque   = "§2.2 Spec http (for HTTP, HTTP2 and GRPC ports)"
	)
	port := func(protocol string) string {
		return serviceEntry("default/reviews", `
hosts: [reviews.default.svc.cluster.local]
location: MESH_INTERNAL
resolution: STATIC
ports: [{number: 9080, name: p, protocol: `+protocol+`}]
endpoints: [{address: 10.0.0.1, labels: {version: v1}}, {address: 10.0.0.2, labels: {version: v2}}]`)
	}
	turns := destinationRule("default/reviews", `
host: reviews
trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
subsets: [{name: v2, labels: {version: v2}}]`)
	rule := rules("- {name: r, match: [{uri: {prefix: /x}}], route: [{destination: {host: reviews, subset: v2}}]}")
	ownProtocol := destinationRule("default/reviews", "host: reviews\ntrafficPolicy: {connectionPool: {http: {useClientProtocol: true}}}")
	const http1, http2 = "HTTP/1.1", "HTTP/2.0"
	pair := []string{v1, v2}
	rows := []Case{
		{Name: "HTTP", Cite: upstream, Config: port("HTTP"), Want: Result{Proto: http1, Cluster: clusterAll}},
		{Name: "HTTP2", Cite: upstream, Config: port("HTTP2"), Want: Result{Proto: http2, Cluster: clusterAll, Host: "reviews:9080"}},
		{Name: "GRPC", Cite: upstream, Config: port("GRPC"), Want: Result{Proto: http2, Cluster: clusterAll}},
		{Name: "TCP", Cite: upstream, Config: port("TCP"), Want: Result{Proto: http1, Cluster: clusterAll}},
		{Name: "rules apply to HTTP2", Cite: opaque, Config: port("HTTP2") + turns + rule, Request: get(reviewsURL + "x"), Repeat: 4,
			Want: Result{Proto: http2, Route: "r", Cluster: clusterV2, Endpoint: v2}},
		{Name: "rules apply to GRPC", Cite: opaque, Config: port("GRPC") + turns + rule, Request: get(reviewsURL + "x"), Repeat: 4,
			Want: Result{Proto: http2, Route: "r", Cluster: clusterV2, Endpoint: v2}},
		{Name: "no rule matches on GRPC", Cite: opaque + "; §2.2 No rule matches", Config: port("GRPC") + turns + rule, Want: Result{Status: 404, Flag: "NR"}},
		{Name: "rules do not apply to TCP", Cite: opaque, Config: port("TCP") + turns + rule, Request: get(reviewsURL + "x"), Repeat: 10,
			Want: Result{Cluster: clusterAll}, Cycle: pair},
		{Name: "no NR on TCP", Cite: opaque, Config: port("TCP") + turns + rule, Want: Result{Cluster: clusterAll}},
		{Name: "rules do not apply to TLS", Cite: opaque, Config: port("TLS") + turns + rule, Request: get(reviewsURL + "x"), Repeat: 10,
			Want: Result{Cluster: clusterAll}, Cycle: pair},
		{Name: "rules do not apply to HTTPS", Cite: opaque, Config: port("HTTPS") + turns + rule, Request: get(reviewsURL + "x"), Repeat: 10,
			Want: Result{Cluster: clusterAll}, Cycle: pair},
		{Name: "retries do not exist on TCP", Cite: "§2.2 TCPRoute (retries do not exist on these)", Config: port("TCP"),
			Upstream: Upstream{Down: pair}, Want: Result{Status: 503, Flag: "UF", Attempts: 1}},
		{Name: "refused stream of a request without a body", Cite: "§2.2 Retries retryOn (default: refused-stream); §3.1 refused-stream", Config: port("HTTP2"),
			Upstream: Upstream{Script: []Behaviour{refusedStream()}}, Want: Result{Proto: http2, Attempts: 2, Tried: 2},
			Except: resentInside},
		{Name: "refused stream, retries off", Cite: "§2.2 Retries attempts (0 disables); §3.6 UR", Config: port("HTTP2") + rules("- {name: r, route: [{destination: {host: reviews}}], retries: {attempts: 0}}"),
			Upstream: Upstream{Script: []Behaviour{refusedStream()}}, Want: Result{Status: 503, Flag: "UR", Attempts: 1},
			Except: resentInside},
		{Name: "useClientProtocol, a client of HTTP/1.1", Cite: "§2.3 .useClientProtocol", Config: port("HTTP2") + ownProtocol, Want: Result{Proto: http1, Cluster: clusterAll}},
		{Name: "useClientProtocol, an RPC", Cite: "§2.3 .useClientProtocol", Config: port("HTTP2") + ownProtocol, Want: Result{Cluster: clusterAll},
			Request: Request{Method: "POST", URL: reviewsURL + "s.S/M", Header: map[string][]string{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}}},
		{Name: "protocol names in lower case", Cite: upstream, Config: port("grpc"), Want: Result{Proto: http2, Cluster: clusterAll}},
	}
	rows = append(rows, connRuleRows(port("TCP"), port("TLS"), turns)...)
	for i := range rows {
		if rows[i].Request.URL == "" {
			rows[i].Request = get(reviewsURL)
		}
	}
	return rows
}

// resentInside: what docs/calls.md says of net/http's own repetitions.
var resentInside = map[string]string{"net/http": "net/http sends a refused request without a body again by itself, on the same endpoint, and cannot be told not to"}
