package conformance

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh"
)

// drivers run the whole table.
var drivers = []Driver{HTTP{}, GRPC{}, Proxy{}, Proxy{ByHost: true}}

// run makes a row's calls, on its own clock where it has one.
func run(t *testing.T, d Driver, c *Case, m *Mutation) (results []Result) {
	t.Helper()
	var opts []mesh.Option
	if o, ok := d.(interface{ Options() []mesh.Option }); ok {
		opts = o.Options()
	}
	do := func(t *testing.T) {
		all, lines := make(recorded, 2*max(c.Repeat, 1)+16), make(recorded, 2*max(c.Repeat, 1)+16)
		results = d.Do(t, c, NewBench(t, c, m, append(opts, mesh.WithMetricsSink(all), mesh.WithAccessLog(lines))...))
		if m == nil {
			_, rpc := d.(GRPC)
			all.check(t, "metrics", c, results, rpc)
			lines.check(t, "the access log", c, results, rpc)
		}
	}
	if !c.Fake {
		do(t)
		return results
	}
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) }) // servers take their time to end connections
		do(t)
	})
	return results
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, d := range append(slices.Clip(drivers), HTTP{Transport: true}) {
		t.Run(d.Name(), func(t *testing.T) {
			t.Parallel()
			for _, c := range Cases() {
				t.Run(c.Group+"/"+c.Name, func(t *testing.T) {
					t.Parallel()
					c, why := d.Adapt(c)
					if why != "" {
						t.Skip(why)
					}
					switch {
					case c.Repeat <= manyCalls:
					case raceEnabled:
						t.Skip("shares are counted without the race detector: it would take minutes")
					case d != drivers[0] && os.Getenv(sharesEnv) == "":
						t.Skipf("shares are counted by %s here, and by all where %s is set: .ci/run shares sets it", drivers[0].Name(), sharesEnv)
					}
					for _, problem := range c.Check(run(t, d, &c, nil)) {
						t.Error(problem)
					}
					if t.Failed() {
						t.Logf("%s\n%s %s\n%s", c.Cite, c.Request.Method, c.Request.URL, c.Config)
					}
				})
			}
		})
	}
}

// manyCalls of one row are for counting shares, which all drivers do where the variable is set.
const (
	manyCalls = 500
	sharesEnv = "HEDDLE_SHARES"
)

// TestMutationsAreCaught proves that the table can fail: a group whose rows all hold under its mutation does
// not test what it claims to.
func TestMutationsAreCaught(t *testing.T) {
	t.Parallel()
	if raceEnabled {
		t.Skip("that rows can fail is shown without the race detector")
	}
	groups := byGroup()
	var catchers sync.Map           // by mutation and group, the row that noticed: in another column it is tried first
	for _, d := range drivers[:3] { // the fourth is the third's code, asked by another name
		for _, m := range Mutations() {
			for _, g := range m.Groups {
				t.Run(fmt.Sprintf("%s/%s/%s", d.Name(), m.Name, g), func(t *testing.T) {
					t.Parallel()
					key := [2]string{m.Name, g}
					first, _ := catchers.Load(key)
					for _, c := range leading(groups[g], first) {
						if caught(t, d, c, &m) {
							catchers.Store(key, c.Name)
							if why := m.except(d.Name(), g); why != "" {
								t.Errorf("row %q notices what nothing is said to: %s", c.Name, why)
							}
							return
						}
					}
					if m.except(d.Name(), g) == "" {
						t.Errorf("all %d rows of the group hold under the mutation", len(groups[g]))
					}
				})
			}
		}
	}
}

// leading gives the rows with the one of the name, a string or nil, first.
func leading(rows []Case, name any) []Case {
	i := slices.IndexFunc(rows, func(c Case) bool { return c.Name == name })
	if i < 0 {
		return rows
	}
	return slices.Concat(rows[i:i+1], rows[:i], rows[i+1:])
}

// caught reports whether the row notices the mutation. A row that does not hold without it notices nothing.
func caught(t *testing.T, d Driver, row Case, m *Mutation) bool {
	c, why := d.Adapt(row)
	if why != "" {
		return false
	}
	holds := func(m *Mutation) (ok bool) {
		// A subtest of its own ends the row's mesh before the next one begins.
		t.Run(c.Name, func(t *testing.T) {
			ok = len(c.Check(run(t, d, &c, m))) == 0
		})
		return ok
	}
	return !holds(m) && holds(nil)
}

// byGroup gives the rows of each group, those that make the fewest calls first.
func byGroup() map[string][]Case {
	groups := map[string][]Case{}
	for _, c := range Cases() {
		groups[c.Group] = append(groups[c.Group], c)
	}
	for _, rows := range groups {
		slices.SortStableFunc(rows, func(a, b Case) int { return a.Repeat - b.Repeat })
	}
	return groups
}

func TestRowCount(t *testing.T) {
	t.Parallel()
	const least = 150
	cases := Cases()
	for _, d := range drivers {
		runs, reasons := 0, map[string]int{}
		for _, c := range cases {
			if _, why := d.Adapt(c); why != "" {
				reasons[why]++
			} else {
				runs++
			}
		}
		if runs < least {
			t.Errorf("%s runs %d rows, want %d at least", d.Name(), runs, least)
		}
		t.Logf("%s runs %d rows of %d", d.Name(), runs, len(cases))
		for _, why := range slices.Sorted(maps.Keys(reasons)) {
			t.Logf("%5d not: %s", reasons[why], why)
		}
	}
	groups := byGroup()
	mutated := map[string]int{}
	for _, m := range Mutations() {
		for _, g := range m.Groups {
			if groups[g] == nil {
				t.Errorf("mutation %q is of group %q, which has no rows", m.Name, g)
			}
			mutated[g]++
		}
	}
	names := slices.Sorted(maps.Keys(groups))
	for _, g := range names {
		if mutated[g] == 0 {
			t.Errorf("group %q has no mutation", g)
		}
		t.Logf("%-16s %3d rows, %2d mutations", g, len(groups[g]), mutated[g])
	}
	t.Logf("%d rows in %d groups, %d mutations", len(cases), len(groups), len(Mutations()))
}

func TestRowsAreComplete(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	known := map[string]bool{}
	for _, d := range drivers {
		known[d.Name()] = true
	}
	for _, c := range Cases() {
		name := c.Group + "/" + c.Name
		if c.Name == "" || seen[name] {
			t.Errorf("%s: two rows of one name", name)
		}
		seen[name] = true
		if strings.TrimSpace(c.Cite) == "" {
			t.Errorf("%s: no citation", name)
		}
		for d, why := range c.Except {
			if !known[d] || strings.TrimSpace(why) == "" {
				t.Errorf("%s: excepts driver %q because %q", name, d, why)
			}
		}
		if len(c.Except) == len(drivers) {
			t.Errorf("%s: no driver runs it", name)
		}
		if timed := c.Want.Took != 0 || c.Want.Copies != nil; timed && !c.Fake {
			t.Errorf("%s: without a clock of its own", name)
		}
		if c.Config == "" || c.Request.URL == "" {
			t.Errorf("%s: no configuration or no request", name)
		}
	}
	for _, m := range Mutations() {
		for at, why := range m.Except {
			d, group, one := strings.Cut(at, "/")
			if known[at] { // a driver's name may have a slash
				d, one = at, false
			}
			if !known[d] || one && !slices.Contains(m.Groups, group) || strings.TrimSpace(why) == "" {
				t.Errorf("mutation %q: excepts %q because %q", m.Name, at, why)
			}
		}
	}
}

// TestCheckFindsDifferences holds the comparison itself to account.
func TestCheckFindsDifferences(t *testing.T) {
	t.Parallel()
	ok := Result{Status: 200, Flag: "-", Attempts: 1, Endpoint: v1, Route: "r", Cluster: "c", Host: "h", Path: "/", Proto: "HTTP/1.1", Body: "b", Tried: 1}
	with := func(edit func(*Result)) Result {
		r := ok
		edit(&r)
		return r
	}
	want := Result{Endpoint: v1, Route: "r", Cluster: "c", Host: "h", Path: "/", Proto: "HTTP/1.1", Body: "b", Tried: 1}
	differing := map[string]Result{
		"status":   with(func(r *Result) { r.Status = 503 }),
		"flag":     with(func(r *Result) { r.Flag = "NR" }),
		"attempts": with(func(r *Result) { r.Attempts = 2 }),
		"grpc":     with(func(r *Result) { r.GRPC = 14 }),
		"tried":    with(func(r *Result) { r.Tried = 2 }),
		"endpoint": with(func(r *Result) { r.Endpoint = v2 }),
		"route":    with(func(r *Result) { r.Route = "" }),
		"cluster":  with(func(r *Result) { r.Cluster = "" }),
		"host":     with(func(r *Result) { r.Host = "" }),
		"path":     with(func(r *Result) { r.Path = "/x" }),
		"proto":    with(func(r *Result) { r.Proto = "" }),
		"body":     with(func(r *Result) { r.Body = "" }),
	}
	one := Case{Want: want}
	if got := one.Check([]Result{ok}); got != nil {
		t.Errorf("equal results differ: %q", got)
	}
	two := Case{Want: want, Repeat: 2, First: 1, Then: Result{Status: 503}}
	if got := two.Check([]Result{ok, {Status: 503, Flag: "-", Attempts: 1}}); got != nil {
		t.Errorf("results as wanted, one after the other, differ: %q", got)
	}
	if two.Check([]Result{ok, ok}) == nil || two.Check([]Result{{Status: 503, Flag: "-", Attempts: 1}, ok}) == nil {
		t.Error("the second call is not looked at, or not for itself")
	}
	answer := with(func(r *Result) {
		r.Answer, r.Text, r.Flags, r.Details, r.Took = http.Header{"A": {"1"}}, "t", "DI", "d", 1
		r.Endpoint, r.Attempts = "", 0
		r.Copies = []Copy{{At: "m", Method: "GET", Host: "h", Path: "/", Header: http.Header{"B": {"2"}}, Body: "b"}}
	})
	local := Case{Want: Result{Answer: http.Header{"A": {"1"}, "C": nil}, Text: "t", Flags: "DI", Details: "d", Took: 1, Copies: answer.Copies}}
	if got := local.Check([]Result{answer}); got != nil {
		t.Errorf("equal answers differ: %q", got)
	}
	for name, edit := range map[string]func(r *Result, c *Copy){
		"value":          func(r *Result, _ *Copy) { r.Answer = http.Header{"A": {"2"}} },
		"another header": func(r *Result, _ *Copy) { r.Answer = http.Header{"A": {"1"}, "C": {"3"}} },
		"text":           func(r *Result, _ *Copy) { r.Text = "" },
		"flags":          func(r *Result, _ *Copy) { r.Flags = "FI" },
		"details":        func(r *Result, _ *Copy) { r.Details = "" },
		"took":           func(r *Result, _ *Copy) { r.Took = 2 },
		"asked":          func(r *Result, _ *Copy) { r.Endpoint = v1 },
		"tried":          func(r *Result, _ *Copy) { r.Attempts = 1 },
		"no copy":        func(r *Result, _ *Copy) { r.Copies = nil },
		"two copies":     func(r *Result, c *Copy) { r.Copies = []Copy{*c, *c} },
		"copy elsewhere": func(_ *Result, c *Copy) { c.At = "" },
		"copied method":  func(_ *Result, c *Copy) { c.Method = "PUT" },
		"copied host":    func(_ *Result, c *Copy) { c.Host = "" },
		"copied path":    func(_ *Result, c *Copy) { c.Path = "" },
		"copied header":  func(_ *Result, c *Copy) { c.Header = nil },
		"copied body":    func(_ *Result, c *Copy) { c.Body = "" },
	} {
		r := answer
		r.Copies = slices.Clone(answer.Copies)
		edit(&r, &r.Copies[0])
		if got := local.Check([]Result{r}); len(got) != 1 {
			t.Errorf("%s: %q, want one difference", name, got)
		}
	}
	for name, r := range differing {
		if got := one.Check([]Result{r}); len(got) != 1 {
			t.Errorf("%s: %q, want one difference", name, got)
		}
	}
	at := func(endpoints ...string) []Result {
		var rs []Result
		for _, e := range endpoints {
			rs = append(rs, with(func(r *Result) { r.Endpoint = e }))
		}
		return rs
	}
	for name, c := range map[string]struct {
		row  Case
		good []Result
		bad  []Result
	}{
		"cycle":         {Case{Repeat: 4, Cycle: []string{v1, v2}}, at(v2, v1, v2, v1), at(v2, v1, v1, v2)},
		"random":        {Case{Repeat: 4, Random: true}, at(v1, v1, v2, v1), at(v1, v2, v1, v2)},
		"random of one": {Case{Repeat: 4, Random: true}, at(v1, v2, v2, v2), at(v1, v1, v1, v1)},
		"shares":        {Case{Repeat: 400, Shares: map[string]float64{v1: 75, v2: 25}}, at(slices.Repeat([]string{v1, v2, v1, v1}, 100)...), at(slices.Repeat([]string{v1, v2, v1, v2, v1, v1, v2}, 58)[:400]...)},
		"shares of kinds": {Case{Repeat: 400, Shares: map[string]float64{byTheRule: 50, v1: 50, delayed: 50, copied + "m": 50}},
			slices.Repeat([]Result{{Flag: "-"}, {Flag: "-", Endpoint: v1, Took: 1, Copies: []Copy{{At: "m"}}}}, 200), slices.Repeat([]Result{{Flag: "-"}, {Flag: "-", Endpoint: v1, Copies: []Copy{{At: "m"}}}}, 200)},
		"shares not listed": {Case{Repeat: 1, Shares: map[string]float64{v1: 100}}, []Result{{Flag: "-", Endpoint: v1}}, []Result{{Flag: "-", Endpoint: v1, Took: 1}}},
		"shares of all":     {Case{Repeat: 4, Shares: map[string]float64{v1: 100}}, at(v1, v1, v1, v1), at(v1, v1, v1, v3)},
	} {
		if got := c.row.Check(c.good); len(got) != 0 {
			t.Errorf("%s: %q, want none", name, got)
		}
		if got := c.row.Check(c.bad); len(got) == 0 {
			t.Errorf("%s: not noticed", name)
		}
	}
}
