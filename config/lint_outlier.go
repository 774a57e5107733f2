package config

import (
	"fmt"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/resilience"
)

func (l *linter) outlier(s *service, t *lintedPolicy) {
	p, o := t.path.at("outlierDetection"), t.blocks.GetOutlierDetection()
	if o.GetMaxEjectionPercent() == 0 && l.written(p.at("maxEjectionPercent")) {
		l.warn(p.at("maxEjectionPercent"), codeZero, fmt.Sprintf("maxEjectionPercent 0 is the default, %d, and not off", resilience.DefaultMaxEjectionPercent),
			"remove the block where nothing shall be ejected")
	}
	l.gatewayErrors(p, o)
	if s == nil {
		return
	}
	endpoints, known := l.endpointsOf(s)
	n, places := 0, make(map[string]bool)
	for _, e := range endpoints {
		if e.Matches(t.labels) {
			n++
			places[e.Locality] = true
		}
	}
	if known && n > 0 {
		l.smallPool(p, o, n)
	}
	if delete(places, ""); len(places) > 1 && !l.choosesLocality(t) {
		l.inform(p, codeTurnsOnFailover, fmt.Sprintf("with outlierDetection calls go to the endpoints nearest to the caller while enough of them are healthy: those of %s are in %s",
			s.host, listed(sortedKeys(places))), "write localityLbSetting: {enabled: false} where all shall be used, or say the order of failover there")
	}
}

// smallPool: an endpoint is ejected where it and those that are out already are no more than the share allowed
// (Envoy, outlier_detection_impl.cc).
func (l *linter) smallPool(p fieldPath, o *networking.OutlierDetection, n int) {
	percent, written := int(o.GetMaxEjectionPercent()), "maxEjectionPercent"
	if percent == 0 {
		percent, written = resilience.DefaultMaxEjectionPercent, "the default of maxEjectionPercent"
	}
	if 100 <= percent*n || l.d.annotations[alwaysOneAnnotation] == "true" {
		return
	}
	at := p
	if l.written(p.at("maxEjectionPercent")) {
		at = p.at("maxEjectionPercent")
	}
	pool := fmt.Sprintf("one of %d endpoints is %d %%", n, 100/n)
	if n == 1 {
		pool = "the only endpoint is 100 %"
	}
	l.warn(at, codeNeverEjects, fmt.Sprintf("nothing is ever ejected: %s of the pool, more than %s, %d %%", pool, written, percent),
		fmt.Sprintf("write maxEjectionPercent: %d or more, or the annotation %s: \"true\"", (100+n-1)/n, alwaysOneAnnotation))
}

// gatewayErrors: gateway errors are 5xx too, and the lower threshold is reached first.
func (l *linter) gatewayErrors(p fieldPath, o *networking.OutlierDetection) {
	gateway := o.GetConsecutiveGatewayErrors().GetValue()
	any5xx, say := uint32(resilience.DefaultConsecutive5xx), l.inform
	if o.GetConsecutive_5XxErrors() != nil {
		any5xx, say = o.GetConsecutive_5XxErrors().GetValue(), l.warn
	}
	if gateway == 0 || any5xx == 0 || gateway < any5xx || len(o.GetOutlierDetectionHttpErrorCodes()) > 0 {
		return
	}
	say(p.at("consecutiveGatewayErrors"), codeNeverReached, fmt.Sprintf("%d gateway errors in a row are never counted: they are 5xx as well, and consecutive5xxErrors ejects after %d",
		gateway, any5xx), "write less than consecutive5xxErrors, or consecutive5xxErrors: 0")
}

// choosesLocality reports that a policy, or the mesh's, says itself what localities mean.
func (l *linter) choosesLocality(t *lintedPolicy) bool {
	lb := t.blocks.GetLoadBalancer()
	if lb == nil {
		lb = t.above.GetLoadBalancer()
	}
	return lb.GetLocalityLbSetting() != nil || lb.GetZoneAwareLbSetting() != nil || l.mesh.GetLocalityLbSetting() != nil
}
