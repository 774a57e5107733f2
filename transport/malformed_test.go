package transport

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/snapshot"
)

// TestMalformedAnswers: an endpoint that does not speak HTTP has broken its protocol (UPE), which is another
// thing than a connection that ends.
func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer string
		want   call.Reason
	}{
		"no version":          {"hello\r\n\r\n", call.ReasonProtocol},
		"status is no number": {"HTTP/1.1 xyz OK\r\n\r\n", call.ReasonProtocol},
		"two lengths":         {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", call.ReasonProtocol},
		"length is no number": {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", call.ReasonProtocol},
		"unknown encoding":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n", call.ReasonProtocol},
		"no colon":            {"HTTP/1.1 200 OK\r\nheader\r\n\r\n", call.ReasonProtocol},
		"nothing":             {"", call.ReasonReset},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
						io.WriteString(conn, c.answer)
					}
					conn.Close()
				}
			}()
			t.Cleanup(func() { l.Close(); <-done })
			r := newRig(t, snapshot.HTTP1, nil, l.Addr().String())
			_, err = r.client.Get("http://svc/")
			if got := call.ReasonOf(err); got != c.want {
				t.Errorf("%v: %v", got, err)
			}
		})
	}
}
