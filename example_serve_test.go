package mesh_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"

	"github.com/heddlemesh/mesh"
)

// A server of the mesh: the calls it makes for a request carry that request's trace headers by themselves.
func ExampleMesh_Serve() {
	config, stop := service()
	defer stop()
	ctx := context.Background()
	m, _ := mesh.New(ctx, mesh.WithConfig(config), mesh.WithLogger(slog.New(slog.DiscardHandler)))

	mux := http.NewServeMux()
	mux.HandleFunc("GET /product", func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://reviews:9080/reviews/1", nil)
		resp, err := m.Client().Do(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		fmt.Fprint(w, "product page; ")
		io.Copy(w, resp.Body)
	})
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	ended := make(chan error)
	go func() { ended <- m.Serve(&http.Server{Handler: mux}, l) }()

	resp, err := http.Get("http://" + l.Addr().String() + "/product")
	if err != nil {
		fmt.Println(err)
		return
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	fmt.Println(string(body))

	if err := m.Shutdown(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-ended)
	// Output:
	// product page; hello from reviews:9080
	// http: Server closed
}
