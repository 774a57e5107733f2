package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/proxy"
)

// TestRequestHeader: what an endpoint sees of a request's header.
func TestRequestHeader(t *testing.T) {
	t.Parallel()
	seen := make(chan map[string]string, 1)
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			if _, err := br.ReadString('\n'); err != nil {
				return
			}
			seen <- head(t, br)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	r := start(t, service("reviews", "HTTP", up), nil)
	const host = "Host: reviews\r\n"
	for _, c := range []struct {
		name, lines string
		want        map[string]string
	}{
		{"nothing is added", "", map[string]string{"Host": "reviews"}},
		{"ordinary ones pass", "A: 1\r\nUser-Agent: x\r\nAccept-Encoding: br\r\n",
			map[string]string{"Host": "reviews", "A": "1", "User-Agent": "x", "Accept-Encoding": "br"}},
		{"hop-by-hop", "Proxy-Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: gzip\r\nA: 1\r\n",
			map[string]string{"Host": "reviews", "A": "1"}},
		{"nominated", "Connection: x-mine, A\r\nX-Mine: 1\r\nA: 1\r\nB: 2\r\n", map[string]string{"Host": "reviews", "B": "2"}},
		{"nominated in several lines, in any case", "Connection: X-MINE\r\nConnection: a\r\nX-Mine: 1\r\nA: 1\r\nB: 2\r\n",
			map[string]string{"Host": "reviews", "B": "2"}},
		{"the protected cannot be nominated",
			"Connection: Host, Authorization, Cookie, X-Forwarded-For, x-request-id, traceparent, X-B3-TraceId, close\r\n" +
				"Authorization: secret\r\nCookie: a=b\r\nX-Forwarded-For: 10.0.0.1\r\nX-Request-Id: 7\r\nTraceparent: 00-1\r\nX-B3-Traceid: 9\r\n",
			map[string]string{"Host": "reviews", "Authorization": "secret", "Cookie": "a=b", "X-Forwarded-For": "10.0.0.1",
				"X-Request-Id": "7", "Traceparent": "00-1", "X-B3-Traceid": "9"}},
		{"identity that nobody verified",
			"X-Forwarded-Client-Cert: By=x\r\nx-forwarded-CLIENT-cert: By=y\r\nX_Forwarded_Client_Cert: By=z\r\nX-Heddle-Peer: a\r\nA: 1\r\n",
			map[string]string{"Host": "reviews", "A": "1"}},
		{"an offer of h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
			map[string]string{"Host": "reviews"}},
		{"an offer of h2c beside another", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", map[string]string{"Host": "reviews"}},
		{"an offer that is not nominated", "Upgrade: websocket\r\n", map[string]string{"Host": "reviews"}},
		{"trailers are wanted", "TE: trailers\r\nConnection: TE\r\n", map[string]string{"Host": "reviews", "Te": "trailers"}},
	} {
		resp, _ := exchange(t, r.sidecar.OutboundAddr().String(), "GET /x HTTP/1.1\r\n"+host+c.lines+"\r\n")
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d", c.name, resp.StatusCode)
		}
		if got := <-seen; fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: the endpoint saw %v, want %v", c.name, got, c.want)
		}
	}
}

// TestContentLengthCannotBeNominated: the framing of a body survives Connection: content-length.
func TestContentLengthCannotBeNominated(t *testing.T) {
	t.Parallel()
	up := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d %s", r.ContentLength, body)
	}))
	r := start(t, service("reviews", "HTTP", up), nil)
	if _, body := exchange(t, r.sidecar.OutboundAddr().String(),
		"POST / HTTP/1.1\r\nHost: reviews\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello"); body != "5 hello" {
		t.Errorf("got %q", body)
	}
}

// TestResponseHeader: what a client sees of a response's header, to the byte.
func TestResponseHeader(t *testing.T) {
	t.Parallel()
	const date = "Date: Mon, 02 Jan 2006 15:04:05 GMT\r\n"
	for _, c := range []struct{ name, method, sent, want string }{
		{"as it is", "GET", "HTTP/1.1 200 OK\r\n" + date + "A: 1\r\nContent-Length: 2\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\nhi",
			"HTTP/1.1 200 OK\r\n" + date + "A: 1\r\nContent-Length: 2\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\nhi"},
		{"hop-by-hop", "GET", "HTTP/1.1 200 OK\r\n" + date + "Connection: x-mine, set-cookie\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nSet-Cookie: a\r\nX-Heddle-A: 1\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 200 OK\r\n" + date + "Set-Cookie: a\r\nContent-Length: 0\r\n\r\n"},
		{"HEAD keeps the length", "HEAD", "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 7\r\n\r\n", "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 7\r\n\r\n"},
		{"HEAD without a length", "HEAD", "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\n" + date + "\r\n"},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n" + date + "A: 1\r\n\r\n", "HTTP/1.1 204 No Content\r\n" + date + "A: 1\r\n\r\n"},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\n" + date + "Etag: \"a\"\r\n\r\n", "HTTP/1.1 304 Not Modified\r\n" + date + "Etag: \"a\"\r\n\r\n"},
		{"a status of our own", "GET", "HTTP/1.1 599 Odd\r\n" + date + "Content-Length: 0\r\n\r\n", "HTTP/1.1 599 Odd\r\n" + date + "Content-Length: 0\r\n\r\n"},
		{"until the end of the connection", "GET", "HTTP/1.1 200 OK\r\n" + date + "Content-Type: a/b\r\n\r\nhi",
			"HTTP/1.1 200 OK\r\n" + date + "Content-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, service("reviews", "HTTP", raw(t, answer(c.sent))), nil)
			conn, br := dial(t, r.sidecar.OutboundAddr().String())
			send(t, conn, c.method+" / HTTP/1.1\r\nHost: reviews\r\nUser-Agent: x\r\n\r\n")
			got := make([]byte, len(c.want))
			if n, err := io.ReadFull(br, got); err != nil || string(got) != c.want {
				t.Errorf("got %q, %v, want %q", got[:n], err, c.want)
			}
			// The connection is good for another request.
			send(t, conn, "GET /again HTTP/1.1\r\nHost: elsewhere.invalid\r\n\r\n")
			if resp, _ := read(t, br, http.MethodGet); resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("the next answer has status %d", resp.StatusCode)
			}
		})
	}
}

// TestProtocols: the same exchange for every version of HTTP on either side, with trailers both ways.
func TestProtocols(t *testing.T) {
	t.Parallel()
	up := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("body: %v", err)
		}
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Proto", r.Proto)
		fmt.Fprintf(w, "%s %s?%s %s", r.Method, r.URL.EscapedPath(), r.URL.RawQuery, body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-In"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "unannounced")
	}))
	for _, out := range []struct{ protocol, want string }{{"HTTP", "HTTP/1.1"}, {"HTTP2", "HTTP/2.0"}} {
		r := start(t, service("reviews", out.protocol, up), nil)
		for _, in := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(in+" to "+out.want, func(t *testing.T) {
				tr := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
				tr.Protocols.SetHTTP1(in == "HTTP/1.1")
				tr.Protocols.SetUnencryptedHTTP2(in == "HTTP/2.0")
				client := clientOf(t, tr)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
					"http://"+r.sidecar.OutboundAddr().String()+"/a%2Fb?x=1&%zz;y", struct{ io.Reader }{strings.NewReader("hello")})
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "reviews" // by its Host, not as a proxy
				req.Trailer = http.Header{"X-In": {"7"}}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil || string(body) != "POST /a%2Fb?x=1&%zz;y hello" {
					t.Errorf("body %q, %v", body, err)
				}
				if p := resp.Header.Get("X-Proto"); p != out.want {
					t.Errorf("the endpoint was spoken to in %s", p)
				}
				if got := resp.Trailer; got.Get("X-Sum") != "7" || got.Get("X-Late") != "unannounced" {
					t.Errorf("trailers %v", got)
				}
			})
		}
	}
}

// TestForbiddenTrailers: what decides about a request cannot come after it.
func TestForbiddenTrailers(t *testing.T) {
	t.Parallel()
	got := make(chan http.Header, 1)
	up := upstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r.Trailer
	}))
	r := start(t, service("reviews", "HTTP", up), nil)
	exchange(t, r.sidecar.OutboundAddr().String(), "POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n"+
		"Trailer: X-Forwarded-Client-Cert, Authorization, X-Fine\r\n\r\n2\r\nhi\r\n0\r\nX-Forwarded-Client-Cert: By=x\r\nAuthorization: a\r\nX-Fine: 1\r\n\r\n")
	if h := <-got; len(h) != 1 || h.Get("X-Fine") != "1" {
		t.Errorf("the endpoint got trailers %v", h)
	}
}

func TestInformational(t *testing.T) {
	t.Parallel()
	early := func(n int) string {
		return strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-mine\r\nX-Mine: 1\r\n\r\n", n) +
			"HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 2\r\n\r\nhi"
	}
	for _, c := range []struct{ sent, relayed, status int }{{0, 0, 200}, {1, 1, 200}, {8, 8, 200}, {9, 8, 502}, {5000, 8, 502}} {
		t.Run(fmt.Sprint(c.sent), func(t *testing.T) {
			t.Parallel()
			r := start(t, service("reviews", "HTTP", raw(t, answer(early(c.sent)))), nil)
			relayed := 0
			req := r.request(http.MethodGet, "http://reviews/", nil)
			req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					if relayed++; code != 103 || h.Get("Link") != "</a>" || h.Get("X-Mine") != "" {
						t.Errorf("relayed %d %v", code, h)
					}
					return nil
				}}))
			resp, _ := r.do(req)
			if relayed != c.relayed || resp.StatusCode != c.status || resp.Header.Get("Link") != "" {
				t.Errorf("%d relayed, status %d, header %v", relayed, resp.StatusCode, resp.Header)
			}
		})
	}
	t.Run("HTTP/1.0 has none", func(t *testing.T) {
		t.Parallel()
		r := start(t, service("reviews", "HTTP", raw(t, answer(early(2)))), nil)
		resp, body := exchange(t, r.sidecar.OutboundAddr().String(), "GET / HTTP/1.0\r\nHost: reviews\r\n\r\n")
		if resp.StatusCode != http.StatusOK || body != "hi" {
			t.Errorf("status %d, body %q", resp.StatusCode, body)
		}
	})
}

// TestExpectContinue: the client is asked for its body when the endpoint asks for it, and the connection is
// left in order whatever the endpoint does.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	const request = "POST / HTTP/1.1\r\nHost: reviews\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	t.Run("100", func(t *testing.T) {
		t.Parallel()
		asked := make(chan struct{})
		up := raw(t, func(c net.Conn, br *bufio.Reader) {
			req, err := http.ReadRequest(br)
			if err != nil || req.Header.Get("Expect") != "100-continue" {
				t.Errorf("%v, %v", req, err)
				return
			}
			<-asked
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			body, _ := io.ReadAll(req.Body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		})
		r := start(t, service("reviews", "HTTP", up), nil)
		c, br := dial(t, r.sidecar.OutboundAddr().String())
		send(t, c, request)
		close(asked)
		line, err := br.ReadString('\n')
		if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
		_, _ = br.ReadString('\n')
		send(t, c, "hello")
		if resp, body := read(t, br, http.MethodPost); resp.StatusCode != http.StatusOK || body != "hello" || resp.Close {
			t.Errorf("status %d, body %q, close %v", resp.StatusCode, body, resp.Close)
		}
	})
	for _, status := range []string{"417 Expectation Failed", "200 OK"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			up := raw(t, func(c net.Conn, br *bufio.Reader) {
				if _, err := http.ReadRequest(br); err == nil {
					_, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: 2\r\n\r\nno")
					_, _ = io.Copy(io.Discard, br)
				}
			})
			r := start(t, service("reviews", "HTTP", up), nil)
			c, br := dial(t, r.sidecar.OutboundAddr().String())
			send(t, c, request)
			resp, body := read(t, br, http.MethodPost)
			if resp.StatusCode == http.StatusContinue { // net/http may send the body after the answer, to keep its connection
				resp, body = read(t, br, http.MethodPost)
			}
			if resp.Status != status || body != "no" || !resp.Close {
				t.Errorf("status %q, body %q, close %v", resp.Status, body, resp.Close)
			}
			// The body that was not asked for comes all the same, and is not a request.
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
			if rest, _ := io.ReadAll(br); len(rest) != 0 {
				t.Errorf("it was answered: %q", rest)
			}
		})
	}
	t.Run("another expectation", func(t *testing.T) {
		t.Parallel()
		r := start(t, "", nil)
		resp, _ := exchange(t, r.sidecar.OutboundAddr().String(), "GET / HTTP/1.1\r\nHost: reviews\r\nExpect: x\r\n\r\n")
		if resp.StatusCode != http.StatusExpectationFailed {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
}

// TestStreaming: every event reaches the client before the next is made, in both directions at once.
func TestStreaming(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	up := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			rc := http.NewResponseController(w)
			_ = rc.Flush()
			for i := range 3 {
				<-next
				fmt.Fprintf(w, "data: %d\n\n", i)
				_ = rc.Flush()
			}
		case "/known": // a length does not make a body wait for its end
			w.Header().Set("Content-Length", "4")
			rc := http.NewResponseController(w)
			for range 2 {
				_, _ = io.WriteString(w, "ab")
				_ = rc.Flush()
				<-next
			}
		case "/later": // nor its head for it
			w.Header().Set("Content-Length", "4")
			_ = http.NewResponseController(w).Flush()
			<-next
			_, _ = io.WriteString(w, "abcd")
		case "/echo":
			_ = http.NewResponseController(w).EnableFullDuplex()
			rc := http.NewResponseController(w)
			_ = rc.Flush()
			buf := make([]byte, 16)
			for {
				n, err := r.Body.Read(buf)
				_, _ = w.Write(buf[:n])
				_ = rc.Flush()
				if err != nil {
					return
				}
			}
		}
	}))
	r := start(t, service("reviews", "HTTP", up), nil)
	t.Run("events", func(t *testing.T) {
		resp, err := r.client.Do(r.request(http.MethodGet, "http://reviews/events", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		br := bufio.NewReader(resp.Body)
		for i := range 3 {
			next <- struct{}{}
			if line, err := br.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
				t.Fatalf("%q, %v", line, err)
			}
			_, _ = br.ReadString('\n')
		}
	})
	t.Run("known length", func(t *testing.T) {
		resp, err := r.client.Do(r.request(http.MethodGet, "http://reviews/known", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		buf := make([]byte, 2)
		for range 2 {
			if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "ab" {
				t.Fatalf("%q, %v", buf, err)
			}
			next <- struct{}{}
		}
	})
	t.Run("the head before the body", func(t *testing.T) {
		resp, err := r.client.Do(r.request(http.MethodGet, "http://reviews/later", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		next <- struct{}{}
		if text, err := io.ReadAll(resp.Body); resp.ContentLength != 4 || string(text) != "abcd" || err != nil {
			t.Errorf("%d bytes: %q, %v", resp.ContentLength, text, err)
		}
	})
	t.Run("both ways", func(t *testing.T) {
		pr, pw := io.Pipe()
		resp, err := r.client.Do(r.request(http.MethodPost, "http://reviews/echo", pr))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		buf := make([]byte, 4)
		for i := range 3 {
			_, _ = fmt.Fprintf(pw, "m%03d", i)
			if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != fmt.Sprintf("m%03d", i) {
				t.Fatalf("%q, %v", buf, err)
			}
		}
		_ = pw.Close()
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

// TestTruncated: a body that breaks off breaks off for the client too.
func TestTruncated(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string]string{
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
		"chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s h2=%v", name, h2), func(t *testing.T) {
				t.Parallel()
				r := start(t, service("reviews", "HTTP", raw(t, answer(sent))), nil)
				tr := &http.Transport{Protocols: new(http.Protocols)}
				tr.Protocols.SetHTTP1(!h2)
				tr.Protocols.SetUnencryptedHTTP2(h2)
				req := r.request(http.MethodGet, "http://"+r.sidecar.OutboundAddr().String()+"/", nil)
				req.Host = "reviews"
				resp, err := clientOf(t, tr).Do(req)
				if err != nil {
					return // cut off before the head was on its way
				}
				defer resp.Body.Close()
				if body, err := io.ReadAll(resp.Body); err == nil {
					t.Errorf("a whole response of %q", body)
				}
			})
		}
	}
}

// TestClientBroken: what is wrong with a client's body is not the endpoint's fault.
func TestClientBroken(t *testing.T) {
	t.Parallel()
	up := upstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	r := start(t, service("reviews", "HTTP", up), nil)
	c, br := dial(t, r.sidecar.OutboundAddr().String())
	send(t, c, "POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\nGET / HTTP/1.1\r\n\r\n")
	resp, _ := read(t, br, http.MethodPost)
	if resp.StatusCode != http.StatusBadRequest || !resp.Close {
		t.Errorf("status %d, close %v", resp.StatusCode, resp.Close)
	}
	if l := r.last(); l.Flag != "DPE" || l.Reason != "bad_request" {
		t.Errorf("reported %+v", l)
	}
	for _, cl := range r.mesh.Status().Clusters {
		for _, e := range cl.Endpoints {
			if e.Counts.Failed != 0 {
				t.Errorf("the endpoint is blamed: %+v", e.Counts)
			}
		}
	}
}

// TestClientGone: the endpoint hears that nobody waits any more.
func TestClientGone(t *testing.T) {
	t.Parallel()
	arrived, gone := make(chan struct{}), make(chan struct{})
	up := upstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(gone)
	}))
	r := start(t, service("reviews", "HTTP", up), nil)
	c, _ := dial(t, r.sidecar.OutboundAddr().String())
	send(t, c, "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
	<-arrived
	_ = c.Close()
	<-gone
}

// TestEarlyAnswer: an answer to a request whose body has not come yet is passed on at once, also where the
// rest never comes, and the connection ends.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		}
	})
	r := start(t, service("reviews", "HTTP", up), nil)
	for _, framing := range []string{"Content-Length: 100000000", "Transfer-Encoding: chunked"} {
		c, br := dial(t, r.sidecar.OutboundAddr().String())
		send(t, c, "POST / HTTP/1.1\r\nHost: reviews\r\n"+framing+"\r\n\r\n5\r\nhello\r\n")
		resp, body := read(t, br, http.MethodPost)
		if resp.StatusCode != http.StatusRequestEntityTooLarge || body != "no" || !resp.Close {
			t.Errorf("%s: status %d, body %q, close %v", framing, resp.StatusCode, body, resp.Close)
		}
		if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the connection goes on: %v", framing, err)
		}
	}
}

func TestLargeBodies(t *testing.T) {
	t.Parallel()
	const size = 24 << 20
	up := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		if err != nil {
			t.Errorf("after %d: %v", n, err)
		}
		w.Header().Set("X-Sum", fmt.Sprintf("%x", h.Sum(nil)))
		_, _ = io.Copy(w, io.LimitReader(pattern{}, size))
	}))
	for _, protocol := range []string{"HTTP", "HTTP2"} {
		r := start(t, service("reviews", protocol, up), nil)
		h := sha256.New()
		_, _ = io.Copy(h, io.LimitReader(pattern{}, size))
		want := fmt.Sprintf("%x", h.Sum(nil))
		for _, length := range []int64{-1, size} {
			req := r.request(http.MethodPut, "http://reviews/", io.LimitReader(pattern{}, size))
			req.ContentLength = length
			resp, body := r.do(req)
			if got := resp.Header.Get("X-Sum"); got != want {
				t.Errorf("%s, length %d: the endpoint got another body", protocol, length)
			}
			if got := fmt.Sprintf("%x", sha256.Sum256([]byte(body))); got != want {
				t.Errorf("%s, length %d: the client got another body of %d", protocol, length, len(body))
			}
		}
	}
}

// A pattern is bytes without end.
type pattern struct{}

func (pattern) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i * 7)
	}
	return len(p), nil
}

// TestInvalidAnswers are the endpoint's fault, and none of them is passed on.
func TestInvalidAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, sent string
		status     []int
	}{
		{"status 099", "HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n", []int{502}},
		{"status 600", "HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n", []int{502}},
		{"status 999", "HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n", []int{502}},
		{"no HTTP", "SSH-2.0-x\r\n\r\n", []int{502, 503}},
		{"nothing", "", []int{503}},
		{"half a head", "HTTP/1.1 200 OK\r\nA: ", []int{503}},
		{"unasked 101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw", []int{502}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, service("reviews", "HTTP", raw(t, answer(c.sent))), nil)
			resp, body := r.get("http://reviews/")
			if !slices.Contains(c.status, resp.StatusCode) || body == "" {
				t.Errorf("status %d, body %q", resp.StatusCode, body)
			}
			if l := r.last(); l.Status != resp.StatusCode || l.Flag == "" || l.Details() == "" {
				t.Errorf("reported %+v", l)
			}
		})
	}
}

// TestRefusedTargets: requests that have two readings go nowhere.
func TestRefusedTargets(t *testing.T) {
	t.Parallel()
	up := upstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s %s reached the endpoint", r.Method, r.Host, r.RequestURI)
	}))
	r := start(t, service("reviews", "HTTP", up), func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: up}} })
	many := strings.Repeat("A: 1\r\n", 101)
	for _, c := range []struct {
		name, request string
		status        int
	}{
		{"CONNECT", "CONNECT reviews:80 HTTP/1.1\r\nHost: reviews:80\r\n\r\n", 405},
		{"CONNECT to ssh", "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n", 405},
		{"fragment", "GET /a#/../admin HTTP/1.1\r\nHost: reviews\r\n\r\n", 400},
		{"asterisk with GET", "GET * HTTP/1.1\r\nHost: reviews\r\n\r\n", 400},
		{"user information", "GET http://u@reviews/ HTTP/1.1\r\nHost: reviews\r\n\r\n", 400},
		{"two hosts in one", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400},
		{"zone", "GET / HTTP/1.1\r\nHost: [fe80::1%25lo]:80\r\n\r\n", 400},
		{"port", "GET / HTTP/1.1\r\nHost: reviews:99999\r\n\r\n", 400},
		{"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
		{"NUL", "GET /%00/admin HTTP/1.1\r\nHost: reviews\r\n\r\n", 400},
		{"too many fields", "GET / HTTP/1.1\r\nHost: reviews\r\n" + many + "\r\n", 431},
	} {
		for side, address := range map[string]string{"outbound": r.sidecar.OutboundAddr().String(), "inbound": r.sidecar.InboundAddrs()[0].String()} {
			t.Run(c.name+" "+side, func(t *testing.T) {
				t.Parallel()
				conn, br := dial(t, address)
				goesOn := c.name == "NUL" || c.name == "too many fields" // found out by those who know what follows
				if send(t, conn, c.request); !goesOn {
					_, _ = io.WriteString(conn, "GET /next HTTP/1.1\r\nHost: reviews\r\n\r\n")
				}
				resp, _ := read(t, br, http.MethodGet)
				if resp.StatusCode != c.status {
					t.Errorf("status %d", resp.StatusCode)
				}
				if !goesOn && !resp.Close {
					t.Error("the connection goes on")
				}
				if c.status == 405 && resp.Header.Get("Allow") == "" {
					t.Error("no Allow")
				}
				_ = conn.Close()
			})
		}
	}
}

// TestHTTP10: what HTTP/1.0 does not frame is no request (B-004), and no other follows one of it.
func TestHTTP10(t *testing.T) {
	t.Parallel()
	got := make(chan string, 4)
	up := upstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.URL.Path }))
	r := start(t, service("reviews", "HTTP", up), nil)
	for _, c := range []struct {
		first  string
		status int
		seen   []string
	}{
		{"POST /first HTTP/1.0\r\nHost: reviews\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", http.StatusBadRequest, nil},
		{"GET /first HTTP/1.0\r\nHost: reviews\r\nConnection: keep-alive\r\n\r\n", http.StatusOK, []string{"/first"}},
	} {
		conn, br := dial(t, r.sidecar.OutboundAddr().String())
		send(t, conn, c.first+"GET /smuggled HTTP/1.0\r\nHost: reviews\r\n\r\n")
		if resp, _ := read(t, br, http.MethodPost); resp.StatusCode != c.status {
			t.Errorf("status %d", resp.StatusCode)
		}
		if rest, _ := io.ReadAll(br); len(rest) > 0 {
			t.Errorf("more answers: %q", rest)
		}
		var seen []string
		for len(got) > 0 {
			seen = append(seen, <-got)
		}
		if !slices.Equal(seen, c.seen) {
			t.Errorf("the endpoint saw %v", seen)
		}
	}
}

// TestInboundCanonicalPath: the application sees the spelling that was decided on, and the query as it came.
func TestInboundCanonicalPath(t *testing.T) {
	t.Parallel()
	_, address := inbound(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host+" "+r.RequestURI+" "+r.Header.Get("X-Request-Id"))
	}))
	for target, want := range map[string]string{
		"/x/../admin":          "/admin",
		"/./a%2db":             "/a-b",
		"/a%2Fb?x;y=%zz&a=1&a": "/a%2Fb?x;y=%zz&a=1&a",
		"/?":                   "/?",
		"//a":                  "//a",
	} {
		_, body := exchange(t, address, "GET "+target+" HTTP/1.1\r\nHost: Reviews:9080\r\nX-Request-Id: 7\r\n\r\n")
		if body != "reviews:9080 "+want+" 7" {
			t.Errorf("%s: the application saw %q", target, body)
		}
	}
	if _, body := exchange(t, address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); len(strings.Fields(body)) != 3 {
		t.Errorf("no x-request-id was made: %q", body)
	}
}

// TestInboundHTTP2: the application is spoken to in its caller's protocol.
func TestInboundHTTP2(t *testing.T) {
	t.Parallel()
	_, address := inbound(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	for _, h2 := range []bool{false, true} {
		tr := &http.Transport{Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP1(!h2)
		tr.Protocols.SetUnencryptedHTTP2(h2)
		resp, err := clientOf(t, tr).Get("http://" + address)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		_, _ = b.ReadFrom(resp.Body)
		_ = resp.Body.Close()
		if got, want := b.String(), map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[h2]; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestContextOfCaller: a client's deadline is the client's own; it does not answer for the endpoint.
func TestContextOfCaller(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	up := upstream(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer close(release)
	r := start(t, service("reviews", "HTTP", up), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := r.client.Do(r.request(http.MethodGet, "http://reviews/", nil).WithContext(ctx))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if l := r.last(); l.Status != 0 {
		t.Errorf("reported %+v", l)
	}
}
