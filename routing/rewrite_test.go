package routing_test

import (
	"net/http"
	"regexp"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing"
)

func pathMatch(kind routing.PathKind, text string) *routing.Match {
	m := &routing.Match{PathKind: kind}
	switch kind {
	case routing.PathExact:
		m.Path = call.Exact(text)
	case routing.PathRegex:
		re, err := call.Regex(text)
		if err != nil {
			panic(err)
		}
		m.Path = re
	default:
		m.Path = call.Prefix(text)
	}
	return m
}

// TestRewritePath: what is replaced depends on how the path was matched (HTTPRewrite.uri).
func TestRewritePath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		m         *routing.Match
		path, uri string
		want      string
	}{
		{"prefix", pathMatch(routing.PathPrefix, "/v1/"), "/v1/books", "/api/", "/api/books"},
		{"prefix is text", pathMatch(routing.PathPrefix, "/foo"), "/foobar", "/x", "/xbar"},
		{"two slashes as in Envoy", pathMatch(routing.PathPrefix, "/foo"), "/foo/bar", "/", "//bar"},
		{"whole path by prefix", pathMatch(routing.PathPrefix, "/foo"), "/foo", "/bar", "/bar"},
		{"exact", pathMatch(routing.PathExact, "/a/b"), "/a/b", "/c", "/c"},
		{"expression", pathMatch(routing.PathRegex, "/a/.*"), "/a/b/c", "/d", "/d"},
		{"no condition on the path", &routing.Match{}, "/foo", "/bar", "/barfoo"},
		{"no match at all", nil, "/foo", "/bar/", "/bar/foo"},
		{"segment", pathMatch(routing.PathSegment, "/foo"), "/foo/bar", "/x", "/x/bar"},
		{"segment with slashes", pathMatch(routing.PathSegment, "/foo/"), "/foo/bar", "/x/", "/x/bar"},
		{"segment to the root", pathMatch(routing.PathSegment, "/foo"), "/foo", "/", "/"},
		{"nothing to do", pathMatch(routing.PathPrefix, "/foo"), "/foo", "", "/foo"},
	} {
		w := &routing.Rewrite{Path: c.uri}
		if got, safe := w.PathOf(&call.Request{Path: c.path}, c.m); got != c.want || !safe {
			t.Errorf("%s: %s with %s = %s, want %s", c.name, c.path, c.uri, got, c.want)
		}
	}
	var none *routing.Rewrite
	if got, safe := none.PathOf(&call.Request{Path: "/a"}, nil); got != "/a" || !safe {
		t.Error(got)
	}
}

// TestRewriteRegex follows the examples of HTTPRewrite.uriRegexRewrite.
func TestRewriteRegex(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ re, sub, path, want string }{
		{`^/service/([^/]+)(/.*)$`, `\2/instance/\1`, "/service/foo/v1/api", "/v1/api/instance/foo"},
		{`one`, `two`, "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"},
		{`^(.*?)one(.*)$`, `\1two\2`, "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"},
		{`(?i)/xxx/`, `/yyy/`, "/aaa/XxX/bbb", "/aaa/yyy/bbb"},
		{`/(a)(b)?`, `/[\0]\1\2`, "/a", "/[/a]a"},
		{`/x`, `/\\1`, "/x", `/\1`},
		{`/x`, `/\d`, "/x", `/\d`},
		{`/nothing`, `/y`, "/x", "/x"},
	} {
		w := &routing.Rewrite{Regex: regexp.MustCompile(c.re), Substitution: routing.ParseSubstitution(c.sub)}
		if got, safe := w.PathOf(&call.Request{Path: c.path}, nil); got != c.want || !safe {
			t.Errorf("%s with %s → %s on %s = %s, want %s", c.re, c.re, c.sub, c.path, got, c.want)
		}
	}
}

func TestRedirectLocation(t *testing.T) {
	t.Parallel()
	plain := call.Request{Scheme: "http", Authority: "reviews:9080", Path: "/a/b", Query: "q=1"}
	with := func(change func(*call.Request)) *call.Request {
		q := plain
		change(&q)
		return &q
	}
	prefix := pathMatch(routing.PathPrefix, "/a")
	for _, c := range []struct {
		name string
		r    routing.Redirect
		q    *call.Request
		want string
	}{
		{"uri keeps query, host and port", routing.Redirect{Path: "/x"}, &plain, "http://reviews:9080/x?q=1"},
		{"uri with a query", routing.Redirect{Path: "/x?y=2"}, &plain, "http://reviews:9080/x?y=2"},
		{"prefix", routing.Redirect{Prefix: "/z"}, &plain, "http://reviews:9080/z/b?q=1"},
		{"authority drops the port", routing.Redirect{Authority: "new.example"}, &plain, "http://new.example/a/b?q=1"},
		{"scheme keeps a port of its own", routing.Redirect{Scheme: "https"}, &plain, "https://reviews:9080/a/b?q=1"},
		{"scheme drops the default port", routing.Redirect{Scheme: "https"},
			with(func(q *call.Request) { q.Authority = "reviews:80" }), "https://reviews/a/b?q=1"},
		{"port", routing.Redirect{Port: 8443}, &plain, "http://reviews:8443/a/b?q=1"},
		{"default port is not written", routing.Redirect{Port: 443, Scheme: "https"}, &plain, "https://reviews/a/b?q=1"},
		{"IPv6", routing.Redirect{Port: 81}, with(func(q *call.Request) { q.Authority = "[::1]:80" }), "http://[::1]:81/a/b?q=1"},
		{"IPv6 without port", routing.Redirect{Path: "/x"}, with(func(q *call.Request) { q.Authority = "[::1]" }), "http://[::1]/x?q=1"},
		{"no query", routing.Redirect{Path: "/x"}, with(func(q *call.Request) { q.Query = "" }), "http://reviews:9080/x"},
	} {
		if got := c.r.Location(c.q, prefix); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func edit(t *testing.T, name, value string, add bool) routing.HeaderEdit {
	t.Helper()
	tpl, err := call.ParseTemplate(value)
	if err != nil {
		t.Fatal(err)
	}
	return routing.HeaderEdit{Name: call.NewName(name), Value: tpl, Add: add}
}

// TestHeaderOps: removal comes first, so that a field can be removed and added anew; an empty value changes
// nothing.
func TestHeaderOps(t *testing.T) {
	t.Parallel()
	ops := routing.HeaderOps{
		Remove: []*call.Name{call.NewName("x-gone"), call.NewName("x-new")},
		Edits: []routing.HeaderEdit{
			edit(t, "x-new", "1", true), edit(t, "x-new", "2", true),
			edit(t, "x-set", "%REQ(x-user)%", false), edit(t, "x-kept", "%REQ(x-none)%", false), edit(t, "x-more", "b", true),
		},
	}
	h := http.Header{"X-Gone": {"1"}, "X-New": {"old"}, "X-Set": {"a", "b"}, "X-Kept": {"k"}, "X-More": {"a"}, "X-User": {"jason"}}
	e := call.HTTPHeaders(h)
	ops.Apply(e, &call.Values{Request: call.Request{Headers: e}})
	want := http.Header{"X-New": {"1", "2"}, "X-Set": {"jason"}, "X-Kept": {"k"}, "X-More": {"a", "b"}, "X-User": {"jason"}}
	for k := range want {
		if got := h[k]; len(got) != len(want[k]) || got[0] != want[k][0] || got[len(got)-1] != want[k][len(got)-1] {
			t.Errorf("%s: %v, want %v", k, got, want[k])
		}
	}
	if len(h) != len(want) {
		t.Errorf("%v", h)
	}
	var none *routing.HeaderOps
	none.Apply(e, nil)
	if !none.Empty() || ops.Empty() {
		t.Error("Empty")
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	c := routing.CORS{Origins: []call.StringMatch{call.Exact("https://a.example"), call.Prefix("https://b.")},
		AllowMethods: "GET,POST", AllowHeaders: "x-a", ExposeHeaders: "x-b", MaxAge: "600", Credentials: true}
	ask := func(method, origin, want string) *call.Request {
		h := http.Header{}
		if origin != "" {
			h.Set("Origin", origin)
		}
		if want != "" {
			h.Set("Access-Control-Request-Method", want)
		}
		return &call.Request{Method: method, Headers: call.HTTPHeaders(h)}
	}
	for _, r := range []struct {
		name      string
		q         *call.Request
		ignore    bool
		allowed   string
		preflight bool
	}{
		{"no origin", ask("OPTIONS", "", "GET"), false, "", false},
		{"simple", ask("GET", "https://a.example", ""), false, "https://a.example", false},
		{"preflight", ask("OPTIONS", "https://b.example", "PUT"), false, "https://b.example", true},
		{"OPTIONS that asks nothing", ask("OPTIONS", "https://a.example", ""), false, "https://a.example", false},
		{"not allowed goes on", ask("OPTIONS", "https://c.example", "GET"), false, "", false},
		{"not allowed is answered", ask("OPTIONS", "https://c.example", "GET"), true, "", true},
		{"not allowed simple", ask("GET", "https://c.example", ""), true, "", false},
	} {
		c.AnswerUnmatched = r.ignore
		if allowed, preflight := c.Judge(r.q); allowed != r.allowed || preflight != r.preflight {
			t.Errorf("%s: %q %v, want %q %v", r.name, allowed, preflight, r.allowed, r.preflight)
		}
	}
	h := http.Header{"Vary": {"accept"}}
	preflight := ask("OPTIONS", "https://a.example", "PUT")
	c.Answer(call.HTTPHeaders(h), preflight, "https://a.example")
	for k, want := range map[string]string{
		"Access-Control-Allow-Origin": "https://a.example", "Access-Control-Allow-Methods": "GET,POST",
		"Access-Control-Allow-Headers": "x-a", "Access-Control-Max-Age": "600", "Access-Control-Allow-Credentials": "true",
		"Access-Control-Expose-Headers": "",
	} {
		if got := h.Get(k); got != want {
			t.Errorf("preflight %s: %q, want %q", k, got, want)
		}
	}
	if v := h.Values("Vary"); len(v) != 2 || v[1] != "Origin" {
		t.Errorf("Vary: %v", v)
	}
	h = http.Header{"Vary": {"Accept, origin"}, "Access-Control-Allow-Origin": {"*"}}
	c.Mark(call.HTTPHeaders(h), "https://a.example")
	if h.Get("Access-Control-Allow-Origin") != "https://a.example" || h.Get("Access-Control-Expose-Headers") != "x-b" ||
		len(h.Values("Vary")) != 1 || h.Get("Access-Control-Max-Age") != "" {
		t.Errorf("answer: %v", h)
	}
	h = http.Header{}
	c.Answer(call.HTTPHeaders(h), preflight, "")
	if len(h) != 0 {
		t.Errorf("an origin that is not allowed learns %v", h)
	}
}

// TestRewriteIsSafe: what a client chooses of a path never leads out of what the rule puts before it, becomes another
// host's, or changes the meaning of an escape.
func TestRewriteIsSafe(t *testing.T) {
	t.Parallel()
	prefix := func(uri string) *routing.Rewrite { return &routing.Rewrite{Path: uri} }
	regex := func(re, sub string) *routing.Rewrite {
		return &routing.Rewrite{Regex: regexp.MustCompile(re), Substitution: routing.ParseSubstitution(sub)}
	}
	foo := pathMatch(routing.PathPrefix, "/foo")
	for _, c := range []struct {
		name string
		w    *routing.Rewrite
		path string
		want string
		safe bool
	}{
		{"dots behind a prefix", prefix("/api/"), "/foo../secret", "/api/../secret", false},
		{"one dot", prefix("/api/"), "/foo./x", "/api/./x", false},
		{"encoded dots behind a prefix", prefix("/api/"), "/foo%2e./secret", "/api/%2e./secret", false},
		{"dots within a segment", prefix("/api/"), "/foo..x/secret", "/api/..x/secret", true},
		{"dots put together", regex("x", ""), "/a/.x./secret", "/a/../secret", false},
		{"absolute form", regex("^/r/(.*)$", `\1`), "/r/http://other/x", "/http://other/x", true},
		{"no slash", regex("^/r/(.*)$", `\1`), "/r/x", "/x", true},
		{"nothing left", regex("^.*$", ""), "/r", "/", true},
		{"an escape cut in two", regex("^(.*%2)(.*)$", `\1x\2`), "/a%2Fb", "/a%2xFb", false},
		{"an encoded NUL", regex("25", ""), "/a%2500", "/a%00", false},
		{"a query of its own", prefix("/x?y=1&z=../.."), "/foo", "/x?y=1&z=../..", true},
		{"a backslash", regex("^/r/", `/\\..\\`), "/r/x", `/\..\x`, false},
	} {
		if got, safe := c.w.PathOf(&call.Request{Path: c.path}, foo); got != c.want || safe != c.safe {
			t.Errorf("%s: %s, %v, want %s, %v", c.name, got, safe, c.want, c.safe)
		}
	}
}

func TestRedirectFragment(t *testing.T) {
	t.Parallel()
	q := &call.Request{Scheme: "http", Authority: "reviews", Path: "/a", Query: "q=1"}
	for in, want := range map[string]string{
		"/x#y":     "http://reviews/x?q=1#y",
		"/x?z=2#y": "http://reviews/x?z=2#y",
		"/x#y?z":   "http://reviews/x?q=1#y?z",
	} {
		if got := (&routing.Redirect{Path: in}).Location(q, nil); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// TestHeaderOpsInSteps: values are made of what is left by the removals; sets come before adds, and one step after the
// other (Envoy, HeaderParser::evaluateHeaders, WeightedClusterEntry::finalizeRequestHeaders).
func TestHeaderOpsInSteps(t *testing.T) {
	t.Parallel()
	h := http.Header{"X-Old": {"o"}, "X-A": {"1"}}
	e := call.HTTPHeaders(h)
	ops := &routing.HeaderOps{
		Remove: []*call.Name{call.NewName("x-old")},
		Edits: []routing.HeaderEdit{
			edit(t, "x-sum", "added", true), edit(t, "x-sum", "set", false),
			edit(t, "x-a", "2", false), edit(t, "x-copy", "%REQ(x-a)%", false), edit(t, "x-renamed", "%REQ(x-old)%", false),
		},
		Then: &routing.HeaderOps{Remove: []*call.Name{call.NewName("x-sum")}, Edits: []routing.HeaderEdit{edit(t, "x-then", "%REQ(x-a)%", false)}},
	}
	if got := ops.String(); got != "remove x-old, add x-sum, set x-sum, set x-a, set x-copy, set x-renamed, then remove x-sum, set x-then" {
		t.Error(got)
	}
	first := *ops
	first.Then = nil
	v := &call.Values{Request: call.Request{Headers: e}}
	first.Apply(e, v)
	if got := h["X-Sum"]; len(got) != 2 || got[0] != "set" || got[1] != "added" {
		t.Errorf("x-sum: %v", got)
	}
	h = http.Header{"X-Old": {"o"}, "X-A": {"1"}}
	e = call.HTTPHeaders(h)
	v.Request.Headers = e
	ops.Apply(e, v)
	if len(h) != 3 || h.Get("X-A") != "2" || h.Get("X-Copy") != "1" || h.Get("X-Then") != "2" {
		t.Errorf("%v", h)
	}
	if (&routing.HeaderOps{Then: ops}).Empty() || !(&routing.HeaderOps{Then: &routing.HeaderOps{}}).Empty() {
		t.Error("Empty")
	}
}

// TestCORSEchoes: "*" for methods and headers stands for what the preflight asks for (Envoy, CorsFilter::decodeHeaders).
func TestCORSEchoes(t *testing.T) {
	t.Parallel()
	c := routing.CORS{AllowMethods: "*", AllowHeaders: "*", Credentials: true}
	q := &call.Request{Method: "OPTIONS", Headers: call.HTTPHeaders(http.Header{
		"Origin": {"https://a.example"}, "Access-Control-Request-Method": {"PURGE"}, "Access-Control-Request-Headers": {"x-a, x-b"}})}
	h := http.Header{}
	c.Answer(call.HTTPHeaders(h), q, "https://a.example")
	if h.Get("Access-Control-Allow-Methods") != "PURGE" || h.Get("Access-Control-Allow-Headers") != "x-a, x-b" {
		t.Errorf("%v", h)
	}
}
