//go:build unix

package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// becoming gives the URL of a page that is there from the nth question on.
func becoming(t *testing.T, n int64, first int) (page string, asked *atomic.Int64) {
	asked = new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < n {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(first)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/healthz/ready", asked
}

func TestWait(t *testing.T) {
	t.Parallel()
	for _, first := range []int{http.StatusServiceUnavailable, http.StatusNotFound, http.StatusFound} {
		page, asked := becoming(t, 5, first)
		r := heddle(t, "", "wait", "--url", page, "--interval", "1ms", "--timeout", "10m", "--request-timeout", "10m")
		if r.code != exitOK || r.stdout+r.stderr != "" || asked.Load() != 5 {
			t.Errorf("%d: exit code %d after %d questions: %s", first, r.code, asked.Load(), r.stderr)
		}
	}
	page, _ := becoming(t, 1<<62, http.StatusServiceUnavailable)
	r := heddle(t, "", "wait", "--url", page, "--timeout", "1s", "--interval", "1ms")
	if r.code != exitFailed || !strings.Contains(r.stderr, "not ready within 1s: ") {
		t.Errorf("never: exit code %d: %s", r.code, r.stderr)
	}
	r = heddle(t, "", "wait", "--url", "http://"+loopback.Dead(t)+"/", "--timeout", "1ms", "--interval", "1h")
	if r.code != exitFailed || !strings.Contains(r.stderr, "not ready within 1ms") {
		t.Errorf("nobody: exit code %d: %s", r.code, r.stderr)
	}
}

func TestWaitInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var said strings.Builder
	if code := run(ctx, []string{"wait", "--url", "http://" + loopback.Dead(t) + "/"}, nil, &said, &said); code != exitInterrupted {
		t.Errorf("exit code %d: %s", code, said.String())
	}
}

func TestWaitUsage(t *testing.T) {
	t.Parallel()
	for says, args := range map[string][]string{
		`unexpected argument "x"; a command follows after --`: {"x"},
		"--url 127.0.0.1:1: expected an http URL":             {"--url", "127.0.0.1:1"},
		"--url https://a/: expected an http URL":              {"--url", "https://a/"},
		"--timeout is nothing or negative":                    {"--timeout", "0"},
		"--interval is nothing or negative":                   {"--interval", "-1s"},
		"--request-timeout is nothing or negative":            {"--request-timeout", "0"},
		"the command is empty":                                {"--", ""},
	} {
		r := heddle(t, "", append([]string{"wait"}, args...)...)
		first, rest, _ := strings.Cut(r.stderr, "\n")
		if r.code != exitUsage || first != "heddle: "+says || !strings.HasPrefix(rest, "Usage: heddle wait [flags]") {
			t.Errorf("%q: exit code %d: %s", args, r.code, r.stderr)
		}
	}
	if r := heddle(t, "", "wait", "--url", "http://"+loopback.Dead(t), "--", "heddle-test-no-such-command"); r.code != exitNotFound {
		t.Errorf("no such command: exit code %d: %s", r.code, r.stderr)
	}
}

// TestWaitRuns: the command takes the place of wait, when the sidecar is ready and not before.
func TestWaitRuns(t *testing.T) {
	t.Parallel()
	page, asked := becoming(t, 3, http.StatusServiceUnavailable)
	wait := []string{"wait", "--url", page, "--interval", "1ms", "--request-timeout", "10m", "--timeout", "10m"}
	p := spawnCommand(t, nil, slices.Concat(wait, childOf("signals"))...)
	p.until("child is ready")
	if asked.Load() != 3 {
		t.Errorf("started after %d questions", asked.Load())
	}
	p.signal(syscall.SIGUSR1)
	p.until("child got user defined signal 1")
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 7 {
		t.Errorf("exit code %d: %s", code, p.said())
	}
	if r := heddle(t, "", slices.Concat(wait, []string{"--", t.TempDir()})...); r.code != exitNotRunnable {
		t.Errorf("a directory: exit code %d: %s", r.code, r.stderr)
	}
}

// TestProxyHealth: the health listener of a sidecar, what waits for it, and a probe of the program behind it.
func TestProxyHealth(t *testing.T) {
	t.Parallel()
	app := loopback.Free(t)
	_, port, _ := strings.Cut(app, ":")
	probes := `{"/app-health/ratings/livez":{"httpGet":{"path":"/health","port":` + port + `},"timeoutSeconds":600}}`
	p := spawn(t, []string{appProbers + "=" + probes}, slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1"), "--inbound", "127.0.0.1:0=" + app,
		"--drain-delay", "1h", "--health", "127.0.0.1:0"}, apart, childOf("serve", app))...)
	at := p.addresses()["health"]
	p.until("child is ready")
	if r := heddle(t, "", "wait", "--url", "http://"+at+"/healthz/ready", "--request-timeout", "10m"); r.code != exitOK {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	if body, err := fetch("http://" + at + "/app-health/ratings/livez"); err != nil || body != "/health" {
		t.Errorf("probe: %q, %v", body, err)
	}
	p.signal(syscall.SIGTERM)
	for {
		if status, _ := statusOf("http://" + at + "/healthz/ready"); status == http.StatusServiceUnavailable {
			break
		}
	}
	if body, err := fetch("http://" + at + "/app-health/ratings/livez"); err != nil || body != "/health" { // it is alive as long as it serves
		t.Errorf("probe while draining: %q, %v", body, err)
	}
	p.signal(os.Interrupt)
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.said())
	}
}
