package grpcmesh

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh/transport"
)

// A server is the receiving side of a mesh for RPCs. It is immutable.
type server struct {
	engine  *transport.Engine
	inbound *transport.Inbound
}

func (v server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := v.proved(ctx)
	if err != nil {
		return nil, err
	}
	if err := v.admit(ctx, info.FullMethod, unaryAnswer{ctx}); err != nil {
		return nil, err
	}
	return handler(v.carrying(ctx), req)
}

func (v server) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, err := v.proved(s.Context())
	if err != nil {
		return err
	}
	if err := v.admit(ctx, info.FullMethod, s); err != nil {
		return err
	}
	return handler(srv, &serverStream{s, v.carrying(ctx)})
}

// carrying gives a context whose calls carry what the RPC came with, and with a request id where that had none.
func (v server) carrying(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	if id := md["x-request-id"]; len(id) == 0 || id[0] == "" {
		if md == nil {
			md = make(metadata.MD, 1)
		}
		md["x-request-id"] = []string{v.engine.RequestID()}
		ctx = metadata.NewIncomingContext(ctx, md)
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
