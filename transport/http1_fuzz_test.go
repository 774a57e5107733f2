package transport

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

// FuzzLeaves gives both leaves the same hostile bytes for an answer. What ours takes for an answer, net/http takes for the
// same one: ours refuses more, and never reads anything else.
func FuzzLeaves(f *testing.F) {
	for _, row := range answerRows {
		if len(row.answer) < 4<<10 {
			f.Add(row.answer, row.method == http.MethodHead)
		}
	}
	var answer atomic.Pointer[string] // what the next connection is given; one call at a time
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.WriteString(c, *answer.Load())
				_ = c.(*net.TCPConn).CloseWrite()
				_ = c.SetReadDeadline(time.Now().Add(time.Second))
				_, _ = io.Copy(io.Discard, c)
			}
			_ = c.Close()
		}
	}()
	f.Fuzz(func(t *testing.T, raw string, head bool) {
		var got [2]string
		for i, leaves := range []*Leaves{NewLeaves(nil, nil), NewNetHTTPLeaves(nil, nil)} {
			answer.Store(&raw)
			method := http.MethodGet
			if head {
				method = http.MethodHead
			}
			got[i] = one(t, leaves, l.Addr().String(), method)
		}
		if strings.HasPrefix(got[0], "error") || strings.Contains(got[0], " cut:") {
			return // it has refused it, or the rest of it
		}
		if got[0] != got[1] {
			t.Errorf("%q:\nours     %q\nnet/http %q", raw, got[0], got[1])
		}
	})
}

// one makes one call over leaves of its own.
func one(t *testing.T, leaves *Leaves, addr, method string) string {
	t.Helper()
	e := &discovery.Endpoint{Address: discovery.Address{Network: "tcp", Addr: addr}}
	leaf := leaves.Open(e, snapshot.Policy{Protocol: snapshot.HTTP1, Connections: snapshot.Connections{MaxRequests: 1}}, new(Load))
	defer leaves.Release(leaf)
	req, _ := http.NewRequestWithContext(t.Context(), method, "http://svc/", bytes.NewReader(nil))
	req.Header.Set("Upgrade", "x")
	req.Header.Set("Connection", "upgrade")
	resp, err := leaf.(http.RoundTripper).RoundTrip(req)
	return tell(req, resp, err)
}
