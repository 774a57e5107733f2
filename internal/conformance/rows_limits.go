package conformance

import "net/http"

// limitRows: RateLimit, on calls that a workload makes. What it receives is in the tests of each server.
func limitRows() []Case {
	const (
		cite  = "§3.4 Local"
		order = "DESIGN.md §3.6 (redirect | direct response → rate limit)"
		whose = "docs/limits.md (workloadSelector)"
		keyed = cite + " (descriptors)"
	)
	limit := func(name, spec string) string { return document("RateLimit", name, spec) }
	on := func(hosts, limits string) string {
		return limit("default/reviews", "direction: OUTBOUND\nhosts: ["+hosts+"]\nlimits:\n"+limits)
	}
	two := "- {name: all, requests: 2, unit: DAY}"
	reached := Result{Status: http.StatusTooManyRequests, Flag: "RL"}
	fine := Result{Endpoint: v1}
	user := func(name string) Request {
		return Request{URL: reviewsURL + "a/b", Header: http.Header{"End-User": {name}}}
	}
	rpc := Request{Method: "POST", URL: reviewsURL + "s.S/M", Header: http.Header{"Content-Type": {"application/grpc"}}}
	rows := []Case{
		{Name: "one too many", Cite: cite + "; §3.6 RL", Config: ruled("") + on("reviews", two), Repeat: 5, First: 2, Want: Result{Route: "r", Endpoint: v1}, Then: Result{Route: "r", Status: 429, Flag: "RL"}},
		{Name: "burst", Cite: cite + " (max_tokens)", Config: lone() + on("reviews", "- {name: all, requests: 1, unit: DAY, burst: 3}"), Repeat: 5, First: 3, Want: fine, Then: reached},
		{Name: "a host without rules", Cite: cite, Config: lone() + on("reviews", two), Repeat: 3, First: 2, Want: fine, Then: reached},
		{Name: "a wildcard", Cite: cite, Config: lone() + on(`"*.svc.cluster.local"`, two), Repeat: 3, First: 2, Want: fine, Then: reached},
		{Name: "another host", Cite: cite, Config: lone() + ratings() + on("ratings", two), Repeat: 4, Want: fine},
		{Name: "the strictest of several", Cite: cite, Config: lone() + on("reviews", "- {name: much, requests: 100, unit: SECOND}\n- {name: all, requests: 2, unit: HOUR}\n- {name: more, requests: 3, unit: DAY}"), Repeat: 4, First: 2, Want: fine, Then: reached},
		{Name: "by a header", Cite: keyed, Config: lone() + on("reviews", "- {name: each, by: [{header: end-user}], requests: 2, unit: DAY, maxKeys: 5}"), Request: user("lisa"), Repeat: 4, First: 2, Want: fine, Then: reached},
		{Name: "by a header that is missing", Cite: keyed + "; docs/limits.md", Deviation: "Envoy leaves out a descriptor whose header is missing; here a header left away leads to no way past the limit",
			Config: lone() + on("reviews", "- {name: each, by: [{header: end-user}], requests: 2, unit: DAY, maxKeys: 5}"), Repeat: 4, First: 2, Want: fine, Then: reached},
		{Name: "match", Cite: keyed, Config: lone() + on("reviews", "- {name: lisa, match: [{uri: {prefix: /a}, headers: {end-user: {exact: lisa}}}], requests: 2, unit: DAY}"), Request: user("lisa"), Repeat: 4, First: 2, Want: fine, Then: reached},
		{Name: "no match", Cite: keyed, Config: lone() + on("reviews", "- {name: lisa, match: [{uri: {prefix: /a}, headers: {end-user: {exact: lisa}}}], requests: 2, unit: DAY}"), Request: user("bart"), Repeat: 4, Want: fine},
		{Name: "one of several matches", Cite: keyed, Config: lone() + on("reviews", "- {name: some, match: [{uri: {exact: /x}}, {headers: {end-user: {exact: bart}}}], requests: 2, unit: DAY}"), Request: user("bart"), Repeat: 3, First: 2, Want: fine, Then: reached},
		{Name: "its rule", Cite: keyed, Config: ruled("") + on("reviews", "- {name: r, routes: [r], requests: 2, unit: DAY}"), Repeat: 3, First: 2, Want: fine, Then: reached},
		{Name: "another rule", Cite: keyed, Config: ruled("") + on("reviews", "- {name: other, routes: [other], requests: 2, unit: DAY}"), Repeat: 4, Want: fine},
		{Name: "a call with retries counts once", Cite: cite + " (before the router)", Config: ruled("retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}") + on("reviews", two),
			Request: Request{Method: "GET", URL: reviewsURL}, Upstream: Upstream{Script: []Behaviour{status(503), {}, status(503)}}, Repeat: 3, First: 2, Want: Result{Attempts: 2}, Then: reached},
		{Name: "a direct response does not count", Cite: order, Config: lone() + rules("- {name: r, directResponse: {status: 200}}") + on("reviews", two), Repeat: 4, Want: Result{Details: "direct_response"}},
		{Name: "an injected abort does not count", Cite: order, Config: ruled("fault: {abort: {httpStatus: 503, percentage: {value: 100}}}") + on("reviews", two), Repeat: 4, Want: Result{Status: 503, Details: "fault_filter_abort", Flags: "FI"}},
		{Name: "an RPC", Cite: cite + " (rate_limited_as_resource_exhausted: false)", Config: lone() + on("reviews", two), Request: rpc, Repeat: 3, First: 2, Want: fine, Then: reached},
		{Name: "an RPC is told RESOURCE_EXHAUSTED", Cite: cite + " (rate_limited_as_resource_exhausted)", Config: lone() + limit("default/reviews", "direction: OUTBOUND\nhosts: [reviews]\nrateLimitedAsResourceExhausted: true\nlimits:\n"+two),
			Request: rpc, Repeat: 3, First: 2, Want: fine, Then: Result{Status: 429, Flag: "RL", GRPC: 8}, Except: map[string]string{HTTP{}.Name(): "an error of net/http has no grpc-status"}},
		{Name: "the caller is selected", Cite: whose, Config: lone() + limit("default/reviews", "workloadSelector: {labels: {app: shop}}\ndirection: OUTBOUND\nhosts: [reviews]\nlimits:\n"+two),
			Workload: labelled("app", "shop"), Repeat: 3, First: 2, Want: fine, Then: reached},
		{Name: "another caller is selected", Cite: whose, Config: lone() + limit("default/reviews", "workloadSelector: {labels: {app: shop}}\ndirection: OUTBOUND\nhosts: [reviews]\nlimits:\n"+two),
			Workload: labelled("app", "bank"), Repeat: 4, Want: fine},
		{Name: "callers of another namespace", Cite: whose, Config: lone() + limit("bank/reviews", "direction: OUTBOUND\nhosts: [reviews.default.svc.cluster.local]\nlimits:\n"+two), Repeat: 4, Want: fine},
		{Name: "callers of every namespace", Cite: whose, Config: lone() + limit("istio-system/reviews", "direction: OUTBOUND\nhosts: [reviews.default.svc.cluster.local]\nlimits:\n"+two), Repeat: 3, First: 2, Want: fine, Then: reached},
		{Name: "what is received", Cite: "docs/limits.md (direction)", Config: lone() + limit("default/reviews", "direction: INBOUND\nlimits:\n"+two), Repeat: 4, Want: fine},
	}
	for i := range rows {
		if rows[i].Request.URL == "" {
			rows[i].Request = get(reviewsURL)
		}
	}
	return rows
}

// breakerRows: the circuit breaker of a ResiliencePolicy.
func breakerRows() []Case {
	const (
		cite  = "docs/limits.md (circuit breaker); §3.6 UO"
		whose = "docs/limits.md (workloadSelector)"
	)
	on := func(spec string) string { return document("ResiliencePolicy", "default/reviews", spec) }
	broken := func(codes ...int) Upstream {
		var u Upstream
		for _, code := range codes {
			u.Script = append(u.Script, status(code))
		}
		return u
	}
	inARow := on("hosts: [reviews]\ncircuitBreaker: {consecutiveFailures: 3, openFor: 1h}")
	once := ruled("retries: {attempts: 0}")
	open := Result{Status: http.StatusServiceUnavailable, Flag: "UO"}
	failed := func(code int) Result { return Result{Status: code, Endpoint: v1} }
	rows := []Case{
		{Name: "failures in a row", Cite: cite, Config: once + inARow, Upstream: broken(503, 503, 503, 503), Repeat: 5, First: 3, Want: failed(503), Then: open},
		{Name: "without a breaker", Cite: cite, Config: once, Upstream: broken(503, 503, 503, 503, 503), Repeat: 5, Want: failed(503)},
		{Name: "too few of them", Cite: cite, Config: once + inARow, Upstream: broken(503, 503), Repeat: 5, First: 2, Want: failed(503), Then: Result{Endpoint: v1}},
		{Name: "4xx are no failures", Cite: cite, Config: once + inARow, Upstream: broken(404, 404, 404, 404, 404), Repeat: 5, Want: failed(404)},
		{Name: "injected faults are no failures", Cite: cite + "; DESIGN.md §3.7", Config: ruled("fault: {abort: {httpStatus: 503, percentage: {value: 100}}}") + inARow, Repeat: 5,
			Want: Result{Status: 503, Details: "fault_filter_abort", Flags: "FI"}},
		{Name: "every attempt counts", Cite: cite, Config: ruled("retries: {attempts: 5, retryOn: 5xx, backoff: 1ms}") + inARow, Request: Request{Method: "GET", URL: reviewsURL}, Upstream: broken(503, 503, 503, 503, 503),
			Repeat: 2, First: 1, Want: Result{Status: 503, Flag: "UO", Attempts: 3}, Then: open},
		{Name: "connections that fail", Cite: cite, Config: once + inARow, Upstream: Upstream{Down: []string{v1}}, Repeat: 5, First: 3, Want: Result{Status: 503, Flag: "UF", Attempts: 1}, Then: open},
		{Name: "a share of failures", Cite: cite, Config: once + on("hosts: [reviews]\ncircuitBreaker: {failurePercent: 100, minimumRequests: 4, interval: 1h, openFor: 1h, halfOpenRequests: 3}"),
			Upstream: broken(500, 500, 500, 500, 500), Repeat: 6, First: 4, Want: failed(500), Then: open},
		{Name: "one for all subsets", Cite: cite, Config: reviews() + versions() + rules("- {name: r, route: [{destination: {host: reviews, subset: v1}, weight: 50}, {destination: {host: reviews, subset: v2}, weight: 50}], retries: {attempts: 0}}") +
			on("hosts: [reviews]\ncircuitBreaker: {consecutiveFailures: 6, openFor: 1h}"), Upstream: Upstream{Down: []string{v1, v2}}, Repeat: 8, First: 6, Want: Result{Status: 503, Flag: "UF", Attempts: 1}, Then: open},
		{Name: "another caller is selected", Cite: whose, Config: once + on("workloadSelector: {labels: {app: shop}}\nhosts: [reviews]\ncircuitBreaker: {consecutiveFailures: 1}"), Upstream: broken(503, 503, 503), Workload: labelled("app", "bank"),
			Repeat: 3, Want: failed(503)},
		{Name: "another host", Cite: cite, Config: once + ratings() + on("hosts: [ratings]\ncircuitBreaker: {consecutiveFailures: 1}"), Upstream: broken(503, 503, 503), Repeat: 3, Want: failed(503)},
	}
	for i := range rows {
		if rows[i].Request.URL == "" {
			rows[i].Request = get(reviewsURL)
		}
	}
	return rows
}
