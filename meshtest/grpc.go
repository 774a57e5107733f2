package meshtest

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// GRPC adds an instance of a service as [Env.HTTP] does, which serves the gRPC services that register gives
// it; with a nil one it answers every call with an empty message, whatever its type. The options are those of
// its grpc.Server, e.Mesh()'s grpcmesh.ServerOptions for example. Default: none. Transport credentials and
// keep-alive settings among them mean nothing: the connections are meshtest's own.
//
// Where the YAML has no ServiceEntry of the host, its port is made for GRPC. A port that is declared for
// another protocol than GRPC or HTTP2 ends the test: elsewhere in the mesh nobody would speak HTTP/2 there.
func (e *Env) GRPC(host string, labels map[string]string, register func(grpc.ServiceRegistrar), opts ...grpc.ServerOption) *Instance {
	e.t.Helper()
	opts = append(slices.Clip(opts), grpc.WaitForHandlers(true))
	if register == nil {
		opts = append(opts, answerEmpty()...)
	}
	server := grpc.NewServer(opts...)
	if register != nil {
		register(server)
	}
	return e.add(host, &Instance{labels: maps.Clone(labels), handler: rpcHandler{server}, rpc: server})
}

// Dial gives a channel to a host, written as for [Env.GRPC], whose calls go through the mesh: make the stubs of
// the code under test with it. Without a port it is port 80. The options are the program's own; those of
// grpcmesh.DialOptions follow them. [Env.Story] tells of its calls as of those on [Env.Client], and it
// is closed when the test ends.
func (e *Env) Dial(target string, opts ...grpc.DialOption) *grpc.ClientConn {
	e.t.Helper()
	host := hostOf(target)
	if _, _, err := call.SplitAuthority(host); err != nil {
		e.t.Fatalf("meshtest: dial %s: %v", target, err)
	}
	opts = append(slices.Clip(opts), grpc.WithChainUnaryInterceptor(e.unary), grpc.WithChainStreamInterceptor(e.stream))
	// With credentials a host outside the mesh is dialled, and the test's network says that it is not there.
	opts = append(opts, grpcmesh.DialOptions(e.mesh, grpcmesh.WithCredentials(insecure.NewCredentials()))...)
	cc, err := grpc.NewClient(grpcmesh.Target(host), opts...)
	if err != nil {
		e.t.Fatalf("meshtest: dial %s: %v", target, err)
	}
	e.t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// hostOf gives the host of a target, which may be the host itself.
func hostOf(target string) string { return strings.TrimPrefix(target, grpcmesh.Target("")) }

// unary writes an RPC down.
func (e *Env) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	r := e.beginRPC(ctx, method, cc, opts)
	err := invoke(e.under(ctx, r), method, req, reply, cc, opts...)
	e.end(r, 0, err)
	return err
}

// stream writes a streaming RPC down, until its caller has heard of its end.
func (e *Env) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	r := e.beginRPC(ctx, method, cc, opts)
	s, err := open(e.under(ctx, r), desc, cc, method, opts...)
	if err != nil {
		e.end(r, 0, err)
		return nil, err
	}
	return &recordedStream{s, e, r, !desc.ServerStreams}, nil
}

// beginRPC writes down that an RPC begins, as the request that it becomes on the wire.
func (e *Env) beginRPC(ctx context.Context, method string, cc *grpc.ClientConn, opts []grpc.CallOption) *record {
	host := hostOf(cc.Target())
	req := &http.Request{Method: http.MethodPost, Host: host, URL: &url.URL{Scheme: "http", Host: host, Path: method},
		Header: http.Header{"Content-Type": {"application/grpc"}}}
	for _, o := range opts {
		if o, ok := o.(grpc.AuthorityOverrideCallOption); ok {
			req.Host = o.Authority
		}
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	for k, values := range md {
		for _, v := range values {
			if strings.HasSuffix(k, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			req.Header.Add(k, v)
		}
	}
	return e.begin(req, true)
}

// A recordedStream is a stream whose end is written down.
type recordedStream struct {
	grpc.ClientStream
	env    *Env
	record *record
	once   bool // its answer is one message
}

// RecvMsg implements grpc.ClientStream.
func (s *recordedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case errors.Is(err, io.EOF):
		s.env.end(s.record, 0, nil)
	case err != nil || s.once:
		s.env.end(s.record, 0, err)
	}
	return err
}
