package routing

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/heddlemesh/mesh/call"
)

func request(method, path, query string, headers ...string) *call.Request {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Add(headers[i], headers[i+1])
	}
	return &call.Request{Method: method, Scheme: "http", Host: "a", Authority: "a", Port: 80,
		Path: path, Query: query, Headers: call.HTTPHeaders(h)}
}

func sm(m call.StringMatch) *call.StringMatch { return &m }

func mustRegex(t testing.TB, s string) call.StringMatch {
	t.Helper()
	m, err := call.Regex(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func header(name string, v call.StringMatch) Match {
	return Match{Headers: []HeaderMatch{{Name: call.NewName(name), Value: v}}}
}

func host(routes ...*Route) *VirtualHost {
	v := &VirtualHost{Host: "a", Port: 80, HTTP: true, Routes: routes}
	NewTable([]*VirtualHost{v})
	return v
}

func route(name string, m ...Match) *Route { return &Route{Name: name, Matches: m} }

// TestFirstMatchWins: HTTPRoute.match — the list decides, wherever the index keeps each entry.
func TestFirstMatchWins(t *testing.T) {
	t.Parallel()
	exact := func(s string) Match { return Match{PathKind: PathExact, Path: call.Exact(s)} }
	prefix := func(s string) Match { return Match{PathKind: PathPrefix, Path: call.Prefix(s)} }
	segment := func(s string) Match { return Match{PathKind: PathSegment, Path: call.Prefix(s)} }
	regex := func(s string) Match { return Match{PathKind: PathRegex, Path: mustRegex(t, s)} }
	with := func(m Match, name, v string) Match {
		m.Headers = append(m.Headers, HeaderMatch{Name: call.NewName(name), Value: call.Exact(v)})
		return m
	}
	all := route("all")
	cases := []struct {
		name   string
		routes []*Route
		q      *call.Request
		want   string
	}{
		{"prefix before exact", []*Route{route("p", prefix("/a")), route("e", exact("/ab"))}, request("GET", "/ab", ""), "p"},
		{"exact before prefix", []*Route{route("e", exact("/ab")), route("p", prefix("/a"))}, request("GET", "/ab", ""), "e"},
		{"short prefix first shadows long", []*Route{route("s", prefix("/a")), route("l", prefix("/abc"))}, request("GET", "/abcd", ""), "s"},
		{"long prefix first", []*Route{route("l", prefix("/abc")), route("s", prefix("/a"))}, request("GET", "/abcd", ""), "l"},
		{"prefix is textual", []*Route{route("p", prefix("/foo")), all}, request("GET", "/foobar", ""), "p"},
		{"segment is not textual", []*Route{route("p", segment("/foo")), all}, request("GET", "/foobar", ""), "all"},
		{"segment takes itself", []*Route{route("p", segment("/foo/")), all}, request("GET", "/foo", ""), "p"},
		{"segment takes below", []*Route{route("p", segment("/foo")), all}, request("GET", "/foo/x", ""), "p"},
		{"segment root takes all", []*Route{route("p", segment("/")), all}, request("GET", "/foo/x", ""), "p"},
		{"regex is whole", []*Route{route("r", regex("/v[0-9]")), all}, request("GET", "/v1/x", ""), "all"},
		{"regex before exact", []*Route{route("r", regex("/v.*")), route("e", exact("/v1"))}, request("GET", "/v1", ""), "r"},
		{"header rule before path", []*Route{route("h", header("x", call.Exact("1"))), route("e", exact("/v1"))}, request("GET", "/v1", "", "x", "1"), "h"},
		{"header rule fails, path wins", []*Route{route("h", header("x", call.Exact("1"))), route("e", exact("/v1"))}, request("GET", "/v1", "", "x", "2"), "e"},
		{"catch-all shadows", []*Route{all, route("e", exact("/v1"))}, request("GET", "/v1", ""), "all"},
		{"same path, second by header", []*Route{route("1", with(exact("/v1"), "x", "1")), route("2", with(exact("/v1"), "x", "2"))}, request("GET", "/v1", "", "x", "2"), "2"},
		{"entries are ORed", []*Route{route("o", exact("/a"), prefix("/b")), all}, request("GET", "/bb", ""), "o"},
		{"fields are ANDed", []*Route{route("h", with(prefix("/"), "x", "1")), all}, request("GET", "/", "", "x", "0"), "all"},
		{"empty match entry", []*Route{route("m", Match{}), all}, request("GET", "/", ""), "m"},
		{"nothing matches", []*Route{route("e", exact("/v1"))}, request("GET", "/v2", ""), ""},
		{"no rules", nil, request("GET", "/v2", ""), ""},
		{"fold", []*Route{route("f", Match{PathKind: PathExact, Path: call.Exact("/Ab").IgnoringCase()}), all}, request("GET", "/aB", ""), "f"},
		{"fold prefix", []*Route{route("f", Match{PathKind: PathPrefix, Path: call.Prefix("/Ab").IgnoringCase()}), all}, request("GET", "/aBc", ""), "f"},
		{"method", []*Route{route("m", Match{Method: sm(call.Exact("POST"))}), all}, request("GET", "/", ""), "all"},
		{"scheme", []*Route{route("m", Match{Scheme: sm(call.Exact("http"))}), all}, request("GET", "/", ""), "m"},
		{"authority", []*Route{route("m", Match{Authority: sm(call.Prefix("a"))}), all}, request("GET", "/", ""), "m"},
		{"header present, empty", []*Route{route("h", header("x", call.Present())), all}, request("GET", "/", "", "x", ""), "h"},
		{"header twice is joined", []*Route{route("h", header("x", call.Exact("1,2"))), all}, request("GET", "/", "", "x", "1", "x", "2"), "h"},
		{"header twice, one value alone does not match", []*Route{route("h", header("x", call.Exact("1"))), all}, request("GET", "/", "", "x", "1", "x", "2"), "all"},
		{"query", []*Route{route("q", Match{Query: []QueryMatch{{"v", call.Exact("a%20b")}}}), all}, request("GET", "/", "u=1&v=a%20b"), "q"},
		{"query is compared as spelled", []*Route{route("q", Match{Query: []QueryMatch{{"v", call.Exact("a b")}}}), all}, request("GET", "/", "u=1&v=a%20b"), "all"},
		{"query, first value counts", []*Route{route("q", Match{Query: []QueryMatch{{"v", call.Exact("2")}}}), all}, request("GET", "/", "v=1&v=2"), "all"},
		{"query present without value", []*Route{route("q", Match{Query: []QueryMatch{{"v", call.Present()}}}), all}, request("GET", "/", "v"), "q"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := host(c.routes...)
			got := ""
			if r, _ := v.Match(c.q); r != nil {
				got = r.Name
			}
			if got != c.want {
				t.Errorf("matched %q, want %q", got, c.want)
			}
			explained, _, trials := v.Explain(c.q)
			if r, _ := v.Match(c.q); explained != r {
				t.Errorf("Explain says %v, Match says %v; trials %+v", explained, r, trials)
			}
		})
	}
}

// TestMatchName: HTTPMatchRequest.name is appended to the route's.
func TestMatchName(t *testing.T) {
	t.Parallel()
	v := host(route("r", Match{Name: "one", PathKind: PathExact, Path: call.Exact("/a")}, Match{PathKind: PathExact, Path: call.Exact("/b")}), route("all"))
	for path, want := range map[string]string{"/a": "r.one", "/b": "r", "/c": "all"} {
		if r, m := v.Match(request("GET", path, "")); r.Title(m) != want {
			t.Errorf("%s goes by %q, want %q", path, r.Title(m), want)
		}
	}
}

func TestWithoutHeaders(t *testing.T) {
	t.Parallel()
	m := Match{Headers: []HeaderMatch{{Name: call.NewName("x"), Value: call.Exact("1"), Invert: true}}}
	absent := Match{Headers: []HeaderMatch{{Name: call.NewName("x"), Value: call.Present(), Invert: true}}}
	for _, c := range []struct {
		name string
		m    Match
		q    *call.Request
		want bool
	}{
		{"missing passes", m, request("GET", "/", ""), true},
		{"other value passes", m, request("GET", "/", "", "x", "2"), true},
		{"the value is excluded", m, request("GET", "/", "", "x", "1"), false},
		{"{} wants it absent", absent, request("GET", "/", "", "x", ""), false},
		{"{} and absent", absent, request("GET", "/", ""), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if r, _ := host(route("r", c.m)).Match(c.q); (r != nil) != c.want {
				t.Errorf("matched %v, want %v", r, c.want)
			}
		})
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	mk := func(name string, port uint16, also ...string) *VirtualHost {
		return &VirtualHost{Host: name, Port: port, Also: also}
	}
	table := NewTable([]*VirtualHost{
		mk("reviews.default.svc.cluster.local", 9080, "reviews", "reviews.default"),
		mk("reviews.default.svc.cluster.local", 9081),
		mk("*.example.com", 80), mk("*.b.example.com", 80), mk("x.b.example.com", 80), mk("*.b.example.com", 443),
		mk("*-cdn.example.org", 80), mk("*.example.org", 80),
	})
	for _, c := range []struct {
		host string
		port uint16
		want string
	}{
		{"reviews", 9080, "reviews.default.svc.cluster.local"},
		{"reviews.default", 9080, "reviews.default.svc.cluster.local"},
		{"reviews", 9081, ""},
		{"reviews.default.svc.cluster.local", 9081, "reviews.default.svc.cluster.local"},
		{"reviews.other", 9080, ""},
		{"example.com", 80, ""},
		{"a.example.com", 80, "*.example.com"},
		{"a.a.example.com", 80, "*.example.com"},
		{"a.b.example.com", 80, "*.b.example.com"},
		{"x.b.example.com", 80, "x.b.example.com"},
		{"x.b.example.com", 443, "*.b.example.com"},
		{"b.example.com", 80, "*.example.com"},
		{"eu-cdn.example.org", 80, "*-cdn.example.org"},
		{"eu.example.org", 80, "*.example.org"},
		{"-cdn.example.org", 80, "*.example.org"},
		{"unknown", 80, ""},
		{"", 80, ""},
	} {
		v, known := table.Lookup(c.host, c.port)
		got := ""
		if v != nil {
			got = v.Host
		}
		if got != c.want {
			t.Errorf("Lookup(%q, %d) = %q, want %q", c.host, c.port, got, c.want)
		}
		if v == nil && c.host == "reviews" && (len(known) != 1 || known[0] != 9080) {
			t.Errorf("Lookup(%q, %d) knows ports %v", c.host, c.port, known)
		}
	}
}

func TestRoutePick(t *testing.T) {
	t.Parallel()
	split := func(w ...uint32) *Route {
		r := &Route{}
		for i, x := range w {
			r.Split = append(r.Split, Destination{Cluster: fmt.Sprint(i), Weight: x})
		}
		return r
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name string
		r    *Route
		want []float64
	}{
		{"80/20", split(80, 20), []float64{.8, .2}},
		{"relative, not percent", split(1, 3), []float64{.25, .75}},
		{"zero among several", split(0, 100), []float64{0, 1}},
		{"lone zero gets all", split(0), []float64{1}},
		{"large", split(1<<31, 1<<31), []float64{.5, .5}},
	} {
		const n = 20000
		count := make([]int, len(c.want))
		for range n {
			d := c.r.Pick(rnd.Uint64())
			count[d.Cluster[0]-'0']++
		}
		for i, w := range c.want {
			if got := float64(count[i]) / n; got < w-.015 || got > w+.015 || w == 0 && count[i] > 0 {
				t.Errorf("%s: destination %d got %.3f, want %.3f", c.name, i, got, w)
			}
		}
	}
	if split(0, 0).Pick(1) != nil || split().Pick(1) != nil {
		t.Error("a split with no weight picked something")
	}
	if d := split(1, 1).Pick(1<<64 - 1); d.Cluster != "1" {
		t.Error("the last random value fell off the end")
	}
}

// FuzzMatch holds the index to the plain list: whatever the rules, both find the same one.
func FuzzMatch(f *testing.F) {
	f.Add(uint64(1), "/a/b", "v=1", "1")
	f.Add(uint64(7), "/", "", "")
	f.Add(uint64(99), "/aab", "v=%31", "2")
	f.Fuzz(func(t *testing.T, seed uint64, path, query, value string) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		word := func() string {
			b := []byte("/")
			for range rnd.IntN(4) {
				b = append(b, "ab/A"[rnd.IntN(4)])
			}
			return string(b)
		}
		var routes []*Route
		for i := range rnd.IntN(12) {
			r := route(fmt.Sprint(i))
			for range rnd.IntN(3) {
				var m Match
				switch rnd.IntN(6) {
				case 0:
					m = Match{PathKind: PathExact, Path: call.Exact(word())}
				case 1:
					m = Match{PathKind: PathPrefix, Path: call.Prefix(word())}
				case 2:
					m = Match{PathKind: PathSegment, Path: call.Prefix(word())}
				case 3:
					m = Match{PathKind: PathRegex, Path: mustRegex(t, word()+".*")}
				case 4:
					m = Match{PathKind: PathPrefix, Path: call.Prefix(word()).IgnoringCase()}
				}
				if rnd.IntN(2) == 0 {
					m.Headers = []HeaderMatch{{Name: call.NewName("x"), Value: call.Exact(fmt.Sprint(rnd.IntN(3))), Invert: rnd.IntN(4) == 0}}
				}
				if rnd.IntN(4) == 0 {
					m.Query = []QueryMatch{{"v", call.Prefix(fmt.Sprint(rnd.IntN(2)))}}
				}
				r.Matches = append(r.Matches, m)
			}
			routes = append(routes, r)
		}
		v := host(routes...)
		q := request("GET", path, query, "x", value)
		got, _ := v.Match(q)
		want, _, trials := v.Explain(q)
		if got != want {
			t.Fatalf("the index found %v, the list %v\n%+v", got, want, trials)
		}
	})
}

func benchHost(n int) *VirtualHost {
	var routes []*Route
	for i := range n {
		routes = append(routes, route(fmt.Sprint(i), Match{PathKind: PathPrefix, Path: call.Prefix(fmt.Sprintf("/svc%04d/", i))}))
	}
	return host(routes...)
}

func TestMatchAllocs(t *testing.T) {
	v := benchHost(1000)
	q := request("GET", "/svc0999/x", "")
	if n := testing.AllocsPerRun(100, func() {
		if r, _ := v.Match(q); r == nil {
			t.Fatal("no match")
		}
	}); n != 0 {
		t.Errorf("Match allocates %v times", n)
	}
}

// BenchmarkMatch is the claim that cost does not follow the length of the list; the linear rows are the
// yardstick in the same run.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 10, 1000, 10000} {
		v := benchHost(n)
		q := request("GET", fmt.Sprintf("/svc%04d/x", n-1), "")
		b.Run(fmt.Sprintf("routes=%d/index", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.Match(q)
			}
		})
		b.Run(fmt.Sprintf("routes=%d/linear", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, r := range v.Routes {
					if m := &r.Matches[0]; m.pathMatches(q.Path) && m.restMatches(q) {
						break
					}
				}
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1, 64, 1000, 10000} {
		var hosts []*VirtualHost
		names := make([]string, n)
		for i := range n {
			names[i] = fmt.Sprintf("svc%05d.default.svc.cluster.local", i)
			hosts = append(hosts, &VirtualHost{Host: names[i], Port: 80, Also: []string{fmt.Sprintf("svc%05d", i), fmt.Sprintf("svc%05d.default", i)}})
		}
		table := NewTable(hosts)
		order := rand.New(rand.NewPCG(1, 1)).Perm(n)
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if v, _ := table.Lookup(names[order[i%n]], 80); v == nil {
					b.Fatal("lost")
				}
				i++
			}
		})
	}
}

// BenchmarkDecision is a whole decision, host and rule, among n hosts of eleven rules each, called in random
// order: what grows with n are cache misses.
func BenchmarkDecision(b *testing.B) {
	for _, n := range []int{1, 64, 1000, 10000} {
		var hosts []*VirtualHost
		names := make([]string, n)
		for i := range n {
			names[i] = fmt.Sprintf("svc%05d.default.svc.cluster.local", i)
			v := &VirtualHost{Host: names[i], Port: 80, HTTP: true}
			for j := range 10 {
				v.Routes = append(v.Routes, route("r", Match{PathKind: PathPrefix, Path: call.Prefix(fmt.Sprintf("/r%d/", j))}))
			}
			v.Routes = append(v.Routes, route("all"))
			hosts = append(hosts, v)
		}
		table := NewTable(hosts)
		order := rand.New(rand.NewPCG(1, 1)).Perm(n)
		q := request("GET", "/r9/x", "")
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				v, _ := table.Lookup(names[order[i]], 80)
				if r, _ := v.Match(q); r == nil {
					b.Fatal("lost")
				}
				if i++; i == n {
					i = 0
				}
			}
		})
	}
}
