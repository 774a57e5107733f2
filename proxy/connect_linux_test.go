package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/proxy"
)

// tunnelTo asks for a tunnel, with bytes behind the head, and gives the answer's status and what then comes.
func tunnelTo(t *testing.T, c net.Conn, br *bufio.Reader, to, early string) int {
	t.Helper()
	send(t, c, "CONNECT "+to+" HTTP/1.1\r\nHost: "+to+"\r\n\r\n"+early)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		if len(resp.TransferEncoding) > 0 || resp.Header.Get("Content-Length") != "" || resp.Header.Get("Connection") != "" {
			t.Errorf("the head of a tunnel says %v", resp.Header)
		}
		return resp.StatusCode
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// TestConnect: a program that knows proxies reaches hosts of the mesh by their rules of tcp: the head comes first, what was sent early
// and a server that speaks first are heard, each direction ends by itself, and the connection is counted.
func TestConnect(t *testing.T) {
	t.Parallel()
	patient := raw(t, func(c net.Conn, br *bufio.Reader) { // answers when all has been said
		all, _ := io.ReadAll(br)
		_, _ = fmt.Fprintf(c, "%d bytes: %s", len(all), all)
	})
	config := entry("a.example.com", "", "TCP", 3306, speaking(t, "a")) + entry("b.example.com", "", "TCP", 3306, speaking(t, "b")) +
		entry("c.example.com", "", "TCP", 3306, patient) + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec: {hosts: [a.example.com], tcp: [{match: [{port: 3306}], route: [{destination: {host: b.example.com}}]}]}
`
	r := startMesh(t, config, func(c *proxy.Config) { c.AllowConnect = true }, mesh.WithOutboundTrafficPolicy(mesh.RegistryOnly))
	at := r.sidecar.OutboundAddr().String()
	c, br := dial(t, at)
	if status := tunnelTo(t, c, br, "a.example.com:3306", "early\n"); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	for _, want := range []string{"b\n", "early\n"} {
		if line, err := br.ReadString('\n'); line != want || err != nil {
			t.Errorf("%q, %v, want %q", line, err, want)
		}
	}
	awaitMetrics(t, r.mesh, map[string]float64{"connections_opened": 1})
	_ = c.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(br); len(rest) != 0 || err != nil {
		t.Errorf("at the end %q, %v", rest, err)
	}
	awaitMetrics(t, r.mesh, map[string]float64{"connections_closed": 1})

	c, br = dial(t, at)
	for _, to := range []string{"other.example.com:3306", "a.example.com:3307"} { // the connection goes on
		if status := tunnelTo(t, c, br, to, ""); status != http.StatusBadGateway {
			t.Errorf("%s: status %d", to, status)
		}
	}
	tunnelTo(t, c, br, "c.example.com:3306", "")
	long := strings.Repeat("x", 1<<20)
	go func() {
		_, _ = io.WriteString(c, long)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	if all, err := io.ReadAll(br); string(all) != fmt.Sprintf("%d bytes: %s", len(long), long) || err != nil {
		t.Errorf("after a half-close %d bytes, %v", len(all), err)
	}

	for _, bad := range []string{"CONNECT a.example.com:0 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a.example.com:3306 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
		"CONNECT a.example.com:3306 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"} {
		if resp, _ := exchange(t, at, bad); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: status %d", bad, resp.StatusCode)
		}
	}
}

// An elsewhere is a connection that seems to lead to another address.
type elsewhere struct {
	*net.TCPConn
	at net.Addr
}

func (e elsewhere) RemoteAddr() net.Addr { return e.at }

// TestConnectBeyond (B-101, B-102): other hosts are reached under ALLOW_ANY only, and never this machine, what is link-local, a metadata
// service or a listener of the sidecar's, by whichever spelling or name, and each time anew.
func TestConnectBeyond(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	local := raw(t, func(c net.Conn, _ *bufio.Reader) { reached.Add(1) })
	_, port, _ := net.SplitHostPort(local)
	r := startMesh(t, "", func(c *proxy.Config) {
		c.AllowConnect = true
		c.Admin = "127.0.0.1:0"
		c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: local}}
	})
	at := r.sidecar.OutboundAddr().String()
	for _, to := range []string{local, "localhost:" + port, "[::ffff:127.0.0.1]:" + port, "[::ffff:7f00:1]:" + port, "[64:ff9b::7f00:1]:" + port, "[2002:7f00:1::]:" + port,
		"0.0.0.0:" + port, "[::]:" + port, "[::1]:" + port, "127.9.9.9:" + port, "224.0.0.1:" + port, "169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fe80::1]:80", "[fd00:ec2::254]:80",
		"100.100.100.200:80", at, r.sidecar.AdminAddr().String(), r.sidecar.InboundAddrs()[0].String()} {
		c, br := dial(t, at)
		if status := tunnelTo(t, c, br, to, "hello"); status != http.StatusForbidden {
			t.Errorf("%s: status %d", to, status)
		} else if l := r.last(); l.Reason != "destination_refused" || l.Method != http.MethodConnect {
			t.Errorf("%s: reported %+v", to, l)
		}
		_ = c.Close()
	}
	for _, to := range []string{"2130706433:" + port, "0x7f.1:" + port, "017700000001:" + port, "127.1:" + port} { // which some resolvers take for an address
		c, br := dial(t, at)
		if status := tunnelTo(t, c, br, to, ""); status == http.StatusOK {
			t.Errorf("%s: a tunnel", to)
		}
		_ = c.Close()
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("a listener of this machine was reached %d times", n)
	}

	// A name that stands for another address each time.
	stands := []string{"192.0.2.1:443", "127.0.0.1:443", "[::ffff:10.0.0.1]:443", "[::ffff:169.254.169.254]:443"}
	var n atomic.Int64
	rebinding := proxy.NewGuard(func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, local)
		if err != nil {
			return nil, err
		}
		to, err := net.ResolveTCPAddr("tcp", stands[n.Add(1)-1])
		return elsewhere{c.(*net.TCPConn), to}, err
	})
	for _, policy := range []mesh.OutboundTrafficPolicy{mesh.AllowAny, mesh.RegistryOnly} {
		n.Store(0)
		r := startMesh(t, "", func(c *proxy.Config) { c.AllowConnect, c.Guard = true, rebinding }, mesh.WithOutboundTrafficPolicy(policy))
		for i, want := range []int{http.StatusOK, http.StatusForbidden, http.StatusOK, http.StatusForbidden} {
			if policy == mesh.RegistryOnly {
				want = http.StatusBadGateway
			}
			c, br := dial(t, r.sidecar.OutboundAddr().String())
			if status := tunnelTo(t, c, br, "moving.example:443", ""); status != want {
				t.Errorf("%s, %s: status %d, want %d", policy, stands[i], status, want)
			}
			_ = c.Close()
		}
	}
}
