package cli

import (
	"context"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestLifeTakeoverUnix: admin pages on a Unix socket are handed over too: the socket stays where it is and is its owner's alone, whoever asks is
// answered, one that cannot start takes nothing away, and the last one removes it.
func TestLifeTakeoverUnix(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "to") //nolint:usetesting // t.TempDir's names are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	admin := filepath.Join(dir, "admin")
	args := slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1"), "--takeover", filepath.Join(dir, "socket")}, apart, []string{"--admin", "unix://" + admin})
	asks := func() {
		t.Helper()
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", admin)
		}}}
		resp, err := c.Get("http://localhost/ready")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		info, err := os.Lstat(admin)
		if err != nil || resp.StatusCode != http.StatusOK || info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("status %d, %v, %v", resp.StatusCode, info, err)
		}
	}
	old := spawn(t, nil, args...)
	outbound := old.addresses()["outbound"]
	asks()
	for range 2 {
		next := spawn(t, nil, args...)
		next.addresses()
		old.until("a successor has the listeners")
		if code := old.code(); code != exitOK {
			t.Errorf("exit code %d: %s", code, old.said())
		}
		asks()
		old = next
	}
	r := heddle(t, "", slices.Concat([]string{"proxy"}, args, []string{"--inbound", "127.0.0.1:0=" + outbound})...)
	if r.code != exitFailed {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	old.until("nobody has taken over")
	asks()
	old.signal(syscall.SIGTERM)
	if code := old.code(); code != exitOK {
		t.Errorf("exit code %d: %s", code, old.said())
	}
	if _, err := os.Lstat(admin); err == nil {
		t.Error("the socket is left over")
	}
}
