package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/heddlemesh/mesh"
)

func isChild() bool { return os.Getenv(childEnv) != "" }

// childMain is one service process: it listens, waits until the configuration is complete, serves, and
// ends when its standard input does.
func childMain() int {
	signal.Ignore(os.Interrupt) // Ctrl-C reaches the whole group; the parent decides when we end
	service, version := os.Getenv(childEnv), os.Getenv("SERVICE_VERSION")
	log := slog.New(slog.DiscardHandler)
	if service == "productpage" { // they all read the same directory: one voice is enough
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if err := serve(service, version, log); err != nil {
		fmt.Fprintf(os.Stderr, "bookinfo: %s %s: %v\n", service, version, err)
		return 1
	}
	return 0
}

func serve(service, version string, log *slog.Logger) error {
	l, err := net.Listen("tcp", os.Getenv("BOOKINFO_LISTEN"))
	if err != nil {
		return err
	}
	fmt.Println("listening", l.Addr())
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return nil // the parent gave up
	}

	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, in) // returns when the parent ends
		stop()
	}()
	m, err := mesh.New(ctx, mesh.WithConfigPath(os.Getenv("BOOKINFO_CONFIG")), mesh.WithLogger(log),
		mesh.WithWorkload(mesh.Workload{Namespace: "default", Name: service + "-" + version,
			ServiceAccount: "bookinfo-" + service, Labels: map[string]string{"app": service, "version": version}}))
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: handler(service, version, m)}
	served := make(chan error, 1)
	go func() { served <- m.Serve(srv, l) }()
	fmt.Println("ready")
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return m.Shutdown(drain)
}

// handler gives the service's pages.
func handler(service, version string, m *mesh.Mesh) http.Handler {
	mux := http.NewServeMux()
	switch service {
	case "productpage":
		newProductpage(m.Client()).register(mux)
	case "details":
		registerDetails(mux)
	case "reviews":
		newReviews(m.Client(), version).register(mux)
	case "ratings":
		newRatings().register(mux)
	}
	mux.HandleFunc("GET /mesh/status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, m.Status()) })
	return mux
}

// forwarded lists the headers that the services pass on themselves, as the originals do; what belongs to
// tracing travels with the request's context.
var forwarded = []string{"end-user", "user-agent", "cookie", "authorization", "jwt"}

// call sends a GET for the received request and gives status and body.
func call(r *http.Request, client *http.Client, url string, timeout time.Duration) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	for _, h := range forwarded {
		if v := r.Header.Values(h); len(v) > 0 {
			req.Header[http.CanonicalHeaderKey(h)] = v
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}

// upstream gives the URL of a service by the environment of the originals: <NAME>_HOSTNAME,
// <NAME>_SERVICE_PORT, SERVICES_DOMAIN.
func upstream(name, envName string) string {
	host := envOr(envName+"_HOSTNAME", name)
	if d := os.Getenv("SERVICES_DOMAIN"); d != "" {
		host += "." + d
	}
	return "http://" + net.JoinHostPort(host, envOr(envName+"_SERVICE_PORT", "9080"))
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]string{"error": message})
}
