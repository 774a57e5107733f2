package conformance

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
)

// nobody is a ResponseWriter that keeps nothing.
type nobody struct{ h http.Header }

func (n nobody) Header() http.Header                        { return n.h }
func (nobody) Write(b []byte) (int, error)                  { return len(b), nil }
func (nobody) WriteHeader(int)                              {}
func (nobody) ServeHTTP(http.ResponseWriter, *http.Request) {}

// BenchmarkInbound is what Handler does before and after the program: policies, request id, trace headers, the record of what is
// under way; in parallel too, for what of it is shared.
func BenchmarkInbound(b *testing.B) {
	ten := strings.Builder{}
	for i := range 10 {
		ten.WriteString(policy(fmt.Sprint("p", i), fmt.Sprintf("{action: %s, rules: [{to: [{operation: {paths: ['/svc%d/*'], methods: [GET]}}], "+
			"when: [{key: 'request.headers[x-team]', values: [team%d]}]}]}", []string{"ALLOW", "DENY"}[i%2], i, i)))
	}
	for name, config := range map[string]string{"bare": "-", "no policies": "", "10 policies": ten.String()} {
		b.Run(name, func(b *testing.B) {
			var h http.Handler = nobody{}
			if config != "-" {
				m, err := mesh.New(b.Context(), mesh.WithConfig([]byte(config)), mesh.WithLogger(slog.New(slog.DiscardHandler)))
				if err != nil {
					b.Fatal(err)
				}
				defer m.Close()
				h = m.Handler(h)
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://web/svc4/x", nil)
				if err != nil {
					b.Error(err)
					return
				}
				r.RequestURI, r.RemoteAddr = "/svc4/x", "192.0.2.7:1234"
				r.Header = http.Header{"X-Team": {"team4"}, "X-Request-Id": {"a"}, "User-Agent": {"b"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip"},
					"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}
				w := nobody{make(http.Header)}
				for pb.Next() {
					h.ServeHTTP(w, r)
				}
			})
		})
	}
}
