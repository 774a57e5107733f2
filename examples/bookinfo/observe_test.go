package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/dashboards"
	"github.com/heddlemesh/mesh/telemetry"
)

// observeEnv has TestObserve run, where everything is installed that it needs.
const observeEnv = "HEDDLE_OBSERVE"

// observeTime bounds all of it, which takes half a minute; nothing in it has a time of its own.
const observeTime = 9 * time.Minute

// scraped is a metric of which every process has one series: its points are the scrapes that went well.
const scraped = "heddle_metrics_series"

// observedRules send everybody to all versions, fail a part of the calls to details, and jason's to ratings. Nobody has book 7.
const observedRules = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 30}
    - {destination: {host: reviews, subset: v2}, weight: 40}
    - {destination: {host: reviews, subset: v3}, weight: 30}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: details}
spec:
  hosts: [details]
  http:
  - match: [{uri: {exact: /details/7}}]
    route: [{destination: {host: details, subset: v7}}]
  - fault: {abort: {percentage: {value: 20}, httpStatus: 503}}
    route: [{destination: {host: details, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings}
spec:
  hosts: [ratings]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 500}}
    route: [{destination: {host: ratings, subset: v1}}]
  - route: [{destination: {host: ratings, subset: v1}}]
`

// An observation is a Prometheus that watches BookInfo, and what was sent meanwhile.
type observation struct {
	*promServer
	app     *bookinfo
	tcp     *tcpPair
	targets int // that Prometheus watches
	sent    *tally
}

// TestObserve: a real Prometheus scrapes BookInfo, its programs in Go and those of other languages behind their sidecars, under a load that
// counts itself. What Istio's dashboards, Kiali and our own dashboards ask for is there, rates agree with the count, and no label
// of a workload of the mesh is missing or unknown.
func TestObserve(t *testing.T) {
	if os.Getenv(observeEnv) == "" {
		t.Skipf("%s is not set: .ci/run observe sets it", observeEnv)
	}
	prometheus, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed: ", err)
	}
	needs(t, python, node)
	ctx, cancel := context.WithTimeout(t.Context(), observeTime)
	defer cancel()
	b, err := start(ctx, settings{addr: "127.0.0.1:0", dir: t.TempDir(), languages: require, rules: observedRules, stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	tcp := startTCP(ctx, t)
	o := &observation{startPrometheus(ctx, t, prometheus, append(b.targets(), tcp.targets()...)), b, tcp, len(b.instances) + 2, newTally()}
	await(ctx, t, func() error {
		if n := o.sum(t, `sum(up{job="heddle"})`, time.Now()); int(n) != o.targets {
			return fmt.Errorf("%v of %d targets are up", n, o.targets)
		}
		return nil
	})
	o.load(ctx, t, 200, 4*time.Millisecond) // so that every series is there
	await(ctx, t, func() error {
		if missing := o.missing(t); len(missing) > 0 {
			o.load(ctx, t, 20, 4*time.Millisecond)
			return fmt.Errorf("nobody has gone from %s", strings.Join(missing, ", "))
		}
		return nil
	})
	before, tcpBefore := o.sent.clone(), o.tcp.calls.Load()
	_, began := o.settle(ctx, t)
	o.load(ctx, t, 800, 25*time.Millisecond)
	loaded := time.Now()
	ended, _ := o.settle(ctx, t)

	t.Run("rates", func(t *testing.T) { o.rates(t, before, tcpBefore, began, ended) })
	t.Run("istio", func(t *testing.T) { o.istio(t, began, loaded) })
	t.Run("dashboards", func(t *testing.T) { o.dashboards(t, began, loaded) })
	t.Run("rules", func(t *testing.T) { o.rules(t, ended) })
	t.Run("kiali", func(t *testing.T) { o.kiali(t, loaded) })
	t.Run("promtool", func(t *testing.T) { o.promtool(ctx, t) })
}

// A tally counts requests by what they asked for and their status. It is safe for concurrent use.
type tally struct {
	mu       sync.Mutex
	total    int
	statuses map[int]int
	kinds    map[string]int
}

func newTally() *tally { return &tally{statuses: make(map[int]int), kinds: make(map[string]int)} }

func (a *tally) add(kind string, status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total++
	a.statuses[status]++
	a.kinds[kind]++
}

func (a *tally) clone() *tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &tally{total: a.total, statuses: maps.Clone(a.statuses), kinds: maps.Clone(a.kinds)}
}

// What the load is made of: pages, some of jason, some that there are not, and three of the API.
const (
	pageKind, jasonKind, missingKind      = "page", "jason's page", "no page"
	reviewsKind, ratingsKind, nobodysKind = "reviews", "jason's ratings", "nobody's book"
)

func kindOf(n int) (kind, path, user string) {
	switch n % 10 {
	case 1, 6:
		return jasonKind, "/productpage", "jason"
	case 3:
		return missingKind, "/nowhere", ""
	case 5:
		return reviewsKind, reviewsPath, ""
	case 7:
		return nobodysKind, "/api/v1/products/7", ""
	case 8:
		return ratingsKind, "/api/v1/products/0/ratings", "jason"
	}
	return pageKind, "/productpage", ""
}

// load sends n requests, one each time, four at once at most, and counts their answers. Beside every tenth a connection is made that is not HTTP.
func (o *observation) load(ctx context.Context, t *testing.T, n int, each time.Duration) {
	t.Helper()
	browser := newBrowser()
	browser.Timeout = observeTime
	defer browser.CloseIdleConnections()
	pace := time.NewTicker(each)
	defer pace.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, 4)
	for i := range n {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-free }()
			kind, path, user := kindOf(i)
			header := make(http.Header)
			if user != "" {
				header.Set("Cookie", sessionCookie+"="+user)
			}
			status, _, err := fetchAs(ctx, browser, o.app.url(path), header)
			if err != nil {
				t.Errorf("%s: %v", kind, err)
				return
			}
			o.sent.add(kind, status)
			if i%10 == 0 {
				o.tcp.call(ctx, t)
			}
		})
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
	}
}

// bookinfoEdges are who calls whom, with the service.
var bookinfoEdges = [][3]string{
	{"productpage-v1", "details-v1", "details"},
	{"productpage-v1", "reviews-v1", "reviews"}, {"productpage-v1", "reviews-v2", "reviews"}, {"productpage-v1", "reviews-v3", "reviews"},
	{"reviews-v2", "ratings-v1", "ratings"}, {"reviews-v3", "ratings-v1", "ratings"},
}

// missing lists edges that nobody has gone along yet, of each instance of the callee's.
func (o *observation) missing(t *testing.T) []string {
	t.Helper()
	var missing []string
	for _, e := range bookinfoEdges {
		if o.sum(t, fmt.Sprintf(`sum(istio_requests_total{reporter="source",source_workload=%q,destination_workload=%q})`, e[0], e[1]), time.Now()) == 0 {
			missing = append(missing, e[0]+" to "+e[1])
		}
	}
	for _, i := range o.app.instances {
		if o.sum(t, fmt.Sprintf(`sum(istio_requests_total{reporter="destination",instance=%q})`, i.name), time.Now()) == 0 {
			missing = append(missing, "somewhere to "+i.name)
		}
		if ratings := i.service == "reviews" && i.version != "v1"; ratings && o.sum(t, fmt.Sprintf(`sum(istio_requests_total{reporter="source",instance=%q})`, i.name), time.Now()) == 0 {
			missing = append(missing, i.name+" to ratings")
		}
	}
	return missing
}

// settle waits until all that was sent has been counted on both sides, since quiet, and every target has been scraped once more, by then.
func (o *observation) settle(ctx context.Context, t *testing.T) (quiet, then time.Time) {
	t.Helper()
	await(ctx, t, func() error {
		now := time.Now()
		if n := o.sum(t, `sum(istio_requests_total{reporter="destination",destination_workload="productpage-v1"})`, now); int(n) != o.sent.clone().total {
			return fmt.Errorf("productpage has counted %v requests of %d", n, o.sent.total)
		}
		if err := o.tcpCounted(t, now); err != nil {
			return err
		}
		for _, service := range []string{"details", "reviews", "ratings"} {
			match := fmt.Sprintf(`destination_service_name=%q,response_flags="-"`, service)
			from, to := o.sum(t, `sum(istio_requests_total{reporter="source",`+match+`})`, now), o.sum(t, `sum(istio_requests_total{reporter="destination",`+match+`})`, now)
			if from != to {
				return fmt.Errorf("%v requests are sent to %s, and %v received", from, service, to)
			}
		}
		return nil
	})
	quiet = time.Now()
	await(ctx, t, func() error {
		if n := o.sum(t, "count(timestamp("+scraped+") >= "+seconds(quiet)+")", time.Now()); int(n) != o.targets {
			return fmt.Errorf("%v targets of %d have been scraped", n, o.targets)
		}
		return nil
	})
	return quiet, time.Now()
}

// increases adds up what a selector's counters have gained between two quiet moments, by increase() and by rate(), each target's between
// two of its own scrapes, so that nothing is extrapolated.
func (o *observation) increases(t *testing.T, began, ended time.Time, metric, match string) (increase, rate float64) {
	t.Helper()
	found := o.instant(t, scraped+"[30m]", time.Now())
	if len(found) != o.targets {
		t.Fatalf("%d targets of %d", len(found), o.targets)
	}
	for _, target := range found {
		times, _ := target.points()
		first, last := -1.0, -1.0
		for _, at := range times {
			if at <= float64(began.UnixMilli())/1000 {
				first = at
			}
			if last < 0 && at >= float64(ended.UnixMilli())/1000 {
				last = at
			}
		}
		if first < 0 || last <= first {
			t.Fatalf("%s has no scrapes at both ends: %v to %v", target.Metric["instance"], first, last)
		}
		window := math.Round((last-first)*1000) + 1
		selector := fmt.Sprintf("(%s{instance=%q,%s}[%.0fms])", metric, target.Metric["instance"], match, window)
		at := time.UnixMilli(int64(math.Round(last * 1000)))
		increase += o.sum(t, "sum(increase"+selector+")", at)
		rate += o.sum(t, "sum(rate"+selector+")", at) * window / 1000
	}
	return increase, rate
}

// rates holds what Prometheus makes of the counters against what the load has counted.
func (o *observation) rates(t *testing.T, before *tally, tcpBefore int64, began, ended time.Time) {
	const within = 0.01
	now := o.sent.clone()
	gained := func(kinds ...string) (n int) {
		for _, k := range kinds {
			n += now.kinds[k] - before.kinds[k]
		}
		return n
	}
	agreeOn := func(what, metric, match string, want int) {
		t.Helper()
		increase, rate := o.increases(t, began, ended, metric, match)
		if want == 0 || math.Abs(increase-float64(want)) > within*float64(want) || math.Abs(rate-float64(want)) > within*float64(want) {
			t.Errorf("%s: counted %d, increase() says %.2f, rate() %.2f", what, want, increase, rate)
			return
		}
		t.Logf("%s: counted %d, increase() says %.2f, rate() %.2f", what, want, increase, rate)
	}
	agree := func(what, match string, want int) {
		t.Helper()
		agreeOn(what, telemetry.RequestCount, match, want)
	}
	const front = `reporter="destination",destination_workload="productpage-v1"`
	agree("productpage", front, now.total-before.total)
	for _, code := range slices.Sorted(maps.Keys(now.statuses)) {
		agree(fmt.Sprint("productpage, ", code), fmt.Sprintf(`%s,response_code="%d"`, front, code), now.statuses[code]-before.statuses[code])
	}
	const asked = `reporter="source",source_workload="productpage-v1",destination_service_name=`
	agree("productpage to details", asked+`"details"`, gained(pageKind, jasonKind, nobodysKind))
	agree("productpage to reviews", asked+`"reviews"`, gained(pageKind, jasonKind, reviewsKind))
	agree("productpage to ratings", asked+`"ratings"`, gained(ratingsKind))
	for _, e := range bookinfoEdges {
		sent, _ := o.increases(t, began, ended, telemetry.RequestCount, fmt.Sprintf(`reporter="source",source_workload=%q,destination_workload=%q,response_flags="-"`, e[0], e[1]))
		agree(e[0]+" to "+e[1]+", received", fmt.Sprintf(`reporter="destination",source_workload=%q,destination_workload=%q`, e[0], e[1]), int(math.Round(sent)))
	}
	calls := int(o.tcp.calls.Load() - tcpBefore)
	for _, reporter := range []string{"source", "destination"} {
		for metric, each := range tcpCounts {
			agreeOn(metric+", "+reporter, metric, fmt.Sprintf(tcpEdge, reporter), calls*each)
		}
	}
}

// istio has all queries of Istio's dashboards give data, of all the mesh and of one service and workload.
func (o *observation) istio(t *testing.T, from, to time.Time) {
	everything := map[string][]string{"reporter": {"destination", "source"}, "service": {".*"}, "workload": {".*"}, "namespace": {".*"}}
	one := map[string]map[string][]string{
		"mesh":     everything,
		"service":  {"reporter": {"destination", "source"}, "service": {dashboards.Escape("reviews.default.svc.cluster.local")}, "workload": {".*"}, "namespace": {"default"}},
		"workload": {"reporter": {"destination", "source"}, "service": {".*"}, "workload": {"reviews-v2"}, "namespace": {"default"}},
	}
	all := istioQueries()
	for _, q := range all {
		o.wantsData(t, "all: "+q.board+": "+q.panel, q.expr, everything, from, to)
		o.wantsData(t, "one: "+q.board+": "+q.panel, q.expr, ofTCP(q.expr, one[q.board]), from, to)
	}
	t.Logf("%d queries of Istio's dashboards", len(all))
}

func (o *observation) wantsData(t *testing.T, name, expr string, values map[string][]string, from, to time.Time) {
	t.Helper()
	q, err := dashboards.Expand(expr, values)
	if err != nil {
		t.Error(err)
		return
	}
	if !hasData(o.over(t, q, from, to)) {
		t.Errorf("%s: no data: %s", name, q)
	}
}

// dashboards has all queries of ours give data, with their variables as they are at first and with each single value that Prometheus has.
func (o *observation) dashboards(t *testing.T, from, to time.Time) {
	files, err := filepath.Glob(deployed + "grafana/*.json")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	queries := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		board, err := dashboards.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		values := map[string][]string{"__rate_interval": {"1m"}, "reporter": {"destination"}}
		for _, v := range board.Templating.List {
			if v.Type == "query" {
				values[v.Name] = []string{v.AllValue}
				o.resolve(t, board.UID, &v, values)
			}
		}
		settings := []map[string][]string{values, with(values, "reporter", "source")}
		if board.UID == "heddle-workload" {
			settings = append(settings, with(values, "workload", "productpage-v1"))
		}
		if board.UID == "heddle-service" {
			settings = append(settings, with(with(values, "service", dashboards.Escape("details.default.svc.cluster.local")), "reporter", "source"))
		}
		for _, p := range board.Panels {
			for _, q := range p.Targets {
				queries++
				for _, s := range settings {
					o.wantsData(t, board.UID+": "+p.Title, q.Expr, ofTCP(q.Expr, s), from, to)
				}
			}
		}
	}
	t.Logf("%d queries of our dashboards", queries)
}

func with(values map[string][]string, name, value string) map[string][]string {
	values = maps.Clone(values)
	values[name] = []string{value}
	return values
}

// resolve has Prometheus give the values of a variable: none of them is unknown, and there are some.
func (o *observation) resolve(t *testing.T, uid string, v *dashboards.Variable, values map[string][]string) {
	t.Helper()
	selector, label, err := v.Values()
	if err == nil {
		selector, err = dashboards.Expand(selector, values)
	}
	if err != nil {
		t.Error(err)
		return
	}
	var found []string
	o.ask(t, "label/"+label+"/values", url.Values{"match[]": {selector}}, &found)
	t.Logf("%s: $%s is one of %s", uid, v.Name, strings.Join(found, ", "))
	if len(found) == 0 {
		t.Errorf("%s: $%s has no value", uid, v.Name)
	}
}

// rules: Prometheus evaluates all that ship, and those that record do.
func (o *observation) rules(t *testing.T, at time.Time) {
	var r struct {
		Groups []struct {
			Rules []struct{ Type, Name, Health, LastError, State string }
		}
	}
	o.ask(t, "rules", nil, &r)
	n := 0
	for _, g := range r.Groups {
		for _, one := range g.Rules {
			n++
			switch {
			case one.Health != "ok":
				t.Errorf("%s: %s %s", one.Name, one.Health, one.LastError)
			case one.Type == "recording" && !hasData(o.instant(t, one.Name, at)):
				t.Errorf("%s records nothing", one.Name)
			case (one.Name == "HeddleTargetDown" || one.Name == "HeddleConfigurationRefused") && one.State != "inactive":
				t.Errorf("%s is %s", one.Name, one.State)
			}
		}
	}
	t.Logf("%d rules", n)
}

// kiali makes edges of the metrics as Kiali does. No label is missing, and none is unknown but those of the browser, whom nobody knows,
// of callees that were never asked, and of what the caller's side leaves open in Istio too.
func (o *observation) kiali(t *testing.T, at time.Time) {
	never := make(map[[2]string]bool) // callers and services between which a fault stood, or nobody
	for _, s := range o.instant(t, `istio_requests_total{reporter="source",response_flags=~"FI|NC"}`, at) {
		never[[2]string{s.Metric["source_workload"], s.Metric["destination_service"]}] = true
	}
	edges := make(map[[3]string]bool)
	for n, query := range kialiQueries {
		q, err := dashboards.Parse(query)
		if err != nil {
			t.Fatal(err)
		}
		found := o.instant(t, query, at)
		if !hasData(found) {
			t.Errorf("no edges: %s", query)
		}
		for _, s := range found {
			m := s.Metric
			outside := m["source_workload"] == telemetry.Unknown && m["destination_workload"] == "productpage-v1"
			unasked := m["destination_workload"] == telemetry.Unknown && never[[2]string{m["source_workload"], m["destination_service"]}]
			for _, label := range q.Grouping {
				value, there := m[label]
				switch {
				case label == "le" || label == "grpc_response_status" && m["request_protocol"] == "http":
				case !there:
					t.Errorf("an edge has no %s: %v", label, m)
				case value != telemetry.Unknown:
				case outside && (strings.HasPrefix(label, "source_") || label == "destination_principal"):
				case unasked && strings.HasPrefix(label, "destination_") && !strings.HasPrefix(label, "destination_service"):
				default:
					t.Errorf("query %d: an edge has an unknown %s: %v", n, label, m)
				}
			}
			if !outside && !unasked {
				edges[[3]string{m["source_workload"], m["destination_workload"], m["destination_service_name"]}] = true
			}
		}
	}
	for _, e := range bookinfoEdges {
		if !edges[e] {
			t.Errorf("there is no edge %v", e)
		}
		delete(edges, e)
	}
	for e := range edges {
		t.Errorf("there is an edge %v", e)
	}
}

// promtool reads what each process says. Only names that are Istio's and Envoy's are not as it wants them.
func (o *observation) promtool(ctx context.Context, t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range o.app.instances {
		var text string
		if err := get(ctx, o.client, i.admin()+"/stats/prometheus", func(body []byte) error { text = string(body); return nil }); err != nil {
			t.Error(err)
			continue
		}
		cmd := exec.CommandContext(ctx, tool, "check", "metrics")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if !strings.HasPrefix(line, "istio_request_duration_milliseconds ") && !strings.HasPrefix(line, "envoy_") {
				t.Errorf("%s: %s (%v)", i.name, line, err)
			}
		}
	}
}
