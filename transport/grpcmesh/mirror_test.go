package grpcmesh_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh/transport"
)

// mirrored is the service with a mirror of all its calls.
func mirrored(service, mirror string) string {
	return service + "---\n" + strings.NewReplacer("name: echo", "name: shadow", "echo.default", "shadow.default").Replace(mirror) + `
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec: {hosts: [echo], http: [{route: [{destination: {host: echo}}], mirror: {host: shadow}}]}
`
}

// TestMirrorOfAnRPC: the copy has message and metadata of the call, even where the program uses both again at once, and
// nothing that its mirror does reaches the caller.
func TestMirrorOfAnRPC(t *testing.T) {
	t.Parallel()
	primary, shadow := newEcho("primary"), newEcho("shadow")
	type seen struct {
		text string
		md   metadata.MD
	}
	copies := make(chan seen, 10)
	primary.answer = func(_ context.Context, text string) (string, error) { return text, nil }
	shadow.answer = func(ctx context.Context, text string) (string, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		_ = grpc.SetHeader(ctx, metadata.Pairs("from", "shadow"))
		copies <- seen{text, md}
		return "shadow", nil
	}
	startAt(t, "127.0.0.1:0", primary)
	startAt(t, "127.0.0.1:0", shadow)
	m := newMesh(t, mirrored(service(primary.addr), service(shadow.addr)))
	cc := dial(t, m, "echo:9080")
	in, out := wrapperspb.String(""), new(wrapperspb.StringValue)
	texts := map[string]bool{}
	for _, text := range []string{"a", "bb", "ccc"} {
		in.Value = text
		md := metadata.Pairs("user", text, "some-bin", "\x00\xff")
		var header, trailer metadata.MD
		finished := 0
		err := cc.Invoke(metadata.NewOutgoingContext(t.Context(), md), who, in, out, grpc.Header(&header), grpc.Trailer(&trailer),
			grpc.OnFinish(func(error) { finished++ }), grpc.UseCompressor(gzip.Name))
		in.Value, md["user"][0] = "changed", "changed"
		if err != nil || out.Value != text || len(header["from"]) > 0 || finished != 1 {
			t.Fatalf("%q, %v, header %v, finished %d times", out.Value, err, header, finished)
		}
	}
	for range 3 {
		s := <-copies
		texts[s.text] = true
		if s.md["user"][0] != s.text || s.md["some-bin"][0] != "\x00\xff" || s.md[":authority"][0] != "echo:9080" {
			t.Errorf("the copy of %q has %q", s.text, s.md)
		}
	}
	if len(texts) != 3 || primary.calls.Load() != 3 {
		t.Errorf("copies %v, %d calls", texts, primary.calls.Load())
	}
	if sent, dropped := m.Engine().Mirrored(); sent != 3 || dropped != 0 {
		t.Errorf("sent %d, dropped %d", sent, dropped)
	}
}

// TestWhatIsNotMirrored: streams and long messages are counted, and not copied.
func TestWhatIsNotMirrored(t *testing.T) {
	t.Parallel()
	primary, shadow := start(t, "primary"), start(t, "shadow")
	m := newMesh(t, mirrored(service(primary.addr), service(shadow.addr)))
	cc := dial(t, m, "echo:9080")
	if err := cc.Invoke(t.Context(), who, wrapperspb.String(strings.Repeat("x", transport.MirrorLimit)), new(wrapperspb.StringValue)); err != nil {
		t.Fatal(err)
	}
	s, err := cc.NewStream(t.Context(), bothDesc, both)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.CloseSend()
	_ = s.RecvMsg(new(wrapperspb.StringValue))
	if sent, dropped := m.Engine().Mirrored(); sent != 0 || dropped != 2 {
		t.Errorf("sent %d, dropped %d", sent, dropped)
	}
	if n := shadow.calls.Load(); n != 0 {
		t.Errorf("the mirror has %d calls", n)
	}
	if err := cc.Invoke(t.Context(), who, "no message", new(wrapperspb.StringValue)); err == nil {
		t.Error("what is no message was sent")
	}
	if sent, dropped := m.Engine().Mirrored(); sent != 0 || dropped != 2 {
		t.Errorf("what cannot be encoded: sent %d, dropped %d", sent, dropped)
	}
}
