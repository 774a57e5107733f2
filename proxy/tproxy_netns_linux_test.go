package proxy_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/netns"
	"github.com/heddlemesh/mesh/proxy"
)

// checking asks the test's binary to be a sidecar that looks whether TPROXY has what it needs.
const checking = "HEDDLE_TEST_CHECK"

// TestNamespaceTPROXY is row B-107: the program sees who calls it, by every backend, in both families, of HTTP and TCP, also where
// the kernel is strict about the way that packets come; what it calls and its calls to itself are carried as always.
func TestNamespaceTPROXY(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	serveOn(t, "there", there.Listen)
	serveOn(t, "here", here)
	for _, name := range []string{"all", "lo", netns.HereLink} { // whether a packet's way back is the way that it came
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/rp_filter", []byte("1"), 0o600); err != nil {
			t.Logf("rp_filter of %s: %v", name, err)
		}
	}
	for _, backend := range []capture.Backend{capture.NFTables, capture.IPTablesNFT, capture.IPTablesLegacy} {
		before := netns.Command(t, "ip", "-4", "rule") + netns.Command(t, "ip", "-6", "rule")
		config := capture.Config{Backend: backend, TPROXY: true, UIDs: []capture.Range{{}}}
		for range 2 { // the second time changes nothing
			if err := capture.Install(t.Context(), config, capture.Run); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(netns.Command(t, "ip", "-4", "rule"), "lookup 133"); n != 1 {
			t.Errorf("%s: %d rules of routing", backend, n)
		}
		for _, a := range []string{netns.HereV4, netns.HereV6} {
			if got := dialled(there, net.JoinHostPort(a, "9080")); got == "connected" {
				t.Errorf("%s: without a sidecar %s is reached", backend, a)
			}
			if backend != capture.NFTables {
				break // it drops: one time-out is enough
			}
		}
		t.Run(string(backend), func(t *testing.T) { carries(t, there, backend) })
		found, err := capture.Status(t.Context(), capture.Run)
		if err != nil || len(found) != 1 || found[0].Damage != "" || !found[0].TPROXY {
			t.Errorf("%s: status %+v, %v", backend, found, err)
		}
		netns.Command(t, "ip", "-4", "route", "flush", "table", "133")
		if found, err = capture.Status(t.Context(), capture.Run); err != nil || len(found) != 1 || !strings.HasPrefix(found[0].Damage, "missing: ip -4 route add local") {
			t.Errorf("%s: without the route: %+v, %v", backend, found, err)
		}
		if err := capture.Uninstall(t.Context(), capture.Run); err != nil {
			t.Fatal(err)
		}
		if after := netns.Command(t, "ip", "-4", "rule") + netns.Command(t, "ip", "-6", "rule"); after != before {
			t.Errorf("%s: uninstalled there is\n%s\nand there was\n%s", backend, after, before)
		}
		conn, err := there.Dial(netns.HereV4 + ":9080")
		if got := asked(t, connected(t, conn, err), "x"); got != "200 here x from "+netns.ThereV4 {
			t.Errorf("%s, uninstalled: %q", backend, got)
		}
	}
}

// dialled is what becomes of a connection from the machine, which is given one second.
func dialled(there *netns.Machine, address string) (what string) {
	there.Do(func() {
		fd, err := net.DialTimeout("tcp", address, 1e9)
		var timeout net.Error
		switch {
		case err == nil:
			_ = fd.Close()
			what = "connected"
		case errors.Is(err, syscall.ECONNREFUSED):
			what = "refused"
		case errors.As(err, &timeout) && timeout.Timeout():
			what = "silence"
		default:
			what = err.Error()
		}
	})
	return what
}

func carries(t *testing.T, there *netns.Machine, backend capture.Backend) {
	config := entry("web.example.com", "", "HTTP", 9080, netns.ThereV4+":9080") + entry("self.example.com", "", "HTTP", 9081, netns.HereV4+":9080")
	startMesh(t, config, func(c *proxy.Config) {
		c.Outbound = ""
		c.Capture = proxy.Capture{TPROXY: true, Outbound: []string{"127.0.0.1:15001", "[::1]:15001"}, Inbound: []string{":15006"}, Opaque: []uint16{3306, 7}}
	})
	for _, family := range []struct{ here, there string }{{netns.HereV4, netns.ThereV4}, {netns.HereV6, netns.ThereV6}} {
		from := func(port string) net.Conn {
			conn, err := there.Dial(net.JoinHostPort(family.here, port))
			return connected(t, conn, err)
		}
		dial := func(address string) net.Conn {
			conn, err := netns.DialAs(userOfProgram, userOfProgram, address)
			return connected(t, conn, err)
		}
		for _, c := range []struct{ name, got, want string }{
			{"HTTP, in", asked(t, from("9080"), "any"), "200 here any from " + family.there},
			{"HTTP, in, again", asked(t, from("9080"), "any"), "200 here any from " + family.there},
			{"TCP, in", greeting(from("3306")), "here"},
			{"in, to a port that nobody has", greeting(from("7")), "reset"},
			{"in, to the inbound port", greeting(from("15006")), "reset"},
			{"HTTP, out", asked(t, dial(net.JoinHostPort(family.there, "9080")), "web.example.com"), "200 there web.example.com from " + netns.HereV4},
			{"to itself", asked(t, dial(netns.ThereV4+":9081"), "self.example.com"), "200 here self.example.com from " + netns.HereV4},
			{"to itself, by an address", asked(t, dial(net.JoinHostPort(family.here, "9080")), "x"), "200 here x from " + family.here},
			{"to loopback", asked(t, dial("127.0.0.1:9080"), "x"), "200 here x from 127.0.0.1"},
		} {
			if c.got != c.want {
				t.Errorf("%s, %s, %s: %q, want %q", backend, family.here, c.name, c.got, c.want)
			}
		}
	}
	// Much data, both ways.
	conn, err := there.Dial(netns.HereV4 + ":3306")
	c := connected(t, conn, err)
	go func() {
		_, _ = c.Write(make([]byte, 4<<20))
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, c); n != 4<<20+5 || err != nil {
		t.Errorf("%s: %d bytes, %v", backend, n, err)
	}
}

// TestNamespaceTPROXYCheck: the sidecar says at its start which thing is missing, and does not start.
func TestNamespaceTPROXYCheck(t *testing.T) {
	if os.Getenv(checking) != "" {
		fmt.Print(capture.CheckTransparent())
		os.Exit(0)
	}
	if !netns.Enter(t) {
		return
	}
	check := func(command ...string) string {
		cmd := exec.Command(command[0], append(command[1:], os.Args[0], "-test.run=^TestNamespaceTPROXYCheck$")...)
		cmd.Env = append(os.Environ(), checking+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v", command, err)
		}
		return string(out)
	}
	if err := capture.Install(t.Context(), capture.Config{TPROXY: true}, capture.Run); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name string
		undo []string
		redo []string
		says string
	}{
		{"all is there", nil, nil, "<nil>"},
		{"no rule", []string{"-4", "rule", "del", "fwmark", "1337", "lookup", "133"}, []string{"-4", "rule", "add", "fwmark", "1337", "lookup", "133"}, "the rule for the mark is missing: ip -4 rule add"},
		{"no route", []string{"-4", "route", "flush", "table", "133"}, []string{"-4", "route", "add", "local", "default", "dev", "lo", "table", "133"}, "the route for marked packets is missing: ip -4 route add local"},
		{"no rule of IPv6", []string{"-6", "rule", "del", "fwmark", "1337", "lookup", "133"}, []string{"-6", "rule", "add", "fwmark", "1337", "lookup", "133"}, "the rule for the mark is missing: ip -6 rule add"},
		{"no route of IPv6", []string{"-6", "route", "flush", "table", "133"}, []string{"-6", "route", "add", "local", "default", "dev", "lo", "table", "133"}, "the route for marked packets is missing: ip -6 route add local"},
	} {
		if step.undo != nil {
			netns.Command(t, "ip", step.undo...)
		}
		if got := check("env"); !strings.Contains(got, step.says) {
			t.Errorf("%s: %q", step.name, got)
		}
		if step.redo != nil {
			netns.Command(t, "ip", step.redo...)
		}
	}
	if got := check("setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw"); !strings.Contains(got, "the capability CAP_NET_ADMIN") {
		t.Errorf("without the capability: %q", got)
	}
}
