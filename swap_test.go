package mesh_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/heddlemesh/mesh"
)

// TestRulesAndEndpointsChangeTogether: one Apply moves a service from one address and subset to another. No
// call falls between the old endpoints and the new rule.
func TestRulesAndEndpointsChangeTogether(t *testing.T) {
	t.Parallel()
	addr, blue := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	_, green := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	set := func(version, port string) []byte {
		return []byte(strings.NewReplacer("ADDR", addr, "PORT", port, "VERSION", version).Replace(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: ADDR, ports: {http: PORT}, labels: {version: VERSION}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a, subsets: [{name: VERSION, labels: {version: VERSION}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec: {hosts: [a], http: [{route: [{destination: {host: a, subset: VERSION}}]}]}
`))
	}
	m := start(t, mesh.WithConfig(set("v0", blue)))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := get(t, m.Client(), "http://a:9080/"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 200 {
		port := []string{blue, green, green}[i%3] // to another address, and to other labels at the same one
		if err := m.Apply(t.Context(), set(fmt.Sprintf("v%d", i), port)); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}
