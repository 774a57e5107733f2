package config

import (
	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/resilience"
)

// alwaysOneAnnotation, "true" on a DestinationRule, lets one endpoint be ejected of a pool so small that maxEjectionPercent
// would never let any. Istio has no field for it; Envoy's is always_eject_one_host.
const alwaysOneAnnotation = "heddle.dev/always-eject-one-host"

// outlierPolicy reads outlierDetection, with Istio's defaults; nil where there is none. Plain zeros are not set (istio.io,
// pilot/pkg/networking/core applyOutlierDetection).
func outlierPolicy(o *networking.OutlierDetection, alwaysOne bool) *resilience.Outlier {
	if o == nil {
		return nil
	}
	p := &resilience.Outlier{
		Consecutive5xx:     resilience.DefaultConsecutive5xx,
		ConsecutiveGateway: o.GetConsecutiveGatewayErrors().GetValue(),
		SplitLocal:         o.GetSplitExternalLocalOriginErrors(),
		Interval:           o.GetInterval().AsDuration(),
		BaseEjection:       o.GetBaseEjectionTime().AsDuration(),
		MaxPercent:         resilience.DefaultMaxEjectionPercent,
		AlwaysOne:          alwaysOne,
	}
	if n := o.GetConsecutive_5XxErrors(); n != nil {
		p.Consecutive5xx = n.GetValue()
	}
	if p.SplitLocal {
		p.ConsecutiveLocal = resilience.DefaultConsecutiveLocal
		if n := o.GetConsecutiveLocalOriginFailures(); n != nil {
			p.ConsecutiveLocal = n.GetValue()
		}
	}
	if n := o.GetMaxEjectionPercent(); n != 0 {
		p.MaxPercent = uint8(n)
	}
	for _, code := range o.GetOutlierDetectionHttpErrorCodes() {
		p.Codes = append(p.Codes, int(code))
	}
	return p
}

// retryBudget reads what bounds the retries of a cluster: retryBudget, else connectionPool.http.maxRetries.
func retryBudget(t *networking.TrafficPolicy) resilience.Budget {
	b := t.GetRetryBudget()
	if b == nil {
		return resilience.Budget{Max: uint32(t.GetConnectionPool().GetHttp().GetMaxRetries())}
	}
	out := resilience.Budget{Share: true, Percent: resilience.DefaultBudgetPercent, Min: resilience.DefaultBudgetMin,
		Interval: b.GetBudgetInterval().AsDuration()}
	if p := b.GetPercent(); p != nil {
		out.Percent = p.GetValue()
	}
	if n := b.GetMinRetryConcurrency(); n != 0 {
		out.Min = n
	}
	return out
}
