//go:build unix

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// TestProxyReload: SIGHUP has the files read at once, the command hears of it too, and the log says what came of it (E-007).
func TestProxyReload(t *testing.T) {
	t.Parallel()
	dir := configDir(t, "127.0.0.1:1")
	ca := caDir(t)
	id := filepath.Join(t.TempDir(), "id")
	sign := []string{"ca", "sign", ca, "default/ratings", "--out", id, "--replace"}
	if r := heddle(t, "", sign...); r.code != exitOK {
		t.Fatal(r.stderr)
	}
	p := spawn(t, nil, slices.Concat([]string{"--config", dir, "--svid", filepath.Join(id, "svid.pem"), "--svid-key", filepath.Join(id, "key.pem"),
		"--svid-bundle", filepath.Join(id, "bundle.pem")}, apart, childOf("signals"))...)
	p.until("mesh identity taken")
	p.until("child is ready")
	for n := range 3 {
		text := strings.ReplaceAll(`apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings}
spec: {hosts: [ratings], http: [{name: rN, route: [{destination: {host: ratings}}]}]}
`, "rN", fmt.Sprint("r", n))
		replaceFile(t, filepath.Join(dir, "rule.yaml"), text)
		p.signal(syscall.SIGHUP)
		if line := p.until("SIGHUP: files were read anew"); !strings.Contains(line, fmt.Sprint("version=", n+2)) || !strings.Contains(line, "documents=2") {
			t.Errorf("reload %d: %s", n, line)
		}
		p.untilTimes(n+1, "child got hangup") // signals of one kind do not queue: a second one that comes before the first is taken is none
	}
	p.untilTimes(2, "mesh identity taken") // it was asked for, and nobody waits for it
	replaceFile(t, filepath.Join(dir, "rule.yaml"), "kind: VirtualService\n")
	p.signal(syscall.SIGHUP)
	if line := p.until("SIGHUP: files were read anew"); !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "version=4") {
		t.Errorf("refused: %s", line)
	}
	p.untilTimes(4, "child got hangup")
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 7 || strings.Count(p.said(), "child got hangup") != 4 {
		t.Errorf("exit code %d: %s", code, p.said())
	}
}

// replaceFile puts a whole file in the place of another.
func replaceFile(t *testing.T, name, text string) {
	t.Helper()
	next := filepath.Join(filepath.Dir(name), ".next")
	if err := errors.Join(os.WriteFile(next, []byte(text), 0o600), os.Rename(next, name)); err != nil {
		t.Fatal(err)
	}
}

// TestProxyQuits: SIGQUIT is for who looks for what hangs: it shows all goroutines and ends the process; a command gets it (E-007).
func TestProxyQuits(t *testing.T) {
	t.Parallel()
	p := spawn(t, nil, slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1")}, apart)...)
	p.addresses()
	p.signal(syscall.SIGQUIT)
	p.until("SIGQUIT: quit")
	if code := p.code(); code != 2 {
		t.Errorf("exit code %d", code)
	}
	p = spawn(t, nil, slices.Concat([]string{"--config", configDir(t, "127.0.0.1:1")}, apart, childOf("signals"))...)
	p.until("child is ready")
	p.signal(syscall.SIGQUIT)
	p.until("child got quit")
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 7 {
		t.Errorf("exit code %d", code)
	}
}

// TestProxyUnread: nobody reads what it writes any more, and it serves on (E-007, SIGPIPE).
func TestProxyUnread(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, slices.Concat([]string{"proxy", "--config", configDir(t, "127.0.0.1:1")}, apart)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), testRole+"=1"), w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_ = w.Close()
	admin := ""
	for s := bufio.NewScanner(r); admin == "" && s.Scan(); {
		for _, m := range addressPattern.FindAllStringSubmatch(s.Text(), -1) {
			if m[1] == "admin" {
				admin = m[2]
			}
		}
	}
	_ = r.Close()
	for range 3 {
		for _, sig := range []os.Signal{syscall.SIGPIPE, syscall.SIGHUP} { // after the second it has something to write
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
		}
		if status, err := statusOf("http://" + admin + "/ready"); status != http.StatusOK {
			t.Fatalf("%d, %v", status, err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// secretive is a configuration under which nobody is let in to /secret.
const secretive = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secret, namespace: default}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/secret]}}]}]}
`

// TestProxySnapshot: killed, and with its configuration away, it comes back by the snapshot, and the first request it takes meets the
// policy (E-010). What is wrong with the file is told of, and then it does not start (E-026; package keep has the other faults).
func TestProxySnapshot(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(app.Close)
	dir, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte(secretive), 0o600); err != nil {
		t.Fatal(err)
	}
	inbound := loopback.Free(t)
	args := slices.Concat([]string{"--config", dir, "--snapshot-dir", state, "--inbound", inbound + "=" + app.Listener.Addr().String()}, apart)
	p := spawn(t, nil, args...)
	p.addresses()
	p.signal(syscall.SIGHUP) // when that is told of, what came first is kept
	p.until("SIGHUP: files were read anew")
	for range 3 {
		p.signal(syscall.SIGKILL)
		if code := p.code(); code != -1 {
			t.Errorf("exit code %d", code)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		p = spawn(t, nil, args...)
		for {
			status, err := statusOf("http://" + inbound + "/secret")
			if err != nil {
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Fatal(err)
				}
				continue
			}
			if status != http.StatusForbidden {
				t.Errorf("the first request was answered with %d", status)
			}
			break
		}
		t.Logf("the first request was answered %s after the start of the process", time.Since(began))
		p.until("the snapshot serves until that is mended")
		at := p.addresses()
		if status, err := statusOf("http://" + inbound + "/"); status != http.StatusOK {
			t.Errorf("%d, %v", status, err)
		}
		if r := heddle(t, "", "proxy-status", "--admin", at["admin"]); !strings.Contains(r.stdout, "ERROR") {
			t.Errorf("proxy-status: %s%s", r.stdout, r.stderr)
		}
	}
	if err := os.Truncate(filepath.Join(state, "snapshot"), 100); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGKILL)
	p.code()
	p = spawn(t, nil, args...)
	p.until("mesh configuration snapshot")
	if code := p.code(); code != exitInput || !strings.Contains(p.said(), "checksum is wrong") {
		t.Errorf("exit code %d: %s", code, p.said())
	}
	refused(t, inbound)
}

// refused fails the test where somebody listens.
func refused(t *testing.T, address string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s: %v", address, err)
	}
}

// TestProxyWithoutIdentity: as long as no identity is issued nobody is let in, in plain text least of all; from then on it is as the policy
// has it (E-011).
func TestProxyWithoutIdentity(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was reached in plain text") }))
	t.Cleanup(app.Close)
	dir, id := t.TempDir(), filepath.Join(t.TempDir(), "id")
	strict := "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: default}\nspec: {mtls: {mode: STRICT}}\n"
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(strict), 0o600); err != nil {
		t.Fatal(err)
	}
	inbound, health := loopback.Free(t), loopback.Free(t)
	p := spawn(t, nil, slices.Concat([]string{"--config", dir, "--inbound", inbound + "=" + app.Listener.Addr().String(), "--health", health,
		"--svid", filepath.Join(id, "svid.pem"), "--svid-key", filepath.Join(id, "key.pem"), "--svid-bundle", filepath.Join(id, "bundle.pem")}, apart)...)
	p.until("mesh identity refused")
	for range 10 {
		refused(t, inbound)
		refused(t, health)
	}
	if r := heddle(t, "", "ca", "sign", caDir(t), "default/ratings", "--out", id); r.code != exitOK {
		t.Fatal(r.stderr)
	}
	p.until("heddle proxy is ready")
	if status, err := statusOf("http://" + inbound + "/"); err == nil {
		t.Errorf("in plain text: %d", status)
	}
}
