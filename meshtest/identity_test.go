package meshtest_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	text "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
)

const strictYAML = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ratings}
spec:
  selector: {matchLabels: {app: ratings}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/bookinfo-reviews]}}]
    to: [{operation: {methods: [GET]}}]
`

var ratingsLabels = map[string]string{"app": "ratings"}

// whoCalls answers with the verified peer.
func whoCalls(w http.ResponseWriter, r *http.Request) {
	p, _ := mesh.PeerFromContext(r.Context())
	_, _ = w.Write([]byte(p.ID.String()))
}

// TestIdentities: reviews may call ratings, productpage may not, and nobody in plain text.
func TestIdentities(t *testing.T) {
	t.Parallel()
	for _, port := range []string{"", ":9080"} {
		meshtest.Run(t, meshtest.YAML(strictYAML), func(t *testing.T, e *meshtest.Env) {
			ratings := e.HTTP("ratings"+port, ratingsLabels, http.HandlerFunc(whoCalls))
			details := e.HTTP("details", nil, http.HandlerFunc(whoCalls))
			reviews, productpage := e.As(mesh.Workload{ServiceAccount: "bookinfo-reviews"}), e.As(mesh.Workload{ServiceAccount: "bookinfo-productpage"})
			url := "http://ratings" + port + "/ratings/1"
			if a := reviews.Get(url); a.Body != "spiffe://cluster.local/ns/default/sa/bookinfo-reviews" || a.From != ratings {
				t.Errorf("%+v", a)
			}
			if status, body := statusOf(t, productpage.Client(), http.MethodGet, url); status != http.StatusForbidden || body != "RBAC: access denied" {
				t.Errorf("%d %s", status, body)
			}
			if status, _ := statusOf(t, reviews.Client(), http.MethodDelete, url); status != http.StatusForbidden {
				t.Errorf("DELETE: %d", status)
			}
			if a := productpage.Get("http://details/"); a.Body != "spiffe://cluster.local/ns/default/sa/bookinfo-productpage" {
				t.Errorf("%+v", a)
			}
			if r, d := len(ratings.Calls()), len(details.Calls()); r != 1 || d != 1 {
				t.Errorf("ratings had %d calls, details %d", r, d)
			}
			e.HTTP("details", nil, nil).Inject(meshtest.RefuseConn())
			for range 10 {
				productpage.Get("http://details/")
			}
			// A policy that opens counts at once.
			if err := e.Apply(strings.ReplaceAll(strictYAML, "bookinfo-reviews", "bookinfo-productpage")); err != nil {
				t.Fatal(err)
			}
			if a := productpage.Get(url); a.Status != http.StatusOK {
				t.Errorf("%+v", a)
			}
			// Without mutual TLS not a byte is answered.
			if err := e.Apply(strictYAML + "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: plain}\n" +
				"spec: {host: details, trafficPolicy: {tls: {mode: DISABLE}}}\n"); err != nil {
				t.Fatal(err)
			}
			if status, body := statusOf(t, reviews.Client(), http.MethodGet, "http://details/"); status != 0 {
				t.Errorf("in plain text: %d %s", status, body)
			}
			time.Sleep(25 * time.Hour) // many SVIDs later
			if status, _ := statusOf(t, reviews.Client(), http.MethodGet, url); status != http.StatusOK {
				t.Errorf("the day after: %d", status)
			}
		}, meshtest.WithIdentities(nil))
	}
}

// statusOf gives 0 where there is no answer.
func statusOf(t *testing.T, c *http.Client, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	var b strings.Builder
	buf := make([]byte, 1000)
	n, _ := resp.Body.Read(buf)
	b.Write(buf[:n])
	return resp.StatusCode, b.String()
}

// TestIdentitiesRefused: an account that makes no SPIFFE ID ends the test, and leaves nothing behind.
func TestIdentitiesRefused(t *testing.T) {
	t.Parallel()
	said, _ := during(t, func(tb testing.TB) {
		meshtest.New(tb, meshtest.Config{}, meshtest.WithIdentities(map[string]string{"ratings": "of the bank"})).HTTP("ratings", nil, nil)
	})
	if !strings.Contains(said, "has a character that its path may not have") {
		t.Errorf("%q", said)
	}
}

// TestIdentitiesGRPC: the same over gRPC, with accounts that the test gives, and with faults.
func TestIdentitiesGRPC(t *testing.T) {
	t.Parallel()
	policy := strings.NewReplacer("methods: [GET]", "methods: [POST]", "bookinfo-reviews", "asking", "{name: ratings}", "{name: echo}",
		"app: ratings", "app: echo").Replace(strictYAML)
	meshtest.Run(t, meshtest.YAML(policy), func(t *testing.T, e *meshtest.Env) {
		echo := e.GRPC("echo", map[string]string{"app": "echo"}, nil)
		ask := func(as string) error {
			conn := e.As(mesh.Workload{ServiceAccount: as}).Dial("echo")
			return conn.Invoke(t.Context(), "/test.Echo/Ask", new(text.HealthCheckRequest), new(text.HealthCheckRequest))
		}
		if err := ask("asking"); err != nil {
			t.Error(err)
		}
		if err := ask("another"); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%v", err)
		}
		defer echo.Inject(meshtest.Code(codes.ResourceExhausted))()
		if err := ask("asking"); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%v", err)
		}
	}, meshtest.WithIdentities(map[string]string{"echo": "echo-server"}))
}
