package conformance

import (
	"regexp"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/snapshot"
)

func sidecar(name, spec string) string { return document("Sidecar", name, spec) }

// sidecarRows: which hosts a workload of namespace default may call.
func sidecarRows() []Case {
	const (
		hosts    = "§2.7 egress hosts"
		except   = hosts + " (~ns/host: exclusion)"
		ports    = "§2.7 egress port; istio.io IstioEgressListener: the listener with the most specific port"
		modes    = "§2.7 egress port, captureMode"
		apart    = "§2.7 egress bind; pilot sidecar.go GetEgressListenerForRDS (a Unix socket, HTTP_PROXY)"
		selector = "§2.7 workloadSelector"
		root     = selector + " (root namespace: mesh default)"
		rules    = "istio.io IstioEgressListener.hosts: services and VirtualServices; istio model/sidecar.go"
		policy   = "§2.7 outboundTrafficPolicy.mode"

		cartsHost, stockHost = "carts.shop.svc.cluster.local", "stock.shop.svc.cluster.local"
		cartsAt, stockAt     = "10.0.1.3:9080", "10.0.1.4:8080"
	)
	carts, stock := get("http://carts.shop:9080/"), get("http://stock.shop:8080/")
	own := get(reviewsURL)
	services := reviews() + static("shop/carts", "9080", "10.0.1.3") + static("shop/stock", "8080", "10.0.1.4")
	toCarts := Result{Route: "default", Cluster: "outbound|9080||" + cartsHost, Endpoint: cartsAt}
	toStock := Result{Route: "default", Cluster: "outbound|8080||" + stockHost, Endpoint: stockAt}
	toOwn := Result{Route: "default", Cluster: clusterAll}
	through := func(authority string) Result { return Result{Cluster: passthrough, Endpoint: authority} }
	noCarts, noStock, noOwn := through("carts.shop:9080"), through("stock.shop:8080"), through("reviews:9080")
	blocked := Result{Cluster: "BlackHoleCluster", Status: 502, Flag: "UH"}

	only := func(list string) string { return sidecar("default/web", "egress: [{hosts: ["+list+"]}]") }
	selecting := func(name, labels, list string) string {
		return sidecar(name, "workloadSelector: {labels: {"+labels+"}}\negress: [{hosts: ["+list+"]}]")
	}
	opened := func(port, how string) string {
		return sidecar("default/web", "egress:\n- {port: "+port+", "+how+", hosts: [shop/*]}\n- {hosts: [./*]}")
	}
	front9080 := virtualService("default/elsewhere", "hosts: ["+reviewsHost+"]\nhttp: [{name: elsewhere, route: [{destination: {host: "+cartsHost+"}}]}]")
	toOwnBytes := Result{Cluster: clusterAll}
	byPort := sidecar("default/web", "egress:\n- {port: {number: 9080, protocol: HTTP, name: a}, hosts: [shop/*]}\n- {hosts: [./*]}")
	said := func(mode, list string) string {
		return sidecar("default/web", "outboundTrafficPolicy: {"+mode+"}\negress: [{hosts: ["+list+"]}]")
	}
	// front is a host of the shop's rules, which lead to its carts.
	front := virtualService("shop/front", "hosts: [front.shop.svc.cluster.local]\nhttp: [{name: f, route: [{destination: {host: carts, port: {number: 9080}}}]}]")
	frontAt := get("http://front.shop:80/")
	toFront := Result{Route: "f", Cluster: toCarts.Cluster, Endpoint: cartsAt}
	foreign := virtualService("shop/reviews", "hosts: ["+reviewsHost+"]\nhttp: [{name: foreign, route: [{destination: {host: carts}}]}]")

	rows := []Case{
		{Name: "no Sidecar", Cite: hosts + " (default */*)", Request: carts, Want: toCarts},
		{Name: "own namespace, within", Cite: hosts, Config: only("./*"), Request: own, Want: toOwn},
		{Name: "own namespace, outside", Cite: hosts, Config: only("./*"), Request: carts, Want: noCarts},
		{Name: "namespace by name, within", Cite: hosts, Config: only("shop/*"), Request: carts, Want: toCarts},
		{Name: "namespace by name, outside", Cite: hosts, Config: only("shop/*"), Request: own, Want: noOwn},
		{Name: "everything", Cite: hosts, Config: only(`"*/*"`), Request: stock, Want: toStock},
		{Name: "host of any namespace", Cite: hosts, Config: only(`"*/` + cartsHost + `"`), Request: carts, Want: toCarts},
		{Name: "host of any namespace, another host", Cite: hosts, Config: only(`"*/` + cartsHost + `"`), Request: stock, Want: noStock},
		{Name: "host of the wrong namespace", Cite: hosts, Config: only("./" + cartsHost), Request: carts, Want: noCarts},
		{Name: "wildcard host", Cite: hosts + "; §2.1 Wildcards", Config: only(`"shop/*.shop.svc.cluster.local"`), Request: carts, Want: toCarts},
		{Name: "short host is nobody's", Cite: hosts + " (dnsName is an FQDN)", Config: only("shop/carts"), Request: carts, Want: noCarts},
		{Name: "nothing", Cite: hosts + " (~ = none)", Config: only("~/*"), Request: own, Want: noOwn},
		{Name: "several entries add up", Cite: hosts, Config: only(`./*, "*/` + stockHost + `"`), Request: stock, Want: toStock},
		{Name: "all but a namespace, in it", Cite: except, Config: only(`"*/*", "~shop/*"`), Request: carts, Want: noCarts},
		{Name: "all but a namespace, outside of it", Cite: except, Config: only(`"*/*", "~shop/*"`), Request: own, Want: toOwn},
		{Name: "all but a host of any namespace", Cite: except, Config: only(`"*/*", "~/` + cartsHost + `"`), Request: carts, Want: noCarts},
		{Name: "all but a host, another host", Cite: except, Config: only(`"*/*", "~/` + cartsHost + `"`), Request: stock, Want: toStock},
		{Name: "an exclusion goes before, wherever it stands", Cite: except, Config: only(`"~shop/` + cartsHost + `", shop/*`), Request: carts, Want: noCarts},

		{Name: "another namespace's Sidecar", Cite: selector, Config: sidecar("shop/web", "egress: [{hosts: [~/*]}]"), Request: carts, Want: toCarts},
		{Name: "the root's, within", Cite: root, Config: sidecar("istio-system/all", "egress: [{hosts: [./*]}]"), Request: own, Want: toOwn},
		{Name: "the root's, outside", Cite: root + " (. is the caller's namespace)", Config: sidecar("istio-system/all", "egress: [{hosts: [./*]}]"), Request: carts, Want: noCarts},
		{Name: "own before the root's", Cite: root, Config: sidecar("istio-system/all", "egress: [{hosts: [~/*]}]") + only("./*"), Request: own, Want: toOwn},
		{Name: "the root's with a selector is for itself", Cite: root, Config: selecting("istio-system/all", "app: web", "~/*"), Workload: labelled("app", "web"), Request: carts, Want: toCarts},
		{Name: "selected", Cite: selector, Config: only("./*") + selecting("default/cart", "app: web", "shop/*"), Workload: labelled("app", "web", "tier", "x"), Request: carts, Want: toCarts},
		{Name: "not selected", Cite: selector, Config: only("./*") + selecting("default/cart", "app: other", "shop/*"), Workload: labelled("app", "web"), Request: carts, Want: noCarts},
		{Name: "not selected, and no other", Cite: selector, Config: selecting("default/cart", "app: other", "~/*"), Workload: labelled("app", "web"), Request: carts, Want: toCarts},
		{Name: "the first of two", Cite: selector + "; §2.1 Conflict order", Config: sidecar("default/a", "egress: [{hosts: [shop/*]}]") + sidecar("default/b", "egress: [{hosts: [./*]}]"), Request: carts, Want: toCarts},

		{Name: "listener of a port, its host", Cite: ports, Config: byPort, Request: carts, Want: toCarts},
		{Name: "listener of a port, a host of the other", Cite: ports, Config: byPort, Request: own, Want: noOwn},
		{Name: "listener of a port, its host on another port", Cite: ports, Config: byPort, Request: stock, Want: noStock},
		{Name: "listener of a port alone", Cite: ports, Config: sidecar("default/web", "egress: [{port: {number: 9080, protocol: HTTP, name: a}, hosts: [shop/*]}]"), Request: stock, Want: noStock},

		{Name: "a listener that captures as all do", Cite: "§2.7 egress captureMode", Config: sidecar("default/web", "egress: [{captureMode: DEFAULT, hosts: [shop/*]}]"), Request: carts, Want: toCarts},

		{Name: "a listener that the sidecar opens, its host", Cite: modes, Config: opened("{number: 9080, protocol: HTTP}", "captureMode: NONE"), Request: carts, Want: toCarts},
		{Name: "a listener that the sidecar opens, another's host", Cite: modes, Config: opened("{number: 9080, protocol: HTTP}", "captureMode: NONE"), Request: own, Want: noOwn},
		{Name: "hosts of a Unix socket are called by it", Cite: apart, Config: opened("{number: 0, protocol: HTTP}", "bind: 'unix:///run/x.sock'"), Request: carts, Want: noCarts},
		{Name: "a Unix socket is no port", Cite: apart, Config: opened("{number: 0, protocol: HTTP}", "bind: 'unix:///run/x.sock'"), Request: own, Want: toOwn},
		{Name: "hosts of a proxy's listener are called by it", Cite: apart, Config: opened("{number: 9080, protocol: HTTP_PROXY}", "captureMode: DEFAULT"), Request: carts, Want: noCarts},
		{Name: "a proxy's listener is not for its port", Cite: apart, Config: opened("{number: 9080, protocol: HTTP_PROXY}", "captureMode: DEFAULT"), Request: own, Want: toOwn},
		{Name: "rules of HTTP on a listener of TCP", Cite: modes + "; pilot listener.go (the listener's protocol)", Config: front9080 + sidecar("default/web", "egress: [{port: {number: 9080, protocol: TCP, name: a}, hosts: ['*/*']}]"), Request: own, Want: toOwnBytes},
		{Name: "rules of HTTP on a listener of HTTP", Cite: modes, Config: front9080 + sidecar("default/web", "egress: [{port: {number: 9080, protocol: HTTP, name: a}, hosts: ['*/*']}]"), Request: own, Want: Result{Route: "elsewhere", Endpoint: cartsAt}},
		{Name: "listeners for callers", Cite: "§2.7 ingress", Config: sidecar("default/web", "ingress: [{port: {number: 9080, protocol: TCP}, defaultEndpoint: '127.0.0.1:1'}]"), Request: own, Want: toOwn},

		{Name: "rules bring in what they lead to", Cite: rules, Config: front + only("shop/front.shop.svc.cluster.local"), Request: frontAt, Want: toFront},
		{Name: "what rules lead to cannot be called by itself", Cite: rules, Config: front + only("shop/front.shop.svc.cluster.local"), Request: carts, Want: noCarts},
		{Name: "rules of another namespace, with it", Cite: rules, Config: foreign + only(`"*/*"`), Request: own, Want: Result{Route: "foreign", Endpoint: cartsAt}},
		{Name: "rules of another namespace, without it", Cite: rules, Config: foreign + only("./*"), Request: own, Want: toOwn},

		{Name: "policy by its zero value", Cite: policy + " (enum zero is REGISTRY_ONLY); §6.16", Config: said("", "./*"), Request: carts, Want: blocked},
		{Name: "policy REGISTRY_ONLY", Cite: policy, Config: said("mode: REGISTRY_ONLY", "./*"), Request: get("http://nowhere.example.com/"), Want: blocked},
		{Name: "policy REGISTRY_ONLY, a host it knows", Cite: policy, Config: said("mode: REGISTRY_ONLY", "./*"), Request: own, Want: toOwn},
		{Name: "policy ALLOW_ANY before the program's", Cite: policy, Config: said("mode: ALLOW_ANY", "./*"), Outbound: mesh.RegistryOnly, Request: carts, Want: noCarts},
		{Name: "no policy leaves the program's", Cite: policy + " (default: mesh)", Config: only("./*"), Outbound: mesh.RegistryOnly, Request: carts, Want: blocked},
	}
	for i := range rows {
		rows[i].Config = services + rows[i].Config
	}
	return rows
}

// scopeMutations are faults in what a workload may call.
func scopeMutations() []Mutation {
	unread := func(name, expr string, groups ...string) Mutation {
		return Mutation{Name: name, Groups: groups, unread: regexp.MustCompile(expr)}
	}
	return []Mutation{
		unread("exclusions of a Sidecar not read", `, "~[^"]+"`, "sidecar"),
		unread("listener of a port not read", `(?m)^ *- \{port: .*\n`, "sidecar"),
		unread("workloadSelector of a Sidecar not read", `workloadSelector: \{labels: \{[^}]*\}\}`, "sidecar"),
		{Name: "outbound traffic policy of documents not read", Groups: []string{"sidecar", "meshconfig"}, edit: func(d *draft) { d.outbound = snapshot.OutboundUnset }},
		unread("defaults for exportTo not read", `default\w+ExportTo: \[.*\]`, "meshconfig"),
		unread("rootNamespace not read", `rootNamespace: \w+`, "meshconfig"),
		unread("defaultHttpRetryPolicy not read", `defaultHttpRetryPolicy: \{.*\}`, "meshconfig"),
	}
}
