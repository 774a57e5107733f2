package main

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
)

// The tests here give the judges of -check what should be refused: a scenario that cannot fail says nothing.

var start0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// at is a good visit, sent that many milliseconds after the start and answered 10 ms later.
func at(ms int, version string) visit {
	sent := start0.Add(time.Duration(ms) * time.Millisecond)
	return visit{sent: sent, wrote: sent, done: sent.Add(10 * time.Millisecond), status: http.StatusOK, version: version}
}

func but(v visit, change func(*visit)) visit {
	change(&v)
	return v
}

// visitsOf gives so many good visits of each version.
func visitsOf(v1, v2, v3 int) []visit {
	var all []visit
	for version, n := range map[string]int{"v1": v1, "v2": v2, "v3": v3} {
		for range n {
			all = append(all, at(0, version))
		}
	}
	return all
}

// expects holds a judge's error against what it should say, "" for none.
func expects(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("got %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("got %v, want %q", err, want)
	}
}

func reviewsBody(pod, first, second string) string {
	return fmt.Sprintf(`{"id":"0","podname":%q,"clustername":"null","reviews":[{"reviewer":"Reviewer1","text":"a"%s},{"reviewer":"Reviewer2","text":"b"%s}]}`, pod, first, second)
}

func TestReadReviews(t *testing.T) {
	t.Parallel()
	stars := func(n int, color string) string { return fmt.Sprintf(`,"rating":{"stars":%d,"color":%q}`, n, color) }
	none := `,"rating":{"error":"Ratings service is currently unavailable"}`
	for name, test := range map[string]struct {
		body, version string
		unrated       bool
	}{
		"v1":                       {body: reviewsBody("reviews-v1", "", ""), version: "v1"},
		"v2":                       {body: reviewsBody("reviews-v2", stars(5, "black"), stars(4, "black")), version: "v2"},
		"v2 in Java":               {body: reviewsBody("reviews-v2-java", stars(5, "black"), stars(4, "black")), version: "v2"},
		"v3":                       {body: reviewsBody("reviews-v3", stars(5, "red"), stars(4, "red")), version: "v3"},
		"v3 without ratings":       {body: reviewsBody("reviews-v3", none, none), version: "v3", unrated: true},
		"v1 without ratings":       {body: reviewsBody("reviews-v1", none, none)},
		"stars from v1":            {body: reviewsBody("reviews-v1", stars(5, "black"), stars(4, "black"))},
		"no stars from v2":         {body: reviewsBody("reviews-v2", "", "")},
		"other words":              {body: reviewsBody("reviews-v2", `,"rating":{"error":"oops"}`, `,"rating":{"error":"oops"}`)},
		"one with, one without":    {body: reviewsBody("reviews-v2", stars(5, "black"), none)},
		"two colours":              {body: reviewsBody("reviews-v2", stars(5, "black"), stars(4, "red"))},
		"wrong number of stars":    {body: reviewsBody("reviews-v2", stars(4, "black"), stars(4, "black"))},
		"a rating without stars":   {body: reviewsBody("reviews-v2", `,"rating":{}`, `,"rating":{}`)},
		"no reviews":               {body: `{"podname":"reviews-v1","reviews":[]}`},
		"an apology":               {body: `{"error":"Sorry"}`},
		"half an answer":           {body: reviewsBody("reviews-v1", "", "")[:80]},
		"nobody's answer":          {body: reviewsBody("", "", "")},
		"somebody else's reviews":  {body: strings.Replace(reviewsBody("reviews-v1", "", ""), "Reviewer2", "Nobody", 1)},
		"one reviewer, two colour": {body: reviewsBody("reviews-v3", stars(5, "black"), stars(4, "black"))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			version, without, err := readReviews([]byte(test.body))
			if version != test.version || without != test.unrated || (err == nil) != (test.version != "") {
				t.Errorf("got %q, %t, %v", version, without, err)
			}
		})
	}
}

func TestJudgeShares(t *testing.T) {
	t.Parallel()
	half := []share{{"v1", 50}, {"v3", 50}}
	for name, test := range map[string]struct {
		visits   []visit
		requests int
		want     []share
		err      string
	}{
		"even":                 {visitsOf(500, 0, 500), 1000, half, ""},
		"just within":          {visitsOf(545, 0, 455), 1000, half, ""},
		"off":                  {visitsOf(560, 0, 440), 1000, half, "expected 50 % of 1000 answers from v1"},
		"all to one":           {visitsOf(0, 0, 1000), 1000, half, "found 0.0 %"},
		"one from a third":     {visitsOf(500, 1, 499), 1000, half, "expected 0 % of 1000 answers from v2"},
		"all to v1":            {visitsOf(500, 0, 0), 500, []share{{"v1", 100}}, ""},
		"one that is not v1's": {visitsOf(499, 1, 0), 500, []share{{"v1", 100}}, "expected 100 %"},
		"80/20 as 50/50":       {visitsOf(500, 500, 0), 1000, []share{{"v1", 80}, {"v2", 20}}, "expected 80 %"},
		"an answer missing":    {visitsOf(500, 0, 499), 1000, half, "expected 1000 answers, found 999"},
		"a 503":                {append(visitsOf(500, 0, 499), visit{status: 503}), 1000, half, "1 faults in 1000 answers, the first: status 503"},
		"an error":             {append(visitsOf(500, 0, 499), visit{err: errors.New("EOF")}), 1000, half, "the first: EOF"},
		"no stars":             {append(visitsOf(500, 0, 499), visit{status: 200, version: "v3", unrated: true}), 1000, half, "without their stars"},
		"nothing at all":       {nil, 1000, half, "expected 1000 answers, found 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := judgeShares(test.visits, test.requests, test.want...)
			expects(t, err, test.err)
		})
	}
}

func TestJudgePage(t *testing.T) {
	t.Parallel()
	const black, red = `<span class="stars black">★</span>`, `<span class="stars red">★</span>`
	greeting := func(name string) string { return `<span class="name">` + name + `</span>` }
	page := func(parts ...string) string { return "PublisherA " + strings.Join(parts, " ") }
	for name, test := range map[string]struct {
		page, err string
		signedIn  bool
		black     bool
	}{
		"jason":                   {page(greeting("jason"), black, black, "<code>reviews-v2-java</code>"), "", true, true},
		"jason without stars":     {page(greeting("jason"), "<code>reviews-v1</code>"), "expected reviews from reviews-v2", true, true},
		"jason with red stars":    {page(greeting("jason"), red, red, "<code>reviews-v2</code>"), "expected 2 reviews with stars", true, true},
		"jason with one review":   {page(greeting("jason"), black, "<code>reviews-v2</code>"), "expected 2 reviews with stars", true, true},
		"jason is not greeted":    {page(black, black, "<code>reviews-v2</code>"), "expected the page to greet", true, true},
		"somebody else":           {page(greeting("jason"), "<code>reviews-v1</code>"), "", true, false},
		"somebody else sees v2":   {page(greeting("jason"), black, black, "<code>reviews-v2</code>"), "expected reviews from reviews-v1", true, false},
		"a stranger is greeted":   {page(greeting("jason"), "<code>reviews-v1</code>"), "expected the page to greet", false, false},
		"a stranger sees stars":   {page(red, "<code>reviews-v1</code>"), "expected 0 reviews with stars", false, false},
		"no reviews":              {page("Error fetching product reviews!"), "Error fetching product reviews", false, false},
		"no details":              {"<code>reviews-v1</code>", "expected the details", false, false},
		"a page of somebody else": {page(greeting("jasonx"), black, black, "<code>reviews-v2</code>"), "expected the page to greet", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expects(t, judgePage(test.page, "jason", test.signedIn, test.black), test.err)
		})
	}
}

func TestJudgeCanary(t *testing.T) {
	t.Parallel()
	// Two seconds before the change at 80/20, three after it, 200 a second.
	visits := func(lastV1 int) []visit {
		var all []visit
		for n := range 1000 {
			ms, version := 5*n, "v1"
			if n%5 == 0 || ms > lastV1 {
				version = "v3"
			}
			all = append(all, at(ms, version))
		}
		return all
	}
	saved := start0.Add(2 * time.Second)
	for name, test := range map[string]struct {
		visits []visit
		err    string
	}{
		"in time":            {visits(2100), ""},
		"at the last moment": {visits(2985), ""},
		"too late":           {visits(3000), "expected the last answer of v1 within 1s"},
		"never":              {visits(5000), "expected the last answer of v1 within 1s"},
		"one straggler":      {append(visits(2100), at(4000, "v1")), "found it after 2.0 s"},
		"one failed":         {append(visits(2100), visit{sent: start0, done: saved, status: 503}), "expected 0 failed requests"},
		"one of v2":          {append(visits(2100), at(10, "v2")), "expected nothing from v2"},
		"no v1 before":       {visits(-1), "expected 80 % v1 before"},
		"nothing after":      {visits(2000)[:390], "found none"},
		"slowly":             {everyNth(visits(2100), 5), "too slow"},
		"no visits":          {nil, "too slow"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := judgeCanary(test.visits, saved)
			expects(t, err, test.err)
		})
	}
}

func everyNth(all []visit, n int) []visit {
	var some []visit
	for i := 0; i < len(all); i += n {
		some = append(some, all[i])
	}
	return some
}

func TestJudgeMissing(t *testing.T) {
	t.Parallel()
	good := mesh.Failure{Reporter: "source", Status: 503, Flags: "NC",
		Error: "mesh: … (flag NC, route everybody): subset v9 of reviews.default.svc.cluster.local is not defined"}
	with := func(change func(*mesh.Failure)) []mesh.Failure { f := good; change(&f); return []mesh.Failure{f} }
	const wrong = "expected 503, NC"
	for name, test := range map[string]struct {
		shown []mesh.Failure
		err   string
	}{
		"good":           {[]mesh.Failure{good, {}}, ""},
		"nothing":        {nil, wrong},
		"another flag":   {with(func(f *mesh.Failure) { f.Flags = "UH" }), wrong},
		"another status": {with(func(f *mesh.Failure) { f.Status = 404 }), wrong},
		"inbound":        {with(func(f *mesh.Failure) { f.Reporter = "destination" }), wrong},
		"no subset":      {with(func(f *mesh.Failure) { f.Error = strings.ReplaceAll(f.Error, "v9", "") }), wrong},
		"no host":        {with(func(f *mesh.Failure) { f.Error = strings.ReplaceAll(f.Error, "reviews.default", "") }), wrong},
		"no rule":        {with(func(f *mesh.Failure) { f.Error = strings.ReplaceAll(f.Error, "everybody", "") }), wrong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := judgeMissing(test.shown)
			expects(t, err, test.err)
		})
	}
}

func TestJudgeMissingLog(t *testing.T) {
	t.Parallel()
	call := "answered by the proxy flag=NC details=" + `"(flag NC, route everybody): subset v9 of reviews.default.svc.cluster.local"`
	rule := `(VirtualService default/reviews mesh.d/reviews.yaml:16) subset "v9" of reviews.default.svc.cluster.local is not defined; calls get 503, flag NC`
	const wrong = "expected a log line"
	for name, test := range map[string]struct {
		line    string
		sidecar bool
		err     string
	}{
		"a sidecar's call":           {call, true, ""},
		"a program's rule":           {rule, false, ""},
		"a sidecar with a rule only": {rule, true, wrong},
		"no subset":                  {strings.ReplaceAll(call, "v9", ""), true, wrong},
		"no flag":                    {strings.ReplaceAll(call, "flag=NC", ""), true, wrong},
		"no rule":                    {strings.ReplaceAll(call, "everybody", ""), true, wrong},
		"no rule's name":             {strings.ReplaceAll(rule, "VirtualService", ""), false, wrong},
		"nothing":                    {"", false, wrong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := judgeMissingLog([]string{"before", test.line, "after"}, test.sidecar)
			expects(t, err, test.err)
		})
	}
}

func TestJudgeOutage(t *testing.T) {
	t.Parallel()
	none := but(at(100, "v3"), func(v *visit) { v.unrated = true })
	const wrong = "expected reviews in every answer"
	for name, test := range map[string]struct {
		visits []visit
		err    string
	}{
		"as it should":          {[]visit{at(0, "v2"), none, at(200, "v3")}, ""},
		"never down":            {[]visit{at(0, "v2"), at(200, "v3")}, "found none of 2"},
		"a 500":                 {[]visit{at(0, "v2"), none, {status: 500}}, wrong},
		"an error":              {[]visit{at(0, "v2"), none, {err: errors.New("EOF")}}, wrong},
		"a 503 that says so":    {[]visit{at(0, "v2"), none, but(none, func(v *visit) { v.status = 503 })}, wrong},
		"one that hangs":        {[]visit{none, but(at(0, "v2"), func(v *visit) { v.done = v.sent.Add(outageBound + 1) })}, "expected every answer within 6s"},
		"all in their own time": {[]visit{at(0, "v2"), but(none, func(v *visit) { v.done = v.sent.Add(2500 * time.Millisecond) })}, "expected half of the answers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := judgeOutage(test.visits)
			expects(t, err, test.err)
		})
	}
}

func TestJudgeRefusal(t *testing.T) {
	t.Parallel()
	good, bad := "a\nb\nc\n", "a\nb\nd\n"
	status := func(all ...configFinding) meshStatus {
		return meshStatus{Refused: &struct{ Findings []configFinding }{all}}
	}
	for name, test := range map[string]struct {
		status meshStatus
		err    string
	}{
		"the line":         {status(configFinding{File: "mesh.d/other.yaml", Line: 3}, configFinding{File: "mesh.d/reviews.yaml", Line: 3}), ""},
		"another line":     {status(configFinding{File: "mesh.d/reviews.yaml", Line: 4}), "expected a finding at reviews.yaml:3"},
		"another file":     {status(configFinding{File: "mesh.d/other.yaml", Line: 3}), "expected a finding at reviews.yaml:3"},
		"nothing found":    {status(), "expected a finding"},
		"not even refused": {meshStatus{}, "found no refusal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			where, err := judgeRefusal(test.status, good, bad)
			expects(t, err, test.err)
			if err == nil && where != "reviews.yaml:3" {
				t.Errorf("got %s", where)
			}
		})
	}
}

func TestJudgeEnding(t *testing.T) {
	t.Parallel()
	ms := func(n int) time.Time { return start0.Add(time.Duration(n) * time.Millisecond) }
	slow := func(n int) visit { return but(at(n, ""), func(v *visit) { v.done = v.sent.Add(slowness) }) }
	refused := but(at(1200, ""), func(v *visit) { v.wrote, v.status, v.err = time.Time{}, 0, errors.New("connection refused") })
	changed := func(change func(*ending)) *ending {
		e := &ending{signalled: ms(1000), open: ms(1010), closed: ms(1030), forms: make([]error, 3),
			pages:  []visit{slow(500), slow(600), slow(700), slow(800)},
			visits: []visit{at(0, "v1"), at(1005, "v1"), refused}}
		change(e)
		return e
	}
	for name, test := range map[string]struct {
		change func(*ending)
		err    string
	}{
		"as it should":            {func(*ending) {}, ""},
		"one later one served":    {func(e *ending) { e.visits = append(e.visits, at(1020, "v1")) }, ""},
		"one later one cut off":   {func(e *ending) { e.visits = append(e.visits, but(refused, func(v *visit) { v.wrote = ms(1011) })) }, ""},
		"a form cut off":          {func(e *ending) { e.forms[1] = errors.New("EOF") }, "expected every form under way to end as always, found EOF"},
		"forms that did not wait": {func(e *ending) { e.early = 3 }, "found 3 that had ended"},
		"a page cut off": {func(e *ending) {
			e.pages = append(e.pages, but(slow(900), func(v *visit) { v.err = errors.New("EOF") }))
		}, "pages: expected requests sent while the listener was open"},
		"a page without details": {func(e *ending) { e.pages[0].err = errors.New("expected the details") }, "expected the details"},
		"an accepted one cut off": {func(e *ending) {
			e.visits = append(e.visits, but(at(1005, ""), func(v *visit) { v.status, v.err = 0, errors.New("reset") }))
		}, "reviews: expected requests sent while"},
		"a later one with a 503": {func(e *ending) { e.visits = append(e.visits, but(at(1020, ""), func(v *visit) { v.status = 503 })) }, "expected later requests to be answered as always or turned away"},
		"half an answer later": {func(e *ending) {
			e.visits = append(e.visits, but(at(1020, ""), func(v *visit) { v.err = errors.New("unexpected EOF") }))
		}, "answered as always or turned away"},
		"nobody turned away":    {func(e *ending) { e.visits = e.visits[:2] }, "expected later requests to be turned away"},
		"nothing at the signal": {func(e *ending) { e.signalled = ms(400) }, "found 0 when the signal came"},
		"nothing at the end":    {func(e *ending) { e.closed = ms(3000) }, "0 when the listener closed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := changed(test.change).judge()
			expects(t, err, test.err)
		})
	}
}

func TestJudgeTraces(t *testing.T) {
	t.Parallel()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	all := func(change func([]traceHit) []traceHit) []traceHit {
		var hits []traceHit
		for _, s := range []string{"productpage", "details", "reviews", "ratings"} {
			hits = append(hits, traceHit{service: s, instance: s + "-v1", traceparent: parent, requestID: "id-1"})
		}
		return change(hits)
	}
	same := func(h []traceHit) []traceHit { return h }
	for name, test := range map[string]struct {
		sent traceRequest
		hits []traceHit
		err  string
	}{
		"made":               {traceRequest{traceparent: parent}, all(same), ""},
		"kept":               {traceRequest{parent, "id-1"}, all(same), ""},
		"twice at a service": {traceRequest{parent, "id-1"}, all(func(h []traceHit) []traceHit { return append(h, h[2]) }), ""},
		"not kept":           {traceRequest{parent, "mine"}, all(same), "expected x-request-id mine to stay"},
		"not at ratings":     {traceRequest{traceparent: parent}, all(func(h []traceHit) []traceHit { return h[:3] }), "at ratings"},
		"not at productpage": {traceRequest{traceparent: parent}, all(func(h []traceHit) []traceHit { return h[1:] }), "at productpage"},
		"nowhere":            {traceRequest{traceparent: parent}, nil, "at productpage"},
		"another sampling":   {traceRequest{traceparent: parent}, all(func(h []traceHit) []traceHit { h[1].traceparent = strings.Replace(parent, "-01", "-00", 1); return h }), "details-v1: expected traceparent"},
		"none made":          {traceRequest{traceparent: parent}, all(func(h []traceHit) []traceHit { return noIDs(h) }), `found [""]`},
		"one without":        {traceRequest{traceparent: parent}, all(func(h []traceHit) []traceHit { h[3].requestID = ""; return h }), "expected one x-request-id"},
		"two of them":        {traceRequest{traceparent: parent}, all(func(h []traceHit) []traceHit { h[3].requestID = "id-2"; return h }), "expected one x-request-id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := judgeTraces([]traceRequest{test.sent}, map[string][]traceHit{traceID(parent): test.hits})
			expects(t, err, test.err)
		})
	}
	t.Run("the same for two requests", func(t *testing.T) {
		t.Parallel()
		other := strings.Replace(parent, "0af7", "1af7", 1)
		err := judgeTraces([]traceRequest{{traceparent: parent}, {traceparent: other}},
			map[string][]traceHit{traceID(parent): all(same), traceID(other): all(same)})
		expects(t, err, "found id-1 twice")
	})
}

func noIDs(hits []traceHit) []traceHit {
	for i := range hits {
		hits[i].requestID = ""
	}
	return hits
}

func TestUnvisited(t *testing.T) {
	t.Parallel()
	all := []instanceInfo{{name: "reviews-v1"}, {name: "reviews-v2"}, {name: "reviews-v2-java"}}
	got := unvisited(all, map[string][]traceHit{"a": {{instance: "reviews-v2"}}})
	if len(got) != 1 || got[0] != "reviews-v2-java" {
		t.Errorf("got %v", got)
	}
}

// TestCheckFlags: flags that do not go together are refused, and a name that no scenario has.
func TestCheckFlags(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-check":                   "",
		"-check -run canary -v":    "",
		"-addr :1 -config d":       "",
		"-check -addr 127.0.0.1:1": "-addr is not for -check",
		"-check -config d":         "-config is not for -check",
		"-run canary":              "-run goes with -check",
		"-v":                       "-v goes with -check",
	} {
		set := flag.NewFlagSet("bookinfo", flag.ContinueOnError)
		set.String("addr", "", "")
		set.String("config", "", "")
		var f checkFlags
		f.register(set)
		if err := set.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		expects(t, f.misused(set), want)
	}
	if _, err := choose(regexp.MustCompile("nothing"), false); err == nil || !strings.Contains(err.Error(), "there are all-to-v1,") {
		t.Errorf("got %v", err)
	}
	if chosen, err := choose(regexp.MustCompile("^shares"), false); err != nil || len(chosen) != 2 {
		t.Errorf("got %d, %v", len(chosen), err)
	}
}

// TestCheck runs quick scenarios with everything in Go, and one that cannot pass.
func TestCheck(t *testing.T) {
	t.Parallel()
	notes, err := os.Create(t.TempDir() + "/notes")
	if err != nil {
		t.Fatal(err)
	}
	defer notes.Close()
	var out strings.Builder
	s := checkSettings{languages: off, only: regexp.MustCompile("all-to-v1|missing|sigterm|trace|scenarios/(blue|a-b|mirror|abort|affinity|rate|jwt)"), verbose: true, out: &out, notes: notes}
	if err := runCheck(t.Context(), s); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	for _, want := range []string{"PASS  all-to-v1", "PASS  missing-subset", "PASS  sigterm", "SKIP  sigterm", "PASS  trace", "SKIP  trace", "no Python",
		"PASS  scenarios/mirror", "PASS  scenarios/abort", "PASS  scenarios/rate-limit", "PASS  scenarios/jwt", "11 passed, 0 failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}
