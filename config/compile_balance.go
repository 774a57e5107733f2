package config

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// balancing reads how a cluster's endpoints are chosen: loadBalancer, and of outlierDetection what it says about
// that.
func (c *compiler) balancing(policy *snapshot.Policy, blocks *networking.TrafficPolicy) {
	lb, outlier := blocks.GetLoadBalancer(), blocks.GetOutlierDetection()
	policy.Algorithm = algorithm(lb)
	if h := lb.GetConsistentHash(); h != nil {
		policy.Hash = hashPolicy(h)
		policy.RingSize, policy.TableSize = tableSizes(h)
	}
	policy.Warmup = warmup(lb)
	policy.PanicThreshold = uint8(outlier.GetMinHealthPercent())
	if policy.Locality = c.locality(lb.GetLocalityLbSetting(), outlier != nil); policy.Locality != nil {
		policy.Client = c.client()
	}
}

// algorithm reads loadBalancer.simple and .consistentHash; unset is LEAST_REQUEST, as LEAST_CONN is by another
// name.
func algorithm(lb *networking.LoadBalancerSettings) balance.Algorithm {
	if h := lb.GetConsistentHash(); h != nil {
		if h.GetMaglev() != nil {
			return balance.Maglev
		}
		return balance.RingHash
	}
	switch lb.GetSimple() {
	case networking.LoadBalancerSettings_ROUND_ROBIN:
		return balance.RoundRobin
	case networking.LoadBalancerSettings_RANDOM:
		return balance.Random
	}
	return balance.LeastRequest
}

func tableSizes(h *networking.LoadBalancerSettings_ConsistentHashLB) (ring, table uint32) {
	size := h.GetRingHash().GetMinimumRingSize()
	if size == 0 {
		size = h.GetMinimumRingSize() //nolint:staticcheck // SA1019: documents still have it
	}
	return uint32(min(size, mostRing)), uint32(min(h.GetMaglev().GetTableSize(), mostMaglev))
}

func hashPolicy(h *networking.LoadBalancerSettings_ConsistentHashLB) snapshot.HashPolicy {
	switch t := h.GetHashKey().(type) {
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName:
		return snapshot.HashPolicy{Kind: snapshot.HashHeader, Name: t.HttpHeaderName, Header: call.NewName(t.HttpHeaderName)}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie:
		p := snapshot.HashPolicy{Kind: snapshot.HashCookie, Name: t.HttpCookie.GetName()}
		if ttl := t.HttpCookie.GetTtl(); ttl != nil {
			p.Cookie = &snapshot.Cookie{TTL: ttl.AsDuration(), Path: t.HttpCookie.GetPath()}
			for _, a := range t.HttpCookie.GetAttributes() {
				p.Cookie.Attributes = append(p.Cookie.Attributes, snapshot.CookieAttribute{Name: a.GetName(), Value: a.GetValue()})
			}
		}
		return p
	case *networking.LoadBalancerSettings_ConsistentHashLB_UseSourceIp:
		return snapshot.HashPolicy{Kind: snapshot.HashSource}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpQueryParameterName:
		return snapshot.HashPolicy{Kind: snapshot.HashQuery, Name: t.HttpQueryParameterName}
	}
	return snapshot.HashPolicy{}
}

// warmup reads loadBalancer.warmup, or its old form.
func warmup(lb *networking.LoadBalancerSettings) balance.Warmup {
	w := balance.Warmup{MinimumPercent: 10, Aggression: 1}
	switch {
	case lb.GetWarmup() != nil:
		w.Duration = lb.GetWarmup().GetDuration().AsDuration()
		if p := lb.GetWarmup().GetMinimumPercent(); p != nil {
			w.MinimumPercent = p.GetValue()
		}
		if a := lb.GetWarmup().GetAggression(); a != nil {
			w.Aggression = a.GetValue()
		}
	case lb.GetWarmupDurationSecs() != nil:
		w.Duration = lb.GetWarmupDurationSecs().AsDuration()
	default:
		return balance.Warmup{}
	}
	return w
}

// locality says what the places of endpoints mean, nil for nothing. A rule's setting replaces the mesh's as a whole.
// Shares hold in any case; failover, the built-in one too, only under outlier detection (istio.io,
// pilot/pkg/networking/core/loadbalancer ApplyLocalityLoadBalancer).
func (c *compiler) locality(own *networking.LocalityLoadBalancerSetting, outlier bool) *balance.LocalityPolicy {
	set := own
	if set == nil {
		set = c.mesh.GetLocalityLbSetting()
	}
	if e := set.GetEnabled(); e != nil && !e.GetValue() {
		return nil
	}
	switch {
	case len(set.GetDistribute()) > 0:
		return &balance.LocalityPolicy{Distribute: distribution(set.GetDistribute())}
	case !outlier:
		return nil
	}
	p := &balance.LocalityPolicy{FailoverPriority: slices.Clone(set.GetFailoverPriority())}
	for _, f := range set.GetFailover() {
		p.Failover = append(p.Failover, balance.Failover{From: f.GetFrom(), To: f.GetTo()})
	}
	return p
}

// distribution orders the shares so that the narrowest place comes first: it has the endpoints that a wider one
// would take too.
func distribution(list []*networking.LocalityLoadBalancerSetting_Distribute) []balance.Distribution {
	out := make([]balance.Distribution, len(list))
	for i, d := range list {
		out[i].From = d.GetFrom()
		places := slices.SortedFunc(maps.Keys(d.GetTo()), func(a, b string) int {
			return cmp.Or(cmp.Compare(strings.Count(withinLocality(b), "/"), strings.Count(withinLocality(a), "/")),
				cmp.Compare(len(withinLocality(b)), len(withinLocality(a))), cmp.Compare(a, b))
		})
		for _, to := range places {
			out[i].To = append(out[i].To, balance.Share{To: to, Weight: d.GetTo()[to]})
		}
	}
	return out
}

// client is from where the workload sees endpoints.
func (c *compiler) client() *balance.Client {
	if c.here == nil {
		c.here = &balance.Client{Locality: balance.ParseLocality(c.workload.Locality), Labels: c.workload.Labels}
	}
	return c.here
}

// stays keeps the retries of a rule with one hashed destination where its hash leads, unless somebody has asked for
// other endpoints (HTTPRetry.retryIgnorePreviousHosts; istio.io, route/retry ConvertPolicy).
func (c *compiler) stays(r *routing.Route, own *networking.HTTPRetry) {
	if own == nil {
		own = c.mesh.GetDefaultHttpRetryPolicy()
	}
	if r.Retry == nil || !r.Retry.AvoidPrevious || own.GetRetryIgnorePreviousHosts() != nil || len(r.Split) != 1 {
		return
	}
	if at := r.Split[0].Index; at >= 0 && c.clusters[at].Policy.Hash.Kind != snapshot.HashNothing {
		retry := *r.Retry
		retry.AvoidPrevious = false
		r.Retry = &retry
	}
}
