package otel_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/heddlemesh/mesh/telemetry"
	meshotel "github.com/heddlemesh/mesh/telemetry/otel"
)

// TestProducer: the SDK's reader has everything that the store writes as text, with the same figures.
func TestProducer(t *testing.T) {
	t.Parallel()
	s := telemetry.NewStore(telemetry.Options{})
	g := s.Group(telemetry.Labels{Reporter: telemetry.Destination})
	g.Series(telemetry.Outcome{Code: 200}).Record(telemetry.Measurement{Duration: 7 * time.Millisecond, ResponseBytes: 9})
	g.Series(telemetry.Outcome{Code: 503}).Record(telemetry.Measurement{})
	s.RPC(telemetry.ClientAttempt, "a/b", "mesh:///a").End(0, time.Second)
	s.RPC(telemetry.ClientAttempt, "a/b", "mesh:///a").Sizes(0, 3, 4000)
	p := meshotel.NewProducer(s)
	reader := metric.NewManualReader(metric.WithProducer(p))
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	defer func() { _ = provider.Shutdown(context.Background()) }()
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.ScopeMetrics) != 1 {
		t.Fatalf("%d scopes", len(got.ScopeMetrics))
	}
	for i, f := range s.Gather() {
		m := got.ScopeMetrics[0].Metrics[i]
		if m.Name != f.Name || m.Description != f.Help || strings.HasSuffix(f.Name, "_message_size_bytes") && m.Unit != "By" {
			t.Errorf("%s (%s), want %s", m.Name, m.Unit, f.Name)
		}
		switch data := m.Data.(type) {
		case metricdata.Histogram[float64]:
			for j, point := range data.DataPoints {
				d := f.Samples[j].Distribution
				if point.Count != d.Count || point.Sum != d.Sum || !slices.Equal(point.BucketCounts, d.Buckets) || point.Attributes.Len() != len(f.Samples[j].Labels) {
					t.Errorf("%s: %v, want %v", m.Name, point, d)
				}
			}
		case metricdata.Sum[float64]:
			if !data.IsMonotonic || data.DataPoints[0].Value != f.Samples[0].Value {
				t.Errorf("%s: %v", m.Name, data)
			}
		case metricdata.Gauge[float64]:
			if data.DataPoints[0].Value != f.Samples[0].Value {
				t.Errorf("%s: %v", m.Name, data)
			}
		default:
			t.Errorf("%s: %T", m.Name, data)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Produce(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}
