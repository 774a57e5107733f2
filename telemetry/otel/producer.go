// Package otel gives the metrics of a mesh to OpenTelemetry's metric SDK, for programs that have one:
//
//	reader := metric.NewPeriodicReader(exporter, metric.WithProducer(meshotel.NewProducer(m.Metrics())))
//
// Names, labels and units are those of the store: what Istio's dashboards ask for, and what the OpenTelemetry collector makes of
// a scrape. Layer L2.
package otel

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/heddlemesh/mesh/telemetry"
)

// A Producer is a store as a metric.Producer of the SDK. Counters and histograms are cumulative since it was made. It is safe
// for concurrent use.
type Producer struct {
	store *telemetry.Store
	since time.Time
}

// NewProducer makes a producer of the metrics of one mesh. Make it with the mesh: what was counted before counts as of then.
func NewProducer(s *telemetry.Store) *Producer { return &Producer{s, time.Now()} }

// Produce implements metric.Producer. It fails when ctx has ended.
func (p *Producer) Produce(ctx context.Context) ([]metricdata.ScopeMetrics, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := time.Now()
	families := p.store.Gather()
	all := make([]metricdata.Metrics, len(families))
	for i := range families {
		f := &families[i]
		all[i] = metricdata.Metrics{Name: f.Name, Description: f.Help, Unit: unitOf(f.Name), Data: p.data(f, now)}
	}
	scope := metricdata.ScopeMetrics{Metrics: all}
	scope.Scope.Name = "github.com/heddlemesh/mesh"
	return []metricdata.ScopeMetrics{scope}, nil
}

func (p *Producer) data(f *telemetry.Family, now time.Time) metricdata.Aggregation {
	if f.Kind == telemetry.Histogram {
		h := metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality}
		for i := range f.Samples {
			s := &f.Samples[i]
			h.DataPoints = append(h.DataPoints, metricdata.HistogramDataPoint[float64]{Attributes: attributesOf(s), StartTime: p.since, Time: now,
				Count: s.Distribution.Count, Sum: s.Distribution.Sum, Bounds: s.Distribution.Bounds, BucketCounts: s.Distribution.Buckets})
		}
		return h
	}
	points := make([]metricdata.DataPoint[float64], len(f.Samples))
	for i := range f.Samples {
		points[i] = metricdata.DataPoint[float64]{Attributes: attributesOf(&f.Samples[i]), Time: now, Value: f.Samples[i].Value}
	}
	if f.Kind == telemetry.Gauge {
		return metricdata.Gauge[float64]{DataPoints: points}
	}
	for i := range points {
		points[i].StartTime = p.since
	}
	return metricdata.Sum[float64]{DataPoints: points, Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}
}

func attributesOf(s *telemetry.Sample) attribute.Set {
	list := make([]attribute.KeyValue, len(s.Labels))
	for i, l := range s.Labels {
		list[i] = attribute.String(l.Name, strings.ToValidUTF8(l.Value, "\uFFFD"))
	}
	return attribute.NewSet(list...)
}

// unitOf reads the unit off a name, in UCUM's spelling; "" where it says none.
func unitOf(name string) string {
	for _, u := range []struct{ suffix, unit string }{{"_milliseconds", "ms"}, {"_seconds", "s"}, {"_bytes", "By"}} {
		if strings.HasSuffix(name, u.suffix) {
			return u.unit
		}
	}
	return ""
}
