package cli

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh/config"
	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/netns"
	"github.com/heddlemesh/mesh/snapshot"
)

// TestFailOpenPolicy: what documents close, for the workload that they select.
func TestFailOpenPolicy(t *testing.T) {
	t.Parallel()
	peers := func(mtls string) string {
		return "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: shop}\nspec: {selector: {matchLabels: {app: web}}, " + mtls + "}\n"
	}
	all := []capture.Range{{First: 0, Last: 79}, {First: 81, Last: 65535}}
	for name, c := range map[string]struct {
		text string
		want capture.Closed
	}{
		"nothing":             {"", capture.Closed{}},
		"PERMISSIVE":          {peers("mtls: {mode: PERMISSIVE}"), capture.Closed{}},
		"a port":              {peers("portLevelMtls: {9080: {mode: STRICT}, 9081: {mode: STRICT}, 80: {mode: STRICT}}"), capture.Closed{Ports: []capture.Range{{First: 80, Last: 80}, {First: 9080, Last: 9081}}}},
		"STRICT but a port":   {peers("mtls: {mode: STRICT}, portLevelMtls: {80: {mode: DISABLE}}"), capture.Closed{Ports: all}},
		"AuthorizationPolicy": {"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {}\n", capture.Closed{Inbound: "an AuthorizationPolicy says who may call"}},
		"of another":          {"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: bank}\nspec: {}\n", capture.Closed{}},
		"REGISTRY_ONLY": {"apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: shop}\nspec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: ['*/*']}]}\n",
			capture.Closed{Outbound: "outboundTrafficPolicy is REGISTRY_ONLY"}},
		"refused": {"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {rules: 7}\n",
			capture.Closed{Outbound: "the configuration cannot be read", Inbound: "the configuration cannot be read"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := closedIn(t, c.text)
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
	if got := closedIn(t, peers("mtls: {mode: STRICT}")); !strings.HasPrefix(got.Inbound, "mutual TLS is STRICT (PeerAuthentication") || got.Outbound != "" || got.Ports != nil {
		t.Errorf("STRICT: %+v", got)
	}
}

func closedIn(t *testing.T, text string) capture.Closed {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mesh.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &closedPolicy{changed: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler)}
	ended := p.watch(t.Context(), config.Options{Workload: snapshot.Workload{Namespace: "shop", Labels: map[string]string{"app": "web"}}}, []string{file})
	t.Cleanup(func() { <-ended })
	return p.closed()
}

// A failOpenScene is two machines with a web server each, and a program's on one of them.
type failOpenScene struct {
	t     *testing.T
	there *netns.Machine
	self  string // the binary, for everybody
}

func newFailOpenScene(t *testing.T) *failOpenScene {
	s := &failOpenScene{t, netns.NewMachine(t), readableCopy(t)}
	serve := func(name, address string, listen func(string) (net.Listener, error)) {
		l, err := listen(address)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			fmt.Fprintf(w, "%s from %s", name, strings.TrimPrefix(host, "::ffff:"))
		})}
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(func() { _ = srv.Close() })
	}
	here := func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	serve("there", ":9080", s.there.Listen)
	serve("here", ":9080", here)
	serve("here", ":9443", here)
	return s
}

// sidecar starts one, as the user that the rules exempt.
func (s *failOpenScene) sidecar() *exec.Cmd {
	document := `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec:
  hosts: [web.example.com]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: ` + netns.ThereV4 + `, ports: {http: 9080}}]
`
	config := filepath.Join(filepath.Dir(s.self), "mesh.yaml")
	if err := os.WriteFile(config, []byte(document), 0o644); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(s.self, "proxy", "--config", config, "--transparent", "--admin", "none")
	cmd.Env = append(os.Environ(), testRole+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: capture.Owner, Gid: capture.Owner}, Pdeathsig: syscall.SIGKILL}
	started(s.t, cmd)
	return cmd
}

func (s *failOpenScene) kill(sidecar *exec.Cmd) {
	_ = sidecar.Process.Kill()
	_ = sidecar.Wait()
}

// is holds what connections come to against what they should: the program's to a port that only the mesh knows and to one that is there, and
// the other machine's to a port and to one of STRICT mutual TLS.
func (s *failOpenScene) is(when, mesh, out, in, strict string) {
	s.t.Helper()
	for _, a := range []struct{ here, there string }{{netns.HereV4, netns.ThereV4}, {netns.HereV6, netns.ThereV6}} {
		named := func(want string) string { return strings.NewReplacer("HERE", a.here, "THERE", a.there).Replace(want) }
		for _, c := range []struct{ name, got, want string }{
			{"out, by the mesh", webOver(netns.DialAs(1000, 1000, net.JoinHostPort(a.there, "80"))), mesh},
			{"out", webOver(netns.DialAs(1000, 1000, net.JoinHostPort(a.there, "9080"))), out},
			{"in", webOver(s.there.Dial(net.JoinHostPort(a.here, "9080"))), in},
			{"in, STRICT", webOver(s.there.Dial(net.JoinHostPort(a.here, "9443"))), strict},
		} {
			if refused := strings.HasSuffix(c.got, "connection refused"); refused != (c.want == "refused") || !refused && !strings.HasPrefix(c.got, named(c.want)) {
				s.t.Errorf("%s, %s, %s: %q, want %q", when, a.here, c.name, c.got, named(c.want))
			}
		}
	}
}

func (s *failOpenScene) captured(when string) {
	s.t.Helper()
	s.is(when, "there from "+netns.HereV4, "there from HERE", "here from ", "here from ")
}

// status asks for it and wants the exit code and the words.
func (s *failOpenScene) status(code int, says string) {
	s.t.Helper()
	if got := heddle(s.t, "", "capture", "status"); got.code != code || !strings.Contains(got.stdout, says) {
		s.t.Errorf("status: exit code %d, want %d and %q\n%s", got.code, code, says, got.stdout)
	}
}

// TestNamespaceFailOpen: without its sidecar a program goes on in plaintext where that was chosen, and only where policy does not close it; with
// one it is captured again; rules of others stay as they are.
func TestNamespaceFailOpen(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	s := newFailOpenScene(t)
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte(`apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: p}
spec: {selector: {matchLabels: {app: web}}, portLevelMtls: {9443: {mode: STRICT}}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	netns.Command(t, "nft", "add table inet theirs; add chain inet theirs output { type nat hook output priority -90; }; add rule inet theirs output tcp dport 8 redirect to :80")
	for _, backend := range []capture.Backend{capture.NFTables, capture.IPTablesNFT, capture.IPTablesLegacy} {
		foreign := netns.Command(t, "nft", "list", "table", "inet", "theirs")
		sidecar := s.sidecar()
		g := spawnCommand(t, nil, "capture", "fail-open", "--backend", string(backend), "--grace", "200ms", "--config", policy, "--labels", "app=web")
		g.until("FAIL-OPEN mode")
		s.captured(string(backend))
		s.status(exitOK, "fail-open: nothing is lifted")

		s.kill(sidecar)
		if line := g.until("RULES ARE LIFTED"); !strings.Contains(line, "PLAINTEXT") || !strings.Contains(line, `open="outbound and inbound"`) || !strings.Contains(line, "staysCaptured.inboundPorts=9443") {
			t.Errorf("%s: %s", backend, line)
		}
		s.is(string(backend)+", lifted", "refused", "there from HERE", "here from THERE", "refused")
		s.status(exitFindings, "FAIL-OPEN: LIFTED since ")

		sidecar = s.sidecar()
		g.until("FAIL-OPEN is over")
		s.captured(string(backend) + ", again")
		s.kill(sidecar)
		g.until("RULES ARE LIFTED")
		g.signal(syscall.SIGTERM)
		if code := g.code(); code != exitOK || !strings.Contains(g.said(), "the rules stay") {
			t.Errorf("%s: exit code %d\n%s", backend, code, g.said())
		}
		s.is(string(backend)+", left", "refused", "refused", "refused", "refused")
		if now := netns.Command(t, "nft", "list", "table", "inet", "theirs"); now != foreign {
			t.Errorf("%s: rules of others are\n%s\nand were\n%s", backend, now, foreign)
		}
		if got := heddle(t, "", "capture", "uninstall"); got.code != exitOK {
			t.Fatal(got)
		}
	}
}

// TestNamespaceFailOpenAlone: without a configuration nothing inbound is lifted; in time nothing is; killed, it leaves the rules as they are; and with
// --uninstall it takes them out.
func TestNamespaceFailOpenAlone(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	s := newFailOpenScene(t)
	sidecar := s.sidecar()
	g := spawnCommand(t, nil, "capture", "fail-open", "--grace", "1h")
	g.until("FAIL-OPEN mode")
	s.captured("begun")
	s.kill(sidecar)
	g.until("no sidecar")
	s.is("in the time of grace", "refused", "refused", "refused", "refused")
	sidecar = s.sidecar()
	g.until("in time")
	s.captured("in time")
	g.signal(syscall.SIGTERM)
	if code := g.code(); code != exitOK {
		t.Errorf("exit code %d\n%s", code, g.said())
	}
	s.kill(sidecar)

	g = spawnCommand(t, nil, "capture", "fail-open", "--grace", "0")
	if line := g.until("RULES ARE LIFTED"); !strings.Contains(line, "open=outbound ") || !strings.Contains(line, `staysCaptured.inbound="no configuration says`) {
		t.Error(line)
	}
	s.is("outbound only", "refused", "there from HERE", "refused", "refused")
	g.signal(syscall.SIGKILL)
	g.code()
	s.is("killed", "refused", "there from HERE", "refused", "refused")
	s.status(exitFindings, ", outbound: these connections go past the mesh, in plaintext")

	g = spawnCommand(t, nil, "capture", "fail-open", "--grace", "1h", "--uninstall")
	g.until("FAIL-OPEN mode")
	s.is("begun anew", "refused", "refused", "refused", "refused")
	g.signal(syscall.SIGTERM)
	if code := g.code(); code != exitOK || !strings.Contains(g.said(), "has taken the rules out") {
		t.Errorf("exit code %d\n%s", code, g.said())
	}
	s.is("taken out", "refused", "there from HERE", "here from THERE", "here from THERE")
	s.status(exitFailed, "not installed")
}
