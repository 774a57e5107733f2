package mesh_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/telemetry"
)

// TestOwnService: a request that names no service of the mesh, as those from outside do, is counted as one for the workload's own.
func TestOwnService(t *testing.T) {
	t.Parallel()
	m, err := mesh.New(t.Context(), mesh.WithWorkload(mesh.Workload{Namespace: "shop", Labels: map[string]string{"app": "web"}}), mesh.WithConfig([]byte(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.shop.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: web}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: other, namespace: shop}
spec:
  hosts: [other.shop.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}]
`)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	h := m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, host := range []string{"www.example.com", "192.0.2.1:9080", "%", "web", "other"} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Host = host
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	counts := make(map[string]float64)
	all := m.Metrics().Gather()
	for _, s := range all[slices.IndexFunc(all, func(f telemetry.Family) bool { return f.Name == telemetry.RequestCount })].Samples {
		key := ""
		for _, l := range s.Labels {
			switch l.Name {
			case "destination_service", "destination_service_name", "destination_service_namespace":
				key += l.Value + " "
			}
		}
		counts[key] += s.Value
	}
	if len(counts) != 2 || counts["web.shop.svc.cluster.local web shop "] != 4 || counts["other.shop.svc.cluster.local other shop "] != 1 {
		t.Errorf("requests by service: %v", counts)
	}
}
