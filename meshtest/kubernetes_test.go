package meshtest_test

import (
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
)

// kubeYAML is a shop as kubectl applies it: Services, one of them with an EndpointSlice and its Pod, one with a
// WorkloadEntry, and rules of Istio for the versions.
const kubeYAML = `
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec:
  selector: {app: reviews}
  clusterIP: 10.96.0.7
  ports:
  - {name: http, port: 9080, targetPort: web}
  - {name: grpc, port: 9090}
  - {name: dns, port: 53, protocol: UDP}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-1, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: reviews-1}}]
ports: [{name: http, port: 8080}, {name: grpc, port: 8090}]
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-1, labels: {app: reviews, version: v1}}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: ratings, namespace: shop}
  spec: {selector: {app: ratings}, ports: [{port: 80, appProtocol: http}]}
- apiVersion: networking.istio.io/v1
  kind: WorkloadEntry
  metadata: {name: ratings, namespace: shop}
  spec: {address: 10.0.0.2, labels: {app: ratings}}
- apiVersion: v1
  kind: Service
  metadata: {name: alias}
  spec: {type: ExternalName, externalName: api.example.com, ports: [{port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}, port: 9080}]
    route: [{destination: {host: reviews, subset: v2, port: {number: 9080}}}]
  - route: [{destination: {host: reviews, subset: v1}}]
`

// TestKubernetesServices: instances take the place of a Service's endpoints as of a ServiceEntry's.
func TestKubernetesServices(t *testing.T) {
	t.Parallel()
	meshtest.Run(t, meshtest.YAML(kubeYAML), func(t *testing.T, e *meshtest.Env) {
		one := e.HTTP("reviews", map[string]string{"version": "v1"}, nil)
		two := e.HTTP("reviews.default.svc.cluster.local:9080", map[string]string{"version": "v2"}, nil)
		ratings, alias := e.HTTP("ratings.shop", nil, nil), e.HTTP("alias", nil, nil)
		for range 4 {
			if a := e.Get("http://reviews:9080/"); a.From != one || a.Body != one.String()+"\n" {
				t.Errorf("without the header: %v", a.From)
			}
			if a := e.Get("http://reviews:9080/", "end-user: jason"); a.From != two {
				t.Errorf("with the header: %v", a.From)
			}
		}
		for url, want := range map[string]*meshtest.Instance{
			"http://10.96.0.7:9080/":      one,
			"http://ratings.shop/":        ratings,
			"http://ratings.shop.svc:80/": ratings,
			"http://alias/":               alias,
		} {
			if a := e.Get(url); a.From != want {
				t.Errorf("%s was answered by %v", url, a.From)
			}
		}
		if one.Address() != "198.18.0.1:9080" || ratings.Address() != "198.18.0.3:80" {
			t.Errorf("addresses %s, %s", one.Address(), ratings.Address())
		}
		rpc := e.GRPC("reviews:9090", map[string]string{"version": "v1"}, nil)
		if rpc.Address() != "198.18.0.5:9090" {
			t.Error(rpc)
		}
		if err := e.Apply(kubeYAML + "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: more}\nspec: {hosts: [reviews.default.svc.cluster.local], resolution: STATIC, " +
			"ports: [{number: 9080, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.9, labels: {version: v2}}]}\n"); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			if a := e.Get("http://reviews:9080/", "end-user: jason"); a.From != two {
				t.Errorf("beside a ServiceEntry of the same host: %v", a.From)
			}
		}
	}, meshtest.WithMesh(mesh.WithIgnoredKinds("Gateway")))
	for host, want := range map[string]string{
		"reviews:81":   "reviews.default.svc.cluster.local (<yaml>:2) has no port 81; its ports: 9080, 9090",
		"reviews:53":   "has no port 53",
		"ratings:80":   "",
		"ratings.shop": "",
	} {
		said, failed := during(t, func(tb testing.TB) { meshtest.New(tb, meshtest.YAML(kubeYAML)).HTTP(host, nil, nil) })
		if failed != (want != "") || !strings.Contains(said, want) {
			t.Errorf("%s: %s", host, said)
		}
	}
	said, failed := during(t, func(tb testing.TB) { meshtest.New(tb, meshtest.YAML(kubeYAML)).GRPC("reviews:9080", nil, nil) })
	if !failed || !strings.Contains(said, "(<yaml>:2) has port 9080 for HTTP, and gRPC needs HTTP/2") {
		t.Error(said)
	}
}

// TestKubernetesServicesWithout: what has no instance keeps what the YAML says, in strict configurations too.
func TestKubernetesServicesWithout(t *testing.T) {
	t.Parallel()
	meshtest.Run(t, meshtest.YAML(kubeYAML), func(t *testing.T, e *meshtest.Env) {
		e.HTTP("ratings.shop", nil, nil)
		_, err := get(e, t.Context(), "http://reviews:9080/")
		if mesh.ReasonOf(err) != mesh.ReasonConnect || !strings.Contains(err.Error(), "10.0.0.1:8080") {
			t.Errorf("got %v", err)
		}
	})
}
