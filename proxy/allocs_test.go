package proxy_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/heddlemesh/mesh/proxy"
)

// TestAllocs (DESIGN.md §6): in steady state a request costs no allocation, in either direction, over real sockets.
func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	response := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 5\r\n\r\nhello")
	const request = "GET /reviews/1?x=y HTTP/1.1\r\nHost: reviews\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n"
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			line, err := br.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				if _, err := c.Write(response); err != nil {
					return
				}
			}
		}
	})
	r := start(t, service("reviews", "HTTP", up), func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: up}} })
	for name, address := range map[string]string{"outbound": r.sidecar.OutboundAddr().String(), "inbound": r.sidecar.InboundAddrs()[0].String()} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		sent, got := []byte(request), make([]byte, len(response))
		exchange := func() {
			if _, err := c.Write(sent); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, got); err != nil || !bytes.HasSuffix(got, []byte("hello")) {
				t.Fatalf("%q, %v", got, err)
			}
		}
		for range 1000 {
			exchange()
		}
		const n = 10_000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range n {
			exchange()
		}
		runtime.ReadMemStats(&after)
		if each := float64(after.Mallocs-before.Mallocs) / n; each >= 0.1 {
			t.Errorf("%s: %.2f allocations a request", name, each)
		} else {
			t.Logf("%s: %.4f allocations a request", name, each)
		}
	}
}
