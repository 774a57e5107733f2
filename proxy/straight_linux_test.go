package proxy_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/proxy"
)

// reached dials an address.
func reached(t *testing.T, at net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial(at.Network(), at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// greetingAt is greeting of who listens there. A reset can come so soon that it is the dialer's.
func greetingAt(t *testing.T, at net.Addr) string {
	t.Helper()
	c, err := net.Dial(at.Network(), at.String())
	if errors.Is(err, syscall.ECONNRESET) {
		return "reset"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return greeting(c)
}

// TestStraight: programs that do not speak HTTP call each other through two explicit sidecars, by mutual TLS, and who is called has
// policies for it.
func TestStraight(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, ca.Options{})
	only := func(account string) string {
		return strict + fmt.Sprintf(`apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only}
spec: {action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/%s]}}]}]}
`, account)
	}
	callee := startMesh(t, only("shop"), func(c *proxy.Config) {
		c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: speaking(t, "db"), Opaque: true}}
	}, as(t, a, "db"))
	in := callee.sidecar.InboundAddrs()[0]
	doc := strings.Replace(entry("db.example.com", "", "TCP", 3306, in.String()), "endpoints: [{", "endpoints: [{serviceAccount: db, ", 1)
	calling := func(account string) net.Addr {
		r := startMesh(t, doc, func(c *proxy.Config) {
			c.OutboundTCP = []proxy.OutboundTCP{{Listen: "127.0.0.1:0", Host: "db.example.com", Port: 3306}}
		}, as(t, a, account))
		return r.sidecar.TCPAddrs()[0]
	}
	if got := greetingAt(t, calling("shop")); got != "db" {
		t.Errorf("by mutual TLS: %q", got)
	}
	if got := greetingAt(t, calling("other")); got == "db" {
		t.Error("a caller that the policy does not name was let in")
	}
	c := reached(t, in)
	_, _ = c.Write([]byte("hello\n"))
	if got := greeting(c); got == "db" {
		t.Error("plain text under STRICT was let in")
	}
	awaitMetrics(t, callee.mesh, map[string]float64{"connections_opened spiffe://cluster.local/ns/default/sa/shop mutual_tls": 1}, "source_principal", "connection_security_policy")
}

// TestStraightRules: rules of tcp and tls apply to the listeners of explicit mode too, and what nobody may reach is not reached by them
// (rows B-101 and B-102).
func TestStraightRules(t *testing.T) {
	t.Parallel()
	elsewhere := speaking(t, "elsewhere")
	config := entry("a.example.com", "", "TCP", 3306, speaking(t, "a")) + entry("b.example.com", "", "TCP", 3306, speaking(t, "b")) + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec: {hosts: [a.example.com], tcp: [{match: [{port: 3306}], route: [{destination: {host: b.example.com}}]}]}
`
	host, port, _ := net.SplitHostPort(elsewhere)
	for _, policy := range []mesh.OutboundTrafficPolicy{mesh.AllowAny, mesh.RegistryOnly} {
		r := startMesh(t, config, func(c *proxy.Config) {
			for _, to := range []proxy.OutboundTCP{{Host: "a.example.com", Port: 3306}, {Host: "b.example.com", Port: 3306}, {Host: host, Port: uint16(atoi(port))}, {Host: "169.254.169.254", Port: 80}} {
				to.Listen = "127.0.0.1:0"
				c.OutboundTCP = append(c.OutboundTCP, to)
			}
		}, mesh.WithOutboundTrafficPolicy(policy))
		want := []string{"b", "b", "elsewhere", "reset"}
		if policy == mesh.RegistryOnly {
			want[2] = "reset"
		}
		for i, at := range r.sidecar.TCPAddrs() {
			if got := greetingAt(t, at); got != want[i] {
				t.Errorf("%s %d: %q, want %q", policy, i, got, want[i])
			}
		}
	}
}

// TestUnixApplication: the program listens on a socket of the file system, for HTTP/1.1, HTTP/2 and what is neither.
func TestUnixApplication(t *testing.T) {
	t.Parallel()
	listening := func(name string) net.Listener {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	raw, web := listening("raw"), listening("web")
	go speakFirst(raw, "raw")
	srv := &http.Server{Handler: saying("web"), Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = srv.Serve(web) }()
	t.Cleanup(func() { _ = srv.Close() })
	r := startMesh(t, "", func(c *proxy.Config) {
		c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: "unix://" + raw.Addr().String(), Opaque: true},
			{Listen: "127.0.0.1:0", App: "unix://" + web.Addr().String()}}
	})
	in := r.sidecar.InboundAddrs()
	if got := greetingAt(t, in[0]); got != "raw" {
		t.Errorf("opaque: %q", got)
	}
	if got := asked(t, reached(t, in[1]), "any"); got != "200 web for any" {
		t.Errorf("HTTP/1.1: %q", got)
	}
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	resp, err := clientOf(t, tr).Get("http://" + in[1].String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		t.Errorf("HTTP/2: %s %s", resp.Proto, resp.Status)
	}
}
