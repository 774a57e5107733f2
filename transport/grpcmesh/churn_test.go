package grpcmesh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh/call"
)

// A talk is a stream on which each message is answered before the next is sent, and who answers.
type talk struct {
	s  grpc.ClientStream
	at string
}

func beginTalk(t *testing.T, cc *grpc.ClientConn) *talk {
	t.Helper()
	s, err := cc.NewStream(t.Context(), bothDesc, both)
	if err != nil {
		t.Fatal(err)
	}
	k := &talk{s: s}
	if err := k.say(); err != nil {
		t.Fatal(err)
	}
	return k
}

// say sends a message and waits for the answer, from whom the others are.
func (k *talk) say() error {
	if err := k.s.SendMsg(text("x")); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	out := new(wrapperspb.StringValue)
	if err := k.s.RecvMsg(out); err != nil {
		return err
	}
	if k.at != "" && k.at != out.Value {
		return fmt.Errorf("%s answers what %s was told", out.Value, k.at)
	}
	k.at = out.Value
	return nil
}

// end ends the stream in good order.
func (k *talk) end() error {
	_ = k.s.CloseSend()
	if err := k.s.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the end: %w", err)
	}
	return nil
}

// TestStreamsWhileEndpointsGo (D-036): of a hundred streams those of an endpoint that is killed hear so and are not made again, those of
// one that drains, or is taken out of the mesh, go on to their end, and new ones go where they can. The bubble's end proves that
// nothing is left.
func TestStreamsWhileEndpointsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		killed, drained, removed, stays, added := newEcho("killed"), newEcho("drained"), newEcho("removed"), newEcho("stays"), newEcho("added")
		w := newWorld(t, "", killed, drained, removed, stays, added)
		defer w.ends()
		addrs := func(of ...*echo) (list []string) {
			for _, e := range of {
				list = append(list, e.addr)
			}
			return list
		}
		apply(t, w.Mesh, service(addrs(killed, drained, removed, stays)...))
		var talks []*talk
		at := map[string]int{}
		for range 100 {
			k := beginTalk(t, w.cc)
			talks = append(talks, k)
			at[k.at]++
		}
		if len(at) != 4 || at["killed"] != 25 || at["removed"] != 25 {
			t.Fatalf("the streams are at %v", at)
		}

		killed.srv.Stop()
		drain := make(chan struct{})
		go func() {
			drained.srv.GracefulStop()
			close(drain)
		}()
		synctest.Wait()
		apply(t, w.Mesh, service(addrs(killed, drained, stays, added)...))
		synctest.Wait()
		for _, k := range talks {
			err := k.say()
			var ce *call.Error
			if dead := k.at == "killed"; dead && (status.Code(err) != codes.Unavailable || !errors.As(err, &ce) || ce.Reason != call.ReasonReset || ce.Endpoint != killed.addr) ||
				!dead && err != nil {
				t.Errorf("at %s: %v", k.at, err)
			}
		}
		for range 40 {
			k := beginTalk(t, w.cc)
			if k.at != "stays" && k.at != "added" {
				t.Errorf("a new stream is at %s", k.at)
			}
			talks = append(talks, k)
		}
		for _, k := range talks {
			if k.at == "killed" {
				continue
			}
			if err := k.end(); err != nil {
				t.Errorf("at %s: %v", k.at, err)
			}
		}
		<-drain
		if n := killed.calls.Load() + drained.calls.Load() + removed.calls.Load() + stays.calls.Load() + added.calls.Load(); n != 140 {
			t.Errorf("the endpoints saw %d streams, want 140", n)
		}
		if now, _, _ := active(w.Mesh); now != 0 {
			t.Errorf("%d attempts under way", now)
		}
	})
}

// TestStreamsUnderChurn (D-031, D-036): a hundred streams at a time while endpoints are killed, drained and added without pause. Each
// ends in good order or as UNAVAILABLE, none of them is answered by two, and nothing is left.
func TestStreamsUnderChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots = 6
		w := newWorld(t, "")
		defer w.ends()
		var live [slots]*echo
		var began int64
		publish := func() {
			var list []string
			for _, e := range live {
				list = append(list, e.addr)
			}
			apply(t, w.Mesh, service(list...))
		}
		for i := range live {
			live[i] = newEcho(fmt.Sprint("first ", i))
			w.add(live[i])
		}
		publish()

		ctx, stop := context.WithCancel(t.Context())
		var streams sync.WaitGroup
		var mu sync.Mutex
		ended := map[codes.Code]int{}
		for i := range 100 {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			streams.Go(func() {
				for ctx.Err() == nil {
					err := converse(t.Context(), w.cc, random)
					mu.Lock()
					began++
					ended[status.Code(err)]++
					mu.Unlock()
					if c := status.Code(err); c != codes.OK && c != codes.Unavailable {
						t.Errorf("a stream ended so: %v", err)
					}
				}
			})
		}
		random := rand.New(rand.NewPCG(7, 7))
		var drains sync.WaitGroup
		for round := range 60 {
			time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
			i := round % slots
			old := live[i]
			live[i] = newEcho(fmt.Sprint("round ", round))
			w.add(live[i])
			switch round % 3 {
			case 0: // without a word
				old.srv.Stop()
				publish()
			case 1: // first drained, then taken out
				drains.Go(old.srv.GracefulStop)
				publish()
			case 2: // first taken out, then drained
				publish()
				drains.Go(old.srv.GracefulStop)
			}
		}
		stop()
		streams.Wait()
		drains.Wait()
		t.Logf("%d streams: %v", began, ended)
		if ended[codes.OK] == 0 || ended[codes.Unavailable] == 0 {
			t.Errorf("streams ended %v", ended)
		}
		if now, _, _ := active(w.Mesh); now != 0 {
			t.Errorf("%d attempts under way", now)
		}
	})
}

// converse has a talk of random length.
func converse(ctx context.Context, cc *grpc.ClientConn, random *rand.Rand) error {
	s, err := cc.NewStream(ctx, bothDesc, both)
	if err != nil {
		return err
	}
	k := &talk{s: s}
	for range 1 + random.IntN(8) {
		if err := k.say(); err != nil {
			return err
		}
		time.Sleep(time.Duration(random.IntN(50)) * time.Millisecond)
	}
	return k.end()
}

// TestEjectionByStatus (D-024): an endpoint whose answers are a status that means 503 is taken out by the rule, stays out while the
// channel goes idle and comes back, and returns when its time is over.
func TestEjectionByStatus(t *testing.T) {
	for _, kind := range []string{"unary", "server streaming"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bad, good := newEcho("bad"), newEcho("good")
				answer := status.Error(codes.Unavailable, "not now")
				bad.answer = func(context.Context, string) (string, error) { return "", answer }
				bad.answers = func(grpc.ServerStream, string, int64) error { return answer }
				config := careful("attempts: 0")
				w := newWorld(t, config, bad, good)
				defer w.ends()
				outlier := "ROUND_ROBIN}, outlierDetection: {consecutiveGatewayErrors: 3, interval: 1s, baseEjectionTime: 1h, maxEjectionPercent: 50}"
				apply(t, w.Mesh, strings.Replace(service(bad.addr, good.addr), "ROUND_ROBIN}", outlier, 1)+config)
				fail := func(calls int) (failed int) {
					for range calls {
						var err error
						if kind == "unary" {
							_, err = ask(t.Context(), w.cc, who)
						} else {
							var s grpc.ClientStream
							if s, err = w.cc.NewStream(t.Context(), downDesc, down); err == nil {
								send(t, s, "x")
								if _, err = receive(s); errors.Is(err, io.EOF) {
									err = nil
								}
							}
						}
						if err != nil {
							failed++
						}
					}
					return failed
				}
				if n := fail(20); n != 3 {
					t.Errorf("%d of 20 failed, want 3", n)
				}
				time.Sleep(45 * time.Minute) // grpc-go's channels are idle after half an hour
				if n := fail(20); n != 0 {
					t.Errorf("%d of 20 failed while the endpoint is out", n)
				}
				time.Sleep(16 * time.Minute)
				if n := fail(2); n != 1 {
					t.Errorf("%d of 2 failed when the endpoint is back", n)
				}
			})
		})
	}
}

// TestTwoMeshesAtOnce: meshes of one process have nothing in common, endpoints and rules under change included.
func TestTwoMeshesAtOnce(t *testing.T) {
	t.Parallel()
	var meshes sync.WaitGroup
	for _, name := range []string{"one", "other"} {
		a, b := start(t, name), start(t, name)
		configs := [...]string{service(a.addr), service(a.addr, b.addr), service(b.addr)}
		m := newMesh(t, configs[0])
		cc := dial(t, m, "echo:9080")
		meshes.Go(func() {
			for i := range 60 {
				if err := m.Apply(t.Context(), []byte(configs[i%len(configs)])); err != nil {
					t.Error(err)
				}
				for range 5 {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					if got, err := ask(ctx, cc, who); err != nil || got != name {
						t.Errorf("mesh %s: %q, %v", name, got, err)
					}
					cancel()
				}
			}
		})
	}
	meshes.Wait()
}
