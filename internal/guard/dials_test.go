package guard_test

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/heddlemesh/mesh/internal/guard"
)

func addrPort(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// TestMine: a guard knows the connections that it has made, also where it has not heard yet that one is made.
func TestMine(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	release := make(chan struct{})
	var inner net.Dialer
	g := guard.New(nil)
	slow := guard.New(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := inner.DialContext(ctx, network, address)
		<-release
		return conn, err
	})
	for _, g := range []*guard.Guard{g, slow} {
		g.Watch()
		g.Watch() // again is the same
	}
	theirs, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ours, err := g.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	to := addrPort(l.Addr())
	for name, c := range map[string]struct {
		from, to netip.AddrPort
		mine     bool
	}{
		"ours":                 {addrPort(ours.LocalAddr()), to, true},
		"ours, mapped":         {netip.AddrPortFrom(netip.AddrFrom16(addrPort(ours.LocalAddr()).Addr().As16()), addrPort(ours.LocalAddr()).Port()), to, true},
		"ours, to another":     {addrPort(ours.LocalAddr()), netip.MustParseAddrPort("127.0.0.1:1"), false},
		"another's":            {addrPort(theirs.LocalAddr()), to, false},
		"another's, elsewhere": {addrPort(theirs.LocalAddr()), netip.MustParseAddrPort("10.0.0.1:80"), false},
	} {
		if got := g.Mine(t.Context(), c.from, c.to); got != c.mine {
			t.Errorf("%s: %v", name, got)
		}
	}
	close(release)
	conn, err := slow.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if !slow.Mine(t.Context(), addrPort(conn.LocalAddr()), to) {
		t.Error("one by a dialer of another's is not known")
	}
	if unwatched := guard.New(nil); unwatched.Mine(t.Context(), addrPort(ours.LocalAddr()), to) {
		t.Error("a guard that does not watch knows something")
	}
}

// TestMineWhileConnecting: the listener hears of a connection before the guard does, and waits for it.
func TestMineWhileConnecting(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g := guard.New(nil)
	g.Watch()
	const n = 50
	dialled := make(chan net.Conn, n)
	go func() {
		for range n {
			conn, err := g.DialContext(context.Background(), "tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
			}
			dialled <- conn
		}
	}()
	for range n {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if !g.Mine(t.Context(), addrPort(conn.RemoteAddr()), addrPort(l.Addr())) {
			t.Error("the guard does not know its own")
		}
		_ = conn.Close()
		if c := <-dialled; c != nil {
			_ = c.Close()
		}
	}
}
