package proxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// A RefusedError is a destination that a Guard lets nobody connect to.
type RefusedError struct {
	Address string
	Why     string
}

// Error says the address and why.
func (e *RefusedError) Error() string {
	return "dial " + e.Address + ": destination refused: " + e.Why
}

// A Guard is a dialer that refuses what no program should reach through a proxy: the metadata services of
// clouds and everything link-local, and addresses given to Refuse, such as the proxy's own listeners. It
// looks at the address that is dialled, after every name has been looked up, so that no name and no spelling
// of an address gets around it. It is safe for concurrent use.
type Guard struct {
	dial DialFunc

	mu      sync.RWMutex // guards what follows
	refused []netip.AddrPort
}

// NewGuard makes a guard that connects with dial. Where that is nil it connects by itself and a refused
// destination sees no packet; with a dial function of another's it can only look at what that has connected to.
func NewGuard(dial DialFunc) *Guard {
	g := &Guard{dial: dial}
	if dial == nil {
		d := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second,
			ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
				return g.check(network, address)
			}}
		g.dial = d.DialContext
	}
	return g
}

// Refuse adds addresses. One with an unspecified host stands for its port on every address of this machine.
func (g *Guard) Refuse(addrs ...net.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range addrs {
		if ap, err := netip.ParseAddrPort(a.String()); err == nil && strings.HasPrefix(a.Network(), "tcp") {
			g.refused = append(g.refused, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
		}
	}
}

// DialContext connects, or fails with a *RefusedError.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := g.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if remote := conn.RemoteAddr(); remote != nil {
		if err := g.check(remote.Network(), remote.String()); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

func (g *Guard) check(network, address string) error {
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
	if why := g.why(ap); why != "" {
		return &RefusedError{Address: address, Why: why}
	}
	return nil
}

func (g *Guard) why(ap netip.AddrPort) string {
	addr := plain(ap.Addr())
	switch {
	case addr.IsLinkLocalUnicast():
		return "it is link-local"
	case slices.Contains(metadata, addr) || metadataNet.Contains(addr):
		return "it is a metadata service"
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, own := range g.refused {
		if own.Port() == ap.Port() && sameHost(own.Addr(), addr) {
			return "it is a listener of the proxy itself"
		}
	}
	return ""
}

// metadata are the services outside the link-local range that tell a machine's secrets to whoever asks.
var (
	metadata = []netip.Addr{
		netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
		netip.MustParseAddr("168.63.129.16"),   // Azure
		netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
		netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
	}
	metadataNet = netip.MustParsePrefix("fd00:ec2::/32") // Amazon
	nat64       = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour   = netip.MustParsePrefix("2002::/16")
)

// plain gives the IPv4 address that an IPv6 one stands for, and no zone.
func plain(a netip.Addr) netip.Addr {
	a = a.WithZone("").Unmap()
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

// sameHost reports whether a connection to addr reaches a listener on own. To connect to the unspecified
// address is to connect to this machine.
func sameHost(own, addr netip.Addr) bool {
	switch {
	case own == addr:
		return true
	case own.IsUnspecified():
		return addr.IsUnspecified() || addr.IsLoopback() || slices.Contains(localAddrs(), addr)
	case addr.IsUnspecified():
		return own.IsLoopback()
	}
	return false
}

func localAddrs() []netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var found []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			found = append(found, p.Addr().Unmap())
		}
	}
	return found
}

// loopback reports whether a listener on the address can be reached from this machine only.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// Passthrough is the transport for calls to hosts that the mesh does not know (mesh.WithPassthrough): it asks
// no other proxy, least of all the one that the program's environment names, which is us, and leaves encodings
// to the program.
func Passthrough(dial DialFunc) *http.Transport {
	return &http.Transport{
		DialContext:            dial,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
	}
}
