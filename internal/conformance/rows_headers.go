package conformance

import "net/http"

// headerRows: HTTPMatchRequest.headers and withoutHeaders.
func headerRows() []Case {
	const (
		cite    = "§2.2 HTTPMatchRequest headers"
		present = "§2.2 HTTPMatchRequest headers (empty value is presence)"
		star    = `§2.2 HTTPMatchRequest headers (regex "*" is presence)`
		without = "§2.2 HTTPMatchRequest withoutHeaders"
		joined  = "§2.2 HTTPMatchRequest headers (Envoy HeaderMatcher); attacks.md (repeated headers joined with a comma)"
	)
	h := func(values ...string) http.Header { return http.Header{"End-User": values} }
	rows := []struct {
		name, cite, match string
		header            http.Header
		hit               bool
	}{
		{"exact", cite, `{headers: {end-user: {exact: jason}}}`, h("jason"), true},
		{"exact, other value", cite, `{headers: {end-user: {exact: jason}}}`, h("jasonx"), false},
		{"exact, missing", cite, `{headers: {end-user: {exact: jason}}}`, nil, false},
		{"values are case sensitive", cite, `{headers: {end-user: {exact: jason}}}`, h("Jason"), false},
		{"names are not case sensitive", cite + " (names lower-cased)", `{headers: {End-USER: {exact: jason}}}`, h("jason"), true},
		{"prefix", cite, `{headers: {end-user: {prefix: ja}}}`, h("jason"), true},
		{"prefix, other value", cite, `{headers: {end-user: {prefix: ja}}}`, h("Mr jason"), false},
		{"regex", cite, `{headers: {end-user: {regex: "j.*n"}}}`, h("jason"), true},
		{"regex matches in full", "§2.1 Regex everywhere", `{headers: {end-user: {regex: "jas"}}}`, h("jason"), false},
		{"regex, missing", cite, `{headers: {end-user: {regex: ".*"}}}`, nil, false},
		{"regex in a cookie", cite, `{headers: {cookie: {regex: "^(.*?;)?(user=jason)(;.*)?$"}}}`, http.Header{"Cookie": {"a=b;user=jason;c=d"}}, true},
		{"presence", present, `{headers: {end-user: {}}}`, h("anyone"), true},
		{"presence of an empty value", present, `{headers: {end-user: {}}}`, h(""), true},
		{"presence, missing", present, `{headers: {end-user: {}}}`, nil, false},
		{"regex star is presence", star, `{headers: {end-user: {regex: "*"}}}`, h("anyone"), true},
		{"regex star, missing", star, `{headers: {end-user: {regex: "*"}}}`, nil, false},
		{"repeated header is joined", joined, `{headers: {end-user: {exact: "a,b"}}}`, h("a", "b"), true},
		{"repeated header is not its first value", joined, `{headers: {end-user: {exact: a}}}`, h("a", "b"), false},
		{"repeated header is not its last value", joined, `{headers: {end-user: {exact: b}}}`, h("a", "b"), false},
		{"two headers hold", cite + " (all must match)", `{headers: {end-user: {exact: a}, x-env: {exact: qa}}}`, http.Header{"End-User": {"a"}, "X-Env": {"qa"}}, true},
		{"one of two headers fails", cite + " (all must match)", `{headers: {end-user: {exact: a}, x-env: {exact: qa}}}`, http.Header{"End-User": {"a"}, "X-Env": {"prod"}}, false},
		{"the other of two headers fails", cite + " (all must match)", `{headers: {end-user: {exact: a}, x-env: {exact: qa}}}`, http.Header{"End-User": {"b"}, "X-Env": {"qa"}}, false},
		{"user-agent", cite, `{headers: {user-agent: {prefix: curl/}}}`, http.Header{"User-Agent": {"curl/8.0"}}, true},
		{"without, value there", without, `{withoutHeaders: {end-user: {exact: jason}}}`, h("jason"), false},
		{"without, other value", without, `{withoutHeaders: {end-user: {exact: jason}}}`, h("mary"), true},
		{"without, missing passes", without, `{withoutHeaders: {end-user: {exact: jason}}}`, nil, true},
		{"without prefix", without, `{withoutHeaders: {end-user: {prefix: ja}}}`, h("jason"), false},
		{"without regex, missing passes", without, `{withoutHeaders: {end-user: {regex: "j.*"}}}`, nil, true},
		{"without presence, there", without + " ({} must be absent)", `{withoutHeaders: {end-user: {}}}`, h("anyone"), false},
		{"without presence, missing", without + " ({} must be absent)", `{withoutHeaders: {end-user: {}}}`, nil, true},
		{"headers and withoutHeaders hold", cite + "; " + without, `{headers: {end-user: {prefix: ja}}, withoutHeaders: {end-user: {exact: jason}}}`, h("jane"), true},
		{"headers hold, withoutHeaders does not", cite + "; " + without, `{headers: {end-user: {prefix: ja}}, withoutHeaders: {end-user: {exact: jason}}}`, h("jason"), false},
	}
	cases := make([]Case, len(rows))
	for i, r := range rows {
		want := took(r.hit)
		want.Header = r.header // matching changes nothing
		cases[i] = Case{Name: r.name, Cite: r.cite, Config: when("[" + r.match + "]"),
			Request: Request{URL: reviewsURL, Header: r.header}, Want: want}
	}
	return cases
}
