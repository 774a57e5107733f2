package proxy_test

import (
	"bufio"
	"context"
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

// TestCutOffDuringUpload: a sidecar that cuts off what is under way leaves nobody behind who still reads a request's body.
func TestCutOffDuringUpload(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{}, 1)
	up := upstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 5))
		begun <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	for range 20 {
		r := start(t, service("reviews", "HTTP2", up), nil)
		c, _ := dial(t, r.sidecar.OutboundAddr().String())
		send(t, c, "POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		<-begun
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = r.sidecar.Shutdown(ctx)
		_ = c.Close()
	}
}

// TestEndpointEndsDuringUpload: an endpoint that ends the connection while the kernel moves a request's body to it is the one
// that has, and what it has answered before that is passed on.
func TestEndpointEndsDuringUpload(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says   string
		resets bool
		status int
	}{
		"ends":            {"", false, http.StatusServiceUnavailable},
		"resets":          {"", true, http.StatusServiceUnavailable},
		"answers, resets": {"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno", true, http.StatusRequestEntityTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := raw(t, func(nc net.Conn, br *bufio.Reader) {
				req, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				_, _ = io.ReadFull(req.Body, make([]byte, 256<<10))
				_, _ = io.WriteString(nc, c.says)
				if c.resets {
					_ = nc.(*net.TCPConn).SetLinger(0)
				}
			})
			r := start(t, service("reviews", "HTTP", up), nil)
			for range 20 {
				nc, br := dial(t, r.sidecar.OutboundAddr().String())
				go func() {
					_, _ = io.WriteString(nc, "POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 100000000\r\n\r\n")
					_, _ = nc.Write(make([]byte, 512<<10)) // and no more
				}()
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				// What an endpoint has answered is lost where its reset comes first.
				if resp.StatusCode != c.status && resp.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("status %d", resp.StatusCode)
				}
				_ = nc.Close()
			}
		})
	}
}
