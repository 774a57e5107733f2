package telemetry

import (
	"cmp"
	"slices"
	"sort"
	"strings"
)

// A Kind is what sort of metric a family is.
type Kind uint8

const (
	Gauge Kind = iota
	Counter
	Histogram
)

func (k Kind) String() string {
	return [...]string{"gauge", "counter", "histogram"}[k]
}

// A Family is the metrics of one name at one moment. It must not be changed.
type Family struct {
	Name, Help string
	Kind       Kind
	Samples    []Sample
}

// A Sample is one metric: a value, or the distribution of a histogram.
type Sample struct {
	Labels       []Label
	Value        float64
	Distribution *Distribution
}

// Add appends a value; labels are names and values in turn.
//
//go:noinline
func (f *Family) Add(value float64, labels ...string) {
	list := make([]Label, 0, len(labels)/2)
	for i := 0; i+1 < len(labels); i += 2 {
		list = append(list, Label{labels[i], labels[i+1]})
	}
	f.Samples = append(f.Samples, Sample{Labels: list, Value: value})
}

// The metrics of requests (istio.io, Istio standard metrics), in the order in which they are written.
const (
	RequestCount     = "istio_requests_total"
	RequestDuration  = "istio_request_duration_milliseconds"
	RequestSize      = "istio_request_bytes"
	ResponseSize     = "istio_response_bytes"
	RequestMessages  = "istio_request_messages_total"
	ResponseMessages = "istio_response_messages_total"
)

// standard reads each of them out of a series; ok is false where the series has none.
var standard = [...]struct {
	name, help string
	kind       Kind
	read       func(s *Series) (sample Sample, ok bool)
}{
	{RequestCount, "Requests.", Counter, func(s *Series) (Sample, bool) {
		return Sample{Value: float64(s.duration.read().Count)}, true
	}},
	{RequestDuration, "How long requests took, to the end of the answer.", Histogram, func(s *Series) (Sample, bool) {
		return Sample{Distribution: s.duration.read()}, true
	}},
	{RequestSize, "Bytes of the bodies of requests.", Histogram, func(s *Series) (Sample, bool) {
		return Sample{Distribution: s.request.read()}, true
	}},
	{ResponseSize, "Bytes of the bodies of answers.", Histogram, func(s *Series) (Sample, bool) {
		return Sample{Distribution: s.response.read()}, true
	}},
	{RequestMessages, "Messages that callers of RPCs have sent.", Counter, func(s *Series) (Sample, bool) {
		return s.counted(0)
	}},
	{ResponseMessages, "Messages that RPCs were answered with.", Counter, func(s *Series) (Sample, bool) {
		return s.counted(1)
	}},
}

func (s *Series) counted(i int) (Sample, bool) {
	if s.messages == nil {
		return Sample{}, false
	}
	return Sample{Value: float64(s.messages[i].Load())}, true
}

// Gather reads everything: families by their names, samples by their labels. What is recorded meanwhile is in some of them
// and not in others.
func (s *Store) Gather() []Family {
	all, rpcs, given, n := s.read()
	labels := make([][]Label, len(all))
	for i, x := range all {
		labels[i] = x.group.labels.list(x.outcome)
	}
	var families []Family
	view := s.view.Load()
	for _, m := range &standard {
		f := Family{Name: m.name, Help: m.help, Kind: m.kind}
		for i, x := range all {
			if sample, ok := m.read(x); ok {
				sample.Labels = labels[i]
				f.Samples = append(f.Samples, sample)
			}
		}
		view.apply(&f)
		families = append(families, f)
	}
	families = append(families, rpcFamilies(rpcs)...)
	own := Family{Name: "heddle_metrics_series", Help: "Series of requests that are kept; beyond a bound they are counted as \"other\".", Kind: Gauge}
	own.Add(float64(n))
	families = append(families, own)
	for _, f := range given {
		(*f)(func(more Family) { families = append(families, more) })
	}
	families = slices.DeleteFunc(families, func(f Family) bool { return len(f.Samples) == 0 })
	sort.SliceStable(families, func(i, j int) bool { return families[i].Name < families[j].Name })
	for _, f := range families {
		sort.SliceStable(f.Samples, func(i, j int) bool {
			return slices.CompareFunc(f.Samples[i].Labels, f.Samples[j].Labels, compareLabels) < 0
		})
	}
	return families
}

func compareLabels(a, b Label) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
}
