package meshtest_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
)

const policies = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: reviews-only}
spec:
  selector: {matchLabels: {app: ratings}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/reviews]}}]
    to: [{operation: {methods: [GET], ports: ["9080"]}}]
  - from: [{source: {ipBlocks: [192.0.2.0/24]}}]
  - when: [{key: "request.auth.claims[role]", values: [admin]}]
`

// TestAuthorize: policies are asked with no traffic and no instance.
func TestAuthorize(t *testing.T) {
	t.Parallel()
	e := meshtest.New(t, meshtest.YAML(policies)).As(mesh.Workload{Labels: map[string]string{"app": "ratings"}})
	reviews := meshtest.Caller{ID: "spiffe://cluster.local/ns/default/sa/reviews"}
	page := meshtest.Caller{ID: "spiffe://cluster.local/ns/default/sa/productpage"}
	const url = "http://ratings:9080/ratings/1"
	e.WantAllowed(reviews, "GET", url)
	e.WantDenied(reviews, "DELETE", url)
	e.WantDenied(reviews, "GET", "http://ratings:9090/ratings/1")
	e.WantDenied(page, "GET", url)
	e.WantDenied(meshtest.Caller{}, "GET", url)
	e.WantAllowed(meshtest.Caller{Source: netip.MustParseAddr("192.0.2.7")}, "GET", url)
	e.WantAllowed(meshtest.Caller{Claims: []byte(`{"role": "admin"}`)}, "GET", url)
	e.WantDenied(meshtest.Caller{Claims: []byte(`{"role": "user"}`)}, "GET", url)
	if a := e.Authorize(reviews, "GET", url); !strings.Contains(a.String(), "because    ns[default]-policy[reviews-only]-rule[0]") {
		t.Errorf("told %s", a)
	}
	if a := e.Authorize(page, "GET", url); a.Status != 403 || a.Why != "rbac_access_denied_matched_policy[none]" {
		t.Errorf("told %+v", a)
	}
	if n := e.Mesh().Status().Policies; n.Denied != 0 {
		t.Errorf("a question is counted: %+v", n)
	}
}
