package telemetry

import "sync/atomic"

// bounds are the upper bounds of all histograms of Istio's metrics, milliseconds and bytes alike (Envoy's defaults).
var bounds = [...]float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000}

// Bounds lists the upper bounds of the histograms of Istio's metrics, without the last, which is infinite.
func Bounds() []float64 { return append([]float64(nil), bounds[:]...) }

// seconds are the bounds of gRPC's histograms of durations, in seconds (gRFC A66).
var seconds = [...]float64{0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008,
	0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 2, 5,
	10, 20, 50, 100}

// octets are the bounds of gRPC's histograms of sizes, in bytes (gRFC A66).
var octets = [...]float64{0, 1 << 10, 2 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20, 1 << 30, 4 << 30}

// A histogram counts values. Its unit is a thousandth of what it shows, so that everything is an integer.
type histogram struct {
	sum     atomic.Uint64
	buckets [len(bounds) + 1]atomic.Uint64
}

// thousandths are bounds in the unit of histogram.
var thousandths = func() (t [len(bounds)]uint64) {
	for i, b := range bounds {
		t[i] = uint64(b * 1000)
	}
	return t
}()

func (h *histogram) add(v uint64) {
	h.sum.Add(v)
	h.buckets[bucketOf(v, thousandths[:])].Add(1)
}

// bucketOf finds the first bound that is not below the value.
func bucketOf(v uint64, upper []uint64) int {
	low, high := 0, len(upper)
	for low < high {
		if mid := (low + high) / 2; upper[mid] < v {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// A Distribution is a histogram at one moment.
type Distribution struct {
	Bounds  []float64 // upper bounds, ascending; the last bucket has none
	Buckets []uint64  // values in each bucket alone, one more than Bounds
	Count   uint64
	Sum     float64
}

func (h *histogram) read() *Distribution {
	return distribution(bounds[:], h.buckets[:], float64(h.sum.Load())/1000)
}

// distribution reads the buckets.
func distribution(bounds []float64, buckets []atomic.Uint64, sum float64) *Distribution {
	d := &Distribution{Bounds: bounds, Buckets: make([]uint64, len(buckets)), Sum: sum}
	for i := range buckets {
		d.Buckets[i] = buckets[i].Load()
		d.Count += d.Buckets[i]
	}
	return d
}

// add puts another distribution over the same bounds in.
func (d *Distribution) add(o *Distribution) {
	for i, n := range o.Buckets {
		d.Buckets[i] += n
	}
	d.Count += o.Count
	d.Sum += o.Sum
}
