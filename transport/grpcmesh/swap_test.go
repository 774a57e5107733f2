package grpcmesh_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/loopback"
)

// load calls from several goroutines until stop is called, which waits for them and gives how many calls
// there were. Calls of both kinds must not fail.
func load(t *testing.T, cc *grpc.ClientConn) (calls *atomic.Int64, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	calls = new(atomic.Int64)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				bound, done := context.WithTimeout(t.Context(), patience)
				var err error
				if i%4 == 0 {
					err = askStream(bound, cc)
				} else {
					_, err = ask(bound, cc, who)
				}
				done()
				if err != nil {
					t.Errorf("a call failed: %v", err)
					return
				}
				calls.Add(1)
			}
		})
	}
	return calls, func() { cancel(); wg.Wait() }
}

func askStream(ctx context.Context, cc *grpc.ClientConn) error {
	s, err := cc.NewStream(ctx, upDesc, up)
	if err != nil {
		return err
	}
	s.CloseSend()
	return s.RecvMsg(new(wrapperspb.StringValue))
}

// changeUnderLoad applies one configuration after the other while calls go on, and demands that none fails.
func changeUnderLoad(t *testing.T, m *mesh.Mesh, configs ...string) {
	t.Helper()
	cc := dial(t, m, "echo:9080")
	calls, stop := load(t, cc)
	for i := range 60 {
		before := calls.Load()
		apply(t, m, configs[i%len(configs)])
		until(t, "calls go on", func() bool { return t.Failed() || calls.Load() > before })
	}
	stop()
	if now, total, failed := active(m); now != 0 || failed != 0 {
		t.Errorf("active %d, total %d, failed %d", now, total, failed)
	}
	t.Logf("%d calls", calls.Load())
}

func TestSwapUnderLoad(t *testing.T) {
	t.Parallel()
	v1, v2 := start(t, "v1"), start(t, "v2")
	eps := service(v1.addr+" v1", v2.addr+" v2")
	changeUnderLoad(t, newMesh(t, eps), eps+rules(toV1), eps+rules(toV2), eps,
		eps+rules("  - route:\n    - {destination: {host: echo, subset: v1}, weight: 50}\n    - {destination: {host: echo, subset: v2}, weight: 50}\n"))
}

func TestEndpointChurnUnderLoad(t *testing.T) {
	t.Parallel()
	var addr [4]string
	for i := range addr {
		addr[i] = start(t, "e").addr
	}
	changeUnderLoad(t, newMesh(t, service(addr[0])), service(addr[1]), service(addr[0], addr[2]), service(addr[3]),
		service(addr[:]...), service(addr[0]))
}

// TestClusterGoesUnderLoad: also the cluster that a call was sent to may be gone when it gets to its pick.
func TestClusterGoesUnderLoad(t *testing.T) {
	t.Parallel()
	v1, v2 := start(t, "v1"), start(t, "v2")
	eps := service(v1.addr+" v1", v2.addr+" v2")
	renamed := strings.NewReplacer("name: v1", "name: w1", "subset: v1", "subset: w1")
	changeUnderLoad(t, newMesh(t, eps+rules(toV1)), renamed.Replace(eps+rules(toV1)), eps+rules(toV2), eps, renamed.Replace(eps))
}

// TestParkedCallFollowsTheConfiguration: a call that waits for a connection is not bound to a configuration
// that is gone.
func TestParkedCallFollowsTheConfiguration(t *testing.T) {
	t.Parallel()
	v2 := start(t, "v2")
	gone := loopback.Dead(t)
	eps := service(gone+" v1", v2.addr+" v2")
	m := newMesh(t, eps+rules(toV1))
	cc := dial(t, m, "echo:9080")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answer := make(chan string, 1)
	go func() {
		got, err := ask(ctx, cc, who, grpc.WaitForReady(true))
		if err != nil {
			t.Error(err)
		}
		answer <- got
	}()
	until(t, "the call found nobody", func() bool { _, _, failed := active(m); return failed > 0 })
	apply(t, m, eps+rules(toV2))
	if got := <-answer; got != "v2" {
		t.Errorf("answered by %q", got)
	}
	until(t, "all over", func() bool { now, _, _ := active(m); return now == 0 })

	parked := make(chan error, 1)
	apply(t, m, eps+rules(toV1))
	go func() {
		_, err := ask(ctx, cc, who, grpc.WaitForReady(true))
		parked <- err
	}()
	m.Close()
	if err := <-parked; !errors.Is(err, mesh.ReasonClosed) {
		t.Errorf("the mesh is closed: %v", err)
	}
}
