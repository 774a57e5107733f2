package mesh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/heddlemesh/mesh"
)

// service starts something to call and gives the documents that declare it.
func service() (config []byte, stop func()) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s", r.Host)
	}))
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return fmt.Appendf(nil, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: %s}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - name: public
    match: [{uri: {prefix: /reviews}}]
    route: [{destination: {host: reviews}}]
`, port), s.Close
}

func Example() {
	config, stop := service()
	defer stop()

	m, err := mesh.New(context.Background(), mesh.WithConfig(config), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()

	resp, err := m.Client().Get("http://reviews:9080/reviews/1")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(string(body))
	// Output: hello from reviews:9080
}

// A call that got no answer is a *mesh.Error: it says why and where it was going.
func ExampleError() {
	config, stop := service()
	defer stop()
	m, _ := mesh.New(context.Background(), mesh.WithConfig(config), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	defer m.Close()

	_, err := m.Client().Get("http://reviews:9080/admin")
	var e *mesh.Error
	if errors.As(err, &e) {
		fmt.Println(e.Flag(), e.HTTPStatus(), errors.Is(err, mesh.ReasonNoRoute))
		fmt.Println(e)
	}
	// Output:
	// NR 404 true
	// mesh: call reviews:9080: no route matches (flag NR): no rule of reviews.default.svc.cluster.local matches
}

func ExampleCapture() {
	config, stop := service()
	defer stop()
	m, _ := mesh.New(context.Background(), mesh.WithConfig(config), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	defer m.Close()

	var info mesh.CallInfo
	req, _ := http.NewRequestWithContext(mesh.Capture(context.Background(), &info), http.MethodGet, "http://reviews:9080/reviews/1", nil)
	resp, err := m.Client().Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(info.Route, info.Cluster, info.Attempts)
	// Output: public outbound|9080||reviews.default.svc.cluster.local 1
}

func ExampleMesh_Explain() {
	config, stop := service()
	defer stop()
	m, _ := mesh.New(context.Background(), mesh.WithConfig(config), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	defer m.Close()

	req, _ := http.NewRequest(http.MethodGet, "http://reviews:9080/admin", nil)
	d, _ := m.Explain(req)
	fmt.Println(d.Verdict, d.Flag, d.Trials[0].Why)
	// Output: reject NR path "/admin" is not prefix "/reviews"
}

// A faulty document is refused as a whole, with every finding; what served before goes on serving.
func ExampleMesh_Apply() {
	m, _ := mesh.New(context.Background(), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	defer m.Close()

	err := m.Apply(context.Background(), []byte(strings.TrimSpace(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - retrise: {attempts: 3}
    route: [{destination: {host: reviews}}]
`)))
	var refused *mesh.ConfigError
	if errors.As(err, &refused) {
		f := refused.Findings[0]
		fmt.Printf("%s: %s %s\n", f.Position(), f.Path, f.Message)
	}
	// Output: <inline 1>:7:5: spec.http[0].retrise unknown field "retrise"
}
