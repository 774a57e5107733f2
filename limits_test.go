package mesh_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
)

const limitedReviews = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1, labels: {version: v1}}, {address: 10.0.0.2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - {name: jason, match: [{headers: {end-user: {exact: jason}}}], route: [{destination: {host: reviews, subset: v2}}], retries: {attempts: 0}}
  - {name: all, route: [{destination: {host: reviews, subset: v1}}], retries: {attempts: 0}}
---
`

func ok(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

// passed calls n times and says how many calls were let through.
func passed(t *testing.T, c *http.Client, n int, header string) (passed int) {
	t.Helper()
	for range n {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://reviews:9080/reviews/1", nil)
		if name, value, ok := strings.Cut(header, ": "); ok {
			req.Header.Set(name, value)
		}
		resp, err := c.Do(req)
		switch {
		case err == nil:
			resp.Body.Close()
			passed++
		case !errors.Is(err, mesh.ReasonRateLimited):
			t.Fatal(err)
		}
	}
	return passed
}

// TestRateLimitByRoute: routes narrows a limit to rules, and a key "by: [{route: true}]" counts each rule apart.
func TestRateLimitByRoute(t *testing.T) {
	meshtest.Run(t, meshtest.YAML(limitedReviews+`
apiVersion: heddle.dev/v1alpha1
kind: RateLimit
metadata: {name: reviews}
spec:
  direction: OUTBOUND
  hosts: [reviews]
  limits:
  - {name: for-jason, routes: [jason], requests: 2, unit: MINUTE}
  - {name: each, by: [{route: true}], requests: 4, unit: MINUTE, maxKeys: 10}
`), func(t *testing.T, e *meshtest.Env) {
		e.HTTP("reviews", map[string]string{"version": "v1"}, http.HandlerFunc(ok))
		e.HTTP("reviews", map[string]string{"version": "v2"}, http.HandlerFunc(ok))
		if got := passed(t, e.Client(), 10, "end-user: jason"); got != 2 {
			t.Errorf("%d calls of jason's", got)
		}
		if got := passed(t, e.Client(), 10, "end-user: lisa"); got != 4 {
			t.Errorf("%d calls of lisa's", got)
		}
		time.Sleep(30 * time.Second)
		if got := passed(t, e.Client(), 10, "end-user: jason"); got != 1 {
			t.Errorf("half a minute later %d calls of jason's", got)
		}
		if got := passed(t, e.Client(), 10, "end-user: lisa"); got != 2 {
			t.Errorf("half a minute later %d calls of lisa's", got)
		}
	})
}

// TestRateLimitOfReceived: a workload's own limit, by who calls, is for it alone, and its callers are told when to come back.
func TestRateLimitOfReceived(t *testing.T) {
	meshtest.Run(t, meshtest.YAML(limitedReviews+`
apiVersion: heddle.dev/v1alpha1
kind: RateLimit
metadata: {name: reviews}
spec:
  workloadSelector: {labels: {app: reviews}}
  direction: INBOUND
  rateLimitHeaders: true
  limits:
  - {name: each, by: [{header: end-user}], requests: 6, unit: MINUTE, burst: 3, maxKeys: 100}
`), func(t *testing.T, e *meshtest.Env) {
		reviews := e.As(mesh.Workload{Labels: map[string]string{"app": "reviews"}})
		for _, version := range []string{"v1", "v2"} {
			e.HTTP("reviews", map[string]string{"version": version}, reviews.Mesh().Handler(http.HandlerFunc(ok)))
		}
		for _, user := range []string{"lisa", "bart"} {
			for i := range 5 {
				a := e.Get("http://reviews:9080/reviews/1", "end-user: "+user)
				want, left := http.StatusOK, fmt.Sprint(2-i)
				if i >= 3 {
					want, left = http.StatusTooManyRequests, "0"
				}
				if a.Status != want || a.Header.Get("X-Ratelimit-Limit") != "3" || a.Header.Get("X-Ratelimit-Remaining") != left {
					t.Errorf("%s, call %d: %d %v", user, i, a.Status, a.Header)
				}
				if retry := a.Header.Get("Retry-After"); (retry == "10") != (want != http.StatusOK) {
					t.Errorf("%s, call %d: Retry-After %q", user, i, retry)
				}
			}
		}
		time.Sleep(10 * time.Second)
		if a := e.Get("http://reviews:9080/reviews/1", "end-user: lisa"); a.Status != http.StatusOK {
			t.Errorf("when it was time to come back: %d", a.Status)
		}
	})
}

// TestCircuitBreaker: one failing subset opens the breaker of the whole service; while it is open no instance is asked, and
// what is let through afterwards closes it. consecutiveFailures, failurePercent, minimumRequests, interval, openFor and
// halfOpenRequests say when.
func TestCircuitBreaker(t *testing.T) {
	const policy = `
apiVersion: heddle.dev/v1alpha1
kind: ResiliencePolicy
metadata: {name: reviews}
spec: {hosts: [reviews], circuitBreaker: {%s}}
`
	for name, c := range map[string]struct {
		breaker string
		failing int // calls until it opens
		open    time.Duration
		probes  int
	}{
		"in a row": {"consecutiveFailures: 3, openFor: 10s, halfOpenRequests: 2", 3, 10 * time.Second, 2},
		"a share":  {"failurePercent: 50, minimumRequests: 4, interval: 5s", 4, 30 * time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			meshtest.Run(t, meshtest.YAML(limitedReviews+fmt.Sprintf(policy, c.breaker)), func(t *testing.T, e *meshtest.Env) {
				v1 := e.HTTP("reviews", map[string]string{"version": "v1"}, http.HandlerFunc(ok))
				e.HTTP("reviews", map[string]string{"version": "v2"}, http.HandlerFunc(ok))
				restore := v1.Inject(meshtest.Status(503))
				for i := range c.failing {
					if a := e.Get("http://reviews:9080/reviews/1"); a.Status != 503 {
						t.Fatalf("call %d: %d", i, a.Status)
					}
				}
				open := func(when string, want bool) {
					t.Helper()
					req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://reviews:9080/reviews/1", nil)
					req.Header.Set("end-user", "jason")
					resp, err := e.Client().Do(req)
					if err == nil {
						resp.Body.Close()
					}
					if got := errors.Is(err, mesh.ReasonCircuitOpen); got != want || !want && err != nil {
						t.Errorf("%s: %v", when, err)
					}
				}
				open("after the failures", true)
				time.Sleep(c.open)
				open("just before the end", true)
				time.Sleep(time.Millisecond)
				if a := e.Get("http://reviews:9080/reviews/1"); a.Status != 503 {
					t.Errorf("a probe: %d", a.Status)
				}
				open("after a probe that failed", true)
				restore()
				time.Sleep(c.open + time.Millisecond)
				for range c.probes {
					open("a probe", false)
				}
				open("closed", false)
			})
		})
	}
}
