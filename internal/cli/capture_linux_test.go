package cli

import (
	"bufio"
	"errors"
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

	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/netns"
)

// TestCapturePrint: flags become the rules of package capture, whose own tests look at those.
func TestCapturePrint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"# nft -f -", "redirect to :15001", "redirect to :15006", "skuid 1337 return", "skgid 1337 return"}},
		{[]string{"--backend", "iptables", "--no-ipv6"}, []string{"# iptables-restore --noflush", "--to-ports 15001", "--gid-owner 1337"}},
		{
			[]string{"--uid", "500", "--outbound-port", "1", "--inbound-port", "2", "--exclude-outbound-ports", "22,7000-7999",
				"--include-inbound-ports", "9080", "--exclude-cidrs", "10.1.2.3/8,fd00::1", "--exclude-uids", "0", "--exclude-gids", "5-6",
				"--include-uids", "1000", "--include-gids", "8", "--exclude-inbound-interfaces", "veth*,docker0", "--include-cidrs", "10.0.0.0/8",
				"--include-outbound-ports", "80", "--exclude-inbound-ports", "15020", "--include-outbound-interfaces", "eth0",
				"--exclude-outbound-interfaces", "tun0", "--include-inbound-interfaces", "eth1"},
			[]string{"skuid 500 return", ":1\n", ":2\n", "dport 22 return", "dport 7000-7999 return", "dport 9080 goto", "ip daddr 10.0.0.0/8 return",
				"ip6 daddr fd00::1/128 return", "skuid 0 return", "skgid 5-6 return", "skuid 1000 goto", "skgid 8 goto", `iifname "veth*" return`,
				`iifname "docker0" return`, "dport 80 goto", "dport 15020 return", `oifname "eth0" goto`, `oifname "tun0" return`, `iifname "eth1" goto`,
				"ip daddr 10.0.0.0/8 goto"},
		},
	} {
		got := heddle(t, "", append([]string{"capture", "print"}, c.args...)...)
		if got.code != exitOK {
			t.Errorf("%v: exit code %d, %s", c.args, got.code, got.stderr)
		}
		for _, want := range c.want {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("%v: no %q in\n%s", c.args, want, got.stdout)
			}
		}
	}
}

// TestCaptureUsage: what no rules can be made of is wrong usage, before anything is looked at.
func TestCaptureUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "no command given: install, uninstall, status, print or fail-open"},
		{[]string{"print", "--backend", "pf"}, `invalid argument "pf" for "--backend" flag: expected nftables, iptables, iptables-nft or iptables-legacy`},
		{[]string{"print", "--uid", "root"}, `invalid argument "root" for "--uid" flag: "root" is no number and no range of numbers`},
		{[]string{"install", "--exclude-cidrs", "10.0.0.0/33"}, `invalid argument "10.0.0.0/33" for "--exclude-cidrs" flag: "10.0.0.0/33" is no CIDR`},
		{[]string{"install", "--outbound-port", "15006"}, "the outbound port and the inbound port are the same"},
		{[]string{"install", "--include-outbound-interfaces", "a b"}, `"a b" is no name of an interface`},
	} {
		got := heddle(t, "", append([]string{"capture"}, c.args...)...)
		if first, _, _ := strings.Cut(got.stderr, "\n"); got.code != exitUsage || first != "heddle: "+c.says && first != "Error: "+c.says && first != c.says {
			t.Errorf("%v: exit code %d, %q, want %q", c.args, got.code, first, c.says)
		}
	}
}

// TestNamespaceCaptureCommand: the commands, one after the other.
func TestNamespaceCaptureCommand(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	for _, step := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"status"}, exitFailed, "not installed\n"},
		{[]string{"uninstall"}, exitOK, ""},
		{[]string{"install"}, exitOK, ""},
		{[]string{"install", "--backend", string(capture.IPTables)}, exitFailed, "rules of ours are installed by nftables already"},
		{[]string{"status"}, exitOK, "installed: nftables, outbound to port 15001, inbound to port 15006\n"},
		{[]string{"uninstall"}, exitOK, ""},
		{[]string{"install", "--backend", string(capture.IPTables), "--inbound-port", "16006"}, exitOK, ""},
		{[]string{"status"}, exitOK, "inbound to port 16006\n"},
		{[]string{"uninstall"}, exitOK, ""},
		{[]string{"status"}, exitFailed, "not installed\n"},
	} {
		got := heddle(t, "", append([]string{"capture"}, step.args...)...)
		if got.code != step.code || !strings.Contains(got.stdout+got.stderr, step.says) {
			t.Errorf("%v: exit code %d, %s%s", step.args, got.code, got.stdout, got.stderr)
		}
	}
	if got := heddle(t, "", "capture", "install"); got.code != exitOK {
		t.Fatal(got)
	}
	netns.Command(t, "nft", "flush", "chain", "inet", "heddle", "receive")
	if got := heddle(t, "", "capture", "status"); got.code != exitFindings || !strings.HasPrefix(got.stdout, "damaged: nftables: ") {
		t.Errorf("damaged: exit code %d, %s%s", got.code, got.stdout, got.stderr)
	}
}

// TestNamespaceUnprivileged is rows G-008 and G-009: the sidecar runs as nobody in particular, without a capability, and carries a
// program both ways by the rules as they are installed by default.
func TestNamespaceUnprivileged(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	serve := func(name string, listen func(string) (net.Listener, error)) {
		l, err := listen(":9080")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, name+" "+r.Host) })}
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(func() { _ = srv.Close() })
	}
	serve("there", there.Listen)
	serve("here", func(address string) (net.Listener, error) { return net.Listen("tcp", address) })
	dir, err := os.MkdirTemp("/tmp", "heddle") //nolint:usetesting // others have to read it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	document := `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec:
  hosts: [web.example.com]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: ` + netns.ThereV4 + `, ports: {http: 9080}}]
`
	self := filepath.Join(dir, "heddle")
	text, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.WriteFile(self, text, 0o755), os.WriteFile(filepath.Join(dir, "mesh.yaml"), []byte(document), 0o644), os.Chmod(dir, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := heddle(t, "", "capture", "install"); got.code != exitOK {
		t.Fatal(got)
	}
	cmd := exec.Command(self, "proxy", "--config", filepath.Join(dir, "mesh.yaml"), "--transparent", "--admin", "none", "--drain-delay", "0")
	cmd.Env, cmd.Dir = append(os.Environ(), testRole+"=1"), dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: capture.Owner, Gid: capture.Owner}, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var said strings.Builder
	for s := bufio.NewScanner(stderr); ; {
		if !s.Scan() {
			t.Fatalf("it is not ready:\n%s", said.String())
		}
		said.WriteString(s.Text() + "\n")
		if strings.Contains(s.Text(), "heddle proxy is ready") {
			break
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Uid:\t1337\t1337\t1337\t1337", "CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000"} {
		if !strings.Contains(string(status), line) {
			t.Errorf("no %q in\n%s", line, status)
		}
	}
	if got := webOver(netns.DialAs(1000, 1000, netns.ThereV4+":80")); got != "there web.example.com" { // on which nobody listens
		t.Errorf("out: %q\n%s", got, said.String())
	}
	if got := webOver(there.Dial(netns.HereV4 + ":9080")); got != "here web.example.com" {
		t.Errorf("in: %q\n%s", got, said.String())
	}
	// It dies: nothing goes past it (row E-009).
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for name, got := range map[string]string{"out": webOver(netns.DialAs(1000, 1000, netns.ThereV4+":9080")), "in": webOver(there.Dial(netns.HereV4 + ":9080"))} {
		if !strings.Contains(got, "connection refused") {
			t.Errorf("%s, without the sidecar: %q", name, got)
		}
	}
}

// webOver makes a request for web.example.com on a connection and gives the body of the answer, or why there is no connection.
func webOver(conn net.Conn, err error) string {
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: web.example.com\r\nConnection: close\r\n\r\n")
	all, _ := io.ReadAll(conn)
	_, body, _ := strings.Cut(string(all), "\r\n\r\n")
	return body
}
