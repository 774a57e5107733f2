package conformance

// endpointRows: where the endpoints of a ServiceEntry come from, and on which port they are.
func endpointRows() []Case {
	const (
		static   = "§2.5 resolution STATIC, endpoints"
		target   = "§2.5 ports targetPort"
		ports    = "§2.6 ports"
		selector = "§2.5 workloadSelector; §2.6"
		none     = "§2.5 resolution NONE"
		dns      = "§2.5 resolution DNS"
	)
	entry := func(spec string) string {
		return serviceEntry("default/reviews", "hosts: [reviews.default.svc.cluster.local]\nlocation: MESH_INTERNAL\n"+spec)
	}
	selected := entry(`
resolution: STATIC
ports: [{number: 9080, name: http, protocol: HTTP}]
workloadSelector: {labels: {app: reviews}}`)
	external := func(spec string) string {
		return serviceEntry("default/ext", "hosts: [ext.example.com]\n"+spec)
	}
	turns := destinationRule("default/ext", "host: ext.example.com\ntrafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}")
	at := func(endpoint string) Result { return Result{Cluster: clusterAll, Endpoint: endpoint} }
	outside := func(endpoint string) Result {
		return Result{Cluster: "outbound|80||ext.example.com", Endpoint: endpoint, Host: "ext.example.com"}
	}
	// Whether a call to where the caller pointed counts as an attempt is not the table's to say.
	pointed := outside("ext.example.com:80")
	pointed.Attempts = anyAttempts
	reviewsCall, externalCall := get(reviewsURL), get("http://ext.example.com/")
	twoPorts := entry(`
resolution: STATIC
ports:
- {number: 9080, name: http, protocol: HTTP}
- {number: 8080, name: admin, protocol: HTTP, targetPort: 8001}
endpoints: [{address: 10.0.0.1, ports: {http: 7001, admin: 7002}}]`)

	return []Case{
		{Name: "port of the service", Cite: static + "; " + target + " (= number)", Request: reviewsCall, Want: at("10.0.0.1:9080"), Config: entry(`
resolution: STATIC
ports: [{number: 9080, name: http, protocol: HTTP}]
endpoints: [{address: 10.0.0.1}]`)},
		{Name: "targetPort", Cite: target, Request: reviewsCall, Want: at("10.0.0.1:8080"), Config: entry(`
resolution: STATIC
ports: [{number: 9080, name: http, protocol: HTTP, targetPort: 8080}]
endpoints: [{address: 10.0.0.1}]`)},
		{Name: "endpoint's port before targetPort", Cite: ports, Request: reviewsCall, Want: at("10.0.0.1:7777"), Config: entry(`
resolution: STATIC
ports: [{number: 9080, name: http, protocol: HTTP, targetPort: 8080}]
endpoints: [{address: 10.0.0.1, ports: {http: 7777}}]`)},
		{Name: "endpoint's port by the name of the port", Cite: ports, Request: reviewsCall, Want: at("10.0.0.1:8080"), Config: entry(`
resolution: STATIC
ports: [{number: 9080, name: http, protocol: HTTP, targetPort: 8080}, {number: 9090, name: admin, protocol: HTTP}]
endpoints: [{address: 10.0.0.1, ports: {admin: 7777}}]`)},
		{Name: "each port its own", Cite: ports, Request: get("http://reviews:8080/"),
			Want: Result{Cluster: "outbound|8080||" + reviewsHost, Endpoint: "10.0.0.1:7002"}, Config: twoPorts},
		{Name: "IPv6", Cite: "§2.6 address", Request: reviewsCall, Want: at("[2001:db8::1]:9080"), Config: entry(`
resolution: STATIC
ports: [{number: 9080, name: http, protocol: HTTP}]
endpoints: [{address: "2001:db8::1"}]`)},
		{Name: "Unix domain socket", Cite: "§2.6 address (unix:///abs)", Request: reviewsCall, Want: at("unix:///run/reviews.sock"), Config: entry(`
resolution: STATIC
ports: [{number: 9080, name: http, protocol: HTTP}]
endpoints: [{address: "unix:///run/reviews.sock"}]`)},
		{Name: "a second host of the entry", Cite: "§2.5 hosts", Request: get("http://b.example.com/"),
			Want: Result{Cluster: "outbound|80||b.example.com", Endpoint: "10.0.7.1:80"}, Config: serviceEntry("default/two", `
hosts: [a.example.com, b.example.com]
resolution: STATIC
ports: [{number: 80, name: http, protocol: HTTP}]
endpoints: [{address: 10.0.7.1}]`)},
		{Name: "WorkloadEntry by label", Cite: selector, Request: reviewsCall, Repeat: 20, Want: at("10.0.8.1:9080"), Config: selected +
			workloadEntry("default/r1", "address: 10.0.8.1\nlabels: {app: reviews}") +
			workloadEntry("default/other", "address: 10.0.8.2\nlabels: {app: ratings}")},
		{Name: "WorkloadEntry without labels", Cite: selector, Request: reviewsCall, Want: Result{Status: 503, Flag: "UH"}, Config: selected +
			workloadEntry("default/r1", "address: 10.0.8.1")},
		{Name: "nobody selected", Cite: selector + "; §3.6 UH", Request: reviewsCall, Want: Result{Status: 503, Flag: "UH"}, Config: selected},
		{Name: "WorkloadEntry of another namespace", Cite: selector + "; §2.1 Selectors (the namespace)", Request: reviewsCall,
			Want: Result{Status: 503, Flag: "UH"}, Config: selected + workloadEntry("other/r1", "address: 10.0.8.1\nlabels: {app: reviews}")},
		{Name: "WorkloadEntry's port", Cite: ports, Request: reviewsCall, Want: at("10.0.8.1:7777"), Config: selected +
			workloadEntry("default/r1", "address: 10.0.8.1\nports: {http: 7777}\nlabels: {app: reviews}")},
		{Name: "WorkloadEntry's weight", Cite: "§2.6 weight", Request: reviewsCall, Repeat: 10_000,
			Shares: map[string]float64{"10.0.8.1:9080": 75, "10.0.8.2:9080": 25}, Config: selected +
				workloadEntry("default/r1", "address: 10.0.8.1\nweight: 3\nlabels: {app: reviews}") +
				workloadEntry("default/r2", "address: 10.0.8.2\nweight: 1\nlabels: {app: reviews}")},
		{Name: "subset of WorkloadEntries", Cite: "§2.6 labels; §2.3 subsets", Request: reviewsCall, Repeat: 20,
			Want: Result{Cluster: clusterV2, Endpoint: "10.0.8.2:9080"}, Config: selected + versions() +
				rules("- {name: r, route: [{destination: {host: reviews, subset: v2}}]}") +
				workloadEntry("default/r1", "address: 10.0.8.1\nlabels: {app: reviews, version: v1}") +
				workloadEntry("default/r2", "address: 10.0.8.2\nlabels: {app: reviews, version: v2}")},
		{Name: "NONE goes where the caller pointed", Cite: none, Request: externalCall, Want: pointed, Config: external(`
resolution: NONE
ports: [{number: 80, name: http, protocol: HTTP}]`)},
		{Name: "NONE is the default", Cite: none, Request: externalCall, Want: pointed, Config: external(`
ports: [{number: 80, name: http, protocol: HTTP}]`)},
		{Name: "NONE with a wildcard keeps the host", Cite: none, Request: get("http://de.example.com/"),
			Want: Result{Cluster: "outbound|80||*.example.com", Endpoint: "de.example.com:80", Host: "de.example.com", Attempts: anyAttempts}, Config: serviceEntry("default/any", `
hosts: ["*.example.com"]
resolution: NONE
ports: [{number: 80, name: http, protocol: HTTP}]`)},
		{Name: "DNS without endpoints resolves the host", Cite: dns + "; §2.5 Failure modes", Request: externalCall, Repeat: 10,
			Want: outside(""), Cycle: []string{"10.0.9.1:80", "10.0.9.2:80"}, Config: turns + external(`
resolution: DNS
ports: [{number: 80, name: http, protocol: HTTP}]`)},
		{Name: "DNS name of an endpoint", Cite: dns + "; §2.6 address, ports", Request: externalCall, Want: outside("10.0.9.9:8080"), Config: external(`
resolution: DNS
ports: [{number: 80, name: http, protocol: HTTP}]
endpoints: [{address: db.internal.test, ports: {http: 8080}}]`)},
		{Name: "every address of every endpoint", Cite: dns + " (every resolved address is an endpoint)", Request: externalCall, Repeat: 12,
			Want: outside(""), Cycle: []string{"10.0.9.1:80", "10.0.9.2:80", "10.0.9.9:80"}, Config: turns + external(`
resolution: DNS
ports: [{number: 80, name: http, protocol: HTTP}]
endpoints: [{address: a.example.com}, {address: db.internal.test}]`)},
		{Name: "address of an endpoint under DNS", Cite: dns + "; §2.6 address", Request: externalCall, Want: outside("10.0.7.7:80"), Config: external(`
resolution: DNS
ports: [{number: 80, name: http, protocol: HTTP}]
endpoints: [{address: 10.0.7.7}]`)},
		{Name: "targetPort under DNS", Cite: dns + "; " + target, Request: externalCall, Want: outside("10.0.9.9:8443"), Config: external(`
resolution: DNS
ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8443}]
endpoints: [{address: db.internal.test}]`)},
	}
}
