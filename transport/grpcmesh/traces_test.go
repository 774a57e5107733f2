package grpcmesh_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/spans"
	"github.com/heddlemesh/mesh/telemetry/export"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// TestTraces: an RPC, unary or streaming, is one trace: call, attempt and server, each under the last, and what the method calls is
// under its own. A failed attempt is a span of its own.
func TestTraces(t *testing.T) {
	t.Parallel()
	ended, p := spans.Keep(t)
	with := []mesh.Option{mesh.WithTracerProvider(p), mesh.WithTraceSampling(100)}
	front := newMesh(t, "", with...)
	active := make(chan trace.SpanContext, 10)
	parents := make(chan []string, 10)
	back := newEcho("back", grpcmesh.ServerOptions(front)...)
	fails := true
	back.answer = func(ctx context.Context, in string) (string, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		parents <- md["traceparent"]
		active <- trace.SpanContextFromContext(ctx)
		if in == "again" && fails {
			fails = false
			return "", status.Error(codes.Unavailable, "once")
		}
		return in, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- back.srv.Serve(l) }()
	t.Cleanup(func() { back.srv.Stop(); <-served })
	m := newMesh(t, service(l.Addr().String())+rules("  - {route: [{destination: {host: echo}}], retries: {attempts: 1, retryOn: unavailable}}\n"), with...)
	cc := dial(t, m, "echo:9080")

	collect := func(n int) map[trace.SpanKind][]export.Span {
		all := map[trace.SpanKind][]export.Span{}
		for range n {
			s := <-ended
			all[s.Kind] = append(all[s.Kind], s)
		}
		return all
	}
	attribute := func(s export.Span, key string) string {
		for _, a := range s.Attributes {
			if string(a.Key) == key {
				return a.Value.String()
			}
		}
		return ""
	}

	if _, err := askText(t.Context(), cc, "hello"); err != nil {
		t.Fatal(err)
	}
	all := collect(3)
	root, attempt, server := all[trace.SpanKindInternal][0], all[trace.SpanKindClient][0], all[trace.SpanKindServer][0]
	if root.Parent.IsValid() || attempt.Parent.SpanID() != root.Context.SpanID() || server.Parent.SpanID() != attempt.Context.SpanID() {
		t.Errorf("%v, %v, %v", root, attempt, server)
	}
	for _, s := range []export.Span{root, attempt, server} {
		if s.Name != "test.Echo/Who" || attribute(s, "rpc.response.status_code") != "OK" {
			t.Errorf("%s: %v", s.Name, s.Attributes)
		}
	}
	if got := <-active; got.SpanID() != server.Context.SpanID() {
		t.Errorf("the method runs under %v", got)
	}
	if got := <-parents; len(got) != 1 || !strings.Contains(got[0], server.Context.SpanID().String()) {
		t.Errorf("the method is told %v", got)
	}

	if _, err := askText(t.Context(), cc, "again"); err != nil {
		t.Fatal(err)
	}
	all = collect(5)
	if tries := all[trace.SpanKindClient]; len(tries) != 2 || len(all[trace.SpanKindServer]) != 2 || tries[0].Context.SpanID() == tries[1].Context.SpanID() {
		t.Errorf("%v", all)
	}
	for _, s := range all[trace.SpanKindServer] {
		if s.Parent.SpanID() != all[trace.SpanKindClient][0].Context.SpanID() && s.Parent.SpanID() != all[trace.SpanKindClient][1].Context.SpanID() {
			t.Errorf("a server's span is under %s", s.Parent.SpanID())
		}
	}

	s, err := cc.NewStream(t.Context(), downDesc, down)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SendMsg(text("xx")); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		err = s.RecvMsg(text(""))
	}
	if all := collect(3); all[trace.SpanKindServer][0].Parent.SpanID() != all[trace.SpanKindClient][0].Context.SpanID() || all[trace.SpanKindInternal][0].Name != "test.Echo/Down" {
		t.Errorf("%v", all)
	}

	if _, err := ask(t.Context(), dial(t, m, "gone:1", grpcmesh.WithCredentials(nil)), who, grpc.WaitForReady(false)); err == nil {
		t.Error("it is answered")
	}
	if s := <-ended; attribute(s, "error.type") == "" {
		t.Errorf("a call that goes nowhere: %v", s.Attributes)
	}
}
