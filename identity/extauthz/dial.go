package extauthz

import (
	"context"
	"fmt"
	"net"
	"strconv"

	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// maxAnswer bounds an answer on the wire, in bytes: what external.Answer may hold, and what proto adds.
const maxAnswer = external.MaxBody + 2*external.MaxHeader

// Dial makes the client of an authorizer's service, for mesh.WithGRPCAuthorizers. It connects when it is first asked, and
// is safe for concurrent use.
func Dial(e *transport.Engine, host string, port uint16) (transport.AuthorizerClient, error) {
	target := grpcmesh.Target(net.JoinHostPort(host, strconv.Itoa(int(port))))
	options := append([]grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithMaxHeaderListSize(external.MaxHeader)}, grpcmesh.DialOptions(engine{e})...)
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("dial authorizer %s:%d: %w", host, port, err)
	}
	return &client{conn, auth.NewAuthorizationClient(conn)}, nil
}

type engine struct{ e *transport.Engine }

func (e engine) Engine() *transport.Engine { return e.e }

type client struct {
	conn *grpc.ClientConn
	auth auth.AuthorizationClient
}

// Authorize implements external.Authorizer.
func (c *client) Authorize(ctx context.Context, check *external.Check) (external.Answer, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, external.TrailHeader, check.Trail)
	resp, err := c.auth.Check(ctx, request(check))
	if err != nil {
		return external.Answer{}, fmt.Errorf("ask %s: %w", c.conn.Target(), err)
	}
	return answer(resp), nil
}

// Close implements io.Closer.
func (c *client) Close() error { return c.conn.Close() }
