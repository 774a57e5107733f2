package grpcmesh_test

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

func TestDeadEndpointIsRetriedElsewhere(t *testing.T) {
	t.Parallel()
	alive, gone := start(t, "alive"), loopback.Dead(t)
	m := newMesh(t, service(gone, alive.addr))
	cc := dial(t, m, "echo:9080")
	retried := 0
	for range 100 {
		ctx, info := capture(t.Context())
		got, err := ask(ctx, cc, who)
		if err != nil || got != "alive" {
			t.Fatalf("%q, %v", got, err)
		}
		if info.Attempts == 2 && info.Tried[0] == gone && info.Endpoint == alive.addr {
			retried++
		}
	}
	if retried == 0 {
		t.Error("no call tried the dead endpoint and then the other one")
	}
	if now, total, failed := active(m); now != 0 || failed == 0 || total != 100+failed {
		t.Errorf("active %d, total %d, failed %d", now, total, failed)
	}
}

func TestAllDead(t *testing.T) {
	t.Parallel()
	m := newMesh(t, service(loopback.Dead(t), loopback.Dead(t)))
	cc := dial(t, m, "echo:9080")
	for range 3 {
		ctx, info := capture(t.Context())
		_, err := ask(ctx, cc, who)
		var e *call.Error
		if status.Code(err) != codes.Unavailable || !errors.As(err, &e) || e.Flag() != "UF" || e.Attempts != 3 {
			t.Fatalf("got %v", err)
		}
		if !errors.Is(err, call.ReasonConnect) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the error does not unwrap: %v", err)
		}
		if info.Reason != call.ReasonConnect || info.Attempts != 3 || len(info.Tried) != 3 || info.Tried[0] == info.Tried[1] {
			t.Errorf("info %+v", info)
		}
	}
	_, err := cc.NewStream(t.Context(), bothDesc, both)
	if !errors.Is(err, call.ReasonConnect) || status.Code(err) != codes.Unavailable {
		t.Errorf("stream: %v", err)
	}
	if now, total, failed := active(m); now != 0 || total != 12 || failed != 12 {
		t.Errorf("active %d, total %d, failed %d", now, total, failed)
	}
}

// TestEachAttemptDials: an endpoint that could not be connected to is asked again by whoever has no other
// choice, whatever the back-off.
func TestEachAttemptDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		defer w.ends()
		back := newEcho("back")
		back.addr = "10.0.0.1:1"
		apply(t, w.Mesh, service(back.addr)+careful("attempts: 0"))
		for range 30 {
			if _, err := ask(t.Context(), w.cc, who); !errors.Is(err, call.ReasonConnect) {
				t.Fatal(err)
			}
		}
		w.start(back)
		if got := must(t, w.cc, who); got != "back" {
			t.Errorf("got %q", got)
		}
	})
}

func TestUnavailableAnswerIsRetried(t *testing.T) {
	t.Parallel()
	refuse := func(context.Context, string) (string, error) { return "", status.Error(codes.Unavailable, "not me") }
	bad, good := newEcho("bad"), start(t, "good")
	bad.answer = refuse
	startAt(t, "127.0.0.1:0", bad)
	m := newMesh(t, service(bad.addr, good.addr))
	cc := dial(t, m, "echo:9080")
	for range 10 {
		if got := must(t, cc, who); got != "good" {
			t.Fatalf("got %q", got)
		}
	}
	if bad.calls.Load() == 0 {
		t.Error("nobody asked the one that refuses")
	}
	if _, total, failed := active(m); failed == 0 || total != 10+failed {
		t.Errorf("total %d, failed %d", total, failed)
	}

	worse := newEcho("worse")
	worse.answer = refuse
	startAt(t, "127.0.0.1:0", worse)
	cc = dial(t, newMesh(t, service(worse.addr)), "echo:9080")
	_, err := ask(t.Context(), cc, who)
	if s, _ := status.FromError(err); s.Message() != "not me" || call.ReasonOf(err) != call.ReasonNone {
		t.Errorf("retries exhausted on an answer: %v, want the answer itself", err)
	}
	if n := worse.calls.Load(); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
}

// TestOtherAnswersAreNot: an answer that the rule does not name reaches the caller as it is; so does one that
// came after the endpoint had begun to answer.
func TestOtherAnswersAreNot(t *testing.T) {
	t.Parallel()
	e := newEcho("e")
	e.answer = func(ctx context.Context, _ string) (string, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if len(md["begin"]) > 0 {
			grpc.SendHeader(ctx, nil)
			return "", status.Error(codes.Unavailable, "too late")
		}
		return "", status.Error(codes.Internal, "mine")
	}
	startAt(t, "127.0.0.1:0", e)
	m := newMesh(t, service(e.addr))
	cc := dial(t, m, "echo:9080")
	if _, err := ask(t.Context(), cc, who); status.Code(err) != codes.Internal || e.calls.Load() != 1 {
		t.Errorf("%v after %d calls", err, e.calls.Load())
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "begin", "1")
	if _, err := ask(ctx, cc, who); status.Code(err) != codes.Unavailable || e.calls.Load() != 2 {
		t.Errorf("%v after %d calls", err, e.calls.Load())
	}
}

// TestBrokenConnection: what the endpoint may have acted on is not repeated.
func TestBrokenConnection(t *testing.T) {
	t.Parallel()
	e := newEcho("e")
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	e.answer = func(context.Context, string) (string, error) {
		go e.srv.Stop()
		<-release
		return "", nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go e.srv.Serve(l)
	m := newMesh(t, service(l.Addr().String()))
	ctx, info := capture(t.Context())
	_, err = ask(ctx, dial(t, m, "echo:9080"), who)
	if !errors.Is(err, call.ReasonReset) || status.Code(err) != codes.Unavailable || info.Attempts != 1 {
		t.Errorf("%v, %+v", err, info)
	}
	if now, total, failed := active(m); now != 0 || total != 1 || failed != 1 {
		t.Errorf("active %d, total %d, failed %d", now, total, failed)
	}
}

func TestGivingUpIsNeutral(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{}, 16)
	e := newEcho("e")
	e.answer = func(ctx context.Context, _ string) (string, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return "", ctx.Err()
	}
	startAt(t, "127.0.0.1:0", e)
	m := newMesh(t, service(e.addr))
	cc := dial(t, m, "echo:9080")

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	_, err := ask(ctx, cc, who)
	if status.Code(err) != codes.Canceled || !errors.Is(err, context.Canceled) || !errors.Is(err, call.ReasonCanceled) {
		t.Errorf("canceled: %v", err)
	}

	for d, came := 50*time.Millisecond, false; !came; d *= 2 { // the call may have ended before it came there
		ctx, cancel := context.WithTimeout(t.Context(), d)
		_, err := ask(ctx, cc, who)
		cancel()
		if status.Code(err) != codes.DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, call.ReasonCanceled) {
			t.Fatalf("deadline: %v", err)
		}
		select {
		case <-entered:
			came = true
		default:
		}
	}
	if now, total, failed := active(m); now != 0 || total < 2 || failed != 0 {
		t.Errorf("active %d, total %d, failed %d", now, total, failed)
	}
}

// TestEarlyDeadlineAnswer: DEADLINE_EXCEEDED before the caller's deadline is the endpoint's own.
func TestEarlyDeadlineAnswer(t *testing.T) {
	t.Parallel()
	e := newEcho("e")
	e.answer = func(context.Context, string) (string, error) { return "", context.DeadlineExceeded }
	startAt(t, "127.0.0.1:0", e)
	m := newMesh(t, service(e.addr))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := ask(ctx, dial(t, m, "echo:9080"), who)
	if status.Code(err) != codes.DeadlineExceeded || call.ReasonOf(err) != call.ReasonNone {
		t.Errorf("got %v", err)
	}
	if _, _, failed := active(m); failed != 1 {
		t.Errorf("failed %d", failed)
	}
}

// TestLocalFailuresAreNeutral: what the program itself cannot send is not the endpoint's fault.
func TestLocalFailuresAreNeutral(t *testing.T) {
	t.Parallel()
	e := start(t, "e")
	m := newMesh(t, service(e.addr))
	cc := dial(t, m, "echo:9080")
	out := new(wrapperspb.StringValue)
	if err := cc.Invoke(t.Context(), who, "no message", out); status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
	err := cc.Invoke(t.Context(), who, wrapperspb.String("long"), out, grpc.MaxCallSendMsgSize(1))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
	if now, _, failed := active(m); now != 0 || failed != 0 {
		t.Errorf("active %d, failed %d", now, failed)
	}
}

func TestWaitForReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		defer w.ends()
		late := newEcho("late")
		late.addr = "10.0.0.1:1"
		apply(t, w.Mesh, service(late.addr))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := ask(ctx, w.cc, who, grpc.WaitForReady(true))
		if status.Code(err) != codes.DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody there: %v", err)
		}
		if now, total, failed := active(w.Mesh); now != 0 || total != 1 || failed != 1 {
			t.Errorf("active %d, total %d, failed %d: waiting is no attempt", now, total, failed)
		}

		answered := make(chan error, 1)
		go func() {
			_, err := ask(t.Context(), w.cc, who, grpc.WaitForReady(true))
			answered <- err
		}()
		time.Sleep(time.Minute)
		select {
		case err := <-answered:
			t.Errorf("nobody there: %v", err)
		default:
		}
		w.start(late)
		if err := <-answered; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if now, _, _ := active(w.Mesh); now != 0 {
			t.Errorf("%d attempts under way", now)
		}
	})
}

// TestHangingConnect: the call's own deadline counts while its connection is made.
func TestHangingConnect(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never speaks HTTP/2
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := newMesh(t, service(l.Addr().String()))
	cc := dial(t, m, "echo:9080")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // a busy machine has to begin to connect within
	defer cancel()
	if _, err := ask(ctx, cc, who); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	if now, total, failed := active(m); now != 0 || total != 1 || failed != 0 {
		t.Errorf("active %d, total %d, failed %d", now, total, failed)
	}
}

// TestFinishHooksRunOnce: what is one RPC to the program stays one.
func TestFinishHooksRunOnce(t *testing.T) {
	t.Parallel()
	m := newMesh(t, service(loopback.Dead(t), loopback.Dead(t)))
	cc := dial(t, m, "echo:9080")
	var ends []error
	hook := grpc.OnFinish(func(err error) { ends = append(ends, err) })
	_, err := ask(t.Context(), cc, who, hook)
	if len(ends) != 1 || !errors.Is(ends[0], call.ReasonConnect) || !errors.Is(err, call.ReasonConnect) {
		t.Errorf("unary: the hook ran with %v", ends)
	}
	ends = nil
	if _, err := cc.NewStream(t.Context(), bothDesc, both, hook); err == nil || len(ends) != 1 {
		t.Errorf("stream: the hook ran with %v", ends)
	}
}

func TestPerRPCCredentialsNeedSecurity(t *testing.T) {
	t.Parallel()
	m := newMesh(t, service(loopback.Dead(t)))
	_, err := grpc.NewClient(grpcmesh.Target("echo:9080"),
		append([]grpc.DialOption{grpc.WithPerRPCCredentials(secret{})}, grpcmesh.DialOptions(m)...)...)
	if err == nil {
		t.Error("a secret would go out in plaintext")
	}
}

type secret struct{}

func (secret) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "secret"}, nil
}
func (secret) RequireTransportSecurity() bool { return true }
