package transport

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh/internal/attacks"
)

// TestServerCodecRefuses: each row of the catalogue is answered once, the connection ends, and nothing behind it is served.
func TestServerCodecRefuses(t *testing.T) {
	t.Parallel()
	in, l := inbound(t), listen(t)
	run(t, in, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, "malformed body", http.StatusBadRequest)
			return
		}
		t.Errorf("%s %s is served", r.Method, r.URL)
	})}, l, modes["codec"]...)
	refused := func(t *testing.T, text string, status []int) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		text += "GET /smuggled HTTP/1.1\r\n" + attacks.HostLine + "\r\n"
		go func() { _, _ = io.WriteString(c, text) }()
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			// What is sent on and on may take the answer away with the connection.
			if len(text) > lingerBytes && cutShort(err) {
				return
			}
			t.Fatal(err)
		}
		_, err = io.ReadAll(resp.Body)
		if !slices.Contains(status, resp.StatusCode) || !resp.Close || err != nil && !cutShort(err) {
			t.Errorf("status %d, close %v, %v, want %v", resp.StatusCode, resp.Close, err, status)
		}
		if rest, _ := io.ReadAll(br); len(rest) > 0 {
			t.Errorf("there is another answer: %.80q", rest)
		}
	}
	for _, a := range attacks.Heads {
		t.Run(a.Row+" "+a.Name, func(t *testing.T) {
			t.Parallel()
			if a.Status == nil {
				a.Status = []int{http.StatusBadRequest}
			}
			refused(t, a.Request, a.Status)
		})
	}
	for _, a := range attacks.Bodies {
		t.Run(a.Row+" "+a.Name, func(t *testing.T) {
			t.Parallel()
			refused(t, attacks.Posted("Transfer-Encoding: chunked\r\n", a.Body), []int{http.StatusBadRequest})
		})
	}
}

func cutShort(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// TestServerCodecUnreadBody (B-005): what a handler leaves of a body is never a request.
func TestServerCodecUnreadBody(t *testing.T) {
	t.Parallel()
	const inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, framing := range []string{"Content-Length: 37\r\n", "Content-Length: 300000\r\n", "Transfer-Encoding: chunked\r\n"} {
		in, l := inbound(t), listen(t)
		run(t, in, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/smuggled" {
				t.Errorf("%q: the body is served", framing)
			}
			w.WriteHeader(http.StatusForbidden)
		})}, l, modes["codec"]...)
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, post(framing, inner+strings.Repeat("x", 10)))
		c.(*net.TCPConn).CloseWrite()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("%q: %v, %v", framing, resp, err)
		}
		io.Copy(io.Discard, c)
		c.Close()
	}
}

// TestServerCodecUnaskedBody: a client that waits for 100 (Continue) and gets another answer may leave its body out or send it: the
// connection ends with the answer, or the next request could be taken for that body. That holds for handlers too that read
// and write at once, where net/http keeps the connection.
func TestServerCodecUnaskedBody(t *testing.T) {
	t.Parallel()
	in, l := inbound(t), listen(t)
	run(t, in, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/duplex" {
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				t.Error(err)
			}
		}
		_, _ = io.WriteString(w, "no")
	})}, l, modes["codec"]...)
	for _, path := range []string{"/plain", "/duplex"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 40\r\n\r\n")
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := body(t, resp); resp.StatusCode != http.StatusOK || got != "no" || !resp.Close {
			t.Errorf("%s: status %d, %q, close %v", path, resp.StatusCode, got, resp.Close)
		}
		if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
			t.Errorf("%s: then %q, %v", path, rest, err)
		}
	}
}
