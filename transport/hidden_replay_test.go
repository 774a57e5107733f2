package transport

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/snapshot"
)

// flaky is an upstream that answers the first request of each connection and, having read the second,
// hangs up: what a kept connection looks like when the server closes it at the wrong moment. It records
// every request it read.
type flaky struct {
	addr string
	mu   sync.Mutex
	seen map[string]int
}

func newFlaky(t *testing.T) *flaky {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{addr: l.Addr().String(), seen: make(map[string]int)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { f.connection(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return f
}

func (f *flaky) connection(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	for i := range 2 {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		f.mu.Lock()
		f.seen[req.URL.Path]++
		f.mu.Unlock()
		if i == 0 || req.URL.Path == "/warm" {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Key: %s\r\n\r\nok", req.Header.Get("Idempotency-Key"))
		}
	}
}

func (f *flaky) copies(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[path]
}

// TestHiddenReplayIsOff: net/http sends a POST with an Idempotency-Key twice when a kept connection dies;
// through the mesh it arrives once. What is idempotent by its method is repeated by the engine instead, so
// that nothing fails that bare net/http would have served. The bare column is the yardstick: where it shows
// one copy too, the row would prove nothing.
func TestHiddenReplayIsOff(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, method string
		body         func() io.Reader
		key          bool
		bare, mesh   int  // copies the upstream records
		served       bool // through the mesh
	}{
		{"POST with key, no body", "POST", nil, true, 2, 1, false},
		{"POST with key, rewindable body", "POST", func() io.Reader { return strings.NewReader("x") }, true, 2, 1, false},
		{"POST with key, streaming body", "POST", func() io.Reader { return io.NopCloser(strings.NewReader("x")) }, true, 1, 1, false},
		{"POST without key", "POST", func() io.Reader { return strings.NewReader("x") }, false, 1, 1, false},
		{"PUT with key, no body", "PUT", nil, true, 2, 2, true},
		{"DELETE with key, no body", "DELETE", nil, true, 2, 2, true},
		{"GET", "GET", nil, false, 2, 2, true},
		{"GET with key", "GET", nil, true, 2, 2, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			send := func(client *http.Client, base string) error {
				warm, err := client.Get(base + "/warm")
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, warm.Body)
				warm.Body.Close()
				var b io.Reader
				if c.body != nil {
					b = c.body()
				}
				req, _ := http.NewRequest(c.method, base+"/it", b)
				if c.key {
					req.Header.Set("Idempotency-Key", "k1")
				}
				resp, err := client.Do(req)
				if err != nil {
					return err
				}
				if got := resp.Header.Get("X-Key"); c.key && got != "k1" {
					t.Errorf("the upstream saw key %q", got)
				}
				if c.key && req.Header.Get("Idempotency-Key") == "" {
					t.Error("the caller's header was changed")
				}
				resp.Body.Close()
				return nil
			}
			bare := newFlaky(t)
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			_ = send(&http.Client{Transport: tr}, "http://"+bare.addr)
			if got := bare.copies("/it"); got != c.bare {
				t.Errorf("bare net/http sent %d copies, expected %d", got, c.bare)
			}
			meshed := newFlaky(t)
			r := newRig(t, snapshot.HTTP1, nil, meshed.addr)
			err := send(r.client, "http://svc")
			if got := meshed.copies("/it"); got != c.mesh {
				t.Errorf("the mesh sent %d copies, want %d", got, c.mesh)
			}
			if c.served != (err == nil) {
				t.Errorf("served %v: %v", err == nil, err)
			}
			if err != nil && call.ReasonOf(err) != call.ReasonReset {
				t.Errorf("reason %v", call.ReasonOf(err))
			}
		})
	}
}
