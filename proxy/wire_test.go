package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/proxy"
)

// both gives a rig whose outbound listener leads to a service, and whose inbound listener to an application, at one
// address, and the two addresses.
func both(t testing.TB, up string) (*rig, map[string]string) {
	t.Helper()
	r := start(t, service("reviews", "HTTP", up), func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: up}} })
	return r, map[string]string{"outbound": r.sidecar.OutboundAddr().String(), "inbound": r.sidecar.InboundAddrs()[0].String()}
}

// TestPipelining (B-016): requests that come together are answered one after the other, in their order, in bounded memory.
func TestPipelining(t *testing.T) {
	t.Parallel()
	up := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s", r.URL.Path, body)
	}))
	_, addresses := both(t, up)
	const n = 1000
	var requests bytes.Buffer
	for i := range n {
		switch i % 3 {
		case 0:
			_, _ = fmt.Fprintf(&requests, "GET /%d HTTP/1.1\r\nHost: reviews\r\n\r\n", i)
		case 1:
			_, _ = fmt.Fprintf(&requests, "POST /%d HTTP/1.1\r\nHost: reviews\r\nContent-Length: 5\r\n\r\nhello", i)
		case 2:
			_, _ = fmt.Fprintf(&requests, "POST /%d HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", i)
		}
	}
	for side, address := range addresses {
		c, br := dial(t, address)
		go func() { _, _ = c.Write(requests.Bytes()) }()
		for i := range n {
			want := fmt.Sprintf("/%d ", i)
			if i%3 != 0 {
				want += "hello"
			}
			if _, body := read(t, br, http.MethodGet); body != want {
				t.Fatalf("%s: answer %d is %q", side, i, body)
			}
		}
		_ = c.Close()
	}
}

// TestCutAnswers (D-014): wherever an answer breaks off, the client sees that it has, and the next request is not harmed.
func TestCutAnswers(t *testing.T) {
	t.Parallel()
	for name, whole := range map[string]string{
		"length":   "HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 11\r\n\r\nhello world",
		"chunked":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n",
		"trailers": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
		"early":    "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cut := make(chan int, 1)
			up := raw(t, func(c net.Conn, br *bufio.Reader) {
				for {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					n := len(whole)
					if req.URL.Path == "/cut" {
						n = <-cut
					}
					_, _ = io.WriteString(c, whole[:n])
					if n < len(whole) {
						return
					}
				}
			})
			_, addresses := both(t, up)
			for side, address := range addresses {
				for n := range len(whole) {
					c, br := dial(t, address)
					cut <- n
					send(t, c, "POST /cut HTTP/1.1\r\nHost: reviews\r\n\r\n")
					resp, err := http.ReadResponse(br, nil)
					for err == nil && resp.StatusCode < 200 {
						resp, err = http.ReadResponse(br, nil)
					}
					if err == nil && resp.StatusCode == http.StatusOK {
						if body, err := io.ReadAll(resp.Body); err == nil {
							t.Errorf("%s: cut at %d, a whole answer %q", side, n, body)
						}
					} else if err == nil && resp.StatusCode != http.StatusServiceUnavailable {
						t.Errorf("%s: cut at %d, status %d", side, n, resp.StatusCode)
					}
					_ = c.Close()
				}
				if resp, _ := exchange(t, address, "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n"); name != "early" && resp.StatusCode != http.StatusOK {
					t.Errorf("%s: then status %d", side, resp.StatusCode)
				}
			}
		})
	}
}

// TestCutRequests (B-022, D-025): a request that breaks off reaches nobody as a whole one, and no endpoint is blamed for it.
func TestCutRequests(t *testing.T) {
	t.Parallel()
	for name, whole := range map[string]string{
		"length":   "POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 11\r\n\r\nhello world",
		"chunked":  "POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
		"trailers": "POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := raw(t, func(c net.Conn, br *bufio.Reader) {
				for {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					if body, err := io.ReadAll(req.Body); err == nil {
						t.Errorf("a whole request came: %q", body)
					}
				}
			})
			r, addresses := both(t, up)
			for _, address := range addresses {
				for n := range len(whole) {
					c, br := dial(t, address)
					send(t, c, whole[:n])
					_ = c.(*net.TCPConn).CloseWrite()
					if got, _ := io.ReadAll(br); bytes.HasPrefix(got, []byte("HTTP/1.1 2")) {
						t.Errorf("cut at %d: %q", n, got)
					}
					_ = c.Close()
				}
			}
			for _, cl := range r.mesh.Status().Clusters {
				for _, e := range cl.Endpoints {
					if e.Counts.Failed != 0 || e.Counts.Active != 0 {
						t.Errorf("the endpoint is blamed: %+v", e.Counts)
					}
				}
			}
		})
	}
}

// TestManyBytes: 64 MiB either way, 1 GiB with HEDDLE_LARGE set, arrive as they were sent, whatever frames them.
func TestManyBytes(t *testing.T) {
	t.Parallel()
	size := int64(64 << 20)
	if os.Getenv("HEDDLE_LARGE") != "" {
		size = 1 << 30
	} else if testing.Short() || raceEnabled {
		size = 4 << 20
	}
	sum := func(r io.Reader) string {
		h := sha256.New()
		_, _ = io.Copy(h, r)
		return fmt.Sprintf("%x", h.Sum(nil))
	}
	want := sum(io.LimitReader(pattern{}, size))
	up := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sum(r.Body)
		w.Header().Set("X-Sum", got)
		if r.ContentLength >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(size))
		}
		_, _ = io.Copy(w, io.LimitReader(pattern{}, size))
	}))
	_, addresses := both(t, up)
	client := clientOf(t, &http.Transport{DisableCompression: true})
	for side, address := range addresses {
		for _, length := range []int64{size, -1} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+address+"/", io.LimitReader(pattern{}, size))
			if err != nil {
				t.Fatal(err)
			}
			req.Host, req.ContentLength = "reviews", length
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if got := sum(resp.Body); got != want || resp.Header.Get("X-Sum") != want {
				t.Errorf("%s, length %d: other bytes", side, length)
			}
			_ = resp.Body.Close()
		}
	}
}

// TestSlowStreams: a thousand streams at once cost no buffer while nothing comes, and leave nothing behind.
func TestSlowStreams(t *testing.T) {
	streams := 1000
	if testing.Short() || raceEnabled {
		streams = 200
	}
	next := make(chan struct{})
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n")
		<-next
		_, _ = io.WriteString(c, "2\r\nb\n\r\n0\r\n\r\n")
		_, _ = io.Copy(io.Discard, br)
	})
	r, addresses := both(t, up)
	before := resources()
	var clients []*bufio.Reader
	var conns []net.Conn
	for i := range streams {
		c, br := dial(t, addresses[[]string{"inbound", "outbound"}[i%2]])
		send(t, c, "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
		clients, conns = append(clients, br), append(conns, c)
	}
	bodies := make([]*http.Response, streams)
	for i, br := range clients {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		bodies[i] = resp
		line := make([]byte, 2)
		if _, err := io.ReadFull(resp.Body, line); err != nil || string(line) != "a\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	close(next)
	for _, resp := range bodies {
		if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "b\n" {
			t.Fatalf("%q, %v", rest, err)
		}
	}
	for _, c := range conns {
		_ = c.Close()
	}
	if err := r.sidecar.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(patience); ; {
		after := resources()
		// What is left is the upstream's half: it ends with the test.
		if after.goroutines <= before.goroutines && after.files <= before.files {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("left behind: %+v, before %+v", after, before)
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
}

type held struct{ goroutines, files int }

func resources() held {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return held{runtime.NumGoroutine(), 0}
	}
	return held{runtime.NumGoroutine(), len(files)}
}

// TestKeptConnectionsEnd: an endpoint may end a kept connection at any time; requests that can be sent again do not
// suffer from it, and it is not blamed.
func TestKeptConnectionsEnd(t *testing.T) {
	t.Parallel()
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
		_, _ = br.Peek(1) // it takes another request, and ends without a word
	})
	r, addresses := both(t, up)
	for side, address := range addresses {
		c, br := dial(t, address)
		for i := range 20 {
			send(t, c, "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
			if resp, body := read(t, br, http.MethodGet); resp.StatusCode != http.StatusOK || body != "hi" {
				t.Fatalf("%s, request %d: status %d, %q", side, i, resp.StatusCode, body)
			}
		}
	}
	for _, cl := range r.mesh.Status().Clusters {
		for _, e := range cl.Endpoints {
			if e.Counts.Failed != 0 {
				t.Errorf("the endpoint is blamed: %+v", e.Counts)
			}
		}
	}
}

// TestRetriedBodies: a body that was sent in part is sent again from its beginning, as long as it was kept.
func TestRetriedBodies(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	tries := map[string]int{}
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		mu.Lock()
		tries[req.URL.Path]++
		first := tries[req.URL.Path] == 1
		mu.Unlock()
		if first {
			_, _ = io.ReadFull(req.Body, make([]byte, 5))
			return // in the middle of it
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	r := start(t, service("reviews", "HTTP", up)+`apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - retries: {attempts: 3, retryOn: "reset,5xx"}
    route: [{destination: {host: reviews}}]
`, nil)
	for name, c := range map[string]struct {
		size   int
		status int
	}{"/short": {20, 200}, "/kept": {60 << 10, 200}} {
		for _, chunked := range []bool{false, true} {
			path := fmt.Sprint(name, chunked)
			conn, br := dial(t, r.sidecar.OutboundAddr().String())
			body := strings.Repeat("0123456789", c.size/10)
			if chunked {
				send(t, conn, "PUT "+path+" HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"+body[:5]+"\r\n")
				send(t, conn, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body)-5, body[5:]))
			} else {
				send(t, conn, fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: reviews\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body[:5]))
				send(t, conn, body[5:])
			}
			if resp, got := read(t, br, http.MethodPut); resp.StatusCode != c.status || got != body {
				t.Errorf("%s: status %d, %d bytes back", path, resp.StatusCode, len(got))
			}
		}
	}
}
