package config

import (
	"testing"
	"time"

	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/snapshot"
)

// TestOutlierDetection: each field of outlierDetection, and Istio's defaults: consecutive5xxErrors 5, interval 10s,
// baseEjectionTime 30s, maxEjectionPercent 10, consecutiveLocalOriginFailures 5 under splitExternalLocalOriginErrors.
// What each does is for TestOutlier* in package transport and resilience to show.
func TestOutlierDetection(t *testing.T) {
	t.Parallel()
	from := snapshot.Workload{}
	normal := resilience.Outlier{Consecutive5xx: 5, MaxPercent: 10}
	with := func(edit func(*resilience.Outlier)) *resilience.Outlier {
		p := normal
		edit(&p)
		return &p
	}
	for name, c := range map[string]struct {
		policy string
		want   *resilience.Outlier
	}{
		"nothing":  {`{}`, nil},
		"defaults": {`{outlierDetection: {}}`, &normal},
		"zeros": {`{outlierDetection: {maxEjectionPercent: 0, consecutive5xxErrors: 0, consecutiveGatewayErrors: 0}}`,
			with(func(p *resilience.Outlier) { p.Consecutive5xx = 0 })},
		"all": {`{outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 3, interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 100, minHealthPercent: 50}}`,
			&resilience.Outlier{Consecutive5xx: 7, ConsecutiveGateway: 3, Interval: time.Second, BaseEjection: 3 * time.Minute, MaxPercent: 100}},
		"split": {`{outlierDetection: {splitExternalLocalOriginErrors: true}}`,
			with(func(p *resilience.Outlier) { p.SplitLocal, p.ConsecutiveLocal = true, 5 })},
		"split in full": {`{outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2}}`,
			with(func(p *resilience.Outlier) { p.SplitLocal, p.ConsecutiveLocal = true, 2 })},
		"split, local off": {`{outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 0}}`,
			with(func(p *resilience.Outlier) { p.SplitLocal = true })},
		"codes":             {`{outlierDetection: {outlierDetectionHttpErrorCodes: [429, 503]}}`, with(func(p *resilience.Outlier) { p.Codes = []int{429, 503} })},
		"consecutiveErrors": {`{outlierDetection: {consecutiveErrors: 1}}`, &normal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := policyOf(t, from, c.policy); !got.Outlier.Same(c.want) {
				t.Errorf("%+v, want %+v", got.Outlier, c.want)
			}
		})
	}
}

// TestRetryBudget: maxRetries, and in its place percent, minRetryConcurrency and budgetInterval of retryBudget.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]resilience.Budget{
		`{}`: {},
		`{connectionPool: {http: {maxRetries: 7}}}`: {Max: 7},
		`{retryBudget: {}}`:                         {Share: true, Percent: 20, Min: 3},
		`{retryBudget: {percent: 0}}`:               {Share: true, Min: 3},
		`{retryBudget: {percent: 12.5, minRetryConcurrency: 1, budgetInterval: 10s}, connectionPool: {http: {maxRetries: 7}}}`: {Share: true, Percent: 12.5, Min: 1, Interval: 10 * time.Second},
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			if got := policyOf(t, snapshot.Workload{}, policy); got.Budget != want {
				t.Errorf("%+v, want %+v", got.Budget, want)
			}
		})
	}
}
