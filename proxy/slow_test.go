package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/memory"
	"github.com/heddlemesh/mesh/proxy"
)

// A memoryListener is a listener in memory whose connections show without a read that their client has gone.
type memoryListener struct{ *memory.Listener }

func newMemoryListener(address string) memoryListener {
	return memoryListener{memory.Listen(memory.Addr(address))}
}

func (l memoryListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	gone := new(atomic.Bool)
	if err := l.Give(ctx, memoryServer{server, gone}); err != nil {
		return nil, err
	}
	return memoryClient{client, gone}, nil
}

// A memoryClient is the end that dialled.
type memoryClient struct {
	net.Conn
	gone *atomic.Bool
}

func (c memoryClient) Close() error {
	c.gone.Store(true)
	return c.Conn.Close()
}

// A memoryServer is the other end. As with a socket it shows without a read that the client has gone.
type memoryServer struct {
	net.Conn
	gone *atomic.Bool
}

func (c memoryServer) SyscallConn() (syscall.RawConn, error) { return memoryRaw{gone: c.gone}, nil }

type memoryRaw struct {
	syscall.RawConn
	gone *atomic.Bool
}

func (r memoryRaw) Control(func(uintptr)) error {
	if r.gone.Load() {
		return net.ErrClosed
	}
	return nil
}

// A memoryRig is a sidecar in a bubble, its outbound side before one endpoint. The listeners' connections are in memory.
type memoryRig struct {
	sidecar           *proxy.Sidecar
	out, in, endpoint memoryListener
}

// startMemory starts one. What it starts ends with stop, which must be called in the bubble.
func startMemory(t *testing.T, rules string) (r *memoryRig, stop func()) {
	t.Helper()
	return startMemoryWith(t, rules, proxy.Config{})
}

func startMemoryWith(t *testing.T, rules string, c proxy.Config) (r *memoryRig, stop func()) {
	t.Helper()
	r = &memoryRig{out: newMemoryListener("127.0.0.1:15001"), in: newMemoryListener("127.0.0.1:9080"), endpoint: newMemoryListener("10.0.0.1:80")}
	m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(service("reviews", "HTTP", "10.0.0.1:80")+rules)),
		mesh.WithDialer(r.endpoint.dial), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	c.Mesh, c.Outbound, c.Inbound = m, "127.0.0.1:15001", []proxy.Inbound{{Listen: "127.0.0.1:9080", App: "127.0.0.1:19080"}}
	c.Listen = func(_, address string) (net.Listener, error) {
		if address == r.in.Addr().String() {
			return r.in, nil
		}
		return r.out, nil
	}
	r.sidecar, err = proxy.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	return r, func() {
		if err := r.sidecar.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		_ = m.Close()
	}
}

// serve runs an endpoint of net/http until stop, which must be called in the bubble.
func (r *memoryRig) serve(h http.HandlerFunc) (stop func()) {
	srv := &http.Server{Handler: h}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(r.endpoint)
	}()
	return func() {
		_ = srv.Close()
		<-served
	}
}

// answer runs an endpoint that does f with every connection, until stop, which must be called in the bubble.
func (r *memoryRig) answer(f func(net.Conn, *bufio.Reader)) (stop func()) {
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := r.endpoint.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				f(c, bufio.NewReader(c))
			})
		}
	})
	return func() {
		_ = r.endpoint.Close()
		running.Wait()
	}
}

// TestSlowHeads (B-050): clients that begin a request and do not end it are gone after ten seconds, wherever they stop, and
// meanwhile others are served. Two ticks of the wheel may come on top.
func TestSlowHeads(t *testing.T) {
	clients := 1000
	if testing.Short() || raceEnabled {
		clients = 100
	}
	for name, first := range map[string]string{
		"nothing":                 "",
		"one byte":                "G",
		"half a head":             "GET / HTTP/1.1\r\nHost: rev",
		"half a preface":          "PRI * HT",
		"a preface":               "PRI * HTTP/2.0\r\n\r\n",
		"a preface and no frames": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, stop := startMemory(t, "")
				defer r.serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") })()
				defer stop()
				began := time.Now()
				ended := make(chan time.Duration, clients)
				for i := range clients {
					c, err := []memoryListener{r.out, r.in}[i%2].dial(t.Context(), "", "")
					if err != nil {
						t.Fatal(err)
					}
					go func() {
						if half := strings.HasPrefix(first, "GET"); first != "" {
							_, err := io.WriteString(c, first)
							for err == nil && half { // a byte every second does not help
								time.Sleep(time.Second)
								_, err = io.WriteString(c, "a")
							}
						}
						_, _ = io.Copy(io.Discard, c)
						ended <- time.Since(began)
					}()
				}
				for range 10 {
					c, err := r.out.dial(t.Context(), "", "")
					if err != nil {
						t.Fatal(err)
					}
					start := time.Now()
					if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n"); err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(c)
					if err != nil && !errors.Is(err, io.EOF) || !strings.HasPrefix(string(got), "HTTP/1.1 200") || time.Since(start) > time.Second {
						t.Errorf("%q, %v, after %v", got, err, time.Since(start))
					}
					time.Sleep(500 * time.Millisecond)
				}
				last := time.Duration(0)
				for range clients {
					last = max(last, <-ended)
				}
				if last > 10*time.Second+2*100*time.Millisecond+time.Second { // the last is for the byte that finds it closed
					t.Errorf("a client was closed after %v", last)
				}
			})
		})
	}
}

// TestManySlowStreams: a thousand streams, ten thousand with HEDDLE_LARGE set, of a word every ten seconds all come to
// their end. They stand in memory, where no limit of descriptors holds; what they left behind would keep the bubble from
// ending.
func TestManySlowStreams(t *testing.T) {
	streams := 1000
	if os.Getenv("HEDDLE_LARGE") != "" {
		streams = 10_000
	} else if testing.Short() || raceEnabled {
		streams = 100
	}
	synctest.Test(t, func(t *testing.T) {
		const words = 12
		r, stop := startMemory(t, "")
		defer r.serve(func(w http.ResponseWriter, _ *http.Request) {
			for range words {
				_, _ = io.WriteString(w, "word ")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Second)
			}
		})()
		defer stop()
		var wg sync.WaitGroup
		for range streams {
			wg.Go(func() {
				c, err := r.out.dial(t.Context(), "", "")
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				_, _ = io.WriteString(c, fielded("Connection: close"))
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Error(err)
					return
				}
				if body, err := io.ReadAll(resp.Body); err != nil || len(body) != words*len("word ") {
					t.Errorf("%d bytes, %v", len(body), err)
				}
			})
		}
		wg.Wait()
	})
}
