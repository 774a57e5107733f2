package grpcmesh

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/transport"
)

// serverCredentials take a server's connections as the PeerAuthentication of their port says.
type serverCredentials struct {
	engine  *transport.Engine
	inbound *transport.Inbound
}

// An authInfo is what is known of a connection that was taken: nothing of one in plain text.
type authInfo struct {
	credentials.CommonAuthInfo
	caller *transport.Caller // nil where nobody was proved to be
	sni    string
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
	info.caller = c.engine.Caller(admitted)
	if secured, ok := admitted.(*tls.Conn); ok {
		info.SecurityLevel, info.sni = credentials.PrivacyAndIntegrity, secured.ConnectionState().ServerName
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

// proved gives a context that knows the RPC's peer, and whose metadata says nothing else of him, and refuses an RPC that
// came without mutual TLS to a port that requires it: on whatever connection it came.
func (v server) proved(ctx context.Context) (context.Context, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ctx, nil // no transport: the program calls its own handlers
	}
	if info, ok := p.AuthInfo.(authInfo); ok && info.caller != nil {
		return transport.WithCaller(v.attested(ctx, info.caller), info.caller), nil
	}
	port := uint16(0)
	if tcp, ok := p.LocalAddr.(*net.TCPAddr); ok {
		port = uint16(tcp.Port)
	}
	if v.inbound.Requires(port) {
		return nil, grpcstatus.Error(codes.PermissionDenied, "mutual TLS required")
	}
	return v.attested(ctx, nil), nil
}

// attested gives a context whose metadata says who calls, nobody for nil, in the place of what the caller says himself.
func (v server) attested(ctx context.Context, c *transport.Caller) context.Context {
	if !v.inbound.Identified() {
		return ctx
	}
	forged := false
	for _, name := range forwardedCerts {
		forged = forged || len(metadata.ValueFromIncomingContext(ctx, name)) > 0
	}
	if !forged && c == nil {
		return ctx
	}
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	if md == nil {
		md = make(metadata.MD, 1)
	}
	for _, name := range forwardedCerts {
		delete(md, name)
	}
	if c != nil {
		md[forwardedCerts[0]] = []string{c.Forwarded}
	}
	return metadata.NewIncomingContext(ctx, md)
}

// forwardedCerts are the names under which a caller could give himself out for another: some programs take '_' for '-'.
var forwardedCerts = alike(transport.ForwardedCert.Lower())

// alike gives the spellings of a name, itself first.
func alike(name string) []string {
	at := strings.LastIndexByte(name, '-')
	if at < 0 {
		return []string{name}
	}
	var all []string
	for _, end := range []string{name[at:], "_" + name[at+1:]} {
		for _, begin := range alike(name[:at]) {
			all = append(all, begin+end)
		}
	}
	return all
}
