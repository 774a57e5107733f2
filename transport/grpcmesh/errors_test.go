package grpcmesh_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// detailsOf gives what a status says to programs: the reason, and whether it says when to come back.
func detailsOf(t *testing.T, err error) (reason, flag string, comesBack bool) {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.Domain != "heddle.dev" || len(d.Metadata) != 1 {
				t.Errorf("info %v", d)
			}
			reason, flag = d.Reason, d.Metadata["flag"]
		case *errdetails.RetryInfo:
			comesBack = d.RetryDelay.AsDuration() > 0
		default:
			t.Errorf("detail %v", d)
		}
	}
	return reason, flag, comesBack
}

// TestErrorDetails: an error of the mesh says in its status what mesh.ReasonOf says of it, through the program's own errors around it,
// and when to come back.
func TestErrorDetails(t *testing.T) {
	t.Parallel()
	e := start(t, "e")
	breaker := "\n---\napiVersion: heddle.dev/v1alpha1\nkind: ResiliencePolicy\nmetadata: {name: echo}\nspec: {hosts: [echo], circuitBreaker: {consecutiveFailures: 1, openFor: 1h}}\n"
	for name, row := range map[string]struct {
		config       string
		before       int // RPCs before it
		reason       mesh.Reason
		info, flag   string
		mayComeAgain bool
	}{
		"rate limit":      {service(e.addr) + limitOf("OUTBOUND", ""), 2, mesh.ReasonRateLimited, "RATE_LIMITED", "RL", true},
		"circuit breaker": {service(loopback.Dead(t)) + careful("attempts: 0") + breaker, 1, mesh.ReasonCircuitOpen, "CIRCUIT_OPEN", "UO", false},
		"no route":        {service(e.addr) + rules("  - {match: [{uri: {prefix: /no}}], route: [{destination: {host: echo}}]}\n"), 0, mesh.ReasonNoRoute, "NO_ROUTE", "NR", false},
		"no connection":   {service(loopback.Dead(t)) + careful("attempts: 0"), 0, mesh.ReasonConnect, "CONNECT", "UF", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cc := dial(t, newMesh(t, row.config), "echo:9080")
			for range row.before {
				_, _ = ask(t.Context(), cc, who)
			}
			_, unary := ask(t.Context(), cc, who)
			_, stream := cc.NewStream(t.Context(), bothDesc, both)
			for kind, err := range map[string]error{"unary": unary, "stream": stream, "wrapped": fmt.Errorf("load the page: %w", unary)} {
				info, flag, comesBack := detailsOf(t, err)
				if mesh.ReasonOf(err) != row.reason || info != row.info || flag != row.flag || comesBack != row.mayComeAgain {
					t.Errorf("%s: %v with %q, %q, %v", kind, err, info, flag, comesBack)
				}
			}
		})
	}
}

// TestServerDetails: callers of a server hear by the status why the mesh did not let them in, where that is a limit and for how long, and
// nothing of rules: of policies nothing at all. An error of the server's own RPC says of that as much as the server's caller may know.
func TestServerDetails(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		config    string
		code      codes.Code
		message   string
		info      string
		comesBack bool
	}{
		"rate limit":           {limitOf("INBOUND", ""), codes.Unavailable, "local_rate_limited", "RATE_LIMITED", true},
		"rate limit, its code": {limitOf("INBOUND", "rateLimitedAsResourceExhausted: true"), codes.ResourceExhausted, "local_rate_limited", "RATE_LIMITED", true},
		"policy":               {policyOf("deny", "{action: DENY, rules: [{}]}"), codes.PermissionDenied, "RBAC: access denied", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, "e", grpcmesh.ServerOptions(newMesh(t, row.config))...)
			cc := plain(t, e.addr)
			for range 2 {
				_, _ = ask(t.Context(), cc, who)
			}
			_, unary := ask(t.Context(), cc, who)
			s, stream := cc.NewStream(t.Context(), bothDesc, both)
			if stream == nil {
				stream = s.RecvMsg(nil)
			}
			for kind, err := range map[string]error{"unary": unary, "stream": stream} {
				info, _, comesBack := detailsOf(t, err)
				if status.Code(err) != row.code || info != row.info || comesBack != row.comesBack || mesh.ReasonOf(err) != mesh.ReasonNone {
					t.Errorf("%s: %v with %q, %v", kind, err, info, comesBack)
				}
				if told := fmt.Sprint(err, status.Convert(err).Details()); status.Convert(err).Message() != row.message || strings.Contains(told, "default") || strings.Contains(told, "deny") {
					t.Errorf("%s tells of rules: %s", kind, told)
				}
			}
		})
	}
	t.Run("an RPC of the server's", func(t *testing.T) {
		t.Parallel()
		m := newMesh(t, service(loopback.Dead(t))+careful("attempts: 0"))
		next := dial(t, m, "echo:9080")
		e := newEcho("middle", grpcmesh.ServerOptions(m)...)
		e.answer = func(ctx context.Context, _ string) (string, error) { return ask(ctx, next, who) }
		startAt(t, "127.0.0.1:0", e)
		_, err := ask(t.Context(), plain(t, e.addr), who)
		info, flag, _ := detailsOf(t, err)
		if status.Code(err) != codes.Unavailable || info != "CONNECT" || flag != "UF" || errors.Is(err, mesh.ReasonConnect) {
			t.Errorf("%v with %q, %q", err, info, flag)
		}
	})
}
