package guard_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/internal/guard"
)

// TestGuard: destinations by the address that is dialled, however it is spelled.
func TestGuard(t *testing.T) {
	t.Parallel()
	var machine string // an address of this machine that is no loopback
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			machine = p.Addr().String()
		}
	}
	own := []net.Addr{
		&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 15001},
		&net.TCPAddr{IP: net.IPv6zero, Port: 15002},
		&net.TCPAddr{IP: net.ParseIP("::1"), Port: 15003},
		&net.UnixAddr{Net: "unix", Name: "/run/x.sock"},
	}
	cases := []struct {
		address string
		refused bool
	}{
		{"169.254.169.254:80", true},
		{"169.254.0.1:22", true},
		{"[::ffff:169.254.169.254]:80", true},
		{"[::ffff:a9fe:a9fe]:80", true},
		{"[64:ff9b::a9fe:a9fe]:80", true},
		{"[2002:a9fe:a9fe::1]:80", true},
		{"[fe80::1%lo]:80", true},
		{"[fe80::1]:80", true},
		{"[fd00:ec2::254]:80", true},
		{"[fd00:ec2::23]:80", true},
		{"[fd20:ce::254]:80", true},
		{"100.100.100.200:80", true},
		{"168.63.129.16:80", true},
		{"192.0.0.192:80", true},
		{"169.253.255.255:80", false},
		{"169.255.0.0:80", false},
		{"[fd00:ec3::254]:80", false},
		{"10.0.0.1:80", false},
		{"[2001:db8::1]:443", false},
		{"127.0.0.1:9080", false},

		{"127.0.0.1:15001", true},
		{"[::ffff:127.0.0.1]:15001", true},
		{"0.0.0.0:15001", true},
		{"[::]:15001", true},
		{"127.0.0.2:15001", false},
		{"10.0.0.1:15001", false},
		{"127.0.0.1:15002", true},
		{"127.0.0.9:15002", true},
		{"[::1]:15002", true},
		{"10.255.255.254:15002", false},
		{"[::1]:15003", true},
		{"127.0.0.1:15003", false},
	}
	if machine != "" {
		cases = append(cases, struct {
			address string
			refused bool
		}{net.JoinHostPort(machine, "15002"), true})
	}
	for _, c := range cases {
		closed := false
		g := guard.New(func(context.Context, string, string) (net.Conn, error) {
			return &fakeConn{remote: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.address)), closed: &closed}, nil
		})
		g.Refuse(own...)
		_, err := g.DialContext(t.Context(), "tcp", "some.name:80")
		var refused *guard.RefusedError
		if got := errors.As(err, &refused); got != c.refused || got != closed || err != nil && !got {
			t.Errorf("%s: %v, closed %v", c.address, err, closed)
		}
	}
}

type fakeConn struct {
	net.Conn
	remote net.Addr
	closed *bool
}

func (c *fakeConn) RemoteAddr() net.Addr { return c.remote }
func (c *fakeConn) Close() error         { *c.closed = true; return nil }

// TestRefuseLocal: this machine and multicast, in every spelling, and only where asked.
func TestRefuseLocal(t *testing.T) {
	t.Parallel()
	for address, local := range map[string]bool{
		"127.0.0.1:80": true, "127.9.9.9:80": true, "[::1]:80": true, "0.0.0.0:80": true, "[::]:80": true, "[::ffff:127.0.0.1]:80": true,
		"[64:ff9b::7f00:1]:80": true, "[2002:7f00:1::]:80": true, "224.0.0.1:80": true, "[ff02::1]:80": true,
		"10.0.0.1:80": false, "192.0.2.1:443": false, "[2001:db8::1]:443": false, "[fd00::1]:443": false,
	} {
		for _, refuse := range []bool{false, true} {
			closed := false
			g := guard.New(func(context.Context, string, string) (net.Conn, error) {
				return &fakeConn{remote: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)), closed: &closed}, nil
			})
			if refuse {
				g.RefuseLocal()
			}
			_, err := g.DialContext(t.Context(), "tcp", "some.name:80")
			var refused *guard.RefusedError
			if got := errors.As(err, &refused); got != (local && refuse) || got != closed {
				t.Errorf("%s, refused %v: %v, closed %v", address, refuse, err, closed)
			}
		}
	}
}

// TestGuardItself: without a dial function of another's, a refused destination sees no connection.
func TestGuardItself(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g := guard.New(nil)
	c, err := g.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	accepted, _ := l.Accept()
	_ = accepted.Close()

	g.Refuse(l.Addr())
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", ""} {
		_, err := g.DialContext(t.Context(), "tcp", net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)))
		var refused *guard.RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "listener of the proxy itself") {
			t.Errorf("%q: %v", host, err)
		}
	}
	if _, err := g.DialContext(t.Context(), "tcp", "169.254.169.254:80"); err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("metadata: %v", err)
	}
	_ = l.Close()
	if c, err := l.Accept(); err == nil {
		_ = c.Close()
		t.Error("a refused destination was connected to")
	}
}

// TestBesides: what a caller refuses besides is asked of the address that is dialled, in one spelling, and in its context alone.
func TestBesides(t *testing.T) {
	t.Parallel()
	for address, refused := range map[string]bool{"127.0.0.1:80": true, "[::ffff:127.0.0.1]:80": true, "[64:ff9b::7f00:1]:80": true, "127.0.0.1:81": false, "192.0.2.1:80": false} {
		closed := false
		g := guard.New(func(context.Context, string, string) (net.Conn, error) {
			return &fakeConn{remote: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)), closed: &closed}, nil
		})
		ctx := guard.Besides(t.Context(), func(to netip.AddrPort) string {
			if to == netip.MustParseAddrPort("127.0.0.1:80") {
				return "no"
			}
			return ""
		})
		if _, err := g.DialContext(t.Context(), "tcp", "some.name:80"); err != nil {
			t.Errorf("%s: %v", address, err)
		}
		_, err := g.DialContext(ctx, "tcp", "some.name:80")
		if _, is := errors.AsType[*guard.RefusedError](err); is != refused || closed != refused {
			t.Errorf("%s: %v, closed %v", address, err, closed)
		}
	}
}

// TestForget: one Refuse is taken back, and another of the same address stands.
func TestForget(t *testing.T) {
	t.Parallel()
	g := guard.New(nil)
	a, b := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10}
	g.Refuse(a, a, b)
	at := netip.MustParseAddrPort("127.0.0.1:9")
	g.Forget(a)
	if !g.Refuses(at) {
		t.Error("both were taken back")
	}
	g.Forget(a)
	g.Forget(a)
	if g.Refuses(at) || !g.Refuses(netip.MustParseAddrPort("127.0.0.1:10")) {
		t.Error("not the one that was named")
	}
}

// TestSockets: a Unix socket is refused by any of its paths and by links to it, and not when it is another, or was taken back.
func TestSockets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := net.Listen("unix", dir+"/own")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other, err := net.Listen("unix", dir+"/other")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := os.Symlink(dir+"/own", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	g := guard.New(nil)
	abstract := &net.UnixAddr{Net: "unix", Name: "@own"}
	g.Refuse(l.Addr(), l.Addr(), abstract)
	refuses := func(when, path string, want bool) {
		t.Helper()
		c, err := g.DialContext(t.Context(), "unix", path)
		if err == nil {
			_ = c.Close()
		}
		if _, is := errors.AsType[*guard.RefusedError](err); is != want {
			t.Errorf("%s, %s: %v", when, path, err)
		}
	}
	g.Forget(l.Addr())
	for path, want := range map[string]bool{dir + "/own": true, dir + "/./own": true, dir + "/link": true, dir + "/other": false, dir + "/none": false, "@own": true, "@other": false} {
		refuses("one Refuse left", path, want)
	}
	g.Forget(l.Addr())
	g.Forget(abstract)
	refuses("none left", dir+"/own", false)
	refuses("none left", "@own", false)
}
