package conformance

import "github.com/heddlemesh/mesh"

// loadBalancerRows: loadBalancer.simple, and which of several policies counts.
func loadBalancerRows() []Case {
	const (
		simple   = "§2.3 loadBalancer.simple"
		original = simple + " PASSTHROUGH (original destination)"
		levels   = "§2.3 Levels"
		weight   = "§2.6 weight; §2.3 loadBalancer.simple"
	)
	// Four endpoints, two of each version; the subset of v2 has a turn of its own.
	service := serviceEntry("default/reviews", `
hosts: [reviews.default.svc.cluster.local]
location: MESH_INTERNAL
resolution: STATIC
ports:
- {number: 9080, name: http, protocol: HTTP}
- {number: 8080, name: http-alt, protocol: HTTP}
endpoints:
- {address: 10.0.0.1, labels: {version: v1}}
- {address: 10.0.0.2, labels: {version: v2}}
- {address: 10.0.0.3, labels: {version: v1}}
- {address: 10.0.0.4, labels: {version: v2}}`)
	toSubset := rules("- {name: r, route: [{destination: {host: reviews, subset: v2}}]}")
	policy := func(spec string) string { return service + destinationRule("default/reviews", "host: reviews\n"+spec) }
	subset := func(top, ofSubset string) string {
		return policy("trafficPolicy: "+top+"\nsubsets:\n- name: v2\n  labels: {version: v2}\n  trafficPolicy: "+ofSubset) + toSubset
	}
	const (
		robin   = "{loadBalancer: {simple: ROUND_ROBIN}}"
		pass    = "{loadBalancer: {simple: PASSTHROUGH}}"
		random  = "{loadBalancer: {simple: RANDOM}}"
		connect = "{connectionPool: {tcp: {connectTimeout: 5s}}}"
		v4      = "10.0.0.4:9080"
	)
	all, pair := []string{v1, v2, v3, v4}, []string{v2, v4}
	quarter := map[string]float64{v1: 25, v2: 25, v3: 25, v4: 25}
	weighted := func(policy string) string {
		return static("default/reviews", "9080", "10.0.0.1, weight: 70", "10.0.0.2, weight: 20", "10.0.0.3, weight: 10") +
			destinationRule("default/reviews", "host: reviews\ntrafficPolicy: "+policy)
	}
	shares := map[string]float64{v1: 70, v2: 20, v3: 10}
	alt := get("http://reviews:8080/")
	pointed := func(at, cluster string) Result { return Result{Cluster: cluster, Endpoint: at, Attempts: anyAttempts} }

	rows := []Case{
		{Name: "ROUND_ROBIN takes turns", Cite: simple, Config: policy("trafficPolicy: " + robin), Repeat: 41, Cycle: all},
		{Name: "RANDOM takes no turns", Cite: simple, Config: policy("trafficPolicy: " + random), Repeat: 60, Random: true},
		{Name: "RANDOM is even", Cite: simple, Config: policy("trafficPolicy: " + random), Repeat: 10_000, Shares: quarter},
		{Name: "LEAST_REQUEST takes no turns", Cite: simple, Config: policy("trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}"), Repeat: 60, Random: true},
		{Name: "LEAST_REQUEST is even without load", Cite: simple + " (pick 2 at random)", Config: policy("trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}"), Repeat: 10_000, Shares: quarter},
		{Name: "LEAST_CONN is LEAST_REQUEST", Cite: simple, Config: policy("trafficPolicy: {loadBalancer: {simple: LEAST_CONN}}"), Repeat: 60, Random: true},
		{Name: "UNSPECIFIED is LEAST_REQUEST", Cite: simple, Config: policy("trafficPolicy: {loadBalancer: {simple: UNSPECIFIED}}"), Repeat: 60, Random: true},
		{Name: "the default is LEAST_REQUEST", Cite: simple + "; §6.13", Config: service, Repeat: 60, Random: true},
		{Name: "PASSTHROUGH goes where the caller pointed", Cite: original, Config: policy("trafficPolicy: " + pass), Repeat: 5, Want: pointed("reviews:9080", clusterAll)},
		{Name: "PASSTHROUGH of a subset", Cite: original + "; " + levels, Config: subset(robin, pass), Repeat: 5, Want: pointed("reviews:9080", clusterV2)},
		{Name: "a subset of a PASSTHROUGH", Cite: original + "; " + levels, Config: subset(pass, robin), Repeat: 20, Cycle: pair},
		{Name: "PASSTHROUGH of another port", Cite: original + "; " + levels, Config: policy("trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, portLevelSettings: [{port: {number: 8080}, loadBalancer: {simple: PASSTHROUGH}}]}"), Repeat: 41, Cycle: all},
		{Name: "PASSTHROUGH of a rule's destination", Cite: original, Config: reviews() + ratings() + destinationRule("default/ratings", "host: ratings\ntrafficPolicy: "+pass) +
			rules("- {name: r, headers: {request: {set: {x-env: test}}}, route: [{destination: {host: ratings}}]}"),
			Want: Result{Route: "r", Cluster: "outbound|9080||ratings.default.svc.cluster.local", Endpoint: "reviews:9080", Attempts: anyAttempts, Header: map[string][]string{"X-Env": {"test"}}}},
		{Name: "PASSTHROUGH, REGISTRY_ONLY", Cite: original + "; §2.1 outboundTrafficPolicy", Config: policy("trafficPolicy: " + pass), Outbound: mesh.RegistryOnly, Want: pointed("reviews:9080", clusterAll)},
		{Name: "PASSTHROUGH over TLS", Cite: original, Deviation: "TLS of the mesh's needs an endpoint of the mesh's, so far", Config: policy("trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}, tls: {mode: SIMPLE}}"),
			Want: Result{Status: 503, Flag: "NC"}},
		{Name: "subset's policy before the host's", Cite: levels, Config: subset(random, robin), Repeat: 20, Cycle: pair},
		{Name: "subset's RANDOM before the host's turns", Cite: levels, Config: subset(robin, random), Repeat: 60, Random: true},
		{Name: "subset inherits block by block", Cite: levels + " (overrides per block)", Config: subset(robin, connect), Repeat: 20, Cycle: pair},
		{Name: "subset without a policy inherits", Cite: levels, Config: subset(robin, "{}"), Repeat: 20, Cycle: pair},
		{Name: "subset's policy counts only for the subset", Cite: levels + " (only if a route names the subset)",
			Config: policy("trafficPolicy: " + random + "\nsubsets: [{name: v2, labels: {version: v2}, trafficPolicy: " + robin + "}]"), Repeat: 60, Random: true},
		{Name: "port's policy before the host's", Cite: levels,
			Config: policy("trafficPolicy:\n  loadBalancer: {simple: RANDOM}\n  portLevelSettings: [{port: {number: 9080}, loadBalancer: {simple: ROUND_ROBIN}}]"), Repeat: 20, Cycle: all},
		{Name: "port's policy is that port's only", Cite: levels, Request: alt,
			Config: policy("trafficPolicy:\n  loadBalancer: {simple: RANDOM}\n  portLevelSettings: [{port: {number: 9080}, loadBalancer: {simple: ROUND_ROBIN}}]"), Repeat: 60, Random: true},
		{Name: "port's policy replaces the whole set", Cite: levels + " (blocks not repeated fall back to the mesh default); §6.8",
			Config: policy("trafficPolicy:\n  loadBalancer: {simple: ROUND_ROBIN}\n  portLevelSettings: [{port: {number: 9080}, connectionPool: {tcp: {connectTimeout: 5s}}}]"), Repeat: 60, Random: true},
		{Name: "the other port keeps the host's policy", Cite: levels, Request: alt,
			Config: policy("trafficPolicy:\n  loadBalancer: {simple: ROUND_ROBIN}\n  portLevelSettings: [{port: {number: 9080}, connectionPool: {tcp: {connectTimeout: 5s}}}]"), Repeat: 20,
			Cycle: []string{"10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080", "10.0.0.4:8080"}},
		{Name: "subset's port before the subset", Cite: levels + " (subset+port > subset)",
			Config: subset(random, "{loadBalancer: {simple: RANDOM}, portLevelSettings: [{port: {number: 9080}, loadBalancer: {simple: ROUND_ROBIN}}]}"), Repeat: 20, Cycle: pair},
		{Name: "subset before the host's port", Cite: levels + " (subset > DR+port)",
			Config: subset("{portLevelSettings: [{port: {number: 9080}, loadBalancer: {simple: RANDOM}}]}", robin), Repeat: 20, Cycle: pair},
		{Name: "weights under ROUND_ROBIN", Cite: weight, Config: weighted(robin), Repeat: 2_000, Shares: shares},
		{Name: "weights under LEAST_REQUEST", Cite: weight + " (weighted round robin on w/(active+1))", Config: weighted("{loadBalancer: {simple: LEAST_REQUEST}}"), Repeat: 10_000, Shares: shares},
	}
	for i := range rows {
		if rows[i].Request.URL == "" {
			rows[i].Request = get(reviewsURL)
		}
	}
	return rows
}
