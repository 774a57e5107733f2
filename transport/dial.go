package transport

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
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

// Connect is Dial as a policy has it, but for TLS, which is Secure's.
func (e *Engine) Connect(ctx context.Context, to discovery.Address, p *snapshot.Policy) (net.Conn, error) {
	conn, err := e.Dial(ctx, to, p.ConnectTimeout)
	if err == nil {
		keepAlive(conn, p.Connections.KeepAlive)
	}
	return conn, err
}

// Secure makes the TLS handshake of a policy that has TLS, for HTTP/2. host is the one that is called: the name of the
// server where the policy gives none. It closes the connection where it fails.
func (e *Engine) Secure(ctx context.Context, conn net.Conn, p *snapshot.Policy, host string) (*tls.Conn, error) {
	timeout := p.ConnectTimeout
	if timeout <= 0 {
		timeout = DefaultConnectTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return e.originator(p.TLS, snapshot.HTTP2).secure(ctx, conn, host)
}

// Open connects to an endpoint as a policy has it, for HTTP/1.1 and by TLS t where there is one (see Attempt.TLS), all
// within its connect time-out. host is the one that is called: the name of the server where t gives none.
func (e *Engine) Open(ctx context.Context, to discovery.Address, p *snapshot.Policy, t *snapshot.TLS, host string) (net.Conn, error) {
	return e.open(ctx, to, p, p.Protocol, t, host, nil)
}

// OpenOpaque is Open for what is not HTTP, with something that goes before all else, TLS too: a header of the PROXY protocol. Who takes the
// connection sees to PeerExchange where that was agreed on.
func (e *Engine) OpenOpaque(ctx context.Context, to discovery.Address, p *snapshot.Policy, t *snapshot.TLS, host string, header []byte) (net.Conn, error) {
	return e.open(ctx, to, p, opaqueBytes, t, host, header)
}

func (e *Engine) open(ctx context.Context, to discovery.Address, p *snapshot.Policy, speaks snapshot.Protocol, t *snapshot.TLS, host string, header []byte) (net.Conn, error) {
	timeout := p.ConnectTimeout
	if timeout <= 0 {
		timeout = DefaultConnectTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := e.Connect(ctx, to, p)
	if err == nil && len(header) > 0 {
		if _, err = conn.Write(header); err != nil { // no more than the socket's buffer takes
			_ = conn.Close()
			return nil, err
		}
	}
	if err != nil || t == nil {
		return conn, err
	}
	secured, err := e.originator(t, speaks).secure(ctx, conn, host)
	if err != nil {
		return nil, err
	}
	return secured, nil
}

// Rests gives the moment after which no call is to begin on a connection that Open or Secure gave, so that it ends before
// its certificates do; zero for never.
func (e *Engine) Rests(conn net.Conn) time.Time { return e.live.rests(conn) }

// originator gives the one of a policy's TLS, which the pools share where they are Leaves.
func (e *Engine) originator(t *snapshot.TLS, protocol snapshot.Protocol) *originator {
	l, ok := e.pools.(*Leaves)
	if !ok {
		return newOriginator(*t, protocol, e.live)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.originator(*t, protocol)
}
