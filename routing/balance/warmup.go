package balance

import (
	"math"
	"time"
)

// Warmup gives an endpoint that has just joined less than its share, growing with time (DestinationRule
// loadBalancer.warmup; Envoy's slow start). It works for ROUND_ROBIN and LEAST_REQUEST. While something warms
// up ROUND_ROBIN passes over the turns that an endpoint may not have yet, so that shares are right on average
// and no longer over each cycle.
type Warmup struct {
	// Duration is how long an endpoint warms up. Default 0: not at all.
	Duration time.Duration
	// MinimumPercent of its weight is what an endpoint has from the beginning. Default 0; a rule that says
	// nothing means 10.
	MinimumPercent float64
	// Aggression bends the growth: weight · (elapsed/Duration)^(1/Aggression). Default 1, a straight line, which
	// also stands for what is not positive; more is faster at first.
	Aggression float64
}

// leastFactor keeps an endpoint from having no weight at all, whatever the aggression.
const leastFactor = 1e-6

// at is the part of its weight that an endpoint has at that age, as Envoy reckons it (applySlowStartFactor).
func (w Warmup) at(age time.Duration) float64 {
	if age >= w.Duration {
		return 1
	}
	f := float64(max(age, time.Millisecond)) / float64(w.Duration)
	if w.Aggression > 0 && w.Aggression != 1 {
		f = math.Pow(f, 1/w.Aggression)
	}
	// Compared so that a percentage that is no number counts as none.
	if least := w.MinimumPercent / 100; f < least {
		f = least
	}
	return min(max(f, leastFactor), 1)
}

// warming is the warm-up of a picker's endpoints. Its zero value is that of endpoints that do not warm up.
type warming struct {
	Warmup
	until  time.Duration // the youngest is warm
	eldest time.Duration // when the one joined that is the warmest
}

// newWarming looks when the endpoints joined. Those that joined together warm up together, which changes
// nothing among them.
func newWarming(w Warmup, endpoints []*Endpoint) warming {
	if w.Duration <= 0 || len(endpoints) == 0 {
		return warming{}
	}
	eldest, youngest := endpoints[0].joined(), endpoints[0].joined()
	for _, e := range endpoints[1:] {
		eldest, youngest = min(eldest, e.joined()), max(youngest, e.joined())
	}
	if eldest == youngest {
		return warming{}
	}
	return warming{w, youngest + w.Duration, eldest}
}

// Factors gives the part of its weight that each of a cluster's endpoints has now, for people: a picker of
// RANDOM or one that hashes gives all of it.
func (c *Config) Factors(endpoints []*Endpoint, now time.Duration) []float64 {
	var w warming
	if c.Algorithm == LeastRequest || c.Algorithm == RoundRobin {
		w = newWarming(c.Warmup, endpoints)
	}
	factors := make([]float64, len(endpoints))
	for i, e := range endpoints {
		factors[i] = w.factor(e, now)
	}
	return factors
}

// over reports whether nothing warms up any more, as most of the time.
func (w *warming) over(now time.Duration) bool { return now >= w.until }

// factor is the part of its weight that the endpoint has now.
func (w *warming) factor(e *Endpoint, now time.Duration) float64 {
	if w.over(now) {
		return 1
	}
	return w.at(now - e.joined())
}

// most is the part of its weight that the warmest endpoint has now.
func (w *warming) most(now time.Duration) float64 {
	if w.over(now) {
		return 1
	}
	return w.at(now - w.eldest)
}
