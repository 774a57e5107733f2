package conformance

import (
	"strings"

	"github.com/heddlemesh/mesh"
)

// kubernetes writes one of Kubernetes' own documents. name is "namespace/name", followed by more fields of metadata
// where there are any; rest is what stands beside them.
func kubernetes(apiVersion, kind, name, rest string) string {
	name, more, _ := strings.Cut(name, ", ")
	namespace, name, _ := strings.Cut(name, "/")
	if more != "" {
		more = ", " + more
	}
	return "---\napiVersion: " + apiVersion + "\nkind: " + kind +
		"\nmetadata: {name: " + name + ", namespace: " + namespace + more + "}\n" + strings.TrimSpace(rest) + "\n"
}

func kubeService(name, spec string) string {
	return kubernetes("v1", "Service", name, "spec: {"+spec+"}")
}

// kubeSlice has the endpoints of a Service's ports; they are on the port's number, or on 9080.
func kubeSlice(service, endpoints string, ports ...string) string {
	namespace, short, _ := strings.Cut(service, "/")
	list := strings.Join(ports, ", ")
	if list == "" {
		list = "{name: http, port: 9080}"
	}
	return kubernetes("discovery.k8s.io/v1", "EndpointSlice", namespace+"/"+short+"-x1, labels: {kubernetes.io/service-name: "+short+"}",
		"addressType: IPv4\nendpoints: ["+endpoints+"]\nports: ["+list+"]")
}

func kubePod(name, labels, status string) string {
	return kubernetes("v1", "Pod", name+", labels: {"+labels+"}", "status: {"+status+"}")
}

// kubernetesRows: the registry in Kubernetes' own documents.
func kubernetesRows() []Case {
	const (
		names    = "§2.1 Names by which a Kubernetes service is reachable"
		protocol = "§2.1 Protocol selection of a port"
		selector = "§2.5 workloadSelector (picks Pods + WorkloadEntries); §2.6 ports"
		labels   = "§2.6 labels; §2.3 subsets"
		slices   = "Kubernetes, EndpointSlice v1"
		external = "Kubernetes, Service v1 externalName; §2.5 resolution DNS"
		headless = "Kubernetes, Service v1 clusterIP None"
		out      = "§2.1 outboundTrafficPolicy: ALLOW_ANY"
		export   = "§2.1 exportTo; annotation networking.istio.io/exportTo"
		both     = "istio.io, pilot/pkg/model/push_context.go initServiceRegistry, endpointshards.go"
		api      = "api.default.svc.cluster.local"
	)
	const (
		http = "ports: [{port: 9080, name: http}]"
		one  = "{addresses: [10.0.0.1]}"

		region = "deprecatedTopology: {topology.kubernetes.io/region: eu}"
	)
	service := kubeService("default/reviews", http)
	plain := service + kubeSlice("default/reviews", one)
	known := Result{Cluster: clusterAll, Endpoint: v1, Route: "default"}
	call := get(reviewsURL)
	pods := func(service string) string {
		return service + kubeSlice("default/reviews", `{addresses: [10.0.0.1], targetRef: {kind: Pod, name: r-1}}, {addresses: [10.0.0.2], targetRef: {kind: Pod, name: r-2}}`) +
			kubePod("default/r-1", "app: reviews, version: v1", "") + kubePod("default/r-2", "app: reviews, version: v2", "")
	}
	// A port of its own number has two endpoints, and a rule that takes only /x to the second.
	port := func(fields string) string {
		return kubeService("default/api", "ports: [{port: 9080, "+fields+"}]") +
			kubeSlice("default/api", `{addresses: [10.0.0.1], targetRef: {kind: Pod, name: a-1}}, {addresses: [10.0.0.2], targetRef: {kind: Pod, name: a-2}}`, "{name: "+nameIn(fields)+", port: 9080}") +
			kubePod("default/a-1", "version: v1", "") + kubePod("default/a-2", "version: v2", "") +
			destinationRule("default/api", "host: api\nsubsets: [{name: v2, labels: {version: v2}}]") +
			virtualService("default/api", "hosts: [api]\nhttp: [{name: r, match: [{uri: {prefix: /x}}], route: [{destination: {host: api, subset: v2}}]}]")
	}
	apiCall := get("http://api:9080/x")
	ruled := func(proto string) Result {
		return Result{Route: "r", Cluster: "outbound|9080|v2|" + api, Endpoint: v2, Proto: proto}
	}
	opaque := Result{Route: "default", Cluster: "outbound|9080||" + api}
	const http1, http2 = "HTTP/1.1", "HTTP/2.0"
	selecting := kubeService("default/reviews", "selector: {app: reviews}, "+http)
	alias := kubeService("default/opinions", "type: ExternalName, externalName: "+reviewsHost)
	outside := kubeService("default/db", "type: ExternalName, externalName: db.internal.test, ports: [{port: 80, name: http, targetPort: 8080}]")

	return []Case{
		{Name: "short name", Cite: names, Config: plain, Request: call, Want: known},
		{Name: "svc.ns", Cite: names, Config: plain, Request: get("http://reviews.default:9080/"), Want: known},
		{Name: "svc.ns.svc", Cite: names, Config: plain, Request: get("http://reviews.default.svc:9080/"), Want: known},
		{Name: "FQDN", Cite: names, Config: plain, Request: get("http://" + reviewsHost + ":9080/"), Workload: in("shop"), Want: known},
		{Name: "short name from another namespace", Cite: names + "; " + out, Config: plain, Request: call, Workload: in("shop"),
			Want: Result{Cluster: passthrough, Endpoint: "reviews:9080"}},
		{Name: "virtual IP", Cite: names + " (VIP)", Config: kubeService("default/reviews", "clusterIP: 10.96.0.1, "+http) + kubeSlice("default/reviews", one),
			Request: get("http://10.96.0.1:9080/"), Want: known},
		{Name: "second virtual IP", Cite: names + " (VIP)", Config: kubeService("default/reviews", `clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, "fd00::1"], `+http) + kubeSlice("default/reviews", one),
			Request: get("http://[fd00::1]:9080/"), Want: known},
		{Name: "undeclared port", Cite: out, Config: plain, Request: get("http://reviews:1234/"), Want: Result{Cluster: passthrough, Endpoint: "reviews:1234"}},
		{Name: "port of UDP", Cite: protocol + " (udp)", Config: kubeService("default/reviews", "ports: [{port: 9080, name: http, protocol: UDP}]"), Request: call,
			Want: Result{Cluster: passthrough, Endpoint: "reviews:9080"}},
		{Name: "route to an unknown port", Cite: "§3.6 NC", Request: call, Want: Result{Status: 503, Flag: "NC"},
			Config: plain + rules("- {name: r, route: [{destination: {host: reviews, port: {number: 1234}}}]}")},
		{Name: "headless", Cite: headless, Deviation: "Istio sends TCP to a headless service where the caller pointed; a library has nothing to point at and balances",
			Config: kubeService("default/reviews", "clusterIP: None, "+http) + kubeSlice("default/reviews", one+", {addresses: [10.0.0.2]}") +
				destinationRule("default/reviews", "host: reviews\ntrafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}"),
			Request: call, Repeat: 6, Want: Result{Cluster: clusterAll}, Cycle: []string{v1, v2}},

		{Name: "named grpc", Cite: protocol + " (prefix)", Config: port("name: grpc-api"), Request: apiCall, Want: ruled(http2)},
		{Name: "named http2", Cite: protocol + " (prefix)", Config: port("name: http2"), Request: apiCall, Want: ruled(http2)},
		{Name: "named http", Cite: protocol + " (prefix)", Config: port("name: http-api"), Request: apiCall, Want: ruled(http1)},
		{Name: "named tcp", Cite: protocol + " (prefix)", Config: port("name: tcp-api"), Request: apiCall, Want: opaque},
		{Name: "named otherwise", Cite: protocol + " (sniffed)", Config: port("name: api"), Request: apiCall, Want: ruled(http1)},
		{Name: "appProtocol before the name", Cite: protocol + " (appProtocol first)", Config: port("name: http-api, appProtocol: tcp"), Request: apiCall, Want: opaque},
		{Name: "appProtocol of gRPC", Cite: protocol + " (appProtocol first)", Config: port("name: api, appProtocol: grpc"), Request: apiCall, Want: ruled(http2)},
		{Name: "appProtocol kubernetes.io/h2c", Cite: protocol, Config: port("name: api, appProtocol: kubernetes.io/h2c"), Request: apiCall, Want: ruled(http2)},
		{Name: "appProtocol kubernetes.io/ws", Cite: protocol, Config: port("name: tcp-api, appProtocol: kubernetes.io/ws"), Request: apiCall, Want: ruled(http1)},
		{Name: "appProtocol kubernetes.io/wss", Cite: protocol, Config: port("name: http-api, appProtocol: kubernetes.io/wss"), Request: apiCall, Want: opaque},

		{Name: "subset by the Pod's labels", Cite: labels, Config: pods(service) + versions() + rules("- {name: r, route: [{destination: {host: reviews, subset: v2}}]}"),
			Request: call, Repeat: 4, Want: Result{Route: "r", Cluster: clusterV2, Endpoint: v2}},
		{Name: "subset without labels", Cite: labels + "; §3.6 UH", Config: plain + versions() + rules("- {name: r, route: [{destination: {host: reviews, subset: v1}}]}"),
			Request: call, Want: Result{Status: 503, Flag: "UH"}},
		{Name: "rules for a Service", Cite: "§2.2 Spec http", Config: pods(service) + versions() + rules(`
- {name: jason, match: [{headers: {end-user: {exact: jason}}}], route: [{destination: {host: reviews, subset: v2}}]}
- {name: others, route: [{destination: {host: reviews, subset: v1}}]}`),
			Request: Request{URL: reviewsURL, Header: map[string][]string{"End-User": {"jason"}}}, Want: Result{Route: "jason", Endpoint: v2}},
		{Name: "not ready", Cite: slices + " conditions.ready", Request: call, Repeat: 20, Want: known,
			Config: service + kubeSlice("default/reviews", one+", {addresses: [10.0.0.2], conditions: {ready: false, serving: true}}")},
		{Name: "nobody is ready", Cite: slices + " conditions.ready; §3.6 UH", Request: call, Want: Result{Status: 503, Flag: "UH"},
			Config: service + kubeSlice("default/reviews", "{addresses: [10.0.0.1], conditions: {ready: false}}")},
		{Name: "not ready and published", Cite: "Kubernetes, Service v1 publishNotReadyAddresses", Request: call, Want: known,
			Config: kubeService("default/reviews", "publishNotReadyAddresses: true, "+http) + kubeSlice("default/reviews", "{addresses: [10.0.0.1], conditions: {ready: false}}")},
		{Name: "slice of another namespace", Cite: slices + " label kubernetes.io/service-name", Config: service + kubeSlice("shop/reviews", one), Request: call,
			Want: Result{Status: 503, Flag: "UH"}},
		{Name: "ports of a slice by their names", Cite: slices + " ports", Request: get("http://reviews:8080/"),
			Config: kubeService("default/reviews", "ports: [{port: 9080, name: http}, {port: 8080, name: http-admin}]") +
				kubeSlice("default/reviews", one, "{name: http, port: 9080}", "{name: http-admin, port: 8001}"),
			Want: Result{Cluster: "outbound|8080||" + reviewsHost, Endpoint: "10.0.0.1:8001"}},

		{Name: "selector picks WorkloadEntries", Cite: selector, Request: call, Repeat: 10, Want: Result{Cluster: clusterAll, Endpoint: "10.0.8.1:9080"},
			Config: selecting + workloadEntry("default/r1", "address: 10.0.8.1\nlabels: {app: reviews}") +
				workloadEntry("default/x1", "address: 10.0.8.2\nlabels: {app: ratings}") + workloadEntry("shop/r2", "address: 10.0.8.3\nlabels: {app: reviews}")},
		{Name: "targetPort of a WorkloadEntry", Cite: selector, Request: call, Want: Result{Cluster: clusterAll, Endpoint: "10.0.8.1:8080"},
			Config: kubeService("default/reviews", "selector: {app: reviews}, ports: [{port: 9080, name: http, targetPort: 8080}]") +
				workloadEntry("default/r1", "address: 10.0.8.1\nlabels: {app: reviews}")},
		{Name: "named targetPort of a WorkloadEntry", Cite: selector, Request: call, Want: Result{Cluster: clusterAll, Endpoint: "10.0.8.1:7070"},
			Config: kubeService("default/reviews", "selector: {app: reviews}, ports: [{port: 9080, name: http, targetPort: web}]") +
				workloadEntry("default/r1", "address: 10.0.8.1\nlabels: {app: reviews}\nports: {web: 7070, http: 7071}")},
		{Name: "selector picks Pods", Cite: selector, Request: call, Repeat: 10, Want: Result{Cluster: clusterAll, Endpoint: "10.0.8.1:9080"},
			Deviation: "in a cluster EndpointSlices stand between a Service and its Pods; files that have none are read as if they did",
			Config:    selecting + kubePod("default/r1", "app: reviews", "podIP: 10.0.8.1") + kubePod("default/r2", "app: reviews", "podIP: 10.0.8.2, conditions: [{type: Ready, status: 'False'}]")},

		{Name: "a Pod that is ending", Cite: selector, Request: call, Repeat: 10, Want: Result{Cluster: clusterAll, Endpoint: "10.0.8.1:9080"},
			Config: selecting + kubePod("default/r1", "app: reviews", "podIP: 10.0.8.1") + kubePod("default/r2, deletionTimestamp: '2026-01-02T03:04:05Z'", "app: reviews", "podIP: 10.0.8.2")},
		{Name: "a Pod's port by its name", Cite: selector + " targetPort", Request: call, Want: Result{Cluster: clusterAll, Endpoint: "10.0.8.1:7070"},
			Config: kubeService("default/reviews", "selector: {app: reviews}, ports: [{port: 9080, name: http, targetPort: web}]") +
				kubePod("default/r1", "app: reviews", "podIP: 10.0.8.1") + "spec: {serviceAccountName: reviews, containers: [{name: a}, {name: b, ports: [{name: web, containerPort: 7070}]}]}\n"},
		{Name: "near by the zones of a slice", Cite: slices + " zone; §2.3 built-in priorities", Request: call, Repeat: 10, Workload: mesh.Workload{Locality: "eu/eu-1b"}, Want: Result{Cluster: clusterAll, Endpoint: v2},
			Config: service + kubeSlice("default/reviews", "{addresses: [10.0.0.1], zone: eu-1a, "+region+"}, {addresses: [10.0.0.2], zone: eu-1b, "+region+"}") +
				destinationRule("default/reviews", "host: reviews\ntrafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}")},

		{Name: "ExternalName is resolved", Cite: external, Config: outside, Request: get("http://db/"),
			Want: Result{Cluster: "outbound|80||db.default.svc.cluster.local", Endpoint: "10.0.9.9:80", Host: "db"}},
		{Name: "ExternalName of a service", Cite: "Kubernetes, Service v1 externalName; Istio 1.21, ExternalName as alias", Config: plain + alias,
			Request: get("http://opinions:9080/"), Want: Result{Cluster: clusterAll, Endpoint: v1, Host: "opinions:9080"}},
		{Name: "Service for its namespace, from elsewhere", Cite: export, Request: get("http://reviews.default:9080/"), Workload: in("shop"),
			Config: kubeService("default/reviews, annotations: {networking.istio.io/exportTo: '.'}", http) + kubeSlice("default/reviews", one),
			Want:   Result{Cluster: passthrough, Endpoint: "reviews.default:9080"}},
		{Name: "Service for two namespaces", Cite: export, Request: get("http://reviews.default:9080/"), Workload: in("shop"),
			Config: kubeService("default/reviews, annotations: {networking.istio.io/exportTo: 'web,shop'}", http) + kubeSlice("default/reviews", one), Want: known},
		{Name: "a ServiceEntry adds endpoints", Cite: both, Request: call, Repeat: 6, Want: Result{Cluster: clusterAll}, Cycle: []string{v1, "10.0.0.9:9080"},
			Config: static("default/reviews", "9080", "10.0.0.9") + plain + destinationRule("default/reviews", "host: reviews\ntrafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}")},
		{Name: "a ServiceEntry does not take the host", Cite: both + "; attacks.md A-064", Request: get("http://reviews.default:9080/"), Workload: in("shop"), Repeat: 4, Want: known,
			Config: staticHost("shop/reviews", reviewsHost, "9080", "10.0.0.9") + plain},
	}
}

// nameIn gives the name among a port's fields.
func nameIn(fields string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(fields, "name: "), ",")
	return name
}
