package conformance

// uriRows: HTTPMatchRequest.uri, and the spelling of a path that it reads.
func uriRows() []Case {
	const (
		cite      = "§2.2 HTTPMatchRequest uri"
		regex     = "§2.1 Regex everywhere; §2.2 HTTPMatchRequest uri"
		fold      = "§2.2 HTTPMatchRequest ignoreUriCase"
		canonical = "§2.9 Path normalisation default BASE"
	)
	rows := []struct {
		name, cite, match, path string
		hit                     bool
		wire                    string // the path the upstream sees, where it is not the caller's
	}{
		{name: "exact", cite: cite, match: `{uri: {exact: /a}}`, path: "/a", hit: true},
		{name: "exact is not a prefix", cite: cite, match: `{uri: {exact: /a}}`, path: "/a/b"},
		{name: "exact with a trailing slash", cite: cite, match: `{uri: {exact: /a}}`, path: "/a/"},
		{name: "exact is case sensitive", cite: cite, match: `{uri: {exact: /a}}`, path: "/A"},
		{name: "exact root of an empty path", cite: cite, match: `{uri: {exact: /}}`, path: "", hit: true, wire: "/"},
		{name: "exact leaves the query out", cite: cite, match: `{uri: {exact: /a}}`, path: "/a?b=c", hit: true},
		{name: "exact does not see the query", cite: cite, match: `{uri: {exact: "/a?b=c"}}`, path: "/a?b=c"},
		{name: "prefix", cite: cite, match: `{uri: {prefix: /foo}}`, path: "/foo/bar", hit: true},
		{name: "prefix is textual", cite: cite + " (/foo matches /foobar); §6.5", match: `{uri: {prefix: /foo}}`, path: "/foobar", hit: true},
		{name: "prefix takes itself", cite: cite, match: `{uri: {prefix: /foo}}`, path: "/foo", hit: true},
		{name: "prefix with a slash needs it", cite: cite, match: `{uri: {prefix: /foo/}}`, path: "/foo"},
		{name: "prefix is case sensitive", cite: cite, match: `{uri: {prefix: /foo}}`, path: "/Foo/bar"},
		{name: "prefix begins at the beginning", cite: cite, match: `{uri: {prefix: /foo}}`, path: "/x/foo"},
		{name: "prefix root takes all", cite: cite, match: `{uri: {prefix: /}}`, path: "/any/thing?x", hit: true},
		{name: "regex", cite: regex, match: `{uri: {regex: "/v[0-9]+/.*"}}`, path: "/v12/x", hit: true},
		{name: "regex matches in full, not a prefix", cite: regex, match: `{uri: {regex: "/v[0-9]"}}`, path: "/v12"},
		{name: "regex matches in full, not a suffix", cite: regex, match: `{uri: {regex: "/v1"}}`, path: "/x/v1"},
		{name: "regex alternatives match in full", cite: regex, match: `{uri: {regex: "/a|/b"}}`, path: "/bc"},
		{name: "regex alternative", cite: regex, match: `{uri: {regex: "/a|/b"}}`, path: "/b", hit: true},
		{name: "regex leaves the query out", cite: regex, match: `{uri: {regex: "/a"}}`, path: "/a?x=1", hit: true},
		{name: "regex is case sensitive", cite: regex, match: `{uri: {regex: "/a"}}`, path: "/A"},
		{name: "ignoreUriCase with exact", cite: fold, match: `{uri: {exact: /Admin}, ignoreUriCase: true}`, path: "/aDMIN", hit: true},
		{name: "ignoreUriCase with prefix", cite: fold, match: `{uri: {prefix: /Admin}, ignoreUriCase: true}`, path: "/aDMIN/Users", hit: true},
		{name: "ignoreUriCase without effect on regex", cite: fold, match: `{uri: {regex: "/admin"}, ignoreUriCase: true}`, path: "/ADMIN"},
		{name: "ignoreUriCase still compares all", cite: fold, match: `{uri: {exact: /Admin}, ignoreUriCase: true}`, path: "/admins"},
		{name: "dot segments are resolved", cite: canonical, match: `{uri: {exact: /b}}`, path: "/a/../b", hit: true, wire: "/b"},
		{name: "single dots are resolved", cite: canonical, match: `{uri: {exact: /a/b}}`, path: "/a/./b", hit: true, wire: "/a/b"},
		{name: "dot segments escape no prefix", cite: canonical, match: `{uri: {prefix: /public}}`, path: "/public/../admin", wire: "/admin"},
		{name: "unreserved characters are decoded", cite: canonical + "; attacks.md BASE", match: `{uri: {exact: /admin}}`, path: "/%61dmin", hit: true, wire: "/admin"},
		{name: "encoded dot segments are resolved", cite: canonical + "; attacks.md BASE", match: `{uri: {exact: /b}}`, path: "/a/%2e%2E/b", hit: true, wire: "/b"},
		{name: "decoded once only", cite: canonical + "; attacks.md One decode only", match: `{uri: {exact: /a}}`, path: "/%2561"},
		{name: "double slashes are not merged", cite: canonical + "; §6.14", match: `{uri: {exact: /a/b}}`, path: "/a//b"},
		{name: "double slashes match as written", cite: canonical + "; §6.14", match: `{uri: {exact: /a//b}}`, path: "/a//b", hit: true},
		{name: "encoded slash is no slash", cite: canonical, match: `{uri: {exact: /a/b}}`, path: "/a%2Fb"},
		{name: "encoded slash matches as written", cite: canonical, match: `{uri: {exact: "/a%2Fb"}}`, path: "/a%2Fb", hit: true},
		{name: "encoded backslash is no slash", cite: canonical, match: `{uri: {exact: /a/b}}`, path: "/a%5Cb"},
	}
	cases := make([]Case, len(rows), len(rows)+2)
	for i, r := range rows {
		want := took(r.hit)
		want.Path = r.path
		if r.wire != "" {
			want.Path = r.wire
		}
		cases[i] = Case{Name: r.name, Cite: r.cite, Config: when("[" + r.match + "]"),
			Request: get("http://reviews:9080" + r.path), Want: want}
	}
	backslash := took(true)
	backslash.Path = "/a/b"
	return append(cases, Case{Name: "backslash becomes a slash", Cite: canonical, Config: when(`[{uri: {exact: /a/b}}]`),
		Request: get(`http://reviews:9080/a\b`), Want: backslash,
		Except: map[string]string{"net/http": "net/url spells a backslash %5C before anything is sent"}},
		Case{Name: "encoded NUL is refused", Cite: "attacks.md Normalisation contract (%00 → 400); §3.6 DPE",
			Config: when(`[{uri: {prefix: /a}}]`), Request: get("http://reviews:9080/a%00b"), Want: Result{Flag: "DPE", Status: 400}})
}
