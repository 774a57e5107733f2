//go:build unix

package cli

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestProxyDeclaredAlone: a sidecar may have no listeners but those of documents; with none at all there is nothing to serve.
func TestProxyDeclaredAlone(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ratings") }))
	t.Cleanup(app.Close)
	dir := configDir(t, app.Listener.Addr().String())
	args := []string{"--config", dir, "--outbound", "none", "--admin", "127.0.0.1:0"}
	if r := heddle(t, "", append([]string{"proxy"}, args...)...); r.code != exitUsage || !strings.Contains(r.stderr, "no Sidecar with listeners in the configuration: there is nothing to serve") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	short, err := os.MkdirTemp("", "d") //nolint:usetesting // t.TempDir's names are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	path := filepath.Join(short, "out")
	const document = `apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec: {egress: [{port: {number: 0, protocol: HTTP, name: http}, bind: "unix://PATH", hosts: ["*/*"]}]}
`
	if err := os.WriteFile(filepath.Join(dir, "sidecar.yaml"), []byte(strings.ReplaceAll(document, "PATH", path)), 0o600); err != nil {
		t.Fatal(err)
	}
	p := spawn(t, nil, args...)
	if said := p.until("heddle proxy is ready"); !strings.Contains(said, "declared="+path) {
		t.Errorf("said %s", said)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	resp, err := client.Get("http://ratings:9080/")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || string(text) != "ratings" {
		t.Errorf("%s: %q", resp.Status, text)
	}
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != exitOK {
		t.Errorf("exit code %d: %s", code, p.said())
	}
}
