package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestDesync hunts for a request that client, sidecar and endpoint see differently: mutated requests, each followed by an
// ordinary one on the same connection. What the client is answered must be what the endpoint saw, one for one and in
// order; nothing within a body is ever a request. HEDDLE_DESYNC sets how many there are.
func TestDesync(t *testing.T) {
	t.Parallel()
	n := 4000
	if v, err := strconv.Atoi(os.Getenv("HEDDLE_DESYNC")); err == nil {
		n = v
	} else if testing.Short() || raceEnabled {
		n = 400
	}
	var mu sync.Mutex
	var seen []string
	up := raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			id := req.URL.Path + req.Header.Get("X-Id")
			mu.Lock()
			seen = append(seen, id)
			mu.Unlock()
			if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Seen: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(id), id); err != nil {
				return
			}
		}
	})
	_, addresses := both(t, up)
	src := rand.New(rand.NewPCG(3, 4))
	pick := func(from ...string) string { return from[src.IntN(len(from))] }
	const inner = "GET /inner HTTP/1.1\r\nHost: reviews\r\n\r\n"
	canBegin := regexp.MustCompile(`\r\n\r\n[^ ]* /inner`) // where the head, or a body of no chunks, has ended
	answered := 0
	for i := range n {
		body := pick("", "hello", inner, "5\r\nhello\r\n0\r\n\r\n", "0\r\n\r\n"+inner, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(inner), inner), "5;x=\"\r\n\"\r\nhello\r\n0\r\n\r\n")
		length := strconv.Itoa(len(body))
		framing := ""
		for range 1 + src.IntN(2) {
			framing += pick("Content-Length: "+length, "Content-Length: "+length, "Content-Length: 0", "Content-Length: +"+length, "Content-Length: "+length+",0",
				"Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "Transfer-Encoding: Chunked", "Transfer-Encoding:\tchunked", "Transfer-Encoding: chunked, identity",
				"Transfer-Encoding: x", "Transfer-Encoding : chunked", "Transfer_Encoding: chunked", "X: y", "Connection: content-length", "Connection: transfer-encoding",
				"Content-Length: 0x5", "Content-Length:", "Expect: 100-continue", "Upgrade: websocket\r\nConnection: upgrade") + pick("\r\n", "\r\n", "\r\n", "\n", "\r\n ", "\r")
		}
		if src.IntN(2) == 0 { // one that is sound but for the byte below
			framing = "Content-Length: " + length + "\r\n"
			if src.IntN(2) == 0 {
				framing, body = "Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(inner), inner)
			}
		}
		first := pick("GET", "POST", "PUT", "HEAD", "OPTIONS") + " /first" + pick("", "", "", "?", "?x", "#", " ") + " HTTP/1." + pick("1", "1", "1", "1", "1", "1", "0", "2") + "\r\nHost: reviews\r\nX-Id: " + strconv.Itoa(i) + "\r\n" + framing + "\r\n" + body
		if src.IntN(4) == 0 { // one byte changed, gone or twice
			at := src.IntN(len(first))
			first = first[:at] + pick("", string(rune(src.IntN(128))), first[at:at+1]+first[at:at+1]) + first[at+1:]
		}
		mu.Lock()
		seen = nil
		mu.Unlock()
		var got []string
		for _, side := range []string{"outbound", "inbound"} {
			c, err := net.Dial("tcp", addresses[side])
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = io.WriteString(c, first+"GET /second HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n")
			_ = c.(*net.TCPConn).CloseWrite()
			all, _ := io.ReadAll(c)
			_ = c.Close()
			for _, part := range strings.Split(string(all), "X-Seen: ")[1:] {
				id, _, _ := strings.Cut(part, "\r\n")
				got = append(got, id)
			}
			mu.Lock()
			saw := slices.Clone(seen)
			mu.Unlock()
			// The client ends its half at once, so that an answer may be lost with the connection, but none is invented.
			if len(got) > len(saw) || !slices.Equal(got, saw[:len(got)]) {
				t.Fatalf("%s: the client got %q, the endpoint saw %q, of %q", side, got, saw, first)
			}
			if slices.Contains(saw, "/inner") && !canBegin.MatchString(first) {
				t.Fatalf("%s: a body became a request: %q", side, first)
			}
			answered += len(got)
			got = nil
			mu.Lock()
			seen = nil
			mu.Unlock()
		}
	}
	if answered == 0 {
		t.Error("nothing was answered")
	}
	t.Logf("%d answers", answered)
}
