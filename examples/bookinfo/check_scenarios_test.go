package main

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/transport"
)

// As in check_test.go: what the judges of the scenarios should refuse.

func TestReadPage(t *testing.T) {
	t.Parallel()
	const black, red, none = `<span class="stars black">★</span>`, `<span class="stars red">★</span>`, `<span class="unrated">` + unrated + `</span>`
	pod := func(name string) string { return "Reviews served by: <code>" + name + "</code>" }
	page := func(parts ...string) string { return "PublisherA " + strings.Join(parts, " ") }
	for name, test := range map[string]struct{ page, reviews, pod, err string }{
		"no stars":                 {page(pod("reviews-v1")), "no stars", "reviews-v1", ""},
		"black":                    {page(black, black, pod("reviews-v2-java")), "black", "reviews-v2-java", ""},
		"red":                      {page(red, red, pod("reviews-v3")), "red", "reviews-v3", ""},
		"unrated":                  {page(none, none, pod("reviews-v2")), unrated, "reviews-v2", ""},
		"no reviews":               {page(noReviews), noReviews, "", ""},
		"no details":               {noDetails + pod("reviews-v1"), "no stars", "reviews-v1", ""},
		"neither":                  {noDetails + noReviews, noReviews, "", ""},
		"details and none":         {page(noDetails, pod("reviews-v1")), "", "", "details"},
		"nothing of details":       {pod("reviews-v1"), "", "", "details"},
		"nothing of reviews":       {page(), "", "", "reviews"},
		"reviews and none":         {page(noReviews, pod("reviews-v1")), "", "", "reviews"},
		"one review":               {page(black, pod("reviews-v2")), "", "", "stars"},
		"two colours":              {page(black, black, red, red, pod("reviews-v2")), "", "", "stars"},
		"stars and none":           {page(red, none, pod("reviews-v3")), "", "", "stars"},
		"an error of another kind": {"Internal Server Error", "", "", "details"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := readPage(test.page)
			if test.err != "" {
				test.err = "the page makes no sense, by its " + test.err
			}
			expects(t, v.err, test.err)
			if v.reviews != test.reviews || v.pod != test.pod || v.err == nil && v.details != strings.Contains(test.page, "PublisherA") {
				t.Errorf("got %+v", v)
			}
		})
	}
}

func TestJudgeViews(t *testing.T) {
	t.Parallel()
	seen := func(reviews string, ms int) view {
		return view{reviews: reviews, details: true, took: time.Duration(ms) * time.Millisecond}
	}
	late := outlook{reviews: noReviews, least: 5500 * time.Millisecond, most: 8 * time.Second}
	for name, test := range map[string]struct {
		views []view
		want  outlook
		err   string
	}{
		"jason waits":             {[]view{seen(noReviews, 6010), seen(noReviews, 6100)}, late, ""},
		"one does not":            {[]view{seen(noReviews, 6010), seen(noReviews, 3010)}, late, "expected it after 5.5s to 8s, found it after 3.0 s"},
		"he waits for his stars":  {[]view{seen("black", 7010)}, late, "found \"black\""},
		"he waits far too long":   {[]view{seen(noReviews, 9000)}, late, "found it after 9.0 s"},
		"the others do not":       {[]view{seen("black", 5), seen("black", 20)}, quickly("black"), ""},
		"the others wait too":     {[]view{seen("black", 5), seen("black", 7010)}, quickly("black"), "found it after 7.0 s"},
		"the others are slow":     {[]view{seen("black", 5), seen("black", 1500), seen("black", 1500)}, quickly("black"), "expected half of them within 1s"},
		"the others have none":    {[]view{seen("black", 5), seen(unrated, 5)}, quickly("black"), "expected reviews to show \"black\""},
		"a page without details":  {[]view{{reviews: "black"}}, quickly("black"), "expected details"},
		"a page that failed":      {[]view{seen("black", 5), {err: errors.New("status 500")}}, quickly("black"), "status 500"},
		"nobody looked at a page": {nil, quickly("black"), "found none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := judgeViews("somebody", test.views, test.want)
			expects(t, err, test.err)
		})
	}
}

// heardOf gives a service's log with these requests.
func heardOf(ids ...string) []string {
	log := []string{"listening"}
	for _, id := range ids {
		log = append(log, "GET /ratings/0 200 x-request-id="+id+" traceparent=")
	}
	return log
}

func TestJudgeHeard(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		log []string
		err string
	}{
		"as it should":      {heardOf("a", "x", "b"), ""},
		"not of one":        {heardOf("a"), "it heard 0 times of b"},
		"of nothing":        {nil, "it heard 0 times of a"},
		"twice of one":      {heardOf("a", "b", "a"), "it heard 2 times of a"},
		"of what it should": {heardOf("a", "b", "c"), "to hear of none of 1 requests, found that it heard 1 times of c"},
		"of another":        {heardOf("a", "bb"), "0 times of b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expects(t, judgeHeard("ratings", test.log, []string{"a", "b"}, []string{"c"}), test.err)
		})
	}
}

func TestJudgeCopies(t *testing.T) {
	t.Parallel()
	both := []string{"a", "b"}
	for name, test := range map[string]struct {
		v1, v2, v3 []string
		err        string
	}{
		"as it should":   {v1: both, v3: both},
		"no copies":      {v1: both, err: "expected reviews v3 to hear once of each of 2"},
		"half of them":   {v1: both, v3: both[:1], err: "expected reviews v3"},
		"two copies":     {v1: both, v3: []string{"a", "b", "b"}, err: "reviews v3 to hear once"},
		"only copies":    {v3: both, err: "expected reviews v1"},
		"also at v2":     {v1: both, v2: both[1:], v3: both, err: "expected reviews v2 to hear of none"},
		"v1 hears twice": {v1: []string{"a", "b", "a"}, v3: both, err: "expected reviews v1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expects(t, judgeCopies(both, heardOf(test.v1...), heardOf(test.v2...), heardOf(test.v3...)), test.err)
		})
	}
}

func TestJudgeUndisturbed(t *testing.T) {
	t.Parallel()
	took := func(d time.Duration) visit { return but(at(0, "v1"), func(v *visit) { v.done = v.sent.Add(d) }) }
	for name, test := range map[string]struct {
		visits []visit
		err    string
	}{
		"as it should":     {[]visit{at(0, "v1"), at(0, "v1"), took(2 * time.Second)}, ""},
		"one fails":        {[]visit{at(0, "v1"), at(0, "v1"), {status: 503}}, "status 503"},
		"one of v3":        {[]visit{at(0, "v1"), at(0, "v1"), at(0, "v3")}, "expected 0 % of 3 answers from v3"},
		"one waits for v3": {[]visit{at(0, "v1"), at(0, "v1"), took(10 * time.Second)}, "all within 3s"},
		"all wait a while": {[]visit{took(1500 * time.Millisecond), took(1500 * time.Millisecond), took(1500 * time.Millisecond)}, "half of the answers within 1s"},
		"one is missing":   {[]visit{at(0, "v1"), at(0, "v1")}, "expected 3 answers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := judgeUndisturbed(test.visits, 3)
			expects(t, err, test.err)
		})
	}
}

func TestJudgeFlaky(t *testing.T) {
	t.Parallel()
	pages := func(with, without int, more ...view) []view {
		for range with {
			more = append(more, view{details: true, reviews: "no stars"})
		}
		for range without {
			more = append(more, view{reviews: "no stars"})
		}
		return more
	}
	for name, test := range map[string]struct {
		views []view
		err   string
	}{
		"a fifth":         {pages(80, 20), ""},
		"just within":     {pages(75, 25), ""},
		"too many":        {pages(74, 26), "found 26.0 %"},
		"too few":         {pages(86, 14), "found 14.0 %"},
		"none":            {pages(100, 0), "found 0.0 %"},
		"all":             {pages(0, 100), "found 100.0 %"},
		"nothing":         {nil, "of 0 pages"},
		"a failed page":   {pages(80, 19, view{err: errors.New("status 503")}), "status 503"},
		"without reviews": {pages(80, 19, view{reviews: noReviews}), "expected reviews without stars"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			with, without, err := judgeFlaky(test.views, 20)
			expects(t, err, test.err)
			if err == nil && (len(with)+len(without) != len(test.views) || !with[0].details || without[0].details) {
				t.Errorf("%d with, %d without", len(with), len(without))
			}
		})
	}
}

func TestJudgeAffinity(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answered map[string][]string
		used     int
		err      string
	}{
		"one each":       {map[string][]string{"a": {"v1", "v1"}, "b": {"v2", "v2"}, "c": {"v1", "v1"}}, 2, ""},
		"one moves once": {map[string][]string{"a": {"v1", "v1", "v2", "v1"}, "b": {"v2"}}, 0, "expected a to stay with one instance, found 4 answers of [v1 v2]"},
		"all at one":     {map[string][]string{"a": {"v1", "v1"}, "b": {"v1", "v1"}}, 0, "expected 2 callers to be spread"},
		"no answers":     {map[string][]string{"a": nil}, 0, "expected a to stay"},
		"nobody":         {nil, 0, "expected 0 callers to be spread"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			used, err := judgeAffinity(test.answered)
			expects(t, err, test.err)
			if used != test.used {
				t.Errorf("got %d", used)
			}
		})
	}
}

func TestJudgeCookie(t *testing.T) {
	t.Parallel()
	given := func(line string) []*http.Cookie {
		if line == "" {
			return nil
		}
		c, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatal(err)
		}
		return []*http.Cookie{c}
	}
	const first, wrong = true, "expected one cookie session"
	for line, test := range map[string]struct {
		first bool
		err   string
	}{
		"session=5; Max-Age=3600; Path=/":           {first, ""},
		"":                                          {first, wrong},
		"other=5; Max-Age=3600; Path=/":             {first, wrong},
		"session=; Max-Age=3600; Path=/":            {first, wrong},
		"session=5; Path=/":                         {first, wrong},
		"session=5; Max-Age=3600":                   {first, wrong},
		"session=5; Max-Age=3600; Path=/; HttpOnly": {!first, "expected no cookie"},
	} {
		expects(t, judgeCookie(given(line), test.first), test.err)
	}
	expects(t, judgeCookie(nil, !first), "")
	expects(t, judgeCookie(append(given("session=5; Max-Age=3600; Path=/"), given("session=6; Max-Age=3600; Path=/")...), first), wrong)
}

// TestRequestsFor: the tolerance of a share is four and a half standard deviations, whatever the share.
func TestRequestsFor(t *testing.T) {
	t.Parallel()
	for percent, want := range map[float64]int{50: 2025, 90: 729, 20: 1296, 0: 300, 100: 300} {
		if got := requestsFor(percent); got < want || got > want+1 { // rounding
			t.Errorf("%.0f %%: %d, want %d", percent, got, want)
		}
	}
}

func TestPodOf(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{`{"podname":"reviews-v1"}`: "reviews-v1", `{}`: "", "oops": ""} {
		if got, err := podOf(http.StatusOK, []byte(body)); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", body, got, err)
		}
	}
	if _, err := podOf(http.StatusServiceUnavailable, []byte(`{"podname":"reviews-v1"}`)); err == nil {
		t.Error("503 is taken for an answer")
	}
}

func TestJudgeDecided(t *testing.T) {
	t.Parallel()
	before := transport.InboundDecided{Denied: 1, Audited: 2, Shadow: 3}
	want := transport.InboundDecided{Shadow: 2}
	for name, test := range map[string]struct {
		after transport.InboundDecided
		err   string
	}{
		"as it should":  {transport.InboundDecided{Denied: 1, Audited: 2, Shadow: 5}, ""},
		"one too few":   {transport.InboundDecided{Denied: 1, Audited: 2, Shadow: 4}, "found {Unauthenticated:0 Denied:0 Audited:0 Shadow:1"},
		"and denied":    {transport.InboundDecided{Denied: 3, Audited: 2, Shadow: 5}, "found {Unauthenticated:0 Denied:2"},
		"nothing said":  {before, "found {Unauthenticated:0 Denied:0 Audited:0 Shadow:0"},
		"another thing": {transport.InboundDecided{Denied: 1, Audited: 4, Shadow: 3}, "Audited:2 Shadow:0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expects(t, judgeDecided(before, test.after, want), test.err)
		})
	}
}
