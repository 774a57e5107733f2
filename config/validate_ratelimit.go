package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"
)

const (
	directionInbound  = "INBOUND"
	directionOutbound = "OUTBOUND"
)

// limitUnits are the units of a limit, as Envoy's RateLimitUnit has them.
var limitUnits = map[string]time.Duration{
	"SECOND": time.Second, "MINUTE": time.Minute, "HOUR": time.Hour, "DAY": 24 * time.Hour,
}

// maxLimitKeys bounds what a limit may cost: some 20 MB.
const maxLimitKeys = 100_000

func (v *validation) rateLimit(p fieldPath, s *rateLimitSpec) {
	v.workloadSelector(p.at("workloadSelector"), s.WorkloadSelector)
	const directions = "write INBOUND for what the workload receives, OUTBOUND for the calls that it makes"
	switch s.Direction {
	case directionInbound:
		if len(s.Hosts) > 0 {
			v.refuse(p.at("hosts"), "hosts is about calls that the workload makes, and the direction is INBOUND", "remove it, or write direction: OUTBOUND")
		}
	case directionOutbound:
		v.policyHosts(p.at("hosts"), s.Hosts)
	case "":
		v.refuse(p.at("direction"), "direction is missing", directions)
	default:
		v.refuseValue(p.at("direction"), "is no direction", directions)
	}
	if len(s.Limits) == 0 {
		v.refuse(p.at("limits"), "limits is missing", "write at least one")
	}
	names := make(map[string]int, len(s.Limits))
	for i := range s.Limits {
		at := p.at("limits", i)
		l := &s.Limits[i]
		v.labelName(at.at("name"), l.Name, "name of the limit")
		if first, again := names[l.Name]; again && l.Name != "" {
			v.refuseValue(at.at("name"), fmt.Sprintf("is the name of limits[%d] already", first), "what was counted goes by it: give each its own")
		}
		names[l.Name] = i
		v.limit(at, l, s.Direction)
	}
}

// limit checks one limit. What is not said of how much, and of how many keys, has no default: nobody means "none".
func (v *validation) limit(p fieldPath, l *limitSpec, direction string) {
	for i, m := range l.Match {
		v.limitMatch(p.at("match", i), m)
	}
	for i, name := range l.Routes {
		if at := p.at("routes", i); name == "" {
			v.refuse(at, "the name of the route is empty", "write the name of a rule of a VirtualService")
		} else if slices.Contains(l.Routes[:i], name) {
			v.doubt(at, quoted(name)+" is there already", "remove one of them")
		}
	}
	if len(l.Routes) > 0 && direction == directionInbound {
		v.refuse(p.at("routes"), "calls that come in are not routed", "narrow the limit by match")
	}
	for i := range l.By {
		v.limitKey(p.at("by", i), &l.By[i], direction)
	}
	if l.Requests == nil {
		v.refuse(p.at("requests"), "requests is missing", "write how many requests are let through in a unit of time")
	} else {
		v.whole(p.at("requests"), int64(*l.Requests), 1, 1<<31-1)
	}
	if l.Unit == "" {
		v.refuse(p.at("unit"), "unit is missing", oneOf("", sortedKeys(limitUnits)))
	} else if limitUnits[l.Unit] == 0 {
		v.refuseValue(p.at("unit"), "is no unit", oneOf(l.Unit, sortedKeys(limitUnits)))
	}
	if l.Burst != nil {
		v.whole(p.at("burst"), int64(*l.Burst), 1, 1<<31-1)
	}
	switch at := p.at("maxKeys"); {
	case l.MaxKeys == nil && len(l.By) > 0:
		v.refuse(at, "maxKeys is missing, and whoever calls can make any number of keys", fmt.Sprintf("write how many are counted apart at most, 1 to %d", maxLimitKeys))
	case l.MaxKeys == nil:
	case len(l.By) == 0:
		v.refuse(at, "maxKeys without by: there is nothing to count apart", "write by, or remove it")
	default:
		v.whole(at, int64(*l.MaxKeys), 1, maxLimitKeys)
	}
}

// limitMatch checks a match of VirtualServices, of which only what is about the request itself has a meaning here.
func (v *validation) limitMatch(p fieldPath, m *networking.HTTPMatchRequest) {
	v.httpMatch(p, m)
	for _, field := range setFields(m) {
		if isIn(field, "name", "port", "gateways", "sourceLabels", "sourceNamespace", "statPrefix") {
			v.refuse(p.at(field), field+" has no meaning in the match of a RateLimit",
				"match uri, scheme, method, authority, headers, withoutHeaders and queryParams; workloadSelector says whose calls are limited")
		}
	}
}

func (v *validation) limitKey(p fieldPath, k *limitKey, direction string) {
	var given []string
	for name, is := range map[string]bool{"header": k.Header != "", "sourceAddress": k.SourceAddress, "route": k.Route,
		"jwtClaim": k.JWTClaim != "", "peerIdentity": k.PeerIdentity} {
		if is {
			given = append(given, name)
		}
	}
	slices.Sort(given)
	if len(given) != 1 {
		message := "the key names nothing to count by"
		if len(given) > 1 {
			message = listed(given) + " are two keys in one"
		}
		v.refuse(p, message, "write one of header, sourceAddress, route, jwtClaim, peerIdentity in each element of by")
		return
	}
	at := p.at(given[0])
	switch {
	case (k.JWTClaim != "" || k.PeerIdentity) && direction == directionOutbound:
		v.refuse(at, "calls that the workload makes are its own: they have no caller", "limit what the called workload receives, with direction INBOUND")
	case slices.Contains(strings.Split(k.JWTClaim, "."), "") && k.JWTClaim != "":
		v.refuseValue(at, "is no name of a claim", "write one, with dots for those within others")
	case k.Header != "" && !isToken(k.Header):
		v.refuseValue(at, "is no name of a header", "write letters, digits and '-'")
	case k.SourceAddress && direction == directionOutbound:
		v.refuse(at, "calls that the workload makes have no address that they come from", "limit what the called workload receives, with direction INBOUND")
	case k.Route && direction == directionInbound:
		v.refuse(at, "calls that come in are not routed", "write a limit with a match of its own for each")
	}
}

func (v *validation) workloadSelector(p fieldPath, s *workloadSelector) {
	if s == nil {
		return
	}
	if len(s.Labels) == 0 {
		v.doubt(p, "the selector has no labels: the "+v.d.key.Kind+" is for the whole namespace", "name the labels of the workloads, or remove it")
	}
	v.labels(p.at("labels"), s.Labels)
}

// policyHosts checks the hosts that a policy is about.
func (v *validation) policyHosts(p fieldPath, hosts []string) {
	if len(hosts) == 0 {
		v.refuse(p, "hosts is missing", `write the hosts whose calls it is about, or "*"`)
	}
	for i, h := range hosts {
		if v.host(p.at(i), h) && slices.Contains(hosts[:i], h) {
			v.doubt(p.at(i), quoted(h)+" is there already", "remove one of them")
		}
	}
}
