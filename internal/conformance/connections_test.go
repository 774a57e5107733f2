package conformance

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
)

// TestConnectionMetrics: connections to endpoints are in Envoy's metrics of clusters, whoever makes them: what was made, is open, has
// ended, and could not be made.
func TestConnectionMetrics(t *testing.T) {
	t.Parallel()
	const host, cluster = "reviews.default.svc.cluster.local", "outbound|80||reviews.default.svc.cluster.local"
	w := new(onlooker)
	read := func(m *mesh.Mesh, name string) float64 {
		for _, f := range m.Metrics().Gather() {
			for _, s := range f.Samples {
				if f.Name == "envoy_cluster_upstream_cx_"+name && s.Labels[0].Value == cluster {
					return s.Value
				}
			}
		}
		return -1
	}
	for called, ask := range w.calling() {
		for _, protocol := range []string{"HTTP", "HTTP2"} {
			rpc := strings.HasPrefix(called, "gRPC")
			if rpc && protocol == "HTTP" {
				continue
			}
			t.Run(called+" by "+protocol, func(t *testing.T) {
				t.Parallel()
				served := "Serve"
				if rpc {
					served = "gRPC"
				}
				var broken atomic.Bool
				m := inboundMesh(t, serviceAt("reviews", protocol, w.serving()[served](t, inboundMesh(t, ""))), mesh.WithDialer(
					func(ctx context.Context, network, address string) (net.Conn, error) {
						if broken.Load() {
							return nil, errors.New("refused")
						}
						return new(net.Dialer).DialContext(ctx, network, address)
					}))
				ask(t, m, host)
				if total, active, failed := read(m, "total"), read(m, "active"), read(m, "connect_fail"); total != 1 || active+read(m, "destroy") != 1 || failed != 0 {
					t.Errorf("total %v, active %v, failed %v", total, active, failed)
				}
				if called == "RoundTripper" {
					m.Client().CloseIdleConnections()
					for late := time.Now().Add(recordedPatience); read(m, "active") != 0 && time.Now().Before(late); {
						time.Sleep(time.Millisecond)
					}
					if active, ended := read(m, "active"), read(m, "destroy"); active != 0 || ended != 1 {
						t.Errorf("afterwards active %v, ended %v", active, ended)
					}
					broken.Store(true)
					if resp, err := m.Client().Get("http://" + host); err == nil { //nolint:noctx // it fails
						resp.Body.Close()
						t.Error("it is reached")
					}
					if total, failed := read(m, "total"), read(m, "connect_fail"); failed < 1 || total != failed+1 {
						t.Errorf("total %v, failed %v", total, failed)
					}
				}
			})
		}
	}
}
