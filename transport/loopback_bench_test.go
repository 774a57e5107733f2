package transport

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/snapshot"
)

// BenchmarkLoopback puts the mesh beside bare http.Transport over real sockets, in one run: the ratio is
// what counts. The server shares the process.
func BenchmarkLoopback(b *testing.B) {
	payload := strings.Repeat("x", 1024)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, payload) }))
	defer s.Close()
	addr := s.Listener.Addr().String()
	r := newRig(b, snapshot.HTTP1, nil, addr)
	bare := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	defer bare.CloseIdleConnections()
	for _, c := range []struct {
		name, url string
		rt        http.RoundTripper
	}{{"bare", "http://" + addr + "/", bare}, {"mesh", "http://svc/", r.rt}} {
		req, err := http.NewRequest("GET", c.url, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				resp, err := c.rt.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}
