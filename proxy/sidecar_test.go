package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/proxy"
)

func inboundOf(app string) func(*proxy.Config) {
	return func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: app}} }
}

// TestStartRefuses: errors name the listener and the address, and nothing is left open.
func TestStartRefuses(t *testing.T) {
	t.Parallel()
	m, err := mesh.New(t.Context(), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := loopback.Free(t)
	_, freePort, _ := net.SplitHostPort(free)
	for _, c := range []struct {
		name   string
		config proxy.Config
		want   []string
	}{
		{"outbound for everybody", proxy.Config{Outbound: ":" + freePort}, []string{"outbound :" + freePort, "not a loopback address"}},
		{"outbound for everybody, spelled out", proxy.Config{Outbound: "0.0.0.0:" + freePort}, []string{"outbound 0.0.0.0:", "not a loopback address"}},
		{"admin for everybody", proxy.Config{Admin: "[::]:" + freePort}, []string{"admin [::]:", "not a loopback address"}},
		{"admin on a name that only looks local", proxy.Config{Admin: "localhost.example:0"}, []string{"not a loopback address"}},
		{"in use", proxy.Config{Outbound: free, Admin: taken.Addr().String()}, []string{"admin " + taken.Addr().String(), "address already in use"}},
		{"inbound in use", proxy.Config{Inbound: []proxy.Inbound{{Listen: taken.Addr().String(), App: "127.0.0.1:1"}}},
			[]string{"inbound " + taken.Addr().String(), "address already in use"}},
		{"the same twice", proxy.Config{Inbound: []proxy.Inbound{{Listen: free, App: "127.0.0.1:1"}, {Listen: free, App: "127.0.0.1:2"}}},
			[]string{"inbound " + free, "address already in use"}},
		{"no port", proxy.Config{Outbound: "127.0.0.1"}, []string{"outbound 127.0.0.1"}},
		{"application is ourselves", proxy.Config{Inbound: []proxy.Inbound{{Listen: free, App: free}}}, []string{"inbound " + free, "own inbound listener"}},
		{"application is our outbound", proxy.Config{Outbound: free, Inbound: []proxy.Inbound{{Listen: "127.0.0.1:0", App: "localhost:" + freePort}}},
			[]string{"own outbound listener"}},
	} {
		c.config.Mesh = m
		_, err := proxy.Start(c.config)
		if err == nil {
			t.Errorf("%s: it starts", c.name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", c.name, err, want)
			}
		}
		l, err := net.Listen("tcp", free)
		if err != nil {
			t.Fatalf("%s: a listener is left open: %v", c.name, err)
		}
		_ = l.Close()
	}
	if _, err := proxy.Start(proxy.Config{}); err == nil {
		t.Error("it starts without a mesh")
	}
	s, err := proxy.Start(proxy.Config{Mesh: m, Outbound: "0.0.0.0:0", AllowNonLoopback: true})
	if err != nil {
		t.Fatalf("explicitly allowed: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestDrainUnderLoad: from the moment a shutdown begins, every request either gets its whole answer or is
// refused at the door: none is lost half-way. The application reaches the mesh to its last request.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	ratings := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "5") }))
	var r *rig
	app := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		calls.Add(1)
		resp, err := r.client.Do(r.request(http.MethodGet, "http://ratings/", nil))
		if err != nil {
			t.Errorf("the application's own call: %v", err)
			return
		}
		defer resp.Body.Close()
		stars, _ := io.ReadAll(resp.Body)
		if req.URL.Path == "/slow" {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-req.Context().Done():
			}
		}
		fmt.Fprintf(w, "stars: %s", stars)
	}))
	r = start(t, service("ratings", "HTTP", ratings), inboundOf(app))
	address := r.sidecar.InboundAddrs()[0].String()

	var ok, refused, reset atomic.Int64
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			tr := &http.Transport{DisableKeepAlives: i%2 == 0}
			if i%4 == 3 {
				tr.Protocols = new(http.Protocols)
				tr.Protocols.SetUnencryptedHTTP2(true)
			}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr}
			for n := 0; ; n++ {
				path := "/"
				if (i+n)%4 == 0 {
					path = "/slow"
				}
				resp, err := client.Get("http://" + address + path)
				if errors.Is(err, syscall.ECONNREFUSED) {
					refused.Add(1)
					return
				}
				if errors.Is(err, syscall.ECONNRESET) {
					reset.Add(1)
					return
				}
				if err != nil {
					t.Errorf("request %d of client %d: %v", n, i, err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || string(body) != "stars: 5" {
					t.Errorf("request %d of client %d: status %d, %q, %v", n, i, resp.StatusCode, body, err)
					return
				}
				ok.Add(1)
			}
		})
	}
	for calls.Load() < 200 {
		<-time.After(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.sidecar.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	clients.Wait()
	t.Logf("%d answered, %d refused after the end", ok.Load(), refused.Load())
	if reset.Load() > 1 { // one may have come between the last look at the kernel's queue and its end
		t.Errorf("%d connections were reset", reset.Load())
	}
	if refused.Load() == 0 {
		t.Error("nobody noticed the end")
	}
}

// TestShutdownCutsOff: what does not end in time is cut off, and Shutdown says so.
func TestShutdownCutsOff(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	app := upstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer close(release)
	r := start(t, "", inboundOf(app))
	c, br := dial(t, r.sidecar.InboundAddrs()[0].String())
	send(t, c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.sidecar.Shutdown(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "inbound") {
		t.Errorf("shutdown: %v", err)
	}
	if _, err := br.ReadByte(); err == nil {
		t.Error("the request was answered")
	}
}
