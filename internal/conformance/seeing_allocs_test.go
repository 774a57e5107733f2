package conformance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/heddlemesh/mesh"
)

// TestAllocsOfSeeing holds, over real sockets, how many allocations of a request an access log in Istio's text may take, and tracing where
// nothing is sampled. A call is a request of net/http's, whichever transport sends it, whose header has to be copied before the trace is
// told in it: it has net/http's budget. TestTraceAllocs and TestAccessLogAllocs of package proxy hold the sidecar's, and TestAllocs of grpcmesh
// that of RPCs.
func TestAllocsOfSeeing(t *testing.T) { // not parallel: allocations are counted
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	up := readyMade(t)
	var logged atomic.Int64
	logs := []mesh.Option{mesh.WithAccessLogFile("/dev/stdout", false), mesh.WithAccessLogStream("/dev/stdout", counted{&logged})}
	traces := []mesh.Option{mesh.WithTracerProvider(tracenoop.NewTracerProvider()), mesh.WithTraceSampling(0)}
	calling := func(t *testing.T, opts ...mesh.Option) func() { return calling(t, up, opts...) }
	callingNetHTTP := func(t *testing.T, opts ...mesh.Option) func() {
		return calling(t, append(opts, mesh.WithNetHTTPTransport())...)
	}
	for _, c := range []struct {
		name string
		once func(t *testing.T, opts ...mesh.Option) func()
		opts []mesh.Option
		most float64
	}{
		{"log of calls", calling, logs, 1},
		{"log of calls by net/http", callingNetHTTP, logs, 1},
		{"log of Handler", handling, logs, 1},
		{"log of Serve with our codec", serving, logs, 1},
		{"traces of calls", calling, traces, 6},
		{"traces of calls by net/http", callingNetHTTP, traces, 6},
		{"traces of Handler", handling, traces, 6},
		{"traces of Serve with our codec", serving, traces, 2},
	} {
		before := logged.Load()
		t.Run(c.name, func(t *testing.T) {
			off, on := allocationsOf(c.once(t)), allocationsOf(c.once(t, slices.Clone(c.opts)...))
			t.Logf("%.2f allocations more, of %.2f", on-off, on)
			if on-off >= c.most+0.5 {
				t.Errorf("%.2f allocations more, the budget is %v", on-off, c.most)
			}
		})
		if strings.HasPrefix(c.name, "log ") && logged.Load() == before { // its mesh is closed, and all is written
			t.Errorf("%s: no line", c.name)
		}
	}
}

// A counted stream counts what is written to it, in bytes.
type counted struct{ n *atomic.Int64 }

func (c counted) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// allocationsOf gives how many allocations of the process fall to one f, on one processor as testing.AllocsPerRun has it but not rounded
// down, and the fewest of three rounds: what else goes on can only add some.
func allocationsOf(f func()) float64 {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const n = 1000
	least := 0.0
	for range n {
		f()
	}
	for round := range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range n {
			f()
		}
		runtime.ReadMemStats(&after)
		if each := float64(after.Mallocs-before.Mallocs) / n; round == 0 || each < least {
			least = each
		}
	}
	return least
}

const readyAnswer = "HTTP/1.1 200 OK\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 5\r\n\r\nhello"

// readyMade serves every request with the same answer, without an allocation, and gives its address.
func readyMade(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	answer := []byte(readyAnswer)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go func() {
				br := bufio.NewReader(c)
				for {
					line, err := br.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) > 2 {
						continue
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// calling gives what makes one call to the address over a mesh.
func calling(t *testing.T, up string, opts ...mesh.Option) func() {
	t.Helper()
	host, port, err := net.SplitHostPort(up)
	if err != nil {
		t.Fatal(err)
	}
	m := inboundMesh(t, fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: up}\n"+
		"spec: {hosts: [up], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: %s, ports: {http: %s}}]}\n", host, port), opts...)
	rt, buffer := m.RoundTripper(), make([]byte, 64)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://up/things", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "test")
	return func() {
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = resp.Body.Read(buffer)
		}
		_ = resp.Body.Close()
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
}

// handling gives what has Handler answer one request.
func handling(t *testing.T, opts ...mesh.Option) func() {
	t.Helper()
	h := inboundMesh(t, inboundMetered, opts...).Handler(nobody{})
	r, w := chainRequest(t), nobody{make(http.Header)}
	for _, name := range []string{"Traceparent", "X-Request-Id"} { // for both are made then
		delete(r.Header, name)
	}
	return func() { h.ServeHTTP(w, r) }
}

// serving gives what asks a server with our codec once.
func serving(t *testing.T, opts ...mesh.Option) func() {
	t.Helper()
	m := inboundMesh(t, inboundMetered, opts...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: nobody{}}
	t.Cleanup(func() { _ = srv.Close() })
	go func() { _ = m.Serve(srv, l, mesh.WithServerCodec()) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	request, br := []byte("GET /things HTTP/1.1\r\nHost: web\r\nUser-Agent: test\r\n\r\n"), bufio.NewReader(c)
	return func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		for n := 0; n != 2; {
			line, err := br.ReadSlice('\n')
			if n = len(line); err != nil {
				t.Fatal(err)
			}
		}
	}
}
