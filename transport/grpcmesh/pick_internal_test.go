package grpcmesh

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/transport"
)

const twoEndpoints = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: echo}
spec:
  hosts: [echo.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  endpoints: [{address: 127.0.0.1}, {address: 127.0.0.2}]
`

// newRPC is an RPC to a host with two endpoints, and connections to them in the given status.
func newRPC(t *testing.T, info *transport.CallInfo, st status) (*rpc, *connSet) {
	t.Helper()
	return rpcTo(t, twoEndpoints, info, st)
}

// pickable is an RPC to a host with n endpoints that are connected.
func pickable(t testing.TB, n int) (*rpc, *connSet) {
	t.Helper()
	return rpcTo(t, manyEndpoints(0, n), nil, status{ready: true})
}

// manyEndpoints is the service with n endpoints.
func manyEndpoints(from, n int) string {
	var b strings.Builder
	b.WriteString(strings.Replace(twoEndpoints, " [{address: 127.0.0.1}, {address: 127.0.0.2}]", "", 1))
	for i := from; i < from+n; i++ {
		fmt.Fprintf(&b, "  - {address: 10.0.%d.%d}\n", i/256, i%256)
	}
	return b.String()
}

func rpcTo(t testing.TB, config string, info *transport.CallInfo, st status) (*rpc, *connSet) {
	t.Helper()
	m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(config)), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	cc, err := grpc.NewClient(Target("echo"), DialOptions(m)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	d := newDriver(m.Engine(), options{})
	ctx := t.Context()
	if info != nil {
		ctx = transport.Capture(ctx, info)
	}
	r, err := d.begin(ctx, "/s/m", cc, nil)
	if err != nil {
		t.Fatal(err)
	}
	conns := &connSet{byID: make(map[balance.ID]*conn)}
	for _, c := range m.Engine().Reach(snapshot.Mesh, "echo", 80).Clusters {
		for _, e := range c.Endpoints {
			conns.byID[e.ID()] = &conn{of: new(connector)}
			conns.byID[e.ID()].status.Store(&st)
			conns.byID[e.ID()].streams.Store(unlimited)
		}
	}
	return r, conns
}

// TestLostConnectionIsNoAttempt: grpc-go may find the picked connection gone, and picks again.
func TestLostConnectionIsNoAttempt(t *testing.T) {
	t.Parallel()
	var info transport.CallInfo
	r, conns := newRPC(t, &info, status{ready: true})
	for range 3 {
		p, err := r.pick(conns)
		if err != nil {
			t.Fatal(err)
		}
		p.Done(balancer.DoneInfo{})
	}
	p, err := r.pick(conns)
	if err != nil {
		t.Fatal(err)
	}
	p.Done(balancer.DoneInfo{BytesSent: true, BytesReceived: true})
	r.call.End(nil)
	if info.Attempts != 1 || len(info.Tried) != 1 {
		t.Errorf("%+v, want one attempt", &info)
	}
	var total uint64
	for _, e := range r.driver.engine.Clusters()[0].Endpoints {
		total += e.Counts.Total
		if e.Counts.Active != 0 {
			t.Errorf("%s: %d under way", e.Address, e.Counts.Active)
		}
	}
	if total != 1 {
		t.Errorf("%d attempts counted", total)
	}
}

// TestSettleForgets: the cause of one attempt is not that of the next.
func TestSettleForgets(t *testing.T) {
	t.Parallel()
	r, conns := newRPC(t, nil, status{ready: true})
	if _, err := r.pick(conns); err != nil {
		t.Fatal(err)
	}
	r.failed(errors.New("refused"))
	again, err := r.settle(grpcstatus.Error(codes.Unavailable, "x"))
	if !again || err != nil || r.cause != nil || !r.last.Neutral() {
		t.Errorf("%v, %v; left over: %v, %+v", again, err, r.cause, r.last)
	}
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	unavailable := grpcstatus.Error(codes.Unavailable, "x")
	head := map[string][]string{"content-type": {"application/grpc"}}
	limited := map[string][]string{"content-type": {"application/grpc"}, "x-envoy-ratelimited": {"true"}}
	rows := []struct {
		name string
		info balancer.DoneInfo
		gone bool
		want call.Outcome
	}{
		{"answer", balancer.DoneInfo{BytesSent: true, BytesReceived: true}, false, call.Outcome{Status: 200}},
		{"trailers only", balancer.DoneInfo{Err: unavailable, BytesSent: true, BytesReceived: true, Trailer: head}, false, call.Outcome{Status: 200, GRPCStatus: 15}},
		{"rate limited", balancer.DoneInfo{Err: unavailable, BytesSent: true, BytesReceived: true, Trailer: limited}, false, call.Outcome{Status: 200, GRPCStatus: 15, RateLimited: true}},
		{"code that is none", balancer.DoneInfo{Err: grpcstatus.Error(1000, "x"), BytesSent: true, BytesReceived: true, Trailer: head}, false, call.Outcome{Status: 200, GRPCStatus: 101}},
		{"status after an answer", balancer.DoneInfo{Err: grpcstatus.Error(codes.Internal, "x"), BytesSent: true, BytesReceived: true}, false, call.Outcome{Status: 200}},
		{"broken off", balancer.DoneInfo{Err: unavailable, BytesSent: true}, false, call.Outcome{Reason: call.ReasonReset}},
		{"status after a message", balancer.DoneInfo{Err: unavailable, BytesSent: true, BytesReceived: true}, false, call.Outcome{Status: 503}},
		{"refused", balancer.DoneInfo{Err: errRefused, BytesSent: true}, false, call.Outcome{Reason: call.ReasonRefused, Unprocessed: true}},
		{"drained", balancer.DoneInfo{Err: grpcstatus.Error(codes.Unavailable, "the connection is draining"), BytesSent: true}, false, call.Outcome{Reason: call.ReasonRefused, Unprocessed: true}},
		{"refused, in the words of a server that has begun", balancer.DoneInfo{Err: errRefused, BytesSent: true, BytesReceived: true}, false, call.Outcome{Status: 503}},
		{"broken off half-way", balancer.DoneInfo{Err: grpcstatus.Error(codes.Unavailable, "error reading from server: EOF"), BytesSent: true, BytesReceived: true}, false, call.Outcome{Reason: call.ReasonReset}},
		{"never sent", balancer.DoneInfo{Err: unavailable}, false, call.Outcome{}},
		{"not encodable", balancer.DoneInfo{Err: grpcstatus.Error(codes.Internal, "x"), BytesSent: true}, false, call.Outcome{}},
		{"caller gone", balancer.DoneInfo{Err: unavailable, BytesSent: true}, true, call.Outcome{Reason: call.ReasonCanceled}},
		{"answered all the same", balancer.DoneInfo{BytesSent: true, BytesReceived: true}, true, call.Outcome{Status: 200}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := outcome(row.info, row.gone); got != row.want {
				t.Errorf("%+v, want %+v", got, row.want)
			}
		})
	}
}

func TestParseTarget(t *testing.T) {
	t.Parallel()
	rows := []struct {
		in   string
		want target
		bad  bool
	}{
		{in: Target("ratings:9080"), want: target{"ratings:9080", "ratings", 9080}},
		{in: Target("Ratings."), want: target{"Ratings.", "ratings", 80}},
		{in: Target("[::1]:81"), want: target{"[::1]:81", "::1", 81}},
		{in: "mesh:///%5B::1%5D:81", want: target{"[::1]:81", "::1", 81}},
		{in: "mesh:///ratings%3A9080", want: target{"ratings:9080", "ratings", 9080}},
		{in: "MESH:///ratings", want: target{"ratings", "ratings", 80}},
		{in: "mesh://ratings:9080", bad: true},
		{in: "dns:///ratings:9080", bad: true},
		{in: "ratings:9080", bad: true},
		{in: Target(""), bad: true},
		{in: Target("a b"), bad: true},
		{in: Target("ratings:0"), bad: true},
		{in: Target("user@ratings"), bad: true},
	}
	for _, row := range rows {
		got, err := parseTarget(row.in)
		if got != row.want || (err != nil) != row.bad {
			t.Errorf("%s: %+v, %v", row.in, got, err)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{Target("ratings:9080"), "mesh:///%5B::1%5D:81", "MESH:///a", "mesh://a/b", "mesh:///a?b", "dns:///a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseTarget(s)
		if err != nil {
			return
		}
		if host, port, err := call.SplitAuthority(got.authority); err != nil || host != got.host || port != 0 && port != got.port || got.port == 0 {
			t.Errorf("%q gives %+v", s, got)
		}
	})
}
