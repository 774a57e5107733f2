package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/proxy"
)

// stalledBytes is what a stream of which nothing moves may hold in buffers (B-051).
const stalledBytes = 64 << 10

// TestStalledStreams (B-051): a stream whose receiver has stopped holds bounded memory, whichever way it goes and whatever
// frames it, and gives all of it back. What is counted are the codec's buffers, of all connections of a sidecar.
func TestStalledStreams(t *testing.T) {
	const streams = 10
	var moved atomic.Int64
	pour := func(c net.Conn, piece string) {
		for {
			n, err := io.WriteString(c, piece)
			moved.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	letters := strings.Repeat("a", 64<<10)
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(letters), letters)
	var hold atomic.Pointer[chan struct{}]
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		switch {
		case strings.HasPrefix(line, "POST"): // it reads nothing more
			<-*hold.Load()
		case strings.Contains(line, "/sized"):
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
			pour(c, letters)
		default:
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			pour(c, chunk)
		}
	})
	r, addresses := both(t, up)
	pair := startPair(t, up)
	addresses["secured"] = pair.outbound
	for side, address := range addresses {
		for name, c := range map[string]struct{ request, piece string }{
			"answer in chunks":    {"GET /chunked HTTP/1.1\r\n" + hostLine + "\r\n", ""},
			"answer of a length":  {"GET /sized HTTP/1.1\r\n" + hostLine + "\r\n", ""},
			"request in chunks":   {posted("Transfer-Encoding: chunked\r\n", ""), chunk},
			"request of a length": {posted("Content-Length: 1000000000\r\n", ""), letters},
		} {
			over := make(chan struct{})
			hold.Store(&over)
			sidecars := []*proxy.Sidecar{r.sidecar}
			if side == "secured" {
				sidecars = []*proxy.Sidecar{pair.callers.sidecar, pair.callee.sidecar} // which hold a stream both
			}
			var conns []net.Conn
			for range streams {
				nc, _ := dial(t, address)
				send(t, nc, c.request)
				if c.piece != "" {
					go pour(nc, c.piece)
				}
				conns = append(conns, nc)
			}
			most, last := int64(0), int64(-1)
			for still := 0; still < 10; time.Sleep(5 * time.Millisecond) { // until nothing moves any more; and meanwhile there is a bound too
				var held int64
				for _, s := range sidecars {
					held += s.BufferBytes()
				}
				most = max(most, held)
				if n := moved.Load(); n != last || n == 0 {
					last, still = n, 0
				} else {
					still++
				}
			}
			each := most / streams / int64(len(sidecars))
			t.Logf("%s, %s: %d bytes of buffers for each stream", side, name, each)
			if each > stalledBytes {
				t.Errorf("%s, %s: %d bytes of buffers for each stream", side, name, each)
			}
			for _, nc := range conns {
				_ = nc.Close()
			}
			close(over)
			noBuffers(t, sidecars...)
		}
	}
}

// noBuffers waits until no buffers are held any more.
func noBuffers(t testing.TB, sidecars ...*proxy.Sidecar) {
	t.Helper()
	for _, s := range sidecars {
		for deadline := time.Now().Add(patience); s.BufferBytes() != 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%d bytes of buffers are left", s.BufferBytes())
				break
			}
		}
	}
}
