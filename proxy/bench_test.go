//go:build unix

package proxy_test

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/proxy"
)

// BenchmarkForward compares the sidecar, both directions, with a tuned httputil.ReverseProxy in one run, the
// same time-outs on both servers. The
// client and the upstream are raw sockets with ready-made bytes, so that most of the CPU is the proxy's; it
// is the figure to compare, and the allocations, since times are the machine's.
//
//	go test -run='^$' -bench=Forward ./proxy
func BenchmarkForward(b *testing.B) {
	for _, size := range []int{100, 10 << 10} {
		body := strings.Repeat("x", size)
		response := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: " +
			itoaBench(size) + "\r\n\r\n" + body
		up := raw(b, func(c net.Conn, br *bufio.Reader) {
			for {
				line, err := br.ReadSlice('\n')
				if err != nil {
					return
				}
				if len(line) == 2 {
					if _, err := io.WriteString(c, response); err != nil {
						return
					}
				}
			}
		})
		name := map[int]string{100: "100B", 10 << 10: "10KiB"}[size]
		b.Run("ReverseProxy/"+name, func(b *testing.B) {
			target := &url.URL{Scheme: "http", Host: up}
			tr := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
			defer tr.CloseIdleConnections()
			rp := &httputil.ReverseProxy{Transport: tr, BufferPool: new(pool),
				Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host }}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			srv := &http.Server{Handler: rp, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Hour, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
			go func() { _ = srv.Serve(l) }()
			defer srv.Close()
			drive(b, l.Addr().String(), size)
		})
		b.Run("outbound/"+name, func(b *testing.B) {
			r := start(b, service("reviews", "HTTP", up), nil)
			drive(b, r.sidecar.OutboundAddr().String(), size)
		})
		b.Run("inbound/"+name, func(b *testing.B) {
			r := start(b, "", func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: up}} })
			drive(b, r.sidecar.InboundAddrs()[0].String(), size)
		})
	}
}

type pool struct{ sync.Pool }

func (p *pool) Get() []byte {
	if b, ok := p.Pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

func (p *pool) Put(b []byte) { p.Pool.Put(&b) }

func itoaBench(n int) string {
	if n < 10 {
		return itoa(n)
	}
	return itoaBench(n/10) + itoa(n%10)
}

// drive keeps eight connections busy.
func drive(b *testing.B, address string, size int) {
	const request = "GET /reviews/1 HTTP/1.1\r\nHost: reviews\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nX-Request-Id: 11111111-2222-4333-8444-555555555555\r\n" +
		"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
	end := bytes.Repeat([]byte("x"), size)
	work := make(chan struct{}, 64)
	var clients sync.WaitGroup
	for range 8 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		clients.Go(func() {
			defer c.Close()
			br := bufio.NewReaderSize(c, 64<<10)
			for range work {
				if _, err := io.WriteString(c, request); err != nil {
					b.Error(err)
					return
				}
				for {
					line, err := br.ReadSlice('\n')
					if err != nil {
						b.Error(err)
						return
					}
					if len(line) == 2 {
						break
					}
				}
				if got, err := br.Peek(size); err != nil || !bytes.Equal(got, end) {
					b.Error("another body", err)
					return
				}
				_, _ = br.Discard(size)
			}
		})
	}
	for range 64 { // connections, pools
		work <- struct{}{}
	}
	b.ReportAllocs()
	before := cpu()
	b.ResetTimer()
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	clients.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpu()-before)/float64(b.N)/1000, "cpu-µs/op")
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
