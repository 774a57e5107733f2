package conformance

import "net/http"

// headerOpsRows: HTTPRoute.headers and HTTPRouteDestination.headers.
func headerOpsRows() []Case {
	const (
		cite    = "§2.2 Headers"
		order   = cite + "; Envoy HeaderParser::evaluateHeaders (removals, all values, sets, adds)"
		joined  = cite + "; pilot route.go processDestination (a lone destination's are joined to the rule's)"
		several = cite + "; Envoy WeightedClusterEntry (the destination's, then the rule's)"
		host    = cite + " (host acts as authority rewrite); §3.2 x-envoy-original-host"
		outer   = host + "; pilot route.go processDestination (the rule's counts)"
		value   = cite + " (%COMMAND% operators); Envoy substitution formatter"
		nothing = value + " (what comes to nothing is not written)"
		answer  = cite + " (response)"
		at      = "http://reviews:9080/a"
	)
	request := func(ops string) string { return ruled("headers: {request: {" + ops + "}}") }
	response := func(ops string) string { return ruled("headers: {response: {" + ops + "}}") }
	// one and two have the rule's operations and those of its only or its first destination, which gets all.
	one := func(rule, dest string) string {
		return lone() + rules("- {name: r, headers: {request: {"+rule+"}}, route: [{destination: {host: reviews}, headers: {request: {"+dest+"}}}]}")
	}
	two := func(rule, dest string) string {
		return shop("- name: r\n  headers: {request: {" + rule + "}}\n  route:\n  - {destination: {host: reviews, subset: v1}, weight: 100, headers: {request: {" + dest + "}}}\n" +
			"  - {destination: {host: reviews, subset: v2}, weight: 0, headers: {request: {set: {x-other: v2}}}}")
	}
	h := func(pairs ...string) http.Header {
		out := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			out.Add(pairs[i], pairs[i+1])
		}
		return out
	}
	rows := []struct {
		name, cite, config string
		header             http.Header // of the request
		want               http.Header // of what the endpoint sees
	}{
		{"set", cite, request("set: {x-a: b}"), nil, h("X-A", "b")},
		{"set overwrites", cite + " set (overwrite)", request("set: {x-a: b}"), h("X-A", "1", "X-A", "2"), h("X-A", "b")},
		{"set in another case", cite, request("set: {X-a: b}"), h("X-A", "1"), h("X-A", "b")},
		{"add", cite + " add (append)", request("add: {x-a: b}"), h("X-A", "1"), h("X-A", "1", "X-A", "b")},
		{"add what is missing", cite, request("add: {x-a: b}"), nil, h("X-A", "b")},
		{"remove", cite, request("remove: [x-a]"), h("X-A", "1", "X-A", "2", "X-B", "3"), http.Header{"X-A": nil, "X-B": {"3"}}},
		{"remove in another case", cite, request("remove: [X-SECRET]"), h("X-Secret", "s"), http.Header{"X-Secret": nil}},
		{"remove what is missing", cite, request("remove: [x-none]"), h("X-A", "1"), h("X-A", "1")},
		{"remove and add", order, request("remove: [x-a], add: {x-a: new}"), h("X-A", "old"), h("X-A", "new")},
		{"remove and set", order, request("remove: [x-a], set: {x-a: new}"), h("X-A", "old"), h("X-A", "new")},
		{"set and add", order, request("set: {x-a: set}, add: {x-a: added}"), h("X-A", "old"), h("X-A", "set", "X-A", "added")},
		{"the body's type", cite, request("set: {content-language: de}"), h("Content-Language", "en"), h("Content-Language", "de")},

		{"lone: both set", joined, one("set: {x-a: rule}", "set: {x-a: dest}"), nil, h("X-A", "dest")},
		{"lone: both add", joined, one("add: {x-a: rule}", "add: {x-a: dest}"), nil, h("X-A", "rule", "X-A", "dest")},
		{"lone: the rule adds, the destination sets", joined, one("add: {x-a: rule}", "set: {x-a: dest}"), nil, h("X-A", "dest", "X-A", "rule")},
		{"lone: the rule sets, the destination removes", joined, one("set: {x-a: rule}", "remove: [x-a]"), h("X-A", "old"), h("X-A", "rule")},
		{"lone: the rule removes, the destination adds", joined, one("remove: [x-a]", "add: {x-a: dest}"), h("X-A", "old"), h("X-A", "dest")},
		{"several: both set", several, two("set: {x-a: rule}", "set: {x-a: dest}"), nil, h("X-A", "rule")},
		{"several: both add", several, two("add: {x-a: rule}", "add: {x-a: dest}"), nil, h("X-A", "dest", "X-A", "rule")},
		{"several: the destination sets, the rule removes", several, two("remove: [x-a]", "set: {x-a: dest}"), nil, http.Header{"X-A": nil}},
		{"several: the destination removes, the rule sets", several, two("set: {x-a: rule}", "remove: [x-a]"), h("X-A", "old"), h("X-A", "rule")},
		{"several: the rule copies what the destination set", several, two(`set: {x-b: "%REQ(x-a)%"}`, "set: {x-a: dest}"), nil, h("X-A", "dest", "X-B", "dest")},
		{"several: the other's mean nothing", several, two("set: {x-a: rule}", "set: {x-b: dest}"), nil, http.Header{"X-A": {"rule"}, "X-B": {"dest"}, "X-Other": nil}},

		{"REQ", value, request(`set: {x-b: "%REQ(x-a)%"}`), h("X-A", "1"), h("X-B", "1")},
		{"REQ in another case", value, request(`set: {x-b: "%REQ(X-A)%"}`), h("X-A", "1"), h("X-B", "1")},
		{"REQ among text", value, request(`set: {x-b: "<%REQ(x-a)%>"}`), h("X-A", "1"), h("X-B", "<1>")},
		{"REQ of several values", value + " (the first)", request(`set: {x-b: "%REQ(x-a)%"}`), h("X-A", "1", "X-A", "2"), h("X-B", "1")},
		{"REQ that is missing", nothing, request(`set: {x-b: "%REQ(x-a)%"}`), h("X-B", "own"), h("X-B", "own")},
		{"REQ that is missing, added", nothing, request(`add: {x-b: "%REQ(x-a)%"}`), h("X-B", "own"), h("X-B", "own")},
		{"REQ that is empty", nothing, request(`set: {x-b: "%REQ(x-a)%"}`), h("X-A", "", "X-B", "own"), h("X-B", "own")},
		{"REQ or another", value, request(`set: {x-b: "%REQ(x-none?x-a)%"}`), h("X-A", "1"), h("X-B", "1")},
		{"REQ before the other", value, request(`set: {x-b: "%REQ(x-c?x-a)%"}`), h("X-A", "1", "X-C", "2"), h("X-B", "2")},
		{"REQ cut", value, request(`set: {x-b: "%REQ(x-a):3%"}`), h("X-A", "12345"), h("X-B", "123")},
		{"REQ of its own name", value, request(`set: {x-a: "%REQ(x-a)%-2"}`), h("X-A", "1"), h("X-A", "1-2")},
		{"REQ of what is removed", order, request(`remove: [x-a], set: {x-b: "%REQ(x-a)%"}`), h("X-A", "1"), http.Header{"X-A": nil, "X-B": nil}},
		{"REQ of what is set", order, request(`set: {x-a: new, x-b: "%REQ(x-a)%"}`), h("X-A", "old"), h("X-A", "new", "X-B", "old")},
		{"REQ of the path", value, request(`set: {x-b: "%REQ(:PATH)%"}`), nil, h("X-B", "/a")},
		{"REQ of the authority", value, request(`set: {x-b: "%REQ(:AUTHORITY)%"}`), nil, h("X-B", "reviews:9080")},
		{"REQ of the path before the rewrite", value, ruled(`rewrite: {uri: /x/, authority: inner.example}, headers: {request: {set: {x-b: "%REQ(:PATH)% %REQ(:AUTHORITY)%"}}}`), nil, h("X-B", "/a reviews:9080")},
		{"REQ of the scheme", value, request(`set: {x-b: "%REQ(:SCHEME)%"}`), nil, h("X-B", "http")},
		{"the rule's name", value, request(`set: {x-b: "%ROUTE_NAME%"}`), nil, h("X-B", "r")},
		{"the cluster's name", value, request(`set: {x-b: "%UPSTREAM_CLUSTER%"}`), nil, h("X-B", clusterAll)},
		{"percent signs", value, request(`set: {x-b: "100%%"}`), nil, h("X-B", "100%")},
		{"a command that is none", value, request(`set: {x-b: "%%REQ(x-a)%%"}`), h("X-A", "1"), h("X-B", "%REQ(x-a)%")},
		{"an empty value", nothing, request(`set: {x-b: ""}`), h("X-B", "own"), h("X-B", "own")},
	}
	var cases []Case
	for _, r := range rows {
		cases = append(cases, Case{Name: r.name, Cite: r.cite, Config: r.config, Request: Request{URL: at, Header: r.header}, Want: Result{Route: "r", Endpoint: v1, Header: r.want}})
	}
	hostIs := func(to string) Result {
		return Result{Endpoint: v1, Host: to, Header: http.Header{"X-Envoy-Original-Host": {"reviews:9080"}, "Host": nil, ":authority": nil}}
	}
	for _, r := range []struct{ name, cite, config, host string }{
		{"host is set", host, request("set: {host: other.example}"), "other.example"},
		{"Host is added", host, request("add: {Host: other.example}"), "other.example"},
		{":authority is set", host, request(`set: {":authority": "other.example:81"}`), "other.example:81"},
		{"host of a destination", host, one("set: {x-a: b}", "set: {host: dest.example}"), "dest.example"},
		{"host of a rule and its destination", outer, one("set: {host: rule.example}", "set: {host: dest.example}"), "rule.example"},
		{"host of a rule and one of its destinations", outer, two("set: {host: rule.example}", "set: {host: dest.example}"), "rule.example"},
		{"host of one of several destinations", outer, two("set: {x-a: b}", "set: {host: dest.example}"), "dest.example"},
		{"host of a destination and the rewrite's", outer, lone() + rules("- {name: r, rewrite: {authority: rewrite.example}, route: [{destination: {host: reviews}, headers: {request: {set: {host: dest.example}}}}]}"), "rewrite.example"},
	} {
		cases = append(cases, Case{Name: r.name, Cite: r.cite, Config: r.config, Request: get(at), Want: hostIs(r.host)})
	}

	const oneAgent = "grpc-go writes its own user-agent behind the program's"
	notGRPC := map[string]string{grpcDriver: oneAgent}
	agent := func(name, ops string, own http.Header, want []string) Case {
		return Case{Name: name, Cite: order, Config: request(ops), Request: Request{URL: at, Header: own}, Want: Result{Header: http.Header{"User-Agent": want}}, Except: notGRPC}
	}
	said := func(name string, script []Behaviour, ops string, want http.Header) Case {
		return Case{Name: name, Cite: answer, Config: response(ops), Upstream: Upstream{Script: script}, Request: Request{URL: at, Header: h("X-User", "jason")}, Want: Result{Endpoint: v1, Answer: want}}
	}
	from := []Behaviour{{Header: http.Header{"Server": {"nginx"}, "X-Inner": {"1", "2"}}}}
	return append(cases,
		agent("user-agent is removed", "remove: [user-agent]", h("User-Agent", "me/1"), nil),
		agent("user-agent that is missing is removed", "remove: [User-Agent]", nil, nil),
		agent("user-agent is set", "set: {user-agent: mesh/1}", h("User-Agent", "me/1"), []string{"mesh/1"}),
		agent("user-agent is removed and added", "remove: [user-agent], add: {user-agent: mesh/1}", h("User-Agent", "me/1"), []string{"mesh/1"}),
		agent("user-agent is added to", "add: {user-agent: mesh/1}", h("User-Agent", "me/1"), []string{"me/1,mesh/1"}),
		agent("user-agent is copied", `set: {x-agent: "%REQ(user-agent)%"}`, h("User-Agent", "me/1"), []string{"me/1"}),
		Case{Name: "REQ of the method", Cite: value, Config: request(`set: {x-b: "%REQ(:METHOD)%"}`), Request: Request{Method: "POST", URL: at}, Want: Result{Header: h("X-B", "POST")}},
		Case{Name: "REQ of the path with its query", Cite: value, Config: request(`set: {x-b: "%REQ(:PATH)%"}`), Request: get(at + "?b=c&d"), Want: Result{Header: h("X-B", "/a?b=c&d")}},
		Case{Name: "PROTOCOL", Cite: value, Config: request(`set: {x-b: "%PROTOCOL%"}`), Request: get(at), Want: Result{Header: h("X-B", "HTTP/1.1")}, Except: map[string]string{grpcDriver: "gRPC is HTTP/2"}},
		Case{Name: "PROTOCOL of an RPC", Cite: value, Config: request(`set: {x-b: "%PROTOCOL%"}`), Request: Request{Method: "POST", URL: at, Header: h("Content-Type", "application/grpc")},
			Want: Result{Header: h("X-B", "HTTP/2")}, Except: map[string]string{HTTP{}.Name(): "an http.Request says HTTP/1.1 where its program has not said otherwise", Proxy{}.Name(): "HTTP/1.1 goes to an HTTP proxy"}},
		Case{Name: "a byte beyond ASCII is copied", Cite: value + "; RFC 9110 §5.5 (obs-text)", Config: request(`set: {x-b: "%REQ(x-a)%"}`), Request: Request{URL: at, Header: h("X-A", "j\xe4son")},
			Want: Result{Header: h("X-B", "j\xe4son")}, Except: map[string]string{grpcDriver: "metadata is ASCII, but for -bin"}},
		Case{Name: "a line break is not copied", Cite: value + "; RFC 9110 §5.5", Config: request(`remove: [x-a], set: {x-b: "%REQ(x-c?x-a)%"}`), Request: Request{URL: at, Header: h("X-C", "1\r\nX-Evil: 2")},
			Want: Result{Status: 400, Flag: "DPE", Attempts: anyAttempts}, Except: map[string]string{grpcDriver: "grpc-go refuses such metadata", Proxy{}.Name(): noBreak, Proxy{ByHost: true}.Name(): noBreak}},

		said("response: set", from, "set: {x-inner: mesh, x-new: n}", h("X-Inner", "mesh", "X-New", "n")),
		said("response: add", from, "add: {x-inner: mesh}", h("X-Inner", "1", "X-Inner", "2", "X-Inner", "mesh")),
		said("response: remove", from, "remove: [X-Inner, server]", http.Header{"X-Inner": nil, "Server": nil}),
		said("response: RESP", from, `set: {x-server: "%RESP(server)%", x-first: "%RESP(x-inner)%"}`, h("X-Server", "nginx", "X-First", "1")),
		said("response: RESP of what is removed", from, `remove: [server], set: {x-server: "%RESP(server)%"}`, http.Header{"Server": nil, "X-Server": nil}),
		said("response: RESP or another", from, `set: {x-server: "%RESP(x-none?server)%"}`, h("X-Server", "nginx")),
		said("response: of the request", from, `set: {x-who: "%REQ(x-user)% %REQ(:AUTHORITY)%"}`, h("X-Who", "jason reviews:9080")),
		said("response: the endpoint", from, `set: {x-from: "%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %ROUTE_NAME%"}`, h("X-From", v1+" "+clusterAll+" r")),
		said("response: status and flags", from, `set: {x-status: "%RESPONSE_CODE%%RESPONSE_FLAGS%"}`, h("X-Status", "200-")),
		said("response: nothing said", from, "set: {x-new: n}", h("Server", "nginx", "X-Inner", "1", "X-Inner", "2")),
		Case{Name: "response: of a failure", Cite: answer, Config: response(`set: {x-status: "%RESPONSE_CODE%"}, remove: [x-inner]`), Upstream: Upstream{Script: []Behaviour{{Status: 503, Header: h("X-Inner", "1")}}},
			Request: get(at), Want: Result{Status: 503, Endpoint: v1, Answer: http.Header{"X-Status": {"503"}, "X-Inner": nil}}},
		Case{Name: "response: lone destination", Cite: joined, Config: lone() + rules("- {name: r, headers: {response: {set: {x-a: rule}, remove: [x-b]}}, route: [{destination: {host: reviews}, headers: {response: {set: {x-a: dest, x-b: dest}}}}]}"),
			Request: get(at), Want: Result{Answer: h("X-A", "dest", "X-B", "dest")}},
		Case{Name: "response: several destinations", Cite: several, Config: shop("- name: r\n  headers: {response: {set: {x-a: rule}, remove: [x-b]}}\n  route:\n" +
			"  - {destination: {host: reviews, subset: v1}, weight: 1, headers: {response: {set: {x-a: dest, x-b: dest}}}}\n  - {destination: {host: reviews, subset: v2}, weight: 0}"),
			Request: get(at), Want: Result{Endpoint: v1, Answer: http.Header{"X-A": {"rule"}, "X-B": nil}}},
	)
}

const noBreak = "no client can send it"
