package sidecar_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/cli"
	"github.com/heddlemesh/mesh/internal/loopback"
)

// role makes the test's binary be heddle, or one of the two programs.
const role = "SIDECAR_EXAMPLE"

func TestMain(m *testing.M) {
	if os.Getenv(role) != "" {
		switch os.Args[1] {
		case "service":
			_ = http.ListenAndServe(os.Args[2], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "five stars for "+r.Host+r.URL.Path)
			}))
			os.Exit(1)
		case "caller":
			resp, err := http.Get(os.Args[2]) // it knows http_proxy, as curl does
			if err != nil {
				os.Exit(1)
			}
			_, _ = io.Copy(os.Stdout, resp.Body)
			os.Exit(0)
		}
		os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// TestSidecar runs the two commands of the package's documentation, on ports that are free.
func TestSidecar(t *testing.T) {
	text, err := os.ReadFile("mesh.d/ratings.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, inbound, _ := net.SplitHostPort(loopback.Free(t))
	_, app, _ := net.SplitHostPort(loopback.Free(t))
	dir := t.TempDir()
	text = bytes.ReplaceAll(text, []byte("ports: {http: 9080}"), []byte("ports: {http: "+inbound+"}"))
	if err := os.WriteFile(filepath.Join(dir, "ratings.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	service := heddle(self, "proxy", "--config", dir, "--workload", "ratings-v1", "--labels", "app=ratings,version=v1",
		"--inbound", "127.0.0.1:"+inbound+"=127.0.0.1:"+app, "--outbound", "none", "--admin", "none",
		"--", self, "service", "127.0.0.1:"+app)
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = service.Process.Signal(os.Interrupt)
		if _ = service.Wait(); service.ProcessState.ExitCode() == -1 {
			t.Errorf("the service's sidecar ended by %v", service.ProcessState)
		}
	}()
	for _, port := range []string{inbound, app} {
		waitFor(t, "127.0.0.1:"+port)
	}

	caller := heddle(self, "proxy", "--config", dir, "--workload", "web", "--outbound", "127.0.0.1:0", "--admin", "none",
		"--", self, "caller", "http://ratings:9080/1")
	out, err := caller.Output()
	if err != nil || string(out) != "five stars for ratings:9080/1" {
		t.Errorf("the caller got %q, %v", out, err)
	}
}

// TestConfiguration: analyze has nothing to say about mesh.d.
func TestConfiguration(t *testing.T) {
	var out strings.Builder
	if code := cli.Main([]string{"analyze", "--failure-threshold", "Info", "mesh.d"}, nil, &out, &out); code != 0 {
		t.Errorf("exit code %d: %s", code, out.String())
	}
}

func heddle(self string, args ...string) *exec.Cmd {
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), role+"=1")
	return cmd
}

func waitFor(t *testing.T, address string) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("nobody listens on %s", address)
		}
		<-time.After(time.Millisecond)
	}
}
