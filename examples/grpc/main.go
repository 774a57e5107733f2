// Command grpc shows the mesh under gRPC, in one process: a client and three servers of one service. It prints what becomes of the
// client's RPCs: a canary for those whose metadata says so, moved while they run; the lesson of kube-proxy, a balancer of connections beside one
// of RPCs; and a server that begins to fail, is taken out, and comes back.
//
//	go run ./examples/grpc
package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// Ordinary Istio documents; the servers' ports are filled in, and who is a tester.
//
//go:embed *.yaml
var documents embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "grpc:", err)
		os.Exit(1)
	}
}

// A demo is the running service and its client.
type demo struct {
	out     io.Writer
	servers []*server
	mesh    *mesh.Mesh
	conn    *grpc.ClientConn
}

func run(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	d := &demo{out: out}
	defer d.stop()
	for _, name := range []string{"stable-1", "stable-2", "canary"} {
		s, err := serve(name)
		if err != nil {
			return err
		}
		d.servers = append(d.servers, s)
		fmt.Fprintf(out, "%s listens on %s\n", name, s.addr)
	}

	// The whole of the mesh in a gRPC client.
	var err error
	if d.mesh, err = mesh.New(ctx, mesh.WithConfig(d.config("canary.yaml", "jason"))); err != nil {
		return err
	}
	defer d.mesh.Close()
	if d.conn, err = grpc.NewClient(grpcmesh.Target("greeter:50051"), grpcmesh.DialOptions(d.mesh)...); err != nil {
		return err
	}
	defer d.conn.Close()

	for _, step := range []func(context.Context) error{d.canary, d.lesson, d.ejection} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) stop() {
	for _, s := range d.servers {
		s.Stop()
	}
}

// config gives the service with one of the rules.
func (d *demo) config(rule, tester string) []byte {
	read := func(name string) string {
		text, err := documents.ReadFile(name)
		if err != nil {
			panic(err) // it is embedded
		}
		return string(text)
	}
	text := fmt.Sprintf(read("mesh.yaml"), port(d.servers[0].addr), port(d.servers[1].addr), port(d.servers[2].addr)) + "---\n" + read(rule)
	return []byte(strings.Replace(text, "{exact: %s}", "{exact: "+tester+"}", 1))
}

// canary sends those to the new version whose metadata says that they test it.
func (d *demo) canary(ctx context.Context) error {
	fmt.Fprintf(d.out, "\nVirtualService greeter: end-user jason to the canary, everybody else to stable\n")
	if err := d.greetAll(ctx); err != nil {
		return err
	}
	if err := d.mesh.Apply(ctx, d.config("canary.yaml", "james")); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\nVirtualService greeter, changed while running: end-user james to the canary\n")
	if err := d.greetAll(ctx); err != nil {
		return err
	}
	// An RPC is a POST of its method: rules for both are the same.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://greeter:50051"+sayHello, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("End-User", "james")
	decision, err := d.mesh.Explain(req)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\nWhy, as m.Explain tells it:\n\n%s", decision)
	return nil
}

// greetAll calls as several users, ten times each, and counts who answered.
func (d *demo) greetAll(ctx context.Context) error {
	for _, user := range []string{"", "jason", "james"} {
		as, who := ctx, "without end-user"
		if user != "" {
			as, who = metadata.AppendToOutgoingContext(ctx, "end-user", user), "end-user: "+user
		}
		count, err := greetings(as, d.conn, 10)
		if err != nil {
			return err
		}
		d.spread(who, count)
	}
	return nil
}

// greetings calls n times and counts who answered.
func greetings(ctx context.Context, conn *grpc.ClientConn, n int) (map[string]int, error) {
	count := make(map[string]int)
	for range n {
		name, err := greet(ctx, conn)
		if err != nil {
			return nil, err
		}
		count[name]++
	}
	return count, nil
}

func (d *demo) spread(who string, count map[string]int) {
	fmt.Fprintf(d.out, "  %-24s", who)
	for _, s := range d.servers {
		fmt.Fprintf(d.out, "   %s %3d", s.name, count[s.name])
	}
	fmt.Fprintln(d.out)
}

// lesson is kube-proxy's: HTTP/2 has one connection for all RPCs, and who balances connections has one thing to balance.
func (d *demo) lesson(ctx context.Context) error {
	const calls = 300
	fmt.Fprintf(d.out, "\nThe lesson of kube-proxy: %d RPCs over three servers\n", calls)
	b, err := balanceConnections(d.servers)
	if err != nil {
		return err
	}
	defer b.Close()
	bare, err := grpc.NewClient("passthrough:///"+b.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer bare.Close()
	count, err := greetings(ctx, bare, calls)
	if err != nil {
		return err
	}
	d.spread("connections balanced", count)
	if err := d.mesh.Apply(ctx, d.config("everybody.yaml", "")); err != nil {
		return err
	}
	if count, err = greetings(ctx, d.conn, calls); err != nil {
		return err
	}
	d.spread("RPCs balanced by the mesh", count)
	return nil
}

// ejection breaks a server under the client's eyes.
func (d *demo) ejection(ctx context.Context) error {
	const calls = 60
	bad := d.servers[1]
	fmt.Fprintf(d.out, "\nOutlier detection: %s answers UNAVAILABLE from now on\n", bad.name)
	bad.broken.Store(true)
	before, failed, count := bad.asked.Load(), 0, make(map[string]int)
	for range calls {
		name, err := greet(ctx, d.conn)
		if err != nil {
			failed++
			continue
		}
		count[name]++
	}
	d.spread("RPCs answered", count)
	fmt.Fprintf(d.out, "  %d of %d RPCs failed for the caller: what %s failed was tried elsewhere\n", failed, calls, bad.name)
	fmt.Fprintf(d.out, "  %s was asked %d times; out now: %s\n", bad.name, bad.asked.Load()-before, strings.Join(d.ejected(), ", "))

	bad.broken.Store(false)
	for began := time.Now(); ; {
		name, err := greet(ctx, d.conn)
		if err != nil {
			return err
		}
		if name == bad.name {
			fmt.Fprintf(d.out, "  %s is well again, and back after %v\n", name, time.Since(began).Round(100*time.Millisecond))
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return errors.New(bad.name + " does not come back")
		}
	}
}

// ejected names the servers that outlier detection keeps out.
func (d *demo) ejected() (names []string) {
	for _, c := range d.mesh.Engine().Clusters() {
		for _, e := range c.Endpoints {
			for _, s := range d.servers {
				if e.Ejected != nil && s.addr == e.Address {
					names = append(names, s.name)
				}
			}
		}
	}
	return names
}
