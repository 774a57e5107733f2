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
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/proxy"
)

// A memoryListener is a listener whose connections need no kernel, so that they stand in a bubble's time.
type memoryListener struct {
	addr  memoryAddr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

type memoryAddr string

func (memoryAddr) Network() string  { return "memory" }
func (a memoryAddr) String() string { return string(a) }

func newMemoryListener(address string) *memoryListener {
	return &memoryListener{addr: memoryAddr(address), conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *memoryListener) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return l.addr }

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
				up := newMemoryListener("10.0.0.1:80")
				upstream := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") })}
				served := make(chan struct{})
				go func() {
					defer close(served)
					_ = upstream.Serve(up)
				}()
				m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(service("reviews", "HTTP", "10.0.0.1:80"))),
					mesh.WithDialer(up.dial), mesh.WithLogger(slog.New(slog.DiscardHandler)))
				if err != nil {
					t.Fatal(err)
				}
				l, in := newMemoryListener("127.0.0.1:15001"), newMemoryListener("127.0.0.1:9080")
				s, err := proxy.Start(proxy.Config{Mesh: m, Outbound: "127.0.0.1:15001",
					Inbound: []proxy.Inbound{{Listen: "127.0.0.1:9080", App: "127.0.0.1:19080"}},
					Listen: func(_, address string) (net.Listener, error) {
						if address == string(in.addr) {
							return in, nil
						}
						return l, nil
					}})
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				ended := make(chan time.Duration, clients)
				for i := range clients {
					c, err := []*memoryListener{l, in}[i%2].dial(t.Context(), "", "")
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
					c, err := l.dial(t.Context(), "", "")
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
				if err := s.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				_ = m.Close()
				_ = upstream.Close()
				<-served
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
		up := newMemoryListener("10.0.0.1:80")
		upstream := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for range words {
				_, _ = io.WriteString(w, "word ")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Second)
			}
		})}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = upstream.Serve(up)
		}()
		m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(service("reviews", "HTTP", "10.0.0.1:80"))),
			mesh.WithDialer(up.dial), mesh.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		l := newMemoryListener("127.0.0.1:15001")
		s, err := proxy.Start(proxy.Config{Mesh: m, Outbound: "127.0.0.1:15001",
			Listen: func(string, string) (net.Listener, error) { return l, nil }})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range streams {
			wg.Go(func() {
				c, err := l.dial(t.Context(), "", "")
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
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		_ = m.Close()
		_ = upstream.Close()
		<-served
	})
}
