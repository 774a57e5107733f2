package proxy_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/netns"
	"github.com/heddlemesh/mesh/proxy"
)

// TestNamespaceDeclared: listeners of a Sidecar where rules of the kernel capture: what comes to their ports goes where they say, the program
// calls those that the sidecar opens by itself, and ports that are not listed are as before.
func TestNamespaceDeclared(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	serveOn(t, "there", there.Listen)
	serveOn(t, "here", here)
	socket := filepath.Join(t.TempDir(), "out")
	config := sidecarOf(strings.ReplaceAll(`
ingress:
- {port: {number: 81, protocol: HTTP, name: web}, defaultEndpoint: "127.0.0.1:9080"}
- {port: {number: 82, protocol: TCP, name: db}, defaultEndpoint: "0.0.0.0:3306"}
- {port: {number: 83, protocol: TCP, name: own}, captureMode: NONE, defaultEndpoint: "127.0.0.1:3306"}
- {port: {number: 85, protocol: TCP, name: calls}, defaultEndpoint: "127.0.0.1:84"}
- {port: {number: 86, protocol: TCP, name: socket}, defaultEndpoint: "unix://SOCKET"}
egress:
- {port: {number: 0, protocol: TCP, name: socket}, bind: "unix://SOCKET", hosts: [./db.example.com]}
- {port: {number: 9080, protocol: HTTP, name: web}, hosts: [./web.example.com]}
- {port: {number: 84, protocol: TCP, name: db}, captureMode: NONE, hosts: [./db.example.com]}
- {hosts: [./nothing.example.com]}
outboundTrafficPolicy: {mode: REGISTRY_ONLY}`, "SOCKET", socket)) +
		entry("web.example.com", "", "HTTP", 9080, netns.ThereV4+":9080") + entry("hidden.example.com", "", "HTTP", 9080, netns.ThereV4+":9080") +
		entry("db.example.com", "", "TCP", 84, netns.ThereV4+":3306")
	r := startMesh(t, config, func(c *proxy.Config) {
		c.Outbound = ""
		c.Capture = proxy.Capture{Outbound: []string{"127.0.0.1:15001", "[::1]:15001"}, Inbound: []string{":15006"}, Opaque: []uint16{3306}}
	})
	t.Cleanup(install(t, capture.NFTables))
	from := func(port string) net.Conn {
		conn, err := there.Dial(net.JoinHostPort(netns.HereV4, port))
		return connected(t, conn, err)
	}
	dial := func(address string) net.Conn {
		conn, err := netns.DialAs(userOfProgram, userOfProgram, address)
		return connected(t, conn, err)
	}
	for _, c := range []struct{ name, got, want string }{
		{"HTTP, in", asked(t, from("81"), "any"), "200 here any from 127.0.0.6"},
		{"TCP, in, to the machine's address", greeting(from("82")), "here"},
		{"TCP, in, to a port that the sidecar has itself", greeting(from("83")), "here"},
		{"a port that is not listed, in", asked(t, from("9080"), "any"), "200 here any from 127.0.0.6"},
		{"HTTP, out", asked(t, dial(netns.ThereV4+":9080"), "web.example.com"), "200 there web.example.com from " + netns.HereV4},
		{"HTTP, out, a host that the port's listener does not have", asked(t, dial(netns.ThereV4+":9080"), "hidden.example.com")[:4], "502 "},
		{"TCP, out, by the sidecar's own listener", greeting(dial("127.0.0.1:84")), "there"},
		{"the sidecar's own listener, on this machine", greeting(dial("127.0.0.1:83")), "here"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
	<-r.told                                    // the hidden host
	for _, port := range []string{"85", "86"} { // whose program is what the sidecar calls by
		if got := greeting(from(port)); got != "reset" {
			t.Errorf("%s: %q", port, got)
		}
		if l := <-r.told; l.Reason != proxy.OwnTraffic || l.Direction != "inbound" {
			t.Errorf("%s: %+v", port, l)
		}
	}
}
