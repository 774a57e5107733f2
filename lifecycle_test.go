package mesh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
)

// TestRouteRemovedUnderCalls: A-073 — a hundred calls are under way when their route, service and endpoints
// are taken out of the configuration: they finish on what they began with.
func TestRouteRemovedUnderCalls(t *testing.T) {
	t.Parallel()
	const calls = 100
	arrived := make(chan struct{}, calls)
	release := make(chan struct{})
	addr, port := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		io.WriteString(w, strings.Repeat("x", 100_000))
	})
	m := start(t, mesh.WithConfig(entry("a.default.svc.cluster.local", "HTTP", addr, port)))
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range calls {
		wg.Go(func() {
			if body, err := get(t, m.Client(), "http://a:9080/"); err != nil || len(body) != 100_000 {
				failed.Add(1)
				t.Log(err)
			}
		})
	}
	for range calls {
		<-arrived
	}
	if err := m.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(m.Status().Clusters) != 0 {
		t.Error("the cluster is still there")
	}
	close(release)
	wg.Wait()
	if n := failed.Load(); n != 0 {
		t.Errorf("%d of %d calls failed", n, calls)
	}
}

// TestCloseUnderCalls: E-024 — Close, Apply and calls cross in every order: each call is served or fails
// with ReasonClosed, nothing panics and nothing hangs.
func TestCloseUnderCalls(t *testing.T) {
	t.Parallel()
	addr, port := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	config := entry("a.default.svc.cluster.local", "HTTP", addr, port)
	for range 20 {
		m, err := mesh.New(t.Context(), mesh.WithConfig(config), discard)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 20 {
					if _, err := get(t, m.Client(), "http://a:9080/"); err != nil && !errors.Is(err, mesh.ReasonClosed) {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			for range 5 {
				_ = m.Apply(t.Context(), config) // fails once the mesh is closed
			}
		})
		wg.Go(func() { m.Close() })
		wg.Go(func() { m.Status() })
		wg.Wait()
		m.Close()
		if _, err := get(t, m.Client(), "http://a:9080/"); !errors.Is(err, mesh.ReasonClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// TestCycles: E-020 — load and idleness, twenty times, with a changing configuration: goroutines and open
// files come back to where they were.
func TestCycles(t *testing.T) {
	addr, port := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	goroutines, files := 0, 0
	for cycle := range 20 {
		m, err := mesh.New(t.Context(), mesh.WithConfig(entry("a.default.svc.cluster.local", "HTTP", addr, port)), discard)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 10 {
					if _, err := get(t, m.Client(), "http://a:9080/"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		if err := m.Apply(t.Context(), entry("a.default.svc.cluster.local", "HTTP", addr, port),
			entry(fmt.Sprintf("b%d.default.svc.cluster.local", cycle), "HTTP", addr, port)); err != nil {
			t.Error(err)
		}
		wg.Wait()
		m.Close()
		if cycle == 0 { // what the first use of a runtime or a test server leaves is not ours
			settle(t, func() bool { goroutines, files = runtime.NumGoroutine(), openFiles(); return true })
		}
	}
	settle(t, func() bool { return runtime.NumGoroutine() <= goroutines+5 && openFiles() <= files+5 })
}

// settle waits until the condition holds; what is closing may take a moment.
func settle(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d files are left\n%s", runtime.NumGoroutine(), openFiles(), buf[:runtime.Stack(buf, true)])
		}
	}
}

// openFiles counts the process's descriptors, 0 where the system does not list them.
func openFiles() int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}

// A callingHandler calls the mesh for what is logged.
type callingHandler struct {
	slog.Handler
	called func(text string)
}

func (h callingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h callingHandler) Handle(_ context.Context, r slog.Record) error {
	h.called(r.Message)
	return nil
}

// TestLoggerCallsMesh: who hears of a configuration may ask for the next one, and how the mesh fares, out of the log itself.
func TestLoggerCallsMesh(t *testing.T) {
	t.Parallel()
	const strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: all, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}\n"
	var m atomic.Pointer[mesh.Mesh]
	var lives, refusals atomic.Int64
	one, err := mesh.New(t.Context(), mesh.WithLogger(slog.New(callingHandler{slog.DiscardHandler, func(text string) {
		m := m.Load()
		switch {
		case m == nil:
		case strings.HasPrefix(text, "mesh refuses"):
			if refusals.Add(1); len(m.Status().Findings) > 0 {
				t.Error(m.Status().Findings)
			}
		case text == "mesh configuration live" && lives.Add(1) <= 3:
			if err := m.Apply(t.Context(), fmt.Appendf(nil, "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a%d}\n"+
				"spec: {hosts: [a.example], resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP}]}\n", lives.Load())); err != nil {
				t.Error(err)
			}
		}
	}})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = one.Close() })
	m.Store(one)
	if err := one.Apply(t.Context(), []byte(strict)); err != nil {
		t.Fatal(err)
	}
	if lives.Load() < 4 || refusals.Load() != 1 || one.Status().Documents != 1 {
		t.Errorf("%d configurations, %d refusals, %d documents", lives.Load(), refusals.Load(), one.Status().Documents)
	}
}
