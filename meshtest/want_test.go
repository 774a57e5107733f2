package meshtest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/meshtest"
)

func TestWantRoute(t *testing.T) {
	t.Parallel()
	meshtest.Run(t, meshtest.YAML(reviewsYAML), func(t *testing.T, e *meshtest.Env) {
		for _, want := range []string{"jason", "reviews/v2", "reviews:9080/v2", "reviews.default.svc.cluster.local/v2",
			"outbound|9080|v2|reviews.default.svc.cluster.local", "forward", "reviews/v2 100%"} {
			e.WantRoute("GET", reviews, want, "end-user: jason")
		}
		e.WantRoute("GET", reviews, "reviews/v1 80%, reviews/v2 20%")
		e.WantRoute("POST", reviews, "reviews:9080/v1 80%,reviews:9080/v2 20%", "end-user: jason2")
		e.WantRoute("GET", "http://nobody/", "passthrough")
		e.WantRoute("GET", "http://10.9.9.9:9080/", "reviews/v1 80%, reviews/v2 20%", "host: reviews")
	}, meshtest.WithSeed(7))
}

func TestWantRouteFails(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ want, header, says string }{
		"subset":  {"reviews/v1", "end-user: jason", "(end-user: jason) goes to reviews/v2, want reviews/v1\n"},
		"none":    {"reviews", "end-user: jason", "goes to reviews/v2, want reviews\n"},
		"port":    {"reviews:80/v2", "end-user: jason", "want reviews:80/v2"},
		"share":   {"reviews/v2 50%", "end-user: jason", "goes to reviews/v2,"},
		"split":   {"reviews/v1", "end-user: x", "goes to reviews/v1 80%, reviews/v2 20%, want reviews/v1\n"},
		"shares":  {"reviews/v1 70%, reviews/v2 30%", "end-user: x", "goes to reviews/v1 80%"},
		"verdict": {"NR", "end-user: x", "want NR"},
		"header":  {"NR", "end-user", `header "end-user" is not of the form name: value`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said, failed := during(t, func(tb testing.TB) {
				meshtest.New(tb, meshtest.YAML(reviewsYAML)).WantRoute("GET", reviews, row.want, row.header)
			})
			if !failed || !strings.Contains(said, row.says) {
				t.Error(said)
			}
			if name != "header" && !strings.Contains(said, "VirtualService default/reviews http[0] (<yaml>:29:5)") {
				t.Errorf("no position: %s", said)
			}
		})
	}
}

func TestDistribution(t *testing.T) {
	t.Parallel()
	meshtest.Run(t, meshtest.YAML(reviewsYAML), func(t *testing.T, e *meshtest.Env) {
		e.HTTP("reviews", v1, nil)
		e.HTTP("reviews", v2, nil)
		e.Distribution(1000, reviews, map[string]float64{"v1": 0.8, "v2": 0.2}, 0.03)
		e.Distribution(10, reviews, map[string]float64{"version=v2": 1}, 0, "end-user: jason")
	})
}

func TestDistributionFails(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		want  map[string]float64
		fault meshtest.Fault
		says  []string
	}{
		"shares": {map[string]float64{"v1": 0.5, "v2": 0.5}, meshtest.Delay(0), []string{
			"100 × GET " + reviews, "want 50% ± 5%: not as wanted", "rule      VirtualService default/reviews http[1] (<yaml>:32:5)"}},
		"unnamed": {map[string]float64{"v1": 1}, meshtest.Delay(0), []string{"reviews version=v2 at 198.18.0.2:9080", "want 0%"}},
		"percent": {map[string]float64{"v1": 80, "v2": 20}, meshtest.Delay(0), []string{"add up to 1"}},
		"error":   {map[string]float64{"v1": 1}, meshtest.RefuseConn(), []string{"connect failure (flag UF", "connection refused, by RefuseConn()", "error "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said, failed := during(t, func(tb testing.TB) {
				e := meshtest.New(tb, meshtest.YAML(reviewsYAML))
				e.HTTP("reviews", v1, nil).Inject(row.fault)
				e.HTTP("reviews", v2, nil).Inject(row.fault)
				e.Distribution(100, reviews, row.want, 0.05)
			})
			for _, s := range row.says {
				if !failed || !strings.Contains(said, s) {
					t.Errorf("nothing of %q in\n%s", s, said)
				}
			}
		})
	}
}

// TestStory: a test that fails for a reason of its own still hears what its last call met.
func TestStory(t *testing.T) {
	t.Parallel()
	said, _ := during(t, func(tb testing.TB) {
		e := meshtest.New(tb, meshtest.YAML(reviewsYAML))
		if s := e.Story(); !strings.Contains(s, "there was none") {
			t.Error(s)
		}
		i := e.HTTP("reviews", v2, http.NotFoundHandler())
		i.Inject(meshtest.First(1, meshtest.Status(503)))
		e.Get(reviews, "end-user: jason", "Authorization: secret")
		tb.Error("not what I wanted")
	})
	for _, s := range []string{
		"the last call:\n  request   GET " + reviews + " (authorization: …; end-user: jason)\n  from      default\n" +
			"  rule      VirtualService default/reviews http[0] (<yaml>:29:5), route \"jason\"\n" +
			"  cluster   outbound|9080|v2|reviews.default.svc.cluster.local\n" +
			"  tried 1   reviews version=v2 at 198.18.0.1:9080: 503, by First(1, Status(503)); no condition of retryOn\n" +
			"  answer    503 Service Unavailable after ",
		"why:\n  request    GET reviews:9080/reviews/1\n", "yes  it matches", "verdict    forward",
	} {
		if !strings.Contains(said, s) {
			t.Errorf("nothing of\n%s\nin\n%s", s, said)
		}
	}
}
