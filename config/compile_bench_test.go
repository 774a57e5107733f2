package config

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

// thousand is a file of n services with a VirtualService each.
func thousand(n int) []byte {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: svc%04[1]d
spec:
  hosts:
  - svc%04[1]d.default.svc.cluster.local
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - number: 9080
    name: http
    protocol: HTTP
  endpoints:
  - address: 10.0.0.1
    labels: {version: v1}
  - address: 10.0.0.2
    labels: {version: v2}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: svc%04[1]d
spec:
  hosts:
  - svc%04[1]d
  http:
  - match:
    - uri:
        prefix: /api/
      headers:
        end-user:
          exact: jason
    route:
    - destination:
        host: svc%04[1]d
  - route:
    - destination:
        host: svc%04[1]d
      weight: 80
    - destination:
        host: svc%04[1]d
      weight: 20
`, i)
	}
	return []byte(b.String())
}

// live takes a text from bytes to a published snapshot.
func live(tb testing.TB, text []byte) *snapshot.Snapshot {
	tb.Helper()
	var registry discovery.Registry
	var got *snapshot.Snapshot
	src := sourceFunc(func(_ context.Context, apply func(Update) []Verdict) error {
		apply(inlineUpdate([][]byte{text}))
		return nil
	})
	j := Join(Options{}, &registry, src)
	if err := j.Run(tb.Context(), func(_ context.Context, s *snapshot.Snapshot) error { got = s; return nil }); err != nil {
		tb.Fatal(err)
	}
	if r := j.Status().Refused; r != nil {
		tb.Fatal(r)
	}
	return got
}

// TestCompileBudget: 1,000 services and 1,000 VirtualServices, from bytes to a live snapshot, in less than
// 100 MB and, with room for a loaded machine and the race detector, a second.
func TestCompileBudget(t *testing.T) {
	text := thousand(1000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := time.Now()
	s := live(t, text)
	took := time.Since(begin)
	runtime.ReadMemStats(&after)
	allocated := float64(after.TotalAlloc-before.TotalAlloc) / 1e6
	t.Logf("%d clusters in %v, %.1f MB allocated", len(s.Clusters), took, allocated)
	if len(s.Clusters) != 1000 {
		t.Errorf("%d clusters", len(s.Clusters))
	}
	if allocated > 100 {
		t.Errorf("%.1f MB allocated", allocated)
	}
	if took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func BenchmarkCompile(b *testing.B) {
	text := thousand(1000)
	b.Run("bytes to live", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			live(b, text)
		}
	})
	resources, _ := Parse("bench", text)
	var docs []*document
	for i := range resources {
		d, _ := resources[i].parsed()
		d.decode()
		docs = append(docs, d)
	}
	b.Run("documents to snapshot", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			compileSet(docs, &Options{Workload: snapshot.Workload{Namespace: "default"}})
		}
	})
}
