// Package guard is a dialer that refuses destinations which no configuration and no caller may lead a program to: the
// metadata services of clouds, what is link-local, and, where asked, the machine itself. It looks at the address that is
// dialled. It knows no names: which hosts may be called is for others.
//
//	g := guard.New(nil)
//	client := &http.Client{Transport: &http.Transport{DialContext: g.DialContext}}
//
// Layer L0.
package guard

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const itself = "it is a listener of the proxy itself"

// A RefusedError is a destination that a Guard lets nobody connect to.
type RefusedError struct {
	Address string
	Why     string
}

// Error says the address and why.
func (e *RefusedError) Error() string {
	return "dial " + e.Address + ": destination refused: " + e.Why
}

// A Guard is a dialer that refuses what no program should reach through a mesh: the metadata services of
// clouds and everything link-local, and addresses given to Refuse, such as a proxy's own listeners. It
// looks at the address that is dialled, after every name has been looked up, so that no name and no spelling
// of an address gets around it. It is safe for concurrent use.
type Guard struct {
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	local atomic.Bool // refuse this machine

	mu      sync.RWMutex // guards what follows
	refused []netip.AddrPort
	sockets []string // of Unix
	dials   *dials   // see Watch, nil before
}

// New makes a guard that connects with dial. Where that is nil it connects by itself and a refused
// destination sees no packet; with a dial function of another's it can only look at what that has connected to.
func New(dial func(ctx context.Context, network, address string) (net.Conn, error)) *Guard {
	g := &Guard{dial: dial}
	if dial == nil {
		d := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second,
			ControlContext: func(ctx context.Context, network, address string, _ syscall.RawConn) error {
				err := g.check(ctx, network, address)
				if d, ok := ctx.Value(dialKey{}).(*attempt); ok && err == nil {
					d.begin(address)
				}
				return err
			}}
		g.dial = d.DialContext
	}
	return g
}

// Refuse adds addresses, of TCP and Unix sockets. One with an unspecified host stands for its port on every address of this machine.
func (g *Guard) Refuse(addrs ...net.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range addrs {
		if a.Network() == "unix" {
			g.sockets = append(g.sockets, a.String())
		} else if ap, err := netip.ParseAddrPort(a.String()); err == nil && strings.HasPrefix(a.Network(), "tcp") {
			g.refused = append(g.refused, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
		}
	}
}

// Forget takes back one Refuse of an address.
func (g *Guard) Forget(a net.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a.Network() == "unix" {
		if i := slices.Index(g.sockets, a.String()); i >= 0 {
			g.sockets = slices.Delete(slices.Clone(g.sockets), i, i+1)
		}
	} else if ap, err := netip.ParseAddrPort(a.String()); err == nil {
		if i := slices.Index(g.refused, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())); i >= 0 {
			g.refused = slices.Delete(slices.Clone(g.refused), i, i+1)
		}
	}
}

// RefuseLocal refuses loopback and unspecified addresses, which are this machine, and multicast from now on.
func (g *Guard) RefuseLocal() { g.local.Store(true) }

// DialContext connects, or fails with a *RefusedError.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var d *attempt
	if w := g.watched(); w != nil {
		d = &attempt{of: w, over: make(chan struct{})}
		defer d.end()
		ctx = context.WithValue(ctx, dialKey{}, d)
	}
	conn, err := g.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.made(conn)
	if remote := conn.RemoteAddr(); remote != nil {
		if err := g.check(ctx, remote.Network(), remote.String()); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

type besidesKey struct{}

// Besides gives a context in which a Guard also refuses what why has a reason against, of addresses as IPv4's where they stand for one.
func Besides(ctx context.Context, why func(netip.AddrPort) string) context.Context {
	return context.WithValue(ctx, besidesKey{}, why)
}

func (g *Guard) check(ctx context.Context, network, address string) error {
	if network == "unix" && g.RefusesSocket(address) {
		return &RefusedError{Address: address, Why: itself}
	}
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	full := address
	if strings.HasPrefix(full, ":") { // to no address at all: to this machine
		full = "0.0.0.0" + full
	}
	ap, err := netip.ParseAddrPort(full)
	if err != nil {
		return fmt.Errorf("dial %s: not an address: %w", address, err)
	}
	why := g.why(ap)
	if besides, ok := ctx.Value(besidesKey{}).(func(netip.AddrPort) string); ok && why == "" {
		why = besides(netip.AddrPortFrom(plain(ap.Addr()), ap.Port()))
	}
	if why != "" {
		return &RefusedError{Address: address, Why: why}
	}
	return nil
}

func (g *Guard) why(ap netip.AddrPort) string {
	if why := Never(ap.Addr()); why != "" {
		return why
	}
	addr := plain(ap.Addr())
	if g.local.Load() {
		switch {
		case addr.IsLoopback() || addr.IsUnspecified():
			return "it is this machine"
		case addr.IsMulticast():
			return "it is multicast"
		}
	}
	if g.Refuses(netip.AddrPortFrom(addr, ap.Port())) {
		return itself
	}
	return ""
}

// Refuses reports whether an address is one of those that were given to Refuse.
func (g *Guard) Refuses(to netip.AddrPort) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.ContainsFunc(g.refused, func(own netip.AddrPort) bool { return own.Port() == to.Port() && SameHost(own.Addr(), to.Addr()) })
}

// RefusesSocket reports whether the path of a Unix socket is that of one that was given to Refuse.
func (g *Guard) RefusesSocket(path string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.ContainsFunc(g.sockets, func(own string) bool { return SameSocket(own, path) })
}
