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
	"strconv"
	"syscall"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity/workload"
	"github.com/heddlemesh/mesh/telemetry/export"
)

// serviceMain is one service in Go: it listens, waits until the configuration is complete, serves, and ends
// when its standard input does or SIGTERM comes.
func serviceMain() int {
	service, version := os.Getenv("BOOKINFO_SERVICE"), os.Getenv("SERVICE_VERSION")
	if err := serve(service, version); err != nil {
		fmt.Fprintf(os.Stderr, "bookinfo: %s %s: %v\n", service, version, err)
		return 1
	}
	return 0
}

func serve(service, version string) error {
	signal.Ignore(os.Interrupt) // where Ctrl-C reaches us all the same, the parent decides when we end
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var listen net.ListenConfig
	listen.SetMultipathTCP(false) // Shutdown then resets nobody, whenever he comes
	l, err := listen.Listen(ctx, "tcp", os.Getenv("BOOKINFO_LISTEN"))
	if err != nil {
		return err
	}
	admin, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(sayListening + l.Addr().String() + " " + admin.Addr().String())
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return nil // the parent gave up
	}
	go func() {
		_, _ = io.Copy(io.Discard, in) // returns when the parent ends
		stop()
	}()
	m, err := mesh.New(ctx, mesh.WithConfigPath(os.Getenv("BOOKINFO_CONFIG")), mesh.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))),
		mesh.WithWorkload(mesh.Workload{Namespace: "default", Name: service + "-" + version,
			ServiceAccount: "bookinfo-" + service, Labels: workloadLabels(service, version)}),
		mesh.WithIdentity(workload.API{Address: os.Getenv(socketEnv)}),
		mesh.WithTraceCollectors(export.Opener{Service: service + ".default", Environment: os.LookupEnv}.Open, os.LookupEnv))
	if err != nil {
		return err
	}
	calls := &caller{client: m.Client()}
	pages := &http.Server{Handler: m.AdminHandler(), ReadHeaderTimeout: 5 * time.Second}
	defer pages.Close()
	go func() { _ = pages.Serve(admin) }()
	srv := &http.Server{Handler: handler(service, version, calls)}
	served := make(chan error, 1)
	go func() { served <- m.Serve(srv, l) }()
	fmt.Println(sayReady)
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
func handler(service, version string, calls *caller) http.Handler {
	return identified(service, version, logged(routes(service, version, calls)))
}

// routes gives what the originals have.
func routes(service, version string, calls *caller) *http.ServeMux {
	mux := http.NewServeMux()
	switch service {
	case "productpage":
		newProductpage(calls).register(mux)
	case "details":
		registerDetails(mux)
	case "reviews":
		newReviews(calls, version).register(mux)
	case "ratings":
		newRatings().register(mux)
	}
	return mux
}

// served is the header in which every service tells who answered: itself, and after it what the services said
// that it has asked.
const served = "X-Served-By"

func identified(service, version string, next http.Handler) http.Handler {
	name := envOr("HOSTNAME", service+"-"+version) + " (" + goVersion() + ")"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(served, name)
		next.ServeHTTP(w, r)
	})
}

// alsoServed adds what an asked service said.
func alsoServed(w http.ResponseWriter, by string) {
	if by != "" {
		w.Header().Set(served, w.Header().Get(served)+", "+by)
	}
}

// logged writes a line for every request. The addresses in it are the client's spelling, which has no line breaks.
func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(status, r)
		if r.URL.Path != "/health" {
			fmt.Printf("%s %s %d x-request-id=%s traceparent=%s\n", r.Method, r.RequestURI, status.status,
				r.Header.Get("x-request-id"), r.Header.Get("traceparent"))
		}
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// productID reads one to nine digits.
func productID(r *http.Request) (int, bool) {
	s := r.PathValue("id")
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil && len(s) <= 9
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]string{"error": message})
}
