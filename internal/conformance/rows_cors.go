package conformance

import (
	"net/http"
	"time"
)

// corsRows: HTTPRoute.corsPolicy.
func corsRows() []Case {
	const (
		cite      = "§2.2 CORS"
		filter    = cite + "; Envoy CorsFilter::decodeHeaders"
		marks     = cite + "; Envoy CorsFilter::encodeHeaders"
		vary      = cite + "; Fetch standard, CORS protocol and HTTP caches (the answer differs by origin)"
		noVary    = "Envoy leaves caches to themselves"
		order     = "§2.12 (fault, then CORS)"
		ours      = cite + "; docs/calls.md \"What a rule does\""
		unrouted  = "Envoy's filter leaves rules alone that answer by themselves (routeEntry() is null)"
		shopping  = "https://shop.example"
		preflight = "cors_response"
	)
	policy := func(more string) string { return "corsPolicy: {" + more + "}" }
	full := policy(`allowOrigins: [{exact: "https://shop.example"}], allowMethods: [GET, POST], allowHeaders: [x-a, x-b], exposeHeaders: [x-c, x-d], maxAge: 10m, allowCredentials: true`)
	bare := policy(`allowOrigins: [{exact: "https://shop.example"}]`)
	ask := func(method, origin, wants string) Request {
		h := http.Header{}
		if origin != "" {
			h.Set("Origin", origin)
		}
		if wants != "" {
			h.Set("Access-Control-Request-Method", wants)
		}
		return Request{Method: method, URL: reviewsURL, Header: h}
	}
	asks := func(origin string) Request { return ask("OPTIONS", origin, "PURGE") }
	h := func(origin string, more ...string) http.Header {
		out := http.Header{"Access-Control-Allow-Origin": nil}
		if origin != "" {
			out.Set("Access-Control-Allow-Origin", origin)
		}
		for i := 0; i < len(more); i += 2 {
			name := more[i]
			if name != "Vary" {
				name = "Access-Control-" + name
			}
			if out[name] = nil; more[i+1] != "" {
				out.Set(name, more[i+1])
			}
		}
		return out
	}
	answered := func(header http.Header) Result {
		return Result{Route: "r", Details: preflight, Answer: header}
	}
	passed := func(header http.Header) Result { return Result{Route: "r", Endpoint: v1, Answer: header} }
	origins := func(list string) string { return ruled(policy("allowOrigins: [" + list + "]")) }
	none := h("", "Allow-Credentials", "", "Allow-Methods", "", "Allow-Headers", "", "Max-Age", "", "Expose-Headers", "", "Vary", "")
	theirs := func(name string, values ...string) Upstream {
		return Upstream{Script: []Behaviour{{Header: http.Header{name: values}}}}
	}
	meets := func(b Behaviour) Upstream { return Upstream{Script: []Behaviour{b}} }

	rows := []Case{
		{Name: "preflight", Cite: filter, Config: ruled(full), Request: asks(shopping),
			Want: answered(h(shopping, "Allow-Methods", "GET,POST", "Allow-Headers", "x-a,x-b", "Max-Age", "600", "Allow-Credentials", "true"))},
		{Name: "preflight of a policy with nothing but origins", Cite: filter, Config: ruled(bare), Request: asks(shopping),
			Want: answered(h(shopping, "Allow-Methods", "", "Allow-Headers", "", "Max-Age", "", "Allow-Credentials", ""))},
		{Name: "preflight of another origin", Cite: cite + " (unmatchedPreflights UNSPECIFIED=FORWARD)", Config: ruled(full), Request: asks("https://evil.example"), Want: passed(none)},
		{Name: "preflight of another origin, FORWARD", Cite: cite + " unmatchedPreflights", Config: ruled(policy(`allowOrigins: [{exact: "https://shop.example"}], unmatchedPreflights: FORWARD`)), Request: asks("https://evil.example"), Want: passed(none)},
		{Name: "preflight of another origin, IGNORE", Cite: cite + " unmatchedPreflights", Config: ruled(policy(`allowOrigins: [{exact: "https://shop.example"}], unmatchedPreflights: IGNORE`)), Request: asks("https://evil.example"), Want: answered(none)},
		{Name: "preflight of an allowed origin, IGNORE", Cite: cite + " unmatchedPreflights", Config: ruled(policy(`allowOrigins: [{exact: "https://shop.example"}], unmatchedPreflights: IGNORE`)), Request: asks(shopping), Want: answered(h(shopping))},
		{Name: "OPTIONS that asks for no method", Cite: filter, Config: ruled(full), Request: ask("OPTIONS", shopping, ""), Want: passed(h(shopping, "Allow-Methods", ""))},
		{Name: "OPTIONS that asks for no method, IGNORE", Cite: filter, Config: ruled(policy(`allowOrigins: [{exact: "https://shop.example"}], unmatchedPreflights: IGNORE`)), Request: ask("OPTIONS", "https://evil.example", ""), Want: passed(none)},
		{Name: "OPTIONS without origin", Cite: filter, Config: ruled(full), Request: ask("OPTIONS", "", "GET"), Want: passed(none)},
		{Name: "methods *", Cite: filter + " (echoes what is asked for)", Config: ruled(policy(`allowOrigins: [{exact: "https://shop.example"}], allowMethods: ["*"]`)), Request: asks(shopping), Want: answered(h(shopping, "Allow-Methods", "PURGE"))},
		{Name: "headers *", Cite: filter + " (echoes what is asked for)", Config: ruled(policy(`allowOrigins: [{exact: "https://shop.example"}], allowHeaders: ["*"]`)),
			Request: Request{Method: "OPTIONS", URL: reviewsURL, Header: http.Header{"Origin": {shopping}, "Access-Control-Request-Method": {"PUT"}, "Access-Control-Request-Headers": {"x-1, x-2"}}},
			Want:    answered(h(shopping, "Allow-Headers", "x-1, x-2"))},

		{Name: "allowed", Cite: marks, Config: ruled(full), Request: ask("", shopping, ""), Want: passed(h(shopping, "Expose-Headers", "x-c,x-d", "Allow-Credentials", "true", "Allow-Methods", "", "Max-Age", ""))},
		{Name: "allowed, nothing more said", Cite: marks, Config: ruled(bare), Request: ask("", shopping, ""), Want: passed(h(shopping, "Expose-Headers", "", "Allow-Credentials", ""))},
		{Name: "credentials false", Cite: cite + " allowCredentials", Config: ruled(policy(`allowOrigins: [{exact: "https://shop.example"}], allowCredentials: false`)), Request: ask("", shopping, ""), Want: passed(h(shopping, "Allow-Credentials", ""))},
		{Name: "another origin", Cite: marks, Config: ruled(full), Request: ask("", "https://evil.example", ""), Want: passed(none)},
		{Name: "no origin", Cite: marks, Config: ruled(full), Request: ask("", "", ""), Want: passed(none)},
		{Name: "an empty origin", Cite: filter, Config: ruled(policy(`allowOrigins: [{regex: ".*"}]`)), Request: Request{URL: reviewsURL, Header: http.Header{"Origin": {""}}}, Want: passed(none)},
		{Name: "another method by an RPC", Cite: marks, Config: ruled(full), Request: ask("POST", shopping, ""), Want: passed(h(shopping))},
		{Name: "any origin, echoed", Cite: cite + " (echoed, never *)", Config: origins(`{exact: "*"}`), Request: ask("", "https://any.example", ""), Want: passed(h("https://any.example"))},
		{Name: "any origin by a prefix", Cite: cite + "; Envoy isOriginAllowed (a matcher that takes * takes all)", Config: origins(`{prefix: "*"}`), Request: ask("", "https://any.example", ""), Want: passed(h("https://any.example"))},
		{Name: "null", Cite: cite, Config: origins(`{exact: "https://shop.example"}, {prefix: "https://"}`), Request: ask("", "null", ""), Want: passed(none)},
		{Name: "prefix", Cite: cite + " StringMatch", Config: origins(`{prefix: "https://shop."}`), Request: ask("", "https://shop.example.net", ""), Want: passed(h("https://shop.example.net"))},
		{Name: "expression", Cite: cite + " StringMatch", Config: origins(`{regex: "https://[a-z]+\\.example"}`), Request: ask("", shopping, ""), Want: passed(h(shopping))},
		{Name: "expression in full", Cite: cite + " StringMatch; §2.1 Regex everywhere", Config: origins(`{regex: "https://[a-z]+\\.example"}`), Request: ask("", "https://shop.example.evil.net", ""), Want: passed(none)},
		{Name: "the second of two", Cite: cite, Config: origins(`{exact: "https://a.example"}, {exact: "https://shop.example"}`), Request: ask("", shopping, ""), Want: passed(h(shopping))},
		{Name: "origins are case sensitive", Cite: cite + " StringMatch", Config: origins(`{exact: "https://shop.example"}`), Request: ask("", "https://Shop.example", ""), Want: passed(none)},
		{Name: "a port is part of an origin", Cite: cite + " StringMatch", Config: origins(`{exact: "https://shop.example"}`), Request: ask("", "https://shop.example:8443", ""), Want: passed(none)},
		{Name: "allowOrigin", Cite: cite + " (allowOrigin[] old exact list)", Config: ruled(policy(`allowOrigin: ["https://shop.example"]`)), Request: ask("", shopping, ""), Want: passed(h(shopping))},
		{Name: "allowOrigin is exact", Cite: cite + " (allowOrigin[] old exact list)", Config: ruled(policy(`allowOrigin: ["https://shop."]`)), Request: ask("", shopping, ""), Want: passed(none)},
		{Name: "allowOrigin *", Cite: cite + " (allowOrigin[] old exact list)", Config: ruled(policy(`allowOrigin: ["*"]`)), Request: ask("", shopping, ""), Want: passed(h(shopping))},

		{Name: "the service's own header is replaced", Cite: marks, Config: ruled(bare), Upstream: theirs("Access-Control-Allow-Origin", "*"), Request: ask("", shopping, ""), Want: passed(h(shopping))},
		{Name: "the service's own header stays", Cite: marks, Config: ruled(bare), Upstream: theirs("Access-Control-Allow-Origin", "*"), Request: ask("", "https://evil.example", ""), Want: passed(h("*"))},
		{Name: "the rule's own header is replaced", Cite: marks + " (after the router's response operations)", Config: ruled(bare + `, headers: {response: {set: {access-control-allow-origin: "*"}}}`), Request: ask("", shopping, ""), Want: passed(h(shopping))},
		{Name: "Vary", Cite: vary, Deviation: noVary, Config: ruled(bare), Request: ask("", shopping, ""), Want: passed(h(shopping, "Vary", "Origin"))},
		{Name: "Vary beside another", Cite: vary, Deviation: noVary, Config: ruled(bare), Upstream: theirs("Vary", "Accept"), Request: ask("", shopping, ""), Want: passed(http.Header{"Vary": {"Accept", "Origin"}})},
		{Name: "Vary that is there", Cite: vary, Deviation: noVary, Config: ruled(bare), Upstream: theirs("Vary", "Accept, origin"), Request: ask("", shopping, ""), Want: passed(http.Header{"Vary": {"Accept, origin"}})},
		{Name: "Vary *", Cite: vary, Deviation: noVary, Config: ruled(bare), Upstream: theirs("Vary", "*"), Request: ask("", shopping, ""), Want: passed(http.Header{"Vary": {"*"}})},
		{Name: "a failure of the service", Cite: marks, Config: ruled(bare), Upstream: meets(status(503)), Request: ask("GET", shopping, ""), Want: Result{Status: 503, Endpoint: v1, Answer: h(shopping)}},
		{Name: "no answer of the service", Cite: marks + " (local replies pass it)", Config: ruled(bare), Upstream: Upstream{Down: []string{v1}}, Request: ask("GET", shopping, ""), Except: anError,
			Want: Result{Status: 503, Flag: "UF", Attempts: 3, Answer: h(shopping)}},
		{Name: "no answer of the service, to another origin", Cite: marks, Config: ruled(bare), Upstream: Upstream{Down: []string{v1}}, Request: ask("GET", "https://evil.example", ""), Except: anError,
			Want: Result{Status: 503, Flag: "UF", Attempts: 3, Answer: none}},
		{Name: "no answer of the service in time", Cite: marks, Config: ruled(bare + ", timeout: 1s"), Upstream: meets(Behaviour{After: time.Hour}), Request: ask("GET", shopping, ""), Fake: true, Except: anError,
			Want: Result{Status: 504, Flag: "UT", Attempts: 1, Answer: h(shopping)}},
		{Name: "no answer over HTTP/2", Cite: marks, Config: ruled(bare) + destinationRule("default/reviews", "host: reviews\ntrafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}"), Upstream: Upstream{Down: []string{v1}},
			Request: ask("GET", shopping, ""), Except: anError, Want: Result{Status: 503, Flag: "UF", Attempts: 3, Answer: h(shopping)}},
		{Name: "no such subset", Cite: marks + "; §3.6 NC", Config: lone() + rules("- {name: r, route: [{destination: {host: reviews, subset: v9}}], "+bare+"}"), Request: ask("GET", shopping, ""), Except: anError,
			Want: Result{Status: 503, Flag: "NC", Answer: h(shopping)}},
		{Name: "no answer to an RPC", Cite: marks, Config: ruled(bare), Upstream: Upstream{Down: []string{v1}}, Except: anError,
			Request: Request{Method: "POST", URL: reviewsURL + "s.S/M", Header: http.Header{"Origin": {shopping}, "Content-Type": {"application/grpc"}}}, Want: Result{Status: 503, Flag: "UF", Attempts: 3, Answer: h(shopping)}},
		{Name: "an abort", Cite: order, Config: ruled(bare + ", fault: {abort: {httpStatus: 503, percentage: {value: 100}}}"), Request: ask("", shopping, ""), Want: Result{Status: 503, Flags: "FI", Details: "fault_filter_abort", Answer: none}},
		{Name: "an abort of a preflight", Cite: order, Config: ruled(bare + ", fault: {abort: {httpStatus: 503, percentage: {value: 100}}}"), Request: asks(shopping), Want: Result{Status: 503, Flags: "FI", Details: "fault_filter_abort", Answer: none}},
		{Name: "a delay of a preflight", Cite: order, Config: ruled(bare + ", fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}}"), Request: asks(shopping), Fake: true,
			Want: Result{Flags: "DI", Details: preflight, Took: 2 * time.Second, Answer: h(shopping)}},
		{Name: "a direct response", Cite: ours, Deviation: unrouted, Config: answering("", bare+", directResponse: {status: 418}"), Request: ask("", shopping, ""), Want: Result{Status: 418, Details: direct, Answer: h(shopping)}},
		{Name: "a preflight of a direct response", Cite: ours, Deviation: unrouted, Config: answering("", bare+", directResponse: {status: 418}"), Request: asks(shopping), Want: answered(h(shopping))},
		{Name: "a redirect", Cite: ours, Deviation: unrouted, Config: answering("", bare+", redirect: {uri: /new}"), Request: ask("", shopping, ""), Want: Result{Status: 301, Details: direct, Answer: h(shopping)}},
		{Name: "a redirect to another origin", Cite: ours, Deviation: unrouted, Config: answering("", bare+", redirect: {uri: /new}"), Request: ask("", "https://evil.example", ""), Want: Result{Status: 301, Details: direct, Answer: none}},
		{Name: "another rule's policy", Cite: cite, Config: lone() + rules("- {name: o, match: [{uri: {prefix: /open}}], route: [{destination: {host: reviews}}], "+bare+"}\n- {name: r, route: [{destination: {host: reviews}}]}"),
			Request: ask("", shopping, ""), Want: passed(none)},
	}
	return rows
}

// anError is what programs get in place of an answer of our own.
var anError = map[string]string{HTTP{}.Name(): "a program gets an error, without a header", grpcDriver: "a program gets an error, without a header"}
