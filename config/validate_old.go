package config

import (
	"fmt"

	networking "istio.io/api/networking/v1alpha3"
)

// Spellings of earlier releases of Istio that documents still have. They are taken as today's Istio takes them, with
// a warning that says how.

// A field that is gone from Istio's API, and is passed over and not refused.
const (
	retiredOf    = "istio.networking.v1alpha3.HTTPFaultInjection.Abort"
	retiredField = "percent"
)

// oldSpellings looks at one rule.
func (v *validation) oldSpellings(p fieldPath, r *networking.HTTPRoute) {
	at := p.at("fault", "abort", retiredField)
	if _, n, written := v.d.find(at); written {
		message := "percent of an abort is gone from Istio and ignored: "
		if r.GetFault().GetAbort().GetPercentage() != nil {
			message += "percentage counts"
		} else {
			message += "without percentage no request is aborted"
		}
		v.doubt(at, message, "write percentage: {value: "+clip(target(n).Value)+"}")
	}
	//nolint:staticcheck // SA1019: a deprecated field that documents still have
	delay, mirror := r.GetFault().GetDelay().GetPercent(), r.GetMirrorPercent()
	if 0 < delay && delay <= 100 {
		v.oldPercent(p.at("fault", "delay", "percent"), "percentage", uint32(delay), r.GetFault().GetDelay().GetPercentage() != nil)
	}
	if mirror != nil && mirror.GetValue() <= 100 && r.GetMirror() != nil {
		v.oldPercent(p.at("mirrorPercent"), "mirrorPercentage", mirror.GetValue(), r.GetMirrorPercentage() != nil)
	}
}

// oldPercent warns of a whole number in the place of a Percent.
func (v *validation) oldPercent(p fieldPath, today string, n uint32, both bool) {
	message := fmt.Sprintf("%s is the old spelling of %s: {value: %d}", fieldName(p), today, n)
	if both {
		message = fmt.Sprintf("%s is the old spelling of %s, which is there too: it is ignored", fieldName(p), today)
	}
	v.doubt(p, message, fmt.Sprintf("write %s: {value: %d}", today, n))
}
