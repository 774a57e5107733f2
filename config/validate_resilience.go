package config

import "time"

// What a circuit breaker takes where nothing is written.
const (
	defaultBreakerMinimum = 20
	defaultBreakerWindow  = 10 * time.Second
	defaultBreakerOpen    = 30 * time.Second
	defaultBreakerProbes  = 1
)

// longestBreaker bounds the times of a circuit breaker.
const longestBreaker = 24 * time.Hour

func (v *validation) resiliencePolicy(p fieldPath, s *resiliencePolicySpec) {
	v.workloadSelector(p.at("workloadSelector"), s.WorkloadSelector)
	v.policyHosts(p.at("hosts"), s.Hosts)
	b := s.CircuitBreaker
	if b == nil {
		v.refuse(p, "the ResiliencePolicy says nothing", "write circuitBreaker")
		return
	}
	p = p.at("circuitBreaker")
	if b.ConsecutiveFailures == nil && b.FailurePercent == nil {
		v.refuse(p, "nothing opens the circuit breaker", "write consecutiveFailures or failurePercent")
	}
	for _, f := range []struct {
		name string
		n    *int32
		most int64
	}{
		{"consecutiveFailures", b.ConsecutiveFailures, 1<<31 - 1}, {"failurePercent", b.FailurePercent, 100},
		{"minimumRequests", b.MinimumRequests, 1<<31 - 1}, {"halfOpenRequests", b.HalfOpenRequests, 1<<31 - 1},
	} {
		if f.n != nil {
			v.whole(p.at(f.name), int64(*f.n), 1, f.most)
		}
	}
	for _, f := range []struct {
		name string
		d    *span
	}{{"interval", b.Interval}, {"openFor", b.OpenFor}} {
		if f.d != nil && (*f.d < span(time.Millisecond) || *f.d > span(longestBreaker)) {
			v.refuseValue(p.at(f.name), "is out of range", "write 1ms to 24h")
		}
	}
	if b.FailurePercent == nil {
		if b.MinimumRequests != nil {
			v.refuse(p.at("minimumRequests"), "minimumRequests without failurePercent", "write failurePercent, or remove it")
		}
		if b.Interval != nil {
			v.refuse(p.at("interval"), "interval without failurePercent: failures in a row are counted without an end", "write failurePercent, or remove it")
		}
	}
}
