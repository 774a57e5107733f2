package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
)

// TestBrokenBodyDuringTheAnswer: a client whose body turns out to be none while the answer is on its way ends its own
// connection, and no endpoint is blamed for that: else clients could have endpoints ejected.
func TestBrokenBodyDuringTheAnswer(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"HTTP", "HTTP2"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			var up string
			if protocol == "HTTP2" {
				up = upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.WriteString(w, "hello")
					_ = http.NewResponseController(w).Flush()
					_, _ = io.Copy(io.Discard, r.Body)
				}))
			} else {
				up = raw(t, func(c net.Conn, br *bufio.Reader) {
					if _, err := http.ReadRequest(br); err != nil {
						return
					}
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
					_, _ = io.Copy(io.Discard, br)
				})
			}
			r := start(t, service("reviews", protocol, up), nil)
			for range 5 {
				c, br := dial(t, r.sidecar.OutboundAddr().String())
				send(t, c, "POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
					t.Fatal(err)
				}
				send(t, c, "zz\r\n")
				if rest, err := io.ReadAll(resp.Body); err == nil {
					t.Errorf("the answer has an end, after %q", rest)
				}
			}
			unblamed(t, r)
		})
	}
}
