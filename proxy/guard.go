package proxy

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/internal/guard"
)

// A DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// A RefusedError is a destination that a Guard lets nobody connect to.
type RefusedError = guard.RefusedError

// A Guard is a dialer that refuses what no program should reach through a proxy: the metadata services of
// clouds and everything link-local, and addresses given to Refuse, such as the proxy's own listeners. It
// looks at the address that is dialled, after every name has been looked up, so that no name and no spelling
// of an address gets around it. It is safe for concurrent use.
type Guard = guard.Guard

// NewGuard makes a guard that connects with dial. Where that is nil it connects by itself and a refused
// destination sees no packet; with a dial function of another's it can only look at what that has connected to.
func NewGuard(dial DialFunc) *Guard { return guard.New(dial) }

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
