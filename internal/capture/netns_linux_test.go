package capture_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/netns"
)

const (
	program = 1000 // its user and group
	port    = "9080"
)

// A sidecar is two listeners that tell whoever comes where he meant to go.
func sidecar(t *testing.T) {
	t.Helper()
	for name, address := range map[string]string{"out": ":15001", "in": ":15006"} {
		telling(t, name, address, nil)
	}
}

// telling listens and tells everybody its name, and where he meant to go. listen is nil for here.
func telling(t *testing.T, name, address string, listen func(string) (net.Listener, error)) {
	t.Helper()
	if listen == nil {
		listen = func(a string) (net.Listener, error) { return net.Listen("tcp", a) }
	}
	l, err := listen(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			words := name
			if to, err := capture.OriginalDestination(conn.(*net.TCPConn)); err == nil && name != "server" {
				words += " " + to.String()
			}
			_, _ = conn.Write([]byte(words))
			_ = conn.Close()
		}
	}()
}

// heard is what a connection is told, or that it is refused.
func heard(conn net.Conn, err error) string {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "refused"
	}
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	b, err := io.ReadAll(conn)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

var backends = []capture.Backend{capture.NFTables, capture.IPTablesNFT, capture.IPTablesLegacy}

// TestNamespaceCaptured: who is captured on which way, by every backend, in both families.
func TestNamespaceCaptured(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	sidecar(t)
	telling(t, "server", ":"+port, there.Listen)
	telling(t, "server", ":"+port, nil)
	for _, backend := range backends {
		c := capture.Config{Backend: backend}
		c.Outbound.ExcludeUIDs = []capture.Range{{First: 2000, Last: 2001}}
		if err := capture.Install(t.Context(), c, capture.Run); err != nil {
			t.Fatal(err)
		}
		for _, a := range []struct{ here, there, loopback string }{
			{netns.HereV4, netns.ThereV4, "127.0.0.1"}, {netns.HereV6, netns.ThereV6, "::1"},
		} {
			here, there4, loopback := net.JoinHostPort(a.here, port), net.JoinHostPort(a.there, port), net.JoinHostPort(a.loopback, port)
			for _, c := range []struct {
				name string
				got  string
				want string
			}{
				{"the program, out", heard(netns.DialAs(program, program, there4)), "out " + there4},
				{"another user, out", heard(netns.DialAs(2001, program, there4)), "server"},
				{"the sidecar's user, out", heard(netns.DialAs(capture.Owner, program, there4)), "server"},
				{"the sidecar's group, out", heard(netns.DialAs(program, capture.Owner, there4)), "server"},
				{"the program, to itself", heard(netns.DialAs(program, program, here)), "server"},
				{"the program, to loopback", heard(netns.DialAs(program, program, loopback)), "server"},
				{"the sidecar, to an endpoint that is here", heard(netns.DialAs(capture.Owner, capture.Owner, here)), "in " + here},
				{"the sidecar, to loopback", heard(netns.DialAs(capture.Owner, capture.Owner, loopback)), "server"},
				{"from outside", heard(there.Dial(here)), "in " + here},
				{"from outside, to a port that nobody has", heard(there.Dial(net.JoinHostPort(a.here, "4"))), "in " + net.JoinHostPort(a.here, "4")},
			} {
				if c.got != c.want {
					t.Errorf("%s, %s: heard %q, want %q", backend, c.name, c.got, c.want)
				}
			}
			// The sidecar's way to its program.
			all := capture.PassThrough(netip.MustParseAddr(a.here))
			from := netip.AddrPortFrom(all[len(all)-1], 0)
			err := netns.As(capture.Owner, capture.Owner, func() error {
				d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
				if got := heard(d.Dial("tcp", here)); got != "server" {
					t.Errorf("%s, the sidecar from %s to %s: heard %q", backend, from, here, got)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		if err := capture.Uninstall(t.Context(), capture.Run); err != nil {
			t.Fatal(err)
		}
		if got := heard(netns.DialAs(program, program, netns.ThereV4+":"+port)); got != "server" {
			t.Errorf("%s, uninstalled: heard %q", backend, got)
		}
	}
}

// TestNamespaceClosed: where no sidecar listens, connections are refused, and none goes its old way.
func TestNamespaceClosed(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	telling(t, "server", ":"+port, there.Listen)
	telling(t, "server", ":"+port, nil)
	for _, backend := range backends {
		if err := capture.Install(t.Context(), capture.Config{Backend: backend}, capture.Run); err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{netns.ThereV4, netns.ThereV6} {
			if got := heard(netns.DialAs(program, program, net.JoinHostPort(address, port))); got != "refused" {
				t.Errorf("%s, out to %s: heard %q", backend, address, got)
			}
		}
		for _, address := range []string{netns.HereV4, netns.HereV6} {
			if got := heard(there.Dial(net.JoinHostPort(address, port))); got != "refused" {
				t.Errorf("%s, in to %s: heard %q", backend, address, got)
			}
		}
		if err := capture.Uninstall(t.Context(), capture.Run); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNamespaceSelected: what Include and Exclude lists let be captured.
func TestNamespaceSelected(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	sidecar(t)
	telling(t, "server", ":"+port, there.Listen)
	telling(t, "server", ":9081", there.Listen)
	telling(t, "server", ":"+port, nil)
	one := func(n uint32) []capture.Range { return []capture.Range{{First: n, Last: n}} }
	net4, net6 := netip.MustParsePrefix("10.77.0.0/24"), netip.MustParsePrefix("fd77::/64")
	other := netip.MustParsePrefix("10.78.0.0/16")
	out := func(s capture.Selection) capture.Config { return capture.Config{Outbound: s} }
	in := func(s capture.Selection) capture.Config { return capture.Config{Inbound: s} }
	cases := []struct {
		name              string
		c                 capture.Config
		v4, v6, v4on9081  string // the program's connections to the other machine
		received, other80 string // from it, to our port; and ours to loopback's, as another group
	}{
		{"all", capture.Config{}, "out", "out", "out", "in", "out"},
		{"a port left out", out(capture.Selection{ExcludePorts: one(9080)}), "server", "server", "out", "in", "server"},
		{"ports taken in", out(capture.Selection{IncludePorts: []capture.Range{{First: 1, Last: 9079}, {First: 9081, Last: 9090}}}), "server", "server", "out", "in", "server"},
		{"a range left out", out(capture.Selection{ExcludeCIDRs: []netip.Prefix{net4}}), "server", "out", "server", "in", "server"},
		{"a range taken in", out(capture.Selection{IncludeCIDRs: []netip.Prefix{other, net6}}), "server", "out", "server", "in", "server"},
		{"port and range taken in", out(capture.Selection{IncludePorts: one(9081), IncludeCIDRs: []netip.Prefix{net4}}), "server", "server", "out", "in", "server"},
		{"left out counts before taken in", out(capture.Selection{IncludePorts: one(9080), ExcludePorts: one(9080)}), "server", "server", "server", "in", "server"},
		{"a user left out", out(capture.Selection{ExcludeUIDs: one(program)}), "server", "server", "server", "in", "out"},
		{"a group taken in", out(capture.Selection{IncludeGIDs: one(3000), IncludeUIDs: one(3)}), "server", "server", "server", "in", "out"},
		{"an interface left out", out(capture.Selection{ExcludeInterfaces: []string{"her*"}}), "server", "server", "server", "in", "server"},
		{"an interface taken in", out(capture.Selection{IncludeInterfaces: []string{netns.HereLink}}), "out", "out", "out", "in", "out"},
		{"another interface taken in", out(capture.Selection{IncludeInterfaces: []string{"eth*"}}), "server", "server", "server", "in", "server"},
		{"an inbound port left out", in(capture.Selection{ExcludePorts: one(9080)}), "out", "out", "out", "server", "out"},
		{"an inbound port taken in", in(capture.Selection{IncludePorts: one(80)}), "out", "out", "out", "server", "out"},
		{"an inbound interface left out", in(capture.Selection{ExcludeInterfaces: []string{netns.HereLink}}), "out", "out", "out", "server", "out"},
		{"an inbound interface taken in", in(capture.Selection{IncludeInterfaces: []string{netns.HereLink}}), "out", "out", "out", "in", "out"},
		{"no IPv6", capture.Config{NoIPv6: true}, "out", "server", "out", "in", "out"},
	}
	for _, backend := range backends {
		for _, c := range cases {
			c.c.Backend = backend
			if err := capture.Install(t.Context(), c.c, capture.Run); err != nil {
				t.Fatalf("%s, %s: %v", backend, c.name, err)
			}
			for _, one := range []struct{ what, got, want string }{
				{"IPv4", heard(netns.DialAs(program, program, netns.ThereV4+":9080")), c.v4},
				{"IPv6", heard(netns.DialAs(program, program, "["+netns.ThereV6+"]:9080")), c.v6},
				{"another port", heard(netns.DialAs(program, program, netns.ThereV4+":9081")), c.v4on9081},
				{"received", heard(there.Dial(netns.HereV4 + ":9080")), c.received},
				{"another user and group", heard(netns.DialAs(3001, 3000, netns.ThereV4+":9080")), c.other80},
			} {
				if got, _, _ := strings.Cut(one.got, " "); got != one.want {
					t.Errorf("%s, %s, %s: heard %q, want %q", backend, c.name, one.what, one.got, one.want)
				}
			}
			if err := capture.Uninstall(t.Context(), capture.Run); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// rulesOf gives everything there is, but for what counts and when it was written.
func rulesOf(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, args := range [][]string{{"nft", "list", "ruleset"}, {"iptables-legacy-save"}, {"ip6tables-legacy-save"}} {
		for line := range strings.Lines(netns.Command(t, args[0], args[1:]...)) {
			if !strings.HasPrefix(line, "#") {
				b.WriteString(line)
			}
		}
	}
	for _, of := range []string{"-4", "-6"} { // of routing
		b.WriteString(netns.Command(t, "ip", of, "rule") + netns.Command(t, "ip", of, "route", "show", "table", "all", "type", "local", "proto", "137"))
	}
	b.WriteString(netns.Command(t, "ip", "address", "show", "dev", "lo"))
	return b.String()
}

const foreign = `*nat
:OURS - [0:0]
-A PREROUTING -p tcp --dport 7 -j OURS
-A OUTPUT -p tcp --dport 7 -j OURS
-A OURS -p tcp -j REDIRECT --to-ports 70
COMMIT
*mangle
:OURS - [0:0]
-A PREROUTING -p tcp --dport 7 -j OURS
-A OUTPUT -p tcp --dport 7 -j OURS
-A OURS -j MARK --set-mark 7
COMMIT
`

// TestNamespaceForeign: rules of others are the same, in the same order, when ours come, come again, change, and go.
func TestNamespaceForeign(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	ctx := context.Background()
	for _, restore := range []string{"iptables-nft-restore", "ip6tables-nft-restore", "iptables-legacy-restore", "ip6tables-legacy-restore"} {
		if _, err := capture.Run(ctx, foreign, restore, "--noflush"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := capture.Run(ctx, "table inet theirs { chain output { type nat hook output priority -90; tcp dport 8 redirect to :80; }; }", "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	before := rulesOf(t)
	for _, backend := range append(backends, capture.IPTables) {
		install := func(c capture.Config) string {
			c.Backend = backend
			if err := capture.Install(ctx, c, capture.Run); err != nil {
				t.Fatalf("%s: %v", backend, err)
			}
			found, err := capture.Status(ctx, capture.Run)
			if err != nil || len(found) != 1 || found[0].Damage != "" || found[0].OutboundPort != 15001 {
				t.Fatalf("%s: status %+v, %v", backend, found, err)
			}
			return rulesOf(t)
		}
		first := install(capture.Config{})
		narrow := capture.Config{Outbound: capture.Selection{IncludePorts: []capture.Range{{First: 80, Last: 80}}}}
		other := install(narrow)
		if again := install(narrow); again != other {
			t.Errorf("%s: installed again, the rules are others:\n%s\n%s", backend, other, again)
		}
		if back := install(capture.Config{}); back != first {
			t.Errorf("%s: installed as before, the rules are others:\n%s\n%s", backend, first, back)
		}
		all := capture.Config{TPROXY: true, DNSPort: capture.DNSPort, NoQUIC: true}
		large := install(all)
		if again := install(all); again != large || large == other {
			t.Errorf("%s: with all installed again, the rules are others:\n%s\n%s", backend, large, again)
		}
		for range 2 {
			if err := capture.Uninstall(ctx, capture.Run); err != nil {
				t.Fatalf("%s: %v", backend, err)
			}
			if after := rulesOf(t); after != before {
				t.Errorf("%s: uninstalled, the rules are others:\n%s\nbefore:\n%s", backend, after, before)
			}
		}
	}
}

// TestNamespaceLife: half of the rules are told from all of them, are completed by the next Install, and go with Uninstall; two backends at once are
// refused; an Install that fails leaves what was there.
func TestNamespaceLife(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	ctx := context.Background()
	for _, backend := range backends {
		install := func(c capture.Config, run capture.Tool) error {
			c.Backend = backend
			return capture.Install(ctx, c, run)
		}
		clean := rulesOf(t)
		failing := func(ctx context.Context, stdin, name string, args ...string) (string, error) {
			if stdin != "" && (strings.HasPrefix(name, "ip6") || name == "nft") {
				stdin += "nonsense\n"
			}
			return capture.Run(ctx, stdin, name, args...)
		}
		for _, c := range []capture.Config{{}, {TPROXY: true, DNSPort: capture.DNSPort, NoQUIC: true}} {
			if err := install(c, failing); err == nil {
				t.Errorf("%s: no error", backend)
			}
			if after := rulesOf(t); backend == capture.NFTables && after != clean {
				t.Errorf("%s: left behind:\n%s\nthere was\n%s", backend, after, clean)
			}
		}
		if found, err := capture.Status(ctx, capture.Run); len(found) > 0 || err != nil {
			t.Errorf("%s: left behind: %v, %v", backend, found, err)
		}
		if err := install(capture.Config{}, capture.Run); err != nil {
			t.Fatal(err)
		}
		whole := rulesOf(t)
		if err := install(capture.Config{Outbound: capture.Selection{ExcludePorts: []capture.Range{{First: 1, Last: 2}}}}, failing); err == nil {
			t.Errorf("%s: no error", backend)
		}
		if after := rulesOf(t); after != whole {
			t.Errorf("%s: after an install that failed there is\n%s\nand there was\n%s", backend, after, whole)
		}
		for _, other := range backends {
			if err := capture.Install(ctx, capture.Config{Backend: other}, capture.Run); (err == nil) != (other == backend) {
				t.Errorf("%s beside %s: %v", other, backend, err)
			}
		}
		damage(t, backend)
		if found, err := capture.Status(ctx, capture.Run); err != nil || len(found) != 1 || found[0].Damage == "" {
			t.Errorf("%s: damaged, status %+v, %v", backend, found, err)
		}
		if err := install(capture.Config{}, capture.Run); err != nil {
			t.Fatal(err)
		}
		if after := rulesOf(t); after != whole {
			t.Errorf("%s: mended, there is\n%s\nand there was\n%s", backend, after, whole)
		}
		damage(t, backend)
		if err := capture.Uninstall(ctx, capture.Run); err != nil {
			t.Fatal(err)
		}
		if found, err := capture.Status(ctx, capture.Run); len(found) > 0 || err != nil {
			t.Errorf("%s: left behind: %v, %v (%s)", backend, found, err, clean)
		}
	}
}

// damage takes a part of the rules away, as somebody does who is ended in the middle.
func damage(t *testing.T, b capture.Backend) {
	t.Helper()
	if b == capture.NFTables {
		netns.Command(t, "nft", "flush", "chain", "inet", "heddle", "output")
		return
	}
	program := string(b)
	netns.Command(t, program, "-t", "nat", "-D", "OUTPUT", "-p", "tcp", "-j", "HEDDLE_OUTBOUND")
}

// TestNamespaceEscape is row B-103: what of a program is captured and what is not, with all that install can do.
func TestNamespaceEscape(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	there := netns.NewMachine(t)
	sidecar(t)
	telling(t, "server", ":"+port, there.Listen)
	for _, address := range []string{"127.0.0.1:15053", "[::1]:15053"} {
		answering(t, "dns", address, nil)
	}
	for _, p := range []string{":53", ":443", ":9999"} {
		answering(t, "server", p, there)
	}
	for _, backend := range backends {
		c := capture.Config{Backend: backend, DNSPort: capture.DNSPort, NoQUIC: true, TPROXY: true}
		c.Outbound.ExcludeUIDs = []capture.Range{{First: 2000, Last: 2000}}
		if err := capture.Install(t.Context(), c, capture.Run); err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{netns.ThereV4, netns.ThereV6} {
			at := func(port string) string { return net.JoinHostPort(address, port) }
			for _, c := range []struct{ name, got, want string }{
				{"TCP", heard(netns.DialAs(program, program, at(port))), "out " + at(port)},
				{"DNS", said(program, at("53")), "dns"},
				{"DNS of the sidecar", said(capture.Owner, at("53")), "server"},
				{"DNS of a user who is left out", said(2000, at("53")), "server"},
				{"QUIC", said(program, at("443")), "refused"},
				{"QUIC of a user who is left out", said(2000, at("443")), "server"},
				{"other UDP, which goes past", said(program, at("9999")), "server"},
				{"TCP of a user who is left out", heard(netns.DialAs(2000, program, at(port))), "server"},
			} {
				if c.got != c.want {
					t.Errorf("%s, %s, %s: %q, want %q", backend, address, c.name, c.got, c.want)
				}
			}
			if got := heard(marked(at(port))); got == "server" { // with TPROXY it does not even leave the machine
				t.Errorf("%s, %s: with the sidecar's mark it goes past", backend, address)
			}
		}
		if err := capture.Uninstall(t.Context(), capture.Run); err != nil {
			t.Fatal(err)
		}
	}
}

// answering answers every datagram with its name, here or on another machine.
func answering(t *testing.T, name, address string, there *netns.Machine) {
	t.Helper()
	var conn net.PacketConn
	var err error
	listen := func() { conn, err = net.ListenPacket("udp", address) }
	if there != nil {
		there.Do(listen)
	} else {
		listen()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			_, from, err := conn.ReadFrom(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = conn.WriteTo([]byte(name), from)
			}
		}
	}()
}

// said is what a datagram of a user is answered, or that it is refused.
func said(user int, address string) (what string) {
	err := netns.As(user, user, func() error {
		conn, err := net.Dial("udp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // only for one that hears nothing, which is a failure
		b := make([]byte, 512)
		if _, err = conn.Write([]byte("?")); err != nil {
			return err
		}
		n, err := conn.Read(b)
		what = string(b[:n])
		return err
	})
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "refused"
	}
	if err != nil {
		return err.Error()
	}
	return what
}

// marked connects as the program does, with the mark that packets of the sidecar have.
func marked(address string) (conn net.Conn, err error) {
	err = netns.As(program, program, func() error {
		d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
			var failed error
			if err := raw.Control(func(fd uintptr) {
				failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_MARK, capture.Mark)
			}); err != nil {
				return err
			}
			return failed
		}}
		conn, err = d.Dial("tcp", address)
		return err
	})
	return conn, err
}
