package config

import (
	"testing"

	"github.com/heddlemesh/mesh/snapshot"
)

// TestOwnService: a workload knows which service it is an endpoint of, by a selector or by an endpoint that is written like it, where
// that is one.
func TestOwnService(t *testing.T) {
	t.Parallel()
	written := func(name, namespace, rest string) string {
		return `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ` + name + `, namespace: ` + namespace + `}
spec:
  hosts: [` + name + `.` + namespace + `.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
` + rest
	}
	const selects, inline = "  workloadSelector: {labels: {app: a}}\n", "  endpoints: [{address: 10.0.0.1, labels: {app: b}}, {address: 10.0.0.2, labels: {app: a}, serviceAccount: web}]\n"
	kube := `
apiVersion: v1
kind: Service
metadata: {name: k, namespace: shop}
spec:
  selector: {app: a}
  ports: [{port: 80}]
`
	for _, one := range []struct {
		name, account string
		docs          []string
		want          string
	}{
		{"a selector", "", []string{written("one", "shop", selects)}, "one.shop.svc.cluster.local"},
		{"a Kubernetes Service", "", []string{kube}, "k.shop.svc.cluster.local"},
		{"an endpoint", "web", []string{written("one", "shop", inline)}, "one.shop.svc.cluster.local"},
		{"an endpoint of another account", "api", []string{written("one", "shop", inline)}, ""},
		{"another namespace", "", []string{written("one", "else", selects)}, ""},
		{"an endpoint without labels", "", []string{written("one", "shop", "  endpoints: [{address: 10.0.0.1}]\n")}, ""},
		{"two", "web", []string{written("one", "shop", inline), written("two", "shop", selects)}, ""},
		{"the same twice", "", []string{kube, written("k", "shop", selects)}, "k.shop.svc.cluster.local"},
		{"none", "", nil, ""},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			o := Options{Workload: snapshot.Workload{Namespace: "shop", ServiceAccount: one.account, Labels: map[string]string{"app": "a", "version": "v1"}}}
			w := newWorld(t, o, one.docs...)
			if w.live == nil || w.live.Service != one.want {
				t.Errorf("%+v, want %q", w.live, one.want)
			}
		})
	}
}
