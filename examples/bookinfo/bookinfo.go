package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"
)

type settings struct {
	addr      string // of productpage
	dir       string // of the configuration, "" for a temporary one
	languages choice
	captured  bool      // -transparent
	targets   string    // file of Prometheus's targets, "" for none
	rules     string    // in place of the bundled ones for reviews, "" for these
	stderr    io.Writer // default os.Stderr
}

// bookinfo is the running demo.
type bookinfo struct {
	dir       string
	ownDir    bool   // made by us, and removed at the end
	rules     string // in place of the bundled ones for reviews
	place     place
	network   *network // of -transparent, nil without
	shown     string   // where productpage is reached as well
	issuer    *issuer
	instances []*instance // productpage first
	notes     []string    // why some programs are in Go
	died      chan error  // an instance that ended by itself

	mu      sync.Mutex // guards what follows, and services.yaml
	stderr  io.Writer
	started bool
	said    []string // by productpage, before all have started
}

// start runs every service and returns when all of them answer.
func start(ctx context.Context, s settings) (*bookinfo, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &bookinfo{dir: s.dir, rules: s.rules, stderr: s.stderr}
	if b.stderr == nil {
		b.stderr = os.Stderr
	}
	if b.instances, b.notes, err = cast(ctx, s.languages); err != nil {
		return nil, err
	}
	b.died = make(chan error, len(b.instances))
	if err := b.prepareDir(); err != nil {
		return nil, err
	}
	b.place = place{self: self, config: b.dir}
	if s.captured {
		err = b.connect()
	}
	if err == nil {
		err = b.writeScripts()
	}
	if err == nil {
		b.issuer, err = openIssuer(b.instances, b.lost)
	}
	if err == nil {
		err = b.bringUp(ctx, s.addr)
	}
	if err != nil {
		b.stop()
		return nil, err
	}
	return b, nil
}

// lost hears that the CA fails at something. What is there goes on for a while, and nothing is known to be wrong with it.
func (b *bookinfo) lost(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintln(b.stderr, "bookinfo: development CA:", err)
}

// bringUp starts the instances and lets them begin. productpage is started last, because it is the voice of
// them all: the configuration that it reads first should be whole.
func (b *bookinfo) bringUp(ctx context.Context, addr string) error {
	front, others := b.instances[0], b.instances[1:]
	if at := front.listens(addr); !strings.HasSuffix(at, ":0") {
		front.addr = reachable(at)
	}
	err := each(ctx, others, func(ctx context.Context, i *instance) error { return b.launch(ctx, i, i.listens(anyPort)) })
	if err == nil {
		err = b.writeServices()
	}
	if err == nil {
		err = b.launch(ctx, front, front.listens(addr))
	}
	if err == nil { // the address of productpage itself may have been chosen just now
		err = b.writeServices()
	}
	if err == nil {
		err = each(ctx, b.instances, b.settle)
	}
	if err == nil {
		err = b.openFront(addr)
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.started = true
	for _, line := range b.said {
		b.say(front, line)
	}
	b.said = nil
	return nil
}

// each does something for all instances at once and gives the first error, which ends the others' trying.
func each(ctx context.Context, all []*instance, do func(context.Context, *instance) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(all))
	for _, i := range all {
		go func() { errs <- do(ctx, i) }()
	}
	var first error
	for range all {
		if err := <-errs; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// hear takes a line that an instance has written. Until all have started nothing is passed on: where they do not,
// it is in the error.
func (b *bookinfo) hear(i *instance, line string, stderr bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i.log.add(line)
	switch {
	case !stderr:
	case b.started:
		b.say(i, line)
	case i == b.instances[0]:
		b.said = append(b.said, line)
	}
}

// say writes what is for our own stderr.
func (b *bookinfo) say(i *instance, line string) {
	switch voice := i == b.instances[0]; {
	case !audible(line, voice):
	case voice:
		fmt.Fprintln(b.stderr, line)
	default:
		fmt.Fprintf(b.stderr, "%s: %s\n", i.name, line)
	}
}

// describe prints what runs where.
func (b *bookinfo) describe(out io.Writer) {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tVERSION\tRUNTIME\tURL\tADMIN\tPROCESS")
	for _, i := range b.instances {
		p := i.process()
		runtime, pid := i.program()+", "+i.how(), fmt.Sprint(p.cmd.Process.Pid)
		if i.interpreter != nil {
			runtime, pid = i.program()+", "+i.how(), fmt.Sprintf("%d, proxy %d", p.program.Load(), p.cmd.Process.Pid)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\thttp://%s%s\t%s\t%s\n", i.service, i.version, runtime, i.address(), i.path(), i.admin(), pid)
	}
	_ = w.Flush()
	if len(b.notes) > 0 {
		fmt.Fprintf(out, "\n%s\n", strings.Join(b.notes, "\n"))
	}
	front := b.instances[0].address()
	if b.shown != "" {
		front = b.shown
	}
	fmt.Fprintf(out, `
Open   http://%[1]s/productpage
Rules  %[2]s
Edit   %[2]s/reviews.yaml while it runs: other weights, or send jason elsewhere.
       A file with a mistake changes nothing; the log says file, line and what would be right.
Admin  %[3]s/config_dump, and %[3]s/certs for its identity
CA     %[4]s: each process has an identity of its own, and they call each other by mutual TLS
Stop   Ctrl-C

`, front, b.dir, b.instances[0].admin(), filepath.Join(b.issuer.dir, "ca.d"))
}

// stop ends every process and takes away what start made.
func (b *bookinfo) stop() {
	for _, i := range b.instances {
		if p := i.process(); p != nil {
			p.end()
		}
	}
	for _, i := range b.instances {
		if p := i.process(); p != nil {
			p.wait()
		}
	}
	b.network.end()
	if b.issuer != nil {
		b.issuer.stop()
	}
	if b.place.scripts != "" {
		_ = os.RemoveAll(b.place.scripts)
	}
	if b.ownDir {
		_ = os.RemoveAll(b.dir)
	} else {
		_ = os.Remove(filepath.Join(b.dir, servicesFile))
	}
}
