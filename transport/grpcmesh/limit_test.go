package grpcmesh_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// limitOf is the YAML of a rate limit, of 2 RPCs a day unless spec says otherwise.
func limitOf(direction, more string) string {
	if direction == "OUTBOUND" {
		more += "\n  hosts: [echo]"
	}
	return fmt.Sprintf(`
---
apiVersion: heddle.dev/v1alpha1
kind: RateLimit
metadata: {name: echo}
spec:
  direction: %s
  limits: [{name: all, match: [{uri: {prefix: /test.Echo/}, headers: {content-type: {exact: application/grpc}}}], by: [{header: user}], requests: 2, unit: DAY, maxKeys: 10}]
  %s
`, direction, more)
}

// TestServerLimits: RPCs and streams that are one too many never reach the program; the caller is told by status and
// metadata, and its mesh does not ask again.
func TestServerLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, more string
		want       codes.Code
	}{
		{"Envoy's default", "", codes.Unavailable},
		{"exhausted", "rateLimitedAsResourceExhausted: true", codes.ResourceExhausted},
		{"with headers", "rateLimitHeaders: true", codes.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			own := newMesh(t, limitOf("INBOUND", c.more))
			e := start(t, "one", grpcmesh.ServerOptions(own)...)
			cc := dial(t, newMesh(t, service(e.addr)), "echo:9080")
			as := func(user string) context.Context { return metadata.AppendToOutgoingContext(t.Context(), "user", user) }
			var header metadata.MD
			for i, left := range []string{"1", "0"} {
				if _, err := ask(as("lisa"), cc, who, grpc.Header(&header)); err != nil {
					t.Fatal(err)
				}
				if got := header["x-ratelimit-remaining"]; (len(got) == 1 && got[0] == left) != (c.more == "rateLimitHeaders: true") {
					t.Errorf("RPC %d: %v", i, header)
				}
			}
			ctx, info := capture(as("lisa"))
			var trailer metadata.MD
			_, err := ask(ctx, cc, who, grpc.Trailer(&trailer))
			if status.Code(err) != c.want || !strings.Contains(err.Error(), "local_rate_limited") || info.Attempts != 1 ||
				len(trailer["x-envoy-ratelimited"]) != 1 || len(trailer["retry-after"]) != 1 {
				t.Errorf("one too many: %v after %d attempts, %v", err, info.Attempts, trailer)
			}
			s, err := cc.NewStream(as("lisa"), bothDesc, both)
			if err == nil {
				err = s.RecvMsg(nil)
			}
			if status.Code(err) != c.want {
				t.Errorf("a stream too many: %v", err)
			}
			if _, err := ask(as("bart"), cc, who); err != nil {
				t.Errorf("somebody else: %v", err)
			}
			if got := e.calls.Load(); got != 3 {
				t.Errorf("the program was asked %d times", got)
			}
		})
	}
}

// TestClientLimits: RPCs that a workload makes too many never leave it, streams too, and a caller that waits for ready does
// not wait for it.
func TestClientLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, more string
		want       codes.Code
	}{{"Envoy's default", "", codes.Unavailable}, {"exhausted", "rateLimitedAsResourceExhausted: true", codes.ResourceExhausted}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := start(t, "one")
			cc := dial(t, newMesh(t, service(e.addr)+limitOf("OUTBOUND", c.more)), "echo:9080")
			must(t, cc, who)
			must(t, cc, who)
			_, err := ask(t.Context(), cc, who, grpc.WaitForReady(true))
			if status.Code(err) != c.want || !errors.Is(err, call.ReasonRateLimited) {
				t.Errorf("one too many: %v", err)
			}
			if _, err := cc.NewStream(t.Context(), bothDesc, both); status.Code(err) != c.want || !errors.Is(err, call.ReasonRateLimited) {
				t.Errorf("a stream too many: %v", err)
			}
			if got := e.calls.Load(); got != 2 {
				t.Errorf("the endpoint was asked %d times", got)
			}
		})
	}
}

// TestClientBreaker: failing RPCs open the breaker of the service, and whoever waits for ready is told so at once.
func TestClientBreaker(t *testing.T) {
	t.Parallel()
	e := newEcho("one")
	e.answer = func(context.Context, string) (string, error) { return "", status.Error(codes.Internal, "broken") }
	startAt(t, "127.0.0.1:0", e)
	cc := dial(t, newMesh(t, service(e.addr)+`
---
apiVersion: heddle.dev/v1alpha1
kind: ResiliencePolicy
metadata: {name: echo}
spec: {hosts: [echo], circuitBreaker: {consecutiveFailures: 3, openFor: 1h}}
`), "echo:9080")
	for i := range 5 {
		_, err := ask(t.Context(), cc, who, grpc.WaitForReady(true))
		if open := errors.Is(err, call.ReasonCircuitOpen); open != (i >= 3) || err == nil {
			t.Errorf("RPC %d: %v", i, err)
		}
		if i >= 3 && status.Code(err) != codes.Unavailable {
			t.Errorf("RPC %d: code %v", i, status.Code(err))
		}
	}
	if got := e.calls.Load(); got != 3 {
		t.Errorf("the endpoint was asked %d times", got)
	}
}
