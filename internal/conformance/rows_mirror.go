package conformance

import (
	"net/http"
	"strings"
	"time"
)

// mirrorRows: HTTPRoute.mirror and mirrors.
func mirrorRows() []Case {
	const (
		cite    = "§2.2 Mirror"
		percent = "§2.2 HTTPRoute mirrorPercentage"
		aside   = cite + " (fire and forget, response ignored)"
		bodies  = cite + "; issue 5. (bodies copied within a limit); docs/calls.md (64 KiB)"
		suffix  = cite + " (-shadow off by default); §6.18"
		many    = 10_000
		at      = "http://reviews:9080/a"
		query   = at + "?b=c"
		shadow  = "10.8.0.1:9080"
		second  = "10.8.0.2:9080"
	)
	fleet := lone() + static("default/shadow", "9080", "10.8.0.1, labels: {version: v1}") + static("default/second", "9080", "10.8.0.2") +
		destinationRule("default/shadow", "host: shadow\nsubsets:\n- {name: v1, labels: {version: v1}}")
	with := func(more string) string {
		return fleet + rules("- {name: r, route: [{destination: {host: reviews}}], "+more+"}")
	}
	toShadow := with("mirror: {host: shadow}")
	both := with("mirrors: [{destination: {host: shadow}}, {destination: {host: second}}]")
	copyOf := func(method, path, body string) Copy {
		return Copy{At: shadow, Method: method, Host: "reviews:9080", Path: path, Body: body}
	}
	one := Result{Route: "r", Endpoint: v1, Copies: []Copy{copyOf("", "/a", "")}}
	none := Result{Route: "r", Endpoint: v1, Copies: []Copy{}}
	small, full := "once upon a time", strings.Repeat("0123456789abcdef", 4<<10) // 64 KiB
	long := full + "!"
	post := func(body string, stream bool) Request {
		return Request{Method: "POST", URL: at, Body: body, Stream: stream}
	}
	posted := func(body string, copies ...Copy) Result {
		return Result{Endpoint: v1, Body: body, Copies: append([]Copy{}, copies...)}
	}
	got := get(at)
	rows := []Case{
		{Name: "a copy of each", Cite: percent + " (when unset 100 %); " + suffix, Config: toShadow, Request: got, Repeat: 3, Want: one},
		{Name: "method and query", Cite: cite, Config: toShadow, Request: Request{Method: "GET", URL: query}, Want: Result{Endpoint: v1, Copies: []Copy{copyOf("GET", "/a?b=c", "")}}},
		{Name: "100 %", Cite: percent, Config: with("mirror: {host: shadow}, mirrorPercentage: {value: 100}"), Request: got, Want: one},
		{Name: "0 %", Cite: percent + " (0 = off)", Config: with("mirror: {host: shadow}, mirrorPercentage: {value: 0}"), Request: got, Repeat: 5, Want: none},
		{Name: "the old percent", Cite: percent + "; mirrorPercent", Config: with("mirror: {host: shadow}, mirrorPercent: 100"), Request: got, Want: one},
		{Name: "0 by the old percent", Cite: percent + "; mirrorPercent", Config: with("mirror: {host: shadow}, mirrorPercent: 0"), Request: got, Repeat: 5, Want: none},
		{Name: "the old percent beside the new", Cite: percent + "; mirrorPercent (used only if the former is missing)", Config: with("mirror: {host: shadow}, mirrorPercent: 100, mirrorPercentage: {value: 0}"), Request: got, Repeat: 5, Want: none},
		{Name: "25 %", Cite: percent, Config: with("mirror: {host: shadow}, mirrorPercentage: {value: 25}"), Request: got, Repeat: many, Shares: map[string]float64{v1: 100, copied + shadow: 25}},
		{Name: "several", Cite: cite + " (one or many)", Config: both, Request: got,
			Want: Result{Endpoint: v1, Copies: []Copy{copyOf("", "/a", ""), {At: second, Host: "reviews:9080", Path: "/a"}}}},
		{Name: "several with bodies", Cite: bodies, Config: both, Request: post(small, false), Want: posted(small, copyOf("POST", "/a", small), Copy{At: second, Body: small})},
		{Name: "several, each by its own percentage", Cite: cite + " mirrors percentage", Config: with("mirrors: [{destination: {host: shadow}, percentage: {value: 20}}, {destination: {host: second}, percentage: {value: 60}}]"), Request: got, Repeat: 2_500,
			Shares: map[string]float64{v1: 100, copied + shadow: 20, copied + second: 60}},
		{Name: "one of several at 0 %", Cite: cite + " mirrors percentage", Config: with("mirrors: [{destination: {host: shadow}}, {destination: {host: second}, percentage: {value: 0}}]"), Request: got, Repeat: 5, Want: one},
		{Name: "a small body", Cite: bodies, Config: toShadow, Request: post(small, false), Want: posted(small, copyOf("POST", "/a", small))},
		{Name: "a body that reads once", Cite: bodies, Config: toShadow, Request: post(small, true), Want: posted(small, copyOf("POST", "/a", small))},
		{Name: "a body at the limit", Cite: bodies, Config: toShadow, Request: post(full, true), Want: posted(full, copyOf("POST", "/a", full))},
		{Name: "a body beyond the limit", Cite: bodies, Config: toShadow, Request: post(long, false), Want: posted(long)},
		{Name: "a streamed body beyond the limit", Cite: bodies, Config: both, Request: post(long, true), Want: posted(long)},
		{Name: "HEAD", Cite: cite, Config: toShadow, Request: Request{Method: "HEAD", URL: at}, Want: Result{Endpoint: v1, Copies: []Copy{copyOf("HEAD", "/a", "")}}},
		{Name: "a subset", Cite: cite + "; §2.2 Destination subset", Config: with("mirror: {host: shadow, subset: v1}"), Request: got, Want: one},
		{Name: "a missing subset", Cite: aside, Config: with("mirror: {host: shadow, subset: v9}"), Request: got, Want: none},
		{Name: "a host that is not there", Cite: aside, Config: with("mirrors: [{destination: {host: gone}}, {destination: {host: shadow}}]"), Request: got, Want: one},
		{Name: "the mirror fails", Cite: aside, Config: toShadow, Upstream: Upstream{Shadow: Behaviour{Status: 500}}, Request: got, Repeat: 2, Want: one},
		{Name: "the mirror resets", Cite: aside, Config: toShadow, Upstream: Upstream{Shadow: Behaviour{Reset: true}}, Request: got, Repeat: 2, Want: one},
		{Name: "the mirror hangs", Cite: aside, Config: toShadow, Upstream: Upstream{Shadow: Behaviour{After: time.Hour}}, Request: got, Repeat: 3, Shares: map[string]float64{v1: 100, copied + shadow: 100}},
		{Name: "the mirror of a POST hangs", Cite: aside, Config: toShadow, Upstream: Upstream{Shadow: Behaviour{After: time.Hour}}, Request: post(small, true), Repeat: 3, Shares: map[string]float64{v1: 100, copied + shadow: 100}},
		{Name: "the mirror is down", Cite: aside, Config: toShadow, Upstream: Upstream{Down: []string{shadow}}, Request: got, Repeat: 2, Want: none},
		{Name: "the mirror is slow and the call has a timeout", Cite: aside + "; §2.2 HTTPRoute timeout", Config: with("mirror: {host: shadow}, timeout: 1s"), Upstream: Upstream{Shadow: Behaviour{After: 2 * time.Second}}, Request: got, Repeat: 2,
			Shares: map[string]float64{v1: 100, copied + shadow: 100}},
		{Name: "the service is slow", Cite: cite, Config: toShadow, Upstream: Upstream{Script: []Behaviour{{After: time.Minute}}}, Request: got, Want: Result{Endpoint: v1, Took: time.Minute, Copies: one.Copies}},
		{Name: "the service fails", Cite: cite, Config: toShadow, Upstream: Upstream{Script: []Behaviour{status(500)}}, Request: Request{Method: "GET", URL: at}, Want: Result{Endpoint: v1, Status: 500, Copies: one.Copies}},
		{Name: "rewritten", Cite: cite + "; §2.2 Rewrite (the copy is of what is sent)", Config: with("mirror: {host: shadow}, match: [{uri: {prefix: /a}}], rewrite: {uri: /x/, authority: inner.example}"), Request: get(query),
			Want: Result{Path: "/x/?b=c", Host: "inner.example", Copies: []Copy{{At: shadow, Host: "inner.example", Path: "/x/?b=c", Header: http.Header{"X-Envoy-Original-Path": {"/a?b=c"}}}}}},
		{Name: "with the rule's header", Cite: cite + "; §2.2 Headers", Config: with("mirror: {host: shadow}, headers: {request: {set: {x-a: rule}, remove: [x-b]}}"), Request: Request{Method: "POST", URL: at, Body: small, Header: http.Header{"X-B": {"1"}, "X-C": {"2", "3"}, "Content-Type": {"text/x"}}},
			Want: Result{Copies: []Copy{{At: shadow, Body: small, Header: http.Header{"X-A": {"rule"}, "X-B": nil, "X-C": {"2", "3"}, "Content-Type": {"text/x"}}}}}},
		{Name: "without the rule's edits of answers", Cite: aside, Config: with("mirror: {host: shadow}, headers: {response: {set: {x-from: '%UPSTREAM_HOST%'}}}"), Request: got, Want: Result{Answer: http.Header{"X-From": {v1}}, Copies: one.Copies}},
		{Name: "a retry is not copied again", Cite: cite + "; §2.2 Retries", Config: with("mirror: {host: shadow}, retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}"), Upstream: Upstream{Script: []Behaviour{status(503), status(503)}},
			Request: Request{Method: "GET", URL: at}, Want: Result{Attempts: 3, Copies: one.Copies}},
		{Name: "a retried body is not copied again", Cite: cite + "; §2.2 Retries", Config: with("mirror: {host: shadow}, retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}"), Upstream: Upstream{Script: []Behaviour{status(503), reset()}},
			Request: Request{Method: "PUT", URL: at, Body: small, Stream: true}, Want: Result{Attempts: 3, Body: small, Copies: []Copy{copyOf("PUT", "/a", small)}}},
		{Name: "a retried connection is not copied again", Cite: cite + "; §2.2 Retries", Config: toShadow, Upstream: Upstream{Script: []Behaviour{refused(), refused()}}, Request: got, Want: Result{Attempts: 3, Copies: one.Copies}},
		{Name: "a copy is not retried", Cite: aside, Config: with("mirror: {host: shadow}, retries: {attempts: 5, retryOn: 5xx, backoff: 1ms}"), Upstream: Upstream{Shadow: status(503)}, Request: Request{Method: "GET", URL: at}, Want: one},
		{Name: "no service", Cite: cite, Config: toShadow, Upstream: Upstream{Down: []string{v1}}, Request: got, Want: Result{Status: 503, Flag: "UF", Attempts: 3, Copies: one.Copies}},
		{Name: "no service for a body", Cite: bodies + " (sent when the call's body has been)", Deviation: "Envoy copies what it has buffered, whoever reads it", Config: toShadow, Upstream: Upstream{Down: []string{v1}}, Request: post(small, true),
			Want: Result{Status: 503, Flag: "UF", Attempts: 3, Copies: []Copy{}}},
		{Name: "no cluster", Cite: cite + "; §3.6 NC", Config: fleet + rules("- {name: r, route: [{destination: {host: gone}}], mirror: {host: shadow}}"), Request: got, Want: Result{Status: 503, Flag: "NC", Copies: []Copy{}}},
		{Name: "an abort is not copied", Cite: "§2.2 Fault; §2.12 (before the router)", Config: with("mirror: {host: shadow}, fault: {abort: {httpStatus: 418, percentage: {value: 100}}}"), Request: got, Want: Result{Status: 418, Details: "fault_filter_abort", Copies: []Copy{}}},
		{Name: "a preflight is not copied", Cite: "§2.2 CORS; §2.12 (before the router)", Config: with(`mirror: {host: shadow}, corsPolicy: {allowOrigins: [{exact: "*"}]}`),
			Request: Request{Method: "OPTIONS", URL: at, Header: http.Header{"Origin": {"https://a.example"}, "Access-Control-Request-Method": {"PUT"}}}, Want: Result{Details: "cors_response", Copies: []Copy{}}},
		{Name: "a rewrite without safe spelling is not copied", Cite: "docs/calls.md \"What a rule does\"", Config: with("mirror: {host: shadow}, match: [{uri: {prefix: /a}}], rewrite: {uri: /x/}"), Request: get("http://reviews:9080/a../b"), Want: Result{Status: 400, Flag: "DPE", Copies: []Copy{}}},
		{Name: "another rule's", Cite: cite, Config: fleet + rules("- {name: m, match: [{uri: {prefix: /m}}], route: [{destination: {host: reviews}}], mirror: {host: shadow}}\n- {name: r, route: [{destination: {host: reviews}}]}"), Request: got, Want: none},
	}
	rows = append(rows, rpcMirrorRows(with, fleet)...)
	for i := range rows {
		rows[i].Fake = true
	}
	return rows
}

// rpcMirrorRows: copies of RPCs.
func rpcMirrorRows(with func(string) string, fleet string) []Case {
	const (
		cite   = "§2.2 Mirror (fire and forget, response ignored)"
		bodies = cite + "; docs/grpc.md (64 KiB)"
		shadow = "10.8.0.1:9080"
		second = "10.8.0.2:9080"
	)
	rpc := func(body string) Request {
		return Request{Method: "POST", URL: reviewsURL + "s.S/M", Body: body, Header: http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "X-A": {"1"}, "X-B": {"2"}}}
	}
	copyAt := func(at string) Copy {
		return Copy{At: at, Method: "POST", Host: "reviews:9080", Path: "/s.S/M", Body: "message", Header: http.Header{"X-A": {"1"}}}
	}
	one, none := []Copy{copyAt(shadow)}, []Copy{}
	toShadow, both := with("mirror: {host: shadow}"), with("mirrors: [{destination: {host: shadow}}, {destination: {host: second}}]")
	hanging := map[string]float64{v1: 100, copied + shadow: 100}
	return []Case{
		{Name: "an RPC", Cite: cite, Config: toShadow, Request: rpc("message"), Repeat: 3, Want: Result{Endpoint: v1, Body: "message", Copies: one}},
		{Name: "an RPC, several", Cite: cite, Config: both, Request: rpc("message"), Want: Result{Endpoint: v1, Copies: []Copy{copyAt(shadow), copyAt(second)}}},
		{Name: "an RPC, 25 %", Cite: cite, Config: with("mirror: {host: shadow}, mirrorPercentage: {value: 25}"), Request: rpc("message"), Repeat: 2_500, Shares: map[string]float64{v1: 100, copied + shadow: 25}},
		{Name: "an RPC, a subset", Cite: cite, Config: with("mirror: {host: shadow, subset: v1}"), Request: rpc("message"), Want: Result{Endpoint: v1, Copies: one}},
		{Name: "an RPC, a missing subset", Cite: cite, Config: with("mirror: {host: shadow, subset: v9}"), Request: rpc("message"), Want: Result{Endpoint: v1, Copies: none}},
		{Name: "an RPC with a long message", Cite: bodies, Config: toShadow, Request: rpc(strings.Repeat("m", 64<<10+1)), Want: Result{Endpoint: v1, Copies: none}},
		{Name: "an RPC whose mirror fails", Cite: cite, Config: toShadow, Upstream: Upstream{Shadow: trailersOnly(14)}, Request: rpc("message"), Repeat: 2, Want: Result{Endpoint: v1, Copies: one}},
		{Name: "an RPC whose mirror hangs", Cite: cite, Config: toShadow, Upstream: Upstream{Shadow: Behaviour{After: time.Hour}}, Request: rpc("message"), Repeat: 3, Shares: hanging},
		{Name: "an RPC whose mirror is down", Cite: cite, Config: toShadow, Upstream: Upstream{Down: []string{shadow}}, Request: rpc("message"), Repeat: 2, Want: Result{Endpoint: v1, Copies: none}},
		{Name: "an RPC that is retried", Cite: cite + "; §2.2 Retries", Config: toShadow, Upstream: Upstream{Script: []Behaviour{refused()}}, Request: rpc("message"), Want: Result{Endpoint: v1, Attempts: 2, Copies: one}},
		{Name: "an RPC whose service fails", Cite: cite, Config: toShadow, Upstream: Upstream{Script: []Behaviour{trailersOnly(5)}}, Request: rpc("message"), Want: Result{Endpoint: v1, GRPC: 5, Copies: one}},
		{Name: "an RPC that the rule changes", Cite: cite + "; §2.2 Headers, Rewrite", Config: with("mirror: {host: shadow}, match: [{uri: {prefix: /s.S/}}], rewrite: {uri: /t.T/, authority: inner.example}, headers: {request: {set: {x-a: rule}, remove: [x-b]}}"),
			Request: rpc("message"), Want: Result{Endpoint: v1, Copies: []Copy{{At: shadow, Path: "/t.T/M", Host: "inner.example", Body: "message", Header: http.Header{"X-A": {"rule"}, "X-B": nil}}}}},
		{Name: "an RPC that a fault answers", Cite: cite + "; §2.2 Fault; §2.12 (before the router)", Config: with("mirror: {host: shadow}, fault: {abort: {grpcStatus: ABORTED, percentage: {value: 100}}}"), Request: rpc("message"),
			Want: Result{GRPC: 10, Flags: "FI", Details: "fault_filter_abort", Copies: none}},
		{Name: "an RPC that the rule answers", Cite: cite, Config: fleet + rules("- {name: r, directResponse: {status: 503}}"), Request: rpc("message"), Want: Result{Status: 200, GRPC: 14, Details: "direct_response", Copies: none}},
	}
}
