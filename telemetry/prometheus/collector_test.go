package prometheus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heddlemesh/mesh/telemetry"
	meshprometheus "github.com/heddlemesh/mesh/telemetry/prometheus"
)

// TestCollector: the library takes everything that the store writes as text, and has the same figures.
func TestCollector(t *testing.T) {
	t.Parallel()
	s := telemetry.NewStore(telemetry.Options{})
	g := s.Group(telemetry.Labels{Service: telemetry.ServiceOf("reviews.default.svc.cluster.local", "")})
	for _, d := range []time.Duration{time.Microsecond, 7 * time.Millisecond, time.Hour, 2 * time.Hour} {
		g.Series(telemetry.Outcome{Code: 200, GRPC: 1}).Record(telemetry.Measurement{Duration: d, RequestMessages: 2})
	}
	s.RPC(telemetry.ServerCall, "a/b", "").End(0, time.Second)
	s.RPC(telemetry.ServerCall, "a/b", "").Sizes(0, 3, 4000)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(meshprometheus.NewCollector(s))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := s.Gather()
	if len(families) != len(want) {
		t.Fatalf("%d families, the store has %d", len(families), len(want))
	}
	for i, f := range families {
		if f.GetName() != want[i].Name || f.GetHelp() != want[i].Help || !strings.EqualFold(f.GetType().String(), want[i].Kind.String()) {
			t.Errorf("family %v, want %s", f, want[i].Name)
		}
		for j, m := range f.GetMetric() {
			w := want[i].Samples[j]
			switch d := w.Distribution; {
			case len(m.GetLabel()) != len(w.Labels):
				t.Errorf("%s: labels %v, want %v", f.GetName(), m.GetLabel(), w.Labels)
			case d != nil:
				h := m.GetHistogram()
				if h.GetSampleCount() != d.Count || h.GetSampleSum() != d.Sum || h.GetBucket()[0].GetCumulativeCount() != d.Buckets[0] {
					t.Errorf("%s: %v, want %v", f.GetName(), h, d)
				}
			case m.GetCounter().GetValue()+m.GetGauge().GetValue() != w.Value:
				t.Errorf("%s: %v, want %v", f.GetName(), m, w.Value)
			}
		}
	}
}
