package grpcmesh

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
)

// dial opens the connection to a member, by the engine's dialer and the cluster's connect time-out.
func (d *driver) dial(ctx context.Context, _ string) (net.Conn, error) {
	m := memberOf(credentials.ClientHandshakeInfoFromContext(ctx).Attributes)
	if m == nil {
		return nil, errForeign
	}
	conn, err := d.engine.Connect(ctx, m.address, &m.policy)
	return d.engine.Counting(m.cluster, conn, err)
}

// meshCredentials secure each connection as what it is to asks for.
type meshCredentials struct {
	engine *transport.Engine
	own    credentials.TransportCredentials // the program's, nil for none
}

var errOutside = errors.New("it is outside the mesh, and there are no credentials for it: see grpcmesh.WithCredentials")

// ClientHandshake implements credentials.TransportCredentials. Plaintext says that it is no security.
func (c meshCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	a := credentials.ClientHandshakeInfoFromContext(ctx).Attributes
	conn, info, err := c.handshake(ctx, authority, raw, memberOf(a))
	if err != nil {
		return nil, nil, err
	}
	c.proven(conn, a)
	return watched(conn, a), info, nil
}

func (c meshCredentials) handshake(ctx context.Context, authority string, conn net.Conn, m *member) (net.Conn, credentials.AuthInfo, error) {
	switch {
	case m == nil:
		return nil, nil, errForeign
	case m.policy.TLS != nil:
		return c.originate(ctx, authority, conn, m)
	case c.own != nil:
		return c.own.ClientHandshake(ctx, authority, conn)
	case m.outside:
		return nil, nil, errOutside
	}
	return insecure.NewCredentials().ClientHandshake(ctx, authority, conn)
}

// originate secures a connection as the endpoint's policy says. The name of the server is the channel's host, unless
// the policy gives one: RPCs with authorities of their own share the connection.
func (c meshCredentials) originate(ctx context.Context, authority string, conn net.Conn, m *member) (net.Conn, credentials.AuthInfo, error) {
	host, _, err := call.SplitAuthority(authority)
	if err != nil {
		return nil, nil, err
	}
	secured, err := c.engine.Secure(ctx, conn, &m.policy, host)
	if err != nil {
		return nil, nil, err
	}
	if at := c.engine.Rests(secured); !at.IsZero() {
		m.rests.Store(at.UnixNano())
	}
	return secured, credentials.TLSInfo{State: secured.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

// ServerHandshake implements credentials.TransportCredentials; channels do not serve.
func (c meshCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("grpcmesh: credentials of a client")
}

// Info implements credentials.TransportCredentials. Without credentials of the program's own nothing here is
// secure, and grpc-go refuses per-RPC credentials that need it.
func (c meshCredentials) Info() credentials.ProtocolInfo {
	if c.own != nil {
		return c.own.Info()
	}
	return insecure.NewCredentials().Info()
}

// Clone implements credentials.TransportCredentials.
func (c meshCredentials) Clone() credentials.TransportCredentials {
	if c.own != nil {
		c.own = c.own.Clone()
	}
	return c
}

// OverrideServerName implements credentials.TransportCredentials.
func (c meshCredentials) OverrideServerName(name string) error {
	if c.own != nil {
		return c.own.OverrideServerName(name) //nolint:staticcheck // the interface asks for it
	}
	return nil
}
