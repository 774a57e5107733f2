package grpcmesh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh"
)

// TestMoreConnections: where an endpoint takes no more streams on a connection there are others, as many as are needed and
// maxConnections allows; what is beyond that waits for a stream.
func TestMoreConnections(t *testing.T) {
	t.Parallel()
	const each = 4
	for name, row := range map[string]struct {
		policy  string
		streams int
		open    int // streams at a time
		dials   int64
	}{
		"one is enough": {streams: each, open: each, dials: 1},
		"one more":      {streams: each + 1, open: each + 1, dials: 2},
		"many":          {streams: 10 * each, open: 10 * each, dials: 10},
		"as allowed":    {policy: "connectionPool: {tcp: {maxConnections: 2}}", streams: 10 * each, open: 2 * each, dials: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, "e", grpc.MaxConcurrentStreams(each))
			config := service(e.addr)
			if row.policy != "" {
				config = strings.Replace(config, "ROUND_ROBIN}", "ROUND_ROBIN}, "+row.policy, 1)
			}
			var dials atomic.Int64
			m := newMesh(t, config, mesh.WithDialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials.Add(1)
				return new(net.Dialer).DialContext(ctx, network, addr)
			}))
			cc := dial(t, m, "echo:9080")
			must(t, cc, who)

			var streams sync.WaitGroup
			release, opened := make(chan struct{}), make(chan struct{}, row.streams)
			for range row.streams {
				streams.Go(func() {
					s, err := cc.NewStream(t.Context(), bothDesc, both)
					if err != nil {
						t.Error(err)
						return
					}
					out := new(wrapperspb.StringValue)
					if err := errors.Join(s.SendMsg(text("x")), s.RecvMsg(out)); err != nil || out.Value != "e" {
						t.Errorf("%q, %v", out.Value, err)
					}
					opened <- struct{}{}
					<-release
					_ = s.CloseSend()
					if err := s.RecvMsg(out); !errors.Is(err, io.EOF) {
						t.Error(err)
					}
				})
			}
			for range row.open {
				<-opened
			}
			if n := dials.Load(); n != row.dials {
				t.Errorf("%d connections for %d streams, want %d", n, row.open, row.dials)
			}
			close(release)
			streams.Wait()
			if now, _, failed := active(m); now != 0 || failed != 0 {
				t.Errorf("%d attempts under way, %d failed", now, failed)
			}
		})
	}
}

// TestFurtherConnectionsEnd: those that nobody needs any more go, and those that are lost are not made again.
func TestFurtherConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(64 << 10)
		counted := &countingListener{Listener: l}
		e := newEcho("e", grpc.MaxConcurrentStreams(1))
		go e.srv.Serve(counted)
		defer e.srv.Stop()
		m := newMesh(t, service("10.0.0.1:1"), mesh.WithDialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
			return l.DialContext(ctx)
		}))
		cc := dial(t, m, "echo:9080")
		use := func(n int) {
			t.Helper()
			var streams []grpc.ClientStream
			for range n {
				s, err := cc.NewStream(t.Context(), bothDesc, both)
				if err != nil {
					t.Fatal(err)
				}
				send(t, s, "x")
				if err := s.RecvMsg(text("")); err != nil {
					t.Fatal(err)
				}
				streams = append(streams, s)
			}
			for _, s := range streams {
				_ = s.CloseSend()
				if _, err := receive(s); !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		want := func(what string, nowOpen, made int64) {
			t.Helper()
			if open, n := counted.open.Load(), counted.n.Load(); open != nowOpen || n != made {
				t.Errorf("%s: %d connections are open of %d, want %d of %d", what, open, n, nowOpen, made)
			}
		}
		use(5)
		want("five streams", 5, 5)
		time.Sleep(59 * time.Second)
		use(2)
		want("two streams a minute later", 5, 5)
		time.Sleep(59 * time.Second)
		want("and another minute later", 2, 5)
		time.Sleep(2 * time.Second)
		want("in the end", 1, 5)
		use(3)
		want("three streams", 3, 7)
		cc.Close()
		m.Close()
	})
}
