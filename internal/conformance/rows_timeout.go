package conformance

import (
	"net/http"
	"time"
)

// timeoutRows: HTTPRoute.timeout.
func timeoutRows() []Case {
	const (
		cite  = "§2.2 HTTPRoute timeout"
		none  = cite + " (0 = disabled); §6.1"
		tries = cite + " (incl. retries and back-off)"
		body  = cite + " (whole request); §3.1 Route timeout"
	)
	after := func(each ...time.Duration) Upstream {
		var u Upstream
		for _, d := range each {
			u.Script = append(u.Script, Behaviour{After: d})
		}
		return u
	}
	failing := func(each ...time.Duration) Upstream {
		u := after(each...)
		for i := range u.Script {
			u.Script[i].Status = 503
		}
		return u
	}
	late := func(attempts int, took time.Duration) Result {
		return Result{Route: "r", Status: 504, Flag: "UT", Attempts: attempts, Took: took}
	}
	ok := func(took time.Duration) Result { return Result{Route: "r", Endpoint: v1, Took: took} }
	halves := func(d time.Duration) Upstream { return Upstream{Script: []Behaviour{{Half: d}}} }
	two := ruled("timeout: 2s")
	retried := ruled("timeout: 2s, retries: {attempts: 5, retryOn: 5xx, backoff: 1ms}")
	explicitly := Request{Method: "GET", URL: reviewsURL}
	rows := []Case{
		{Name: "none by default", Cite: none, Config: lone() + rules("- {name: r, route: [{destination: {host: reviews}}]}"), Upstream: after(time.Hour), Want: ok(time.Hour)},
		{Name: "0 is none", Cite: none, Config: ruled("timeout: 0s"), Upstream: after(time.Hour), Want: ok(time.Hour)},
		{Name: "no answer in time", Cite: cite + "; §3.6 UT", Config: two, Upstream: after(time.Hour), Want: late(1, 2*time.Second)},
		{Name: "an answer in time", Cite: cite, Config: two, Upstream: after(time.Second), Want: ok(time.Second)},
		{Name: "half a second", Cite: cite, Config: ruled("timeout: 0.5s"), Upstream: after(time.Hour), Want: late(1, 500*time.Millisecond)},
		{Name: "the least", Cite: cite + "; §2.1 Durations (1 ms)", Config: ruled("timeout: 1ms"), Upstream: after(time.Hour), Want: late(1, time.Millisecond)},
		{Name: "a POST", Cite: cite, Config: two, Upstream: after(time.Hour), Request: Request{Method: "POST", URL: reviewsURL, Body: "some"}, Want: late(1, 2*time.Second)},
		{Name: "is not retried", Cite: tries, Config: retried, Upstream: after(time.Hour, time.Second), Request: explicitly, Want: late(1, 2*time.Second)},
		{Name: "over all tries", Cite: tries, Config: retried, Upstream: failing(900*time.Millisecond, 900*time.Millisecond, 900*time.Millisecond), Request: explicitly, Want: late(3, 2*time.Second)},
		{Name: "over the waits between them", Cite: tries, Config: ruled("timeout: 2s, retries: {attempts: 5, retryOn: 5xx, backoff: 1000s}"), Upstream: failing(0, 0, 0), Request: explicitly, Want: late(1, 2*time.Second)},
		{Name: "tries in time", Cite: tries, Config: retried, Upstream: failing(900*time.Millisecond, 900*time.Millisecond), Request: explicitly, Want: Result{Endpoint: v1, Attempts: 3}},
		{Name: "over a failure to connect", Cite: tries, Config: two, Upstream: Upstream{Script: []Behaviour{refused(), {After: time.Hour}}}, Want: late(2, 2*time.Second)},
		{Name: "over the body", Cite: body, Config: two, Upstream: halves(time.Hour), Request: explicitly, Want: Result{Flag: "UT", Attempts: 1, Text: half, Took: 2 * time.Second}},
		{Name: "a body in time", Cite: body, Config: two, Upstream: halves(time.Second), Request: explicitly, Want: Result{Endpoint: v1, Text: half + half, Took: time.Second}},
		{Name: "the caller's deadline is sooner", Cite: cite + "; §3.6 DC", Config: two, Upstream: after(time.Hour), Request: Request{URL: reviewsURL, Deadline: time.Second}, Want: Result{Status: 499, Flag: "DC", Attempts: 1, Took: time.Second}},
		{Name: "the caller's deadline is later", Cite: cite + "; §3.6 UT", Config: two, Upstream: after(time.Hour), Request: Request{URL: reviewsURL, Deadline: time.Minute}, Want: late(1, 2*time.Second)},
		{Name: "an endpoint's own 504", Cite: cite + "; DESIGN.md §5 Errors (a response of the wire)", Config: two, Upstream: Upstream{Script: []Behaviour{status(504)}}, Request: explicitly, Want: Result{Endpoint: v1, Status: 504}},
		{Name: "of another rule", Cite: cite, Config: lone() + rules("- {name: quick, match: [{uri: {prefix: /quick}}], timeout: 1s, route: [{destination: {host: reviews}}]}\n- {name: r, route: [{destination: {host: reviews}}]}"), Upstream: after(time.Hour), Want: ok(time.Hour)},
		{Name: "of the rule that took it", Cite: cite, Config: lone() + rules("- {name: quick, match: [{uri: {prefix: /quick}}], timeout: 1s, route: [{destination: {host: reviews}}]}\n- {name: r, route: [{destination: {host: reviews}}]}"), Upstream: after(time.Hour),
			Request: get(reviewsURL + "quick"), Want: Result{Route: "quick", Status: 504, Flag: "UT", Attempts: 1, Took: time.Second}},
		{Name: "an RPC", Cite: cite + "; §3.6 UT", Config: two, Upstream: after(time.Hour), Request: Request{Method: "POST", URL: reviewsURL + "s.S/M", Header: http.Header{"Content-Type": {"application/grpc"}}}, Want: late(1, 2*time.Second)},
		{Name: "an RPC is told of it", Cite: cite + " (the same value caps grpc-timeout); §3.8 Deadlines", Config: ruled("timeout: 1000s"), Request: Request{Method: "POST", URL: reviewsURL + "s.S/M"},
			Want: Result{Header: http.Header{"Grpc-Timeout": {"1000000m"}}}, Except: map[string]string{HTTP{}.Name(): noDeadline, Proxy{}.Name(): noDeadline, Proxy{ByHost: true}.Name(): noDeadline}},
	}
	const (
		try   = "§2.2 Retries perTryTimeout; §3.1 (a per-try timeout counts as a reset)"
		told  = "§3.2 x-envoy-expected-rq-timeout-ms (the smaller of per-try and remaining timeout)"
		count = "§3.2 x-envoy-attempt-count"
	)
	each := func(more string) string {
		return ruled("retries: {attempts: 2, perTryTimeout: 1s, retryOn: reset, backoff: 1ms}" + more)
	}
	post := Request{Method: "POST", URL: reviewsURL, Body: "some"}
	waits := func(ms string) Request {
		return Request{Method: "GET", URL: reviewsURL, Header: http.Header{"X-Envoy-Expected-Rq-Timeout-Ms": {ms}}}
	}
	byHeader := map[string]string{"grpc": "an RPC's time is its context's"}
	rows = append(rows,
		Case{Name: "a try's own, and another try", Cite: try, Config: each(""), Upstream: after(time.Hour), Request: explicitly, Want: Result{Endpoint: v1, Attempts: 2}},
		Case{Name: "each try's own", Cite: try + "; §3.6 UT", Config: each(""), Upstream: after(time.Hour, time.Hour, time.Hour), Request: explicitly, Want: Result{Status: 504, Flag: "UT", Attempts: 3, Flags: "URX"}},
		Case{Name: "a try's own, not repeated by default", Cite: try + "; §6.1", Config: ruled("retries: {attempts: 2, perTryTimeout: 1s}"), Upstream: after(time.Hour), Want: late(1, time.Second)},
		Case{Name: "a try's own is no shorter", Cite: "§2.2 Retries perTryTimeout (ignored if not smaller)", Config: ruled("timeout: 2s, retries: {attempts: 2, perTryTimeout: 2s, retryOn: reset}"), Upstream: after(time.Hour), Request: explicitly, Want: late(1, 2*time.Second)},
		Case{Name: "a try's own ends with the head", Cite: "§3.1 Per-try timeout; Envoy, Filter::onPerTryTimeout", Config: each(""), Upstream: halves(5 * time.Second), Request: explicitly,
			Want: Result{Endpoint: v1, Text: half + half, Took: 5 * time.Second}},
		Case{Name: "a try's own, of a POST", Cite: try, Deviation: "a request that is not idempotent is not repeated once it may have been processed; Istio repeats every method",
			Config: each(""), Upstream: after(time.Hour), Request: post, Want: late(1, time.Second)},
		Case{Name: "a try's own, of a POST that may be repeated", Cite: try, Config: annotated(each(""), `heddle.dev/retry-non-idempotent: "true"`), Upstream: after(time.Hour), Request: post, Want: Result{Endpoint: v1, Attempts: 2, Body: post.Body}},
		Case{Name: "a try's own over a timeout's end", Cite: tries, Config: each(", timeout: 1.5s"), Upstream: after(time.Hour, time.Hour), Request: explicitly, Want: late(2, 1500*time.Millisecond)},
		Case{Name: "the endpoint is told", Cite: told, Config: two, Except: byHeader, Want: Result{Header: http.Header{"X-Envoy-Expected-Rq-Timeout-Ms": {"2000"}}}},
		Case{Name: "the endpoint is told of a try's own", Cite: told, Config: each(", timeout: 2s"), Except: byHeader, Want: Result{Header: http.Header{"X-Envoy-Expected-Rq-Timeout-Ms": {"1000"}}}},
		Case{Name: "the endpoint is told what is left", Cite: told, Config: each(", timeout: 1.5s"), Except: byHeader, Upstream: after(time.Hour), Request: explicitly,
			Want: Result{Attempts: 2, Header: http.Header{"X-Envoy-Attempt-Count": {"2"}, "X-Envoy-Is-Timeout-Retry": {"true"}}}},
		Case{Name: "nothing is told without a bound", Cite: told, Config: ruled("timeout: 0s"), Except: map[string]string{"grpc": byHeader["grpc"], HTTP{}.Name(): "its caller has a deadline in any case"},
			Want: Result{Header: http.Header{"X-Envoy-Expected-Rq-Timeout-Ms": nil, "X-Envoy-Attempt-Count": nil}}},
		Case{Name: "the caller tells a sooner end", Cite: told, Config: two, Except: byHeader, Request: waits("700"), Want: Result{Header: http.Header{"X-Envoy-Expected-Rq-Timeout-Ms": {"700"}}}},
		Case{Name: "the caller cannot tell a later end", Cite: told, Config: two, Except: byHeader, Upstream: after(time.Hour), Request: waits("7000"), Want: late(1, 2*time.Second)},
		Case{Name: "what the caller tells is an end", Cite: told, Config: lone(), Except: byHeader, Upstream: after(time.Hour), Request: waits("700"), Want: Result{Status: 504, Flag: "UT", Attempts: 1}},
		Case{Name: "what the caller tells is no number", Cite: told, Config: lone(), Except: byHeader, Upstream: after(time.Minute), Request: waits("soon"), Want: Result{Endpoint: v1, Took: time.Minute}},
		Case{Name: "another hop's count", Cite: count, Config: two, Except: byHeader, Request: Request{URL: reviewsURL, Header: http.Header{"X-Envoy-Attempt-Count": {"3"}}},
			Want: Result{Header: http.Header{"X-Envoy-Attempt-Count": {"1"}}}},
	)
	for i := range rows {
		rows[i].Fake = true
		if rows[i].Request.URL == "" {
			rows[i].Request = get(reviewsURL)
		}
	}
	return rows
}

const noDeadline = "HTTP has no header for deadlines"
