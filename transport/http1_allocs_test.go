package transport

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/snapshot"
)

// TestAllocsHTTP1 holds the budget of a call over our own HTTP/1.1, answer and body included: its caller gets a response, a
// header map, its values and the text of both; the rest is what the mesh keeps account by.
func TestAllocsHTTP1(t *testing.T) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 1024\r\n\r\n" +
		strings.Repeat("x", 1024))
	addr := serveRaw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			line, err := br.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
		}
	})
	r := newRig(t, snapshot.HTTP1, nil, addr)
	buffer := make([]byte, 2048)
	measure := func(req *http.Request) int64 {
		return testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				resp, err := r.rt.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				for {
					if _, err := resp.Body.Read(buffer); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
				_ = resp.Body.Close()
			}
		}).AllocsPerOp()
	}
	plain, _ := http.NewRequest(http.MethodGet, "http://svc/", nil)
	header := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}, "X-Request-Id": {"1"}}
	carried := plain.WithContext(WithCarried(t.Context(), Collect(call.HTTPHeaders(header))))
	if got := measure(plain); got > 7 {
		t.Errorf("a call allocates %d times, the budget is 7", got)
	}
	// Under a context that can end, which the tests' can.
	if got := measure(carried); got > 16 {
		t.Errorf("a call with carried headers and a context that can end allocates %d times, the budget is 16", got)
	}
	carried = plain.WithContext(WithCarried(context.Background(), Collect(call.HTTPHeaders(header))))
	if got := measure(carried); got > 12 {
		t.Errorf("a call with carried headers allocates %d times, the budget is 12", got)
	}
}
