package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// TestDeclaredTakeover: listeners that documents ask for, on ports and on Unix sockets, are handed to a successor, and nobody is refused.
func TestDeclaredTakeover(t *testing.T) {
	t.Parallel()
	app := upstreamOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }))
	dir, err := os.MkdirTemp("", "dt") //nolint:usetesting // t.TempDir's names are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	config, web, path := configDir(t, app), loopback.Free(t), filepath.Join(dir, "calls")
	_, number, _ := net.SplitHostPort(web)
	doc := fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web}
spec:
  ingress: [{port: {number: %s, protocol: HTTP}, bind: 127.0.0.1, defaultEndpoint: "%s"}]
  egress: [{port: {number: 0, protocol: HTTP}, bind: "unix://%s", hosts: ["*/*"]}, {hosts: ["*/*"]}]
`, number, app, path)
	if err := os.WriteFile(filepath.Join(config, "sidecar.yaml"), []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	args := slices.Concat([]string{"--config", config, "--takeover", filepath.Join(dir, "socket"), "--drain-timeout", "1h"}, apart)
	old := spawn(t, nil, args...)
	old.addresses()
	c := newCrowd(t, "http://"+web+"/x", 2, 0)
	bySocket := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	called := func(when string) {
		t.Helper()
		resp, err := bySocket.Get("http://ratings:9080/by-socket")
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		defer resp.Body.Close()
		if body, _ := io.ReadAll(resp.Body); string(body) != "/by-socket" {
			t.Errorf("%s: %d %q", when, resp.StatusCode, body)
		}
	}
	called("at first")
	for range 2 {
		c.hasAnswers(100)
		next := spawn(t, nil, args...)
		next.addresses()
		old.until("a successor has the listeners")
		called("by the successor")
		if code := old.code(); code != exitOK {
			t.Errorf("exit code %d: %s", code, old.said())
		}
		called("when the first has gone")
		old = next
	}
	c.hasAnswers(100)
	close(c.stop)
	c.running.Wait()
	if c.lost.Load()+c.refused.Load() > 0 {
		t.Errorf("%d lost, %d refused", c.lost.Load(), c.refused.Load())
	}
	if said := old.said(); !strings.Contains(said, "a listener of a Sidecar is open") {
		t.Errorf("nobody says that it is open:\n%s", said)
	}
}
