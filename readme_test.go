package mesh_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
)

// TestDeadInstance is the README's test.
func TestDeadInstance(t *testing.T) {
	alive := httptest.NewServer(http.NotFoundHandler())
	defer alive.Close()
	dead := httptest.NewServer(nil)
	dead.Close()
	m, err := mesh.New(t.Context(), mesh.WithConfig(declare("reviews", alive, dead)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for range 100 {
		resp, err := m.Client().Post("http://reviews:9080/", "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
}

// declare writes the ServiceEntry of a service of the default namespace on port 9080.
func declare(name string, instances ...*httptest.Server) []byte {
	var endpoints []string
	for _, s := range instances {
		u, _ := url.Parse(s.URL)
		endpoints = append(endpoints, fmt.Sprintf("{address: %s, ports: {http: %s}}", u.Hostname(), u.Port()))
	}
	return fmt.Appendf(nil, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %[1]s}
spec:
  hosts: [%[1]s.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [%[2]s]
`, name, strings.Join(endpoints, ", "))
}
