package grpcmesh_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// TestHealthCheck: an endpoint that says that it does not serve gets nothing while there are others, and who waits for ready waits for
// one that does.
func TestHealthCheck(t *testing.T) {
	t.Parallel()
	const serving, not = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	var echoes [2]*echo
	var says [2]*health.Server
	for i, name := range []string{"a", "b"} {
		echoes[i], says[i] = newEcho(name), health.NewServer()
		healthpb.RegisterHealthServer(echoes[i].srv, says[i])
		says[i].SetServingStatus("echo", serving)
		startAt(t, "127.0.0.1:0", echoes[i])
	}
	silent := start(t, "silent") // does not know the protocol
	m := newMesh(t, service(echoes[0].addr, echoes[1].addr, silent.addr)+careful("attempts: 0"))
	cc := dial(t, m, "echo:9080", grpcmesh.WithHealthCheck("echo"))
	answers := func() map[string]bool {
		got := make(map[string]bool)
		for range 12 {
			got[must(t, cc, who)] = true
		}
		return got
	}
	if got := answers(); len(got) != 3 {
		t.Errorf("while all serve %v answer", got)
	}
	says[0].SetServingStatus("echo", not)
	until(t, "the first is left out", func() bool { got := answers(); return !got["a"] && got["b"] && got["silent"] })
	says[0].SetServingStatus("echo", serving)
	until(t, "the first is back", func() bool { return answers()["a"] })

	apply(t, m, service(echoes[0].addr)+careful("attempts: 0"))
	says[0].SetServingStatus("echo", not)
	until(t, "nobody serves", func() bool {
		_, err := ask(t.Context(), cc, who)
		return status.Code(err) == codes.Unavailable
	})
	answered := make(chan error, 1)
	go func() {
		_, err := ask(t.Context(), cc, who, grpc.WaitForReady(true))
		answered <- err
	}()
	says[0].SetServingStatus("echo", serving)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if now, _, _ := active(m); now != 0 {
		t.Errorf("%d attempts under way", now)
	}
}
