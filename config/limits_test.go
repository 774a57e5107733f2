package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/snapshot"
)

const outboundLimit = `{direction: OUTBOUND, hosts: [reviews], limits: [{name: all, requests: 5, unit: MINUTE, burst: 2}, {name: each, routes: [v1], by: [{header: x-user}, {route: true}], requests: 1, unit: SECOND, maxKeys: 10}]}`

// TestCompileRateLimits: which limits a workload has, on what, and how they read.
func TestCompileRateLimits(t *testing.T) {
	t.Parallel()
	docs := []string{
		doc("ServiceEntry", "reviews", reviewsEntry), doc("DestinationRule", "reviews", reviewsRule),
		doc("VirtualService", "reviews", `{hosts: [reviews], http: [{name: v1, route: [{destination: {host: reviews, subset: v1}}]}]}`),
		doc("RateLimit", "out", outboundLimit),
		doc("RateLimit", "in", `{workloadSelector: {labels: {app: productpage}}, direction: INBOUND, rateLimitHeaders: true, rateLimitedAsResourceExhausted: true,
  limits: [{name: all, match: [{uri: {prefix: /a}}], requests: 1, unit: DAY}]}`),
		doc("RateLimit", "others", `{workloadSelector: {labels: {app: ratings}}, direction: INBOUND, limits: [{name: all, requests: 1, unit: DAY}]}`),
	}
	w := newWorld(t, Options{Workload: snapshot.Workload{Labels: map[string]string{"app": "productpage"}}}, docs...)
	if w.live == nil {
		t.Fatal(w.Status().Refused)
	}
	var names []string
	for _, l := range w.live.Limits {
		names = append(names, l.Name)
	}
	if want := []string{"default/out/all", "default/out/each", "default/in/all"}; !slices.Equal(names, want) {
		t.Fatalf("limits %v, want %v", names, want)
	}
	all, each, in := &w.live.Limits[0], &w.live.Limits[1], &w.live.Limits[2]
	if !all.Same(&resilience.RateLimit{Requests: 5, Per: time.Minute, Burst: 2}) || all.Inbound || all.Headers {
		t.Errorf("all: %+v", all)
	}
	if each.Burst != 1 || len(each.By) != 2 || each.By[0].String() != "header x-user" || each.By[1].String() != "route" || each.MaxKeys != 10 || !slices.Equal(each.Routes, []string{"v1"}) {
		t.Errorf("each: %+v", each)
	}
	if !in.Inbound || !in.Headers || !in.Exhausted || len(in.Matches) != 1 || in.Per != 24*time.Hour || in.Origin != "RateLimit default/in limits[0] (<inline 5>:5:12)" {
		t.Errorf("in: %+v", in)
	}
	for _, h := range w.live.Tables[snapshot.Mesh].VirtualHosts() {
		if !slices.Equal(h.Limits, []int{0, 1}) {
			t.Errorf("limits on %s: %v", h.Host, h.Limits)
		}
	}
}

// TestCompileBreakers: which circuit breaker a service has, whichever of its clusters is called.
func TestCompileBreakers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{},
		doc("ServiceEntry", "reviews", reviewsEntry), doc("DestinationRule", "reviews", reviewsRule),
		doc("ServiceEntry", "web", `{hosts: [a.example.com, b.example.com], resolution: DNS, ports: [{number: 80, name: http}]}`),
		doc("VirtualService", "reviews", `{hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}`),
		doc("ResiliencePolicy", "web", `{hosts: ["*.example.com"], circuitBreaker: {failurePercent: 40}}`),
		doc("ResiliencePolicy", "b", `{hosts: [b.example.com, reviews], circuitBreaker: {consecutiveFailures: 5, openFor: 1s, halfOpenRequests: 2}}`),
		doc("ResiliencePolicy", "others", `{workloadSelector: {labels: {app: ratings}}, hosts: [reviews], circuitBreaker: {consecutiveFailures: 1}}`))
	if w.live == nil {
		t.Fatal(w.Status().Refused)
	}
	inARow := resilience.CircuitBreaker{Consecutive: 5, OpenFor: time.Second, Probes: 2}
	share := resilience.CircuitBreaker{Percent: 40, Minimum: 20, Window: 10 * time.Second, OpenFor: 30 * time.Second, Probes: 1}
	want := map[string]snapshot.Breaker{
		"outbound|9080||reviews.default.svc.cluster.local":   {Name: "default/b for reviews.default.svc.cluster.local", CircuitBreaker: inARow},
		"outbound|9080|v1|reviews.default.svc.cluster.local": {Name: "default/b for reviews.default.svc.cluster.local", CircuitBreaker: inARow},
		"outbound|80||a.example.com":                         {Name: "default/web for a.example.com", CircuitBreaker: share},
		"outbound|80||b.example.com":                         {Name: "default/b for b.example.com", CircuitBreaker: inARow},
	}
	for _, c := range w.live.Clusters {
		if c.Breaker == nil || *c.Breaker != want[c.Name] {
			t.Errorf("%s: %+v, want %+v", c.Name, c.Breaker, want[c.Name])
		}
	}
}

// TestLimitFindings: what is for nothing is said where it is written.
func TestLimitFindings(t *testing.T) {
	t.Parallel()
	entry := doc("ServiceEntry", "reviews", reviewsEntry)
	none := doc("ServiceEntry", "none", `{hosts: [none.example.com], ports: [{number: 80, name: http}], resolution: NONE}`)
	for name, c := range map[string]struct {
		docs []string
		want []string
	}{
		"a host that is not there": {[]string{doc("RateLimit", "a", `{direction: OUTBOUND, hosts: [revews], limits: [{name: all, requests: 5, unit: SECOND}]}`)},
			[]string{"IST0101 Error <inline 2>:4:37 spec.hosts[0]"}},
		"a route that is not there": {[]string{doc("RateLimit", "a", outboundLimit)},
			[]string{"IST0101 Error <inline 2>:4:128 spec.limits[1].routes[0]"}},
		"a breaker for a host that is not there": {[]string{doc("ResiliencePolicy", "a", `{hosts: [revews], circuitBreaker: {consecutiveFailures: 5}}`)},
			[]string{"IST0101 Error <inline 2>:4:16 spec.hosts[0]"}},
		"two breakers for a host": {[]string{doc("ResiliencePolicy", "a", `{hosts: [reviews], circuitBreaker: {consecutiveFailures: 5}}`), doc("ResiliencePolicy", "b", `{hosts: [reviews], circuitBreaker: {consecutiveFailures: 5}}`)},
			[]string{"HDL0013 Warning <inline 3>:4:16 spec.hosts[0]"}},
		"a breaker without endpoints": {[]string{doc("ResiliencePolicy", "a", `{hosts: [none.example.com], circuitBreaker: {consecutiveFailures: 5}}`), none},
			[]string{"HDL0013 Warning <inline 2>:4:16 spec.hosts[0]"}},
		"a selector of nobody": {[]string{
			doc("WorkloadEntry", "w", `{address: 10.0.0.9, labels: {app: reviews}}`),
			doc("RateLimit", "a", `{workloadSelector: {labels: {app: revews}}, direction: INBOUND, limits: [{name: all, requests: 5, unit: SECOND}]}`),
			doc("RateLimit", "b", `{workloadSelector: {labels: {app: reviews}}, direction: INBOUND, limits: [{name: all, requests: 5, unit: SECOND}]}`)},
			[]string{"HDL0013 Warning <inline 3>:4:8 spec.workloadSelector"}},
		"claims of tokens that nobody looks at": {[]string{doc("RateLimit", "a", `{direction: INBOUND, limits: [{name: all, by: [{jwtClaim: sub}], requests: 5, unit: SECOND, maxKeys: 9}]}`)},
			[]string{"HDL0013 Warning <inline 2>:4:65 spec.limits[0].by[0].jwtClaim"}},
		"claims of tokens": {[]string{doc("RateLimit", "a", `{direction: INBOUND, limits: [{name: all, by: [{jwtClaim: sub}], requests: 5, unit: SECOND, maxKeys: 9}]}`),
			strings.Replace(doc("RequestAuthentication", "r", `{jwtRules: [`+jwtSample+`]}`), "networking.istio.io", "security.istio.io", 1)}, nil},
		"nothing wrong": {[]string{doc("RateLimit", "a", `{direction: OUTBOUND, hosts: ["*"], limits: [{name: all, routes: [default], requests: 5, unit: SECOND}]}`)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Options{}, append([]string{entry}, c.docs...)...)
			if w.live == nil {
				t.Fatal(w.Status().Refused)
			}
			wantFindings(t, w.Status().Findings, c.want...)
		})
	}
}

// TestLimitPositions: each refusal stands at its field.
func TestLimitPositions(t *testing.T) {
	t.Parallel()
	text := `apiVersion: heddle.dev/v1alpha1
kind: RateLimit
metadata: {name: a}
spec:
  direction: INBOUND
  limits:
  - name: all
    requests: 0
    unit: WEEK
    by:
    - header: "a b"
    - {}
`
	_, found := decoded(t, text)
	wantFindings(t, found,
		"IST0106 Error a.yaml:7:5 spec.limits[0].maxKeys",
		"IST0106 Error a.yaml:8:15 spec.limits[0].requests",
		"IST0106 Error a.yaml:9:11 spec.limits[0].unit",
		"IST0106 Error a.yaml:11:15 spec.limits[0].by[0].header",
		"IST0106 Error a.yaml:12:7 spec.limits[0].by[1]")
}

// decoded decodes and validates the one document of a text.
func decoded(t *testing.T, text string) (*document, []Finding) {
	t.Helper()
	resources, found := Parse("a.yaml", []byte(text))
	if len(resources) != 1 || len(found) > 0 {
		t.Fatal(found)
	}
	d := resources[0].doc
	if found = d.decode(); len(found) == 0 {
		found = d.validate()
	}
	return d, found
}
