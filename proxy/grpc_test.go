package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/proxy"
)

// An rpcApp is a gRPC program that knows nothing of the mesh.
type rpcApp struct {
	seen chan metadata.MD
	gone chan error // how streams ended that the client gave up
	hung chan error // how calls did that were to hang
	open atomic.Int64
}

func text(s string) *wrapperspb.StringValue { return wrapperspb.String(s) }

// unary answers what it is asked, or as it is told to.
func (a *rpcApp) unary(ctx context.Context, in string) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	a.seen <- md
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-head", "h", "x-data-bin", "\x00\xff"))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-tail", "t", "x-tail", "u"))
	switch in {
	case "fail":
		s, err := status.New(codes.FailedPrecondition, "no: 100 % sure, ü").WithDetails(durationpb.New(7*time.Second), text("why"))
		if err != nil {
			return "", err
		}
		return "", s.Err()
	case "hang":
		_, deadline := ctx.Deadline()
		<-ctx.Done()
		if !deadline {
			a.hung <- errors.New("no deadline")
		} else {
			a.hung <- ctx.Err()
		}
		return "", ctx.Err()
	}
	return "re: " + in, nil
}

// stream answers each message, and in the end says how many came.
func (a *rpcApp) stream(s grpc.ServerStream) error {
	a.open.Add(1)
	defer a.open.Add(-1)
	in := new(wrapperspb.StringValue)
	for n := 0; ; n++ {
		err := s.RecvMsg(in)
		if errors.Is(err, io.EOF) {
			s.SetTrailer(metadata.Pairs("x-count", fmt.Sprint(n)))
			if n > 0 && in.Value == "fail" {
				return status.Error(codes.Aborted, "at the end")
			}
			return nil
		}
		if err != nil {
			a.gone <- err
			return err
		}
		if err := s.SendMsg(text("re: " + in.Value)); err != nil {
			return err
		}
	}
}

// serveRPC starts the program and gives its address.
func (a *rpcApp) serve(t *testing.T) string {
	t.Helper()
	srv := grpc.NewServer()
	srv.RegisterService(&grpc.ServiceDesc{ServiceName: "test.App", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := decode(in); err != nil {
				return nil, err
			}
			out, err := a.unary(ctx, in.Value)
			return text(out), err
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, s grpc.ServerStream) error { return a.stream(s) }}},
	}, a)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

var streamDesc = &grpc.StreamDesc{StreamName: "Stream", ServerStreams: true, ClientStreams: true}

// channel gives a gRPC client that knows of the mesh no more than the outbound listener's address.
func channel(t *testing.T, r *rig, authority string, more ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+r.sidecar.OutboundAddr().String(), append(more, grpc.WithAuthority(authority),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// pair gives a client's sidecar whose service "app" is the inbound listener of the program's sidecar.
func pair(t *testing.T) (*rig, *rpcApp) {
	t.Helper()
	a := &rpcApp{seen: make(chan metadata.MD, 16), gone: make(chan error, 16), hung: make(chan error, 16)}
	in := start(t, "", func(c *proxy.Config) {
		c.Outbound, c.Inbound = "", []proxy.Inbound{{Listen: "127.0.0.1:0", App: a.serve(t)}}
	})
	return start(t, service("app", "GRPC", in.sidecar.InboundAddrs()[0].String()), nil), a
}

// TestGRPC: a gRPC client and a gRPC server, neither of which knows of the mesh, with a sidecar each.
func TestGRPC(t *testing.T) {
	t.Parallel()
	r, a := pair(t)
	cc := channel(t, r, "App:80")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	t.Run("unary", func(t *testing.T) {
		var head, tail metadata.MD
		out := new(wrapperspb.StringValue)
		ctx := metadata.AppendToOutgoingContext(ctx, "x-own", "1", "x-own-bin", "\x01\xfe")
		if err := cc.Invoke(ctx, "/test.App/Unary", text("hi"), out, grpc.Header(&head), grpc.Trailer(&tail)); err != nil || out.Value != "re: hi" {
			t.Fatalf("%q, %v", out.Value, err)
		}
		md := <-a.seen
		if md.Get(":authority")[0] != "app" || md.Get("x-own")[0] != "1" || md.Get("x-own-bin")[0] != "\x01\xfe" || len(md.Get("x-request-id")) != 1 {
			t.Errorf("the program saw %v", md)
		}
		if head.Get("x-head")[0] != "h" || head.Get("x-data-bin")[0] != "\x00\xff" || !slices.Equal(tail.Get("x-tail"), []string{"t", "u"}) {
			t.Errorf("header %v, trailer %v", head, tail)
		}
	})
	t.Run("large message", func(t *testing.T) {
		out := new(wrapperspb.StringValue)
		in := strings.Repeat("0123456789abcdef", 200<<10/16)
		if err := cc.Invoke(ctx, "/test.App/Unary", text(in), out); err != nil || out.Value != "re: "+in {
			t.Errorf("%d bytes, %v", len(out.Value), err)
		}
		<-a.seen
	})
	t.Run("error with details", func(t *testing.T) {
		var tail metadata.MD
		err := cc.Invoke(ctx, "/test.App/Unary", text("fail"), new(wrapperspb.StringValue), grpc.Trailer(&tail))
		s := status.Convert(err)
		if s.Code() != codes.FailedPrecondition || s.Message() != "no: 100 % sure, ü" || len(s.Details()) != 2 || tail.Get("x-tail") == nil {
			t.Fatalf("%v, %v, trailer %v", err, s.Details(), tail)
		}
		if d, ok := s.Details()[0].(*durationpb.Duration); !ok || d.Seconds != 7 {
			t.Errorf("detail %v", s.Details()[0])
		}
		<-a.seen
	})
	t.Run("unknown method", func(t *testing.T) {
		if err := cc.Invoke(ctx, "/test.App/Nothing", text(""), new(wrapperspb.StringValue)); status.Code(err) != codes.Unimplemented {
			t.Errorf("got %v", err)
		}
	})
	for _, last := range []string{"end", "fail"} {
		t.Run("stream both ways, "+last, func(t *testing.T) {
			s, err := cc.NewStream(ctx, streamDesc, "/test.App/Stream")
			if err != nil {
				t.Fatal(err)
			}
			out := new(wrapperspb.StringValue)
			for _, m := range []string{"a", "b", last} { // each is answered before the next is sent
				if err := s.SendMsg(text(m)); err != nil {
					t.Fatal(err)
				}
				if err := s.RecvMsg(out); err != nil || out.Value != "re: "+m {
					t.Fatalf("%q, %v", out.Value, err)
				}
			}
			_ = s.CloseSend()
			want := codes.OK
			if last == "fail" {
				want = codes.Aborted
			}
			if err := s.RecvMsg(out); status.Code(err) != want && !errors.Is(err, io.EOF) || s.Trailer().Get("x-count")[0] != "3" {
				t.Errorf("the end: %v, trailer %v", err, s.Trailer())
			}
		})
	}
	if l := r.last(); l.Status != 0 {
		t.Errorf("the sidecar answered by itself: %+v", l)
	}
	t.Run("deadline", func(t *testing.T) {
		for d := 50 * time.Millisecond; ; d *= 2 {
			ctx, cancel := context.WithTimeout(ctx, d)
			err := cc.Invoke(ctx, "/test.App/Unary", text("hang"), new(wrapperspb.StringValue))
			cancel()
			if status.Code(err) != codes.DeadlineExceeded { // whoever says so first
				t.Fatalf("got %v", err)
			}
			select {
			case err := <-a.hung:
				if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
					t.Errorf("the program: %v", err)
				}
				return
			case <-time.After(d): // the call may have ended before it came there
			}
		}
	})
	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		s, err := cc.NewStream(ctx, streamDesc, "/test.App/Stream")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SendMsg(text("a")); err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(new(wrapperspb.StringValue)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-a.gone; status.Code(err) != codes.Canceled {
			t.Errorf("the program: %v", err)
		}
	})
	l := r.last()
	if e, ok := errors.AsType[*mesh.Error](l.Err); l.Status != 0 && (!ok || e.GRPCStatusCode() != uint32(codes.DeadlineExceeded)) {
		t.Errorf("the sidecar answered by itself: %+v", l)
	}
}

// TestGRPCBalance: the RPCs of one connection are spread over the endpoints of a service, one by one, and streams likewise.
func TestGRPCBalance(t *testing.T) {
	t.Parallel()
	const n = 3
	var config strings.Builder
	config.WriteString("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: app}\nspec:\n  hosts: [app.default.svc.cluster.local]\n" +
		"  ports: [{number: 80, name: grpc, protocol: GRPC}]\n  resolution: STATIC\n  endpoints:\n")
	var apps [n]*rpcApp
	for i := range apps {
		apps[i] = &rpcApp{seen: make(chan metadata.MD, 100), gone: make(chan error, 100)}
		_, port, _ := net.SplitHostPort(apps[i].serve(t))
		fmt.Fprintf(&config, "  - {address: 127.0.0.1, ports: {grpc: %s}}\n", port)
	}
	config.WriteString("---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: app}\n" +
		"spec: {host: app, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}\n")
	var conns atomic.Int64
	cc := channel(t, start(t, config.String(), nil), "app", grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		conns.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}))
	const each = 10
	for range n * each {
		if err := cc.Invoke(t.Context(), "/test.App/Unary", text("hi"), new(wrapperspb.StringValue)); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range apps {
		if got := len(a.seen); got != each {
			t.Errorf("endpoint %d had %d RPCs of %d", i, got, n*each)
		}
	}
	var open []grpc.ClientStream // all at once
	for range n * each {
		s, err := cc.NewStream(t.Context(), streamDesc, "/test.App/Stream")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.SendMsg(text("a")), s.RecvMsg(new(wrapperspb.StringValue))); err != nil {
			t.Fatal(err)
		}
		open = append(open, s)
	}
	for i, a := range apps {
		if got := a.open.Load(); got != each {
			t.Errorf("endpoint %d has %d streams of %d", i, got, n*each)
		}
	}
	for _, s := range open {
		_ = s.CloseSend()
		if err := s.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("the client made %d connections", n)
	}
}

// TestGRPCReplies: what the sidecars answer themselves is an error of gRPC's, with the code that Envoy gives it.
func TestGRPCReplies(t *testing.T) {
	t.Parallel()
	dead := start(t, "", func(c *proxy.Config) {
		c.Outbound, c.Inbound = "", []proxy.Inbound{{Listen: "127.0.0.1:0", App: loopback.Dead(t)}}
	})
	config := service("app", "GRPC", dead.sidecar.InboundAddrs()[0].String()) + service("down", "GRPC", loopback.Dead(t)) +
		`apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: down}
spec:
  hosts: [down]
  http:
  - match: [{uri: {prefix: /test.App/Subset}}]
    route: [{destination: {host: down, subset: v9}}]
  - match: [{uri: {prefix: /test.App/Unary}}]
    route: [{destination: {host: down}}]
`
	r := startMesh(t, config, nil, mesh.WithOutboundTrafficPolicy(mesh.RegistryOnly))
	for _, c := range []struct {
		authority, method string
		code              codes.Code
		says, flag        string
	}{
		{"down", "/test.App/Nothing", codes.Unimplemented, "no route matches", "NR"},
		{"down", "/test.App/Subset", codes.Unavailable, "destination does not exist", "NC"},
		{"down", "/test.App/Unary", codes.Unavailable, "connect failure", "UF"},
		{"nobody.invalid", "/test.App/Unary", codes.Unavailable, "not in the registry", "UH"},
		{"a,b", "/test.App/Unary", codes.Internal, "malformed host", "DPE"},
		{"down", "/test.App/%00", codes.Internal, "invalid request", "DPE"},
		{"app", "/test.App/Unary", codes.Unavailable, "connect failure", ""}, // of the program's sidecar
	} {
		cc := channel(t, r, c.authority)
		err := cc.Invoke(t.Context(), c.method, text(""), new(wrapperspb.StringValue))
		if s := status.Convert(err); s.Code() != c.code || !strings.Contains(s.Message(), c.says) {
			t.Errorf("%s%s: %v", c.authority, c.method, err)
		}
		if l := r.last(); c.flag != "" && l.Flag != c.flag {
			t.Errorf("%s%s: reported %+v", c.authority, c.method, l)
		}
		s, err := cc.NewStream(t.Context(), streamDesc, c.method)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(new(wrapperspb.StringValue)); status.Code(err) != c.code {
			t.Errorf("%s%s, a stream: %v", c.authority, c.method, err)
		}
	}
	if l := dead.last(); l.Flag != "UF" || l.Direction != "inbound" {
		t.Errorf("the program's sidecar reported %+v", l)
	}
}
