package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/internal/proxyproto"
	"github.com/heddlemesh/mesh/proxy"
)

// byAddress lets in whom a header of the PROXY protocol names as 192.0.2.1, on a connection from this machine.
const byAddress = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: far}
spec:
  action: ALLOW
  rules: [{from: [{source: {remoteIpBlocks: [192.0.2.1], ipBlocks: [127.0.0.0/8]}}]}]
---
`

// TestProxyProtocolInbound: whom a header names is who calls, to policies and the log, HTTP or not; ipBlocks is still about the other
// end of the connection. Who brings no header is refused.
func TestProxyProtocolInbound(t *testing.T) {
	t.Parallel()
	web, db := upstream(t, saying("web")), speaking(t, "db")
	w := &written{more: make(chan struct{}, 1)}
	portOf := func(address string) uint16 { return netip.MustParseAddrPort(address).Port() }
	r, kernel, _, in := capturing(t, logEverything+byAddress, func(c *proxy.Config) {
		c.Capture.ProxyProtocol, c.Capture.Opaque = []uint16{portOf(web), portOf(db)}, []uint16{portOf(db)}
		c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: web, ProxyProtocol: true}}
	}, mesh.WithAccessLogStream("/dev/stdout", w))
	explicit := r.sidecar.InboundAddrs()[0].String()
	dialed := func(to string) net.Conn {
		if to != explicit {
			return kernel.dial(t, in, to)
		}
		c, err := net.Dial("tcp", explicit)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	named := func(version int, from string) string {
		return string(proxyproto.Append(nil, version, proxyproto.Header{From: netip.MustParseAddrPort(from), To: netip.MustParseAddrPort("192.0.2.9:80")}))
	}
	good, bad := named(1, "192.0.2.1:1234"), named(2, "192.0.2.2:1234")
	n := 0
	for _, c := range []struct{ to, header, want string }{
		{web, good, "200"}, {web, named(2, "192.0.2.1:1234"), "200"}, {web, bad, "403"}, {web, "PROXY UNKNOWN\r\n", "403"}, {web, "", "reset"}, {web, "PROXY TCP4 x\r\n", "reset"},
		{explicit, good, "200"}, {explicit, bad, "403"}, {explicit, "", "closed"},
	} {
		conn := dialed(c.to)
		_, _ = io.WriteString(conn, c.header)
		got := asked(t, conn, "any")
		if c.want == "closed" && !strings.Contains(got, "200") {
			got = "closed"
		}
		if got = got[:min(len(got), max(3, len(c.want)))]; got != c.want {
			t.Errorf("%s %q: %q, want %s", c.to, c.header, got, c.want)
		}
		if c.want == "200" || c.want == "403" {
			line := w.lines(t, n+1)[n]
			if n++; strings.Contains(line, " 192.0.2.1:1234 ") != (c.want == "200") {
				t.Errorf("%q: the line is %s", c.header, line)
			}
		}
	}
	for header, want := range map[string]string{good: "db", bad: "reset", "hello\n": "reset"} {
		conn := dialed(db)
		_, _ = io.WriteString(conn, header)
		if got := greeting(conn); got != want {
			t.Errorf("TCP %q: %q, want %s", header, got, want)
		}
	}
}

// TestProxyProtocolOutbound: connections to a service with proxyProtocol begin with a header that names the program and where it meant to
// go, before mutual TLS too.
func TestProxyProtocolOutbound(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	config := entry("db.example.com", "10.1.1.1", "TCP", 3306, l.Addr().String()) + `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db}
spec: {host: db.example.com, trafficPolicy: {proxyProtocol: {version: V2}}}
`
	_, kernel, out, _ := capturing(t, config, nil)
	conn := kernel.dial(t, out, "10.1.1.1:3306")
	up, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	_, _ = io.WriteString(conn, "hello\n")
	text, err := bufio.NewReader(up).ReadString('o')
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := proxyproto.Parse([]byte(text))
	if err != nil || h.From.String() != conn.LocalAddr().String() || h.To.String() != "10.1.1.1:3306" {
		t.Errorf("%q: %v, %v", text, h, err)
	}

	// Two sidecars, by mutual TLS: the callee sees the program.
	a := newAuthority(t, ca.Options{})
	db := speaking(t, "db")
	_, _, _, in := capturing(t, strict+strings.Replace(byAddress, "192.0.2.1", "127.0.0.0/8", 1), func(c *proxy.Config) {
		c.Capture.Destination = func(*net.TCPConn) (netip.AddrPort, error) { return netip.MustParseAddrPort(db), nil }
		c.Capture.ProxyProtocol = []uint16{netip.MustParseAddrPort(db).Port()}
	}, as(t, a, "db"))
	config = strings.Replace(config, l.Addr().String()[len("127.0.0.1:"):], in.String()[len("127.0.0.1:"):], 1)
	_, kernel, out, _ = capturing(t, strings.Replace(config, "endpoints: [{", "endpoints: [{serviceAccount: db, ", 1), nil, as(t, a, "shop"))
	if got := greeting(kernel.dial(t, out, "10.1.1.1:3306")); got != "db" {
		t.Errorf("by mutual TLS: %q", got)
	}
}
