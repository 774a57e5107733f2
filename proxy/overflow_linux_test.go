package proxy_test

import (
	"io"
	"net"
	"regexp"
	"testing"

	"github.com/heddlemesh/mesh"
)

// clusterMetric gives the value of one of Envoy's metrics of a cluster.
func clusterMetric(m *mesh.Mesh, name, cluster string) float64 {
	for _, f := range m.Metrics().Gather() {
		if f.Name != "envoy_cluster_"+name {
			continue
		}
		for _, s := range f.Samples {
			for _, l := range s.Labels {
				if l.Name == "cluster_name" && l.Value == cluster {
					return s.Value
				}
			}
		}
	}
	return -1
}

// TestConnectionOverflow: connections that are not HTTP are bounded by maxConnections of their cluster, whichever endpoint they are to.
func TestConnectionOverflow(t *testing.T) {
	t.Parallel()
	const cluster = "outbound|3306||db.example.com"
	w := &written{more: make(chan struct{}, 1)}
	config := logEverything + entry("db.example.com", "10.1.1.1", "TCP", 3306, speaking(t, "db")) + entry("more.example.com", "10.1.1.2", "TCP", 3306, speaking(t, "more")) + `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db}
spec: {host: db.example.com, trafficPolicy: {connectionPool: {tcp: {maxConnections: 2}}}}
`
	r, kernel, out, _ := capturing(t, config, nil, mesh.WithAccessLogStream("/dev/stdout", w))
	hello := func(to string) *net.TCPConn {
		t.Helper()
		c := kernel.dial(t, out, to)
		if _, err := io.ReadFull(c, make([]byte, len("db\n"))); err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := hello("10.1.1.1:3306")
	hello("10.1.1.1:3306")
	if got := greeting(kernel.dial(t, out, "10.1.1.1:3306")); got != "reset" {
		t.Errorf("the third: %q", got)
	}
	if line, want := w.lines(t, 1)[0], ` 0 UO - - "-" 0 0 \d+ - "-" "-" "-" "-" "-" outbound\|3306\|\|db\.example\.com - 10\.1\.1\.1:3306 `; !regexp.MustCompile(want).MatchString(line) {
		t.Errorf("the line is\n%s, want\n%s", line, want)
	}
	if got := greeting(kernel.dial(t, out, "10.1.1.2:3306")); got != "more" {
		t.Errorf("another cluster: %q", got)
	}
	awaitMetrics(t, r.mesh, map[string]float64{"connections_closed db.example.com UO": 1, "connections_opened db.example.com -": 2}, "destination_service", "response_flags")
	for name, want := range map[string]float64{"upstream_cx_overflow": 1, "upstream_cx_active": 2, "upstream_cx_total": 2, "upstream_rq_pending_overflow": 0} {
		if got := clusterMetric(r.mesh, name, cluster); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	_ = first.Close()
	awaitMetrics(t, r.mesh, map[string]float64{"connections_closed db.example.com -": 1}, "destination_service", "response_flags")
	if got := greeting(kernel.dial(t, out, "10.1.1.1:3306")); got != "db" {
		t.Errorf("when there is a place again: %q", got)
	}
	if got := clusterMetric(r.mesh, "upstream_cx_total", cluster); got != 3 {
		t.Errorf("upstream_cx_total = %v, want 3", got)
	}
}
