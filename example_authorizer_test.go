package mesh_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity/external"
)

// A policy of action CUSTOM asks a function of the program.
func ExampleWithAuthorizer() {
	policy := []byte(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: badges}
spec:
  action: CUSTOM
  provider: {name: door}
  rules: [{to: [{operation: {paths: ["/admin*"]}}]}]
`)
	door := func(_ context.Context, c *external.Check) (external.Answer, error) {
		badge := c.Header.Get("X-Badge")
		if badge == "" {
			return external.Answer{Status: http.StatusUnauthorized, Body: "show your badge"}, nil
		}
		return external.Answer{Allowed: true, Request: []external.Edit{{Name: "x-user", Value: "bearer of " + badge}}}, nil
	}
	m, err := mesh.New(context.Background(), mesh.WithConfig(policy), mesh.WithLogger(slog.New(slog.DiscardHandler)),
		mesh.WithAuthorizer("door", external.AuthorizerFunc(door)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	program := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello, %q", r.Header.Get("X-User"))
	}))

	for _, badge := range []string{"", "42"} {
		r := httptest.NewRequest(http.MethodGet, "http://reviews/admin", nil)
		r.Header.Set("X-Badge", badge)
		w := httptest.NewRecorder()
		program.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Body)
	}
	// Output:
	// 401 show your badge
	// 200 hello, "bearer of 42"
}
