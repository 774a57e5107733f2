package conformance

import (
	"strings"

	"github.com/heddlemesh/mesh"
)

// document writes one document. name is "namespace/name", and "namespace/name@time" where the time of
// its creation matters; spec is its specification, at column 1.
func document(kind, name, spec string) string {
	name, created, _ := strings.Cut(name, "@")
	namespace, name, _ := strings.Cut(name, "/")
	var b strings.Builder
	apiVersion := "networking.istio.io/v1"
	if kind == "RateLimit" || kind == "ResiliencePolicy" {
		apiVersion = "heddle.dev/v1alpha1"
	}
	b.WriteString("---\napiVersion: " + apiVersion + "\nkind: " + kind + "\n")
	b.WriteString("metadata:\n  name: " + name + "\n  namespace: " + namespace + "\n")
	if created != "" {
		b.WriteString("  creationTimestamp: \"" + created + "\"\n")
	}
	b.WriteString("spec:\n")
	for line := range strings.Lines(strings.TrimSpace(spec)) {
		b.WriteString("  " + line)
	}
	b.WriteString("\n")
	return b.String()
}

func serviceEntry(name, spec string) string    { return document("ServiceEntry", name, spec) }
func workloadEntry(name, spec string) string   { return document("WorkloadEntry", name, spec) }
func virtualService(name, spec string) string  { return document("VirtualService", name, spec) }
func destinationRule(name, spec string) string { return document("DestinationRule", name, spec) }

// static is a service with one HTTP port and fixed endpoints, named as Kubernetes would name it.
func static(name, port string, endpoints ...string) string {
	namespace, short, _ := strings.Cut(name, "/")
	return staticHost(name, short+"."+namespace+".svc.cluster.local", port, endpoints...)
}

// staticHost is static for a host of any form.
func staticHost(name, host, port string, endpoints ...string) string {
	spec := `
hosts: ["` + host + `"]
location: MESH_INTERNAL
resolution: STATIC
ports:
- {number: ` + port + `, name: http, protocol: HTTP}
endpoints:`
	for _, e := range endpoints {
		spec += "\n- {address: " + e + "}"
	}
	return serviceEntry(name, spec)
}

// What most rows are about: reviews in three versions and ratings in one, in namespace default, and a
// DestinationRule that names the versions v1 to v3.
const (
	v1 = "10.0.0.1:9080"
	v2 = "10.0.0.2:9080"
	v3 = "10.0.0.3:9080"

	ratingsAt = "10.0.1.1:9080"

	reviewsHost = "reviews.default.svc.cluster.local"
	clusterAll  = "outbound|9080||" + reviewsHost
	clusterV1   = "outbound|9080|v1|" + reviewsHost
	clusterV2   = "outbound|9080|v2|" + reviewsHost
	clusterV3   = "outbound|9080|v3|" + reviewsHost
	passthrough = "PassthroughCluster"

	reviewsURL = "http://reviews:9080/"
)

func reviews() string {
	return static("default/reviews", "9080",
		"10.0.0.1, labels: {app: reviews, version: v1}",
		"10.0.0.2, labels: {app: reviews, version: v2}",
		"10.0.0.3, labels: {app: reviews, version: v3}")
}

func ratings() string { return static("default/ratings", "9080", "10.0.1.1") }

func versions() string {
	return destinationRule("default/reviews", `
host: reviews
subsets:
- {name: v1, labels: {version: v1}}
- {name: v2, labels: {version: v2}}
- {name: v3, labels: {version: v3}}`)
}

// shop is reviews with its versions, and rules for it.
func shop(http string) string { return reviews() + versions() + rules(http) }

// rules is a VirtualService for reviews.
func rules(http string) string {
	return virtualService("default/reviews", "hosts: [reviews]\nhttp:\n"+strings.TrimSpace(http))
}

// when sends what the match list takes to v2 by the rule "hit", and all else to v1 by the rule "miss".
func when(match string) string {
	return shop(`
- name: hit
  match: ` + match + `
  route: [{destination: {host: reviews, subset: v2}}]
- name: miss
  route: [{destination: {host: reviews, subset: v1}}]`)
}

// took is what comes out of when's rules.
func took(hit bool) Result {
	if hit {
		return Result{Route: "hit", Cluster: clusterV2, Endpoint: v2}
	}
	return Result{Route: "miss", Cluster: clusterV1, Endpoint: v1}
}

func in(namespace string) mesh.Workload { return mesh.Workload{Namespace: namespace} }

func labelled(pairs ...string) mesh.Workload {
	w := mesh.Workload{Labels: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		w.Labels[pairs[i]] = pairs[i+1]
	}
	return w
}

// annotated gives the VirtualService reviews of a config an annotation.
func annotated(config, annotation string) string {
	const at = "kind: VirtualService\nmetadata:\n  name: reviews\n"
	return strings.Replace(config, at, at+"  annotations: {"+annotation+"}\n", 1)
}

func get(url string) Request { return Request{URL: url} }
