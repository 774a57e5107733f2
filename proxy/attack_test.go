package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/internal/attacks"
	"github.com/heddlemesh/mesh/proxy"
)

// The rows are those of the attack catalogue. What the codec refuses by itself is proved there case by case; here the
// same bytes meet a running sidecar, on both sides of it.

const hostLine = attacks.HostLine

func posted(fields, body string) string { return attacks.Posted(fields, body) }

func fielded(fields string) string { return attacks.Fielded(fields) }

// TestRefusedRequests: each is answered once, nothing of it or behind it is a request to anybody, and the connection ends.
func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		if line, err := br.ReadString('\n'); err == nil {
			t.Errorf("the endpoint is asked %.80q", line)
		}
	})
	r, addresses := both(t, up)
	for _, a := range attacks.Heads {
		if a.Status == nil {
			a.Status = []int{http.StatusBadRequest}
		}
		for side, address := range addresses {
			t.Run(a.Row+" "+a.Name+" "+side, func(t *testing.T) {
				t.Parallel()
				c, br := dial(t, address)
				text := a.Request + "GET /smuggled HTTP/1.1\r\n" + hostLine + "\r\n"
				go func() { _, _ = io.WriteString(c, text) }() // who writes much is not read to the end
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					// What is sent on and on may take the answer away with the connection.
					if len(text) > 256<<10 && reset(err) {
						return
					}
					t.Fatal(err)
				}
				_, err = io.ReadAll(resp.Body)
				if !slices.Contains(a.Status, resp.StatusCode) || !resp.Close || err != nil && !reset(err) {
					t.Errorf("status %d, close %v, %v, want %v", resp.StatusCode, resp.Close, err, a.Status)
				}
				if rest, _ := io.ReadAll(br); len(rest) > 0 {
					t.Errorf("there is another answer: %.80q", rest)
				}
			})
		}
	}
	t.Cleanup(func() { unblamed(t, r) })
}

func reset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// unblamed fails if an endpoint was charged with something.
func unblamed(t testing.TB, r *rig) {
	t.Helper()
	for _, cl := range r.mesh.Status().Clusters {
		for _, e := range cl.Endpoints {
			if e.Counts.Failed != 0 || e.Counts.Active != 0 {
				t.Errorf("the endpoint is blamed: %+v", e.Counts)
			}
		}
	}
}

// TestBrokenBodies (D-025 too): whether they come with the head or later, they are the client's fault, and the endpoint
// sees that they break off.
func TestBrokenBodies(t *testing.T) {
	t.Parallel()
	for _, a := range attacks.Bodies {
		t.Run(a.Row+" "+a.Name, func(t *testing.T) {
			t.Parallel()
			arrived := make(chan struct{}, 4)
			up := raw(t, func(c net.Conn, br *bufio.Reader) {
				req, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				arrived <- struct{}{}
				if body, err := io.ReadAll(req.Body); err == nil {
					t.Errorf("a whole request came: %.80q", body)
				}
			})
			r, addresses := both(t, up)
			for side, address := range addresses {
				for _, late := range []bool{false, true} {
					c, br := dial(t, address)
					text := a.Body + "GET /smuggled HTTP/1.1\r\n" + hostLine + "\r\n"
					if late {
						send(t, c, posted("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"))
						<-arrived
					} else {
						text = posted("Transfer-Encoding: chunked\r\n", text)
					}
					go func() { _, _ = io.WriteString(c, text) }()
					resp, err := http.ReadResponse(br, nil)
					switch {
					case err != nil && len(text) > 256<<10 && reset(err):
						continue
					case err != nil:
						t.Fatalf("%s, late %v: %v", side, late, err)
					case resp.StatusCode != http.StatusBadRequest || !resp.Close:
						t.Errorf("%s, late %v: status %d, close %v", side, late, resp.StatusCode, resp.Close)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					if rest, _ := io.ReadAll(br); len(rest) > 0 {
						t.Errorf("%s, late %v: another answer: %.80q", side, late, rest)
					}
					if l := r.last(); l.Flag != "DPE" {
						t.Errorf("%s: reported %+v", side, l)
					}
				}
			}
			unblamed(t, r)
		})
	}
}

// TestUnreadBody (B-005): what follows a request that is answered without its body being read is never a request, whether
// it comes with the head or after the answer.
func TestUnreadBody(t *testing.T) {
	t.Parallel()
	up := raw(t, func(_ net.Conn, br *bufio.Reader) {
		if line, err := br.ReadString('\n'); err == nil {
			t.Errorf("the endpoint is asked %q", line)
		}
	})
	r := start(t, service("reviews", "HTTP", up)+alikeRules, func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: up}} })
	const inner = "GET /smuggled HTTP/1.1\r\n" + hostLine + "\r\n"
	out, in := r.sidecar.OutboundAddr().String(), r.sidecar.InboundAddrs()[0].String()
	for _, c := range []struct {
		name, address, target string
		status                int
	}{
		{"redirect", out, "/redirect", 308},
		{"direct response", out, "/direct", 418},
		{"fault", out, "/abort", 521},
		{"no such subset", out, "/x", 503},
		{"bad host", out, "http://a,b/", 400},
		{"refused by the inbound side", in, "/%00", 400},
	} {
		for _, framing := range []string{fmt.Sprintf("Content-Length: %d\r\n", len(inner)), "Transfer-Encoding: chunked\r\n", "Content-Length: 300000\r\n"} {
			for _, late := range []bool{false, true} {
				conn, br := dial(t, c.address)
				head := "POST " + c.target + " HTTP/1.1\r\n" + hostLine + "X-User: jason\r\n" + framing + "\r\n"
				if !late {
					head += inner
				}
				send(t, conn, head)
				resp, _ := read(t, br, http.MethodPost)
				if resp.StatusCode != c.status || !resp.Close {
					t.Errorf("%s, %q: status %d, close %v", c.name, framing, resp.StatusCode, resp.Close)
				}
				_, _ = io.WriteString(conn, inner)
				_ = conn.(*net.TCPConn).CloseWrite()
				if rest, _ := io.ReadAll(br); len(rest) > 0 {
					t.Errorf("%s, %q, late %v: the body was answered: %q", c.name, framing, late, rest)
				}
			}
		}
	}
}

// TestBodiesOfAnyMethod (B-009): a body goes on with the framing that it came with.
func TestBodiesOfAnyMethod(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			body, err := io.ReadAll(req.Body)
			seen <- fmt.Sprintf("%s %d %v %s %v", req.Method, req.ContentLength, req.TransferEncoding, body, err)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	_, addresses := both(t, up)
	for side, address := range addresses {
		c, br := dial(t, address)
		for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS", "BREW"} {
			for framing, want := range map[string]string{
				"Content-Length: 5\r\n\r\nhello":                            " 5 [] hello <nil>",
				"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n": " -1 [chunked] hello <nil>",
			} {
				send(t, c, method+" / HTTP/1.1\r\n"+hostLine+framing)
				if resp, _ := read(t, br, method); resp.StatusCode != http.StatusOK {
					t.Fatalf("%s: status %d", side, resp.StatusCode)
				}
				if got := <-seen; got != method+want {
					t.Errorf("%s: the endpoint saw %q, want %q", side, got, method+want)
				}
			}
		}
	}
}

// TestReaderStopped (B-016): a client that sends requests and reads no answers is not worked for ahead. In memory no kernel
// holds anything back: what the endpoint is asked is what the sidecar takes on.
func TestReaderStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 1<<20, bytes.Repeat([]byte("a"), 1<<20))
		gone := make(chan struct{}, 1)
		r, stop := startMemory(t, "")
		defer r.answer(func(c net.Conn, br *bufio.Reader) {
			for {
				if _, err := http.ReadRequest(br); err != nil {
					break
				}
				asked.Add(1)
				if _, err := c.Write(answer); err != nil {
					break
				}
			}
			gone <- struct{}{}
		})()
		defer stop()
		c, err := r.out.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(c, strings.Repeat(fielded("A: b"), 1000)) }()
		time.Sleep(10 * time.Second) // which pass when nothing moves any more
		if n := asked.Load(); n != 1 {
			t.Errorf("the endpoint was asked %d times", n)
		}
		_ = c.Close()
		<-gone
	})
}

// TestReaderStoppedOnSockets (B-016) is the same with what sockets hold, in both directions, while others are served.
func TestReaderStoppedOnSockets(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 1<<20, bytes.Repeat([]byte("a"), 1<<20))
	gone := make(chan struct{}, 2)
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		for endless := false; ; {
			req, err := http.ReadRequest(br)
			if err != nil {
				if endless {
					gone <- struct{}{}
				}
				return
			}
			if req.URL.Path == "/others" {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			asked.Add(1)
			endless = true
			_, _ = c.Write(answer)
		}
	})
	_, addresses := both(t, up)
	for side, address := range addresses {
		asked.Store(0)
		c, _ := dial(t, address)
		go func() { _, _ = io.WriteString(c, strings.Repeat(fielded("A: b"), 1000)) }()
		others, br := dial(t, address)
		for n := 0; n < 500 || asked.Load() == 0; n++ {
			send(t, others, "GET /others HTTP/1.1\r\nHost: reviews\r\n\r\n")
			read(t, br, http.MethodGet)
		}
		if n := asked.Load(); n > 50 { // what the sockets hold
			t.Errorf("%s: the endpoint was asked %d times", side, n)
		}
		_ = c.Close()
		<-gone
	}
}

// TestSmallChunks (B-023): a body in chunks of one byte costs the endpoint no more than the client.
func TestSmallChunks(t *testing.T) {
	t.Parallel()
	n := 4 << 20
	if testing.Short() || raceEnabled {
		n = 256 << 10
	}
	var bytesSeen atomic.Int64
	up := raw(t, func(c net.Conn, _ *bufio.Reader) {
		counted := &counter{Reader: c, n: &bytesSeen}
		br := bufio.NewReader(counted)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			got, err := io.Copy(io.Discard, req.Body)
			if err != nil || got != int64(n) {
				t.Errorf("%d bytes, %v", got, err)
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	_, addresses := both(t, up)
	text := posted("Transfer-Encoding: chunked\r\n", strings.Repeat("1\r\na\r\n", n)+"0\r\n\r\n")
	for side, address := range addresses {
		bytesSeen.Store(0)
		c, br := dial(t, address)
		send(t, c, text)
		if resp, _ := read(t, br, http.MethodPost); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", side, resp.StatusCode)
		}
		if got := bytesSeen.Load(); got > 3*int64(len(text)) {
			t.Errorf("%s: %d bytes became %d", side, len(text), got)
		}
	}
}

type counter struct {
	io.Reader
	n *atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// brokenAnswers are the endpoint's fault.
var brokenAnswers = []struct {
	row, name, text string
	status          int
}{
	{"B-090", "CL and TE", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502},
	{"B-090", "two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 502},
	{"B-090", "TE junk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nhello", 502},
	{"B-090", "204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", 502},
	{"B-090", "204 with a body", "HTTP/1.1 204 No Content\r\n\r\nhello", 204},
	{"B-090", "304 with a body", "HTTP/1.1 304 Not Modified\r\n\r\nhello", 304},
	{"B-090", "bytes behind", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nhello", 200},
	{"B-090", "an answer unasked", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nX-Poison: 1\r\nContent-Length: 0\r\n\r\n", 200},
	{"B-091", "099", "HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-091", "20", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-091", "999", "HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-091", "1000", "HTTP/1.1 1000 High\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-091", "HTTP/1.1200", "HTTP/1.1200 OK\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-091", "no reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200},
	{"B-091", "no reason and no space", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-091", "reason of 100,000 bytes", "HTTP/1.1 200 " + strings.Repeat("a", 100_000) + "\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-093", "200,000 hints", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 200_000) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-093", "nine hints", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 9) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-093", "eight", strings.Repeat("HTTP/1.1 199 Mine\r\n\r\n", 8) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200},
	{"B-093", "100 unasked", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200},
	{"B-093", "101 unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nX-Poison", 502},
	{"B-094", "space in a name", "HTTP/1.1 200 OK\r\nA b: c\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-094", "fold", "HTTP/1.1 200 OK\r\nA: b\r\n X-Poison: 1\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-094", "NUL", "HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-094", "bare CR", "HTTP/1.1 200 OK\r\nA: b\rX-Poison: 1\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-094", "10 MB", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 10<<20) + "\r\nContent-Length: 0\r\n\r\n", 502},
	{"B-094", "identity", "HTTP/1.1 200 OK\r\nX-Forwarded-Client-Cert: X-Poison\r\nX_Heddle_Peer: X-Poison\r\nContent-Length: 0\r\n\r\n", 200},
	{"B-094", "10,000 cookies", "HTTP/1.1 200 OK\r\n" + strings.Repeat("Set-Cookie: a=b\r\n", 10_000) + "Content-Length: 0\r\n\r\n", 502},
}

// TestBrokenAnswers: what an endpoint must not say is a 502, nothing of it reaches this client or another, and the
// connection to the endpoint ends.
func TestBrokenAnswers(t *testing.T) {
	t.Parallel()
	for _, a := range brokenAnswers {
		t.Run(a.row+" "+a.name, func(t *testing.T) {
			t.Parallel()
			up := raw(t, func(c net.Conn, br *bufio.Reader) {
				for n := 0; ; n++ {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					text := a.text
					if req.URL.Path == "/sound" {
						text = fmt.Sprintf("HTTP/1.1 200 OK\r\nX-After: %d\r\nContent-Length: 0\r\n\r\n", n)
					}
					if _, err := io.WriteString(c, text); err != nil {
						return
					}
				}
			})
			_, addresses := both(t, up)
			for side, address := range addresses {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					c, br := dial(t, address)
					send(t, c, method+" / HTTP/1.1\r\n"+hostLine+"\r\n")
					hints, resp := 0, (*http.Response)(nil)
					for {
						var err error
						if resp, err = http.ReadResponse(br, &http.Request{Method: method}); err != nil {
							t.Fatalf("%s: %v", side, err)
						}
						if resp.StatusCode >= 200 {
							break
						}
						hints++
					}
					body, err := io.ReadAll(resp.Body)
					if resp.StatusCode != a.status || hints > 8 || err != nil || strings.Contains(fmt.Sprint(resp.Header)+string(body), "X-Poison") {
						t.Errorf("%s %s: status %d, %d hints, %v, %v %q", side, method, resp.StatusCode, hints, err, resp.Header, body)
					}
					if !resp.Close {
						send(t, c, "GET /sound HTTP/1.1\r\n"+hostLine+"\r\n")
						if resp, _ := read(t, br, http.MethodGet); resp.StatusCode != http.StatusOK || resp.Header.Get("X-After") == "" {
							t.Errorf("%s: then status %d, %v", side, resp.StatusCode, resp.Header)
						}
					}
					if resp, _ := exchange(t, address, "GET /sound HTTP/1.1\r\n"+hostLine+"\r\n"); resp.Header.Get("X-After") == "" {
						t.Errorf("%s: another client got status %d, %v", side, resp.StatusCode, resp.Header)
					}
				}
			}
		})
	}
}

// endlessAnswers are what endpoints say that come to no end.
var endlessAnswers = map[string]struct{ first, more string }{
	"head":    {"HTTP/1.1 200 OK\r\nA: ", "a"},
	"body":    {"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "a"},
	"flood":   {"HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("a", 64<<10)},
	"nothing": {"", ""},
	"silence": {"HTTP/1.1 200 OK\r\n\r\n", ""},
}

// endless answers without an end, and tells when it is asked, and when it is left.
func endless(first, more string, asked chan struct{}, left chan time.Time) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		asked <- struct{}{}
		_, err := io.WriteString(c, first)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = br.Peek(1) // it ends with the connection
		}()
		for err == nil {
			select {
			case <-done:
				err = io.EOF
			case <-time.After(5 * time.Millisecond):
				_, err = io.WriteString(c, more)
			}
		}
		left <- time.Now()
		<-done
	}
}

// TestEndlessAnswers (B-095): an endpoint that comes to no end is left when the client has gone.
func TestEndlessAnswers(t *testing.T) {
	t.Parallel()
	for name, say := range endlessAnswers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked, left := make(chan struct{}, 1), make(chan time.Time, 1)
			_, addresses := both(t, raw(t, endless(say.first, say.more, asked, left)))
			for _, address := range addresses {
				c, _ := dial(t, address)
				send(t, c, fielded("A: b"))
				<-asked
				_ = c.Close()
				<-left
			}
		})
	}
}

// TestLeftInTime (B-095): and that is within a second, wherever the answer is and whenever the client goes. The time is a
// bubble's: no machine is too slow for it.
func TestLeftInTime(t *testing.T) {
	t.Parallel()
	for name, say := range endlessAnswers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, after := range []time.Duration{0, time.Millisecond, 499 * time.Millisecond, 501 * time.Millisecond, 7777 * time.Millisecond} {
				synctest.Test(t, func(t *testing.T) {
					asked, left := make(chan struct{}, 1), make(chan time.Time, 1)
					r, stop := startMemory(t, "")
					defer r.answer(endless(say.first, say.more, asked, left))()
					defer stop()
					c, err := r.out.dial(t.Context(), "", "")
					if err != nil {
						t.Fatal(err)
					}
					go func() { _, _ = io.Copy(io.Discard, c) }()
					send(t, c, fielded("A: b"))
					<-asked
					time.Sleep(after)
					gone := time.Now()
					_ = c.Close()
					if took := (<-left).Sub(gone); took > time.Second {
						t.Errorf("after %v: it took %v", after, took)
					}
				})
			}
		})
	}
}

// TestEarlyAnswerToUpload (D-017, B-006): an answer in the middle of an upload reaches the client, and neither connection
// is used again.
func TestEarlyAnswerToUpload(t *testing.T) {
	t.Parallel()
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if req.Method == http.MethodGet {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
			_, _ = io.Copy(io.Discard, br) // a request that came here now would get no answer
			return
		}
	})
	_, addresses := both(t, up)
	for side, address := range addresses {
		for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
			for _, framing := range []string{"Content-Length: 1048576\r\n", "Transfer-Encoding: chunked\r\n"} {
				c, br := dial(t, address)
				send(t, c, posted(expect+framing, ""))
				stop := make(chan struct{})
				var wg sync.WaitGroup
				wg.Go(func() {
					for range 15 { // not all of it
						select {
						case <-stop:
							return
						default:
						}
						if _, err := io.WriteString(c, "10000\r\n"+strings.Repeat("a", 64<<10)+"\r\n"); err != nil || expect != "" {
							return
						}
					}
				})
				resp, body := read(t, br, http.MethodPost)
				if resp.StatusCode != http.StatusRequestEntityTooLarge || body != "no" || !resp.Close {
					t.Errorf("%s, %q: status %d, %q, close %v", side, expect+framing, resp.StatusCode, body, resp.Close)
				}
				close(stop)
				wg.Wait()
				_ = c.Close()
				if resp, _ := exchange(t, address, fielded("A: b")); resp.StatusCode != http.StatusOK {
					t.Errorf("%s: then status %d", side, resp.StatusCode)
				}
			}
		}
	}
}

// TestExpectations (B-041): the client hears the application's 100 as soon as it is said, and from nobody else. One that
// sends its body without having heard it, as RFC 9110 §10.1.1 has it do, is served all the same; an endpoint that ends the
// connection instead harms nobody else.
func TestExpectations(t *testing.T) {
	t.Parallel()
	said, arrived := make(chan struct{}), make(chan struct{}, 100)
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			switch {
			case req.URL.Path == "/close":
				return
			case req.URL.Path == "/never":
				arrived <- struct{}{}
			case req.Header.Get("Expect") != "100-continue" && req.Method == http.MethodPost:
				t.Error("the expectation does not go on")
			case req.URL.Path == "/continue":
				_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
				<-said // the client has heard it before it is asked for anything else
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	})
	r, addresses := both(t, up)
	for side, address := range addresses {
		ask := func(path string) (net.Conn, *bufio.Reader) {
			c, br := dial(t, address)
			send(t, c, "POST "+path+" HTTP/1.1\r\n"+hostLine+"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
			return c, br
		}
		c, br := ask("/continue")
		if resp, _ := read(t, br, http.MethodPost); resp.StatusCode != http.StatusContinue {
			t.Fatalf("%s: status %d", side, resp.StatusCode)
		}
		said <- struct{}{}
		send(t, c, "hello")
		if resp, body := read(t, br, http.MethodPost); resp.StatusCode != http.StatusOK || body != "hello" || resp.Close {
			t.Errorf("%s: status %d, %q", side, resp.StatusCode, body)
		}
		c, br = ask("/never")
		<-arrived
		send(t, c, "hello")
		if resp, body := read(t, br, http.MethodPost); resp.StatusCode != http.StatusOK || body != "hello" || resp.Close {
			t.Errorf("%s: status %d, %q, close %v", side, resp.StatusCode, body, resp.Close)
		}
		_, br = ask("/close")
		if resp, _ := read(t, br, http.MethodPost); resp.StatusCode != http.StatusServiceUnavailable || !resp.Close {
			t.Errorf("%s: status %d, close %v", side, resp.StatusCode, resp.Close)
		}
		if resp, _ := exchange(t, address, fielded("A: b")); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: then status %d", side, resp.StatusCode)
		}
		c, _ = ask("/never") // and leaves
		<-arrived
		_ = c.Close()
		if resp, _ := exchange(t, address, fielded("A: b")); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: then status %d", side, resp.StatusCode)
		}
	}
	_ = r
}

// TestRefusedAfterHead: what is refused after a HEAD has a body to its answer all the same.
func TestRefusedAfterHead(t *testing.T) {
	t.Parallel()
	_, addresses := both(t, upstream(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	for side, address := range addresses {
		c, br := dial(t, address)
		send(t, c, "HEAD / HTTP/1.1\r\n"+hostLine+"\r\n"+"GET\r\n\r\n")
		for _, want := range []struct {
			method string
			status int
		}{{http.MethodHead, http.StatusOK}, {http.MethodGet, http.StatusBadRequest}} {
			resp, err := http.ReadResponse(br, &http.Request{Method: want.method})
			if err != nil {
				t.Fatalf("%s: %v", side, err)
			}
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != want.status || err != nil || (len(body) > 0) != (want.method == http.MethodGet) {
				t.Errorf("%s: %d %q %v", side, resp.StatusCode, body, err)
			}
		}
	}
}
