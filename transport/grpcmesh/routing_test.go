package grpcmesh_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

func TestRoutesByMethod(t *testing.T) {
	t.Parallel()
	v1, v2 := start(t, "v1"), start(t, "v2")
	m := newMesh(t, service(v1.addr+" v1", v2.addr+" v2")+rules(`
  - match: [{uri: {exact: /test.Echo/Other}}]
    route: [{destination: {host: echo, subset: v2}}]
`+toV1))
	cc := dial(t, m, "echo:9080")
	for range 20 {
		if got := must(t, cc, who); got != "v1" {
			t.Fatalf("%s went to %s", who, got)
		}
		if got := must(t, cc, other); got != "v2" {
			t.Fatalf("%s went to %s", other, got)
		}
	}
}

func TestRoutesByMetadata(t *testing.T) {
	t.Parallel()
	v1, v2 := start(t, "v1"), start(t, "v2")
	m := newMesh(t, service(v1.addr+" v1", v2.addr+" v2")+rules(`
  - match: [{headers: {end-user: {exact: jason}}}, {headers: {trace-bin: {exact: AAEC}}}]
    route: [{destination: {host: echo, subset: v2}}]
  - match: [{headers: {content-type: {prefix: application/grpc}}, method: {exact: POST}, authority: {exact: "echo:9080"}}]
    route: [{destination: {host: echo, subset: v1}}]
`))
	cc := dial(t, m, "echo:9080")
	for range 10 {
		if got := must(t, cc, who); got != "v1" {
			t.Fatalf("without metadata: %s", got)
		}
		if got := must(t, cc, who, "End-User", "jason"); got != "v2" {
			t.Fatalf("end-user jason: %s", got)
		}
		if got := must(t, cc, who, "trace-bin", "\x00\x01\x02"); got != "v2" {
			t.Fatalf("binary metadata: %s", got)
		}
		if got := must(t, cc, who, "end-user", "james"); got != "v1" {
			t.Fatalf("end-user james: %s", got)
		}
	}
	if _, err := ask(t.Context(), cc, who, grpc.CallAuthority("else:9080")); status.Code(err) != codes.Unimplemented {
		t.Errorf("no rule for the authority: %v", err)
	}
}

func TestWeights(t *testing.T) {
	t.Parallel()
	v1, v2 := start(t, "v1"), start(t, "v2")
	m := newMesh(t, service(v1.addr+" v1", v2.addr+" v2")+rules(`
  - route:
    - {destination: {host: echo, subset: v1}, weight: 80}
    - {destination: {host: echo, subset: v2}, weight: 20}
`))
	cc := dial(t, m, "echo:9080")
	count := make(map[string]int)
	for range 2000 {
		count[must(t, cc, who)]++
	}
	if n := count["v2"]; n < 300 || n > 500 {
		t.Errorf("%d of 2000 calls went to v2, whose share is 20 %%", n)
	}
}

func TestBalances(t *testing.T) {
	t.Parallel()
	a, b, c := start(t, "a"), start(t, "b"), start(t, "c")
	m := newMesh(t, service(a.addr, b.addr, c.addr))
	cc := dial(t, m, "echo.default.svc.cluster.local:9080")
	for range 300 {
		must(t, cc, who)
	}
	for _, e := range []*echo{a, b, c} {
		if n := e.calls.Load(); n != 100 {
			t.Errorf("%s got %d of 300 calls: round robin was asked for", e.name, n)
		}
	}
	if now, total, failed := active(m); now != 0 || total != 300 || failed != 0 {
		t.Errorf("active %d, total %d, failed %d", now, total, failed)
	}
}

// TestRejections: what the mesh answers itself, by reason, flag and gRPC code.
func TestRejections(t *testing.T) {
	t.Parallel()
	v1 := start(t, "v1")
	noRoute := service(v1.addr+" v1") + rules("  - match: [{uri: {prefix: /none}}]\n    route: [{destination: {host: echo}}]\n")
	rows := []struct {
		name, config, host, method string
		reason                     call.Reason
		code                       codes.Code
	}{
		{"no route", noRoute, "echo:9080", who, call.ReasonNoRoute, codes.Unimplemented},
		{"missing subset", service(v1.addr+" v1") + rules("  - {route: [{destination: {host: echo, subset: v9}}]}\n"), "echo:9080", who, call.ReasonNoCluster, codes.Unavailable},
		{"empty subset", service(v1.addr+" v1") + rules(toV2), "echo:9080", who, call.ReasonNoEndpoint, codes.Unavailable},
		{"no endpoint", service(), "echo:9080", who, call.ReasonNoEndpoint, codes.Unavailable},
		{"unsafe path", service(v1.addr), "echo:9080", "/test.Echo/../Who", call.ReasonInvalidRequest, codes.Internal},
		{"no host", service(v1.addr), "e cho:9080", who, call.ReasonInvalidRequest, codes.Internal},
		{"unknown host", service(v1.addr), "elsewhere:9080", who, call.ReasonConnect, codes.Unavailable},
		{"unknown port", service(v1.addr), "echo:81", who, call.ReasonConnect, codes.Unavailable},
		{"port 80", service(v1.addr), "echo", who, call.ReasonConnect, codes.Unavailable},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t, row.config)
			cc := dial(t, m, row.host)
			ctx, info := capture(t.Context())
			_, unary := ask(ctx, cc, row.method)
			_, stream := cc.NewStream(t.Context(), bothDesc, row.method)
			for kind, err := range map[string]error{"unary": unary, "stream": stream} {
				var e *call.Error
				if !errors.Is(err, row.reason) || !errors.As(err, &e) || e.Flag() != row.reason.Flag() {
					t.Errorf("%s: %v, want %v", kind, err, row.reason)
				}
				s, ok := status.FromError(err)
				if !ok || s.Code() != row.code || s.Message() != err.Error() {
					t.Errorf("%s: status %v, want code %v", kind, s, row.code)
				}
			}
			if row.name != "no host" && info.Reason != row.reason || info.Attempts != 0 {
				t.Errorf("info %+v", info)
			}
			if now, total, _ := active(m); now != 0 || total != 0 {
				t.Errorf("active %d, total %d", now, total)
			}
		})
	}
	t.Run("closed mesh", func(t *testing.T) {
		t.Parallel()
		m := newMesh(t, service(v1.addr))
		cc := dial(t, m, "echo:9080")
		must(t, cc, who)
		m.Close()
		if _, err := ask(t.Context(), cc, who); !errors.Is(err, call.ReasonClosed) || status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
	})
}

func TestUnknownPortSaysWhichAreKnown(t *testing.T) {
	t.Parallel()
	m := newMesh(t, service(loopback.Dead(t)))
	_, err := ask(t.Context(), dial(t, m, "echo:81"), who)
	if err == nil || !strings.Contains(err.Error(), "9080") || !strings.Contains(err.Error(), "WithCredentials") {
		t.Errorf("got %v", err)
	}
}

func TestCaptureTellsOfTheCall(t *testing.T) {
	t.Parallel()
	v2 := start(t, "v2")
	m := newMesh(t, service(v2.addr+" v2")+rules("  - name: all\n    route: [{destination: {host: echo, subset: v2}}]\n"))
	cc := dial(t, m, "echo:9080")
	ctx, info := capture(t.Context())
	if _, err := ask(ctx, cc, who); err != nil {
		t.Fatal(err)
	}
	if info.Host != "echo:9080" || info.Route != "all" || info.Endpoint != v2.addr || info.Attempts != 1 ||
		info.Cluster != "outbound|9080|v2|echo.default.svc.cluster.local" || info.Reason != call.ReasonNone || info.Duration <= 0 {
		t.Errorf("got %+v", info)
	}
}

func TestTwoMeshes(t *testing.T) {
	t.Parallel()
	a, b := start(t, "a"), start(t, "b")
	ca := dial(t, newMesh(t, service(a.addr)), "echo:9080")
	cb := dial(t, newMesh(t, service(b.addr)), "echo:9080")
	for range 50 {
		if got := must(t, ca, who); got != "a" {
			t.Fatalf("the first mesh called %s", got)
		}
		if got := must(t, cb, who); got != "b" {
			t.Fatalf("the second mesh called %s", got)
		}
	}
}

func TestForeignTargetIsRefused(t *testing.T) {
	t.Parallel()
	m := newMesh(t, service())
	for _, target := range []string{"passthrough:///127.0.0.1:1", "mesh://authority/echo:9080"} {
		cc, err := grpc.NewClient(target, grpcmesh.DialOptions(m)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cc.Close() })
		if _, err := ask(t.Context(), cc, who); err == nil || !strings.Contains(err.Error(), "grpcmesh.Target") {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// TestOwnInterceptorsStay: the program's options come first and keep working.
func TestOwnInterceptorsStay(t *testing.T) {
	t.Parallel()
	v1, v2 := start(t, "v1"), start(t, "v2")
	m := newMesh(t, service(v1.addr+" v1", v2.addr+" v2")+rules("  - match: [{headers: {from: {exact: me}}}]\n    route: [{destination: {host: echo, subset: v2}}]\n"+toV1))
	mine := grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return invoke(metadata.AppendToOutgoingContext(ctx, "from", "me"), method, req, reply, cc, opts...)
	})
	pickFirst := grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"pick_first":{}}]}`)
	for name, opts := range map[string][]grpc.DialOption{
		"before":   append([]grpc.DialOption{mine, pickFirst}, grpcmesh.DialOptions(m)...),
		"after":    append(grpcmesh.DialOptions(m), pickFirst, mine),
		"disabled": append([]grpc.DialOption{mine, grpc.WithDisableServiceConfig()}, grpcmesh.DialOptions(m)...),
	} {
		cc, err := grpc.NewClient(grpcmesh.Target("echo:9080"), opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cc.Close() })
		want := "v2"
		if name == "after" {
			want = "v1" // the rule was asked before the interceptor ran
		}
		ctx, info := capture(t.Context())
		if got, err := ask(ctx, cc, who); err != nil || got != want || info.Attempts != 1 {
			t.Errorf("%s: %s answered, want %s; %v, %d attempts of the mesh's", name, got, want, err, info.Attempts)
		}
	}
}
