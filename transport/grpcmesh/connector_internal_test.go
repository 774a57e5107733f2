package grpcmesh

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/transport"
)

// A heard is a channel that only hears what its resolver says.
type heard struct {
	resolver.ClientConn
	mu  sync.Mutex
	now []string      // the clusters of the endpoints
	one chan struct{} // closed at the first
	all []resolver.Endpoint

	until chan struct{} // see settled
	of    int
}

func (h *heard) ParseServiceConfig(string) *serviceconfig.ParseResult { return nil }

func (h *heard) UpdateState(s resolver.State) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now, h.all = nil, s.Endpoints
	for _, e := range s.Endpoints {
		h.now = append(h.now, memberOf(e.Addresses[0].Attributes).cluster)
	}
	select {
	case <-h.one:
	default:
		close(h.one)
	}
	if h.until != nil && len(h.all) == h.of {
		close(h.until)
		h.until = nil
	}
	return nil
}

// settled is closed when the channel has heard of so many endpoints.
func (h *heard) settled(n int) <-chan struct{} {
	done := make(chan struct{})
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) == n {
		close(done)
	} else {
		h.until, h.of = done, n
	}
	return done
}

func (h *heard) knows(cluster string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.now, cluster)
}

func listen(t testing.TB, m *mesh.Mesh) *heard {
	t.Helper()
	h := &heard{one: make(chan struct{})}
	to := resolver.Target{}
	to.URL.Scheme, to.URL.Path = scheme, "/echo"
	r, err := newDriver(m.Engine(), options{}).Build(to, h, resolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	<-h.one
	return h
}

const subset = `---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo}
spec: {host: echo, subsets: [{name: v1}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec: {hosts: [echo], http: [{route: [{destination: {host: echo, subset: v1}}]}]}
`

// TestConnectionsComeFirst: a channel has what a new rule leads to before a call can see the rule, and what an old one led to for as
// long.
func TestConnectionsComeFirst(t *testing.T) {
	t.Parallel()
	m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(twoEndpoints)), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	h := listen(t, m)
	const whole, part = "outbound|80||echo.default.svc.cluster.local", "outbound|80|v1|echo.default.svc.cluster.local"
	for range 50 {
		for i, config := range []string{twoEndpoints + subset, twoEndpoints} {
			seen := 0
			old, next := [...]string{whole, part}[i], [...]string{part, whole}[i]
			before := m.Engine().Snapshot()
			stop := m.Engine().OnPublish(func(transport.Ahead) func() {
				if seen++; m.Engine().Snapshot() != before || !h.knows(old) || !h.knows(next) {
					t.Errorf("before %s is live the channel knows %v", next, h.now)
				}
				return func() {
					if seen++; !h.knows(next) {
						t.Errorf("when %s is live the channel knows %v", next, h.now)
					}
				}
			})
			if err := m.Apply(t.Context(), []byte(config)); err != nil {
				t.Fatal(err)
			}
			stop()
			if seen != 2 {
				t.Errorf("told %d times", seen)
			}
		}
	}
}

// A channel is the grpc-go side of a balancer, which only counts.
type channel struct {
	balancer.ClientConn
	made, gone int
}

type subConn struct {
	balancer.SubConn
	of *channel
}

func (c *channel) NewSubConn([]resolver.Address, balancer.NewSubConnOptions) (balancer.SubConn, error) {
	c.made++
	return subConn{of: c}, nil
}
func (c *channel) UpdateState(balancer.State) {}
func (s subConn) Connect()                    {}
func (s subConn) Shutdown()                   { s.of.gone++ }

// TestUnaffectedConnectionsStay: an update of endpoints makes and ends connections only to those that have come and gone.
func TestUnaffectedConnectionsStay(t *testing.T) {
	t.Parallel()
	const n = 2000
	m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(manyEndpoints(0, n))), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	h, c := listen(t, m), new(channel)
	b := builder{}.Build(c, balancer.BuildOptions{}).(*connector)
	update := func() {
		t.Helper()
		h.mu.Lock()
		defer h.mu.Unlock()
		if err := b.UpdateClientConnState(balancer.ClientConnState{ResolverState: resolver.State{Endpoints: h.all}}); err != nil {
			t.Fatal(err)
		}
	}
	update()
	before := b.conns
	if c.made != n || c.gone != 0 {
		t.Fatalf("%d connections were made, %d ended", c.made, c.gone)
	}
	if err := m.Apply(t.Context(), []byte(manyEndpoints(3, n))); err != nil {
		t.Fatal(err)
	}
	update() // at some moment with all of them
	<-h.settled(n)
	update()
	if c.made != n+3 || c.gone != 3 {
		t.Errorf("%d connections were made and %d ended, for 3 endpoints of %d", c.made-n, c.gone, n)
	}
	same := 0
	for id, conn := range b.conns.byID {
		if before.byID[id] == conn {
			same++
		}
	}
	if same != n-3 {
		t.Errorf("%d connections are the same, want %d", same, n-3)
	}
}

// FuzzSettings: what an endpoint says of streams is heard however its bytes come in parts.
func FuzzSettings(f *testing.F) {
	f.Add([]byte("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"), uint8(1))
	f.Add([]byte("\x00\x00\x03\x00\x00\x00\x00\x00\x01abc\x00\x00\x0c\x04\x00\x00\x00\x00\x00\x00\x01\x00\x00\x10\x00\x00\x03\x00\x00\x00\x07"), uint8(4))
	f.Add([]byte("\x00\x00\x00\x04\x01\x00\x00\x00\x00"), uint8(9))
	f.Fuzz(func(t *testing.T, wire []byte, part uint8) {
		read := func(size int) (said []uint32) {
			a, b := net.Pipe()
			defer a.Close()
			go func() {
				_, _ = b.Write(wire)
				b.Close()
			}()
			c := &settingsConn{Conn: a, heard: func(n uint32) { said = append(said, n) }}
			var got bytes.Buffer
			if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{c}, make([]byte, size)); err != nil || !bytes.Equal(got.Bytes(), wire) {
				t.Errorf("%q, %v", got.Bytes(), err)
			}
			return said
		}
		if whole, parts := read(1<<16), read(int(part)+1); !slices.Equal(whole, parts) {
			t.Errorf("%d in one, %d in parts", whole, parts)
		}
	})
}

// TestSettings: the last word counts, and only that of settings.
func TestSettings(t *testing.T) {
	t.Parallel()
	var said []uint32
	c := &settingsConn{heard: func(n uint32) { said = append(said, n) }}
	c.watch([]byte("\x00\x00\x06\x00\x00\x00\x00\x00\x01\x00\x03\x00\x00\x00\x01" + // data
		"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64" + "\x00\x00\x00\x04\x01\x00\x00\x00\x00" +
		"\x00\x00\x0c\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x09\x00\x03\x00\x00\x00\x02"))
	if !slices.Equal(said, []uint32{100, 2}) {
		t.Errorf("heard %d", said)
	}
}

// BenchmarkPick chooses among 10,000 endpoints, all connected.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r, conns := pickable(b, n)
			b.ReportAllocs()
			for b.Loop() {
				p, err := r.pick(conns)
				if err != nil {
					b.Fatal(err)
				}
				p.Done(balancer.DoneInfo{BytesSent: true, BytesReceived: true})
			}
		})
	}
}

// BenchmarkAdded is what the mesh adds to a unary RPC, without the RPC: rules with conditions on path and metadata, retries, LEAST_REQUEST,
// ejection, the books. What grpc-go does in between is a pick and its Done.
func BenchmarkAdded(b *testing.B) {
	for _, n := range []int{3, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r, conns := rpcTo(b, manyEndpoints(0, n)+featured, nil, status{ready: true})
			invoke := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
				p, err := (&picker{conns}).Pick(balancer.PickInfo{Ctx: ctx})
				if err == nil {
					p.Done(balancer.DoneInfo{BytesSent: true, BytesReceived: true})
				}
				return err
			}
			for name, ctx := range map[string]context.Context{
				"plain":    b.Context(),
				"metadata": metadata.AppendToOutgoingContext(b.Context(), "end-user", "lisa", "x-canary", "false"), // which the rules look at
			} {
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if err := r.driver.unary(ctx, "/s/m", nil, nil, r.cc, invoke); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}

const featured = `---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec:
  hosts: [echo]
  http:
  - match: [{uri: {prefix: /admin}, headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: echo}}]
  - match: [{uri: {prefix: /s.v2.}}, {headers: {x-canary: {exact: "true"}}}]
    route: [{destination: {host: echo}}]
  - retries: {attempts: 2, retryOn: "connect-failure,refused-stream,unavailable"}
    route: [{destination: {host: echo}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo}
spec:
  host: echo
  trafficPolicy:
    loadBalancer: {simple: LEAST_REQUEST}
    outlierDetection: {consecutive5xxErrors: 5, interval: 10s, baseEjectionTime: 30s}
`
