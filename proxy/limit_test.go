package proxy_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/proxy"
)

func limitDocument(direction, spec string) string {
	return "apiVersion: heddle.dev/v1alpha1\nkind: RateLimit\nmetadata: {name: app}\nspec: {direction: " + direction + ", " + spec + "}\n---\n"
}

// TestInboundLimits: a request too many is answered by the sidecar as Envoy answers it, over HTTP/1.1 and HTTP/2 alike,
// counted together, and the application does not see it.
func TestInboundLimits(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	app := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served.Add(1)
		w.Header().Set("X-App", "1")
	}))
	r := start(t, limitDocument("INBOUND", "rateLimitHeaders: true, limits: [{name: each, match: [{uri: {prefix: /a}}], by: [{header: who}, {sourceAddress: true}], requests: 2, unit: DAY, maxKeys: 9}]"),
		inboundOf(app))
	address := r.sidecar.InboundAddrs()[0].String()
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	h1 := clientOf(t, &http.Transport{})
	ask := func(c *http.Client, who, path string) *http.Response {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
		req.Header.Set("Who", who)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	overH2 := clientOf(t, h2)
	for i, c := range []*http.Client{h1, overH2} {
		resp := ask(c, "lisa", "/a")
		if left := resp.Header.Get("X-Ratelimit-Remaining"); resp.StatusCode != 200 || left != string(rune('1'-i)) || resp.Header.Get("X-App") != "1" {
			t.Errorf("let through: %d %v", resp.StatusCode, resp.Header)
		}
	}
	for _, c := range []*http.Client{h1, overH2} {
		resp := ask(c, "lisa", "/%61")
		if resp.StatusCode != 429 || resp.Header.Get("X-Envoy-Ratelimited") != "true" || resp.Header.Get("Retry-After") == "" || resp.Header.Get("X-Ratelimit-Limit") != "2" {
			t.Errorf("one too many over %s: %d %v", resp.Proto, resp.StatusCode, resp.Header)
		}
	}
	for _, c := range []*http.Client{h1, overH2} {
		if resp := ask(c, "bart", "/a"); resp.StatusCode != 200 {
			t.Errorf("somebody else: %d", resp.StatusCode)
		}
		if resp := ask(c, "lisa", "/b"); resp.StatusCode != 200 || resp.Header.Get("X-Ratelimit-Limit") != "" {
			t.Errorf("something else: %d %v", resp.StatusCode, resp.Header)
		}
	}
	if l := r.last(); l.Direction != "inbound" || l.Status != 429 || l.Flag != "RL" || l.Reason != "rate_limited" || !strings.Contains(l.Details(), "default/app/each allows 2 requests a day") {
		t.Errorf("reported: %+v", l)
	}
	if got := served.Load(); got != 6 {
		t.Errorf("the application saw %d requests", got)
	}
}

// TestOutboundLimits: a program's call too many does not leave the sidecar.
func TestOutboundLimits(t *testing.T) {
	t.Parallel()
	app := upstream(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r := start(t, service("app", "HTTP", app)+limitDocument("OUTBOUND", "hosts: [app], rateLimitedAsResourceExhausted: true, limits: [{name: all, requests: 1, unit: DAY}]"), nil)
	if resp, _ := r.get("http://app/"); resp.StatusCode != 200 {
		t.Fatalf("the first: %d", resp.StatusCode)
	}
	resp, body := r.get("http://app/")
	if resp.StatusCode != 429 || resp.Header.Get("X-Envoy-Ratelimited") != "true" || resp.Header.Get("Retry-After") == "" || body != "local_rate_limited\n" {
		t.Errorf("one too many: %d %v %q", resp.StatusCode, resp.Header, body)
	}
	if l := r.last(); l.Direction != "outbound" || l.Flag != "RL" || l.Reason != "rate_limited" {
		t.Errorf("reported: %+v", l)
	}
	err := channel(t, r, "app").Invoke(t.Context(), "/proxy.App/Unary", text("x"), text(""))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("an RPC too many: %v", err)
	}
	if resp, _ := r.do(r.request(http.MethodHead, "http://app/", nil)); resp.StatusCode != 429 {
		t.Errorf("a HEAD too many: %d", resp.StatusCode)
	}
}

// TestOutboundBreaker: while the breaker is open the sidecar answers itself, as Envoy does for an overflow.
func TestOutboundBreaker(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	app := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	}))
	r := start(t, service("app", "HTTP", app)+`apiVersion: heddle.dev/v1alpha1
kind: ResiliencePolicy
metadata: {name: app}
spec: {hosts: [app], circuitBreaker: {consecutiveFailures: 2, openFor: 1h}}
`, func(c *proxy.Config) {})
	for i := range 2 {
		if resp, _ := r.get("http://app/"); resp.StatusCode != 500 {
			t.Fatalf("call %d: %d", i, resp.StatusCode)
		}
	}
	resp, body := r.get("http://app/")
	if resp.StatusCode != 503 || resp.Header.Get("X-Envoy-Overloaded") != "true" || body != "circuit breaker open\n" || served.Load() != 2 {
		t.Errorf("open: %d %v %q, %d served", resp.StatusCode, resp.Header, body, served.Load())
	}
	if l := r.last(); l.Flag != "UO" || l.Reason != "circuit_open" {
		t.Errorf("reported: %+v", l)
	}
}
