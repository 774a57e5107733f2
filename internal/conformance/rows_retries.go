package conformance

import (
	"net/http"
	"strings"
)

// retryRows: HTTPRoute.retries, and what is retried without them.
func retryRows() []Case {
	const (
		byDefault = "§2.2 Retries (block missing: attempts 2, retryOn default); §6.2"
		attempts  = "§2.2 Retries attempts; §6.3"
		on        = "§2.2 Retries retryOn; §3.1 "
		fresh     = "§2.2 Retries retryIgnorePreviousHosts"
		body      = "§3.1 Body replay"
		never     = "§3.1 Never retried"
		careful   = "a request that is not idempotent is not repeated once it may have been processed (DESIGN.md §1, issue 7); Istio repeats every method"
	)
	retrying := func(policy string) string {
		return reviews() + rules("- name: r\n  route: [{destination: {host: reviews}}]\n  retries: "+policy)
	}
	on5xx := retrying("{attempts: 2, retryOn: 5xx, backoff: 1ms}")
	down := Upstream{Down: []string{v1, v2, v3}}
	meets := func(script ...Behaviour) Upstream { return Upstream{Script: script} }
	explicitly := Request{Method: "GET", URL: reviewsURL}
	post := Request{Method: "POST", URL: reviewsURL, Body: "once upon a time"}
	keyed := Request{Method: "POST", URL: reviewsURL, Body: post.Body, Header: http.Header{"Idempotency-Key": {"7"}}}
	put := Request{Method: "PUT", URL: reviewsURL, Body: "once upon a time"}
	big := strings.Repeat("0123456789abcdef", 8<<10) // 128 KiB, beyond the replay buffer
	stream := Request{Method: "PUT", URL: reviewsURL, Body: big, Stream: true}
	again := Result{Attempts: 2, Tried: 2}
	failed := func(flag string, attempts int) Result { return Result{Status: 503, Flag: flag, Attempts: attempts} }
	answered := func(status, attempts int) Result { return Result{Status: status, Attempts: attempts} }
	one := static("default/reviews", "9080", "10.0.0.1")

	rows := []Case{
		{Name: "connect failure by default, GET", Cite: byDefault, Config: reviews(), Upstream: meets(refused()), Request: explicitly, Want: again},
		{Name: "connect failure by default, POST", Cite: byDefault + "; all methods", Config: reviews(), Upstream: meets(refused()), Request: post,
			Want: Result{Attempts: 2, Tried: 2, Body: post.Body}},
		{Name: "two retries by default", Cite: byDefault, Config: reviews(), Upstream: meets(refused(), refused()), Want: Result{Attempts: 3, Tried: 3}},
		{Name: "rules without retries have the default", Cite: byDefault, Config: reviews() + rules("- {name: r, route: [{destination: {host: reviews}}]}"),
			Upstream: meets(refused()), Want: again},
		{Name: "all endpoints down", Cite: byDefault + "; §3.6 UF", Config: reviews(), Upstream: down,
			Want: Result{Status: 503, Flag: "UF", Attempts: 3, Tried: 3}},
		{Name: "two of three endpoints down", Cite: fresh, Config: retrying("{attempts: 2, backoff: 1ms}"), Repeat: 5,
			Upstream: Upstream{Down: []string{v1, v3}}, Want: Result{Endpoint: v2, Attempts: anyAttempts}},
		{Name: "a lone endpoint is tried again", Cite: byDefault, Config: one, Upstream: meets(refused()), Want: Result{Attempts: 2, Endpoint: v1}},
		{Name: "a lone endpoint down", Cite: byDefault + "; §3.6 UF", Config: one, Upstream: Upstream{Down: []string{v1}}, Want: failed("UF", 3)},
		{Name: "503 is not retried by default", Cite: byDefault + " (503 removed in 1.24)", Config: reviews(), Upstream: meets(status(503)), Want: answered(503, 1)},
		{Name: "reset is not retried by default", Cite: byDefault + "; §3.6 UC", Config: reviews(), Upstream: meets(reset()), Want: failed("UC", 1)},
		{Name: "attempts 0", Cite: attempts, Config: retrying("{attempts: 0}"), Upstream: down, Want: failed("UF", 1)},
		{Name: "empty block", Cite: attempts, Config: retrying("{}"), Upstream: down, Want: failed("UF", 1)},
		{Name: "attempts 1", Cite: attempts + " (extra tries)", Config: retrying("{attempts: 1, backoff: 1ms}"), Upstream: down, Want: failed("UF", 2)},
		{Name: "attempts 5", Cite: attempts + " (extra tries)", Config: retrying("{attempts: 5, backoff: 1ms}"), Upstream: down, Want: Result{Status: 503, Flag: "UF", Attempts: 6, Tried: 3}},
		{Name: "attempts without retryOn", Cite: on + "(default)", Config: retrying("{attempts: 1, backoff: 1ms}"), Upstream: meets(refused()), Want: again},
		{Name: "attempts without retryOn, 503", Cite: on + "(default)", Config: retrying("{attempts: 1, backoff: 1ms}"), Upstream: meets(status(503)), Want: answered(503, 1)},
		{Name: "5xx, GET", Cite: on + "5xx", Config: on5xx, Upstream: meets(status(503)), Want: again},
		{Name: "5xx, 500", Cite: on + "5xx", Config: on5xx, Upstream: meets(status(500)), Want: again},
		{Name: "5xx, not 404", Cite: on + "5xx", Config: on5xx, Upstream: meets(status(404)), Want: answered(404, 1)},
		{Name: "5xx, HEAD", Cite: on + "5xx", Config: on5xx, Upstream: meets(status(503)), Request: Request{Method: "HEAD", URL: reviewsURL}, Want: again},
		{Name: "5xx, DELETE", Cite: on + "5xx", Config: on5xx, Upstream: meets(status(503)), Request: Request{Method: "DELETE", URL: reviewsURL}, Want: again},
		{Name: "5xx, POST", Cite: on + "5xx", Deviation: careful, Config: on5xx, Upstream: meets(status(503)), Request: post, Want: answered(503, 1)},
		{Name: "5xx, PATCH", Cite: on + "5xx", Deviation: careful, Config: on5xx, Upstream: meets(status(503)), Request: Request{Method: "PATCH", URL: reviewsURL, Body: "x"}, Want: answered(503, 1)},
		{Name: "5xx, connect failure of a POST", Cite: on + "5xx (includes connect-failure)", Config: on5xx, Upstream: meets(refused()), Request: post,
			Want: Result{Attempts: 2, Body: post.Body}},
		{Name: "5xx, reset of a GET", Cite: on + "5xx (or no response at all)", Config: on5xx, Upstream: meets(reset()), Request: explicitly, Want: again},
		{Name: "5xx, reset of a POST", Cite: on + "5xx", Deviation: careful, Config: on5xx, Upstream: meets(reset()), Request: post, Want: failed("UC", 1)},
		{Name: "5xx, exhausted", Cite: attempts + "; DESIGN.md §5 Errors (the response is returned)", Config: on5xx, Upstream: meets(status(503), status(502), status(500)), Want: answered(500, 3)},
		{Name: "5xx, then connect failure", Cite: on + "5xx", Config: on5xx, Upstream: meets(status(503), refused()), Want: Result{Attempts: 3, Tried: 3}},
		{Name: "default, connect failure then 503", Cite: byDefault, Config: reviews(), Upstream: meets(refused(), status(503)), Want: answered(503, 2)},
		{Name: "gateway-error, 502", Cite: on + "gateway-error", Config: retrying("{attempts: 1, retryOn: gateway-error, backoff: 1ms}"), Upstream: meets(status(502)), Want: again},
		{Name: "gateway-error, 504", Cite: on + "gateway-error", Config: retrying("{attempts: 1, retryOn: gateway-error, backoff: 1ms}"), Upstream: meets(status(504)), Want: again},
		{Name: "gateway-error, not 500", Cite: on + "gateway-error", Config: retrying("{attempts: 1, retryOn: gateway-error, backoff: 1ms}"), Upstream: meets(status(500)), Want: answered(500, 1)},
		{Name: "a status code", Cite: on + "(integers imply retriable-status-codes)", Config: retrying(`{attempts: 1, retryOn: "503", backoff: 1ms}`), Upstream: meets(status(503)), Want: again},
		{Name: "another status code", Cite: on + "(integers imply retriable-status-codes)", Config: retrying(`{attempts: 1, retryOn: "503", backoff: 1ms}`), Upstream: meets(status(500)), Want: answered(500, 1)},
		{Name: "a status code among tokens", Cite: on + "retriable-status-codes", Config: retrying(`{attempts: 1, retryOn: "connect-failure,418", backoff: 1ms}`), Upstream: meets(status(418)), Want: again},
		{Name: "retriable-4xx, 409", Cite: on + "retriable-4xx", Config: retrying("{attempts: 1, retryOn: retriable-4xx, backoff: 1ms}"), Upstream: meets(status(409)), Want: again},
		{Name: "retriable-4xx, not 404", Cite: on + "retriable-4xx (409 only)", Config: retrying("{attempts: 1, retryOn: retriable-4xx, backoff: 1ms}"), Upstream: meets(status(404)), Want: answered(404, 1)},
		{Name: "reset", Cite: on + "reset", Config: retrying("{attempts: 1, retryOn: reset, backoff: 1ms}"), Upstream: meets(reset()), Request: explicitly, Want: again},
		{Name: "reset, not 503", Cite: on + "reset (no response at all)", Config: retrying("{attempts: 1, retryOn: reset, backoff: 1ms}"), Upstream: meets(status(503)), Want: answered(503, 1)},
		{Name: "connect-failure, not reset", Cite: on + "connect-failure", Config: retrying("{attempts: 1, retryOn: connect-failure, backoff: 1ms}"), Upstream: meets(reset()), Want: failed("UC", 1)},
		{Name: "reset-before-request, not after it", Cite: on + "reset-before-request", Config: retrying("{attempts: 1, retryOn: reset-before-request, backoff: 1ms}"), Upstream: meets(reset()), Want: failed("UC", 1)},
		{Name: "refused-stream, not connect failure", Cite: on + "refused-stream", Config: retrying("{attempts: 1, retryOn: refused-stream, backoff: 1ms}"), Upstream: down, Want: failed("UF", 1)},
		{Name: "body goes again in full", Cite: body, Config: on5xx, Upstream: meets(status(503), status(503)), Request: put, Want: Result{Attempts: 3, Tried: 3, Body: put.Body}},
		{Name: "body that reads once goes again", Cite: body, Config: on5xx, Upstream: meets(status(503)),
			Request: Request{Method: "PUT", URL: reviewsURL, Body: put.Body, Stream: true}, Want: Result{Attempts: 2, Tried: 2, Body: put.Body}},
		{Name: "body beyond the buffer loses its retry", Cite: never + " (body larger than the replay buffer)", Config: on5xx, Upstream: meets(status(503)), Request: stream,
			Want: Result{Status: 503, Attempts: 1, Body: big}},
		{Name: "body beyond the buffer, before it was read", Cite: on + "connect-failure; DESIGN.md §6 (past the cap only the retry is lost)", Config: on5xx, Upstream: meets(refused()), Request: stream,
			Want: Result{Attempts: 2, Body: big}},
		{Name: "rate limited", Cite: never + " (x-envoy-ratelimited)", Config: on5xx, Upstream: meets(marked(503, "X-Envoy-Ratelimited")), Want: answered(503, 1)},
		{Name: "rate limited, asked for", Cite: on + "envoy-ratelimited", Config: retrying("{attempts: 1, retryOn: envoy-ratelimited, backoff: 1ms}"), Upstream: meets(marked(429, "X-Envoy-Ratelimited")), Want: again},
		{Name: "a POST that its rule lets repeat", Cite: careful, Config: annotated(on5xx, `heddle.dev/retry-non-idempotent: "true"`), Upstream: meets(status(503)), Request: post, Want: Result{Attempts: 2, Tried: 2, Body: post.Body}},
		{Name: "a POST that its rule does not let repeat", Cite: careful, Config: annotated(on5xx, `heddle.dev/retry-non-idempotent: "false"`), Upstream: meets(status(503)), Request: post, Want: answered(503, 1)},
		{Name: "a POST with a key", Cite: careful, Config: annotated(on5xx, `heddle.dev/retry-non-idempotent: with-key`), Upstream: meets(reset()), Request: keyed, Want: Result{Attempts: 2, Tried: 2, Body: post.Body}},
		{Name: "a POST without a key", Cite: careful, Config: annotated(on5xx, `heddle.dev/retry-non-idempotent: with-key`), Upstream: meets(reset()), Request: post, Want: failed("UC", 1)},
		{Name: "a key that nobody asked for", Cite: "issue 7 (a header that merely arrives counts only where the rule says so)", Config: on5xx, Upstream: meets(reset()), Request: keyed, Want: failed("UC", 1)},
		{Name: "the endpoint is told which attempt it is", Cite: "§3.2 x-envoy-attempt-count", Config: on5xx, Upstream: meets(status(503), status(503)), Request: explicitly,
			Want: Result{Attempts: 3, Tried: 3, Header: http.Header{"X-Envoy-Attempt-Count": {"3"}}}},
		{Name: "no attempt left", Cite: "§3.6 URX", Config: on5xx, Upstream: meets(status(503), status(503), status(503)), Request: explicitly, Want: Result{Status: 503, Attempts: 3, Flags: "URX"}},
		{Name: "told to come back soon", Cite: "§3.1 Rate-limited backoff; RFC 9110 §10.2.3", Config: on5xx, Upstream: meets(Behaviour{Status: 503, Header: http.Header{"Retry-After": {"0"}}}), Request: explicitly, Want: again},
		{Name: "told to come back late", Cite: "§3.1 Rate-limited backoff; RFC 9110 §10.2.3", Config: on5xx, Upstream: meets(Behaviour{Status: 503, Header: http.Header{"Retry-After": {"3600"}}}), Request: explicitly, Want: answered(503, 1)},
		{Name: "overloaded", Cite: never + " (x-envoy-overloaded)", Config: on5xx, Upstream: meets(marked(503, "X-Envoy-Overloaded")), Want: answered(503, 1)},
	}
	for i := range rows {
		if rows[i].Request.URL == "" {
			rows[i].Request = get(reviewsURL)
		}
	}
	return rows
}
