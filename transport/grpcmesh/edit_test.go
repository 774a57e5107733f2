package grpcmesh_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/loopback"
)

// edited is a rule for all RPCs of echo that does what more says.
func edited(subset, more string) string {
	return "  - {route: [{destination: {host: echo, subset: " + subset + "}}], " + more + "}\n"
}

// saw gives what an echo was sent last.
func saw(e *echo) chan metadata.MD {
	seen := make(chan metadata.MD, 1)
	e.answer = func(ctx context.Context, _ string) (string, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		seen <- md
		return e.name, nil
	}
	return seen
}

// parked gives the error of a call that found its endpoint dead, and then the configuration changed to after.
func parked(t *testing.T, before, after string, kv ...string) (string, error) {
	t.Helper()
	m := newMesh(t, before)
	cc := dial(t, m, "echo:9080")
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), kv...), patience)
	defer cancel()
	type result struct {
		got string
		err error
	}
	done := make(chan result, 1)
	go func() {
		got, err := ask(ctx, cc, who, grpc.WaitForReady(true))
		done <- result{got, err}
	}()
	until(t, "the call found nobody", func() bool { _, _, failed := active(m); return failed > 0 })
	apply(t, m, after)
	r := <-done
	until(t, "all over", func() bool { now, _, _ := active(m); return now == 0 })
	return r.got, r.err
}

// TestParkedCallIsEditedAnew: a call that is decided anew goes as the rule wants it that is live now.
func TestParkedCallIsEditedAnew(t *testing.T) {
	t.Parallel()
	v2 := newEcho("v2")
	seen := saw(v2)
	startAt(t, "127.0.0.1:0", v2)
	eps := service(loopback.Dead(t)+" v1", v2.addr+" v2")
	old := eps + rules(edited("v1", "match: [{uri: {regex: /.*}}], rewrite: {uri: /test.Echo/None, authority: old.example}, headers: {request: {set: {x-rule: old, x-old: '1'}}}"))
	for name, c := range map[string]struct{ before, after, rule, host string }{
		"to other changes": {old, eps + rules(edited("v2", "headers: {request: {set: {x-rule: new}}}")), "new", "echo:9080"},
		"to none":          {old, eps + rules(toV2), "own", "echo:9080"},
		"from none": {eps + rules(toV1), eps + rules(edited("v2", "match: [{uri: {regex: /.*}}], rewrite: {uri: /test.Echo/Other, authority: new.example}, headers: {request: {add: {x-rule: new}}}")),
			"own,new", "new.example"},
		"by what the program has sent": {old, eps + rules("  - {match: [{headers: {x-rule: {exact: own}}}], route: [{destination: {host: echo, subset: v2}}]}\n"+toV1), "own", "echo:9080"},
	} {
		got, err := parked(t, c.before, c.after, "x-rule", "own")
		if err != nil || got != "v2" {
			t.Errorf("%s: %q, %v", name, got, err)
			continue
		}
		md := <-seen
		if rule, host := strings.Join(md["x-rule"], ","), strings.Join(md[":authority"], ","); rule != c.rule || host != c.host || len(md["x-old"]) != 0 {
			t.Errorf("%s: %v", name, md)
		}
	}
}

// TestParkedCallIsAnswered: the rule that is live now may answer it itself.
func TestParkedCallIsAnswered(t *testing.T) {
	t.Parallel()
	eps := service(loopback.Dead(t) + " v1")
	_, err := parked(t, eps+rules(toV1), eps+rules("  - {directResponse: {status: 403, body: {string: no}}}\n"))
	if s, _ := status.FromError(err); s.Code() != codes.PermissionDenied || s.Message() != "no" || mesh.ReasonOf(err) != mesh.ReasonNone {
		t.Errorf("got %v", err)
	}
}

// TestRouteTimeout: the rule's time-out ends RPCs of every kind, the program's context or not, and is the endpoint's
// fault; what the caller's own deadline ends is not.
func TestRouteTimeout(t *testing.T) {
	t.Parallel()
	e := newEcho("e")
	e.answer = func(ctx context.Context, text string) (string, error) {
		<-ctx.Done()
		return "", status.FromContextError(ctx.Err()).Err() // which may arrive before our own timer ends
	}
	startAt(t, "127.0.0.1:0", e)
	m := newMesh(t, service(e.addr+" v1")+rules(edited("v1", "timeout: 50ms")))
	cc := dial(t, m, "echo:9080")
	late := func(what string, err error) {
		t.Helper()
		if status.Code(err) != codes.DeadlineExceeded || !errors.Is(err, mesh.ReasonTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for range 10 {
		_, err := ask(t.Context(), cc, who)
		late("unary", err)
	}
	if now, total, failed := active(m); now != 0 || total != 10 || failed != 10 {
		t.Errorf("active %d, total %d, failed %d", now, total, failed)
	}
	s, err := cc.NewStream(t.Context(), bothDesc, both)
	if err != nil {
		t.Fatal(err)
	}
	late("stream", s.RecvMsg(new(wrapperspb.StringValue)))

	// Of a stream that its program forgets nothing stays.
	if _, err = cc.NewStream(t.Context(), bothDesc, both); err != nil {
		t.Fatal(err)
	}
	until(t, "the stream is over", func() bool { now, _, _ := active(m); return now == 0 })

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, _, before := active(m)
	if _, err = ask(ctx, cc, who); !errors.Is(err, mesh.ReasonCanceled) || status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the caller's own deadline: %v", err)
	}
	if _, _, failed := active(m); failed != before {
		t.Error("the endpoint is blamed for the caller's deadline")
	}
}

// TestAnswersAreEdited: whatever the RPC comes to, and all of an answer that is nothing but a status.
func TestAnswersAreEdited(t *testing.T) {
	t.Parallel()
	e := newEcho("e")
	e.answer = func(ctx context.Context, text string) (string, error) {
		md := metadata.Pairs("x-inside", "secret", "x-bytes-bin", "\x00\xff")
		switch text {
		case "trailers only":
			_ = grpc.SetTrailer(ctx, md)
			return "", status.Error(codes.NotFound, text)
		case "fails late":
			_ = grpc.SendHeader(ctx, md)
			return "", status.Error(codes.NotFound, text)
		}
		_ = grpc.SetHeader(ctx, md)
		return "e", nil
	}
	startAt(t, "127.0.0.1:0", e)
	m := newMesh(t, service(e.addr+" v1")+rules(edited("v1", "headers: {response: {remove: [X-Inside], set: {x-who: '%REQ(x-who)%', x-copy-bin: '%RESP(x-bytes-bin)%'}}, request: {set: {x-who: rule}}}")))
	cc := dial(t, m, "echo:9080")
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-who", "me")
	for _, text := range []string{"ok", "fails late", "trailers only"} {
		var header, trailer metadata.MD
		err := cc.Invoke(ctx, who, wrapperspb.String(text), new(wrapperspb.StringValue), grpc.Header(&header), grpc.Trailer(&trailer))
		if (err == nil) != (text == "ok") {
			t.Errorf("%s: %v", text, err)
		}
		got := header
		if text == "trailers only" {
			got = trailer
		}
		if len(got["x-inside"]) != 0 || strings.Join(got["x-who"], ",") != "me" || strings.Join(got["x-copy-bin"], ",") != "\x00\xff" {
			t.Errorf("%s: header %v, trailer %v", text, header, trailer)
		}
		if text != "trailers only" && len(trailer["x-who"]) != 0 {
			t.Errorf("%s: trailer %v", text, trailer)
		}
	}
	// What no answer has come to is the program's own.
	stale := metadata.Pairs("x-who", "stale")
	dead := dial(t, newMesh(t, service(loopback.Dead(t)+" v1")+rules(edited("v1", "headers: {response: {add: {x-who: rule}}}"))), "echo:9080")
	if _, err := ask(t.Context(), dead, who, grpc.Header(&stale)); err == nil || len(stale["x-who"]) != 1 {
		t.Errorf("%v, %v", stale, err)
	}
}

// TestHeaderOfAnAnswer: what a rule answers has a header, which a unary RPC finds where it finds that of a server's status
// without an answer, and what it has asked for stays its own where there is none.
func TestHeaderOfAnAnswer(t *testing.T) {
	t.Parallel()
	e := start(t, "e")
	for rule, want := range map[string]metadata.MD{
		"redirect: {uri: /b, authority: other.example.com}, headers: {response: {set: {x-why: moved, x-some-bin: AP8}}}":       metadata.Pairs("location", "http://other.example.com/b", "x-why", "moved", "x-some-bin", "\x00\xff"),
		"directResponse: {status: 503, body: {string: closed}}, headers: {response: {add: {x-why: closed}}}":                   metadata.Pairs("x-why", "closed"),
		"fault: {abort: {grpcStatus: ABORTED, percentage: {value: 100}}}, route: [{destination: {host: echo}}]":                {},
		"route: [{destination: {host: echo}}], fault: {abort: {grpcStatus: NOT_FOUND, percentage: {value: 0}}}, timeout: 100s": nil,
	} {
		cc := dial(t, newMesh(t, service(e.addr+" v1")+rules("  - {"+rule+"}\n")), "echo:9080")
		var header, trailer metadata.MD
		err := cc.Invoke(t.Context(), who, wrapperspb.String(""), new(wrapperspb.StringValue), grpc.Header(&header), grpc.Trailer(&trailer))
		if want == nil && err != nil || want != nil && (err == nil || len(header) != 0 || len(trailer) != len(want)) {
			t.Errorf("%s: %v, header %v, trailer %v", rule, err, header, trailer)
		}
		for name, values := range want {
			if !slices.Equal(trailer[name], values) {
				t.Errorf("%s: %s is %q, want %q", rule, name, trailer[name], values)
			}
		}
	}
	if e.calls.Load() != 1 {
		t.Errorf("the service has %d calls", e.calls.Load())
	}
}

// TestOKByARule: an abort with OK is an answer without a message, as it would be from a server.
func TestOKByARule(t *testing.T) {
	t.Parallel()
	e := start(t, "e")
	m := newMesh(t, service(e.addr+" v1")+rules(edited("v1", "fault: {abort: {grpcStatus: OK, percentage: {value: 100}}}")))
	cc := dial(t, m, "echo:9080")
	if _, err := ask(t.Context(), cc, who); status.Code(err) != codes.Internal {
		t.Errorf("unary: %v", err)
	}
	s, err := cc.NewStream(t.Context(), downDesc, down)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SendMsg(wrapperspb.String("x")); !errors.Is(err, io.EOF) {
		t.Errorf("send: %v", err)
	}
	if err := s.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) {
		t.Errorf("receive: %v", err)
	}
	if _, err := s.Header(); err != nil || s.CloseSend() != nil || s.Context() == nil || len(s.Trailer()) != 0 {
		t.Errorf("header: %v", err)
	}
	if e.calls.Load() != 0 {
		t.Error("the service was asked")
	}
}
