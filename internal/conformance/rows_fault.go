package conformance

import (
	"net/http"
	"time"
)

// faultRows: HTTPRoute.fault.
func faultRows() []Case {
	const (
		cite     = "§2.2 Fault"
		missing  = cite + " (missing percentage = 0 %); §6.4"
		neither  = cite + " (timeouts and retries never apply)"
		two      = cite + " (drawn independently, delay first)"
		rpc      = cite + "; §3.6; grpc http-grpc-status-mapping"
		aborted  = "fault_filter_abort"
		text     = "fault filter abort"
		all      = "percentage: {value: 100}"
		many     = 10_000
		fakeMany = 2_500
	)
	abort := func(what string) string { return ruled("fault: {abort: {" + what + "}}") }
	delay := func(what, more string) string { return ruled("fault: {delay: {" + what + "}}" + more) }
	failed := func(status int) Result {
		return Result{Route: "r", Status: status, Flags: "FI", Details: aborted, Text: text}
	}
	toRPC := Request{Method: "POST", URL: reviewsURL + "s.S/M", Header: http.Header{"Content-Type": {"application/grpc"}}}
	failedRPC := func(code int) Result {
		return Result{Route: "r", GRPC: code, Flags: "FI", Details: aborted, Answer: http.Header{"Grpc-Message": {text}}}
	}
	late := func(took time.Duration) Result {
		return Result{Route: "r", Endpoint: v1, Flags: "DI", Took: took}
	}
	seven := "fixedDelay: 7s, " + all
	return []Case{
		{Name: "abort", Cite: cite + "; §3.6 FI", Config: abort("httpStatus: 503, " + all), Request: get(reviewsURL), Want: failed(503)},
		{Name: "abort with a status nobody has", Cite: cite, Config: abort("httpStatus: 555, " + all), Request: get(reviewsURL), Want: failed(555)},
		{Name: "abort with 200", Cite: cite, Config: abort("httpStatus: 200, " + all), Request: Request{Method: "GET", URL: reviewsURL}, Want: failed(200)},
		{Name: "abort without percentage", Cite: missing, Config: abort("httpStatus: 503"), Request: get(reviewsURL), Repeat: 20, Want: Result{Endpoint: v1}},
		{Name: "abort of 0 %", Cite: cite, Config: abort("httpStatus: 503, percentage: {value: 0}"), Request: get(reviewsURL), Repeat: 20, Want: Result{Endpoint: v1}},
		{Name: "abort of nearly 0 %", Cite: cite + " (one part per million)", Config: abort("httpStatus: 503, percentage: {value: 0.0001}"), Request: get(reviewsURL), Repeat: 100, Shares: map[string]float64{v1: 100}},
		{Name: "abort of 20 %", Cite: cite, Config: abort("httpStatus: 503, percentage: {value: 20}"), Request: get(reviewsURL), Repeat: many, Shares: map[string]float64{byTheRule: 20, v1: 80}},
		{Name: "abort of 0.5 %", Cite: cite, Config: abort("httpStatus: 503, percentage: {value: 0.5}"), Request: get(reviewsURL), Repeat: fakeMany, Shares: map[string]float64{byTheRule: 0.5, v1: 99.5}},
		{Name: "abort is not retried", Cite: neither, Config: ruled("fault: {abort: {httpStatus: 503, " + all + "}}, retries: {attempts: 3, retryOn: 5xx}"), Request: Request{Method: "GET", URL: reviewsURL}, Want: failed(503)},
		{Name: "abort of a POST", Cite: cite + "; attacks.md B-005 (its body is no request)", Config: abort("httpStatus: 503, " + all), Request: Request{Method: "POST", URL: reviewsURL, Body: "GET /evil HTTP/1.1\r\nHost: reviews:9080\r\n\r\n"}, Repeat: 3, Want: failed(503)},
		{Name: "abort of a HEAD", Cite: cite, Config: abort("httpStatus: 503, " + all), Request: Request{Method: "HEAD", URL: reviewsURL}, Repeat: 2, Want: Result{Status: 503, Details: aborted}},
		{Name: "abort for one user", Cite: cite, Config: lone() + rules("- {name: r, match: [{headers: {end-user: {exact: jason}}}], fault: {abort: {httpStatus: 503, "+all+"}}, route: [{destination: {host: reviews}}]}\n- {name: rest, route: [{destination: {host: reviews}}]}"),
			Request: Request{URL: reviewsURL, Header: http.Header{"End-User": {"jason"}}}, Want: failed(503)},
		{Name: "abort for another user", Cite: cite, Config: lone() + rules("- {name: r, match: [{headers: {end-user: {exact: jason}}}], fault: {abort: {httpStatus: 503, "+all+"}}, route: [{destination: {host: reviews}}]}\n- {name: rest, route: [{destination: {host: reviews}}]}"),
			Request: Request{URL: reviewsURL, Header: http.Header{"End-User": {"mary"}}}, Want: Result{Route: "rest", Endpoint: v1}},
		{Name: "abort before a missing cluster", Cite: cite + "; §2.12 (before the router)", Config: lone() + rules("- {name: r, fault: {abort: {httpStatus: 418, "+all+"}}, route: [{destination: {host: gone}}]}"), Request: get(reviewsURL), Want: failed(418)},
		{Name: "abort is not edited", Cite: cite + "; Envoy FaultFilter (sendLocalReply without the route's operations)", Config: ruled("fault: {abort: {httpStatus: 503, " + all + "}}, headers: {response: {set: {x-a: b}}}"), Request: get(reviewsURL),
			Want: Result{Status: 503, Details: aborted, Answer: http.Header{"X-A": nil}}},
		{Name: "httpStatus to an RPC", Cite: rpc, Config: abort("httpStatus: 503, " + all), Request: toRPC, Want: failedRPC(14)},
		{Name: "httpStatus 400 to an RPC", Cite: rpc, Config: abort("httpStatus: 400, " + all), Request: toRPC, Want: failedRPC(13)},
		{Name: "grpcStatus", Cite: cite + " grpcStatus", Config: abort("grpcStatus: NOT_FOUND, " + all), Request: toRPC, Want: failedRPC(5)},
		{Name: "grpcStatus UNAVAILABLE is not retried", Cite: neither, Config: ruled("fault: {abort: {grpcStatus: UNAVAILABLE, " + all + "}}, retries: {attempts: 3, retryOn: unavailable}"), Request: toRPC, Want: failedRPC(14)},
		{Name: "grpcStatus OK", Cite: cite + " grpcStatus", Config: abort("grpcStatus: OK, " + all), Request: toRPC, Want: failedRPC(0), Except: map[string]string{grpcDriver: "an OK without a message is an error to grpc-go: the next row"}},
		{Name: "grpcStatus OK without a message", Cite: cite + " grpcStatus; grpc-go (a unary call wants one)", Config: abort("grpcStatus: OK, " + all), Request: toRPC, Want: failedRPC(13),
			Except: map[string]string{HTTP{}.Name(): okIsOK, Proxy{}.Name(): okIsOK, Proxy{ByHost: true}.Name(): okIsOK}},
		{Name: "grpcStatus to others", Cite: cite + " grpcStatus; Envoy FaultFilter (HTTP 200)", Config: abort("grpcStatus: NOT_FOUND, " + all), Request: Request{Method: "GET", URL: reviewsURL}, Want: failed(200)},

		{Name: "delay", Cite: cite + "; §3.6 DI", Config: delay("fixedDelay: 5s, "+all, ""), Request: get(reviewsURL), Fake: true, Want: late(5 * time.Second)},
		{Name: "delay without percentage", Cite: missing, Config: delay("fixedDelay: 5s", ""), Request: get(reviewsURL), Repeat: 20, Fake: true, Shares: map[string]float64{v1: 100}},
		{Name: "delay of 0 %", Cite: cite, Config: delay("fixedDelay: 5s, percentage: {value: 0}", ""), Request: get(reviewsURL), Repeat: 20, Fake: true, Shares: map[string]float64{v1: 100}},
		{Name: "delay by the old percent", Cite: cite + " percent (deprecated)", Config: delay("fixedDelay: 5s, percent: 100", ""), Request: get(reviewsURL), Fake: true, Want: late(5 * time.Second)},
		{Name: "delay by percentage before the old percent", Cite: missing, Config: delay("fixedDelay: 5s, percent: 100, percentage: {value: 0}", ""), Request: get(reviewsURL), Repeat: 5, Fake: true, Shares: map[string]float64{v1: 100}},
		{Name: "delay of 30 %", Cite: cite, Config: delay("fixedDelay: 5s, percentage: {value: 30}", ""), Request: get(reviewsURL), Repeat: fakeMany, Fake: true, Shares: map[string]float64{v1: 100, delayed: 30}},
		{Name: "delay beyond the timeout", Cite: neither, Config: delay(seven, ", timeout: 1s"), Request: get(reviewsURL), Fake: true, Want: late(7 * time.Second)},
		{Name: "the timeout starts after the delay", Cite: neither + "; §3.6 UT", Config: delay(seven, ", timeout: 1s"), Upstream: Upstream{Script: []Behaviour{{After: time.Hour}}}, Request: get(reviewsURL), Fake: true,
			Want: Result{Status: 504, Flag: "UT", Flags: "DI", Attempts: 1, Took: 8 * time.Second}},
		{Name: "delay happens once", Cite: neither, Config: delay(seven, ", retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}"), Upstream: Upstream{Script: []Behaviour{refused()}}, Request: get(reviewsURL), Fake: true, Want: Result{Attempts: 2, Flags: "DI"}},
		{Name: "the caller's deadline in a delay", Cite: cite + "; §3.6 DC", Config: delay(seven, ""), Request: Request{URL: reviewsURL, Deadline: time.Second}, Fake: true, Want: Result{Status: 499, Flag: "DC", Flags: "DI", Took: time.Second}},
		{Name: "delay and abort", Cite: two, Config: ruled("fault: {delay: {" + seven + "}, abort: {httpStatus: 418, " + all + "}}"), Request: get(reviewsURL), Fake: true,
			Want: Result{Status: 418, Flags: "DI,FI", Details: aborted, Took: 7 * time.Second}},
		{Name: "delay and abort are independent", Cite: two, Config: ruled("fault: {delay: {fixedDelay: 1s, percentage: {value: 50}}, abort: {httpStatus: 503, percentage: {value: 40}}}"), Request: get(reviewsURL), Repeat: many, Fake: true,
			Shares: map[string]float64{byTheRule: 40, v1: 60, delayed: 50, delayed + " " + byTheRule: 20}},
		{Name: "the flag of a delay in a header", Cite: cite + "; §3.6 DI; §2.2 Headers", Config: delay(seven, `, headers: {response: {set: {x-flags: "%RESPONSE_FLAGS%"}}}`), Request: get(reviewsURL), Fake: true,
			Want: Result{Flags: "DI", Took: 7 * time.Second, Answer: http.Header{"X-Flags": {"DI"}}}},
		{Name: "delay before a missing cluster", Cite: cite + "; §2.12 (before the router)", Config: lone() + rules("- {name: r, fault: {delay: {"+seven+"}}, route: [{destination: {host: gone}}]}"), Request: get(reviewsURL), Fake: true,
			Want: Result{Status: 503, Flag: "NC", Flags: "DI", Took: 7 * time.Second}},
	}
}

const okIsOK = "over HTTP it is an answer like any other: the row before"
