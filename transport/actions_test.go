package transport_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
)

// upstream records what reaches a service and can be told what to answer.
type upstream struct {
	mu   sync.Mutex
	seen []*http.Request
	body []string

	answer func(w http.ResponseWriter, r *http.Request)
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	u.seen = append(u.seen, r)
	u.body = append(u.body, string(body))
	u.mu.Unlock()
	w.Header().Set("X-From", "upstream")
	if u.answer != nil {
		u.answer(w, r)
	}
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.seen)
}

func (u *upstream) last() (*http.Request, string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen[len(u.seen)-1], u.body[len(u.body)-1]
}

// withRule runs a test with one rule list on host svc.
func withRule(t *testing.T, rules string, f func(t *testing.T, e *meshtest.Env, svc, shadow *upstream)) {
	t.Helper()
	config := "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: [svc]\n  http:\n" + rules
	meshtest.Run(t, meshtest.YAML(config), func(t *testing.T, e *meshtest.Env) {
		svc, shadow := new(upstream), new(upstream)
		e.HTTP("svc", map[string]string{"version": "v1"}, svc)
		e.HTTP("shadow", nil, shadow)
		f(t, e, svc, shadow)
	})
}

func send(t *testing.T, e *meshtest.Env, method, url string, h http.Header, body string) *http.Response {
	t.Helper()
	resp, err := try(e, method, url, h, body)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func try(e *meshtest.Env, method, url string, h http.Header, body string) (*http.Response, error) {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, url, r)
	if err != nil {
		return nil, err
	}
	for k, v := range h {
		req.Header[k] = v
	}
	return e.Client().Transport.RoundTrip(req)
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRedirectAndDirectResponse(t *testing.T) {
	t.Parallel()
	withRule(t, `
  - match: [{uri: {prefix: /old}}]
    redirect: {prefixRewrite: /new, redirectCode: 308}
    headers: {response: {set: {x-why: moved}}}
  - match: [{uri: {exact: /fixed}}]
    directResponse: {status: 418, body: {string: "a teapot"}}
  - match: [{uri: {exact: /empty}}]
    directResponse: {status: 204}
  - route: [{destination: {host: svc}}]
`, func(t *testing.T, e *meshtest.Env, svc, _ *upstream) {
		resp := send(t, e, "GET", "http://svc/old/a?b=c", nil, "")
		if got := resp.Header.Get("Location"); resp.StatusCode != 308 || got != "http://svc/new/a?b=c" || resp.Header.Get("X-Why") != "moved" {
			t.Errorf("%d %s %v", resp.StatusCode, got, resp.Header)
		}
		resp = send(t, e, "POST", "http://svc/fixed", nil, "body")
		if got := text(t, resp); resp.StatusCode != 418 || got != "a teapot" || resp.ContentLength != 8 || resp.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("%d %q %v", resp.StatusCode, got, resp.Header)
		}
		resp = send(t, e, "GET", "http://svc/empty", nil, "")
		if got := text(t, resp); resp.StatusCode != 204 || got != "" || len(resp.Header) != 0 {
			t.Errorf("%d %q %v", resp.StatusCode, got, resp.Header)
		}
		resp = send(t, e, "POST", "http://svc/fixed", http.Header{"Content-Type": {"application/grpc"}}, "")
		if resp.StatusCode != 200 || resp.Header.Get("Grpc-Status") != "2" || resp.Header.Get("Grpc-Message") != "a teapot" {
			t.Errorf("gRPC: %d %v", resp.StatusCode, resp.Header)
		}
		if n := svc.count(); n != 0 {
			t.Errorf("%d requests reached the service", n)
		}
	})
}

func TestRewriteAndHeaders(t *testing.T) {
	t.Parallel()
	withRule(t, `
  - match: [{uri: {prefix: /v1/}}]
    rewrite: {uri: "/api v2/", authority: inner.example}
    headers:
      request: {set: {x-user: "%REQ(x-login)%", x-both: rule}, add: {x-more: "2"}, remove: [x-secret, user-agent]}
      response: {set: {x-route: "%ROUTE_NAME%"}, remove: [x-from]}
    name: first
    route:
    - destination: {host: svc}
      headers:
        request: {set: {x-both: destination}}
        response: {add: {x-status: "%RESPONSE_CODE%"}}
  - match: [{uri: {prefix: /re/}}]
    rewrite: {uriRegexRewrite: {match: "^/re/([a-z]+)/(.*)$", rewrite: '/\2/\1'}}
    route: [{destination: {host: svc}}]
  - match: [{uri: {prefix: /host}}]
    headers: {request: {set: {host: other.example}}}
    route: [{destination: {host: svc}}]
  - route: [{destination: {host: svc}}]
`, func(t *testing.T, e *meshtest.Env, svc, _ *upstream) {
		own := http.Header{"X-Login": {"jason"}, "X-Secret": {"s"}, "X-More": {"1"}, "User-Agent": {"me"}}
		resp := send(t, e, "GET", "http://svc/v1/books?q=1", own, "")
		text(t, resp)
		got, _ := svc.last()
		if got.RequestURI != "/api%20v2/books?q=1" || got.Host != "inner.example" {
			t.Errorf("%s %s", got.Host, got.RequestURI)
		}
		for name, want := range map[string]string{
			"X-User": "jason", "X-Both": "destination", "X-More": "1,2", "X-Secret": "", "User-Agent": "",
			"X-Envoy-Original-Path": "/v1/books?q=1", "X-Envoy-Original-Host": "svc",
		} {
			if v := strings.Join(got.Header.Values(name), ","); v != want {
				t.Errorf("%s: %q, want %q", name, v, want)
			}
		}
		if len(own) != 4 || len(own["X-More"]) != 1 {
			t.Errorf("the caller's own header was changed: %v", own)
		}
		if resp.Header.Get("X-Route") != "first" || resp.Header.Get("X-Status") != "200" || resp.Header.Get("X-From") != "" {
			t.Errorf("answer: %v", resp.Header)
		}

		text(t, send(t, e, "GET", "http://svc/re/a/b/c", nil, ""))
		if got, _ := svc.last(); got.RequestURI != "/b/c/a" || got.Host != "svc" {
			t.Errorf("%s %s", got.Host, got.RequestURI)
		}
		text(t, send(t, e, "GET", "http://svc/host", nil, ""))
		if got, _ := svc.last(); got.Host != "other.example" || got.Header.Get("X-Envoy-Original-Host") != "svc" {
			t.Errorf("%s %v", got.Host, got.Header)
		}
		text(t, send(t, e, "GET", "http://svc/plain", own, ""))
		if got, _ := svc.last(); got.Header.Get("X-Secret") != "s" || got.Header.Get("X-Envoy-Original-Path") != "" {
			t.Errorf("a rule without changes changes %v", got.Header)
		}
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	withRule(t, `
  - match: [{uri: {exact: /slow}}]
    fault: {delay: {fixedDelay: 7s, percentage: {value: 100}}}
    timeout: 1s
    route: [{destination: {host: svc}}]
  - match: [{uri: {exact: /broken}}]
    fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}, abort: {httpStatus: 555, percentage: {value: 100}}}
    route: [{destination: {host: svc}}]
  - match: [{uri: {exact: /grpc}}]
    fault: {abort: {grpcStatus: NOT_FOUND, percentage: {value: 100}}}
    route: [{destination: {host: svc}}]
  - match: [{uri: {exact: /never}}]
    fault: {abort: {httpStatus: 555}}
    route: [{destination: {host: svc}}]
  - fault: {abort: {httpStatus: 503, percentage: {value: 20}}}
    route: [{destination: {host: svc}}]
`, func(t *testing.T, e *meshtest.Env, svc, _ *upstream) {
		start := time.Now()
		var info mesh.CallInfo
		req, _ := http.NewRequestWithContext(mesh.Capture(t.Context(), &info), "GET", "http://svc/slow", nil)
		resp, err := e.Client().Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		text(t, resp)
		if took := time.Since(start); took != 7*time.Second || resp.StatusCode != 200 || info.Flags != "DI" {
			t.Errorf("after %v: %d %q: an injected delay is not subject to the time-out", took, resp.StatusCode, info.Flags)
		}

		start, info = time.Now(), mesh.CallInfo{}
		before := svc.count()
		req, _ = http.NewRequestWithContext(mesh.Capture(t.Context(), &info), "GET", "http://svc/broken", nil)
		if resp, err = e.Client().Transport.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		if body := text(t, resp); time.Since(start) != 2*time.Second || resp.StatusCode != 555 || body != "fault filter abort" ||
			info.Flags != "DI,FI" || info.Details != "fault_filter_abort" || svc.count() != before {
			t.Errorf("%d %q %q %q", resp.StatusCode, body, info.Flags, info.Details)
		}

		resp = send(t, e, "GET", "http://svc/grpc", nil, "")
		if body := text(t, resp); resp.StatusCode != 200 || body != "fault filter abort" {
			t.Errorf("%d %q", resp.StatusCode, body)
		}
		resp = send(t, e, "POST", "http://svc/grpc", http.Header{"Content-Type": {"application/grpc+proto"}}, "x")
		if resp.StatusCode != 200 || resp.Header.Get("Grpc-Status") != "5" {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
		if resp = send(t, e, "GET", "http://svc/never", nil, ""); resp.StatusCode != 200 {
			t.Errorf("an abort without percentage is none: %d", resp.StatusCode)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		req, _ = http.NewRequestWithContext(ctx, "GET", "http://svc/slow", nil)
		_, err = e.Client().Transport.RoundTrip(req)
		if time.Since(start) != time.Second || !errors.Is(err, context.DeadlineExceeded) || mesh.ReasonOf(err) != mesh.ReasonCanceled {
			t.Errorf("the caller's own deadline ends a delay: %v after %v", err, time.Since(start))
		}

		aborted := 0
		for range 2000 {
			resp := send(t, e, "GET", "http://svc/some", nil, "")
			text(t, resp)
			if resp.StatusCode == 503 {
				aborted++
			}
		}
		if aborted < 340 || aborted > 460 { // 20 %, 4.5 standard deviations
			t.Errorf("%d of 2,000 aborted, want about 400", aborted)
		}
	})
}

func TestRouteTimeout(t *testing.T) {
	t.Parallel()
	withRule(t, `
  - timeout: 2s
    retries: {attempts: 5, retryOn: 5xx}
    route: [{destination: {host: svc}}]
`, func(t *testing.T, e *meshtest.Env, svc, _ *upstream) {
		check := func(what string, resp *http.Response, err error, start time.Time) {
			t.Helper()
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if took := time.Since(start); took != 2*time.Second {
				t.Errorf("%s: after %v", what, took)
			}
			var timeout interface{ Timeout() bool }
			if mesh.ReasonOf(err) != mesh.ReasonTimeout || !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("%s: %v", what, err)
			}
			synctest.Wait() // the service has heard of it too
		}
		wait := func(r *http.Request, d time.Duration) {
			select {
			case <-time.After(d):
			case <-r.Context().Done():
			}
		}
		svc.answer = func(_ http.ResponseWriter, r *http.Request) { wait(r, time.Hour) }
		start := time.Now()
		resp, err := try(e, "GET", "http://svc/", nil, "")
		check("no answer", resp, err, start)

		svc.answer = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "12345")
			w.(http.Flusher).Flush()
			wait(r, time.Hour)
		}
		start = time.Now()
		resp, err = try(e, "GET", "http://svc/", nil, "")
		check("half an answer", resp, err, start)

		svc.answer = func(w http.ResponseWriter, r *http.Request) { wait(r, 900*time.Millisecond); w.WriteHeader(503) }
		start = time.Now()
		resp, err = try(e, "GET", "http://svc/", nil, "")
		check("tries that together take too long", resp, err, start)

		svc.answer = nil
		text(t, send(t, e, "GET", "http://svc/", nil, ""))
		if synctest.Wait(); time.Since(start) != 2*time.Second {
			t.Error("a quick answer waits for nothing")
		}
	})
}

func TestMirror(t *testing.T) {
	t.Parallel()
	withRule(t, `
  - match: [{uri: {prefix: /half}}]
    route: [{destination: {host: svc}}]
    mirrors: [{destination: {host: shadow}, percentage: {value: 50}}]
  - route: [{destination: {host: svc}}]
    rewrite: {uri: /x}
    mirror: {host: shadow}
`, func(t *testing.T, e *meshtest.Env, svc, shadow *upstream) {
		shadow.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		start := time.Now()
		text(t, send(t, e, "POST", "http://svc/", http.Header{"X-A": {"1"}}, "hello"))
		if time.Since(start) != 0 {
			t.Error("a slow shadow holds the call up")
		}
		synctest.Wait()
		if shadow.count() != 1 {
			t.Fatalf("%d copies", shadow.count())
		}
		got, body := shadow.last()
		if body != "hello" || got.Method != "POST" || got.RequestURI != "/x" || got.Host != "svc" || got.Header.Get("X-A") != "1" {
			t.Errorf("%s %s %s %q %v", got.Method, got.Host, got.RequestURI, body, got.Header)
		}
		shadow.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
		text(t, send(t, e, "GET", "http://svc/", nil, ""))
		text(t, send(t, e, "POST", "http://svc/", nil, strings.Repeat("x", 100<<10)))
		synctest.Wait()
		if n := shadow.count(); n != 2 {
			t.Errorf("%d copies, want 2: a long body is not copied", n)
		}
		if sent, dropped := e.Mesh().Engine().Mirrored(); sent != 2 || dropped != 1 {
			t.Errorf("%d sent, %d dropped", sent, dropped)
		}
		if svc.count() != 3 {
			t.Errorf("%d calls", svc.count())
		}
		for range 1000 {
			text(t, send(t, e, "GET", "http://svc/half", nil, ""))
		}
		synctest.Wait()
		if n := shadow.count() - 2; n < 430 || n > 570 {
			t.Errorf("%d of 1,000 mirrored, want about 500", n)
		}
	})
}

func TestCORS(t *testing.T) {
	t.Parallel()
	withRule(t, `
  - corsPolicy:
      allowOrigins: [{exact: "https://shop.example"}]
      allowMethods: [GET, POST]
      allowHeaders: [x-a]
      exposeHeaders: [x-b]
      maxAge: 10m
      allowCredentials: true
    route: [{destination: {host: svc}}]
`, func(t *testing.T, e *meshtest.Env, svc, _ *upstream) {
		ask := func(method, origin string, preflight bool) *http.Response {
			h := http.Header{"Origin": {origin}}
			if preflight {
				h.Set("Access-Control-Request-Method", "POST")
			}
			resp := send(t, e, method, "http://svc/", h, "")
			text(t, resp)
			return resp
		}
		resp := ask("OPTIONS", "https://shop.example", true)
		for name, want := range map[string]string{"Origin": "https://shop.example", "Methods": "GET,POST", "Headers": "x-a", "Credentials": "true"} {
			if got := resp.Header.Get("Access-Control-Allow-" + name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if resp.StatusCode != 200 || resp.Header.Get("Access-Control-Max-Age") != "600" || svc.count() != 0 {
			t.Errorf("%d %v, %d calls", resp.StatusCode, resp.Header, svc.count())
		}
		resp = ask("GET", "https://shop.example", false)
		if resp.Header.Get("Access-Control-Allow-Origin") != "https://shop.example" || resp.Header.Get("Access-Control-Expose-Headers") != "x-b" ||
			resp.Header.Get("X-From") != "upstream" {
			t.Errorf("%v", resp.Header)
		}
		resp = ask("OPTIONS", "https://evil.example", true)
		if resp.Header.Get("Access-Control-Allow-Origin") != "" || resp.Header.Get("X-From") != "upstream" {
			t.Errorf("%v", resp.Header)
		}
	})
}
