package conformance

// subsetRows: subsets of the DestinationRule that applies.
func subsetRows() []Case {
	const (
		labels  = "§2.3 subsets (labels)"
		missing = "§2.2 Destination subset; §3.6 NC; §6.5"
		nobody  = "§3.6 UH"
	)
	to := func(subset string) string {
		return reviews() + rules("- {name: r, route: [{destination: {host: reviews, subset: "+subset+"}}]}") +
			destinationRule("default/reviews", `
host: reviews
subsets:
- {name: v1, labels: {version: v1}}
- {name: v2, labels: {version: v2}}
- {name: both, labels: {version: v3, app: reviews}}
- {name: odd, labels: {version: v3, app: ratings}}
- {name: ghost, labels: {version: v8}}
- {name: bare}
- {name: empty, labels: {}}`)
	}
	noCluster := Result{Status: 503, Flag: "NC"}
	noEndpoint := Result{Status: 503, Flag: "UH"}
	third := 100.0 / 3
	all := map[string]float64{v1: third, v2: third, v3: third}
	return []Case{
		{Name: "by label", Cite: labels, Config: to("v2"), Request: get(reviewsURL), Repeat: 50, Want: Result{Route: "r", Cluster: clusterV2, Endpoint: v2}},
		{Name: "by all labels", Cite: labels, Config: to("both"), Request: get(reviewsURL), Repeat: 50, Want: Result{Endpoint: v3, Cluster: "outbound|9080|both|" + reviewsHost}},
		{Name: "one of two labels differs", Cite: labels + "; " + nobody, Config: to("odd"), Request: get(reviewsURL), Want: noEndpoint},
		{Name: "selects nobody", Cite: labels + "; " + nobody, Config: to("ghost"), Request: get(reviewsURL), Want: noEndpoint},
		{Name: "without labels", Cite: labels + " (empty = all endpoints)", Config: to("bare"), Request: get(reviewsURL), Repeat: 10_000, Shares: all},
		{Name: "empty labels", Cite: labels + " (empty = all endpoints)", Config: to("empty"), Request: get(reviewsURL), Repeat: 10_000, Shares: all},
		{Name: "not in the DestinationRule", Cite: missing, Config: to("v9"), Request: get(reviewsURL), Want: noCluster},
		{Name: "no DestinationRule at all", Cite: missing, Config: reviews() + rules("- {name: r, route: [{destination: {host: reviews, subset: v1}}]}"),
			Request: get(reviewsURL), Want: noCluster},
		{Name: "names are case sensitive", Cite: missing, Config: to("V2"), Request: get(reviewsURL), Want: noCluster},
		{Name: "of another host", Cite: missing, Config: shop("- {name: r, route: [{destination: {host: ratings, subset: v1}}]}") + ratings(),
			Request: get(reviewsURL), Want: noCluster},
		{Name: "each rule its own", Cite: labels, Config: when("[{uri: {prefix: /x}}]"), Request: get(reviewsURL + "x"), Want: took(true)},
	}
}

// destinationRows: host and port of a destination.
func destinationRows() []Case {
	const (
		host  = "§2.2 Destination host"
		port  = "§2.2 Destination port.number"
		short = "§2.1 Short host names; §2.2 Destination host"
		nc    = "; §3.6 NC; §6.5"
	)
	// details has two ports, with other ports behind them; single has one.
	services := reviews() + serviceEntry("default/details", `
hosts: [details.default.svc.cluster.local]
location: MESH_INTERNAL
resolution: STATIC
ports:
- {number: 9080, name: http, protocol: HTTP, targetPort: 8001}
- {number: 9090, name: http-admin, protocol: HTTP, targetPort: 8002}
endpoints: [{address: 10.0.5.1}]`) +
		static("default/single", "7000", "10.0.6.1") +
		static("other/single", "7001", "10.0.6.2") +
		staticHost("default/ext", "ext.example.com", "80", "10.0.6.3")
	to := func(from, destination string) string {
		return services + virtualService("default/vs", "hosts: ["+from+"]\nhttp: [{name: r, route: [{destination: {"+destination+"}}]}]")
	}
	const details = "details.default.svc.cluster.local"
	noCluster := Result{Status: 503, Flag: "NC"}
	return []Case{
		{Name: "another host", Cite: host, Config: to("reviews", "host: details"), Request: get(reviewsURL),
			Want: Result{Route: "r", Cluster: "outbound|9080||" + details, Endpoint: "10.0.5.1:8001", Host: "reviews:9080"}},
		{Name: "FQDN", Cite: host, Config: to("reviews", "host: "+details), Request: get(reviewsURL),
			Want: Result{Cluster: "outbound|9080||" + details, Endpoint: "10.0.5.1:8001"}},
		{Name: "outside the cluster domain", Cite: host, Config: to("reviews", "host: ext.example.com"), Request: get(reviewsURL),
			Want: Result{Cluster: "outbound|80||ext.example.com", Endpoint: "10.0.6.3:80"}},
		{Name: "FQDN of another namespace", Cite: host, Config: to("reviews", "host: single.other.svc.cluster.local"), Request: get(reviewsURL),
			Want: Result{Cluster: "outbound|7001||single.other.svc.cluster.local", Endpoint: "10.0.6.2:7001"}},
		{Name: "host with a dot stays as it is", Cite: short + nc, Config: to("reviews", "host: single.other"), Request: get(reviewsURL), Want: noCluster},
		{Name: "unknown host", Cite: host + nc, Config: to("reviews", "host: nosuch"), Request: get(reviewsURL), Want: noCluster},
		{Name: "no port, one port", Cite: port, Config: to("reviews", "host: single"), Request: get(reviewsURL),
			Want: Result{Cluster: "outbound|7000||single.default.svc.cluster.local", Endpoint: "10.0.6.1:7000"}},
		{Name: "no port, the listener's of several", Cite: port, Config: to("details", "host: details"), Request: get("http://details:9090/"),
			Want: Result{Cluster: "outbound|9090||" + details, Endpoint: "10.0.5.1:8002"}},
		{Name: "no port, none of several is the listener's", Cite: port + nc, Config: to("single", "host: details"), Request: get("http://single:7000/"), Want: noCluster},
		{Name: "explicit port", Cite: port, Config: to("details", "host: details, port: {number: 9090}"), Request: get("http://details:9080/"),
			Want: Result{Cluster: "outbound|9090||" + details, Endpoint: "10.0.5.1:8002"}},
		{Name: "explicit port of another host", Cite: port, Config: to("reviews", "host: details, port: {number: 9090}"), Request: get(reviewsURL),
			Want: Result{Cluster: "outbound|9090||" + details, Endpoint: "10.0.5.1:8002"}},
		{Name: "undeclared port", Cite: port + nc, Config: to("reviews", "host: details, port: {number: 1234}"), Request: get(reviewsURL), Want: noCluster},
		{Name: "the endpoint's port is no port of the host", Cite: port + nc, Config: to("reviews", "host: details, port: {number: 8001}"), Request: get(reviewsURL), Want: noCluster},
	}
}
