package grpcmesh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
)

// A world is a mesh of echoes in fake time, each at an address of its own.
type world struct {
	*mesh.Mesh
	cc *grpc.ClientConn

	mu     sync.Mutex
	echoes []*echo
	at     map[string]*bufconn.Listener
}

// newWorld starts the echoes at 10.0.0.1:1, 10.0.0.2:1 and so on. config has the rules.
func newWorld(t *testing.T, config string, echoes ...*echo) *world {
	t.Helper()
	w := &world{at: make(map[string]*bufconn.Listener)}
	var addrs []string
	for _, e := range echoes {
		w.add(e)
		addrs = append(addrs, e.addr)
	}
	w.Mesh = newMesh(t, service(addrs...)+config, mesh.WithDialer(w.dial))
	w.cc = dial(t, w.Mesh, "echo:9080")
	return w
}

// add starts an echo at an address of its own.
func (w *world) add(e *echo) {
	w.mu.Lock()
	e.addr = fmt.Sprintf("10.0.0.%d:1", len(w.echoes)+1)
	w.mu.Unlock()
	w.start(e)
}

// start starts an echo at its address.
func (w *world) start(e *echo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.echoes = append(w.echoes, e)
	l := bufconn.Listen(64 << 10)
	w.at[e.addr] = l
	go e.srv.Serve(l)
}

func (w *world) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	w.mu.Lock()
	l := w.at[addr]
	w.mu.Unlock()
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	c, err := l.DialContext(ctx)
	if err != nil {
		return nil, syscall.ECONNREFUSED // what is closed says so in words of its own
	}
	return c, nil
}

func (w *world) ends() {
	w.cc.Close()
	w.Close()
	for _, e := range w.echoes {
		e.srv.Stop()
	}
}

// repeating is a rule with retries, of streams that may be repeated.
func repeating(retries string) string {
	return strings.Replace(rules("  - {route: [{destination: {host: echo}}], retries: {"+retries+"}}\n"),
		"{name: echo}", `{name: echo, annotations: {heddle.dev/retry-non-idempotent: "true"}}`, 1)
}

// careful is repeating without the word that a stream may be repeated.
func careful(retries string) string {
	return rules("  - {route: [{destination: {host: echo}}], retries: {" + retries + "}}\n")
}

// TestServerStreamIsRepeated: what answers with any number of messages is tried again by the rule until the first of them
// has come, and never after it.
func TestServerStreamIsRepeated(t *testing.T) {
	unavailable := status.Error(codes.Unavailable, "not now")
	header := metadata.Pairs("x-head", "h")
	// fails has the first call of all fail so; after it every one answers.
	type fails func(e *echo, s grpc.ServerStream) error
	atOnce := func(*echo, grpc.ServerStream) error { return unavailable }
	for _, row := range []struct {
		name   string
		first  fails
		rule   string
		asks   bool // for the header before it receives
		want   []string
		code   codes.Code // of the error after them
		calls  int64
		took   time.Duration
		reason call.Reason
	}{
		{name: "a status alone", first: atOnce, rule: careful("attempts: 2, retryOn: unavailable"), want: []string{"e", "e", "e"}, calls: 2},
		{name: "a status alone, who asks for the header", first: atOnce, rule: careful("attempts: 2, retryOn: unavailable"), asks: true, want: []string{"e", "e", "e"}, calls: 2},
		{name: "a status that the rule does not name", first: atOnce, rule: careful("attempts: 2, retryOn: cancelled"), code: codes.Unavailable, calls: 1},
		{name: "no retries", first: atOnce, rule: careful("attempts: 0"), code: codes.Unavailable, calls: 1},
		{name: "after a message", rule: repeating("attempts: 2, retryOn: 'unavailable,5xx,reset'"), want: []string{"first"}, code: codes.Unavailable, calls: 1,
			first: func(_ *echo, s grpc.ServerStream) error { return errors.Join(s.SendMsg(text("first")), unavailable) }},
		{name: "told when to come back", rule: careful("attempts: 2, retryOn: unavailable"), want: []string{"e", "e", "e"}, calls: 2, took: 3 * time.Second,
			first: func(_ *echo, s grpc.ServerStream) error {
				s.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", "3000"))
				return unavailable
			}},
		{name: "told not to come back", rule: careful("attempts: 2, retryOn: unavailable"), code: codes.Unavailable, calls: 1,
			first: func(_ *echo, s grpc.ServerStream) error {
				s.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", "-1"))
				return unavailable
			}},
		{name: "after a header that nobody has seen", rule: repeating("attempts: 2, retryOn: 'unavailable,5xx'"), want: []string{"e", "e", "e"}, calls: 2,
			first: func(_ *echo, s grpc.ServerStream) error { return errors.Join(s.SendHeader(header), unavailable) }},
		{name: "after a header that the program has seen", rule: repeating("attempts: 2, retryOn: 'unavailable,5xx'"), asks: true, code: codes.Unavailable, calls: 1,
			first: func(_ *echo, s grpc.ServerStream) error { return errors.Join(s.SendHeader(header), unavailable) }},
		{name: "no message in time", rule: repeating("attempts: 2, perTryTimeout: 2s, retryOn: 5xx"), want: []string{"e", "e", "e"}, calls: 2, took: 2 * time.Second, first: hang},
		{name: "no message in time, and none may be asked for again", rule: careful("attempts: 2, perTryTimeout: 2s, retryOn: 5xx"), code: codes.DeadlineExceeded,
			calls: 1, took: 2 * time.Second, reason: call.ReasonTimeout, first: hang},
		{name: "no header in time", rule: repeating("attempts: 2, perTryTimeout: 2s, retryOn: 5xx"), asks: true, want: []string{"e", "e", "e"}, calls: 2, took: 2 * time.Second, first: hang},
		{name: "the second message may take its time", rule: repeating("attempts: 2, perTryTimeout: 2s, retryOn: 5xx"), want: []string{"first", "last"}, calls: 1, took: time.Hour,
			first: func(_ *echo, s grpc.ServerStream) error {
				err := s.SendMsg(text("first"))
				time.Sleep(time.Hour)
				return errors.Join(err, s.SendMsg(text("last")))
			}},
		{name: "no message at all", rule: repeating("attempts: 2, perTryTimeout: 2s, retryOn: 5xx"), calls: 1, first: func(*echo, grpc.ServerStream) error { return nil }},
		{name: "no message at all, who asks for the header", rule: repeating("attempts: 2, perTryTimeout: 2s, retryOn: 5xx"), asks: true, calls: 1,
			first: func(*echo, grpc.ServerStream) error { return nil }},
		{name: "the connection breaks", rule: repeating("attempts: 2, retryOn: reset"), want: []string{"e", "e", "e"}, calls: 2, first: breakOff},
		{name: "the connection breaks, and what may be done is not asked for again", rule: careful("attempts: 2, retryOn: reset"), code: codes.Unavailable, calls: 1,
			reason: call.ReasonReset, first: breakOff},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := newEcho("e"), newEcho("e")
				var calls atomic.Int64
				for _, e := range []*echo{a, b} {
					e.answers = func(s grpc.ServerStream, in string, _ int64) error {
						if calls.Add(1) == 1 {
							return row.first(e, s)
						}
						if md, _ := metadata.FromIncomingContext(s.Context()); !slices.Equal(md["x-envoy-attempt-count"], []string{"2"}) {
							t.Errorf("the second try says %v", md)
						}
						for range len(in) {
							if err := s.SendMsg(text(e.name)); err != nil {
								return err
							}
						}
						return nil
					}
				}
				w := newWorld(t, row.rule, a, b)
				defer w.ends()
				ctx, info := capture(t.Context())
				hooks := 0
				began := time.Now()
				s, err := w.cc.NewStream(ctx, downDesc, down, grpc.OnFinish(func(error) { hooks++ }))
				if err != nil {
					t.Fatal(err)
				}
				send(t, s, "xxx")
				if err := s.CloseSend(); err != nil {
					t.Fatal(err)
				}
				if row.asks {
					if _, err := s.Header(); err != nil {
						t.Fatal(err)
					}
				}
				got, err := receive(s)
				took := time.Since(began)
				if errors.Is(err, io.EOF) {
					err = nil
				}
				if !slices.Equal(got, row.want) || status.Code(err) != row.code || call.ReasonOf(err) != row.reason {
					t.Errorf("%q, %v; want %q, %v", got, err, row.want, row.code)
				}
				if n := calls.Load(); n != row.calls || took < row.took || took > row.took+row.took/2+100*time.Millisecond {
					t.Errorf("%d calls in %v, want %d in %v", n, took, row.calls, row.took)
				}
				if hooks != 1 || info.Attempts != int(row.calls) || info.Reason != row.reason {
					t.Errorf("%d hooks, info %+v", hooks, info)
				}
				if now, total, _ := active(w.Mesh); now != 0 || total != uint64(row.calls) {
					t.Errorf("%d attempts under way of %d", now, total)
				}
			})
		})
	}
}

func hang(_ *echo, s grpc.ServerStream) error {
	<-s.Context().Done()
	return s.Context().Err()
}

// breakOff ends all connections of the server, which takes no more.
func breakOff(e *echo, s grpc.ServerStream) error {
	go e.srv.Stop() // waits for its handlers
	return hang(e, s)
}

// TestRepeatedStreamIsGivenUp: whoever gives a stream up leaves nothing of it behind, also where nobody receives.
func TestRepeatedStreamIsGivenUp(t *testing.T) {
	for name, row := range map[string]struct {
		receives bool
		end      func(cancel func(), w *world)
	}{
		"the caller, receiving": {true, func(cancel func(), _ *world) { cancel() }},
		"the caller":            {false, func(cancel func(), _ *world) { cancel() }},
		"the channel":           {false, func(_ func(), w *world) { w.cc.Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEcho("e")
				e.answers = func(s grpc.ServerStream, _ string, call int64) error {
					if call == 1 {
						return status.Error(codes.Unavailable, "not now")
					}
					return hang(e, s)
				}
				w := newWorld(t, careful("attempts: 2, perTryTimeout: 1h, retryOn: unavailable"), e)
				defer w.ends()
				ctx, info := capture(t.Context())
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				ended := make(chan error, 1)
				s, err := w.cc.NewStream(ctx, downDesc, down, grpc.OnFinish(func(err error) { ended <- err }))
				if err != nil {
					t.Fatal(err)
				}
				send(t, s, "x")
				got := make(chan error, 1)
				if row.receives {
					go func() {
						_, err := receive(s)
						got <- err
					}()
					time.Sleep(time.Minute) // the second try hangs
				}
				row.end(cancel, w)
				if err := <-ended; status.Code(err) != codes.Canceled {
					t.Errorf("OnFinish hears %v", err)
				}
				if row.receives {
					if err := <-got; status.Code(err) != codes.Canceled || !errors.Is(err, context.Canceled) {
						t.Errorf("got %v", err)
					}
					if info.Attempts != 2 || info.Reason != call.ReasonCanceled {
						t.Errorf("info %+v", info)
					}
				}
				synctest.Wait()
				if now, _, failed := active(w.Mesh); now != 0 || failed > 1 {
					t.Errorf("%d attempts under way, %d failed", now, failed)
				}
			})
		})
	}
}

// TestDetails: what an endpoint says with a status reaches the caller as it is, after retries and of streams too; an error of the mesh is
// a status, and is found in it again.
func TestDetails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told, err := status.New(codes.Unavailable, "not now").WithDetails(text("why"), text("until when"))
		if err != nil {
			t.Fatal(err)
		}
		e := newEcho("e")
		e.answer = func(context.Context, string) (string, error) { return "", told.Err() }
		e.answers = func(grpc.ServerStream, string, int64) error { return told.Err() }
		w := newWorld(t, careful("attempts: 2, retryOn: unavailable"), e)
		defer w.ends()
		_, unary := ask(t.Context(), w.cc, who)
		s, err := w.cc.NewStream(t.Context(), downDesc, down)
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, "x")
		_, streaming := receive(s)
		for kind, err := range map[string]error{"unary": unary, "server streaming": streaming} {
			got := status.Convert(err)
			if got.Code() != codes.Unavailable || got.Message() != "not now" || len(got.Details()) != 2 || got.Details()[1].(*wrapperspb.StringValue).Value != "until when" {
				t.Errorf("%s: %v with %v", kind, err, got.Details())
			}
		}
		if n := e.calls.Load(); n != 6 {
			t.Errorf("%d attempts, want 6", n)
		}
		apply(t, w.Mesh, service(e.addr)+rules("  - {match: [{uri: {prefix: /no}}], route: [{destination: {host: echo}}]}\n"))
		_, err = ask(t.Context(), w.cc, who)
		var own *mesh.Error
		wrapped := fmt.Errorf("load the page: %w", err)
		if s, ok := status.FromError(wrapped); !ok || s.Code() != codes.Unimplemented || !errors.As(wrapped, &own) || own.Flag() != "NR" || !errors.Is(wrapped, mesh.ReasonNoRoute) {
			t.Errorf("%v", wrapped)
		}
	})
}
