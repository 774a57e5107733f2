package interop

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/proxy"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// cases are grpc-go's interop cases, by the names of its client. Left out are those that need Google's credentials, those that
// put a balancer of their own on the channel (orca_*), and pick_first_unary, which asks for a server that tells its name: grpc-go's
// does not. Its channel_soak, a channel for each RPC, is in TestInterop. They end the process where they fail.
var cases = []struct {
	name string
	run  func(context.Context, *grpc.ClientConn)
}{
	{"empty_unary", of(interop.DoEmptyUnaryCall)},
	{"large_unary", of(interop.DoLargeUnaryCall)},
	{"client_streaming", of(interop.DoClientStreaming)},
	{"server_streaming", of(interop.DoServerStreaming)},
	{"ping_pong", of(interop.DoPingPong)},
	{"empty_stream", of(interop.DoEmptyStream)},
	{"timeout_on_sleeping_server", of(interop.DoTimeoutOnSleepingServer)},
	{"cancel_after_begin", of(interop.DoCancelAfterBegin)},
	{"cancel_after_first_response", of(interop.DoCancelAfterFirstResponse)},
	{"status_code_and_message", of(interop.DoStatusCodeAndMessage)},
	{"special_status_message", of(interop.DoSpecialStatusMessage)},
	{"custom_metadata", of(interop.DoCustomMetadata)},
	{"unimplemented_method", interop.DoUnimplementedMethod},
	{"unimplemented_service", func(ctx context.Context, cc *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(cc))
	}},
	{"rpc_soak", func(ctx context.Context, cc *grpc.ClientConn) {
		interop.DoSoakTest(ctx, interop.SoakTestConfig{RequestSize: 271828, ResponseSize: 314159, PerIterationMaxAcceptableLatency: time.Minute,
			OverallTimeout: time.Minute, NumWorkers: 4, Iterations: 12, ServerAddr: "interop",
			ChannelForTest: func() (*grpc.ClientConn, func()) { return cc, func() {} }})
	}},
}

func of(f func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, cc *grpc.ClientConn) { f(ctx, testgrpc.NewTestServiceClient(cc)) }
}

// TestInterop: all cases, over every way that an RPC can take.
func TestInterop(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]func(*testing.T) *grpc.ClientConn{
		"no mesh":                        bare,
		"library":                        func(t *testing.T) *grpc.ClientConn { return library(t, nil) },
		"library with mutual TLS":        func(t *testing.T) *grpc.ClientConn { return library(t, newAuthority(t)) },
		"sidecar":                        func(t *testing.T) *grpc.ClientConn { return sidecar(t) },
		"two sidecars":                   func(t *testing.T) *grpc.ClientConn { return sidecars(t, nil) },
		"two sidecars with mutual TLS":   func(t *testing.T) *grpc.ClientConn { return sidecars(t, newAuthority(t)) },
		"library to sidecar, mutual TLS": libraryToSidecar,
		"sidecar to library, mutual TLS": sidecarToLibrary,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cc := way(t)
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					c.run(ctx, cc)
				})
			}
			t.Run("channel_soak", func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				interop.DoSoakTest(ctx, interop.SoakTestConfig{RequestSize: 271828, ResponseSize: 314159, PerIterationMaxAcceptableLatency: time.Minute,
					OverallTimeout: time.Minute, NumWorkers: 1, Iterations: 3, ServerAddr: "interop",
					ChannelForTest: func() (*grpc.ClientConn, func()) { next := way(t); return next, func() { _ = next.Close() } }})
			})
		})
	}
}

// serve starts grpc-go's test server, with the options, and gives its address.
func serve(t *testing.T, opts ...grpc.ServerOption) string {
	t.Helper()
	srv := grpc.NewServer(append(opts, orca.CallMetricsServerOption(nil))...)
	testgrpc.RegisterTestServiceServer(srv, interop.NewTestServer())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

func bare(t *testing.T) *grpc.ClientConn { return dial(t, "passthrough:///"+serve(t), plain()) }

func plain() grpc.DialOption { return grpc.WithTransportCredentials(insecure.NewCredentials()) }

func dial(t *testing.T, target string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(target, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// library has the mesh in the client and in the server.
func library(t *testing.T, authority *ca.Authority) *grpc.ClientConn {
	t.Helper()
	addr := serve(t, grpcmesh.ServerOptions(server(t, authority))...)
	return dial(t, grpcmesh.Target("interop:80"), grpcmesh.DialOptions(client(t, addr, authority))...)
}

// sidecar has a client that knows of nothing but the sidecar's address.
func sidecar(t *testing.T) *grpc.ClientConn {
	t.Helper()
	return through(t, client(t, serve(t), nil))
}

func sidecars(t *testing.T, authority *ca.Authority) *grpc.ClientConn {
	t.Helper()
	return through(t, client(t, behind(t, server(t, authority), serve(t)), authority))
}

func libraryToSidecar(t *testing.T) *grpc.ClientConn {
	t.Helper()
	a := newAuthority(t)
	return dial(t, grpcmesh.Target("interop:80"), grpcmesh.DialOptions(client(t, behind(t, server(t, a), serve(t)), a))...)
}

func sidecarToLibrary(t *testing.T) *grpc.ClientConn {
	t.Helper()
	a := newAuthority(t)
	return through(t, client(t, serve(t, grpcmesh.ServerOptions(server(t, a))...), a))
}

// through gives a bare channel to the outbound listener of a sidecar.
func through(t *testing.T, m *mesh.Mesh) *grpc.ClientConn {
	t.Helper()
	s := start(t, proxy.Config{Mesh: m, Outbound: "127.0.0.1:0"})
	return dial(t, "passthrough:///"+s.OutboundAddr().String(), plain(), grpc.WithAuthority("interop"))
}

// behind puts an application behind a sidecar, and gives the address of its inbound listener.
func behind(t *testing.T, m *mesh.Mesh, app string) string {
	t.Helper()
	return start(t, proxy.Config{Mesh: m, Inbound: []proxy.Inbound{{Listen: "127.0.0.1:0", App: app}}}).InboundAddrs()[0].String()
}

func start(t *testing.T, c proxy.Config) *proxy.Sidecar {
	t.Helper()
	s, err := proxy.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nothing is under way
		_ = s.Shutdown(ctx)
	})
	return s
}

func newAuthority(t *testing.T) *ca.Authority {
	t.Helper()
	a, err := ca.New("cluster.local", ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// server gives the mesh of who serves: STRICT with an authority.
func server(t *testing.T, a *ca.Authority) *mesh.Mesh {
	t.Helper()
	if a == nil {
		return newMesh(t, "")
	}
	return newMesh(t, "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: STRICT}}\n", as(t, a, "server"))
}

// client gives the mesh of who calls, which knows the server as interop:80.
func client(t *testing.T, addr string, a *ca.Authority) *mesh.Mesh {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	account, opts := "", []mesh.Option(nil)
	if a != nil {
		account, opts = ", serviceAccount: server", []mesh.Option{as(t, a, "client")}
	}
	return newMesh(t, fmt.Sprintf(entry, "GRPC", port, host, account), opts...)
}

// entry is the service interop:80 by protocol, the endpoint's port, address and what else is said of it.
const entry = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: interop}
spec:
  hosts: [interop.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: port, protocol: %s, targetPort: %s}]
  endpoints: [{address: %s%s}]
`

func as(t *testing.T, a *ca.Authority, account string) mesh.Option {
	t.Helper()
	id, err := identity.Workload("cluster.local", "default", account)
	if err != nil {
		t.Fatal(err)
	}
	return mesh.WithIdentity(a.Source(id))
}

func newMesh(t *testing.T, config string, opts ...mesh.Option) *mesh.Mesh {
	t.Helper()
	m, err := mesh.New(t.Context(), append(opts, mesh.WithConfig([]byte(config)), mesh.WithLogger(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}
