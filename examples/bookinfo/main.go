// Command bookinfo runs Istio's classic demo on the mesh, in Go: productpage calls details and reviews,
// reviews calls ratings, and which of the three versions of reviews answers is up to a directory of Istio
// YAML that is read again whenever it changes.
//
//	go run ./examples/bookinfo
//
// Every service is a process of its own with the mesh inside; there is no sidecar. The program starts
// itself once for each of them, and they end with it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if isChild() {
		os.Exit(childMain())
	}
	addr := flag.String("addr", "127.0.0.1:9080", "`address` on which productpage is served")
	dir := flag.String("config", "", "configuration `directory`, watched; the bundled rules are copied there when it is empty (default: a temporary directory)")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), "Usage: bookinfo [-addr ADDRESS] [-config DIR]\n\nRuns BookInfo on the mesh until it is interrupted.\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bookinfo: unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *addr, *dir)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bookinfo:", err)
		os.Exit(1)
	}
}

// run starts everything, says where it is and waits for the end.
func run(ctx context.Context, addr, dir string) error {
	b, err := start(ctx, addr, dir)
	if err != nil {
		return err
	}
	b.describe(os.Stdout)
	select {
	case <-ctx.Done():
		fmt.Fprintln(os.Stdout, "\nstopping")
	case err = <-b.died:
	}
	b.stop()
	return err
}
