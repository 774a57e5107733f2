package transport

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/attacks"
)

// FuzzServerCodec: whatever bytes come, what the codec serves net/http serves too, and the same; and the codec neither
// panics nor serves more. What it refuses, net/http may take.
func FuzzServerCodec(f *testing.F) {
	for _, b := range behaviours {
		f.Add([]byte(b.request))
	}
	for _, a := range attacks.Heads {
		if len(a.Request) < 4<<10 {
			f.Add([]byte(a.Request))
		}
	}
	theirs, ours := fuzzServer(f), fuzzServer(f, modes["codec"]...)
	f.Fuzz(func(t *testing.T, request []byte) {
		if len(request) > 16<<10 || bytes.HasPrefix(request, []byte("PRI * HTTP/2.0\r\n")) || len(request) > 0 && request[0] == tlsHandshake {
			return
		}
		want, got := theirs(t, request), ours(t, request)
		for i, one := range got {
			if i >= len(want) || one != want[i] {
				t.Fatalf("request %d is served as\n%s\nnet/http has\n%s", i, one, strings.Join(want, "\n"))
			}
		}
	})
}

// fuzzServer serves, and gives what tells which requests a client's bytes were taken for.
func fuzzServer(f *testing.F, opts ...InboundOption) func(*testing.T, []byte) []string {
	in, l := inbound(f), listen(f)
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), DisableGeneralOptionsHandler: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		delete(r.Header, "X-Request-Id")
		text := fmt.Sprintf("%s %q %q %q %q %d %v %v %v %q %v", r.Method, r.RequestURI, r.URL, r.Host, r.Proto, r.ContentLength, r.TransferEncoding, r.Close || r.ProtoMinor == 0,
			r.Header, b, r.Trailer)
		w.Header().Set("X-Saw", fmt.Sprintf("%q", text))
	})}
	l = in.Listener(l)
	if codec := in.begin(srv, l, opts).codec; codec != nil {
		codec.limits.EmptyLines = -1 // it skips one before a request (RFC 9112 §2.2), where net/http refuses the request
	}
	run(f, in, srv, l, opts...)
	return func(t *testing.T, request []byte) (served []string) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := c.Write(request); err != nil {
			return nil
		}
		_ = c.(*net.TCPConn).CloseWrite()
		br := bufio.NewReader(c)
		for {
			// What comes is an answer without a body, or one that ends the connection.
			resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodHead})
			switch {
			case err != nil:
				return served
			case resp.StatusCode == http.StatusContinue:
				continue
			case resp.Header.Get("X-Saw") == "":
				return served
			}
			served = append(served, resp.Header.Get("X-Saw"))
		}
	}
}
