package config

import (
	"fmt"
	"math/big"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/call"
)

func (v *validation) loadBalancer(p fieldPath, lb *networking.LoadBalancerSettings) {
	if lb == nil {
		return
	}
	switch t := lb.GetLbPolicy().(type) {
	case *networking.LoadBalancerSettings_Simple:
		if t.Simple == networking.LoadBalancerSettings_LEAST_CONN { //nolint:staticcheck // SA1019: documents still have it
			v.doubt(p.at("simple"), "LEAST_CONN is the old name of LEAST_REQUEST", "write LEAST_REQUEST")
		}
	case *networking.LoadBalancerSettings_ConsistentHash:
		v.consistentHash(p.at("consistentHash"), t.ConsistentHash)
	}
	if lb.GetLocalityLbSetting() != nil {
		v.localities(p.at("localityLbSetting"), lb.GetLocalityLbSetting())
	}
	if zone := lb.GetZoneAwareLbSetting(); zone != nil {
		at := p.at("zoneAwareLbSetting")
		if lb.GetLocalityLbSetting() != nil {
			v.refuse(at, "localityLbSetting and zoneAwareLbSetting exclude each other", "keep one of them")
		}
		switch {
		case len(zone.GetFailover())+len(zone.GetFailoverPriority()) > 0:
			v.unbuilt(at, elsewhere)
		case zone.GetEnabled().GetValue():
			v.unenforced(at, "zoneAwareLbSetting")
		}
	}
	v.warmup(p, lb)
}

const (
	mostRing   = 8 << 20   // Envoy's limit
	mostMaglev = 5_000_011 // Envoy's limit, itself not allowed
)

func (v *validation) consistentHash(p fieldPath, h *networking.LoadBalancerSettings_ConsistentHashLB) {
	const keys = "write httpHeaderName, httpCookie, useSourceIp: true or httpQueryParameterName"
	switch t := h.GetHashKey().(type) {
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName:
		if !isToken(t.HttpHeaderName) {
			v.refuseValue(p.at("httpHeaderName"), "is no name of a header", "write letters, digits and '-'")
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie:
		v.hashCookie(p.at("httpCookie"), t.HttpCookie)
	case *networking.LoadBalancerSettings_ConsistentHashLB_UseSourceIp:
		if !t.UseSourceIp {
			v.refuse(p.at("useSourceIp"), "there is nothing to hash", keys)
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpQueryParameterName:
		if t.HttpQueryParameterName == "" || t.HttpQueryParameterName != call.Printable(t.HttpQueryParameterName) {
			v.refuseValue(p.at("httpQueryParameterName"), "is no query parameter", "name one, as it is spelled in a URL")
		}
	default:
		v.refuse(p, "there is nothing to hash", keys)
	}
	v.whole(p.at("ringHash", "minimumRingSize"), bounded(h.GetRingHash().GetMinimumRingSize()), 0, mostRing)
	//nolint:staticcheck // SA1019: a deprecated field that documents still have
	v.whole(p.at("minimumRingSize"), bounded(h.GetMinimumRingSize()), 0, mostRing)
	if n := h.GetMaglev().GetTableSize(); n != 0 && (n >= mostMaglev || !big.NewInt(int64(n)).ProbablyPrime(0)) {
		v.refuseValue(p.at("maglev", "tableSize"), "is no size of a Maglev table",
			fmt.Sprintf("write a prime number below %d, as 65537", mostMaglev))
	}
	//nolint:staticcheck // SA1019: a deprecated field that documents still have
	if h.GetMinimumRingSize() != 0 {
		v.doubt(p.at("minimumRingSize"), "minimumRingSize is the old form of ringHash.minimumRingSize", "write ringHash: {minimumRingSize: …}")
	}
}

// bounded keeps what is beyond every limit from turning negative.
func bounded(n uint64) int64 { return int64(min(n, 1<<62)) }

func (v *validation) hashCookie(p fieldPath, c *networking.LoadBalancerSettings_ConsistentHashLB_HTTPCookie) {
	if !isToken(c.GetName()) {
		v.refuseValue(p.at("name"), "is no name of a cookie", "write letters, digits and '-'")
	}
	if c.GetTtl().AsDuration() < 0 {
		v.refuseValue(p.at("ttl"), "is negative", "write 0s for a cookie of the session")
	}
	if c.GetTtl() == nil && (c.GetPath() != "" || len(c.GetAttributes()) > 0) {
		v.doubt(p, "without ttl no cookie is made: path and attributes have no effect", "write ttl: 0s for a cookie of the session")
	}
	if strings.ContainsFunc(c.GetPath(), notInCookie) {
		v.refuseValue(p.at("path"), "is no path of a cookie", "leave out ';' and control characters")
	}
	for i, a := range c.GetAttributes() {
		if !isToken(a.GetName()) {
			v.refuseValue(p.at("attributes", i, "name"), "is no name of an attribute", "write letters, digits and '-'")
		}
		if strings.ContainsFunc(a.GetValue(), notInCookie) {
			v.refuseValue(p.at("attributes", i, "value"), "is no value of an attribute", "leave out ';' and control characters")
		}
	}
}

// notInCookie finds what would end an attribute of a cookie (RFC 6265 §4.1.1, av-octet).
func notInCookie(r rune) bool { return r < ' ' || r == ';' || r >= 0x7f }

// localities checks LocalityLoadBalancerSetting.
func (v *validation) localities(p fieldPath, l *networking.LocalityLoadBalancerSetting) {
	distribute, failover, priority := len(l.GetDistribute()) > 0, len(l.GetFailover()) > 0, len(l.GetFailoverPriority()) > 0
	if distribute && failover {
		v.refuse(p.at("failover"), "distribute and failover exclude each other", "keep one of them")
	}
	if distribute && priority {
		v.refuse(p.at("failoverPriority"), "distribute and failoverPriority exclude each other", "keep one of them")
	}
	v.distribute(p.at("distribute"), l.GetDistribute())
	from := make(map[string]int, len(l.GetFailover()))
	for i, f := range l.GetFailover() {
		at := p.at("failover", i)
		v.region(at.at("from"), f.GetFrom())
		v.region(at.at("to"), f.GetTo())
		if f.GetFrom() == f.GetTo() {
			v.refuseValue(at.at("to"), "is where the failover comes from", "name another region")
		}
		if first, again := from[f.GetFrom()]; again {
			v.refuseValue(at.at("from"), fmt.Sprintf("repeats failover[%d]", first), "keep one of them")
		} else {
			from[f.GetFrom()] = i
		}
	}
	for i, label := range l.GetFailoverPriority() {
		key, _, _ := strings.Cut(label, "=")
		if key == "" {
			v.refuseValue(p.at("failoverPriority", i), "names no label", `write "key" or "key=value"`)
		}
	}
}

func (v *validation) region(p fieldPath, name string) {
	if name == "" || strings.ContainsAny(name, "/*") {
		v.refuseValue(p, "is no region", "failover goes from region to region, without zones or \"*\"")
	}
}

func (v *validation) distribute(p fieldPath, list []*networking.LocalityLoadBalancerSetting_Distribute) {
	from := make(map[string]int, len(list)) // by the locality without its "/*"
	valid := make([]bool, len(list))
	for i, d := range list {
		if valid[i] = v.locality(p.at(i, "from"), d.GetFrom(), true); valid[i] {
			from[withinLocality(d.GetFrom())] = i // the last: the others find it
		}
		sum := uint64(0)
		for _, to := range sortedKeys(d.GetTo()) {
			share := d.GetTo()[to]
			if to == "" {
				v.refuseKey(p.at(i, "to", to), "is no locality", "write region/zone/subzone")
			}
			v.whole(p.at(i, "to", to), int64(share), 1, 100)
			sum += uint64(share)
		}
		if sum != 100 {
			v.refuse(p.at(i, "to"), fmt.Sprintf("the shares sum to %d", sum), "they must sum to 100")
		}
	}
	for i, d := range list {
		if !valid[i] {
			continue
		}
		for at := withinLocality(d.GetFrom()); ; at = at[:max(0, strings.LastIndexByte(at, '/'))] {
			if j, ok := from[at]; ok && j != i {
				v.refuseValue(p.at(i, "from"), fmt.Sprintf("overlaps distribute[%d].from", j), "name each locality once")
				break
			}
			if at == "" {
				break
			}
		}
	}
}

// withinLocality is the place that a locality with or without a "*" at its end stands for.
func withinLocality(locality string) string {
	return strings.TrimSuffix(strings.TrimSuffix(locality, "*"), "/")
}

// locality checks region/zone/subzone, of which the later parts may be missing. A pattern may end in "*".
func (v *validation) locality(p fieldPath, locality string, pattern bool) bool {
	const form = "write region, region/zone or region/zone/subzone"
	if pattern {
		if locality == "*" {
			return true
		}
		locality = strings.TrimSuffix(locality, "/*")
	}
	if strings.Count(locality, "/") > 2 {
		v.refuseValue(p, "has more than three parts", form)
		return false
	}
	for part := range strings.SplitSeq(locality, "/") {
		if part == "" || strings.Contains(part, "*") {
			v.refuseValue(p, "is no locality", form)
			return false
		}
	}
	return true
}

// warmup checks both ways to write it.
func (v *validation) warmup(p fieldPath, lb *networking.LoadBalancerSettings) {
	w, old := lb.GetWarmup(), lb.GetWarmupDurationSecs()
	if w == nil && old == nil {
		return
	}
	field := "warmup"
	if w == nil {
		field = "warmupDurationSecs"
		v.duration(p.at(field), old)
	} else {
		at := p.at(field)
		if w.GetDuration() == nil {
			v.refuse(at.at("duration"), "duration is missing", "say how long an endpoint takes to warm up")
		}
		v.duration(at.at("duration"), w.GetDuration())
		v.share(at.at("minimumPercent"), w.GetMinimumPercent())
		if w.GetAggression().GetValue() < 0 {
			v.refuseValue(at.at("aggression"), "is negative", "1 is linear; more is faster at first")
		}
		if old != nil {
			v.refuse(p.at("warmupDurationSecs"), "warmup and warmupDurationSecs exclude each other", "keep warmup")
		}
	}
	simple := lb.GetSimple()
	if lb.GetConsistentHash() != nil || simple == networking.LoadBalancerSettings_RANDOM ||
		simple == networking.LoadBalancerSettings_PASSTHROUGH {
		v.refuse(p.at(field), field+" needs ROUND_ROBIN or LEAST_REQUEST", "remove it, or change the balancer")
	}
	if w == nil {
		v.doubt(p.at(field), field+" is the old form of warmup.duration", "write warmup: {duration: …}")
	}
}
