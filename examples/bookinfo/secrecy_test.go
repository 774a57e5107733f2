package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// words are what requests and answers between the services have, and TLS has not.
var words = []string{"GET /", "HTTP/1.1", "x-request-id", "X-Request-Id", "Reviewer1", "Comedy", "session=jason", "end-user"}

// A tape is what went one way over one connection.
type tape struct {
	what string // "to ratings-v1"
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *tape) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

// plain says what shows that the tape is not TLS, "" for nothing. It begins with a handshake (RFC 8446 §5.1).
func (r *tape) plain() string {
	r.mu.Lock()
	first := append([]byte{}, r.text.Bytes()[:min(20, r.text.Len())]...)
	r.mu.Unlock()
	if len(first) > 0 && first[0] != 0x16 {
		return fmt.Sprintf("%s: begins with %q", r.what, first)
	}
	return r.readable()
}

// readable says what of the tape can be read, "" for nothing.
func (r *tape) readable() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := r.text.Bytes()
	for _, w := range words {
		if bytes.Contains(text, []byte(w)) {
			return fmt.Sprintf("%s: has %q", r.what, w)
		}
	}
	return ""
}

func (r *tape) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Len()
}

// A tap stands between an instance and its callers, and records what passes.
type tap struct {
	t       *testing.T
	of      string
	to      string
	l       net.Listener
	running sync.WaitGroup

	mu    sync.Mutex // guards what follows
	tapes []*tape
	conns []net.Conn
}

func newTap(t *testing.T, of, to string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{t: t, of: of, to: to, l: l}
	p.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.relay(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

func (p *tap) relay(caller net.Conn) {
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		_ = caller.Close()
		return
	}
	to, from := &tape{what: "to " + p.of}, &tape{what: "from " + p.of}
	p.mu.Lock()
	p.tapes, p.conns = append(p.tapes, to, from), append(p.conns, caller, server)
	p.mu.Unlock()
	var ways sync.WaitGroup
	copyOne := func(dst, src net.Conn, r *tape) {
		_, _ = io.Copy(io.MultiWriter(r, dst), src)
		_ = dst.(*net.TCPConn).CloseWrite()
	}
	ways.Go(func() { copyOne(server, caller, to) })
	ways.Go(func() { copyOne(caller, server, from) })
	ways.Wait()
	_ = caller.Close()
	_ = server.Close()
}

func (p *tap) recorded() []*tape {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*tape{}, p.tapes...)
}

// strictRules gives a step of the scenario strict.
func strictRules(t *testing.T, step int) string {
	t.Helper()
	g, err := findGuide("strict")
	if err != nil {
		t.Fatal(err)
	}
	return g.steps[step-1].text
}

// openPages opens some as jason, and as a stranger. On a busy machine a page can be without its reviews: there are more.
func openPages(t *testing.T, b *bookinfo) {
	t.Helper()
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	c := &check{app: b}
	const wanted, most = 10, 100
	right := 0
	var v view
	for n := 0; right < wanted && n < most; n++ {
		if v = c.view(t.Context(), browser, []string{"jason", ""}[n%2]); v.err == nil && v.details && v.reviews == "red" {
			right++
		}
	}
	if right < wanted {
		t.Fatalf("%d of %d pages were right; the last one showed %q, %v", right, most, v.reviews, v.err)
	}
}

// know waits until every instance knows the addresses of all.
func (b *bookinfo) know(t *testing.T) {
	t.Helper()
	if err := b.writeServices(); err != nil {
		t.Fatal(err)
	}
	if err := each(t.Context(), b.instances, func(ctx context.Context, i *instance) error {
		return i.process().poll(ctx, i.admin()+"/config_dump", b.knowsAll)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestNoPlaintext: under STRICT nothing that two processes say to each other can be read on the way. That it could be is
// shown by the same relays with mutual TLS switched off.
func TestNoPlaintext(t *testing.T) {
	t.Parallel()
	b, err := start(t.Context(), settings{addr: "127.0.0.1:0", languages: auto, rules: strictRules(t, 2), stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	var taps []*tap
	for _, i := range b.instances {
		if i.service == "productpage" {
			continue
		}
		p := newTap(t, i.name, i.address())
		taps = append(taps, p)
		i.mu.Lock()
		i.addr = p.l.Addr().String()
		i.mu.Unlock()
	}
	b.know(t)
	openPages(t, b)
	bytesSeen, services := 0, map[string]bool{}
	for _, p := range taps {
		for _, r := range p.recorded() {
			if found := r.plain(); found != "" {
				t.Error(found)
			}
			if r.size() > 0 {
				services[strings.Split(p.of, "-")[0]] = true
				bytesSeen += r.size()
			}
		}
	}
	if len(services) != 3 || bytesSeen < 10_000 {
		t.Errorf("%d bytes recorded, of %v", bytesSeen, services)
	}

	off := strings.NewReplacer("mode: STRICT", "mode: DISABLE", "mode: PERMISSIVE", "mode: DISABLE").Replace(strictRules(t, 1))
	if err := replaceFile(filepath.Join(b.dir, reviewsFile), []byte(off)); err != nil {
		t.Fatal(err)
	}
	limit, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	for {
		if _, _, err := fetchPage(limit, browser, "http://"+b.instances[0].address()+"/productpage"); err != nil && limit.Err() != nil {
			t.Fatal("with mutual TLS switched off nothing can be read either: the relays do not record")
		}
		for _, p := range taps {
			for _, r := range p.recorded() {
				if r.plain() != "" {
					return
				}
			}
		}
	}
}
