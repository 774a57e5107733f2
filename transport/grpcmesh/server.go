package grpcmesh

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh/transport"
)

func serveUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(carrying(ctx), req)
}

func serveStream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if ctx := carrying(s.Context()); ctx != s.Context() {
		s = &serverStream{s, ctx}
	}
	return handler(srv, s)
}

// carrying gives a context whose calls carry what the RPC came with.
func carrying(ctx context.Context) context.Context {
	md, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return ctx
	}
	return transport.WithCarried(ctx, transport.Collect(headers(md)))
}

// A serverStream is a stream under another context.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *serverStream) Context() context.Context { return s.ctx }
