package grpcmesh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// An echo is a gRPC server that says its name.
type echo struct {
	name string
	addr string
	srv  *grpc.Server
	// answer takes the place of the name, where it is set before the first call.
	answer func(context.Context, string) (string, error)
	// answers takes the place of what a server-streaming method does after it has its message, likewise.
	answers func(s grpc.ServerStream, in string, call int64) error
	calls   atomic.Int64
}

const (
	who   = "/test.Echo/Who"
	other = "/test.Echo/Other"
	down  = "/test.Echo/Down" // server streaming: the name, as often as asked
	up    = "/test.Echo/Up"   // client streaming: how many came
	both  = "/test.Echo/Both" // bidirectional: the name for each
)

var (
	downDesc = &grpc.StreamDesc{StreamName: "Down", ServerStreams: true}
	upDesc   = &grpc.StreamDesc{StreamName: "Up", ClientStreams: true}
	bothDesc = &grpc.StreamDesc{StreamName: "Both", ServerStreams: true, ClientStreams: true}
)

func newEcho(name string, opts ...grpc.ServerOption) *echo {
	e := &echo{name: name, srv: grpc.NewServer(opts...)}
	unary := func(_ any, ctx context.Context, decode func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
		in := new(wrapperspb.StringValue)
		if err := decode(in); err != nil {
			return nil, err
		}
		serve := func(ctx context.Context, in any) (any, error) {
			e.calls.Add(1)
			if e.answer == nil {
				return wrapperspb.String(name), nil
			}
			s, err := e.answer(ctx, in.(*wrapperspb.StringValue).Value)
			return wrapperspb.String(s), err
		}
		if i == nil {
			return serve(ctx, in)
		}
		return i(ctx, in, &grpc.UnaryServerInfo{Server: e, FullMethod: who}, serve)
	}
	stream := func(f func(grpc.ServerStream) error) grpc.StreamHandler {
		return func(_ any, s grpc.ServerStream) error {
			e.calls.Add(1)
			return f(s)
		}
	}
	e.srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Who", Handler: unary}, {MethodName: "Other", Handler: unary}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Down", ServerStreams: true, Handler: stream(e.down)},
			{StreamName: "Up", ClientStreams: true, Handler: stream(e.up)},
			{StreamName: "Both", ServerStreams: true, ClientStreams: true, Handler: stream(e.both)},
		},
	}, e)
	return e
}

func (e *echo) down(s grpc.ServerStream) error {
	in := new(wrapperspb.StringValue)
	if err := s.RecvMsg(in); err != nil {
		return err
	}
	if e.answers != nil {
		return e.answers(s, in.Value, e.calls.Load())
	}
	for range len(in.Value) {
		if err := s.SendMsg(wrapperspb.String(e.name)); err != nil {
			return err
		}
	}
	return nil
}

func (e *echo) up(s grpc.ServerStream) error {
	for n := 0; ; n++ {
		err := s.RecvMsg(new(wrapperspb.StringValue))
		if errors.Is(err, io.EOF) {
			return s.SendMsg(wrapperspb.String(fmt.Sprint(e.name, " ", n)))
		}
		if err != nil {
			return err
		}
	}
}

func (e *echo) both(s grpc.ServerStream) error {
	for {
		err := s.RecvMsg(new(wrapperspb.StringValue))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = s.SendMsg(wrapperspb.String(e.name))
		}
		if err != nil {
			return err
		}
	}
}

// start serves on a loopback port of its own.
func start(t testing.TB, name string, opts ...grpc.ServerOption) *echo {
	t.Helper()
	return startAt(t, "127.0.0.1:0", newEcho(name, opts...))
}

func startAt(t testing.TB, addr string, e *echo) *echo {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	e.addr = l.Addr().String()
	go e.srv.Serve(l)
	t.Cleanup(e.srv.Stop)
	return e
}

// dead is an address that refuses connections as long as the test lasts: its port belongs to a connection, so that nobody else
// gets it.
func dead(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // with what it has not accepted
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.LocalAddr().String()
}

// service is the YAML of a service "echo" on port 9080; an endpoint is "address" or "address version".
func service(endpoints ...string) string {
	return serviceOf("STATIC", endpoints...)
}

func serviceOf(resolution string, endpoints ...string) string {
	var b strings.Builder
	b.WriteString(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: echo}
spec:
  hosts: [echo.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: ` + resolution + `
  ports:
  - {number: 9080, name: grpc, protocol: GRPC}
`)
	switch {
	case resolution == "NONE":
	case len(endpoints) == 0:
		b.WriteString("  workloadSelector: {labels: {app: none}}\n")
	default:
		b.WriteString("  endpoints:\n")
	}
	for _, e := range endpoints {
		addr, version, _ := strings.Cut(e, " ")
		host, port, _ := net.SplitHostPort(addr)
		fmt.Fprintf(&b, "  - {address: %s, ports: {grpc: %s}, labels: {version: %q}}\n", host, port, version)
	}
	b.WriteString(`---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo}
spec:
  host: echo
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
`)
	return b.String()
}

// rules is the YAML of a VirtualService with the given http list.
func rules(http string) string {
	return `
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec:
  hosts: [echo]
  http:
` + http
}

const (
	toV1 = "  - {route: [{destination: {host: echo, subset: v1}}]}\n"
	toV2 = "  - {route: [{destination: {host: echo, subset: v2}}]}\n"
)

func newMesh(t testing.TB, config string, opts ...mesh.Option) *mesh.Mesh {
	t.Helper()
	opts = append([]mesh.Option{mesh.WithConfig([]byte(config)), mesh.WithLogger(slog.New(slog.DiscardHandler))}, opts...)
	m, err := mesh.New(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func apply(t testing.TB, m *mesh.Mesh, config string) {
	t.Helper()
	if err := m.Apply(t.Context(), []byte(config)); err != nil {
		t.Fatal(err)
	}
}

func dial(t testing.TB, m *mesh.Mesh, host string, opts ...grpcmesh.Option) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(grpcmesh.Target(host), grpcmesh.DialOptions(m, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// ask makes a unary call.
func ask(ctx context.Context, cc *grpc.ClientConn, method string, opts ...grpc.CallOption) (string, error) {
	out := new(wrapperspb.StringValue)
	err := cc.Invoke(ctx, method, wrapperspb.String("x"), out, opts...)
	return out.Value, err
}

// must makes a unary call that must not fail, within a time far beyond what it should need.
func must(t testing.TB, cc *grpc.ClientConn, method string, kv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), kv...), patience)
	defer cancel()
	got, err := ask(ctx, cc, method)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return got
}

const patience = 20 * time.Second

// active sums the attempts under way, as the engine counts them.
func active(m *mesh.Mesh) (active int64, total, failed uint64) {
	for _, c := range m.Engine().Clusters() {
		for _, e := range c.Endpoints {
			active += e.Counts.Active
			total += e.Counts.Total
			failed += e.Counts.Failed
		}
	}
	return active, total, failed
}

// until waits for something that other goroutines are about to do.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func capture(ctx context.Context) (context.Context, *transport.CallInfo) {
	info := new(transport.CallInfo)
	return transport.Capture(ctx, info), info
}

// askText makes a unary call with a message.
func askText(ctx context.Context, cc *grpc.ClientConn, text string) (string, error) {
	out := new(wrapperspb.StringValue)
	err := cc.Invoke(ctx, who, wrapperspb.String(text), out)
	return out.Value, err
}

func text(s string) *wrapperspb.StringValue { return wrapperspb.String(s) }
