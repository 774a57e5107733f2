package conformance

import (
	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// localityRows: loadBalancer.localityLbSetting, by which endpoints there are: that health moves calls too is package
// balance's to prove.
func localityRows() []Case {
	const (
		builtIn  = "§2.3 built-in priorities"
		only     = builtIn + " (only active if outlierDetection is set); §6.10"
		share    = "§2.3 localityLbSetting.distribute"
		failover = "§2.3 .failover"
		priority = "§2.3 .failoverPriority"
		enabled  = "§2.3 .enabled"
		meshWide = "§2.1 localityLbSetting.enabled; " + enabled + " (DR value replaces the mesh value as a whole)"
	)
	// Every row says which of these are there.
	const (
		near    = "10.0.0.1:9080" // us/a/1
		subzone = "10.0.0.2:9080" // us/a/2
		zone    = "10.0.0.3:9080" // us/b/1
		eu      = "10.0.0.4:9080"
		ap      = "10.0.0.5:9080"
	)
	places := map[string]string{
		near:    "10.0.0.1, locality: us/a/1, labels: {version: v1, tier: gold}",
		subzone: "10.0.0.2, locality: us/a/2, labels: {version: v1, tier: tin}",
		zone:    "10.0.0.3, locality: us/b/1, labels: {version: v2, tier: gold}",
		eu:      "10.0.0.4, locality: eu/x/1, labels: {version: v2, tier: tin}",
		ap:      "10.0.0.5, locality: ap/y/1, labels: {version: v3, tier: tin}",
	}
	service := func(at ...string) string {
		var endpoints []string
		for _, a := range at {
			endpoints = append(endpoints, places[a])
		}
		return static("default/reviews", "9080", endpoints...)
	}
	policy := func(text string) string {
		return destinationRule("default/reviews", "host: reviews\ntrafficPolicy: "+text)
	}
	setting := func(text string) string { return policy("{loadBalancer: {localityLbSetting: " + text + "}}") }
	watched := func(text string) string {
		return policy("{outlierDetection: {consecutive5xxErrors: 5}, loadBalancer: {localityLbSetting: " + text + "}}")
	}
	outlier := policy("{outlierDetection: {consecutive5xxErrors: 5}}")
	caller := mesh.Workload{Locality: "us/a/1", Labels: map[string]string{"version": "v2", "tier": "tin"}}
	off := meshConfig("localityLbSetting: {enabled: false}")
	all := []string{near, subzone, zone, eu, ap}
	even := map[string]float64{near: 20, subzone: 20, zone: 20, eu: 20, ap: 20}
	lone := func(at string) map[string]float64 { return map[string]float64{at: 100} }
	const many = 4_000
	rows := []Case{
		{Name: "the same subzone", Cite: builtIn, Config: service(all...) + outlier, Shares: lone(near)},
		{Name: "else the same zone", Cite: builtIn, Config: service(subzone, zone, eu, ap) + outlier, Shares: lone(subzone)},
		{Name: "else the same region", Cite: builtIn, Config: service(zone, eu, ap) + outlier, Shares: lone(zone)},
		{Name: "else everywhere", Cite: builtIn, Config: service(eu, ap) + outlier, Repeat: many, Shares: map[string]float64{eu: 50, ap: 50}},
		{Name: "else the region of the failover", Cite: failover, Config: service(eu, ap) + watched("{failover: [{from: eu, to: us}, {from: us, to: ap}]}"), Shares: lone(ap)},
		{Name: "failover of another region", Cite: failover, Config: service(eu, ap) + watched("{failover: [{from: eu, to: us}]}"), Repeat: many, Shares: map[string]float64{eu: 50, ap: 50}},
		{Name: "failover after the own region", Cite: failover, Config: service(zone, eu, ap) + watched("{failover: [{from: us, to: ap}]}"), Shares: lone(zone)},
		{Name: "nothing without outlier detection", Cite: only, Config: service(all...), Repeat: many, Shares: even},
		{Name: "no failover without outlier detection", Cite: only, Config: service(all...) + setting("{failover: [{from: us, to: ap}]}"), Repeat: many, Shares: even},
		{Name: "switched off", Cite: enabled, Config: service(all...) + watched("{enabled: false}"), Repeat: many, Shares: even},
		{Name: "switched off for the mesh", Cite: meshWide, Config: service(all...) + outlier + off, Repeat: many, Shares: even},
		{Name: "switched off for the mesh, not by the rule", Cite: meshWide, Config: service(all...) + watched("{enabled: true}") + off, Shares: lone(near)},
		{Name: "failover for the mesh", Cite: meshWide, Config: service(eu, ap) + outlier + meshConfig("localityLbSetting: {failover: [{from: us, to: ap}]}"), Shares: lone(ap)},
		{Name: "from nowhere", Cite: builtIn, Config: service(all...) + outlier, Workload: mesh.Workload{Namespace: "default"}, Repeat: many, Shares: even},
		{Name: "from a zone", Cite: builtIn, Config: service(near, zone, eu) + outlier, Workload: mesh.Workload{Locality: "us/b"}, Shares: lone(zone)},
		{Name: "shares of places", Cite: share, Config: service(all...) + setting(`{distribute: [{from: "us/a/*", to: {"us/a/*": 60, "us/b/*": 30, "eu/*": 10}}]}`), Repeat: many,
			Shares: map[string]float64{near: 30, subzone: 30, zone: 30, eu: 10}},
		{Name: "shares are split by weight", Cite: share + "; §2.6 weight", Config: static("default/reviews", "9080", "10.0.0.1, locality: us/a/1, weight: 3", "10.0.0.2, locality: us/a/2, weight: 1", "10.0.0.4, locality: eu/x/1") +
			setting(`{distribute: [{from: us, to: {us: 80, eu: 20}}]}`), Repeat: many, Shares: map[string]float64{near: 60, subzone: 20, eu: 20}},
		{Name: "shares of the narrowest place first", Cite: share, Config: service(all...) + setting(`{distribute: [{from: "us/*", to: {"*": 20, "us/a/1": 50, "us/a": 30}}]}`), Repeat: many,
			Shares: map[string]float64{near: 50, subzone: 30, zone: 20.0 / 3, eu: 20.0 / 3, ap: 20.0 / 3}},
		{Name: "shares from another place", Cite: share, Config: service(all...) + setting(`{distribute: [{from: "eu/*", to: {"eu/*": 100}}]}`), Repeat: many, Shares: even},
		{Name: "shares of places without endpoints", Cite: share, Config: service(zone, eu) + setting(`{distribute: [{from: us, to: {"us/a": 50, "us/b": 25, eu: 25}}]}`), Repeat: many,
			Shares: map[string]float64{zone: 50, eu: 50}},
		{Name: "shares of nothing that is there", Cite: share + " (localities not named get nothing); §3.6 UH", Config: service(eu) + setting(`{distribute: [{from: us, to: {us: 100}}]}`),
			Want: Result{Status: 503, Flag: "UH"}},
		{Name: "shares switched off", Cite: enabled, Config: service(all...) + setting(`{enabled: false, distribute: [{from: us, to: {us: 100}}]}`), Repeat: many, Shares: even},
		{Name: "priority by labels", Cite: priority, Config: service(all...) + watched("{failoverPriority: [version, tier]}"), Shares: lone(eu)},
		{Name: "priority by the first label", Cite: priority, Config: service(near, subzone, zone) + watched("{failoverPriority: [version, tier]}"), Shares: lone(zone)},
		{Name: "priority by a label of that value", Cite: priority, Config: service(all...) + watched(`{failoverPriority: ["version=v1", "tier=gold"]}`), Shares: lone(near)},
		{Name: "priority by the place's labels", Cite: priority, Config: service(all...) + watched("{failoverPriority: [topology.kubernetes.io/region, topology.kubernetes.io/zone]}"), Repeat: many,
			Shares: map[string]float64{near: 50, subzone: 50}},
		{Name: "priority by labels that nobody shares", Cite: priority, Config: service(near, ap) + watched("{failoverPriority: [version]}"), Repeat: many, Shares: map[string]float64{near: 50, ap: 50}},
		{Name: "turns within a priority", Cite: builtIn + "; §2.3 loadBalancer.simple", Config: static("default/reviews", "9080", "10.0.0.1, locality: us/a/1", "10.0.0.2, locality: us/a/1", "10.0.0.4, locality: eu/x/1") +
			policy("{outlierDetection: {}, loadBalancer: {simple: ROUND_ROBIN}}"), Repeat: 20, Cycle: []string{near, subzone}},
		{Name: "keys within a priority", Cite: builtIn + "; §2.3 consistentHash key", Config: static("default/reviews", "9080", "10.0.0.1, locality: us/a/1", "10.0.0.2, locality: us/a/1", "10.0.0.4, locality: eu/x/1") +
			policy("{outlierDetection: {}, loadBalancer: {consistentHash: {httpHeaderName: x-user}}}"), Request: Request{URL: reviewsURL, Header: map[string][]string{"X-User": {"u{n}"}}}, Keys: 20, Repeat: 60},
	}
	for i := range rows {
		if rows[i].Request.URL == "" {
			rows[i].Request = get(reviewsURL)
		}
		if rows[i].Workload.Locality == "" && rows[i].Workload.Namespace == "" {
			rows[i].Workload = caller
		}
		if rows[i].Repeat == 0 && rows[i].Shares != nil {
			rows[i].Repeat = 40
		}
	}
	return rows
}

// localityMutations are faults in what places mean.
func localityMutations() []Mutation {
	place := func(name string, edit func(*balance.LocalityPolicy)) Mutation {
		return Mutation{Name: name, Groups: []string{"locality"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) {
				if c.Policy.Locality != nil {
					p := *c.Policy.Locality
					edit(&p)
					c.Policy.Locality = &p
				}
			})
		}}
	}
	return []Mutation{
		{Name: "places mean nothing", Groups: []string{"locality"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) { c.Policy.Locality = nil })
		}},
		{Name: "places always count", Groups: []string{"locality"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) {
				if c.Policy.Locality == nil {
					c.Policy.Locality = new(balance.LocalityPolicy)
					c.Policy.Client = &balance.Client{Locality: balance.ParseLocality("us/a/1")}
				}
			})
		}},
		{Name: "everybody calls from nowhere", Groups: []string{"locality"}, edit: func(d *draft) {
			d.eachCluster(func(c *snapshot.Cluster) { c.Policy.Client = nil })
		}},
		place("shares not read", func(p *balance.LocalityPolicy) { p.Distribute = nil }),
		place("failover not read", func(p *balance.LocalityPolicy) { p.Failover = nil }),
		place("labels not read", func(p *balance.LocalityPolicy) { p.FailoverPriority = nil }),
	}
}
