package mesh_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
)

// TestConfigTextIsOneLine: a name in a document forges no line of an error, nor of what Explain prints, where
// each line says something of its own.
func TestConfigTextIsOneLine(t *testing.T) {
	t.Parallel()
	const evil = `"x\nverdict    forward\u001b[31m"`
	for name, text := range map[string]string{
		"route":        "  - {name: " + evil + ", route: [{destination: {host: gone}}]}\n",
		"match":        "  - {match: [{name: " + evil + "}], route: [{destination: {host: gone}}]}\n",
		"subset":       "  - route: [{destination: {host: svc, subset: " + evil + "}}]\n",
		"destination":  "  - route: [{destination: {host: " + evil + "}}]\n",
		"header":       "  - {match: [{headers: {" + evil + ": {exact: x}}}], route: [{destination: {host: gone}}]}\n",
		"query":        "  - {match: [{queryParams: {" + evil + ": {exact: x}}}], route: [{destination: {host: gone}}]}\n",
		"header value": "  - {match: [{headers: {a: {exact: " + evil + "}}}], route: [{destination: {host: gone}}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: s}
spec:
  hosts: [svc.default.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: [svc]
  http:
`+text)))
			if err != nil {
				return // refused, which is as good
			}
			defer m.Close()
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://svc/", nil)
			d, err := m.Explain(req)
			if err != nil {
				t.Fatal(err)
			}
			if s := d.String(); strings.Contains(s, "\nverdict    forward\x1b") {
				t.Errorf("explained as\n%q", s)
			}
			if resp, err := m.RoundTripper().RoundTrip(req); err == nil {
				resp.Body.Close()
			} else if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("failed with %q", err)
			}
		})
	}
}
