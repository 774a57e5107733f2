package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/netns"
	"github.com/heddlemesh/mesh/proxy"
)

const userOfProgram = 1000

// istioRules are those that Istio's own tool writes (istio.io, tools/istio-iptables, with its defaults), but for the owner: in a test
// the sidecar runs as root.
const istioRules = `*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A OUTPUT -p tcp -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -o lo -s PASS -j RETURN
-A ISTIO_OUTPUT -o lo ! -d LOOPBACK -p tcp ! --dport 53 -m owner --uid-owner 0 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -p tcp ! --dport 53 -m owner ! --uid-owner 0 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 0 -j RETURN
-A ISTIO_OUTPUT -d LOOPBACK -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
COMMIT
`

// install puts rules in place: ours, or Istio's in either of its forms.
func install(t *testing.T, backend capture.Backend) (uninstall func()) {
	t.Helper()
	ctx := context.Background()
	if backend == "istio-nft" {
		return installIstioNFT(t)
	}
	if backend != "istio" {
		root := []capture.Range{{First: 0, Last: 0}}
		if err := capture.Install(ctx, capture.Config{Backend: backend, UIDs: root}, capture.Run); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := capture.Uninstall(ctx, capture.Run); err != nil {
				t.Fatal(err)
			}
		}
	}
	v4 := strings.NewReplacer("PASS", "127.0.0.6/32", "LOOPBACK", "127.0.0.1/32").Replace(istioRules)
	v6 := strings.NewReplacer("PASS", "::6/128", "LOOPBACK", "::1/128").Replace(istioRules)
	netns.Command(t, "ip", "-6", "address", "add", "::6/128", "dev", "lo", "nodad") // as Istio's tool does
	for restore, text := range map[string]string{"iptables-nft-restore": v4, "ip6tables-nft-restore": v6} {
		if _, err := capture.Run(ctx, text, restore, "--noflush"); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		netns.Command(t, "nft", "flush", "ruleset")
		netns.Command(t, "ip", "-6", "address", "del", "::6/128", "dev", "lo")
	}
}

// serveOn serves HTTP and a protocol in which the server speaks first, on every address of a machine.
func serveOn(t *testing.T, name string, listen func(string) (net.Listener, error)) {
	t.Helper()
	web, err := listen(":9080")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // the next request is to come on a connection of its own
		from, _ := netip.ParseAddrPort(r.RemoteAddr)
		_, _ = io.WriteString(w, name+" "+r.Host+" from "+from.Addr().Unmap().String())
	})}
	go func() { _ = srv.Serve(web) }()
	t.Cleanup(func() { _ = srv.Close() })
	db, err := listen(":3306")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	go speakFirst(db, name)
}

// connected gives a connection, also where that has been reset by the time it was made.
func connected(t *testing.T, conn net.Conn, err error) net.Conn {
	t.Helper()
	if errors.Is(err, syscall.ECONNRESET) {
		return resetConn{}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

type resetConn struct{ net.Conn }

func (resetConn) Read([]byte) (int, error)  { return 0, syscall.ECONNRESET }
func (resetConn) Write([]byte) (int, error) { return 0, syscall.ECONNRESET }

func here(address string) (net.Listener, error) { return net.Listen("tcp", address) }

// TestNamespaceTransparent: a program that knows nothing of a sidecar is carried by it, both ways, in both families, with our
// rules and with Istio's; nobody gets to the sidecar's ports by himself, and what it connects to itself is never its own.
func TestNamespaceTransparent(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	serveOn(t, "there", there.Listen)
	serveOn(t, "here", here)
	config := entry("web.example.com", "", "HTTP", 9080, netns.ThereV4+":9080") + entry("self.example.com", "", "HTTP", 9081, netns.HereV4+":9080")
	startMesh(t, config, func(c *proxy.Config) {
		c.Outbound = ""
		c.Capture = proxy.Capture{Outbound: []string{"127.0.0.1:15001", "[::1]:15001"}, Inbound: []string{":15006"}, Opaque: []uint16{3306, 7, 9999}}
	})
	for _, address := range []string{"127.0.0.1:9999", "[::1]:9999"} { // the program's, for itself
		own, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		go speakFirst(own, "own")
		t.Cleanup(func() { _ = own.Close() })
	}
	for _, backend := range []capture.Backend{capture.NFTables, capture.IPTablesNFT, capture.IPTablesLegacy, "istio", "istio-nft"} {
		uninstall := install(t, backend)
		dial := func(address string) net.Conn {
			conn, err := netns.DialAs(userOfProgram, userOfProgram, address)
			return connected(t, conn, err)
		}
		for _, family := range []struct{ here, there, pass string }{
			{netns.HereV4, netns.ThereV4, "127.0.0.6"}, {netns.HereV6, netns.ThereV6, "::6"},
		} {
			from := func(port string) net.Conn {
				conn, err := there.Dial(net.JoinHostPort(family.here, port))
				return connected(t, conn, err)
			}
			for _, c := range []struct{ name, got, want string }{
				{"HTTP, out", asked(t, dial(net.JoinHostPort(family.there, "9080")), "web.example.com"), "200 there web.example.com from " + netns.HereV4},
				{"HTTP, out to nobody's name", asked(t, dial(net.JoinHostPort(family.there, "9080")), "nobody"), "200 there nobody from " + family.here},
				{"TCP, out", greeting(dial(net.JoinHostPort(family.there, "3306"))), "there"},
				{"HTTP, in", asked(t, from("9080"), "any"), "200 here any from " + family.pass},
				{"TCP, in", greeting(from("3306")), "here"},
				{"in, to the inbound port", greeting(from("15006")), "reset"},
				{"in, to the outbound port", greeting(from("15001")), "reset"},
			} {
				if c.got != c.want {
					t.Errorf("%s, %s, %s: %q, want %q", backend, family.here, c.name, c.got, c.want)
				}
			}
			if got := greeting(from("7")); got != "reset" {
				t.Errorf("%s, %s, a port that nobody has: %q", backend, family.here, got)
			}
			if got := greeting(from("9999")); got != "reset" { // row B-104
				t.Errorf("%s, %s, a port that the program has on loopback: %q", backend, family.here, got)
			}
		}
		// A service that is the program itself is received as every other: from the sidecar, by the sidecar.
		if got := asked(t, dial(netns.ThereV4+":9081"), "self.example.com"); got != "200 here self.example.com from 127.0.0.6" {
			t.Errorf("%s, to itself: %q", backend, got)
		}
		for _, address := range []string{"127.0.0.1:15001", "[::1]:15001", "127.0.0.1:15006"} {
			if got := greeting(dial(address)); got != "reset" {
				t.Errorf("%s, straight to %s: %q", backend, address, got)
			}
		}
		uninstall()
	}
}

// files counts what this process has open.
func files(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestNamespaceStraight is row B-100: whoever comes straight to a port for captured connections, by any address, with rules and without,
// from here and from elsewhere, is reset, each time once, and nothing stays open.
func TestNamespaceStraight(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	r := startMesh(t, "", func(c *proxy.Config) {
		c.Outbound = ""
		c.Capture = proxy.Capture{Outbound: []string{"127.0.0.1:15001", "[::1]:15001"}, Inbound: []string{":15006"}}
	})
	told := 0
	attack := func(rules string) {
		for _, port := range []string{"15001", "15006"} {
			for _, a := range []string{"127.0.0.1", "::1", "127.0.0.99", netns.HereV4, netns.HereV6} {
				for who, dial := range map[string]func(address string) (net.Conn, error){
					"the program": func(address string) (net.Conn, error) { return netns.DialAs(userOfProgram, userOfProgram, address) },
					"another":     there.Dial,
				} {
					if who == "another" && a != netns.HereV4 && a != netns.HereV6 {
						continue
					}
					conn, err := dial(net.JoinHostPort(a, port))
					if errors.Is(err, syscall.ECONNREFUSED) {
						continue // nobody listens there, on loopback only
					}
					if got := greeting(connected(t, conn, err)); got != "reset" {
						t.Errorf("%s, %s to %s, port %s: %q", rules, who, a, port, got)
					}
					if l := <-r.told; l.Reason != proxy.NotCaptured {
						t.Errorf("%s, %s to %s, port %s: %+v", rules, who, a, port, l)
					}
					told++
					if conn != nil {
						_ = conn.Close()
					}
				}
			}
		}
	}
	attack("without rules")
	before := files(t)
	for range 5 {
		attack("without rules")
	}
	for _, backend := range []capture.Backend{capture.NFTables, capture.IPTablesLegacy, "istio", "istio-nft"} {
		uninstall := install(t, backend)
		attack(string(backend))
		uninstall()
	}
	for files(t) > before { // the last ones are being closed
		time.Sleep(time.Millisecond)
	}
	select {
	case l := <-r.told:
		t.Errorf("more than was asked for: %+v", l)
	default:
	}
	if told < 60 {
		t.Errorf("%d connections have come to a port", told)
	}
}

// TestNamespaceLoop: where the rules do not exempt the sidecar, what it connects to comes back to it, and ends there.
func TestNamespaceLoop(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	serveOn(t, "there", there.Listen)
	r := startMesh(t, "", func(c *proxy.Config) {
		c.Outbound = ""
		c.Capture = proxy.Capture{Outbound: []string{"127.0.0.1:15001", "[::1]:15001"}}
	}, mesh.WithOutboundTrafficPolicy(mesh.AllowAny))
	if err := capture.Install(t.Context(), capture.Config{}, capture.Run); err != nil { // exempts 1337, and we are root
		t.Fatal(err)
	}
	for _, address := range []string{netns.ThereV4, netns.ThereV6} {
		conn, err := netns.DialAs(userOfProgram, userOfProgram, net.JoinHostPort(address, "3306"))
		if got := greeting(connected(t, conn, err)); got == "there" {
			t.Errorf("%s: it is carried", address)
		}
		if l := <-r.told; l.Reason != proxy.OwnTraffic {
			t.Errorf("%s: %+v", address, l)
		}
	}
}

// TestNamespaceLarge is row B-106 with the kernel's own redirection: much data both ways, ended by one side after the other.
func TestNamespaceLarge(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	serveOn(t, "there", there.Listen)
	startMesh(t, "", func(c *proxy.Config) {
		c.Outbound = ""
		c.Capture = proxy.Capture{Outbound: []string{"127.0.0.1:15001"}}
	})
	install(t, capture.NFTables)
	conn, err := netns.DialAs(userOfProgram, userOfProgram, netns.ThereV4+":3306")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	sent := make(chan error, 1)
	go func() {
		if _, err := conn.Write(data); err != nil {
			sent <- err
			return
		}
		sent <- conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if werr := <-sent; err != nil || werr != nil || !bytes.Equal(got, append([]byte("there\n"), data...)) {
		t.Errorf("%d bytes, %v, %v", len(got), err, werr)
	}
}
