// Command grpc shows the mesh under gRPC, in one process: it starts two versions of a service, calls them by
// the service's name over one channel and prints which version answered whom, as the metadata rule of an
// Istio VirtualService has it; then it changes the rule while it runs.
//
//	go run ./examples/grpc
package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

//go:embed mesh.yaml
var configuration string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "grpc:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	v1, err := serve("v1")
	if err != nil {
		return err
	}
	defer v1.Stop()
	v2, err := serve("v2")
	if err != nil {
		return err
	}
	defer v2.Stop()
	fmt.Fprintf(out, "greeter v1 listens on %s, v2 on %s\n", v1.addr, v2.addr)

	// Ordinary Istio documents; the ports are filled in, and who is a tester.
	config := func(tester string) []byte {
		return fmt.Appendf(nil, configuration, port(v1.addr), port(v2.addr), tester)
	}
	m, err := mesh.New(ctx, mesh.WithConfig(config("jason")))
	if err != nil {
		return err
	}
	defer m.Close()

	// The whole of the mesh in a gRPC client.
	conn, err := grpc.NewClient(grpcmesh.Target("greeter:50051"), grpcmesh.DialOptions(m)...)
	if err != nil {
		return err
	}
	defer conn.Close()

	fmt.Fprintf(out, "\nVirtualService greeter: end-user jason to v2, everybody else to v1\n")
	if err := greetAll(ctx, out, conn); err != nil {
		return err
	}
	if err := m.Apply(ctx, config("james")); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nVirtualService greeter, changed while running: end-user james to v2\n")
	if err := greetAll(ctx, out, conn); err != nil {
		return err
	}

	// An RPC is a POST of its method: rules for both are the same.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://greeter:50051"+sayHello, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("End-User", "james")
	decision, err := m.Explain(req)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nWhy, as m.Explain tells it:\n\n%s", decision)
	return nil
}

// greetAll calls as several users, ten times each, and counts which version answered.
func greetAll(ctx context.Context, out io.Writer, conn *grpc.ClientConn) error {
	const each = 10
	for _, user := range []string{"", "jason", "james"} {
		as, who := ctx, "without end-user"
		if user != "" {
			as, who = metadata.AppendToOutgoingContext(ctx, "end-user", user), "end-user: "+user
		}
		count := make(map[string]int)
		for range each {
			version, err := greet(as, conn)
			if err != nil {
				return err
			}
			count[version]++
		}
		fmt.Fprintf(out, "  %-18s v1 %2d   v2 %2d\n", who, count["v1"], count["v2"])
	}
	return nil
}
