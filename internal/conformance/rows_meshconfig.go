package conformance

import (
	"strings"
	"time"

	"github.com/heddlemesh/mesh"
)

// meshConfig writes the mesh's settings as a document of their own.
func meshConfig(spec string) string {
	return "---\napiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec:\n  trustDomain: cluster.local\n" + indented(spec, "  ")
}

// configMap writes them as istiod has them.
func configMap(namespace, spec string) string {
	return "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: " + namespace + "}\ndata:\n  mesh: |-\n    trustDomain: cluster.local\n" + indented(spec, "    ")
}

func indented(text, by string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(text)) {
		b.WriteString(by + line)
	}
	b.WriteString("\n")
	return b.String()
}

// meshConfigRows: what the mesh's settings say for everybody.
func meshConfigRows() []Case {
	const (
		outbound = "§2.1 outboundTrafficPolicy"
		first    = "§2.7 outboundTrafficPolicy (default: mesh)"
		export   = "§2.1 defaultServiceExportTo etc.; exportTo unset → mesh default"
		root     = "§2.1 rootNamespace"
		retry    = "§2.1 defaultHttpRetryPolicy; §2.2 Retries (block missing: mesh policy)"
		connect  = "§2.1 connectTimeout (10 s); §2.3 .connectTimeout"
		upgrade  = "§2.3 .h2UpgradePolicy (DEFAULT: mesh)"
		paths    = "istio.io MeshConfig.pathNormalization"
		once     = "defaultHttpRetryPolicy: {attempts: 0}"

		registryOnly, allowAny = "outboundTrafficPolicy: {mode: REGISTRY_ONLY}", "outboundTrafficPolicy: {mode: ALLOW_ANY}"
	)
	blocked := Result{Cluster: "BlackHoleCluster", Status: 502, Flag: "UH"}
	unknown, passed := get("http://nowhere.example.com/"), Result{Cluster: passthrough, Endpoint: "nowhere.example.com:80"}
	scoped := func(policy string) string { return sidecar("default/web", "egress: [{hosts: [\"*/*\"]}]\n"+policy) }

	api := staticHost("shop/api", "api.example.com", "80", "10.0.4.1")
	ruled := api + ratings() + virtualService("shop/api", "hosts: [api.example.com]\nhttp: [{name: ruled, route: [{destination: {host: ratings.default.svc.cluster.local}}]}]")
	open := strings.Replace(api, "location:", "exportTo: [\"*\"]\n  location:", 1)
	apiAt := get("http://api.example.com/")
	known := Result{Route: "default", Cluster: "outbound|80||api.example.com", Endpoint: "10.0.4.1:80"}
	unseen := Result{Cluster: passthrough, Endpoint: "api.example.com:80"}

	policies := func(namespace string) string {
		return reviews() + rules("- {name: r, route: [{destination: {host: reviews, subset: v2}}]}") +
			strings.Replace(versions(), "namespace: default", "namespace: "+namespace, 1)
	}
	byRoot := func(namespace string) string {
		return strings.Replace(policies(namespace), "host: reviews\n  subsets", "host: "+reviewsHost+"\n  subsets", 1)
	}
	noSubset := Result{Route: "r", Status: 503, Flag: "NC"}
	subset := Result{Route: "r", Cluster: clusterV2, Endpoint: v2}

	hanging := Upstream{Script: []Behaviour{{Refuse: true, After: time.Hour}}}
	down := Upstream{Down: []string{v1, v2, v3}}
	failed := func(attempts int) Result { return Result{Status: 503, Flag: "UF", Attempts: attempts} }
	own := get(reviewsURL)

	return []Case{
		{Name: "REGISTRY_ONLY of a document", Cite: outbound, Config: reviews() + meshConfig(registryOnly), Request: unknown, Want: blocked},
		{Name: "REGISTRY_ONLY of istiod's ConfigMap", Cite: outbound, Config: reviews() + configMap("istio-system", registryOnly), Request: unknown, Want: blocked},
		{Name: "a ConfigMap of another namespace", Cite: root, Config: reviews() + configMap("default", registryOnly), Request: unknown, Want: passed},
		{Name: "REGISTRY_ONLY by its zero value", Cite: outbound + "; istio config/mesh: fields override as a whole", Config: reviews() + meshConfig("outboundTrafficPolicy: {}"), Request: unknown, Want: blocked},
		{Name: "REGISTRY_ONLY, a host it knows", Cite: outbound, Config: reviews() + meshConfig(registryOnly), Request: own, Want: Result{Route: "default", Cluster: clusterAll}},
		{Name: "ALLOW_ANY before the program's", Cite: outbound, Config: reviews() + meshConfig(allowAny), Outbound: mesh.RegistryOnly, Request: unknown, Want: passed},
		{Name: "no policy leaves the program's", Cite: outbound, Config: reviews() + meshConfig(""), Outbound: mesh.RegistryOnly, Request: unknown, Want: blocked},
		{Name: "a Sidecar's policy goes before", Cite: first, Config: reviews() + meshConfig(registryOnly) + scoped(allowAny), Request: unknown, Want: passed},
		{Name: "a Sidecar's stricter policy goes before", Cite: first, Config: reviews() + meshConfig(allowAny) + scoped(registryOnly), Request: unknown, Want: blocked},
		{Name: "a Sidecar without a policy has the mesh's", Cite: first, Config: reviews() + meshConfig(registryOnly) + scoped(""), Request: unknown, Want: blocked},

		{Name: "services for their namespace by default", Cite: export, Config: api + meshConfig(`defaultServiceExportTo: ["."]`), Request: apiAt, Want: unseen},
		{Name: "services for their namespace by default, from there", Cite: export, Config: api + meshConfig(`defaultServiceExportTo: ["."]`), Workload: in("shop"), Request: apiAt, Want: known},
		{Name: "a service that says more than the default", Cite: export, Config: open + meshConfig(`defaultServiceExportTo: ["."]`), Request: apiAt, Want: known},
		{Name: "rules for their namespace by default", Cite: export, Config: ruled + meshConfig(`defaultVirtualServiceExportTo: ["."]`), Request: apiAt, Want: known},
		{Name: "rules for a namespace by default", Cite: export, Config: ruled + meshConfig(`defaultVirtualServiceExportTo: [default]`), Request: apiAt, Want: Result{Route: "ruled", Endpoint: ratingsAt}},
		{Name: "delegates for their namespace by default", Cite: export + "; §2.2 Delegate",
			Config: reviews() + versions() + meshConfig(`defaultVirtualServiceExportTo: ["."]`) + virtualService("default/root", "hosts: [reviews]\nhttp:\n- {name: r, delegate: {name: leaf, namespace: other}}\n- {name: miss, route: [{destination: {host: reviews, subset: v1}}]}") +
				virtualService("other/leaf", "http: [{name: l, route: [{destination: {host: "+reviewsHost+", subset: v2}}]}]"),
			Request: own, Want: took(false)},
		{Name: "policies for their namespace by default", Cite: export, Config: byRoot("istio-system") + meshConfig(`defaultDestinationRuleExportTo: ["."]`), Request: own, Want: noSubset},

		{Name: "policies of the root", Cite: root + "; §2.3 Which rule applies", Config: byRoot("control") + meshConfig("rootNamespace: control"), Request: own, Want: subset},
		{Name: "policies of what was the root", Cite: root + "; §2.3 Which rule applies", Config: byRoot("istio-system") + meshConfig("rootNamespace: control"), Request: own, Want: noSubset},
		{Name: "the root's Sidecar", Cite: root + "; §2.7 workloadSelector", Config: reviews() + meshConfig("rootNamespace: control") + sidecar("control/all", "egress: [{hosts: [~/*]}]"), Request: own, Want: Result{Cluster: passthrough, Endpoint: "reviews:9080"}},
		{Name: "the ConfigMap of another root", Cite: root, Config: reviews() + configMap("control", registryOnly+"\nrootNamespace: control"), Request: unknown, Want: blocked},

		{Name: "HTTP/2 for everybody", Cite: upgrade, Config: reviews() + meshConfig("h2UpgradePolicy: UPGRADE"), Request: own, Want: Result{Cluster: clusterAll, Proto: "HTTP/2.0"}},
		{Name: "HTTP/2 for everybody else", Cite: upgrade, Config: reviews() + meshConfig("h2UpgradePolicy: UPGRADE") + destinationRule("default/reviews", "host: reviews\ntrafficPolicy: {connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}}"),
			Request: own, Want: Result{Cluster: clusterAll, Proto: "HTTP/1.1"}},
		{Name: "time to connect", Cite: connect, Config: reviews() + meshConfig("connectTimeout: 2s\n"+once), Upstream: hanging, Request: own, Fake: true, Want: Result{Status: 503, Flag: "UF", Attempts: 1, Took: 2 * time.Second}},
		{Name: "time to connect by default", Cite: connect, Config: reviews() + meshConfig(once), Upstream: hanging, Request: own, Fake: true, Want: Result{Status: 503, Flag: "UF", Attempts: 1, Took: 10 * time.Second}},
		{Name: "time to connect of a rule", Cite: connect, Config: reviews() + meshConfig("connectTimeout: 2s\n"+once) + destinationRule("default/reviews", "host: reviews\ntrafficPolicy: {connectionPool: {tcp: {connectTimeout: 1s}}}"),
			Upstream: hanging, Request: own, Fake: true, Want: Result{Status: 503, Flag: "UF", Attempts: 1, Took: time.Second}},
		{Name: "paths by default", Cite: paths, Config: when("[{uri: {prefix: /b}}]") + meshConfig("pathNormalization: {normalization: DEFAULT}"), Request: get(reviewsURL + "a/../b"), Want: took(true)},
		{Name: "paths by RFC 3986", Cite: paths, Config: when("[{uri: {prefix: /b}}]") + meshConfig("pathNormalization: {normalization: BASE}"), Request: get(reviewsURL + "a/../b"), Want: took(true)},

		{Name: "retries by default", Cite: retry, Config: reviews() + meshConfig("defaultHttpRetryPolicy: {attempts: 1, backoff: 1ms}"), Upstream: down, Request: own, Want: failed(2)},
		{Name: "no retries by default", Cite: retry, Config: reviews() + meshConfig("defaultHttpRetryPolicy: {attempts: 0}"), Upstream: down, Request: own, Want: failed(1)},
		{Name: "retries by default of rules", Cite: retry, Config: reviews() + rules("- {name: r, route: [{destination: {host: reviews}}]}") + configMap("istio-system", "defaultHttpRetryPolicy: {attempts: 0}"), Upstream: down, Request: own, Want: failed(1)},
		{Name: "retries of the rule itself", Cite: retry, Config: reviews() + rules("- {name: r, retries: {attempts: 1, backoff: 1ms}, route: [{destination: {host: reviews}}]}") + meshConfig("defaultHttpRetryPolicy: {attempts: 0}"), Upstream: down, Request: own, Want: failed(2)},
	}
}
