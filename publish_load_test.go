package mesh_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
)

// TestPublishUnderLoad swaps compiled snapshots of 1,000 VirtualServices a hundred times a second while calls are
// made: none fails, and every call goes by one of the two. It reports the slowest calls and publications.
func TestPublishUnderLoad(t *testing.T) {
	const services, publications, callers = 1000, 100, 4
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path)
	}))
	defer upstream.Close()
	address, port, _ := strings.Cut(upstream.Listener.Addr().String(), ":")
	// The two configurations differ in where every rule sends its path.
	texts := func(to string) string {
		var b strings.Builder
		for i := range services {
			fmt.Fprintf(&b, `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: s%[1]d}
spec: {hosts: [s%[1]d.default.svc.cluster.local], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: %[2]s, ports: {http: %[3]s}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v%[1]d}
spec: {hosts: [s%[1]d], http: [{match: [{uri: {prefix: /in/}}], rewrite: {uri: /%[4]s/}, route: [{destination: {host: s%[1]d}}]}]}
`, i, address, port, to)
		}
		return b.String()
	}
	m := start(t, mesh.WithConfig([]byte(texts("a"))))
	other := start(t, mesh.WithConfig([]byte(texts("b"))))
	engine := m.Engine()
	a, b := engine.Snapshot(), other.Engine().Snapshot()

	ctx, stop := context.WithCancel(t.Context())
	var failed, wrong atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	client := m.Client()
	for c := range callers {
		wg.Go(func() {
			var own []time.Duration
			for i := c; ctx.Err() == nil; i++ {
				began := time.Now()
				resp, err := client.Get(fmt.Sprintf("http://s%d/in/x", i%services))
				if err != nil {
					failed.Add(1)
					continue
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				own = append(own, time.Since(began))
				if got := string(body); err != nil || got != "/a/x" && got != "/b/x" {
					wrong.Add(1)
				}
			}
			mu.Lock()
			took = append(took, own...)
			mu.Unlock()
		})
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var slowest time.Duration
	for n := range publications {
		<-tick.C
		next := a
		if n%2 == 0 {
			next = b
		}
		began := time.Now()
		if err := engine.Publish(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
	}
	stop()
	wg.Wait()
	if failed.Load() > 0 || wrong.Load() > 0 || len(took) == 0 {
		t.Errorf("of %d calls %d failed and %d had another answer than either configuration gives", len(took), failed.Load(), wrong.Load())
	}
	slices.Sort(took)
	if len(took) > 0 {
		t.Logf("%d calls, p50 %v, p99 %v; slowest of %d publications %v", len(took), took[len(took)/2], took[len(took)*99/100], publications, slowest)
	}
}
