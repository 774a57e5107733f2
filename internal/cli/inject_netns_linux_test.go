package cli

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/heddlemesh/mesh/internal/netns"
)

// A manifestContainer is one as Kubernetes would run it.
type manifestContainer struct {
	Name     string
	Args     []string
	Env      []struct{ Name, Value string }
	Security struct {
		RunAsUser    int `yaml:"runAsUser"`
		Capabilities struct{ Drop, Add []string }
		Escalation   bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRoot bool `yaml:"readOnlyRootFilesystem"`
	} `yaml:"securityContext"`
}

// command is the container's process with what its securityContext leaves: user, capabilities, no new ones, a root that cannot be written.
func (c *manifestContainer) command(t *testing.T, self string) *exec.Cmd {
	t.Helper()
	s := c.Security
	if strings.Join(s.Capabilities.Drop, "") != "ALL" || s.Escalation || !s.ReadOnlyRoot {
		t.Fatalf("%+v", c)
	}
	bounds := "-all"
	for _, add := range s.Capabilities.Add {
		bounds += ",+" + strings.ToLower(add)
	}
	args := []string{"--mount", "sh", "-c", `mount -o remount,bind,ro / && exec "$@"`, "sh",
		"setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=" + bounds, fmt.Sprintf("--reuid=%d", s.RunAsUser), fmt.Sprintf("--regid=%d", s.RunAsUser), "--clear-groups", self}
	for _, a := range c.Args {
		args = append(args, kubeVariable.ReplaceAllString(a, "default"))
	}
	cmd := exec.Command("unshare", args...)
	cmd.Env = append(os.Environ(), testRole+"=1")
	for _, e := range c.Env {
		if e.Value != "" {
			cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// TestNamespaceInjected is rows G-008 and G-009 for the injected manifest: its containers, run with the privileges that it leaves them, install the rules, carry
// the program, and make its probes.
func TestNamespaceInjected(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	capture, sidecar := injectedContainers(t)
	self := readableCopy(t)
	if out, err := capture.command(t, self).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", capture.Name, err, out)
	}
	there := netns.NewMachine(t)
	serveHere(t)
	cmd := sidecar.command(t, self)
	for i, a := range cmd.Args {
		if a == "/etc/heddle/mesh.d" { // where the ConfigMap is mounted
			cmd.Args[i] = filepath.Dir(self)
		}
	}
	started(t, cmd)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Uid:\t1337\t1337\t1337\t1337", "Gid:\t1337\t1337\t1337\t1337", "NoNewPrivs:\t1", "CapInh:\t0000000000000000", "CapPrm:\t0000000000000000",
		"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000"} {
		if !strings.Contains(string(status), line+"\n") {
			t.Errorf("no %q in\n%s", line, status)
		}
	}
	for url, want := range map[string]string{
		"http://" + netns.HereV4 + ":9080/page":                           "here /page from 127.0.0.6",
		"http://" + netns.HereV4 + ":15021/healthz/ready":                 "LIVE",
		"http://" + netns.HereV4 + ":15021/app-health/productpage/readyz": "here /health",
	} {
		var got string
		resp, err := askFrom(there, url)
		if err == nil {
			text, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			got = resp.Status + " " + string(text)
		}
		if err != nil || !strings.HasPrefix(got, "200 OK ") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, %v, want %q", url, got, err, want)
		}
	}
}

// injectedContainers are the two that heddle inject has put before productpage.
func injectedContainers(t *testing.T) (capture, sidecar manifestContainer) {
	t.Helper()
	for d := yaml.NewDecoder(strings.NewReader(readDeploy(t, "kubernetes/bookinfo-injected.yaml"))); ; {
		var one struct {
			Metadata struct{ Name string }
			Spec     struct {
				Template struct {
					Spec struct {
						Init []manifestContainer `yaml:"initContainers"`
					}
				}
			}
		}
		if err := d.Decode(&one); err != nil {
			t.Fatal(err)
		}
		if init := one.Spec.Template.Spec.Init; one.Metadata.Name == "productpage-v1" && len(init) == 2 {
			return init[0], init[1]
		}
	}
}

// readableCopy puts the binary, and an empty configuration, where every user can read them.
func readableCopy(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "heddle") //nolint:usetesting // others have to read it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self := filepath.Join(dir, "heddle")
	text, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(self, text, 0o755)
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return self
}

// serveHere is the program: it listens on its port, on every address.
func serveHere(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", ":9080")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "here "+r.URL.Path+" from "+r.RemoteAddr)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
}

// started returns when the sidecar says that it is ready.
func started(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	runtime.LockOSThread() // with whose end it would be killed
	t.Cleanup(runtime.UnlockOSThread)
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var said strings.Builder
	for s := bufio.NewScanner(stderr); s.Scan(); {
		said.WriteString(s.Text() + "\n")
		if strings.Contains(s.Text(), "heddle proxy is ready") {
			go func() { _, _ = io.Copy(io.Discard, stderr) }()
			return
		}
	}
	t.Fatalf("it is not ready:\n%s", said.String())
}

// askFrom asks from the other machine.
func askFrom(m *netns.Machine, url string) (*http.Response, error) {
	conn, err := m.Dial(strings.Split(strings.TrimPrefix(url, "http://"), "/")[0])
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodGet, url, http.NoBody) //nolint:noctx // it is written by hand
	if err != nil {
		return nil, err
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(conn), req)
}
