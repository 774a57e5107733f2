package conformance

// visibilityRows: exportTo, and documents that claim the same thing.
func visibilityRows() []Case {
	const (
		export   = "§2.1 exportTo"
		service  = export + "; §2.5 exportTo"
		rule     = export + "; §2.2 Spec exportTo"
		claimed  = "attacks.md A-064 (the owner's namespace wins; never both); istio model/sidecar.go"
		conflict = "§2.1 Two VirtualServices, same host; §2.1 Conflict order; §6.19"
	)
	seen := func(exportTo string) string {
		return serviceEntry("shop/reviews", `
hosts: [reviews.shop.svc.cluster.local]
location: MESH_INTERNAL
resolution: STATIC
ports: [{number: 9080, name: http, protocol: HTTP}]
endpoints: [{address: 10.0.0.1}]
`+exportTo)
	}
	call := get("http://reviews.shop:9080/")
	known := Result{Cluster: "outbound|9080||reviews.shop.svc.cluster.local", Endpoint: v1}
	unknown := Result{Cluster: passthrough, Endpoint: "reviews.shop:9080"}
	ruled := func(exportTo string) string {
		return seen("") + static("shop/ratings", "9080", "10.0.1.1") + virtualService("shop/reviews", `
hosts: [reviews]
http: [{name: r, route: [{destination: {host: ratings}}]}]
`+exportTo)
	}
	both := staticHost("shop/api", "api.example.com", "80", "10.0.4.9") + staticHost("default/api", "api.example.com", "80", "10.0.4.1")
	apiAt := get("http://api.example.com/")
	at := func(endpoint string) Result {
		return Result{Cluster: "outbound|80||api.example.com", Endpoint: endpoint}
	}
	byRule := Result{Route: "r", Endpoint: ratingsAt}
	byDefault := Result{Route: "default", Endpoint: v1}

	// claim is a VirtualService for reviews that takes only one path, in version v2.
	claim := func(name, host, path, extra string) string {
		return virtualService("default/"+name, "hosts: ["+host+"]\n"+extra+`
http:
- name: `+name[:1]+`
  match: [{uri: {prefix: `+path+`}}]
  route: [{destination: {host: reviews, subset: v2}}]`)
	}
	shared := reviews() + versions()
	won := func(route string) Result { return Result{Route: route, Endpoint: v2} }
	noRoute := Result{Status: 404, Flag: "NR"}
	young, old := "b@2024-02-02T00:00:00Z", "a@2024-01-01T00:00:00Z"

	return []Case{
		{Name: "a service is seen everywhere by default", Cite: service, Config: seen(""), Request: call, Want: known},
		{Name: "service for all", Cite: service, Config: seen(`exportTo: ["*"]`), Request: call, Want: known},
		{Name: "service for its namespace, from elsewhere", Cite: service, Config: seen(`exportTo: ["."]`), Request: call, Want: unknown},
		{Name: "service for its namespace, from there", Cite: service, Config: seen(`exportTo: ["."]`), Workload: in("shop"), Request: call, Want: known},
		{Name: "service for the caller's namespace", Cite: service, Config: seen(`exportTo: [default, third]`), Request: call, Want: known},
		{Name: "service for another namespace", Cite: service, Config: seen(`exportTo: [third]`), Request: call, Want: unknown},
		{Name: "service for nobody", Cite: service, Config: seen(`exportTo: ["~"]`), Workload: in("shop"), Request: call, Want: unknown},
		{Name: "a host of two namespaces, from one", Cite: claimed, Config: both, Request: apiAt, Repeat: 5, Want: at("10.0.4.1:80")},
		{Name: "a host of two namespaces, from the other", Cite: claimed, Config: both, Workload: in("shop"), Request: apiAt, Repeat: 5, Want: at("10.0.4.9:80")},
		{Name: "a host of two namespaces, from a third", Cite: claimed + "; §2.1 Conflict order", Config: both, Workload: in("third"), Request: apiAt, Repeat: 5, Want: at("10.0.4.9:80")},
		{Name: "rules are seen everywhere by default", Cite: rule, Config: ruled(""), Request: call, Want: byRule},
		{Name: "rules for their namespace, from elsewhere", Cite: rule, Config: ruled(`exportTo: ["."]`), Request: call, Want: byDefault},
		{Name: "rules for their namespace, from there", Cite: rule, Config: ruled(`exportTo: ["."]`), Workload: in("shop"), Request: call, Want: byRule},
		{Name: "rules for the caller's namespace", Cite: rule, Config: ruled(`exportTo: [default]`), Request: call, Want: byRule},
		{Name: "rules for another namespace", Cite: rule, Config: ruled(`exportTo: [third]`), Request: call, Want: byDefault},
		{Name: "destination that the caller does not see", Cite: service + "; §3.6 NC", Workload: in("web"),
			Config:  static("default/ratings", "9080", "10.0.1.1") + seen(`exportTo: ["."]`) + virtualService("default/ratings", "hosts: [ratings]\nhttp: [{name: r, route: [{destination: {host: reviews.shop.svc.cluster.local}}]}]"),
			Request: get("http://ratings.default:9080/"), Want: Result{Status: 503, Flag: "NC"}},
		{Name: "the first of two wins", Cite: conflict, Config: shared + claim("a", "reviews", "/", "") + claim("b", "reviews", "/", ""),
			Request: get(reviewsURL), Want: won("a")},
		{Name: "the second of two is not merged", Cite: conflict, Config: shared + claim("a", "reviews", "/a", "") + claim("b", "reviews", "/b", ""),
			Request: get(reviewsURL + "b"), Want: noRoute},
		{Name: "short name and FQDN are one host", Cite: conflict + "; §2.1 Short host names", Config: shared + claim("a", "reviews", "/a", "") + claim("b", reviewsHost, "/b", ""),
			Request: get(reviewsURL + "b"), Want: noRoute},
		{Name: "the oldest of two wins", Cite: conflict, Config: shared + claim(young, "reviews", "/", "") + claim(old, "reviews", "/", ""),
			Request: get(reviewsURL), Want: won("a")},
		{Name: "the first that the caller sees wins", Cite: conflict + "; " + rule, Workload: in("web"),
			Config:  shared + claim("a", "reviews", "/", `exportTo: ["."]`) + claim("b", "reviews", "/", ""),
			Request: get("http://reviews.default:9080/"), Want: won("b")},
		{Name: "the first for the mesh wins", Cite: conflict + "; §2.1 Gateways list",
			Config:  shared + claim("a", "reviews", "/", "gateways: [default/edge]") + claim("b", "reviews", "/", ""),
			Request: get(reviewsURL), Want: won("b")},
	}
}
