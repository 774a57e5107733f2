package conformance

// matchRow is a row about one entry of a match list.
type matchRow struct {
	name, match string
	request     Request
	hit         bool
}

func matchRows(cite string, rows []matchRow) []Case {
	cases := make([]Case, len(rows))
	for i, r := range rows {
		if r.request.URL == "" {
			r.request.URL = reviewsURL
		}
		cases[i] = Case{Name: r.name, Cite: cite, Config: when("[" + r.match + "]"), Request: r.request, Want: took(r.hit)}
	}
	return cases
}

func methodRows() []Case {
	rows := matchRows("§2.2 HTTPMatchRequest method", []matchRow{
		{"exact", `{method: {exact: POST}}`, Request{Method: "POST"}, true},
		{"exact, other", `{method: {exact: POST}}`, Request{Method: "GET"}, false},
		{"prefix", `{method: {prefix: P}}`, Request{Method: "PATCH"}, true},
		{"regex", `{method: {regex: "GET|HEAD"}}`, Request{Method: "HEAD"}, true},
		{"regex matches in full", `{method: {regex: "P|GE"}}`, Request{Method: "GET"}, false},
		{"case sensitive", `{method: {exact: post}}`, Request{Method: "POST"}, false},
	})
	return append(rows, Case{Name: "no method is GET", Cite: "§2.2 HTTPMatchRequest method; net/http Request.Method",
		Config: when("[{method: {exact: GET}}]"), Request: get(reviewsURL), Want: took(true),
		Except: map[string]string{"grpc": "no method is POST"}})
}

func schemeRows() []Case {
	return matchRows("§2.2 HTTPMatchRequest scheme", []matchRow{
		{"exact", `{scheme: {exact: http}}`, Request{}, true},
		{"exact, other", `{scheme: {exact: https}}`, Request{}, false},
		{"prefix", `{scheme: {prefix: ht}}`, Request{}, true},
		{"case sensitive", `{scheme: {exact: HTTP}}`, Request{}, false},
	})
}

func authorityRows() []Case {
	return matchRows("§2.2 HTTPMatchRequest authority", []matchRow{
		{"exact, with the port as sent", `{authority: {exact: "reviews:9080"}}`, Request{}, true},
		{"exact without the port that was sent", `{authority: {exact: reviews}}`, Request{}, false},
		{"prefix", `{authority: {prefix: reviews}}`, Request{}, true},
		{"regex", `{authority: {regex: "reviews(:[0-9]+)?"}}`, Request{}, true},
		{"the name as the caller wrote it", `{authority: {exact: "reviews:9080"}}`, Request{URL: "http://reviews.default:9080/"}, false},
		{"another name of the host", `{authority: {exact: "reviews.default:9080"}}`, Request{URL: "http://reviews.default:9080/"}, true},
		{"case sensitive", `{authority: {exact: "reviews:9080"}}`, Request{URL: "http://REVIEWS:9080/"}, false},
		{"the Host header", `{authority: {exact: reviews}}`, Request{URL: reviewsURL, Host: "reviews"}, true},
	})
}

func queryRows() []Case {
	at := func(query string) Request { return get(reviewsURL + "x?" + query) }
	rows := matchRows("§2.2 HTTPMatchRequest queryParams", []matchRow{
		{"exact", `{queryParams: {v: {exact: "2"}}}`, at("v=2"), true},
		{"exact, other value", `{queryParams: {v: {exact: "2"}}}`, at("v=22"), false},
		{"exact, missing", `{queryParams: {v: {exact: "2"}}}`, at("w=2"), false},
		{"no query at all", `{queryParams: {v: {exact: "2"}}}`, get(reviewsURL), false},
		{"among others", `{queryParams: {v: {exact: "2"}}}`, at("a=1&v=2&b=3"), true},
		{"name is no suffix", `{queryParams: {v: {exact: "2"}}}`, at("xv=2"), false},
		{"names are case sensitive", `{queryParams: {v: {exact: "2"}}}`, at("V=2"), false},
		{"prefix", `{queryParams: {v: {prefix: "2"}}}`, at("v=22"), true},
		{"regex", `{queryParams: {v: {regex: "[0-9]+"}}}`, at("v=123"), true},
		{"regex matches in full", `{queryParams: {v: {regex: "[0-9]"}}}`, at("v=12"), false},
		{"presence", `{queryParams: {v: {}}}`, at("v=any"), true},
		{"presence without a value", `{queryParams: {v: {}}}`, at("v"), true},
		{"presence, missing", `{queryParams: {v: {}}}`, at("w"), false},
		{"two hold", `{queryParams: {v: {exact: "2"}, w: {exact: "3"}}}`, at("w=3&v=2"), true},
		{"one of two fails", `{queryParams: {v: {exact: "2"}, w: {exact: "3"}}}`, at("v=2&w=4"), false},
		{"first of a repeated parameter", `{queryParams: {v: {exact: "2"}}}`, at("v=2&v=3"), true},
		{"not the second of a repeated parameter", `{queryParams: {v: {exact: "3"}}}`, at("v=2&v=3"), false},
	})
	return append(rows, Case{Name: "not percent-decoded", Cite: "Envoy config_impl.cc: QueryParameterMatcher over parseQueryString, which does not decode",
		Config: when(`[{queryParams: {v: {exact: "a b"}}}]`), Request: at("v=a%20b"), Want: took(false)})
}

// portRows: HTTPMatchRequest.port, on a host with two ports.
func portRows() []Case {
	const cite = "§2.2 HTTPMatchRequest port"
	config := func(match string) string {
		return serviceEntry("default/reviews", `
hosts: [reviews.default.svc.cluster.local]
location: MESH_INTERNAL
resolution: STATIC
ports:
- {number: 9080, name: http, protocol: HTTP}
- {number: 8080, name: http-alt, protocol: HTTP}
endpoints: [{address: 10.0.0.1}]`) + ratings() + rules(`
- name: hit
  match: `+match+`
  route: [{destination: {host: ratings}}]
- name: miss
  route: [{destination: {host: reviews}}]`)
	}
	hit := Result{Route: "hit", Endpoint: ratingsAt}
	return []Case{
		{Name: "the port", Cite: cite, Config: config(`[{port: 9080}]`), Request: get(reviewsURL), Want: hit},
		{Name: "the other port", Cite: cite, Config: config(`[{port: 9080}]`), Request: get("http://reviews:8080/"), Want: Result{Route: "miss", Endpoint: "10.0.0.1:8080"}},
		{Name: "port and path hold", Cite: cite, Config: config(`[{port: 8080, uri: {prefix: /a}}]`), Request: get("http://reviews:8080/a"), Want: hit},
		{Name: "port holds, path does not", Cite: cite, Config: config(`[{port: 8080, uri: {prefix: /a}}]`), Request: get("http://reviews:8080/b"), Want: Result{Route: "miss", Endpoint: "10.0.0.1:8080"}},
		{Name: "one entry for each port", Cite: cite, Config: config(`[{port: 9080, uri: {prefix: /a}}, {port: 8080, uri: {prefix: /b}}]`), Request: get("http://reviews:9080/b"), Want: Result{Route: "miss", Endpoint: v1}},
		{Name: "the port called, not the Host header's", Cite: cite + " (listener port)", Config: config(`[{port: 8080}]`), Request: Request{URL: "http://reviews:8080/", Host: "reviews:9080"}, Want: hit},
	}
}
