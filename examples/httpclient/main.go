// Command httpclient shows the mesh in one process: it starts two versions of a service, sends requests by
// the service's name and prints how the mesh shared them; then it changes the shares while it runs.
//
//	go run ./examples/httpclient
package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"

	"github.com/heddlemesh/mesh"
)

//go:embed mesh.yaml
var configuration string

const requests = 1000

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "httpclient:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	v1, err := serve("v1")
	if err != nil {
		return err
	}
	defer v1.Close()
	v2, err := serve("v2")
	if err != nil {
		return err
	}
	defer v2.Close()
	fmt.Fprintf(out, "reviews v1 listens on %s, v2 on %s\n", v1.Addr, v2.Addr)

	// Ordinary Istio documents; only the ports are filled in.
	config := func(shareV1, shareV2 int) []byte {
		return fmt.Appendf(nil, configuration, port(v1.Addr), port(v2.Addr), shareV1, shareV2)
	}
	m, err := mesh.New(ctx, mesh.WithConfig(config(80, 20)))
	if err != nil {
		return err
	}
	defer m.Close()

	fmt.Fprintf(out, "\nVirtualService reviews: v1 80, v2 20\n")
	if err := measure(ctx, out, m.Client()); err != nil {
		return err
	}
	if err := m.Apply(ctx, config(0, 100)); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nVirtualService reviews, changed while running: v1 0, v2 100\n")
	if err := measure(ctx, out, m.Client()); err != nil {
		return err
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://reviews:9080/reviews/1", nil)
	if err != nil {
		return err
	}
	decision, err := m.Explain(req)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nWhy, as m.Explain tells it:\n\n%s", decision)
	return nil
}

// measure calls the service by its mesh name and counts which version answered.
func measure(ctx context.Context, out io.Writer, client *http.Client) error {
	count := make(map[string]int)
	for range requests {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://reviews:9080/reviews/1", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
		count[string(body)]++
	}
	for _, version := range []string{"v1", "v2"} {
		share := float64(count[version]) / requests
		fmt.Fprintf(out, "  %s  %5.1f %%  %s\n", version, 100*share, strings.Repeat("█", int(50*share)))
	}
	return nil
}

// serve starts one version of the service on a port of its own.
func serve(version string) (*http.Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &http.Server{Addr: l.Addr().String(), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, version)
	})}
	go func() { _ = s.Serve(l) }() // ends with Close
	return s, nil
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}
