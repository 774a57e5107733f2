package grpcmesh_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// asServer makes the test binary serve instead of test, so that what a server allocates is not counted.
const asServer = "GRPCMESH_TEST_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) == "" {
		os.Exit(m.Run())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go newEcho("process").srv.Serve(l)
	io.Copy(io.Discard, os.Stdin) // until the test is over, whichever way
}

// serverProcess starts a server in another process and gives its address.
func serverProcess(t testing.TB) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asServer+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(addr)
}

// plain is a channel without a mesh.
func plain(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// typical is a configuration with rules to pass over, a weighted split, subsets and the default retries.
func typical(addr string) string {
	return service(addr+" v1") + rules(`
  - match: [{uri: {prefix: /none/}}, {uri: {prefix: /test.Nobody/}}]
    route: [{destination: {host: echo, subset: v2}}]
  - route:
    - {destination: {host: echo, subset: v1}, weight: 100}
    - {destination: {host: echo, subset: v2}, weight: 0}
`)
}

func carried() *transport.Carried {
	return transport.Collect(call.HTTPHeaders(http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		"Tracestate": {"a=b"}, "X-Request-Id": {"c0ffee"}}))
}

// message gives what sends one message on an open stream and receives one.
func message(t *testing.T, cc *grpc.ClientConn) func() {
	t.Helper()
	s, err := cc.NewStream(t.Context(), bothDesc, both)
	if err != nil {
		t.Fatal(err)
	}
	in, out := wrapperspb.String("x"), new(wrapperspb.StringValue)
	return func() {
		if err := s.SendMsg(in); err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(out); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAllocs holds the budget of DESIGN.md §6: what a unary RPC through the mesh, and a message of a stream, allocates in the
// client beyond one of plain grpc-go, with the server in another process, and what a line of the access log and a trace that is not
// sampled add. The counts are rounded down, so that a difference is by one too high at times.
func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	addr := serverProcess(t)
	meshed := dial(t, newMesh(t, typical(addr)), "echo:9080")
	measure := func(ctx context.Context, cc *grpc.ClientConn) float64 {
		in, out := wrapperspb.String("x"), new(wrapperspb.StringValue)
		one := func() {
			if err := cc.Invoke(ctx, who, in, out); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			one()
		}
		return testing.AllocsPerRun(2000, one)
	}
	base := measure(t.Context(), plain(t, addr))
	nothing := measure(t.Context(), meshed)
	carrying := measure(transport.WithCarried(t.Context(), carried()), meshed)
	logged := measure(t.Context(), dial(t, newMesh(t, typical(addr), mesh.WithAccessLogFile("/dev/stdout", false), mesh.WithAccessLogStream("/dev/stdout", io.Discard)), "echo:9080"))
	traced := measure(t.Context(), dial(t, newMesh(t, typical(addr), mesh.WithTracerProvider(tracenoop.NewTracerProvider()), mesh.WithTraceSampling(0)), "echo:9080"))
	const messages = 2000
	streamed := testing.AllocsPerRun(messages, message(t, meshed)) - testing.AllocsPerRun(messages, message(t, plain(t, addr)))
	if streamed >= 1 { // AllocsPerRun rounds down, and the transport's own vary by a part of one
		t.Errorf("a message adds %.1f allocations, the budget is none", streamed)
	}
	t.Logf("plain %.1f, through the mesh %+.1f, carrying three headers %+.1f; a message %+.1f; a line of the access log %+.1f; a trace that is not sampled %+.1f",
		base, nothing-base, carrying-base, streamed, logged-nothing, traced-nothing)
	sized := measure(t.Context(), dial(t, newMesh(t, typical(addr)), "echo:9080", grpcmesh.WithMessageSizes()))
	if t.Logf("with the sizes of messages %+.1f", sized-base); sized-base > 20 {
		t.Errorf("with the sizes of messages it adds %.1f allocations, the budget is 20", sized-base)
	}
	if nothing-base > 4 {
		t.Errorf("the mesh adds %.1f allocations, the budget is 4", nothing-base)
	}
	if logged-nothing > 1 {
		t.Errorf("a line of the access log adds %.1f allocations, the budget is 1", logged-nothing)
	}
	if traced-nothing > 8+1 {
		t.Errorf("a trace that is not sampled adds %.1f allocations, the budget is 8", traced-nothing)
	}
	if carrying-base > 8 {
		t.Errorf("with carried headers it adds %.1f allocations, the budget is 8", carrying-base)
	}
}

func BenchmarkUnary(b *testing.B) {
	addr := serverProcess(b)
	meshed := dial(b, newMesh(b, typical(addr)), "echo:9080")
	carrying := transport.WithCarried(b.Context(), carried())
	for _, row := range []struct {
		name string
		ctx  context.Context
		cc   *grpc.ClientConn
	}{{"plain", b.Context(), plain(b, addr)}, {"mesh", b.Context(), meshed}, {"mesh-carrying", carrying, meshed}} {
		b.Run(row.name, func(b *testing.B) {
			in, out := wrapperspb.String("x"), new(wrapperspb.StringValue)
			b.ReportAllocs()
			for b.Loop() {
				if err := row.cc.Invoke(row.ctx, who, in, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
