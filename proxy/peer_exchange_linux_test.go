package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
	mtls "github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/proxy"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport"
)

func workload(name string) mesh.Option {
	return mesh.WithWorkload(mesh.Workload{Namespace: "default", Labels: map[string]string{"app": name, "version": "v1", "service.istio.io/workload-name": name + "-v1"}})
}

// TestPeerExchange: over mutual TLS of what is not HTTP, captured or to a listener, each side's metrics have the workload of the other, also
// where the server speaks first; and the connection is what it is without.
func TestPeerExchange(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, ca.Options{})
	db := speaking(t, "db")
	callee, _, _, in := capturing(t, strict, func(c *proxy.Config) {
		c.Capture.Destination = func(*net.TCPConn) (netip.AddrPort, error) { return netip.MustParseAddrPort(db), nil }
		c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: db, Opaque: true}}
	}, as(t, a, "db"), workload("db"))
	accounts := func(doc string) string {
		return strings.Replace(doc, "endpoints: [{", "endpoints: [{serviceAccount: db, ", 1)
	}
	caller, kernel, out, _ := capturing(t, accounts(entry("db.example.com", "10.1.1.1", "TCP", 3306, in.String()))+
		accounts(entry("direct.example.com", "10.1.1.2", "TCP", 3306, callee.sidecar.InboundAddrs()[0].String())), nil, as(t, a, "shop"), workload("shop"))
	for i, to := range []string{"10.1.1.1:3306", "10.1.1.2:3306"} {
		conn := kernel.dial(t, out, to)
		br := bufio.NewReader(conn)
		if line, err := br.ReadString('\n'); line != "db\n" || err != nil {
			t.Fatalf("%s: %q, %v", to, line, err)
		}
		_, _ = io.WriteString(conn, "hello")
		_ = conn.CloseWrite()
		if rest, err := io.ReadAll(br); string(rest) != "hello" || err != nil {
			t.Errorf("%s: %q, %v", to, rest, err)
		}
		awaitMetrics(t, callee.mesh, map[string]float64{"connections_closed destination shop-v1 default shop v1 spiffe://cluster.local/ns/default/sa/shop db-v1": float64(i + 1)},
			"reporter", "source_workload", "source_workload_namespace", "source_app", "source_version", "source_principal", "destination_workload")
	}
	for _, service := range []string{"db.example.com", "direct.example.com"} {
		awaitMetrics(t, caller.mesh, map[string]float64{"connections_closed source shop-v1 db-v1 default db v1 spiffe://cluster.local/ns/default/sa/db " + service: 1},
			"reporter", "source_workload", "destination_workload", "destination_workload_namespace", "destination_app", "destination_version", "destination_principal", "destination_service")
	}
}

// TestPeerExchangeAlone: who does not offer it, does not choose it, agrees on it and says something else, or has not proved who he is, is served as ever, and nothing is believed of him.
func TestPeerExchangeAlone(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, ca.Options{})
	db := speaking(t, "db")
	listening := func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: db, Opaque: true}} }
	callee := startMesh(t, "", listening, as(t, a, "db"), workload("db"))
	self := mtls.New(mtls.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = self.Run(ctx, a.Source(accountID(t, "shop")))
	}()
	t.Cleanup(func() {
		cancel()
		<-over
	})
	said, id := telemetry.TellPeer(telemetry.Workload{Name: "forged", Namespace: "default", App: "forged"})
	front := string(telemetry.AppendPeerExchange(nil, said, id))
	for i, c := range []struct{ name, protocol, front, source string }{
		{"no offer", "istio", "", "unknown unknown spiffe://cluster.local/ns/default/sa/shop"},
		{"an offer", transport.PeerExchange, front, "forged forged spiffe://cluster.local/ns/default/sa/shop"},
		{"nobody", transport.PeerExchange, front, "unknown unknown unknown"},
		{"other words", transport.PeerExchange, "", "unknown unknown spiffe://cluster.local/ns/default/sa/shop"},
	} {
		config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{c.protocol}}
		for c.name != "nobody" {
			var err error
			if config, err = self.ClientConfig(mtls.ClientOptions{Protocols: []string{c.protocol}, Accounts: []string{"default/db"}}); err == nil {
				break
			}
			runtime.Gosched() // it has none yet
		}
		plain, _ := dial(t, callee.sidecar.InboundAddrs()[0].String())
		conn := tls.Client(plain, config)
		if _, err := io.WriteString(conn, c.front+"hello"); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		_ = conn.CloseWrite()
		all, err := io.ReadAll(conn)
		if got := conn.ConnectionState().NegotiatedProtocol; got != c.protocol {
			t.Errorf("%s: %q is spoken", c.name, got)
		}
		if c.protocol == transport.PeerExchange {
			told := string(all[:len(all)-len("db\nhello")])
			if size, ok := telemetry.PeerExchangeSize([]byte(told)); !ok || size != len(told)-telemetry.PeerExchangeHead {
				t.Fatalf("%s: the answer begins with %q", c.name, told)
			}
			if who, _ := telemetry.PeerWorkload(telemetry.PeerExchanged([]byte(told[telemetry.PeerExchangeHead:]))); (who.Name == "db-v1") != (c.name != "nobody") {
				t.Errorf("%s is told %+v", c.name, who)
			}
			all = all[len(told):]
		}
		if string(all) != "db\nhello" || err != nil {
			t.Errorf("%s: %q, %v", c.name, all, err)
		}
		awaitMetrics(t, callee.mesh, map[string]float64{"connections_closed " + c.source: float64(1 + i/3)}, "source_workload", "source_app", "source_principal") // the last is as the first
	}

	// A callee that is the library's, whose listener does not choose it.
	m, err := mesh.New(t.Context(), as(t, a, "db"), workload("db"), mesh.WithConfig([]byte(strict)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := m.Listener(l, transport.WithOpaque())
	t.Cleanup(func() { _ = listener.Close() })
	go speakFirst(listener, "library")
	doc := strings.Replace(entry("db.example.com", "10.1.1.1", "TCP", 3306, l.Addr().String()), "endpoints: [{", "endpoints: [{serviceAccount: db, ", 1)
	caller, kernel, out, _ := capturing(t, doc, nil, as(t, a, "shop"), workload("shop"))
	conn := kernel.dial(t, out, "10.1.1.1:3306")
	_, _ = io.WriteString(conn, "hello")
	_ = conn.CloseWrite()
	if all, err := io.ReadAll(conn); string(all) != "library\nhello" || err != nil {
		t.Errorf("%q, %v", all, err)
	}
	awaitMetrics(t, caller.mesh, map[string]float64{"connections_closed unknown": 1}, "destination_workload")
}
