package grpcmesh_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh/call"
)

// linked is what a program has that links generated code of the echo's .proto: Other is marked as idempotent there, Who is not.
var linked = sync.OnceValue(func() error {
	method := func(name string, level descriptorpb.MethodOptions_IdempotencyLevel) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{Name: proto.String(name), InputType: proto.String(".google.protobuf.StringValue"),
			OutputType: proto.String(".google.protobuf.StringValue"), Options: &descriptorpb.MethodOptions{IdempotencyLevel: level.Enum()}}
	}
	f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{Name: proto.String("grpcmesh_test/echo.proto"), Package: proto.String("test"),
		Dependency: []string{wrapperspb.File_google_protobuf_wrappers_proto.Path()},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Echo"), Method: []*descriptorpb.MethodDescriptorProto{
			method("Who", descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN), method("Other", descriptorpb.MethodOptions_IDEMPOTENT)}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		return err
	}
	return protoregistry.GlobalFiles.RegisterFile(f)
})

// TestMarkedMethods: an RPC that may be made twice by its .proto is made again when its connection breaks off; one that says nothing is
// not.
func TestMarkedMethods(t *testing.T) {
	if err := linked(); err != nil {
		t.Fatal(err)
	}
	for method, want := range map[string]int64{who: 1, other: 2} {
		f := startFramed(t, func(c *framedConn, n int64, _ uint32) bool {
			if n == 1 {
				_ = c.Close()
			}
			return n == 1
		})
		_, err := ask(t.Context(), dial(t, newMesh(t, service(f.addr)+careful("attempts: 2, retryOn: reset")), "echo:9080"), method)
		if n := f.requests.Load(); n != want || (err == nil) != (want == 2) {
			t.Errorf("%s: %v after %d requests, want %d", method, err, n, want)
		}
	}
}

// hedging is a rule by which RPCs that may be made twice are made beside each other.
func hedging(retries string) string {
	return strings.Replace(careful(retries), "{name: echo}", `{name: echo, annotations: {heddle.dev/hedge-on-per-try-timeout: "true"}}`, 1)
}

// TestHedge: an attempt that takes longer than perTryTimeout goes on beside the next one, and the first good answer is the RPC's.
func TestHedge(t *testing.T) {
	if err := linked(); err != nil {
		t.Fatal(err)
	}
	unavailable, notFound := status.Error(codes.Unavailable, "not now"), status.Error(codes.NotFound, "no such thing")
	type attempt struct {
		takes time.Duration
		err   error
	}
	const retries = "attempts: 2, perTryTimeout: 1s, retryOn: 'unavailable,5xx'"
	for _, row := range []struct {
		name     string
		rule     string
		method   string
		attempts []attempt
		limit    time.Duration // the caller's, 0 for none
		won      string        // "1" is the first attempt
		code     codes.Code
		began    int64 // attempts
		took     time.Duration
	}{
		{name: "quick enough", attempts: []attempt{{takes: 900 * time.Millisecond}}, won: "1", began: 1, took: 900 * time.Millisecond},
		{name: "the second is quicker", attempts: []attempt{{takes: time.Hour}, {takes: 100 * time.Millisecond}}, won: "2", began: 2, took: 1100 * time.Millisecond},
		{name: "the first is there after all", attempts: []attempt{{takes: 1500 * time.Millisecond}, {takes: time.Hour}}, won: "1", began: 2, took: 1500 * time.Millisecond},
		{name: "the third", attempts: []attempt{{takes: time.Hour}, {takes: time.Hour}, {takes: 100 * time.Millisecond}}, won: "3", began: 3, took: 2100 * time.Millisecond},
		{name: "no more than the rule has", attempts: []attempt{{takes: 10 * time.Second}, {takes: time.Hour}, {takes: time.Hour}}, won: "1", began: 3, took: 10 * time.Second},
		{name: "the second fails, the first goes on", attempts: []attempt{{takes: 5 * time.Second}, {err: unavailable}, {err: unavailable}}, won: "1", began: 3, took: 5 * time.Second},
		{name: "all fail", attempts: []attempt{{takes: 1500 * time.Millisecond, err: unavailable}, {err: unavailable}, {err: unavailable}}, code: codes.Unavailable, began: 3, took: 1500 * time.Millisecond},
		{name: "fails at once", attempts: []attempt{{err: unavailable}, {}}, won: "2", began: 2},
		{name: "an answer that nothing is repeated for", attempts: []attempt{{takes: time.Hour}, {err: notFound}}, code: codes.NotFound, began: 2, took: time.Second},
		{name: "the caller's time is over", attempts: []attempt{{takes: time.Hour}, {takes: time.Hour}, {takes: time.Hour}}, limit: 5 * time.Second, code: codes.DeadlineExceeded, began: 3, took: 5 * time.Second},
		{name: "not marked", method: who, attempts: []attempt{{takes: time.Hour}}, code: codes.DeadlineExceeded, began: 1, took: time.Second},
		{name: "not asked for", rule: careful(retries), attempts: []attempt{{takes: time.Hour}, {}}, won: "2", began: 2, took: time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var began, given atomic.Int64
				var counts sync.Map
				echoes := []*echo{newEcho("a"), newEcho("b"), newEcho("c")}
				for _, e := range echoes {
					e.answer = func(ctx context.Context, _ string) (string, error) {
						n := began.Add(1)
						md, _ := metadata.FromIncomingContext(ctx)
						counts.Store(n, append(md["x-envoy-attempt-count"], e.name))
						a := row.attempts[n-1]
						select {
						case <-time.After(a.takes):
						case <-ctx.Done():
							given.Add(1)
							return "", ctx.Err()
						}
						_ = grpc.SetHeader(ctx, metadata.Pairs("x-attempt", string(rune('0'+n))))
						return string(rune('0' + n)), a.err
					}
				}
				rule, method := row.rule, row.method
				if rule == "" {
					rule = hedging(retries)
				}
				if method == "" {
					method = other
				}
				w := newWorld(t, rule, echoes...)
				defer w.ends()
				ctx, info := capture(t.Context())
				if row.limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, row.limit)
					defer cancel()
				}
				var header metadata.MD
				var from peer.Peer
				hooks := 0
				start := time.Now()
				got, err := ask(ctx, w.cc, method, grpc.Header(&header), grpc.Peer(&from), grpc.OnFinish(func(error) { hooks++ }))
				took := time.Since(start)
				synctest.Wait()
				if got != row.won || status.Code(err) != row.code || began.Load() != row.began {
					t.Errorf("%q, %v after %d attempts; want %q, %v after %d", got, err, began.Load(), row.won, row.code, row.began)
				}
				if slack := 200 * time.Millisecond; took < row.took || took > row.took+slack {
					t.Errorf("it took %v, want %v", took, row.took)
				}
				if err == nil && (!slices.Equal(header["x-attempt"], []string{row.won}) || from.Addr == nil) {
					t.Errorf("the header is %v, from %v", header, from.Addr)
				}
				if hooks != 1 || info.Attempts != int(row.began) || len(info.Tried) != int(row.began) {
					t.Errorf("%d hooks, info %+v", hooks, info)
				}
				at := map[string]bool{}
				counts.Range(func(n, v any) bool {
					list := v.([]string)
					at[list[len(list)-1]] = true
					if count := list[:len(list)-1]; n.(int64) == 1 && len(count) > 0 || n.(int64) > 1 && !slices.Equal(count, []string{string(rune('0' + n.(int64)))}) {
						t.Errorf("attempt %d says %q", n, count)
					}
					return true
				})
				if len(at) != int(row.began) {
					t.Errorf("the attempts were at %v: each endpoint once", at)
				}
				if now, total, _ := active(w.Mesh); now != 0 || total != uint64(row.began) {
					t.Errorf("%d attempts under way of %d", now, total)
				}
				if row.code == codes.DeadlineExceeded && row.limit > 0 && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// TestHedgeBudget: attempts made beside others count as retries until the RPC is over.
func TestHedgeBudget(t *testing.T) {
	if err := linked(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var began atomic.Int64
		echoes := []*echo{newEcho("a"), newEcho("b"), newEcho("c")}
		for _, e := range echoes {
			e.answer = func(ctx context.Context, _ string) (string, error) {
				began.Add(1)
				<-ctx.Done()
				return "", ctx.Err()
			}
		}
		rule := hedging("attempts: 2, perTryTimeout: 1s, retryOn: 5xx")
		w := newWorld(t, rule, echoes...)
		defer w.ends()
		apply(t, w.Mesh, strings.Replace(service(echoes[0].addr, echoes[1].addr, echoes[2].addr), "ROUND_ROBIN}", "ROUND_ROBIN}, connectionPool: {http: {maxRetries: 3}}", 1)+rule)
		for round := range 2 { // what one round has taken it has given back
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			var calls sync.WaitGroup
			for range 4 {
				calls.Go(func() {
					if _, err := ask(ctx, w.cc, other); status.Code(err) != codes.DeadlineExceeded || call.ReasonOf(err) != call.ReasonCanceled {
						t.Error(err)
					}
				})
			}
			calls.Wait()
			cancel()
			if n := began.Swap(0); n != 4+3 {
				t.Errorf("round %d: %d attempts of four RPCs with three retries between them", round, n)
			}
		}
	})
}
