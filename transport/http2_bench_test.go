package transport

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/heddlemesh/mesh/snapshot"
)

// BenchmarkHTTP2 sends over loopback, by our pool of HTTP/2 connections and by net/http's.
func BenchmarkHTTP2(b *testing.B) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	b.Cleanup(server.Close)
	for name, leaves := range map[string]*Leaves{"ours": NewLeaves(nil, nil), "net-http": NewNetHTTPLeaves(nil, nil)} {
		r := newRig(b, snapshot.HTTP2, leaves, server.Listener.Addr().String())
		send := func(b *testing.B) {
			req, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://svc/", nil)
			resp, err := r.rt.RoundTrip(req)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		b.Run(name+"/one", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				send(b)
			}
		})
		b.Run(name+"/64", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					send(b)
				}
			})
		})
	}
}
