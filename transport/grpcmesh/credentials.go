package grpcmesh

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// dial opens the connection to a member, by the engine's dialer and the cluster's connect time-out.
func (d *driver) dial(ctx context.Context, _ string) (net.Conn, error) {
	m := memberOf(credentials.ClientHandshakeInfoFromContext(ctx).Attributes)
	if m == nil {
		return nil, errForeign
	}
	return d.engine.Dial(ctx, m.address, m.policy.ConnectTimeout)
}

// meshCredentials secure each connection as what it is to asks for.
type meshCredentials struct {
	own credentials.TransportCredentials // the program's, nil for none
}

var errOutside = errors.New("it is outside the mesh, and there are no credentials for it: see grpcmesh.WithCredentials")

// ClientHandshake implements credentials.TransportCredentials. Plaintext says that it is no security.
func (c meshCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	m := memberOf(credentials.ClientHandshakeInfoFromContext(ctx).Attributes)
	switch {
	case m == nil:
		return nil, nil, errForeign
	case c.own != nil:
		return c.own.ClientHandshake(ctx, authority, conn)
	case m.outside:
		return nil, nil, errOutside
	}
	return insecure.NewCredentials().ClientHandshake(ctx, authority, conn)
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
