package config

import (
	"fmt"
	"math"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// elsewhere is why most fields of a rule are refused while they are not built.
const elsewhere = "without it requests would go elsewhere, or in another form"

func (v *validation) virtualService(p fieldPath, s *networking.VirtualService) {
	v.annotations(retryAnnotation, hedgeAnnotation)
	v.virtualHosts(p, s)
	v.gateways(p.at("gateways"), s.GetGateways())
	v.checkExportTo(p.at("exportTo"), s.GetExportTo())
	if len(s.GetHttp())+len(s.GetTls())+len(s.GetTcp()) == 0 {
		v.refuse(p, "there is none of http, tls and tcp", "write at least one rule")
	}
	for i, r := range s.GetHttp() {
		if r.GetDelegate() != nil && isDelegate(s) {
			own, to := v.d.key, delegateKey(r.GetDelegate(), v.d.key.Namespace)
			v.refuse(p.at("http", i, "delegate"), fmt.Sprintf("a delegate hands over no further: %s/%s → %s/%s", own.Namespace, own.Name, to.Namespace, to.Name),
				"this VirtualService is a delegate, for it has no hosts; let the first one name "+to.Namespace+"/"+to.Name)
		}
		v.httpRoute(p.at("http", i), r)
	}
	v.reachable(p.at("http"), s.GetHttp())
	v.connRoutes(p, s)
}

func (v *validation) virtualHosts(p fieldPath, s *networking.VirtualService) {
	hosts := s.GetHosts()
	if len(hosts) == 0 {
		if len(s.GetHttp()) == 0 || len(s.GetGateways())+len(s.GetTls())+len(s.GetTcp()) > 0 {
			v.refuse(p.at("hosts"), "hosts is missing", "name at least one host; a delegate, which has none, has nothing but http and exportTo")
		}
		return
	}
	mesh := bindsMesh(s.GetGateways())
	p = p.at("hosts")
	for i, host := range hosts {
		switch {
		case mesh && host == "*":
			v.refuseValue(p.at(i), "would take every call in the mesh",
				`name the hosts, or give gateways that do not include mesh`)
		case mesh && isIP(host):
			v.refuseValue(p.at(i), "is an IP address", "only rules of a gateway may name one: write the service's name")
		case isIP(host):
		default:
			v.host(p.at(i), host)
		}
	}
	v.distinctHosts(p, hosts)
}

// distinctHosts refuses a host that is there twice, or under a wildcard of the same list as well.
func (v *validation) distinctHosts(p fieldPath, hosts []string) {
	seen, wild := make(map[string]int, len(hosts)), make(map[string]int) // wild by what follows the "*"
	for i, host := range hosts {
		host = canonicalName(host)
		if first, again := seen[host]; again {
			v.refuseValue(p.at(i), fmt.Sprintf("repeats %s[%d]", fieldName(p), first), "keep one of them")
			continue
		}
		seen[host] = i
		if suffix, ok := strings.CutPrefix(host, "*"); ok {
			wild[suffix] = i
		}
	}
	for i, host := range hosts {
		host = canonicalName(host)
		from := 1
		if isWildcard(host) {
			from = 2
		}
		for at := from; at <= len(host) && len(wild) > 0; at++ {
			if j, ok := wild[host[at:]]; ok {
				v.refuseValue(p.at(i), fmt.Sprintf("is covered by %s[%d], %s", fieldName(p), j, quoted(hosts[j])),
					"keep one of them")
				break
			}
		}
	}
}

// httpRoute checks one rule.
func (v *validation) httpRoute(p fieldPath, r *networking.HTTPRoute) {
	v.action(p, r)
	for i, m := range r.GetMatch() {
		v.httpMatch(p.at("match", i), m)
	}
	v.httpDestinations(p.at("route"), r.GetRoute())
	v.redirect(p.at("redirect"), r)
	v.directResponse(p.at("directResponse"), r.GetDirectResponse())
	if r.GetDelegate() != nil {
		v.delegate(p.at("delegate"), r.GetDelegate())
	}
	v.rewrite(p.at("rewrite"), r)
	v.headers(p.at("headers"), r.GetHeaders(), r.GetRewrite().GetAuthority())
	v.fault(p.at("fault"), r.GetFault())
	if t := r.GetTimeout(); t != nil && t.AsDuration() != 0 {
		v.duration(p.at("timeout"), t)
	}
	v.retries(p.at("retries"), r)
	v.mirror(p, r)
	v.oldSpellings(p, r)
	v.cors(p.at("corsPolicy"), r.GetCorsPolicy())
}

// action checks that a rule says one thing to do with a request.
func (v *validation) action(p fieldPath, r *networking.HTTPRoute) {
	var there []string
	if len(r.GetRoute()) > 0 {
		there = append(there, "route")
	}
	if r.GetRedirect() != nil {
		there = append(there, "redirect")
	}
	if r.GetDelegate() != nil {
		there = append(there, "delegate")
	}
	if r.GetDirectResponse() != nil && r.GetDelegate() == nil { // a delegate's rules inherit it
		there = append(there, "directResponse")
	}
	if len(there) == 0 {
		v.refuse(p, "the rule has none of route, redirect, directResponse and delegate", "say where its requests go")
		return
	}
	if r.GetRedirect() != nil || r.GetDirectResponse() != nil && r.GetDelegate() == nil {
		// What is answered here has no request to change or to fail.
		if r.GetFault() != nil {
			there = append(there, "fault")
		}
		if r.GetRewrite() != nil {
			there = append(there, "rewrite")
		}
	}
	for _, name := range there[1:] {
		v.refuse(p.at(name), there[0]+" and "+name+" exclude each other", "keep one of them")
	}
}

func (v *validation) httpDestinations(p fieldPath, list []*networking.HTTPRouteDestination) {
	weights := make([]int32, len(list))
	for i, d := range list {
		v.routed(p.at(i, "destination"), d.GetDestination())
		v.headers(p.at(i, "headers"), d.GetHeaders(), "")
		weights[i] = d.GetWeight()
	}
	v.weights(p, weights)
}

// routed checks a destination of a rule, which has to have one.
func (v *validation) routed(p fieldPath, d *networking.Destination) {
	if d == nil {
		v.refuse(p, "destination is missing", "name its host")
		return
	}
	v.destination(p, d)
}

// weights checks those of the destinations at p.
func (v *validation) weights(p fieldPath, list []int32) {
	sum, negative := uint64(0), false
	for i, weight := range list {
		if weight < 0 {
			negative = true
			v.refuseValue(p.at(i, "weight"), "is negative", "write 0 or more")
			continue
		}
		sum += uint64(weight)
	}
	if len(list) < 2 || negative {
		return
	}
	switch {
	case sum == 0:
		v.refuse(p, fmt.Sprintf("the weights of %d destinations sum to 0", len(list)), "give at least one of them a weight")
	case sum > math.MaxUint32:
		v.refuse(p, fmt.Sprintf("the weights sum to %d", sum), fmt.Sprintf("their sum is at most %d", uint32(math.MaxUint32)))
	case sum != 100:
		v.doubt(p, fmt.Sprintf("the weights sum to %d, not 100", sum),
			fmt.Sprintf("shares are relative: weight 1 is one in %d", sum))
	}
}

func (v *validation) destination(p fieldPath, d *networking.Destination) {
	switch d.GetHost() {
	case "":
		v.refuse(p.at("host"), "the destination has no host", "name a service")
	case "*":
		v.refuseValue(p.at("host"), "is every host and so no destination", "name a service")
	default:
		v.host(p.at("host"), d.GetHost())
	}
	if d.GetSubset() != "" {
		v.labelName(p.at("subset"), d.GetSubset(), "name of a subset")
	}
	if d.GetPort() != nil {
		v.port(p.at("port", "number"), d.GetPort().GetNumber())
	}
}

// retries checks HTTPRetry. What is not parsed here is compiled without another look.
func (v *validation) retries(p fieldPath, rule *networking.HTTPRoute) {
	r := rule.GetRetries()
	if r == nil {
		return
	}
	others := slices.DeleteFunc(setFields(r), func(name string) bool { return name == "attempts" })
	switch n := r.GetAttempts(); {
	case n < 0:
		v.refuseValue(p.at("attempts"), "is negative", "write 0 for no retries")
	case n == 0 && len(others) > 0:
		v.refuse(p.at("attempts"), "attempts is 0 or missing, but these are set: "+listed(others),
			"attempts counts the tries after the first; remove the rest where there shall be none")
	case n > 10:
		v.doubt(p.at("attempts"), fmt.Sprintf("%d retries multiply the load of a service that is failing", n),
			"2 or 3 serve most callers")
	}
	if r.GetRetryOn() != "" {
		v.retryOn(p.at("retryOn"), r.GetRetryOn())
	}
	v.duration(p.at("backoff"), r.GetBackoff())
	if t := r.GetPerTryTimeout(); t != nil {
		v.duration(p.at("perTryTimeout"), t)
		whole := rule.GetTimeout().AsDuration()
		if whole > 0 && t.AsDuration() >= whole {
			v.doubt(p.at("perTryTimeout"), fmt.Sprintf("%v is not less than the timeout of the whole call, %v: it has no effect",
				t.AsDuration(), whole), "leave time for more than one try")
		}
	}
}
