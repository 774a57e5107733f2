package meshtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	text "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// The service test.Echo speaks text in both directions: health checks' requests, which have a string.
const (
	ask  = "/test.Echo/Ask"
	chat = "/test.Echo/Chat" // bidirectional
)

var (
	chatDesc = &grpc.StreamDesc{StreamName: "Chat", ServerStreams: true, ClientStreams: true}
	grpcYAML = strings.ReplaceAll(reviewsYAML, "name: http, protocol: HTTP", "name: grpc, protocol: GRPC")
)

// echo registers test.Echo: it answers with its name, a space and what it got, or with the error of fails.
func echo(name string, fails func(context.Context) error) func(grpc.ServiceRegistrar) {
	answer := func(ctx context.Context, in *text.HealthCheckRequest) (*text.HealthCheckRequest, error) {
		if fails != nil {
			if err := fails(ctx); err != nil {
				return nil, err
			}
		}
		return &text.HealthCheckRequest{Service: name + " " + in.GetService()}, nil
	}
	return func(s grpc.ServiceRegistrar) {
		s.RegisterService(&grpc.ServiceDesc{
			ServiceName: "test.Echo", HandlerType: (*any)(nil),
			Methods: []grpc.MethodDesc{{MethodName: "Ask",
				Handler: func(_ any, ctx context.Context, decode func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
					in := new(text.HealthCheckRequest)
					if err := decode(in); err != nil {
						return nil, err
					}
					handle := func(ctx context.Context, in any) (any, error) { return answer(ctx, in.(*text.HealthCheckRequest)) }
					if i != nil {
						return i(ctx, in, &grpc.UnaryServerInfo{FullMethod: ask}, handle)
					}
					return handle(ctx, in)
				}}},
			Streams: []grpc.StreamDesc{{StreamName: "Chat", ServerStreams: true, ClientStreams: true,
				Handler: func(_ any, s grpc.ServerStream) error {
					for {
						in := new(text.HealthCheckRequest)
						if err := s.RecvMsg(in); errors.Is(err, io.EOF) {
							return nil
						} else if err != nil {
							return err
						}
						out, err := answer(s.Context(), in)
						if err == nil {
							err = s.SendMsg(out)
						}
						if err != nil {
							return err
						}
					}
				}}},
		}, nil)
	}
}

// say calls test.Echo/Ask.
func say(ctx context.Context, cc *grpc.ClientConn, what string, kv ...string) (string, error) {
	out := new(text.HealthCheckRequest)
	err := cc.Invoke(metadata.AppendToOutgoingContext(ctx, kv...), ask, &text.HealthCheckRequest{Service: what}, out)
	return out.GetService(), err
}

// runGRPC runs f with one instance of reviews and a channel to it.
func runGRPC(t *testing.T, f func(t *testing.T, e *meshtest.Env, i *meshtest.Instance, cc *grpc.ClientConn)) {
	t.Helper()
	t.Parallel()
	meshtest.Run(t, meshtest.Config{}, func(t *testing.T, e *meshtest.Env) {
		f(t, e, e.GRPC("reviews:9080", v1, echo("one", nil)), e.Dial("reviews:9080"))
	})
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, e *meshtest.Env) {
		i := e.GRPC("reviews:9080", v1, func(s grpc.ServiceRegistrar) { text.RegisterHealthServer(s, health.NewServer()) })
		cc := e.Dial("reviews:9080")
		ctx := metadata.AppendToOutgoingContext(t.Context(), "end-user", "lisa", "raw-bin", "\x00\xff")
		got, err := text.NewHealthClient(cc).Check(ctx, &text.HealthCheckRequest{})
		if err != nil || got.GetStatus() != text.HealthCheckResponse_SERVING {
			t.Fatalf("got %v, %v", got, err)
		}
		_, err = text.NewHealthClient(cc).Check(ctx, &text.HealthCheckRequest{Service: "x"})
		if status.Code(err) != codes.NotFound {
			t.Errorf("got %v", err)
		}
		calls := i.Calls()
		if len(calls) != 2 {
			t.Fatalf("the calls are %+v", calls)
		}
		c := calls[0]
		if c.Method != "POST" || c.Path != "/grpc.health.v1.Health/Check" || c.Host != "reviews:9080" || c.Proto != "HTTP/2.0" ||
			c.Header.Get("End-User") != "lisa" || c.Header.Get("Raw-Bin") != "AP8" || c.Status != 200 || c.Code != codes.OK || c.Fault != "" {
			t.Errorf("the call is %+v", c)
		}
		if calls[1].Code != codes.NotFound || calls[1].Status != 200 {
			t.Errorf("the second call is %+v", calls[1])
		}
	}
	t.Run("fake time", func(t *testing.T) { t.Parallel(); meshtest.Run(t, meshtest.Config{}, check) })
	t.Run("real time", func(t *testing.T) { t.Parallel(); check(t, meshtest.New(t, meshtest.Config{})) })
}

// TestGRPCRoutesByMetadata: jason's calls go to v2, by the same rule as over HTTP.
func TestGRPCRoutesByMetadata(t *testing.T) {
	t.Parallel()
	meshtest.Run(t, meshtest.YAML(grpcYAML), func(t *testing.T, e *meshtest.Env) {
		one, two := e.GRPC("reviews", v1, echo("one", nil)), e.GRPC("reviews", v2, echo("two", nil))
		cc := e.Dial(grpcmesh.Target("reviews:9080"))
		e.WantRoute("POST", "http://reviews:9080"+ask, "jason", "end-user: jason")
		for range 20 {
			if got, err := say(t.Context(), cc, "hello", "end-user", "jason"); err != nil || got != "two hello" {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		for range 100 {
			if _, err := say(t.Context(), cc, "hello"); err != nil {
				t.Fatal(err)
			}
		}
		if a, b := len(one.Calls()), len(two.Calls())-20; a < 60 || b < 5 || a+b != 100 {
			t.Errorf("of everybody else %d went to v1, %d to v2", a, b)
		}
		s := e.Story()
		for _, want := range []string{"request   POST http://reviews:9080" + ask + " (content-type: application/grpc)",
			"rule      VirtualService default/reviews http[1]", ": OK\n", "answer    OK after"} {
			if !strings.Contains(s, want) {
				t.Errorf("nothing of %q in\n%s", want, s)
			}
		}
	})
}

// TestGRPCDeadInstance: it is down from the start, then goes down with connections kept.
func TestGRPCDeadInstance(t *testing.T) {
	runGRPC(t, func(t *testing.T, e *meshtest.Env, alive *meshtest.Instance, cc *grpc.ClientConn) {
		dead := e.GRPC("reviews", v1, echo("dead", nil))
		restore := dead.Inject(meshtest.RefuseConn())
		hundred := func() {
			t.Helper()
			for range 100 {
				if got, err := say(t.Context(), cc, "hello"); err != nil || got != "one hello" {
					t.Fatalf("got %q, %v\n%s", got, err, e.Story())
				}
			}
		}
		hundred()
		restore()
		for n := 0; len(dead.Calls()) == 0; n++ {
			if _, err := say(t.Context(), cc, "hello"); err != nil || n > 1000 {
				t.Fatal("it does not come back:", err)
			}
			time.Sleep(10 * time.Millisecond) // fake
		}
		before := len(dead.Calls())
		dead.Inject(meshtest.RefuseConn())
		hundred()
		if n := len(dead.Calls()) - before; n != 0 {
			t.Errorf("the dead one had %d calls, the living one %d", n, len(alive.Calls()))
		}
	})
}

// TestGRPCRefusesAhead: the channel has connected again, and nobody has called since.
func TestGRPCRefusesAhead(t *testing.T) {
	runGRPC(t, func(t *testing.T, _ *meshtest.Env, i *meshtest.Instance, cc *grpc.ClientConn) {
		for range 3 {
			cc.Connect()
			synctest.Wait()
			restore := i.Inject(meshtest.RefuseConn())
			if _, err := say(t.Context(), cc, ""); mesh.ReasonOf(err) != mesh.ReasonConnect || status.Code(err) != codes.Unavailable {
				t.Errorf("got %v", err)
			}
			restore()
			time.Sleep(time.Minute)
		}
		if n := len(i.Calls()); n != 0 {
			t.Errorf("%d calls arrived", n)
		}
	})
}

// TestCode: by default the mesh asks another instance where one is unavailable, whoever says so.
func TestCode(t *testing.T) {
	runGRPC(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance, cc *grpc.ClientConn) {
		restore := i.Inject(meshtest.Code(codes.Unavailable))
		if _, err := say(t.Context(), cc, ""); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "meshtest: Code(Unavailable)") {
			t.Errorf("got %v", err)
		}
		if c := i.Calls(); len(c) != 3 || c[0].Code != codes.Unavailable || c[0].Status != 200 || c[0].Fault != "Code(Unavailable)" {
			t.Errorf("the calls are %+v", c)
		}
		e.GRPC("reviews", v1, echo("two", nil))
		for range 20 {
			if got, err := say(t.Context(), cc, "hello"); err != nil || got != "two hello" {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		restore()
		i.Inject(meshtest.First(1, meshtest.Code(codes.ResourceExhausted)))
		failed := 0
		for range 1000 { // the mesh tries what has failed of late now and then
			if _, err := say(t.Context(), cc, "hello"); status.Code(err) == codes.ResourceExhausted {
				failed++
			}
		}
		if failed != 1 {
			t.Errorf("%d calls failed, which nobody repeats", failed)
		}
	})
}

// TestMethodsError: what a method returns is what a grpc.Server would send, a status alone, so it is repeated.
func TestMethodsError(t *testing.T) {
	runGRPC(t, func(t *testing.T, e *meshtest.Env, _ *meshtest.Instance, cc *grpc.ClientConn) {
		details, err := status.New(codes.Unavailable, "töö busy").WithDetails(&text.HealthCheckRequest{Service: "why"})
		if err != nil {
			t.Fatal(err)
		}
		busy := e.GRPC("reviews", v1, echo("busy", func(ctx context.Context) error {
			_ = grpc.SetTrailer(ctx, metadata.Pairs("after", "all"))
			return details.Err()
		}))
		for range 20 {
			if got, err := say(t.Context(), cc, "hello"); err != nil || got != "one hello" {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		if c := busy.Calls(); len(c) == 0 || c[0].Code != codes.Unavailable {
			t.Errorf("the calls are %+v", c)
		}
		var trailer metadata.MD
		e.GRPC("busy:9080", v1, echo("busy", func(ctx context.Context) error {
			_ = grpc.SetTrailer(ctx, metadata.Pairs("after", "all"))
			return details.Err()
		}))
		err = e.Dial("busy:9080").Invoke(t.Context(), ask, &text.HealthCheckRequest{}, &text.HealthCheckRequest{}, grpc.Trailer(&trailer))
		if s := status.Convert(err); s.Message() != "töö busy" || len(s.Details()) != 1 || len(trailer["after"]) != 1 {
			t.Errorf("got %v, %v, %v", err, s.Details(), trailer)
		}
	})
}

func TestGRPCStatus(t *testing.T) {
	runGRPC(t, func(t *testing.T, _ *meshtest.Env, i *meshtest.Instance, cc *grpc.ClientConn) {
		for code, want := range map[int]codes.Code{503: codes.Unavailable, 404: codes.Unimplemented, 403: codes.PermissionDenied, 500: codes.Unknown} {
			restore := i.Inject(meshtest.Status(code))
			if _, err := say(t.Context(), cc, ""); status.Code(err) != want {
				t.Errorf("%d: got %v", code, err)
			}
			if c := i.Calls(); c[len(c)-1].Status != code || c[len(c)-1].Code != codes.OK {
				t.Errorf("%d: the call is %+v", code, c[len(c)-1])
			}
			restore()
		}
		if got, err := say(t.Context(), cc, "hello"); err != nil || got != "one hello" {
			t.Errorf("restored, got %q, %v", got, err)
		}
	})
}

// TestGRPCDeadline: an instance that takes 30 s, a caller that has 7.
func TestGRPCDeadline(t *testing.T) {
	runGRPC(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance, cc *grpc.ClientConn) {
		for _, f := range []meshtest.Fault{meshtest.Delay(30 * time.Second), meshtest.Hang()} {
			restore := i.Inject(f)
			ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
			began := time.Now()
			_, err := say(ctx, cc, "")
			took := time.Since(began)
			cancel()
			if took != 7*time.Second || status.Code(err) != codes.DeadlineExceeded || mesh.ReasonOf(err) != mesh.ReasonCanceled {
				t.Errorf("%s: %v after %v", f, err, took)
			}
			synctest.Wait()
			if c := i.Calls(); c[len(c)-1].Status != 0 || c[len(c)-1].Fault != f.String() {
				t.Errorf("the call is %+v", c[len(c)-1])
			}
			if s := e.Story(); !strings.Contains(s, ": no answer, by "+f.String()) || !strings.Contains(s, "error     DeadlineExceeded after 7s: ") {
				t.Error(s)
			}
			restore()
		}
		i.Inject(meshtest.Delay(3 * time.Second))
		began := time.Now()
		if got, err := say(t.Context(), cc, "hello"); err != nil || got != "one hello" || time.Since(began) != 3*time.Second {
			t.Errorf("got %q, %v after %v", got, err, time.Since(began))
		}
	})
}

func TestGRPCReset(t *testing.T) {
	runGRPC(t, func(t *testing.T, _ *meshtest.Env, i *meshtest.Instance, cc *grpc.ClientConn) {
		for range 2 { // a new connection and a kept one
			restore := i.Inject(meshtest.First(1, meshtest.Reset()))
			if _, err := say(t.Context(), cc, ""); status.Code(err) != codes.Unavailable || mesh.ReasonOf(err) != mesh.ReasonReset ||
				!strings.Contains(err.Error(), "connection reset by peer") {
				t.Errorf("got %v", err)
			}
			if got, err := say(t.Context(), cc, "hello"); err != nil || got != "one hello" {
				t.Errorf("afterwards, got %q, %v", got, err)
			}
			restore()
		}
		if n := len(i.Calls()); n != 4 {
			t.Errorf("%d requests arrived", n)
		}
	})
}

func TestGRPCPercent(t *testing.T) {
	t.Parallel()
	count := func() (failed string) {
		meshtest.Run(t, meshtest.Config{}, func(t *testing.T, e *meshtest.Env) {
			i := e.GRPC("reviews:9080", v1, nil)
			i.Inject(meshtest.Percent(30, meshtest.Code(codes.Aborted)))
			cc := e.Dial("reviews:9080")
			for range 200 {
				_, err := say(t.Context(), cc, "")
				failed += fmt.Sprint(status.Code(err), " ")
			}
		})
		return failed
	}
	some := count()
	if n := strings.Count(some, "Aborted"); n < 45 || n > 75 {
		t.Errorf("%d of 200 failed", n)
	}
	if count() != some {
		t.Error("two runs differ")
	}
}

// TestGRPCFirstRefuses counts connections: the third gets through, by itself or for the call that waits.
func TestGRPCFirstRefuses(t *testing.T) {
	runGRPC(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance, cc *grpc.ClientConn) {
		i.Inject(meshtest.First(2, meshtest.RefuseConn()))
		if got, err := say(t.Context(), cc, "hello"); err != nil || got != "one hello" {
			t.Errorf("got %q, %v", got, err)
		}
		if s := e.Story(); strings.Count(s, "connection refused, by First(2, RefuseConn())") != 2 {
			t.Error(s)
		}
	})
}

func TestGRPCStream(t *testing.T) {
	runGRPC(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance, cc *grpc.ClientConn) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, err := cc.NewStream(ctx, chatDesc, chat)
		if err != nil {
			t.Fatal(err)
		}
		in := new(text.HealthCheckRequest)
		for _, word := range []string{"hello", "again"} {
			if err := s.SendMsg(&text.HealthCheckRequest{Service: word}); err != nil {
				t.Fatal(err)
			}
			if err := s.RecvMsg(in); err != nil || in.GetService() != "one "+word {
				t.Fatalf("got %v, %v", in, err)
			}
			time.Sleep(time.Hour) // longer than an idle channel lives
		}
		if s := e.Story(); !strings.Contains(s, "answer    none yet") || !strings.Contains(s, "at 198.18.0.1:9080: 200\n") {
			t.Error(s)
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(in); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, %v", in, err)
		}
		if s := e.Story(); !strings.Contains(s, "answer    OK after 2h0m0s") {
			t.Error(s)
		}
		if c := i.Calls(); len(c) != 1 || c[0].Path != chat || c[0].Code != codes.OK {
			t.Errorf("the calls are %+v", c)
		}
		// A connection breaks in the middle of a stream, and a stream meets a code.
		broken, err := cc.NewStream(ctx, chatDesc, chat)
		if err != nil {
			t.Fatal(err)
		}
		if err := broken.SendMsg(in); err != nil || broken.RecvMsg(in) != nil {
			t.Fatal(err)
		}
		i.Inject(meshtest.First(1, meshtest.Reset()))
		if _, err := say(ctx, cc, ""); status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
		if err := broken.RecvMsg(in); status.Code(err) != codes.Unavailable || mesh.ReasonOf(err) != mesh.ReasonReset {
			t.Errorf("got %v", err)
		}
		i.Inject(meshtest.Code(codes.Aborted))
		refused, err := cc.NewStream(ctx, chatDesc, chat)
		if err == nil {
			err = refused.RecvMsg(in)
		}
		if status.Code(err) != codes.Aborted || !strings.Contains(e.Story(), "error     Aborted after") {
			t.Errorf("got %v\n%s", err, e.Story())
		}
	})
}

// TestGRPCStreamOfOneAnswer: it has ended when the answer is there.
func TestGRPCStreamOfOneAnswer(t *testing.T) {
	runGRPC(t, func(t *testing.T, e *meshtest.Env, _ *meshtest.Instance, cc *grpc.ClientConn) {
		s, err := cc.NewStream(t.Context(), &grpc.StreamDesc{StreamName: "Ask", ClientStreams: true}, ask)
		if err != nil || s.SendMsg(&text.HealthCheckRequest{Service: "hello"}) != nil || s.CloseSend() != nil {
			t.Fatal(err)
		}
		in := new(text.HealthCheckRequest)
		if err := s.RecvMsg(in); err != nil || in.GetService() != "one hello" || !strings.Contains(e.Story(), "answer    OK after") {
			t.Errorf("got %v, %v\n%s", in, err, e.Story())
		}
	})
}

// TestGRPCCanceled: the caller goes, and the method ends because it has gone.
func TestGRPCCanceled(t *testing.T) {
	runGRPC(t, func(t *testing.T, e *meshtest.Env, _ *meshtest.Instance, _ *grpc.ClientConn) {
		i := e.GRPC("waits", nil, echo("waits", func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		if _, err := say(ctx, e.Dial("waits"), ""); status.Code(err) != codes.Canceled {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if c := i.Calls(); len(c) != 1 || c[0].Status != 0 || c[0].Code != codes.OK {
			t.Errorf("the calls are %+v", c)
		}
	})
}

// TestGRPCAuthority: a call can have another host than its channel, and rules see that one.
func TestGRPCAuthority(t *testing.T) {
	runGRPC(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance, cc *grpc.ClientConn) {
		var info mesh.CallInfo // the program's own
		err := cc.Invoke(mesh.Capture(t.Context(), &info), ask, &text.HealthCheckRequest{}, &text.HealthCheckRequest{}, grpc.CallAuthority("reviews.default:9080"))
		if err != nil || info.Endpoint != i.Address() {
			t.Errorf("%v, at %s", err, info.Endpoint)
		}
		if c := i.Calls(); len(c) != 1 || c[0].Host != "reviews.default:9080" {
			t.Errorf("the calls are %+v", c)
		}
		if s := e.Story(); !strings.Contains(s, "POST reviews.default:9080"+ask) || !strings.Contains(s, "tried 1   "+i.String()+": OK") {
			t.Error(s)
		}
	})
}

// TestStubbornHandlers: who does not heed the end of a request is named, over HTTP and gRPC.
func TestStubbornHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		said, _ := during(t, func(tb testing.TB) {
			e := meshtest.New(tb, meshtest.Config{})
			e.HTTP("a", nil, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Minute) }))
			e.GRPC("b", nil, echo("b", func(context.Context) error { time.Sleep(time.Minute); return nil }))
			cc := e.Dial("b")
			go func() { _, _ = get(e, context.Background(), "http://a/") }()
			go func() { _, _ = say(context.Background(), cc, "") }()
			time.Sleep(time.Second)
		})
		for _, i := range []string{"a at 198.18.0.1:80", "b at 198.18.0.2:80"} {
			if !strings.Contains(said, "a handler of "+i+" does not return when its request's context ends") {
				t.Errorf("nothing of %s in %s", i, said)
			}
		}
		time.Sleep(time.Hour)
	})
}

// TestGRPCLeftOpen: calls and streams that a test leaves under way end with it.
func TestGRPCLeftOpen(t *testing.T) {
	runGRPC(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance, cc *grpc.ClientConn) {
		s, err := cc.NewStream(context.Background(), chatDesc, chat)
		if err != nil || s.SendMsg(new(text.HealthCheckRequest)) != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(new(text.HealthCheckRequest)); err != nil {
			t.Fatal(err)
		}
		i.Inject(meshtest.Hang())
		go func() { _, _ = say(context.Background(), cc, "") }()
		e.GRPC("slow", nil, echo("slow", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second) // longer than the request
			return nil
		}))
		slow := e.Dial("slow")
		go func() { _, _ = say(context.Background(), slow, "") }()
		time.Sleep(time.Second)
	})
}

// TestGRPCIdle: a channel that nobody used for half an hour gives its connections up, and makes new ones.
func TestGRPCIdle(t *testing.T) {
	runGRPC(t, func(t *testing.T, _ *meshtest.Env, _ *meshtest.Instance, cc *grpc.ClientConn) {
		for range 3 {
			if got, err := say(t.Context(), cc, "hello"); err != nil || got != "one hello" {
				t.Errorf("got %q, %v", got, err)
			}
			time.Sleep(time.Hour)
		}
	})
}

// TestGRPCEmpty: an instance without services answers whatever it is asked.
func TestGRPCEmpty(t *testing.T) {
	t.Parallel()
	meshtest.Run(t, meshtest.Config{}, func(t *testing.T, e *meshtest.Env) {
		shop := e.As(mesh.Workload{Namespace: "shop"})
		i := shop.GRPC("health:9080", nil, nil)
		cc := e.Dial("health.shop:9080")
		got, err := text.NewHealthClient(cc).Check(t.Context(), &text.HealthCheckRequest{Service: "x"})
		if err != nil || got.GetStatus() != 0 {
			t.Errorf("got %v, %v", got, err)
		}
		list, err := text.NewHealthClient(cc).Watch(t.Context(), &text.HealthCheckRequest{Service: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if got, err = list.Recv(); err != nil || got.GetStatus() != 0 {
			t.Errorf("got %v, %v", got, err)
		}
		if _, err = list.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v", err)
		}
		if n := len(i.Calls()); n != 2 {
			t.Errorf("%d calls arrived", n)
		}
	})
}

// TestGRPCPorts: a service's port says what is spoken there, and that is not always gRPC.
func TestGRPCPorts(t *testing.T) {
	t.Parallel()
	const ports = "  - {number: 9080, name: http, protocol: HTTP}\n"
	both := strings.Replace(reviewsYAML, ports, ports+"  - {number: 9090, name: rpc, protocol: HTTP2, targetPort: 8090}\n", 1)
	meshtest.Run(t, meshtest.YAML(both), func(t *testing.T, e *meshtest.Env) {
		i := e.GRPC("reviews", v1, echo("one", nil)) // the first one for it
		if i.Address() != "198.18.0.1:8090" {
			t.Error(i)
		}
		if err := e.Apply(); err != nil {
			t.Fatal(err)
		}
		if got, err := say(t.Context(), e.Dial("reviews:9090"), "hello"); err != nil || got != "one hello" {
			t.Errorf("got %q, %v", got, err)
		}
		e.HTTP("shop", nil, nil)
		e.GRPC("shop:9080", nil, nil)
		if _, err := say(t.Context(), e.Dial("shop:9080"), ""); err != nil && status.Code(err) != codes.Unimplemented {
			t.Error(err)
		}
	})
	for name, row := range map[string]struct{ yaml, first, host, says string }{
		"http":       {both, "", "reviews:9080", "reviews.default.svc.cluster.local (<yaml>:2) has port 9080 for HTTP, and gRPC needs HTTP/2"},
		"none":       {reviewsYAML, "", "reviews", "has port 9080 for HTTP, and gRPC needs HTTP/2"},
		"missing":    {grpcYAML, "", "reviews:9081", "has no port 9081; its ports: 9080"},
		"the test's": {"", "shop:9080", "shop:9080", "shop.default.svc.cluster.local (<the test>) has port 9080 for HTTP"},
		"by name":    {strings.Replace(reviewsYAML, "name: http, protocol: HTTP", "name: grpc-a", 1), "", "reviews", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said, failed := during(t, func(tb testing.TB) {
				e := meshtest.New(tb, meshtest.YAML(row.yaml))
				if row.first != "" {
					e.HTTP(row.first, nil, nil)
				}
				e.GRPC(row.host, nil, nil)
			})
			if failed != (row.says != "") || !strings.Contains(said, row.says) {
				t.Error(said)
			}
		})
	}
}

func TestGRPCUnknownHost(t *testing.T) {
	runGRPC(t, func(t *testing.T, e *meshtest.Env, _ *meshtest.Instance, _ *grpc.ClientConn) {
		for host, want := range map[string]string{
			"ratings:9080": "host ratings:9080 is not in the test's mesh, which has reviews;",
			"reviews:1":    "host reviews:1 is not in the test's mesh",
		} {
			if _, err := say(t.Context(), e.Dial(host), ""); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", host, err)
			}
		}
	})
	said, failed := during(t, func(tb testing.TB) { meshtest.New(tb, meshtest.Config{}).Dial("reviews:none") })
	if !failed || !strings.Contains(said, "meshtest: dial reviews:none: ") {
		t.Error(said)
	}
}

// TestGRPCStory: a test that fails for a reason of its own still hears what its last call met.
func TestGRPCStory(t *testing.T) {
	t.Parallel()
	said, _ := during(t, func(tb testing.TB) {
		e := meshtest.New(tb, meshtest.YAML(grpcYAML))
		i := e.GRPC("reviews", v2, echo("two", nil))
		i.Inject(meshtest.First(1, meshtest.Code(codes.Unavailable)))
		i.Inject(meshtest.Code(codes.PermissionDenied))
		_, _ = say(context.Background(), e.Dial("reviews:9080"), "", "end-user", "jason", "authorization", "secret")
		tb.Error("not what I wanted")
	})
	for _, s := range []string{
		"the last call:\n  request   POST http://reviews:9080/test.Echo/Ask (authorization: …; content-type: application/grpc; end-user: jason)\n" +
			"  from      default\n  rule      VirtualService default/reviews http[0] (<yaml>:29:5), route \"jason\"\n" +
			"  cluster   outbound|9080|v2|reviews.default.svc.cluster.local\n" +
			"  tried 1   reviews version=v2 at 198.18.0.1:9080: Unavailable, by First(1, Code(Unavailable)); repeated",
		"  tried 2   reviews version=v2 at 198.18.0.1:9080: PermissionDenied, by Code(PermissionDenied)\n  error     PermissionDenied after ",
		": meshtest: Code(PermissionDenied)\nwhy:\n", "verdict    forward",
	} {
		if !strings.Contains(said, s) {
			t.Errorf("nothing of\n%s\nin\n%s", s, said)
		}
	}
}

// TestGRPCServerOptions: a server can be the mesh's, so that trace headers travel through it.
func TestGRPCServerOptions(t *testing.T) {
	runGRPC(t, func(t *testing.T, e *meshtest.Env, i *meshtest.Instance, cc *grpc.ClientConn) {
		e.GRPC("front", nil, echo("front", func(ctx context.Context) error {
			_, err := say(ctx, cc, "on behalf")
			return err
		}), grpcmesh.ServerOptions(e.Mesh())...)
		if _, err := say(t.Context(), e.Dial("front"), "", "x-request-id", "abc"); err != nil {
			t.Fatal(err)
		}
		if c := i.Calls(); len(c) != 1 || c[0].Header.Get("X-Request-Id") != "abc" {
			t.Errorf("the calls are %+v", c)
		}
	})
}

// TestGRPCParallel: many goroutines on one channel, on the real clock, while instances come and go down.
func TestGRPCParallel(t *testing.T) {
	t.Parallel()
	e := meshtest.New(t, meshtest.YAML(grpcYAML))
	flaky := e.GRPC("reviews", v1, nil)
	e.GRPC("reviews", v1, nil)
	e.GRPC("reviews", v2, nil)
	cc := e.Dial("reviews:9080")
	done := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 50 {
				_, _ = say(t.Context(), cc, "")
				_ = e.Story()
				_ = flaky.Calls()
			}
		}()
	}
	for range 10 {
		flaky.Inject(meshtest.RefuseConn())()
		flaky.Inject(meshtest.Code(codes.Aborted))()
		flaky.Inject(meshtest.First(1, meshtest.Reset()))
	}
	e.GRPC("ratings", nil, nil)
	for range 4 {
		<-done
	}
}
