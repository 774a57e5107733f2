package conformance

import (
	"fmt"
	"strings"
)

// orderRows: list order, alternatives, conjunctions, and what happens where nothing matches.
func orderRows() []Case {
	const (
		list = "§2.2 HTTPRoute match (first match in list order wins); §6.5"
		ors  = "§2.2 HTTPRoute match (entries ORed)"
		ands = "§2.2 HTTPRoute match (fields ANDed)"
		none = "§2.2 No rule matches → 404 NR"
	)
	// rule sends to v1, v2, v3 in turn, so that the endpoint tells the rule.
	numbered := func(matches ...string) string {
		var b strings.Builder
		for i, m := range matches {
			fmt.Fprintf(&b, "- name: r%d\n  route: [{destination: {host: reviews, subset: v%d}}]\n", i+1, i%3+1)
			if m != "" {
				b.WriteString("  match: " + m + "\n")
			}
		}
		return shop(b.String())
	}
	first := Result{Route: "r1", Cluster: clusterV1, Endpoint: v1}
	second := Result{Route: "r2", Cluster: clusterV2, Endpoint: v2}
	third := Result{Route: "r3", Cluster: clusterV3, Endpoint: v3}

	both := "[{uri: {prefix: /a}, method: {exact: POST}, headers: {x: {exact: y}}}]"
	x := map[string][]string{"X": {"y"}}
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("[{uri: {exact: /p%d}}]", i))
	}
	return []Case{
		{Name: "earlier prefix before later exact", Cite: list, Config: numbered("[{uri: {prefix: /a}}]", "[{uri: {exact: /a/b}}]"),
			Request: get("http://reviews:9080/a/b"), Want: first},
		{Name: "earlier short prefix before later long one", Cite: list, Config: numbered("[{uri: {prefix: /api}}]", "[{uri: {prefix: /api/v2}}]"),
			Request: get("http://reviews:9080/api/v2/x"), Want: first},
		{Name: "earlier exact before later prefix", Cite: list, Config: numbered("[{uri: {exact: /a/b}}]", "[{uri: {prefix: /a}}]"),
			Request: get("http://reviews:9080/a/b"), Want: first},
		{Name: "earlier regex before later exact", Cite: list, Config: numbered(`[{uri: {regex: "/a.*"}}]`, "[{uri: {exact: /a/b}}]"),
			Request: get("http://reviews:9080/a/b"), Want: first},
		{Name: "earlier header before later path", Cite: list, Config: numbered(`[{headers: {x: {exact: y}}}]`, "[{uri: {exact: /a/b}}]"),
			Request: Request{URL: "http://reviews:9080/a/b", Header: x}, Want: first},
		{Name: "catch-all shadows what follows", Cite: list, Config: numbered("", "[{uri: {exact: /a}}]"),
			Request: get("http://reviews:9080/a"), Want: first},
		{Name: "rules that fail are passed over", Cite: list, Config: numbered("[{uri: {exact: /b}}]", `[{uri: {regex: "/c"}}]`, "[{uri: {prefix: /a}}]"),
			Request: get("http://reviews:9080/a"), Want: third},
		{Name: "catch-all takes the rest", Cite: list, Config: numbered("[{uri: {exact: /b}}]", ""),
			Request: get("http://reviews:9080/a"), Want: second},
		{Name: "long list, late rule", Cite: list, Config: numbered(many...),
			Request: get("http://reviews:9080/p58"), Want: Result{Route: "r59", Endpoint: v2}},
		{Name: "second entry of a list", Cite: ors, Config: numbered("[{uri: {exact: /b}}, {headers: {x: {exact: y}}}]", ""),
			Request: Request{URL: "http://reviews:9080/a", Header: x}, Want: first},
		{Name: "no entry of a list", Cite: ors, Config: numbered("[{uri: {exact: /b}}, {headers: {x: {exact: y}}}]", ""),
			Request: get("http://reviews:9080/a"), Want: second},
		{Name: "all fields of an entry hold", Cite: ands, Config: numbered(both, ""),
			Request: Request{Method: "POST", URL: "http://reviews:9080/a", Header: x}, Want: first},
		{Name: "uri fails", Cite: ands, Config: numbered(both, ""),
			Request: Request{Method: "POST", URL: "http://reviews:9080/b", Header: x}, Want: second},
		{Name: "method fails", Cite: ands, Config: numbered(both, ""),
			Request: Request{Method: "PUT", URL: "http://reviews:9080/a", Header: x}, Want: second},
		{Name: "header fails", Cite: ands, Config: numbered(both, ""),
			Request: Request{Method: "POST", URL: "http://reviews:9080/a"}, Want: second},
		{Name: "fields of two entries do not add up", Cite: ors + "; " + ands,
			Config:  numbered("[{uri: {exact: /a}, method: {exact: POST}}, {uri: {exact: /b}, method: {exact: GET}}]", ""),
			Request: Request{Method: "GET", URL: "http://reviews:9080/a"}, Want: second},
		{Name: "match name follows the rule's", Cite: "§2.2 HTTPMatchRequest name (route.matchName)",
			Config:  numbered("[{name: one, uri: {exact: /a}}, {name: two, uri: {exact: /b}}]", ""),
			Request: get("http://reviews:9080/b"), Want: Result{Route: "r1.two", Endpoint: v1}},
		{Name: "no rule matches", Cite: none, Config: numbered("[{uri: {prefix: /a}}]", "[{uri: {prefix: /b}}]"),
			Request: get("http://reviews:9080/c"), Want: Result{Status: 404, Flag: "NR"}},
		{Name: "no rule matches on another name of the host", Cite: none, Config: numbered("[{uri: {prefix: /a}}]"),
			Request: get("http://reviews.default.svc:9080/c"), Want: Result{Status: 404, Flag: "NR"}},
		{Name: "a service without rules takes all", Cite: "§2.2 (no VirtualService: the default route)", Config: reviews(),
			Request: get("http://reviews:9080/c"), Want: Result{Route: "default", Cluster: clusterAll}},
	}
}
