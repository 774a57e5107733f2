package proxy_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/netns"
	"github.com/heddlemesh/mesh/proxy"
)

// The second link between the two machines, and who calls: an address that is reached by it, and calls by the first one.
const (
	backHere, backThere           = "10.78.0.1", "10.78.0.2"
	backHereV6, backThereV6       = "fd78::1", "fd78::2"
	elsewhereAddr, elsewhereAddr6 = "10.99.0.2", "fd99::2"
)

// reversePath says whether this machine drops packets that come by another interface than answers would go by: "0" never, "1" always, "2" where none leads back.
func reversePath(t *testing.T, mode string) {
	t.Helper()
	all, err := filepath.Glob("/proc/sys/net/ipv4/conf/*/rp_filter")
	if err != nil || len(all) == 0 {
		t.Skip("rp_filter is not there: ", err)
	}
	for _, name := range all {
		if err := os.WriteFile(name, []byte(mode), 0o600); err != nil {
			t.Skip("rp_filter cannot be set: ", err)
		}
	}
}

// TestNamespaceTPROXYAsymmetric is the rest of row B-107: connections come by one interface, and answers to their callers leave by another one. The
// marked packets between sidecar and program stay on the machine all the same. Where the kernel itself drops such packets (strict rp_filter), it
// drops them without rules of ours too.
func TestNamespaceTPROXYAsymmetric(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	serveOn(t, "here", here)
	var tid int
	there.Do(func() { tid = syscall.Gettid() })
	netns.Command(t, "ip", "link", "add", "back0", "type", "veth", "peer", "name", "back1", "netns", fmt.Sprint(tid))
	linked := func(name, v4, v6 string) {
		netns.Command(t, "ip", "address", "add", v4+"/24", "dev", name)
		netns.Command(t, "ip", "address", "add", v6+"/64", "dev", name, "nodad")
		netns.Command(t, "ip", "link", "set", name, "up")
	}
	// Neighbours are asked for from a link's own address, which is not there before the kernel has looked for another one who has it.
	local := func(link, address string) {
		netns.Command(t, "ip", "-6", "address", "add", address+"/64", "dev", link, "nodad")
	}
	linked("back0", backHere, backHereV6)
	local("back0", "fe80::1")
	local(netns.HereLink, "fe80::2")
	there.Do(func() {
		linked("back1", backThere, backThereV6)
		local("back1", "fe80::3")
		local("there0", "fe80::4")
		netns.Command(t, "ip", "address", "add", elsewhereAddr+"/32", "dev", "lo")
		netns.Command(t, "ip", "address", "add", elsewhereAddr6+"/128", "dev", "lo", "nodad")
		reversePath(t, "0")
	})
	netns.Command(t, "ip", "route", "add", elsewhereAddr+"/32", "via", backThere)
	netns.Command(t, "ip", "-6", "route", "add", elsewhereAddr6+"/128", "via", backThereV6)
	if back := netns.Command(t, "ip", "route", "get", elsewhereAddr); !strings.Contains(back, "dev back0") {
		t.Fatalf("answers go the way that calls come: %s", back)
	}
	called := func(address, from string, most time.Duration) string {
		var conn net.Conn
		var err error
		there.Do(func() {
			d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0)), Timeout: most}
			conn, err = d.Dial("tcp", net.JoinHostPort(address, "9080"))
		})
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return "silence"
		}
		return asked(t, connected(t, conn, err), "x")
	}
	families := []struct{ here, from string }{{netns.HereV4, elsewhereAddr}, {netns.HereV6, elsewhereAddr6}}
	for _, backend := range []capture.Backend{capture.NFTables, capture.IPTablesNFT, capture.IPTablesLegacy} {
		config := capture.Config{Backend: backend, TPROXY: true, UIDs: []capture.Range{{}}}
		if err := capture.Install(t.Context(), config, capture.Run); err != nil {
			t.Fatal(err)
		}
		t.Run(string(backend), func(t *testing.T) {
			startMesh(t, "", func(c *proxy.Config) {
				c.Outbound = ""
				c.Capture = proxy.Capture{TPROXY: true, Inbound: []string{":15006"}}
			})
			for _, mode := range []string{"0", "2"} {
				reversePath(t, mode)
				for _, f := range families {
					for range 2 { // the second time by a connection to the program that is kept, or anew
						if got := called(f.here, f.from, 0); got != "200 here x from "+f.from {
							t.Errorf("%s, rp_filter %s, %s: %q", backend, mode, f.from, got)
						}
					}
				}
			}
			reversePath(t, "1")
			if got := called(netns.HereV4, elsewhereAddr, time.Second); got != "silence" {
				t.Errorf("%s, strict rp_filter: %q", backend, got)
			}
			if got := called(netns.HereV6, elsewhereAddr6, 0); got != "200 here x from "+elsewhereAddr6 { // which has no such setting
				t.Errorf("%s, strict rp_filter, IPv6: %q", backend, got)
			}
		})
		if err := capture.Uninstall(t.Context(), capture.Run); err != nil {
			t.Fatal(err)
		}
	}
	if got := called(netns.HereV4, elsewhereAddr, time.Second); got != "silence" {
		t.Errorf("strict rp_filter, without rules: %q", got)
	}
}
