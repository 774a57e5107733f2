package grpcmesh_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// TestHeadersTravel: from an RPC to the RPC that is made for it, with what the middle one sets itself.
func TestHeadersTravel(t *testing.T) {
	t.Parallel()
	last := newEcho("last")
	seen := make(chan metadata.MD, 1)
	last.answer = func(ctx context.Context, _ string) (string, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		seen <- md
		return "last", nil
	}
	startAt(t, "127.0.0.1:0", last)
	m := newMesh(t, service(last.addr))
	cc := dial(t, m, "echo:9080")

	middle := newEcho("middle", grpcmesh.ServerOptions(m)...)
	middle.answer = func(ctx context.Context, own string) (string, error) {
		if own == "own" {
			ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", "mine")
		}
		return ask(ctx, cc, who)
	}
	startAt(t, "127.0.0.1:0", middle)
	first := dial(t, newMesh(t, service(middle.addr)), "echo:9080")

	received := []string{"x-request-id", "r1", "traceparent", "t1", "tracestate", "s1", "b3", "0", "grpc-trace-bin", "\x00\xff", "cookie", "c"}
	must(t, first, who, received...)
	md := <-seen
	for _, row := range [][2]string{{"x-request-id", "r1"}, {"traceparent", "t1"}, {"tracestate", "s1"}, {"b3", "0"}, {"grpc-trace-bin", "\x00\xff"}} {
		if v := md[row[0]]; len(v) != 1 || v[0] != row[1] {
			t.Errorf("%s: %q, want %q", row[0], v, row[1])
		}
	}
	if md["cookie"] != nil {
		t.Error("a cookie went along")
	}

	out := metadata.AppendToOutgoingContext(t.Context(), received...)
	if _, err := askText(out, first, "own"); err != nil {
		t.Fatal(err)
	}
	md = <-seen
	if v := md["traceparent"]; len(v) != 1 || v[0] != "mine" {
		t.Errorf("traceparent %q: what the RPC has itself wins", v)
	}
	if md["tracestate"] != nil || len(md["x-request-id"]) != 1 {
		t.Errorf("tracestate %q belongs to the other traceparent; x-request-id %q", md["tracestate"], md["x-request-id"])
	}
}

// TestRequestIDIsMade: an RPC that comes without one is given one, which its server sees and its calls carry.
func TestRequestIDIsMade(t *testing.T) {
	t.Parallel()
	last := newEcho("last")
	seen := make(chan metadata.MD, 2)
	last.answer = func(ctx context.Context, _ string) (string, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		seen <- md
		return "last", nil
	}
	startAt(t, "127.0.0.1:0", last)
	m := newMesh(t, service(last.addr))
	cc := dial(t, m, "echo:9080")
	middle := newEcho("middle", grpcmesh.ServerOptions(m)...)
	middle.answer = func(ctx context.Context, own string) (string, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		seen <- md
		return ask(ctx, cc, who)
	}
	startAt(t, "127.0.0.1:0", middle)
	first := dial(t, newMesh(t, service(middle.addr)), "echo:9080")
	made := make(map[string]bool)
	for range 3 {
		must(t, first, who, "cookie", "c")
		md, next := <-seen, <-seen
		id := md["x-request-id"]
		if len(id) != 1 || len(id[0]) != 36 || made[id[0]] || !slices.Equal(id, next["x-request-id"]) || len(md["cookie"]) != 1 {
			t.Fatalf("%q, then %q", map[string][]string(md), next["x-request-id"])
		}
		made[id[0]] = true
	}
}

func TestStreamsCarryToo(t *testing.T) {
	t.Parallel()
	seen := make(chan metadata.MD, 1)
	last := start(t, "last", grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		seen <- md
		return h(srv, s)
	}))
	m := newMesh(t, service(last.addr))
	cc := dial(t, m, "echo:9080")
	middle := start(t, "middle", append(grpcmesh.ServerOptions(m),
		grpc.ChainStreamInterceptor(func(_ any, s grpc.ServerStream, _ *grpc.StreamServerInfo, _ grpc.StreamHandler) error {
			return askStream(s.Context(), cc)
		}))...)
	first := dial(t, newMesh(t, service(middle.addr)), "echo:9080")
	s, err := first.NewStream(metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "r1"), bothDesc, both)
	if err != nil {
		t.Fatal(err)
	}
	receive(s)
	if md := <-seen; len(md["x-request-id"]) != 1 {
		t.Errorf("got %v", md["x-request-id"])
	}
}

// TestUnsendableHeadersStayBehind: what came over HTTP and cannot be metadata does not fail the RPC.
func TestUnsendableHeadersStayBehind(t *testing.T) {
	t.Parallel()
	seen := make(chan metadata.MD, 1)
	e := newEcho("e")
	e.answer = func(ctx context.Context, _ string) (string, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		seen <- md
		return "e", nil
	}
	startAt(t, "127.0.0.1:0", e)
	cc := dial(t, newMesh(t, service(e.addr)), "echo:9080")
	ctx := transport.WithCarried(t.Context(), transport.Collect(call.HTTPHeaders(http.Header{
		"B3": {"\xe9"}, "Grpc-Trace-Bin": {"no base64!"}, "X-Request-Id": {strings.Repeat("r", 10)},
	})))
	if _, err := ask(ctx, cc, who); err != nil {
		t.Fatal(err)
	}
	if md := <-seen; md["b3"] != nil || md["grpc-trace-bin"] != nil || len(md["x-request-id"]) != 1 {
		t.Errorf("got %q", map[string][]string(md))
	}
}
