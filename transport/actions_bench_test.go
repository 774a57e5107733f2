package transport

import (
	"net/http"
	"regexp"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

// actionRig is benchRig with one rule that does what more adds to it.
func actionRig(tb testing.TB, more func(*routing.Route)) (*RoundTripper, *http.Request) {
	tb.Helper()
	rt, reqs := benchRig(tb, 1)
	live := rt.engine.Snapshot()
	old := live.Tables[snapshot.Mesh].VirtualHosts()[0]
	r := &routing.Route{Name: "r", Matches: []routing.Match{{PathKind: routing.PathPrefix, Path: call.Prefix("/r5/")}}, Split: []routing.Destination{{Index: 0}}}
	more(r)
	next := &snapshot.Snapshot{Version: "2", Clusters: live.Clusters, Tables: map[string]*routing.Table{
		snapshot.Mesh: routing.NewTable([]*routing.VirtualHost{{Host: old.Host, Port: old.Port, HTTP: true, Routes: []*routing.Route{r}}})}}
	if err := rt.engine.Publish(tb.Context(), next); err != nil {
		tb.Fatal(err)
	}
	return rt, reqs[0]
}

func template(tb testing.TB, s string) call.Template {
	t, err := call.ParseTemplate(s)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// An action is something that a rule does beside choosing a destination, as the budget counts it.
type action struct {
	name      string
	more      func(*routing.Route)
	answers   bool // in place of the leaf
	unbounded bool // an expression's groups are found anew for each request
}

func actions(tb testing.TB) []action {
	set := func(name, value string) routing.HeaderEdit {
		return routing.HeaderEdit{Name: call.NewName(name), Value: template(tb, value)}
	}
	return []action{
		{name: "plain", more: func(*routing.Route) {}},
		{name: "header operations", more: func(r *routing.Route) {
			r.Split[0].Request = &routing.HeaderOps{Remove: []*call.Name{call.NewName("x-none")}, Edits: []routing.HeaderEdit{set("x-env", "test"), set("x-agent", "%REQ(user-agent)%")}}
		}},
		{name: "answer header", more: func(r *routing.Route) {
			r.Split[0].Response = &routing.HeaderOps{Remove: []*call.Name{call.NewName("server")}, Edits: []routing.HeaderEdit{set("x-env", "test")}}
		}},
		{name: "redirect", answers: true, more: func(r *routing.Route) { r.Redirect = &routing.Redirect{Code: 301, Prefix: "/new/"} }},
		{name: "direct response", answers: true, more: func(r *routing.Route) { r.Direct = &routing.DirectResponse{Status: 404} }},
		{name: "rewrite", more: func(r *routing.Route) { r.Rewrite = &routing.Rewrite{Path: "/new/"} }},
		{name: "regex rewrite", unbounded: true, more: func(r *routing.Route) {
			r.Rewrite = &routing.Rewrite{Regex: regexp.MustCompile("^/r5/"), Substitution: routing.ParseSubstitution("/new/")}
		}},
	}
}

// TestActionAllocs holds the budget of what a rule does to a call over net/http: header operations, redirects and
// rewrites take 6 allocations at most, those of a plain call among them, over what the leaf itself allocates.
func TestActionAllocs(t *testing.T) {
	const budget = 6
	for _, a := range actions(t) {
		rt, req := actionRig(t, a.more)
		bare := &noop{}
		leaf := testing.AllocsPerRun(100, func() { exchange(t, bare, req) })
		if a.answers {
			leaf = 0 // nobody asks it
		}
		n := testing.AllocsPerRun(100, func() { exchange(t, rt, req) }) - leaf
		t.Logf("%s: %v", a.name, n)
		if n > budget && !a.unbounded {
			t.Errorf("%s: %v allocations, the budget is %d", a.name, n, budget)
		}
	}
}

func BenchmarkActions(b *testing.B) {
	for _, a := range actions(b) {
		b.Run(a.name, func(b *testing.B) {
			rt, req := actionRig(b, a.more)
			b.ReportAllocs()
			for b.Loop() {
				exchange(b, rt, req)
			}
		})
	}
}
