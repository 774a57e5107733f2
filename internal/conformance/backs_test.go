package conformance

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/loopback"
)

// startNginx serves files, and the secret by Host and by a header, as testdata/secret.conf says; "" where there is no nginx.
func startNginx(t testing.TB, files string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/nginx"); err != nil { // not in everybody's PATH
			return ""
		}
	}
	config, err := os.ReadFile("testdata/secret.conf")
	if err != nil {
		t.Fatal(err)
	}
	address := loopback.Free(t)
	_, port, _ := net.SplitHostPort(address)
	dir := t.TempDir()
	path := filepath.Join(dir, "conf")
	text := strings.NewReplacer("DIR", dir, "PORT", port, "FILES", files, "SECRET", secret).Replace(string(config))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	launch(t, exec.Command(program, "-p", dir, "-e", filepath.Join(dir, "error"), "-c", path))
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
			return address
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// startPython does it with http.server; "" where there is no Python.
func startPython(t testing.TB, files string) string {
	t.Helper()
	program, err := exec.LookPath("python3")
	if err != nil {
		return ""
	}
	cmd := exec.Command(program, "testdata/secret.py", files, secret)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // it ends with us
		t.Fatal(err)
	}
	launch(t, cmd)
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "127.0.0.1:" + strings.TrimSpace(port)
}

// launch runs a program until the test ends.
func launch(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}
