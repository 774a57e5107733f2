// Command bookinfo runs Istio's classic demo on the mesh: productpage calls details and reviews, reviews calls
// ratings, and which of the versions of reviews answers is up to a directory of Istio YAML that is read again
// whenever it changes.
//
//	go run ./examples/bookinfo
//
// Every service is a process of its own. Those in Go have the mesh inside. productpage in Python, ratings in Node
// and a second instance of details in Ruby and of reviews in Java, where these languages are installed, know
// nothing of a mesh: each stands behind a `heddle proxy`. The program starts itself once for each process, as
// the service or as heddle, and they end with it.
package main

import (
	"context"
	"errors"
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
	languages := auto
	flag.Var(&languages, "polyglot", "programs in Python, Node, Ruby and Java: `auto|require|off`; auto takes what is installed, require fails without Python or Node")
	captured := flag.Bool("transparent", false, "give each program that is not in Go a network namespace in which its connections are captured, and tell it nothing of a mesh; needs root")
	targets := flag.String("targets", "", "`file` that lists the processes for Prometheus while they run: deploy/prometheus/targets/bookinfo.yaml")
	var tour scenarioFlags
	tour.register(flag.CommandLine)
	var checks checkFlags
	checks.register(flag.CommandLine)
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bookinfo: unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	if err := errors.Join(checks.misused(flag.CommandLine), tour.misused(flag.CommandLine)); err != nil {
		fmt.Fprintln(os.Stderr, "bookinfo:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch {
	case tour.list:
		err = listGuides(os.Stdout)
	case checks.wanted:
		err = runCheck(ctx, checks.settings(languages, *captured))
	case tour.guide != nil && *dir != "":
		err = visitRunning(ctx, tour.walk(*dir))
	default:
		err = run(ctx, settings{addr: *addr, dir: *dir, languages: languages, captured: *captured, targets: *targets}, tour)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bookinfo:", err)
		os.Exit(1)
	}
}

const usage = `Usage: bookinfo [-addr ADDRESS] [-config DIR] [-polyglot auto|require|off] [-transparent] [-targets FILE]
       bookinfo -scenario NAME [-interval TIME] [-addr ADDRESS] [-polyglot auto|require|off] [-transparent]
       bookinfo -scenario NAME [-interval TIME] -config DIR
       bookinfo -check [-run REGEXP] [-v] [-polyglot auto|require|off] [-transparent]

Runs BookInfo on the mesh until it is interrupted, with the rules of a scenario where one is named; applies a
scenario to the bookinfo that runs on DIR; or checks that all of it works.

`

// run starts everything, says where it is and waits for the end. To be interrupted is no error, at no time.
func run(ctx context.Context, s settings, tour scenarioFlags) error {
	if tour.guide != nil {
		s.rules = tour.guide.steps[0].text
	}
	b, err := start(ctx, s)
	if ctx.Err() != nil {
		fmt.Fprintln(os.Stdout, "\nstopping")
		if err == nil {
			b.stop()
		}
		return nil
	}
	if err != nil {
		return err
	}
	forget, err := b.tellTargets(s.targets)
	if err != nil {
		b.stop()
		return err
	}
	defer forget()
	b.describe(os.Stdout)
	walked := make(chan error, 1)
	walking, end := context.WithCancel(ctx)
	defer end()
	if tour.guide != nil {
		go func() { walked <- tour.walk(b.dir).steps(walking) }()
	}
	select {
	case <-ctx.Done():
	case err = <-walked:
	case err = <-b.died:
	}
	if err == nil {
		fmt.Fprintln(os.Stdout, "\nstopping")
	}
	b.stop()
	return err
}
