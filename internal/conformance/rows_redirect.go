package conformance

import (
	"net/http"
	"strconv"
)

// direct is what Envoy's response code details say of redirects and direct responses.
const direct = "direct_response"

// lone is reviews with one endpoint.
func lone() string { return static("default/reviews", "9080", "10.0.0.1") }

// ruled is lone with the rule "r", which sends everything there and does what more says.
func ruled(more string) string { return matched("", more) }

// matched is ruled for what a match list takes; the rest has no rule.
func matched(match, more string) string {
	if match != "" {
		match = ", match: " + match
	}
	return lone() + rules("- {name: r"+match+", route: [{destination: {host: reviews}}], "+more+"}")
}

// answering is lone with the rule "r", which answers what the match list takes, and the rule "rest".
func answering(match, what string) string {
	if match == "" {
		return lone() + rules("- {name: r, "+what+"}")
	}
	return lone() + rules("- {name: r, match: "+match+", "+what+"}\n- {name: rest, route: [{destination: {host: reviews}}]}")
}

// redirectRows: HTTPRoute.redirect.
func redirectRows() []Case {
	const (
		cite    = "§2.2 Redirect"
		query   = cite + "; Envoy RedirectAction.path_redirect (the query stays unless the new path has one)"
		matches = cite + " prefixRewrite (replace matched prefix); Envoy prefix_rewrite"
		host    = cite + " authority; Envoy newUri (a new host stands alone, the request's keeps its port)"
		port    = cite + " port xor derivePort"
		dropped = cite + " (:80/:443 dropped when implied)"
		istiod  = "istiod then leaves the port out of Envoy's configuration, and Envoy keeps the request's"
		at      = "http://reviews:9080"
	)
	moved := func(code int, to string) Result {
		return Result{Route: "r", Status: code, Details: direct, Answer: http.Header{"Location": {to}}}
	}
	at80 := static("default/reviews", "80", "10.0.0.1")
	https := rules("- {name: r, redirect: {scheme: https}}")
	rows := []Case{
		{Name: "uri", Cite: cite + " (default 301)", Config: answering("", "redirect: {uri: /new}"), Request: get(at + "/old"), Want: moved(301, at+"/new")},
		{Name: "uri keeps the query", Cite: query, Config: answering("", "redirect: {uri: /new}"), Request: get(at + "/old?a=b&c"), Want: moved(301, at+"/new?a=b&c")},
		{Name: "uri with a query of its own", Cite: query, Config: answering("", `redirect: {uri: "/new?x=1"}`), Request: get(at + "/old?a=b"), Want: moved(301, at+"/new?x=1")},
		{Name: "uri with a fragment", Cite: cite + "; RFC 3986 §3 (the fragment is last)", Deviation: "Envoy writes the request's query behind the fragment",
			Config: answering("", `redirect: {uri: "/app#top"}`), Request: get(at + "/old?a=b"), Want: moved(301, at+"/app?a=b#top")},
		{Name: "uri with a space", Cite: cite + "; RFC 3986 §2.1", Config: answering("", `redirect: {uri: "/a b"}`), Request: get(at + "/old"), Want: moved(301, at+"/a%20b")},
		{Name: "prefix", Cite: matches, Config: answering("[{uri: {prefix: /old}}]", "redirect: {prefixRewrite: /new}"), Request: get(at + "/old/a?b=c"), Want: moved(301, at+"/new/a?b=c")},
		{Name: "prefix is text", Cite: matches, Config: answering("[{uri: {prefix: /old}}]", "redirect: {prefixRewrite: /new}"), Request: get(at + "/older"), Want: moved(301, at+"/newer")},
		{Name: "prefix of an exact match", Cite: matches, Config: answering("[{uri: {exact: /old/a}}]", "redirect: {prefixRewrite: /new}"), Request: get(at + "/old/a"), Want: moved(301, at+"/new")},
		{Name: "prefix of an expression", Cite: matches, Config: answering(`[{uri: {regex: "/old/.*"}}]`, "redirect: {prefixRewrite: /new}"), Request: get(at + "/old/a"), Want: moved(301, at+"/new")},
		{Name: "prefix without match", Cite: matches, Config: answering("", "redirect: {prefixRewrite: /new/}"), Request: get(at + "/a"), Want: moved(301, at+"/new/a")},
		{Name: "prefix by the match that took", Cite: matches, Config: answering("[{uri: {prefix: /old}}, {uri: {prefix: /former}}]", "redirect: {prefixRewrite: /new}"),
			Request: get(at + "/former/a"), Want: moved(301, at+"/new/a")},
		{Name: "prefix before an encoded slash", Cite: matches, Config: answering("[{uri: {prefix: /old}}]", "redirect: {prefixRewrite: /new}"), Request: get(at + "/old%2Fa"), Want: moved(301, at+"/new%2Fa")},
		{Name: "authority", Cite: host, Config: answering("", "redirect: {authority: new.example}"), Request: get(at + "/old?a=b"), Want: moved(301, "http://new.example/old?a=b")},
		{Name: "authority with a port", Cite: host, Config: answering("", `redirect: {authority: "new.example:8443"}`), Request: get(at + "/old"), Want: moved(301, "http://new.example:8443/old")},
		{Name: "authority and uri", Cite: host, Config: answering("", "redirect: {authority: new.example, uri: /new}"), Request: get(at + "/old"), Want: moved(301, "http://new.example/new")},
		{Name: "scheme keeps the request's port", Cite: host, Config: answering("", "redirect: {scheme: https}"), Request: get(at + "/old"), Want: moved(301, "https://reviews:9080/old")},
		{Name: "scheme, no port written", Cite: host, Config: at80 + https, Request: get("http://reviews/old"), Want: moved(301, "https://reviews/old")},
		{Name: "scheme drops the old one's port", Cite: host + "; processRequestHost", Config: at80 + https, Request: get("http://reviews:80/old"), Want: moved(301, "https://reviews/old")},
		{Name: "port", Cite: port, Config: answering("", "redirect: {port: 8443}"), Request: get(at + "/old"), Want: moved(301, "http://reviews:8443/old")},
		{Name: "port and authority", Cite: port, Config: answering("", "redirect: {port: 8443, authority: new.example}"), Request: get(at + "/old"), Want: moved(301, "http://new.example:8443/old")},
		{Name: "port 443 of https", Cite: dropped, Deviation: istiod, Config: answering("", "redirect: {port: 443, scheme: https}"), Request: get(at + "/old"), Want: moved(301, "https://reviews/old")},
		{Name: "port 80 of http", Cite: dropped, Deviation: istiod, Config: answering("", "redirect: {port: 80}"), Request: get(at + "/old"), Want: moved(301, "http://reviews/old")},
		{Name: "port 443 of http", Cite: dropped, Config: answering("", "redirect: {port: 443}"), Request: get(at + "/old"), Want: moved(301, "http://reviews:443/old")},
		{Name: "port of the request", Cite: port + " FROM_REQUEST_PORT", Config: answering("", "redirect: {authority: new.example, derivePort: FROM_REQUEST_PORT}"), Request: get(at + "/old"), Want: moved(301, "http://new.example:9080/old")},
		{Name: "port of the protocol", Cite: port + " FROM_PROTOCOL_DEFAULT", Config: answering("", "redirect: {authority: new.example, derivePort: FROM_PROTOCOL_DEFAULT}"), Request: get(at + "/old"), Want: moved(301, "http://new.example/old")},
		{Name: "nothing is sent", Cite: cite + " (answered locally)", Config: answering("", "redirect: {uri: /new, redirectCode: 307}, retries: {attempts: 2, retryOn: 5xx}"),
			Request: Request{Method: "POST", URL: at + "/old", Body: "some"}, Repeat: 3, Want: moved(307, at+"/new")},
		{Name: "HEAD", Cite: cite, Config: answering("", "redirect: {uri: /new}"), Request: Request{Method: "HEAD", URL: at + "/old"}, Want: moved(301, at+"/new")},
		{Name: "other paths go on", Cite: cite, Config: answering("[{uri: {exact: /old}}]", "redirect: {uri: /new}"), Request: get(at + "/other"), Want: Result{Route: "rest", Endpoint: v1}},
		{Name: "its header is edited", Cite: cite + "; §2.2 Headers (Envoy finalizeResponseHeaders of a direct response)",
			Config:  answering("", "redirect: {uri: /new}, headers: {response: {set: {x-why: moved}, add: {x-code: '%RESPONSE_CODE%'}}}"),
			Request: get(at + "/old"), Want: Result{Status: 301, Details: direct, Answer: http.Header{"Location": {at + "/new"}, "X-Why": {"moved"}, "X-Code": {"301"}}}},
		{Name: "another host's path stays a path", Cite: cite + "; RFC 3986 §3.3 (the host stands before it)", Config: answering("", "redirect: {scheme: https}"), Request: get(at + "//evil.example/x"), Want: moved(301, "https://reviews:9080//evil.example/x")},
		{Name: "to an RPC", Cite: cite + "; §3.6; grpc http-grpc-status-mapping (301 is UNKNOWN)", Config: answering("", "redirect: {uri: /new}"),
			Request: Request{Method: "POST", URL: at + "/s.S/M", Header: http.Header{"Content-Type": {"application/grpc"}}},
			Want:    Result{Details: direct, GRPC: 2, Answer: http.Header{"Location": {at + "/new"}, "Grpc-Status": {"2"}}}},
	}
	for _, code := range []int{301, 302, 303, 307, 308} {
		rows = append(rows, Case{Name: "code " + strconv.Itoa(code), Cite: cite + " redirectCode", Config: answering("", "redirect: {uri: /new, redirectCode: "+strconv.Itoa(code)+"}"),
			Request: get(at + "/old"), Want: moved(code, at+"/new")})
	}
	return rows
}
