package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/proxy"
)

// TestStillStreams (B-051, B-016): a request of which nothing moves ends after the stream's idle time-out, with Envoy's answer
// where there is still one to give, and one of which a byte moves now and then does not. It is nobody's fault.
func TestStillStreams(t *testing.T) {
	t.Parallel()
	const get, post = "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n", "POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 10\r\n\r\nhello"
	const mirrored = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews}}], mirrors: [{destination: {host: reviews}, percentage: {value: 0}}]}]
`
	silent := func(c net.Conn, br *bufio.Reader) { _, _ = io.Copy(io.Discard, br) }
	after := func(text string) func(net.Conn, *bufio.Reader) {
		return func(c net.Conn, br *bufio.Reader) {
			_, _ = http.ReadRequest(br)
			_, _ = io.WriteString(c, text)
			_, _ = io.Copy(io.Discard, br)
		}
	}
	slow := func(c net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
		for range 5 {
			time.Sleep(4 * time.Minute)
			_, _ = io.WriteString(c, "a")
		}
	}
	for name, c := range map[string]struct {
		rules    string
		endpoint func(net.Conn, *bufio.Reader)
		request  string
		rest     string // a byte every four minutes
		unread   bool   // the client reads nothing for an hour
		after    time.Duration
		status   int // 0: cut off, or no answer
		body     string
	}{
		"the endpoint says nothing":              {"", silent, get, "", false, 5 * time.Minute, 504, "stream timeout\n"},
		"the client says no more":                {"", silent, post, "", false, 5 * time.Minute, 408, "stream timeout\n"},
		"by net/http, the endpoint says nothing": {mirrored, silent, get, "", false, 5 * time.Minute, 504, "stream timeout\n"},
		"by net/http, the client says no more":   {mirrored, silent, post, "", false, 5 * time.Minute, 408, "stream timeout\n"},
		"only hints":                             {"", after("HTTP/1.1 103 Early Hints\r\n\r\n"), get, "", false, 5 * time.Minute, 504, "stream timeout\n"},
		"the answer stops":                       {"", after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"), get, "", false, 5 * time.Minute, 0, ""},
		"by net/http, the answer stops":          {mirrored, after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"), get, "", false, 5 * time.Minute, 0, ""},
		"the client reads nothing":               {"", after("HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + strings.Repeat("a", 1e6)), get, "", true, 5 * time.Minute, 0, ""},
		"the endpoint reads nothing":             {"", func(net.Conn, *bufio.Reader) { time.Sleep(time.Hour) }, post, "", false, 5 * time.Minute, 408, "stream timeout\n"},
		"a byte now and then":                    {"", slow, get, "", false, 20 * time.Minute, 200, "aaaaa"},
		"a byte now and then, both ways":         {"", slow, post, "abcde", false, 40 * time.Minute, 200, "aaaaa"},
		"by net/http, both ways":                 {mirrored, slow, post, "abcde", false, 40 * time.Minute, 200, "aaaaa"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var told []proxy.LocalReply
				r, stop := startMemoryWith(t, c.rules, proxy.Config{OnReply: func(l proxy.LocalReply) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, l)
				}})
				defer r.answer(c.endpoint)()
				defer stop()
				client, err := r.out.dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				began := time.Now()
				go func() {
					_, _ = io.WriteString(client, c.request)
					for i := range c.rest {
						time.Sleep(4 * time.Minute)
						_, _ = io.WriteString(client, c.rest[i:i+1])
					}
				}()
				if c.unread {
					time.Sleep(time.Hour)
				}
				resp, err := finalAnswer(bufio.NewReader(client), http.MethodGet)
				var body []byte
				if err == nil {
					body, err = io.ReadAll(resp.Body)
				}
				if took := time.Since(began); !c.unread && (took < c.after || took > c.after+300*time.Millisecond) {
					t.Errorf("it ended after %v", took)
				}
				if c.status == 0 {
					if err == nil {
						t.Errorf("%d, %q is whole", resp.StatusCode, body)
					}
					return
				}
				if err != nil || resp.StatusCode != c.status || string(body) != c.body {
					t.Fatalf("%v, %q, %v", resp, body, err)
				}
				mu.Lock()
				defer mu.Unlock()
				if ours := c.status == 408 || c.status == 504; ours != (len(told) == 1) || ours && (told[0].Flag != "SI" || told[0].Reason != "stream_idle_timeout") {
					t.Errorf("reported %+v", told)
				}
			})
		})
	}
}

// TestNoStreamIdleTimeout: where there is none a request may be silent for a day.
func TestNoStreamIdleTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, stop := startMemoryWith(t, "", proxy.Config{StreamIdleTimeout: -1})
		defer r.answer(func(c net.Conn, br *bufio.Reader) {
			_, _ = http.ReadRequest(br)
			time.Sleep(24 * time.Hour)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		})()
		defer stop()
		client, err := r.out.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		send(t, client, "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
		if resp, _ := read(t, bufio.NewReader(client), http.MethodGet); resp.StatusCode != http.StatusOK {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
}
