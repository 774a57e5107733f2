package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// startTimeout is how long an instance may take until it answers: a cold Java on a busy machine takes a while.
const startTimeout = 30 * time.Second

// anyPort has the system choose one.
const anyPort = "127.0.0.1:0"

// launch starts the process of an instance and returns when the address is known on which callers reach it.
func (b *bookinfo) launch(ctx context.Context, i *instance, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	p, err := spawn(i, listen, b.place, b.issuer, func(line string, stderr bool) { b.hear(i, line, stderr) }, func(err error) {
		select {
		case b.died <- err:
		default: // one is enough to end the rest
		}
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", i.name, err)
	}
	i.mu.Lock()
	i.p = p
	i.mu.Unlock()
	if err := p.await(ctx, p.listening); err != nil {
		return i.failed("listen on "+listen, err)
	}
	i.mu.Lock()
	i.addr = reachable(p.addr)
	i.mu.Unlock()
	return nil
}

// settle returns when an instance answers and knows where all the others are. A program that ends before it has
// answered is started again: it may be that its port was taken by somebody else.
func (b *bookinfo) settle(ctx context.Context, i *instance) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		p := i.process()
		err := b.answers(ctx, i, p)
		if err == nil {
			p.up.Store(true)
			if p.running() {
				return nil
			}
			err = errEnded
		}
		if !errors.Is(err, errEnded) || i.interpreter == nil || attempt == 3 {
			return i.failed("become ready", err)
		}
		p.end()
		p.wait()
		if err := b.launch(ctx, i, i.address()); err != nil {
			return err
		}
	}
}

// answers waits for the program itself, without its sidecar, and then until its mesh knows all the others. It does not ask
// by the address that callers use: the rules may let in nobody who has no identity.
func (b *bookinfo) answers(ctx context.Context, i *instance, p *process) error {
	anything := func([]byte) error { return nil }
	var err error
	if i.interpreter == nil {
		err = p.begin(ctx)
	} else {
		err = p.poll(ctx, "http://"+p.behind+"/health", anything)
	}
	if err != nil {
		return err
	}
	return p.poll(ctx, i.admin()+"/config_dump", b.knowsAll)
}

// knowsAll reads a configuration as a process has it: every address must be in it.
func (b *bookinfo) knowsAll(dump []byte) error {
	var status struct {
		Clusters []struct{ Endpoints []struct{ Address string } }
	}
	if err := json.Unmarshal(dump, &status); err != nil {
		return err
	}
	known := make(map[string]bool)
	for _, c := range status.Clusters {
		for _, e := range c.Endpoints {
			known[e.Address] = true
		}
	}
	for _, i := range b.instances {
		if a := i.address(); !known[a] {
			return fmt.Errorf("%s at %s is not known yet", i.name, a)
		}
	}
	return nil
}

// poll asks until the answer is 200 and check is content with it, or the process ends.
func (p *process) poll(ctx context.Context, url string, check func([]byte) error) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}} // no proxy
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := get(ctx, client, url, check)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", url, err)
		}
	}
}

func get(ctx context.Context, client *http.Client, url string, check func([]byte) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return err
	}
	return check(body)
}

// failed tells that an instance did not do something, with what it said of it.
func (i *instance) failed(to string, err error) error {
	said := i.log.all()
	said = said[max(0, len(said)-10):]
	return fmt.Errorf("%s (%s) did not %s: %w\n%s", i.name, i.program(), to, err, strings.Join(said, "\n"))
}

// reachable gives the address at which a listener is found from here.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}
