package transport

import (
	"context"
	"net"
	"time"

	"github.com/heddlemesh/mesh/discovery"
)

// Dial opens a connection to an address as the engine's pools do: by their dialer where they have one, as
// Leaves have. A timeout of 0 means DefaultConnectTimeout; the caller's context bounds it too.
func (e *Engine) Dial(ctx context.Context, to discovery.Address, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 {
		timeout = DefaultConnectTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if p, ok := e.pools.(interface{ Dialer() DialFunc }); ok {
		return p.Dialer()(ctx, to.Network, to.Addr)
	}
	return (&net.Dialer{}).DialContext(ctx, to.Network, to.Addr)
}

// Dialer gives the function that opens the leaves' connections.
func (l *Leaves) Dialer() DialFunc { return l.dial }
