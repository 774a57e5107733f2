package grpcmesh_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/internal/loopback"
)

func send(t *testing.T, s grpc.ClientStream, text string) {
	t.Helper()
	if err := s.SendMsg(wrapperspb.String(text)); err != nil {
		t.Fatal(err)
	}
}

// receive reads a stream to its end.
func receive(s grpc.ClientStream) (got []string, err error) {
	for {
		m := new(wrapperspb.StringValue)
		if err = s.RecvMsg(m); err != nil {
			return got, err
		}
		got = append(got, m.Value)
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	v1, v2 := start(t, "v1"), start(t, "v2")
	m := newMesh(t, service(v1.addr+" v1", v2.addr+" v2")+rules("  - match: [{uri: {exact: /test.Echo/Both}}]\n    route: [{destination: {host: echo, subset: v2}}]\n"+toV1))
	cc := dial(t, m, "echo:9080")
	busy := func(want int64) {
		t.Helper()
		if now, _, _ := active(m); now != want {
			t.Errorf("%d attempts under way, want %d", now, want)
		}
	}

	ctx, info := capture(t.Context())
	s, err := cc.NewStream(ctx, downDesc, down)
	if err != nil {
		t.Fatal(err)
	}
	busy(1)
	send(t, s, "xxx")
	if got, err := receive(s); !errors.Is(err, io.EOF) || len(got) != 3 || got[0] != "v1" {
		t.Errorf("server streaming: %q, %v", got, err)
	}
	busy(0)
	if info.Endpoint != v1.addr || info.Attempts != 1 || info.Reason != call.ReasonNone || info.Duration <= 0 {
		t.Errorf("info %+v", info)
	}

	ctx, info = capture(t.Context())
	if s, err = cc.NewStream(ctx, upDesc, up); err != nil {
		t.Fatal(err)
	}
	send(t, s, "1")
	send(t, s, "2")
	busy(1)
	s.CloseSend()
	out := new(wrapperspb.StringValue)
	if err := s.RecvMsg(out); err != nil || out.Value != "v1 2" {
		t.Errorf("client streaming: %q, %v", out.Value, err)
	}
	busy(0)
	if info.Attempts != 1 {
		t.Errorf("info %+v", info)
	}

	if s, err = cc.NewStream(t.Context(), bothDesc, both); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		send(t, s, "x")
		if err := s.RecvMsg(out); err != nil || out.Value != "v2" {
			t.Errorf("bidirectional: %q, %v", out.Value, err)
		}
	}
	busy(1)
	s.CloseSend()
	if err := s.RecvMsg(out); !errors.Is(err, io.EOF) {
		t.Errorf("bidirectional: %v", err)
	}
	busy(0)
	if _, total, failed := active(m); total != 3 || failed != 0 {
		t.Errorf("total %d, failed %d", total, failed)
	}
}

// TestCanceledStreamIsNeutral: also where nobody reads it to its end.
func TestCanceledStreamIsNeutral(t *testing.T) {
	t.Parallel()
	e := start(t, "e")
	m := newMesh(t, service(e.addr))
	cc := dial(t, m, "echo:9080")
	for _, read := range []bool{true, false} {
		parent, info := capture(t.Context())
		ctx, cancel := context.WithCancel(parent)
		s, err := cc.NewStream(ctx, bothDesc, both)
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, "x")
		if err := s.RecvMsg(new(wrapperspb.StringValue)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if read {
			_, err := receive(s)
			if status.Code(err) != codes.Canceled || !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if info.Reason != call.ReasonCanceled {
				t.Errorf("info %+v", info)
			}
		}
		until(t, "the stream is over", func() bool { now, _, _ := active(m); return now == 0 })
	}
	if _, total, failed := active(m); total != 2 || failed != 0 {
		t.Errorf("total %d, failed %d", total, failed)
	}
}

func TestBrokenStream(t *testing.T) {
	t.Parallel()
	e := start(t, "e")
	m := newMesh(t, service(e.addr))
	s, err := dial(t, m, "echo:9080").NewStream(t.Context(), bothDesc, both)
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, "x")
	if err := s.RecvMsg(new(wrapperspb.StringValue)); err != nil {
		t.Fatal(err)
	}
	e.srv.Stop()
	_, err = receive(s)
	var ce *call.Error
	if !errors.As(err, &ce) || ce.Reason != call.ReasonReset || ce.Endpoint != e.addr || status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if now, total, failed := active(m); now != 0 || total != 1 || failed != 1 {
		t.Errorf("active %d, total %d, failed %d", now, total, failed)
	}
}

// TestStreamOpensElsewhere: opening a stream is tried on another endpoint, a stream that is open is not.
func TestStreamOpensElsewhere(t *testing.T) {
	t.Parallel()
	alive := start(t, "alive")
	m := newMesh(t, service(loopback.Dead(t), alive.addr, loopback.Dead(t)))
	cc := dial(t, m, "echo:9080")
	for range 20 {
		ended := 0
		s, err := cc.NewStream(t.Context(), downDesc, down, grpc.OnFinish(func(error) { ended++ }))
		if err != nil {
			t.Fatal(err)
		}
		if ended != 0 {
			t.Fatal("OnFinish ran for a try")
		}
		send(t, s, "x")
		if got, err := receive(s); !errors.Is(err, io.EOF) || len(got) != 1 || got[0] != "alive" {
			t.Fatalf("%q, %v", got, err)
		}
		if ended != 1 {
			t.Fatalf("OnFinish ran %d times", ended)
		}
	}
	if now, _, _ := active(m); now != 0 {
		t.Errorf("%d attempts under way", now)
	}
}
