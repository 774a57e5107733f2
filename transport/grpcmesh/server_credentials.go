package grpcmesh

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/transport"
)

// serverCredentials take a server's connections as the PeerAuthentication of their port says.
type serverCredentials struct{ inbound *transport.Inbound }

// An authInfo is what is known of a connection that was taken: nothing of one in plain text.
type authInfo struct {
	credentials.CommonAuthInfo
	peer   identity.Peer
	proved bool
}

// AuthType implements credentials.AuthInfo.
func (a authInfo) AuthType() string {
	if a.SecurityLevel == credentials.NoSecurity {
		return "insecure"
	}
	return "tls"
}

// ServerHandshake implements credentials.TransportCredentials.
func (c serverCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	admitted, err := c.inbound.Admit(conn)
	if err != nil {
		return nil, nil, err
	}
	info := authInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}
	info.peer, info.proved = c.inbound.Peer(admitted)
	if _, secured := admitted.(*tls.Conn); secured || info.proved {
		info.SecurityLevel = credentials.PrivacyAndIntegrity
	}
	return admitted, info, nil
}

// ClientHandshake implements credentials.TransportCredentials; servers do not call.
func (serverCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("grpcmesh: credentials of a server")
}

// Info implements credentials.TransportCredentials.
func (serverCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c serverCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (serverCredentials) OverrideServerName(string) error { return nil }

// proved gives a context that knows the RPC's peer, and refuses an RPC that came without mutual TLS to a port that requires
// it: on whatever connection it came.
func (v server) proved(ctx context.Context) (context.Context, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ctx, nil // no transport: the program calls its own handlers
	}
	if info, ok := p.AuthInfo.(authInfo); ok && info.proved {
		return transport.WithPeer(ctx, info.peer), nil
	}
	port := uint16(0)
	if tcp, ok := p.LocalAddr.(*net.TCPAddr); ok {
		port = uint16(tcp.Port)
	}
	if v.inbound.Requires(port) {
		return nil, grpcstatus.Error(codes.PermissionDenied, "mutual TLS required")
	}
	return ctx, nil
}
