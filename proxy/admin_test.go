package proxy_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/proxy"
)

func TestAdmin(t *testing.T) {
	t.Parallel()
	up := upstream(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	quit := make(chan struct{}, 1)
	r := start(t, service("reviews", "HTTP", up), func(c *proxy.Config) {
		c.Admin, c.Quit = "127.0.0.1:0", func() { quit <- struct{}{} }
		c.Workload = mesh.Workload{Name: `web"v1`, Namespace: "shop", ServiceAccount: "web"}
	})
	address := r.sidecar.AdminAddr().String()
	r.get("http://reviews/")
	r.get("http://169.254.169.254/secret?token=x")
	page := func(method, path, head string) (int, string, http.Header) {
		t.Helper()
		if !strings.Contains(head, "Host:") {
			head += "Host: " + address + "\r\n"
		}
		c, br := dial(t, address)
		send(t, c, method+" "+path+" HTTP/1.1\r\n"+head+"Connection: close\r\n\r\n")
		resp, body := read(t, br, method)
		return resp.StatusCode, body, resp.Header
	}

	for engine := r.mesh.Engine(); len(engine.Failures()) == 0; { // a request is told of when its answer has gone
		runtime.Gosched()
	}
	cluster := "outbound|80||reviews.default.svc.cluster.local"
	for _, c := range []struct {
		path string
		want []string
	}{
		{"/", []string{"/config_dump"}},
		{"/ready", []string{"LIVE\n"}},
		{"/server_info", []string{`"version": "test"`, `"state": "LIVE"`, `"name": "web\"v1"`, `"namespace": "shop"`, `"name": "outbound"`}},
		{"/clusters", []string{cluster + "::" + up + "::rq_total::1\n", cluster + "::" + up + "::rq_active::0\n", cluster + "::lb_policy::LEAST_REQUEST\n"}},
		{"/config_dump", []string{`"documents": 1`, cluster}},
		{"/listeners", []string{"outbound::" + r.sidecar.OutboundAddr().String() + "\n"}},
		{"/routes", []string{`"host": "reviews.default.svc.cluster.local"`}},
		{"/stats?filter=heddle_info", []string{`heddle_info{version="test"`}},
		{"/failures", []string{`"flags": "UH"`, `"status": 403`, "link-local", `"host": "169.254.169.254"`}},
		{"/stats/prometheus", []string{
			`heddle_info{version="test",workload="web\"v1",namespace="shop"} 1` + "\n",
			`heddle_endpoint_attempts_total{cluster="` + cluster + `",endpoint="` + up + `"} 1` + "\n",
			`envoy_cluster_membership_total{cluster_name="` + cluster + `"} 1` + "\n", "istio_requests_total{",
			"heddle_config_refused 0\n", "# TYPE heddle_endpoint_attempts_total counter\n",
			`heddle_proxy_requests_total{direction="outbound",listener="` + r.sidecar.OutboundAddr().String() + `"} 2` + "\n",
			`heddle_proxy_local_replies_total{direction="outbound",flag="UH",reason="destination_refused"} 1` + "\n"}},
	} {
		status, body, h := page(http.MethodGet, c.path, "")
		if status != http.StatusOK || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: status %d, %v", c.path, status, h)
		}
		for _, want := range c.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s has no %q:\n%s", c.path, want, body)
			}
		}
		if strings.Contains(body, "secret") || strings.Contains(body, "token") {
			t.Errorf("%s tells a path or a query:\n%s", c.path, body)
		}
		if strings.HasPrefix(body, "{") && !json.Valid([]byte(body)) {
			t.Errorf("%s is no JSON", c.path)
		}
		if status, _, _ := page(http.MethodPost, c.path, ""); status != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: status %d", c.path, status)
		}
	}
	var clusters []map[string]any
	if _, body, _ := page(http.MethodGet, "/clusters?format=json", ""); json.Unmarshal([]byte(body), &clusters) != nil || len(clusters) != 1 {
		t.Errorf("clusters as JSON: %s", body)
	}

	for _, c := range []struct {
		name, method, path, head string
		status                   int
	}{
		{"reading does not end it", "GET", "/quitquitquit", "", 405},
		{"a browser does not end it", "POST", "/quitquitquit", "Origin: http://evil.example\r\n", 403},
		{"a browser does not end it, newer", "POST", "/quitquitquit", "Sec-Fetch-Site: cross-site\r\n", 403},
		{"no such page", "GET", "/debug/pprof/", "", 404},
		{"rebound name", "GET", "/ready", "Host: evil.example\r\n", 403},
		{"rebound name with a port", "GET", "/ready", "Host: evil.example:15000\r\n", 403},
		{"name that begins well", "GET", "/ready", "Host: localhost.evil.example\r\n", 403},
		{"another machine's address", "GET", "/ready", "Host: 10.0.0.1\r\n", 403},
		{"localhost", "GET", "/ready", "Host: localhost:15000\r\n", 200},
		{"localhost in capitals", "GET", "/ready", "Host: LOCALHOST.\r\n", 200},
		{"IPv6", "GET", "/ready", "Host: [::1]:15000\r\n", 200},
		{"absolute form", "GET", "http://evil.example/ready", "", 403},
	} {
		if status, body, _ := page(c.method, c.path, c.head); status != c.status {
			t.Errorf("%s: status %d, %s", c.name, status, body)
		}
	}
	select {
	case <-quit:
		t.Fatal("it was ended")
	default:
	}
	if status, body, _ := page(http.MethodPost, "/quitquitquit", ""); status != http.StatusOK || body != "OK\n" {
		t.Errorf("quit: status %d, %q", status, body)
	}
	<-quit

	if err := r.sidecar.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if status, body, _ := page(http.MethodGet, "/ready", ""); status != http.StatusServiceUnavailable || body != "DRAINING\n" {
		t.Errorf("while draining: status %d, %q", status, body)
	}
}

// TestAdminLogging: the level of the log is told, and set by POST of this machine's own only.
func TestAdminLogging(t *testing.T) {
	t.Parallel()
	level := new(slog.LevelVar)
	r := start(t, "", func(c *proxy.Config) { c.Admin, c.LogLevel = "127.0.0.1:0", level })
	address := r.sidecar.AdminAddr().String()
	ask := func(line, head string) (int, string) {
		c, br := dial(t, address)
		send(t, c, line+" HTTP/1.1\r\nHost: "+address+"\r\n"+head+"Content-Length: 0\r\nConnection: close\r\n\r\n")
		resp, body := read(t, br, "GET")
		return resp.StatusCode, body
	}
	for _, x := range []struct {
		line, head string
		status     int
		level      slog.Level
	}{
		{"GET /logging", "", 200, slog.LevelInfo}, {"GET /logging?level=debug", "", 200, slog.LevelInfo}, {"POST /logging?level=debug", "", 200, slog.LevelDebug},
		{"POST /logging?level=loud", "", 400, slog.LevelDebug}, {"POST /logging?level=error", "Sec-Fetch-Site: cross-site\r\n", 403, slog.LevelDebug},
		{"POST /logging?level=error", "Origin: https://evil.example\r\n", 403, slog.LevelDebug}, {"PUT /logging?level=error", "", 405, slog.LevelDebug},
	} {
		status, body := ask(x.line, x.head)
		if status != x.status || level.Level() != x.level || status == 200 && !strings.Contains(body, strings.ToLower(x.level.String())) {
			t.Errorf("%s %q: %d %q, level %v", x.line, x.head, status, body, level.Level())
		}
	}
	if status, _ := ask("GET /quitquitquit", ""); status != 404 {
		t.Errorf("what is not there: %d", status)
	}
}
