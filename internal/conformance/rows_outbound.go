package conformance

import "github.com/heddlemesh/mesh"

// outboundRows: MeshConfig.outboundTrafficPolicy.mode REGISTRY_ONLY. What ALLOW_ANY does, hostRows has.
func outboundRows() []Case {
	const (
		only  = "§2.1 outboundTrafficPolicy (REGISTRY_ONLY: BlackHoleCluster, 502 for HTTP)"
		known = only + "; §2.5 resolution NONE"
		ports = only + "; istio core/httproute: block_all is the catch-all of every port"
		rule  = only + "; §2.2 Spec hosts (hosts not in the registry, port 80)"
	)
	blocked := Result{Cluster: "BlackHoleCluster", Status: 502, Flag: "UH"}
	services := reviews() + ratings() + serviceEntry("default/ext", `
hosts: [ext.example.com, "*.wild.example.com"]
resolution: NONE
ports: [{number: 80, name: http, protocol: HTTP}]`) + virtualService("default/alias", `
hosts: [shop.internal.example]
http: [{name: alias, route: [{destination: {host: ratings}}]}]`)
	direct := func(host string) Result { return Result{Endpoint: host + ":80", Host: host, Attempts: anyAttempts} }
	rows := []Case{
		{Name: "service of the mesh", Cite: only, Request: get(reviewsURL), Want: Result{Cluster: clusterAll}},
		{Name: "unknown host", Cite: only, Request: get("http://nowhere.example.com/x?y=1"), Want: blocked},
		{Name: "unknown address", Cite: only, Request: get("http://192.0.2.7:9080/"), Want: blocked},
		{Name: "unknown host, with a body", Cite: only, Request: Request{Method: "POST", URL: "http://nowhere.example.com/x", Body: "once", Stream: true}, Want: blocked},
		{Name: "unknown host of a program's own TLS", Cite: only, Request: get("https://nowhere.example.com/"), Want: blocked},
		{Name: "undeclared port", Cite: ports, Request: get("http://reviews:1234/"), Want: blocked},
		{Name: "undeclared port that others declare", Cite: ports, Request: get("http://ext.example.com:9080/"), Want: blocked},
		{Name: "service of another namespace by its short name", Cite: only, Workload: in("other"), Request: get(reviewsURL), Want: blocked},
		{Name: "resolution NONE", Cite: known, Request: get("http://ext.example.com/"), Want: direct("ext.example.com")},
		{Name: "wildcard, resolution NONE", Cite: known, Request: get("http://a.wild.example.com/"), Want: direct("a.wild.example.com")},
		{Name: "the wildcard's base domain", Cite: known + "; §2.1 Wildcards", Request: get("http://wild.example.com/"), Want: blocked},
		{Name: "rule for a host outside the registry", Cite: rule, Request: get("http://shop.internal.example/"), Want: Result{Route: "alias", Endpoint: ratingsAt}},
		{Name: "the same host on another port", Cite: rule, Request: get("http://shop.internal.example:9080/"), Want: blocked},
		{Name: "the same host by a program's own TLS", Cite: rule, Request: get("https://shop.internal.example:80/"), Want: blocked},
	}
	for i := range rows {
		rows[i].Config, rows[i].Outbound = services, mesh.RegistryOnly
	}
	return rows
}

// outboundMutations are faults in what the policy lets out.
func outboundMutations() []Mutation {
	return []Mutation{
		{Name: "outbound traffic policy not read", Groups: []string{"outbound"}, anyHost: true},
	}
}
