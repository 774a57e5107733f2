package main

import (
	"context"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The service, as protoc-gen-go-grpc would write it, with a string for each message.

const sayHello = "/helloworld.Greeter/SayHello"

// greet is the client's stub. It gives the version that answered.
func greet(ctx context.Context, conn grpc.ClientConnInterface) (string, error) {
	version := new(wrapperspb.StringValue)
	err := conn.Invoke(ctx, sayHello, wrapperspb.String("world"), version)
	return version.Value, err
}

type greeter interface {
	SayHello(context.Context, *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
}

var description = grpc.ServiceDesc{
	ServiceName: "helloworld.Greeter",
	HandlerType: (*greeter)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "SayHello",
		Handler: func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := decode(in); err != nil {
				return nil, err
			}
			handle := func(ctx context.Context, in any) (any, error) {
				return srv.(greeter).SayHello(ctx, in.(*wrapperspb.StringValue))
			}
			if intercept == nil {
				return handle(ctx, in)
			}
			return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: sayHello}, handle)
		},
	}},
}

// A server is one instance of the service, which says which one it is, until it is broken.
type server struct {
	*grpc.Server
	name   string
	addr   string
	broken atomic.Bool
	asked  atomic.Int64
}

// SayHello gives the name of the instance. A broken one is not what a load balancer of connections looks for: its connection is
// there, and each answer is a status.
func (s *server) SayHello(context.Context, *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	s.asked.Add(1)
	if s.broken.Load() {
		return nil, status.Error(codes.Unavailable, s.name+" has lost its database")
	}
	return wrapperspb.String(s.name), nil
}

// serve starts an instance of the service on a port of its own.
func serve(name string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{Server: grpc.NewServer(), name: name, addr: l.Addr().String()}
	s.RegisterService(&description, s)
	go func() { _ = s.Serve(l) }() // ends with Stop
	return s, nil
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}
