// Package prometheus gives the metrics of a mesh to a registry of Prometheus's client library, for programs that have one:
//
//	prometheus.MustRegister(meshprometheus.NewCollector(m.Metrics()))
//
// A program without one needs no more than the store itself, which is an http.Handler. Layer L2.
package prometheus

import (
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heddlemesh/mesh/telemetry"
)

// A Collector is a store as a prometheus.Collector. It is unchecked: it describes nothing beforehand, for which names there are
// depends on what has happened. It is safe for concurrent use.
type Collector struct{ store *telemetry.Store }

// NewCollector makes a collector of the metrics of one mesh. Those of several in one process cannot be in one registry, unless each
// is wrapped with a label of its own (prometheus.WrapRegistererWith).
func NewCollector(s *telemetry.Store) *Collector { return &Collector{s} }

// Describe implements prometheus.Collector.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. What the library refuses is passed on as an invalid metric.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	for _, f := range c.store.Gather() {
		for _, s := range f.Samples {
			to <- metricOf(&f, &s)
		}
	}
}

func metricOf(f *telemetry.Family, s *telemetry.Sample) prometheus.Metric {
	labels := make(prometheus.Labels, len(s.Labels))
	for _, l := range s.Labels {
		labels[l.Name] = strings.ToValidUTF8(l.Value, "\uFFFD")
	}
	names := slices.Sorted(maps.Keys(labels))
	values := make([]string, len(names))
	for i, name := range names {
		values[i] = labels[name]
	}
	desc := prometheus.NewDesc(f.Name, f.Help, names, nil)
	var m prometheus.Metric
	var err error
	switch {
	case s.Distribution != nil:
		m, err = prometheus.NewConstHistogram(desc, s.Distribution.Count, s.Distribution.Sum, cumulated(s.Distribution), values...)
	case f.Kind == telemetry.Counter:
		m, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, s.Value, values...)
	default:
		m, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, s.Value, values...)
	}
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return m
}

// cumulated gives buckets as the library wants them: how many values are at most so large.
func cumulated(d *telemetry.Distribution) map[float64]uint64 {
	buckets := make(map[float64]uint64, len(d.Bounds))
	below := uint64(0)
	for i, upper := range d.Bounds {
		below += d.Buckets[i]
		buckets[upper] = below
	}
	return buckets
}
