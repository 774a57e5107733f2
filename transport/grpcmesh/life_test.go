package grpcmesh_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// TestNothingLeftBehind is not parallel: it looks at all goroutines there are.
func TestNothingLeftBehind(t *testing.T) {
	e := newEcho("e")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go e.srv.Serve(l)
	m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(service(l.Addr().String(), loopback.Dead(t)))), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		cc, err := grpc.NewClient(grpcmesh.Target("echo:9080"), grpcmesh.DialOptions(m)...)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			must(t, cc, who)
		}
		if _, err := cc.NewStream(t.Context(), bothDesc, both); err != nil {
			t.Fatal(err)
		}
		cc.Close()
	}
	until(t, "accounting at 0", func() bool { now, _, _ := active(m); return now == 0 })
	m.Close()
	e.srv.Stop()
	var stacks []byte
	gone := func() bool {
		stacks = make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return !bytes.Contains(stacks, []byte("google.golang.org/grpc")) && !bytes.Contains(stacks, []byte("grpcmesh.("))
	}
	defer func() {
		if t.Failed() {
			t.Logf("%s", stacks)
		}
	}()
	until(t, "goroutines end", gone)
}

// TestIdleChannel: a channel that has been idle is rebuilt from what the engine remembers.
func TestIdleChannel(t *testing.T) {
	t.Parallel()
	a, b := start(t, "a"), start(t, "b")
	m := newMesh(t, service(a.addr))
	cc, err := grpc.NewClient(grpcmesh.Target("echo:9080"),
		append(grpcmesh.DialOptions(m), grpc.WithIdleTimeout(10*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	for range 3 {
		if got := must(t, cc, who); got != "a" {
			t.Fatalf("got %q", got)
		}
		until(t, "the channel is idle", func() bool { return cc.GetState() == connectivity.Idle })
	}
	apply(t, m, service(b.addr))
	if got := must(t, cc, who); got != "b" {
		t.Errorf("got %q", got)
	}
}

// TestConnect: a program may want its channel connected before it calls.
func TestConnect(t *testing.T) {
	t.Parallel()
	cc := dial(t, newMesh(t, service(start(t, "a").addr)), "echo:9080")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for s := cc.GetState(); s != connectivity.Ready; s = cc.GetState() {
		cc.Connect()
		if !cc.WaitForStateChange(ctx, s) {
			t.Fatalf("still %v", s)
		}
	}
}

// TestServerRestarts: the connection is made again without a call noticing more than its endpoint being away.
func TestServerRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := newEcho("first")
		w := newWorld(t, "", now)
		defer w.ends()
		for range 3 {
			must(t, w.cc, who)
			now.srv.GracefulStop()
			next := newEcho("next")
			next.addr = now.addr
			w.start(next)
			if got := must(t, w.cc, who); got != "next" {
				t.Fatalf("got %q", got)
			}
			now = next
		}
	})
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Skip(err)
	}
	e := newEcho("unix")
	go e.srv.Serve(l)
	t.Cleanup(e.srv.Stop)
	config := `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: echo}
spec:
  hosts: [echo.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 9080, name: grpc, protocol: GRPC}]
  endpoints: [{address: "unix://` + path + `"}]
`
	if got := must(t, dial(t, newMesh(t, config), "echo:9080"), who); got != "unix" {
		t.Errorf("got %q", got)
	}
}

// countingListener counts the connections that come in, and those that are open.
type countingListener struct {
	net.Listener
	n, open atomic.Int64
}

type countedConn struct {
	net.Conn
	closed func()
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.n.Add(1)
	l.open.Add(1)
	return &countedConn{c, sync.OnceFunc(func() { l.open.Add(-1) })}, nil
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

func startCounted(t *testing.T) (l *countingListener, addr string) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = &countingListener{Listener: inner}
	e := newEcho("counted")
	go e.srv.Serve(l)
	t.Cleanup(e.srv.Stop)
	return l, inner.Addr().String()
}

// TestConnectionsAreKept: over changes of the configuration and of other endpoints; and no longer than that.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	stays, addr1 := startCounted(t)
	goes, addr2 := startCounted(t)
	one, two := service(addr1+" v1"), service(addr1+" v1", addr2+" v2")
	configs := []string{one + rules(toV1), two + rules(toV1), two + rules(toV2+toV1)}
	m := newMesh(t, configs[0])
	cc := dial(t, m, "echo:9080")
	for i := range 12 {
		must(t, cc, who)
		apply(t, m, configs[i%len(configs)])
	}
	must(t, cc, who)
	until(t, "one connection to v2 is open, and earlier ones are closed", func() bool { return goes.open.Load() == 1 })
	apply(t, m, one+rules(toV1))
	until(t, "the connection to v2 is closed", func() bool { return goes.open.Load() == 0 })
	must(t, cc, who)
	if n := stays.n.Load(); n != 1 {
		t.Errorf("%d connections were made to the endpoint that stayed", n)
	}
	m.Close()
	until(t, "the mesh's connections are closed", func() bool { return stays.open.Load() == 0 })
}

// TestFirstAddresses: a call to a service whose names are not resolved yet waits, within its own time.
func TestFirstAddresses(t *testing.T) {
	t.Parallel()
	e := start(t, "e")
	_, port, _ := net.SplitHostPort(e.addr)
	known := make(chan struct{})
	m := newMesh(t, serviceOf("DNS", "later.example:"+port), mesh.WithResolver(lookup(known)))
	cc := dial(t, m, "echo:9080")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := ask(ctx, cc, who)
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "first addresses") {
		t.Errorf("got %v", err)
	}
	close(known)
	if got := must(t, cc, who); got != "e" {
		t.Errorf("got %q", got)
	}
}

// A lookup finds every name on loopback, once its channel is closed.
type lookup chan struct{}

func (l lookup) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	select {
	case <-l:
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
