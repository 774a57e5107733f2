package config

import (
	"fmt"
	"strings"
	"testing"
)

// meshText writes n ServiceEntries and n VirtualServices, some 25 lines each.
func meshText(n int) []byte {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: reviews-%[1]d
  namespace: shop
  labels: {app: reviews, tier: back}
spec:
  hosts:
  - reviews-%[1]d.shop.svc.cluster.local
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - number: 9080
    name: http
    protocol: HTTP
  endpoints:
  - address: 10.0.0.1
    labels:
      version: v1
    weight: 80
  - address: 10.0.0.2
    labels:
      version: v2
    weight: 20
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: reviews-%[1]d
  namespace: shop
spec:
  hosts: ["reviews-%[1]d.shop.svc.cluster.local"]
  http:
  - match:
    - headers:
        end-user:
          exact: jason
      uri:
        prefix: /reviews
    timeout: 500ms
    retries:
      attempts: 3
      perTryTimeout: 100ms
      retryOn: 5xx,connect-failure
    route:
    - destination:
        host: reviews-%[1]d
        subset: v2
  - route:
    - destination: {host: reviews-%[1]d, subset: v1}
      weight: 100
---
`, i)
	}
	return []byte(b.String())
}

// BenchmarkParseDecode reads 2,000 documents; the parser alone is measured beside it.
func BenchmarkParseDecode(b *testing.B) {
	text := meshText(1000)
	b.Run("ParseDecode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			resources, findings := Parse("mesh.yaml", text)
			if len(resources) != 2000 || len(findings) != 0 {
				b.Fatal(len(resources), findings)
			}
			for _, r := range resources {
				if f := r.doc.decode(); len(f) > 0 {
					b.Fatal(f)
				}
			}
		}
	})
	b.Run("YAMLAlone", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			for s := range sections(text) {
				if _, err := parseYAML(s.text); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
