package conformance

import (
	"net/http"
)

// rewriteRows: HTTPRoute.rewrite.
func rewriteRows() []Case {
	const (
		cite     = "§2.2 Rewrite"
		prefix   = cite + " uri (replaces the matched prefix)"
		whole    = cite + " uri (the entire path if the match was exact or regex)"
		none     = cite + " uri (or absent: / prefix)"
		regex    = cite + " uriRegexRewrite; RE2 GlobalReplace"
		original = cite + "; §3.2 x-envoy-original-path"
		host     = cite + " authority; §3.2 x-envoy-original-host"
		safe     = "docs/calls.md \"What a rule does\"; CanonicalPath; attacks.md A-029"
		sent     = "Envoy sends it on as it is"
		at       = "http://reviews:9080"
	)
	v1Prefix, foo := "[{uri: {prefix: /v1/}}]", "[{uri: {prefix: /foo}}]"
	at1 := func(path, was string) Result {
		return Result{Route: "r", Endpoint: v1, Path: path, Header: http.Header{"X-Envoy-Original-Path": {was}}}
	}
	same := func(path string) Result {
		return Result{Route: "r", Endpoint: v1, Path: path, Header: http.Header{"X-Envoy-Original-Path": nil, "X-Envoy-Original-Host": nil}}
	}
	refused400 := Result{Status: 400, Flag: "DPE"}
	instance := `rewrite: {uriRegexRewrite: {match: "^/service/([^/]+)(/.*)$", rewrite: '\2/instance/\1'}}`
	rows := []struct {
		name, cite, deviation, match, more, url string
		want                                    Result
	}{
		{"prefix", prefix, "", v1Prefix, "rewrite: {uri: /api/}", "/v1/books", at1("/api/books", "/v1/books")},
		{"the query stays", original, "", v1Prefix, "rewrite: {uri: /api/}", "/v1/books?q=/v1/&r", at1("/api/books?q=/v1/&r", "/v1/books?q=/v1/&r")},
		{"an empty query stays", prefix, "", v1Prefix, "rewrite: {uri: /api/}", "/v1/books?", Result{Path: "/api/books?"}},
		{"prefix is text", prefix, "", foo, "rewrite: {uri: /x}", "/foobar", at1("/xbar", "/foobar")},
		{"two slashes", prefix + "; Envoy prefix_rewrite (as text)", "", foo, "rewrite: {uri: /}", "/foo/bar", at1("//bar", "/foo/bar")},
		{"all of the path is the prefix", prefix, "", foo, "rewrite: {uri: /x}", "/foo", at1("/x", "/foo")},
		{"prefix in another case", prefix + "; §2.2 ignoreUriCase", "", "[{uri: {prefix: /foo}, ignoreUriCase: true}]", "rewrite: {uri: /x}", "/FOO/Bar", at1("/x/Bar", "/FOO/Bar")},
		{"prefix of the match that took", prefix, "", "[{uri: {prefix: /longer}}, {uri: {prefix: /s}}]", "rewrite: {uri: /x}", "/s/a", at1("/x/a", "/s/a")},
		{"exact", whole, "", "[{uri: {exact: /a/b}}]", "rewrite: {uri: /c}", "/a/b?q", at1("/c?q", "/a/b?q")},
		{"expression", whole, "", `[{uri: {regex: "/a/.*"}}]`, "rewrite: {uri: /c}", "/a/b/d", at1("/c", "/a/b/d")},
		{"no match", none, "", "", "rewrite: {uri: /api/}", "/books", at1("/api/books", "/books")},
		{"no condition on the path", none, "", "[{headers: {x-none: {regex: \".*\"}}}, {withoutHeaders: {x-none: {}}}]", "rewrite: {uri: /api}", "/books", at1("/apibooks", "/books")},
		{"to the same", original, "", "[{uri: {prefix: /}}]", "rewrite: {uri: /}", "/books", same("/books")},
		{"encoded characters stay", prefix, "", v1Prefix, "rewrite: {uri: /api/}", "/v1/a%2Fb%20c%25", at1("/api/a%2Fb%20c%25", "/v1/a%2Fb%20c%25")},
		{"a space", cite + "; RFC 3986 §2.1", "", v1Prefix, `rewrite: {uri: "/my api/"}`, "/v1/a%2Fb", at1("/my%20api/a%2Fb", "/v1/a%2Fb")},
		{"a query of its own", prefix + "; Envoy prefix_rewrite (as text, before the query)", "", "[{uri: {exact: /a}}]", `rewrite: {uri: "/b?x=1"}`, "/a?q=2", at1("/b?x=1?q=2", "/a?q=2")},
		{"the canonical path", prefix + "; docs/calls.md (rules match the canonical spelling)", "", v1Prefix, "rewrite: {uri: /api/}", "/v1/./a/../b", at1("/api/b", "/v1/b")},
		{"dots behind the prefix", safe, sent, foo, "rewrite: {uri: /api/}", "/foo../secret", refused400},
		{"one dot behind the prefix", safe, sent, foo, "rewrite: {uri: /api/}", "/foo./secret", refused400},
		{"dots within a name", safe, "", foo, "rewrite: {uri: /api/}", "/foo..x", at1("/api/..x", "/foo..x")},
		{"expression with groups", regex, "", "", instance, "/service/foo/v1/api", at1("/v1/api/instance/foo", "/service/foo/v1/api")},
		{"expression that finds nothing", regex, "", "", instance, "/other/foo", same("/other/foo")},
		{"expression finds all", regex, "", "", "rewrite: {uriRegexRewrite: {match: one, rewrite: two}}", "/one/x/one", at1("/two/x/two", "/one/x/one")},
		{"expression leaves the query", regex + "; Envoy removeQueryAndFragment", "", "", "rewrite: {uriRegexRewrite: {match: one, rewrite: two}}", "/one?one=one", at1("/two?one=one", "/one?one=one")},
		{"expression in any case", regex, "", "", `rewrite: {uriRegexRewrite: {match: "(?i)/XXX/", rewrite: /y/}}`, "/a/xXx/b", at1("/a/y/b", "/a/xXx/b")},
		{"expression and the match's path", regex, "", foo, `rewrite: {uriRegexRewrite: {match: "^/foo", rewrite: /x}}`, "/foo/foo", at1("/x/foo", "/foo/foo")},
		{"another host's target becomes a path", safe, sent, "", `rewrite: {uriRegexRewrite: {match: "^/to/(.*)$", rewrite: '\1'}}`, "/to/http://other/x", at1("/http://other/x", "/to/http://other/x")},
		{"an escape cut in two", safe, sent, "", `rewrite: {uriRegexRewrite: {match: "2F", rewrite: "zz"}}`, "/a%2Fb", refused400},
		{"an encoded NUL", safe, sent, "", `rewrite: {uriRegexRewrite: {match: "25", rewrite: ""}}`, "/a%2500", refused400},
		{"authority", host, "", "", "rewrite: {authority: inner.example}", "/a", Result{Endpoint: v1, Host: "inner.example", Path: "/a", Header: http.Header{"X-Envoy-Original-Host": {"reviews:9080"}, "X-Envoy-Original-Path": nil}}},
		{"authority with a port", host, "", "", `rewrite: {authority: "inner.example:81"}`, "/a", Result{Endpoint: v1, Host: "inner.example:81"}},
		{"authority and uri", host, "", v1Prefix, "rewrite: {authority: inner.example, uri: /}", "/v1/a", Result{Endpoint: v1, Host: "inner.example", Path: "/a",
			Header: http.Header{"X-Envoy-Original-Host": {"reviews:9080"}, "X-Envoy-Original-Path": {"/v1/a"}}}},
		{"authority that is the same", host, "", "", `rewrite: {authority: "reviews:9080"}`, "/a", same("/a")},
	}
	cases := make([]Case, 0, len(rows)+4)
	for _, r := range rows {
		cases = append(cases, Case{Name: r.name, Cite: r.cite, Deviation: r.deviation, Config: matched(r.match, r.more), Request: get(at + r.url), Want: r.want})
	}
	api := matched(v1Prefix, "rewrite: {uri: /v1/v1/, authority: inner.example}, retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}")
	return append(cases,
		Case{Name: "a retry does not rewrite again", Cite: cite + "; §2.2 Retries", Config: api, Upstream: Upstream{Script: []Behaviour{status(503), status(503)}},
			Request: Request{Method: "PUT", URL: at + "/v1/a", Body: "x"}, Want: Result{Attempts: 3, Path: "/v1/v1/a", Host: "inner.example", Body: "x", Header: http.Header{"X-Envoy-Original-Path": {"/v1/a"}, "X-Envoy-Original-Host": {"reviews:9080"}}}},
		Case{Name: "a retry after a failure to connect", Cite: cite + "; §2.2 Retries", Config: api, Upstream: Upstream{Script: []Behaviour{refused()}},
			Request: Request{URL: at + "/v1/a"}, Want: Result{Attempts: 2, Path: "/v1/v1/a", Host: "inner.example", Header: http.Header{"X-Envoy-Original-Path": {"/v1/a"}}}},
		Case{Name: "the caller's word for the original", Cite: original + " (Envoy sets it)", Config: matched(v1Prefix, "rewrite: {uri: /api/, authority: inner.example}"),
			Request: Request{URL: at + "/v1/a", Header: http.Header{"X-Envoy-Original-Path": {"/forged"}, "X-Envoy-Original-Host": {"forged"}}},
			Want:    Result{Path: "/api/a", Header: http.Header{"X-Envoy-Original-Path": {"/v1/a"}, "X-Envoy-Original-Host": {"reviews:9080"}}}},
		Case{Name: "over HTTP/2", Cite: host, Config: serviceEntry("default/reviews", "hosts: [reviews.default.svc.cluster.local]\nlocation: MESH_INTERNAL\nresolution: STATIC\nports:\n- {number: 9080, name: http2, protocol: HTTP2}\nendpoints:\n- {address: 10.0.0.1}") +
			rules("- {name: r, match: "+v1Prefix+", route: [{destination: {host: reviews}}], rewrite: {uri: /api/, authority: inner.example}}"),
			Request: get(at + "/v1/a%2Fb"), Want: Result{Proto: "HTTP/2.0", Host: "inner.example", Path: "/api/a%2Fb", Header: http.Header{"X-Envoy-Original-Path": {"/v1/a%2Fb"}, "X-Envoy-Original-Host": {"reviews:9080"}}}})
}
