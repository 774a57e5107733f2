package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// This file is what a test or a check does to the running application: look at its instances, end one, start it
// again. All of it is safe for concurrent use, but for two restarts of one instance.

// An instanceInfo is one instance at the moment of asking.
type instanceInfo struct {
	name    string // "reviews-v2", "reviews-v2-java": what the functions below take
	service string // "reviews"
	version string // "v2"
	runtime string // "Go 1.26.0", "Java 17.0.15": what the program itself runs on
	addr    string // "127.0.0.1:40123": where callers reach it, which is its sidecar where it has one
	app     int    // process id of the program, 0 where it does not run
	sidecar int    // process id of its sidecar, 0 for a Go program, which has the mesh inside
}

// list gives every instance, in the order of the table that describe prints.
func (b *bookinfo) list() []instanceInfo {
	var all []instanceInfo
	for _, i := range b.instances {
		info := instanceInfo{name: i.name, service: i.service, version: i.version, runtime: i.program(), addr: i.address()}
		switch p := i.process(); {
		case !p.running():
		case i.interpreter == nil:
			info.app = p.cmd.Process.Pid
		default:
			info.app, info.sidecar = int(p.program.Load()), p.cmd.Process.Pid
		}
		all = append(all, info)
	}
	return all
}

// kill ends the program of an instance with SIGKILL and does not wait. Its sidecar, where it has one, notices,
// gives up its listeners and ends with it. What is killed here is not taken for a failure of the application.
func (b *bookinfo) kill(name string) error {
	i, p, err := b.running(name)
	if err != nil {
		return err
	}
	p.expected.Store(true)
	if i.interpreter == nil {
		return p.cmd.Process.Kill()
	}
	if p.program.Load() == 0 {
		return errors.New(name + " has no program yet")
	}
	p.killProgram()
	return nil
}

// killInstance ends an instance with SIGKILL, sidecar and program at once: as if its machine had gone.
func (b *bookinfo) killInstance(name string) error {
	_, p, err := b.running(name)
	if err != nil {
		return err
	}
	p.expected.Store(true)
	p.killProgram()
	return p.cmd.Process.Kill()
}

// signal sends a signal to the process that callers reach: the sidecar, or the Go program itself. After one
// that ends it (SIGTERM: it drains first) its end is expected.
func (b *bookinfo) signal(name string, sig os.Signal) error {
	_, p, err := b.running(name)
	if err != nil {
		return err
	}
	switch sig {
	case syscall.SIGTERM, syscall.SIGQUIT, os.Interrupt, os.Kill:
		p.expected.Store(true)
	}
	return p.cmd.Process.Signal(sig)
}

// awaitEnd returns when every process of the instance has ended.
func (b *bookinfo) awaitEnd(ctx context.Context, name string) error {
	i, err := b.find(name)
	if err != nil {
		return err
	}
	select {
	case <-i.process().exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of %s: %w", name, ctx.Err())
	}
}

// restart waits until what is left of an instance has ended (ask for that first, by kill or signal), starts it
// again on the address that it had, or on another with services.yaml rewritten where that is taken, and returns
// when it answers.
func (b *bookinfo) restart(ctx context.Context, name string) error {
	i, err := b.find(name)
	if err != nil {
		return err
	}
	if !i.process().expected.Load() {
		return errors.New("restart " + name + ": it was not ended before")
	}
	if err := b.awaitEnd(ctx, name); err != nil {
		return err
	}
	if err := b.launch(ctx, i, i.address()); err == nil {
		return b.settle(ctx, i)
	}
	i.process().end()
	i.process().wait()
	if err := b.launch(ctx, i, i.listens(anyPort)); err != nil {
		return err
	}
	if err := b.writeServices(); err != nil {
		return err
	}
	return each(ctx, b.instances, func(ctx context.Context, other *instance) error {
		switch p := other.process(); {
		case other == i:
			return b.settle(ctx, i)
		case !p.running():
			return nil
		default:
			return p.poll(ctx, other.admin()+"/config_dump", b.knowsAll)
		}
	})
}

// adminURL gives the base of an instance's admin pages, "" where there is no such instance: those of `heddle
// proxy` for an instance with a sidecar (/config_dump, /clusters, /failures, /ready …); a Go program has
// those that read only, of the same shape.
func (b *bookinfo) adminURL(name string) string {
	i, err := b.find(name)
	if err != nil {
		return ""
	}
	return i.admin()
}

// log gives the last lines, at most 2000, that an instance's program and sidecar have written, nil where there
// is no such instance. The programs write a line for every request but /health:
//
//	GET /ratings/0 200 x-request-id=… traceparent=…
func (b *bookinfo) log(name string) []string {
	i, err := b.find(name)
	if err != nil {
		return nil
	}
	return i.log.all()
}

func (b *bookinfo) find(name string) (*instance, error) {
	for _, i := range b.instances {
		if i.name == name {
			return i, nil
		}
	}
	return nil, fmt.Errorf("there is no instance %q", name)
}

// running gives an instance's process, which has not ended.
func (b *bookinfo) running(name string) (*instance, *process, error) {
	i, err := b.find(name)
	if err != nil {
		return nil, nil, err
	}
	p := i.process()
	if !p.running() {
		return nil, nil, errors.New(name + " does not run")
	}
	return i, p, nil
}
