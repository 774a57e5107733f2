package grpcmesh_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// TestManyFields: metadata of more fields than a mesh takes ends the RPC before the method, in few bytes or many, and harms no other.
func TestManyFields(t *testing.T) {
	t.Parallel()
	empty := framedMessage(0, 0, "")
	repeated := func(n int) (kv []string) {
		for range n {
			kv = append(kv, "x-a", "b") // a byte each, but for the first
		}
		return kv
	}
	faces, ran := front(t)
	for _, row := range []struct {
		name   string
		header []string
		want   []string
		runs   int64
	}{
		{name: "ninety", header: repeated(90), want: []string{"status 0"}, runs: 1},
		{name: "a hundred and one", header: repeated(101), want: []string{"status 8", "HTTP 431"}},
		{name: "ten thousand", header: repeated(10_000), want: []string{"HTTP 431", http2.ErrCodeFrameSize.String(), "gone", http2.ErrCodeProtocol.String(), http2.ErrCodeEnhanceYourCalm.String()}},
	} {
		for face, addr := range faces {
			t.Run(row.name+", "+face, func(t *testing.T) {
				before := ran()
				a := attack(t, addr)
				a.ask(1, empty, row.header...)
				if got := a.hears(1); !slices.Contains(row.want, got) {
					t.Errorf("got %s, want one of %q", got, row.want)
				}
				if n := ran() - before; n != row.runs {
					t.Errorf("the method ran %d times", n)
				}
				other := attack(t, addr)
				if other.ask(1, empty); other.hears(1) != "status 0" {
					t.Error("another connection is not served")
				}
			})
		}
	}
}

// TestAnswersThatAreOdd: what endpoints put in the place of an answer's end reaches the program as a status, and blames nobody but them.
func TestAnswersThatAreOdd(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		header   []string // of an answer that is all in one
		code     codes.Code
		message  string
		requests int64
	}{
		"escapes that are none":     {[]string{"grpc-status", "9", "grpc-message", "100% %zz %4"}, codes.FailedPrecondition, "100% %zz %4", 1},
		"bytes that are no text":    {[]string{"grpc-status", "9", "grpc-message", "%ff%fe"}, codes.FailedPrecondition, "", 1},
		"no status":                 {[]string{"x-a", "b"}, codes.Unknown, "", 1},
		"a status that is none":     {[]string{"grpc-status", "seven"}, codes.Unknown, "", 1},
		"a status beyond all":       {[]string{"grpc-status", "4294967295"}, codes.Unknown, "", 1},
		"pushback that is none":     {[]string{"grpc-status", "14", "grpc-retry-pushback-ms", "-1"}, codes.Unavailable, "", 1},
		"details that are none":     {[]string{"grpc-status", "9", "grpc-status-details-bin", "AAAA"}, codes.FailedPrecondition, "", 1},
		"refused, in grpc-go's own": {[]string{"grpc-status", "13", "grpc-message", "stream terminated by RST_STREAM with error code: REFUSED_STREAM"}, codes.Internal, "", 1},
		"metadata in abundance":     {append(slices.Repeat([]string{"x-a", "b"}, 10_000), "grpc-status", "9"), codes.FailedPrecondition, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFramed(t, func(c *framedConn, n int64, id uint32) bool {
				if n > row.requests {
					return false
				}
				c.mu.Lock()
				defer c.mu.Unlock()
				c.header(id, true, append([]string{":status", "200", "content-type", "application/grpc"}, row.header...)...)
				return true
			})
			m := newMesh(t, service(f.addr))
			cc := dial(t, m, "echo:9080")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := ask(ctx, cc, who)
			if s := status.Convert(err); s.Code() != row.code || !strings.Contains(s.Message(), row.message) || f.requests.Load() != row.requests {
				t.Errorf("%v, after %d requests", err, f.requests.Load())
			}
			if _, err := ask(ctx, cc, who); err != nil {
				t.Errorf("the next: %v", err)
			}
			if now, _, _ := active(m); now != 0 {
				t.Errorf("%d attempts under way", now)
			}
		})
	}
}

// TestBlockedStreamIsEnded: a method that waits to send, because its caller does not read, hears at once that policies have ended its
// stream, and the caller when it reads again.
func TestBlockedStreamIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := newMesh(t, "")
		e := newEcho("e", grpcmesh.ServerOptions(own)...)
		returned := make(chan error, 1)
		var sent atomic.Int64
		e.answers = func(s grpc.ServerStream, _ string, _ int64) error {
			for {
				if err := s.SendMsg(text(strings.Repeat("x", 16<<10))); err != nil {
					returned <- errors.Join(err, s.Context().Err())
					return err
				}
				sent.Add(1)
			}
		}
		w := newWorld(t, "", e)
		defer w.ends()
		s, err := w.cc.NewStream(t.Context(), downDesc, down)
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, "x")
		_ = s.CloseSend()
		synctest.Wait()
		if len(returned) != 0 || sent.Load() == 0 {
			t.Fatalf("the method does not wait: %d messages", sent.Load())
		}
		blocked := sent.Load()
		apply(t, own, policyOf("deny", "{action: DENY, rules: [{}]}"))
		synctest.Wait()
		select {
		case err := <-returned:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the method heard %v", err)
			}
		default:
			t.Error("the method still waits")
		}
		got, err := receive(s)
		if status.Code(err) != codes.PermissionDenied || int64(len(got)) > blocked {
			t.Errorf("after %d messages of %d: %v", len(got), blocked, err)
		}
		own.Close()
	})
}

// TestDrainWhileStreamsWait: of the streams at an endpoint that leaves in good order the open one goes on to its end, and those that wait
// there for a stream go to another endpoint.
func TestDrainWhileStreamsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := newMesh(t, "")
		leaves := newEcho("leaves", append(grpcmesh.ServerOptions(own), grpc.MaxConcurrentStreams(1))...)
		w := newWorld(t, "", leaves)
		defer w.ends()
		one := func(of ...*echo) string {
			var addrs []string
			for _, e := range of {
				addrs = append(addrs, e.addr)
			}
			return strings.Replace(service(addrs...), "ROUND_ROBIN}", "ROUND_ROBIN}, connectionPool: {tcp: {maxConnections: 1}}", 1)
		}
		apply(t, w.Mesh, one(leaves))
		open := beginTalk(t, w.cc)
		type outcome struct {
			at  string
			err error
		}
		waiting := make(chan outcome, 3)
		for range cap(waiting) {
			go func() {
				s, err := w.cc.NewStream(t.Context(), bothDesc, both)
				if err != nil {
					waiting <- outcome{"", err}
					return
				}
				k := &talk{s: s}
				err = errors.Join(k.say(), k.end())
				waiting <- outcome{k.at, err}
			}()
		}
		synctest.Wait()
		if len(waiting) != 0 {
			t.Fatal("they do not wait")
		}
		drained := make(chan struct{})
		go func() {
			leaves.srv.GracefulStop()
			close(drained)
		}()
		stays := newEcho("stays", grpcmesh.ServerOptions(own)...)
		w.add(stays)
		apply(t, w.Mesh, one(stays))
		for range cap(waiting) {
			if o := <-waiting; o.err != nil || o.at != "stays" {
				t.Errorf("one that waited: %q, %v", o.at, o.err)
			}
		}
		select {
		case <-drained:
			t.Error("the server has gone under an open stream")
		default:
		}
		if err := errors.Join(open.say(), open.end()); err != nil || open.at != "leaves" {
			t.Errorf("the open one: %v", err)
		}
		<-drained
		own.Close()
	})
}

// A sinkOf hears of requests.
type sinkOf chan telemetry.Outcome

func (s sinkOf) Request(_ *telemetry.Labels, o telemetry.Outcome, _ telemetry.Measurement) { s <- o }

// TestAbandonedStreamsAreCounted: a stream that its caller gives up without receiving its end is one stream, that ended by the caller's
// doing, to the metrics of both sides.
func TestAbandonedStreamsAreCounted(t *testing.T) {
	for name, open := range map[string]struct {
		desc   *grpc.StreamDesc
		method string
		config string
	}{
		"both ways":                         {bothDesc, both, ""},
		"server streaming":                  {downDesc, down, careful("attempts: 0")},
		"server streaming, to be repeated":  {downDesc, down, careful("attempts: 2, retryOn: unavailable")},
		"client streaming, one message out": {upDesc, up, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sees, serves := make(sinkOf, 4), make(sinkOf, 4)
				own := newMesh(t, "", mesh.WithMetricsSink(serves))
				e := newEcho("e", grpcmesh.ServerOptions(own)...)
				e.answers = func(s grpc.ServerStream, _ string, _ int64) error {
					<-s.Context().Done()
					return s.Context().Err()
				}
				w := newWorld(t, open.config, e)
				defer w.ends()
				metered := newMesh(t, service(e.addr)+open.config, mesh.WithMetricsSink(sees), mesh.WithDialer(w.dial))
				cc := dial(t, metered, "echo:9080")
				ctx, cancel := context.WithCancel(t.Context())
				s, err := cc.NewStream(ctx, open.desc, open.method)
				if err != nil {
					t.Fatal(err)
				}
				send(t, s, "x")
				synctest.Wait()
				if len(sees) != 0 || len(serves) != 0 {
					t.Fatal("it is over")
				}
				cancel()
				synctest.Wait()
				for side, all := range map[string]sinkOf{"the caller's": sees, "the server's": serves} {
					if len(all) != 1 {
						t.Errorf("%s side counted %d", side, len(all))
						continue
					}
					if o := <-all; o.GRPC != uint8(codes.Canceled)+1 || o.Flags&call.FlagDC == 0 {
						t.Errorf("%s side: %+v", side, o)
					}
				}
				if now, _, failed := active(metered); now != 0 || failed != 0 {
					t.Errorf("%d attempts under way, %d failed", now, failed)
				}
				cc.Close()
				metered.Close()
				own.Close()
			})
		})
	}
}

// panics is a codec that fails as a bad one does.
type panics struct{}

func (panics) Name() string { return "proto" }

func (panics) Marshal(any) ([]byte, error) { panic("in a codec") }

func (panics) Unmarshal([]byte, any) error { return nil }

// TestPanics: a panic of the program's, in a method or on the way of an RPC out, passes to who recovers from it, and leaves nothing
// counted as under way.
func TestPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		serves, sees := make(sinkOf, 8), make(sinkOf, 8)
		own := newMesh(t, policyOf("allow", "{rules: [{}]}"), mesh.WithMetricsSink(serves))
		recovered := func(err *error) {
			if p := recover(); p != nil {
				*err = status.Errorf(codes.DataLoss, "%v", p)
			}
		}
		e := newEcho("e", append([]grpc.ServerOption{
			grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (_ any, err error) {
				defer recovered(&err)
				return next(ctx, req)
			}),
			grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
				defer recovered(&err)
				return next(srv, s)
			})}, grpcmesh.ServerOptions(own)...)...)
		e.answer = func(_ context.Context, in string) (string, error) {
			if in == "panic" {
				panic("in a method")
			}
			return in, nil
		}
		e.answers = func(grpc.ServerStream, string, int64) error { panic("in a method") }
		w := newWorld(t, careful("attempts: 2, retryOn: unavailable"), e)
		defer w.ends()
		m := newMesh(t, service(e.addr)+careful("attempts: 2, retryOn: unavailable"), mesh.WithMetricsSink(sees), mesh.WithDialer(w.dial))
		cc := dial(t, m, "echo:9080")

		_, unary := askText(t.Context(), cc, "panic")
		s, err := cc.NewStream(t.Context(), downDesc, down)
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, "x")
		_, stream := receive(s)
		for kind, err := range map[string]error{"unary": unary, "stream": stream} {
			if st := status.Convert(err); st.Code() != codes.DataLoss || st.Message() != "in a method" {
				t.Errorf("%s: %v", kind, err)
			}
		}
		synctest.Wait()
		if len(serves) != 2 || len(sees) != 2 {
			t.Errorf("the server counted %d, the caller %d", len(serves), len(sees))
		}

		_, _, before := active(m)
		err = func() (err error) {
			defer recovered(&err)
			return cc.Invoke(t.Context(), who, text("x"), text(""), grpc.ForceCodec(panics{}))
		}()
		if status.Convert(err).Message() != "in a codec" {
			t.Errorf("a codec: %v", err)
		}
		if now, _, failed := active(m); now != 0 || failed != before {
			t.Errorf("%d attempts under way, %d failed", now, failed-before)
		}
		if len(sees) != 3 {
			t.Errorf("the caller counted %d", len(sees))
		}
		if got, err := askText(t.Context(), cc, "fine"); err != nil || got != "fine" {
			t.Errorf("the next: %q, %v", got, err)
		}
		cc.Close()
		m.Close()
		own.Close()
	})
}
