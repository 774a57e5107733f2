package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/heddlemesh/mesh/proxy"
)

// TestAppMetrics: the application's own metrics stand behind the mesh's, without what the mesh has under the same name and what
// ends an OpenMetrics text; where they cannot be had the mesh's come alone, and say so.
func TestAppMetrics(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	app := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, "# HELP mine_total Mine.\n# TYPE mine_total counter\nmine_total{a=\"b\"} 3\n"+
			"# HELP istio_build Theirs.\n# TYPE istio_build gauge\nistio_build{component=\"x\"} 1\n# a comment\nbare 1\n# EOF")
	}))
	r := start(t, "", func(c *proxy.Config) { c.Admin, c.AppMetrics = "127.0.0.1:0", "http://"+app+"/metrics" })
	page := func() string {
		resp, err := http.Get("http://" + r.sidecar.AdminAddr().String() + "/stats/prometheus") //nolint:noctx // of this machine
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
			t.Fatalf("status %d, %v, %v", resp.StatusCode, resp.Header, err)
		}
		return string(text)
	}
	got := page()
	if !strings.HasSuffix(got, "# HELP mine_total Mine.\n# TYPE mine_total counter\nmine_total{a=\"b\"} 3\n# a comment\nbare 1\n") ||
		strings.Count(got, "# TYPE istio_build gauge") != 1 || strings.Contains(got, "Theirs") || !strings.Contains(got, "heddle_application_scrapes_failed_total 0\n") {
		t.Errorf("merged:\n%s", got)
	}
	down.Store(true)
	if got = page(); strings.Contains(got, "mine_total") || !strings.Contains(got, "heddle_application_scrapes_failed_total 1\n") {
		t.Errorf("of an application that fails:\n%s", got)
	}
}
