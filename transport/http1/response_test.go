package http1

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// refusedResponses are responses that break a rule; all of them make a 502.
var refusedResponses = []struct{ row, name, rule, raw string }{
	{"B-090", "CL and TE", "RFC 9112 §6.3", ok("Content-Length: 5\r\nTransfer-Encoding: chunked")},
	{"B-090", "two lengths", "RFC 9112 §6.3", ok("Content-Length: 5\r\nContent-Length: 6")},
	{"B-090", "the same length twice", "RFC 9112 §6.3", ok("Content-Length: 5\r\nContent-Length: 5")},
	{"B-090", "length list", "RFC 9110 §8.6", ok("Content-Length: 5, 5")},
	{"B-090", "unknown coding", "RFC 9112 §6.1", ok("Transfer-Encoding: gzip, chunked")},
	{"B-090", "gzip alone", "RFC 9112 §6.1", ok("Transfer-Encoding: gzip")},
	{"B-090", "TE junk", "RFC 9112 §6.1", ok("Transfer-Encoding: chunked;a")},
	{"B-090", "TE in HTTP/1.0", "RFC 9112 §6.1", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"B-090", "204 with chunks", "RFC 9112 §6.1", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{"B-090", "204 with a length", "RFC 9112 §6.1", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"},
	{"B-090", "103 with a length", "RFC 9112 §6.1", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello"},
	{"B-090", "304 with two lengths", "RFC 9112 §6.3", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"},
	{"B-091", "099", "RFC 9110 §15", "HTTP/1.1 099 No\r\n\r\n"},
	{"B-091", "20", "RFC 9112 §4", "HTTP/1.1 20 No\r\n\r\n"},
	{"B-091", "999", "RFC 9110 §15", "HTTP/1.1 999 No\r\n\r\n"},
	{"B-091", "600", "RFC 9110 §15", "HTTP/1.1 600 No\r\n\r\n"},
	{"B-091", "1000", "RFC 9112 §4", "HTTP/1.1 1000 No\r\n\r\n"},
	{"B-091", "HTTP/1.1200", "RFC 9112 §4", "HTTP/1.1200 OK\r\n\r\n"},
	{"B-091", "no space after the code", "RFC 9112 §4", "HTTP/1.1 200\r\n\r\n"},
	{"B-091", "no code", "RFC 9112 §4", "HTTP/1.1  OK and more\r\n\r\n"},
	{"B-091", "sign in the code", "RFC 9112 §4", "HTTP/1.1 +20 OK\r\n\r\n"},
	{"B-091", "reason of 100,000 bytes", "Limits.Line", "HTTP/1.1 200 " + strings.Repeat("a", 100000) + "\r\n\r\n"},
	{"B-091", "control character in the reason", "RFC 9112 §4", "HTTP/1.1 200 O\x00K\r\n\r\n"},
	{"B-091", "bare CR in the reason", "RFC 9112 §4", "HTTP/1.1 200 O\rK\r\n\r\n"},
	{"B-091", "HTTP/2.0", "RFC 9110 §15.6.6", "HTTP/2.0 200 OK\r\n\r\n"},
	{"B-091", "HTTP/1.2", "RFC 9110 §15.6.6", "HTTP/1.2 200 OK\r\n\r\n"},
	{"B-091", "ICY", "RFC 9112 §4", "ICY 200 OK\r\n\r\n"},
	{"B-091", "two spaces", "RFC 9112 §4", "HTTP/1.1  200 OK\r\n\r\n"},
	{"B-091", "empty line before", "RFC 9112 §4", "\r\nHTTP/1.1 200 OK\r\n\r\n"},
	{"B-091", "bare LF", "RFC 9112 §2.2", "HTTP/1.1 200 OK\n\n"},
	{"B-094", "space in a name", "RFC 9112 §5.1", ok("A b: c")},
	{"B-094", "fold", "RFC 9112 §5.2", ok("A: b\r\n c")},
	{"B-094", "NUL", "RFC 9110 §5.5", ok("A: \x00")},
	{"B-094", "bare CR", "RFC 9112 §2.2", ok("A: b\rSet-Cookie: c")},
	{"B-094", "10 MB", "Limits.Field", ok("A: " + strings.Repeat("a", 10<<20))},
	{"B-094", "10,000 cookies", "Limits.Fields", ok(strings.Repeat("Set-Cookie: a=b\r\n", 10000) + "A: b")},
}

func ok(lines string) string { return "HTTP/1.1 200 OK\r\n" + lines + "\r\n\r\nhello" }

func TestResponseRefused(t *testing.T) {
	t.Parallel()
	for _, c := range refusedResponses {
		t.Run(c.row+" "+c.name, func(t *testing.T) {
			t.Parallel()
			_, conn, err := response(t, c.raw, "GET")
			wantError(t, err, 502, c.rule)
			if conn.Alive() {
				t.Error("the connection could be used again")
			}
		})
	}
}

// RFC 9112 §6.3, in its order.
func TestResponseFraming(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, method, raw string
		framing           Framing
		length            int64
		body              string
		persist, tunnel   bool
		left              string // what stays in the connection
	}{
		{"HEAD has none", "HEAD", ok("Content-Length: 5"), NoBody, 5, "", true, false, "hello"},
		{"HEAD, chunked", "HEAD", ok("Transfer-Encoding: chunked"), NoBody, -1, "", true, false, "hello"},
		{"304 has none", "GET", "HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\nhello", NoBody, 5, "", true, false, "hello"},
		{"204 has none", "GET", "HTTP/1.1 204 \r\n\r\nhello", NoBody, -1, "", true, false, "hello"},
		{"204 with a length of 0", "GET", "HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n", NoBody, 0, "", true, false, ""},
		{"103 has none", "GET", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP", NoBody, -1, "", true, false, "HTTP"},
		{"101", "GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00", NoBody, -1, "", false, true, "\x81\x00"},
		{"2xx to CONNECT", "CONNECT", ok("Content-Length: 5\r\nTransfer-Encoding: chunked"), NoBody, -1, "", false, true, "hello"},
		{"403 to CONNECT", "CONNECT", "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nhello", Sized, 5, "hello", true, false, ""},
		{"length", "GET", ok("Content-Length: 4"), Sized, 4, "hell", true, false, "o"},
		{"length of 0", "GET", ok("Content-Length: 0"), NoBody, 0, "", true, false, "hello"},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nH", Chunked, -1, "hello", true, false, "H"},
		{"until close", "GET", ok("A: b"), UntilClose, -1, "hello", false, false, ""},
		{"empty until close", "GET", "HTTP/1.1 200 OK\r\n\r\n", UntilClose, -1, "", false, false, ""},
		{"Connection: close", "GET", ok("Content-Length: 5\r\nConnection: close"), Sized, 5, "hello", false, false, ""},
		{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", Sized, 5, "hello", false, false, ""},
		{"HTTP/1.0 that stays", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", Sized, 5, "hello", true, false, ""},
		{"HTTP/1.0 until close", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello", UntilClose, -1, "hello", false, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, conn, err := response(t, c.raw, c.method)
			if err != nil {
				t.Fatal(err)
			}
			body, err := byNext(&p.Body)
			if err != nil || string(body) != c.body || p.Body.Framing() != c.framing || p.Body.Length() != c.length || !p.Body.Done() {
				t.Errorf("%q, %v, framing %d, length %d, done %t", body, err, p.Body.Framing(), p.Body.Length(), p.Body.Done())
			}
			if p.Persistent() != c.persist || p.Tunnel() != c.tunnel {
				t.Errorf("persistent %t, tunnel %t", p.Persistent(), p.Tunnel())
			}
			if got := string(conn.Buffered()); got != c.left {
				t.Errorf("%q is left, not %q", got, c.left)
			}
			conn.Discard(1)
			if want := c.left[min(1, len(c.left)):]; string(conn.Buffered()) != want {
				t.Errorf("%q is left after Discard", conn.Buffered())
			}
		})
	}
}

func TestStatusLine(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]struct {
		status int
		reason string
		minor  int
	}{
		"HTTP/1.1 200 OK\r\n\r\n":             {200, "OK", 1},
		"HTTP/1.0 599 \r\n\r\n":               {599, "", 0},
		"HTTP/1.1 100 a\tb  \xff \r\n\r\n":    {100, "a\tb  \xff ", 1},
		"HTTP/1.1 404  two spaces in\r\n\r\n": {404, " two spaces in", 1},
	} {
		p, _, err := response(t, raw, "GET")
		if err != nil || p.Status() != want.status || p.Reason() != want.reason || p.Minor() != want.minor {
			t.Errorf("%q: %d %q %d, %v", raw, p.Status(), p.Reason(), p.Minor(), err)
		}
	}
}

// B-093: 1xx are heads like others; the caller counts them.
func TestInformational(t *testing.T) {
	t.Parallel()
	c := conn(t, whole(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", 20)+ok("Content-Length: 5")), nil)
	var p Response
	for i := range 20 {
		if err := c.ReadResponse(&p, "GET"); err != nil || p.Status() != 103 || !p.Body.Done() {
			t.Fatalf("%d: %d, %v", i, p.Status(), err)
		}
	}
	if err := c.ReadResponse(&p, "GET"); err != nil || p.Status() != 200 {
		t.Fatalf("%d, %v", p.Status(), err)
	}
	if c.final != 1 {
		t.Errorf("%d final responses are counted", c.final)
	}
	if err := c.ReadResponse(&p, "GET"); !errors.Is(err, errOpen) {
		t.Errorf("before the body's end: %v", err)
	}
}

func TestResponseEnds(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]error{"": io.EOF, "H": io.ErrUnexpectedEOF, "HTTP/1.1 200 OK\r\n": io.ErrUnexpectedEOF} {
		if _, _, err := response(t, raw, "GET"); !errors.Is(err, want) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// What was read before stays readable when the connection reads on.
func TestResponseOwn(t *testing.T) {
	t.Parallel()
	a, b := tcpPair(t)
	c := NewConn(b, nil)
	defer c.Close()
	var p Response
	_, _ = io.WriteString(a, "HTTP/1.1 404 Not  Found\r\nX-A: one\r\nx-b:\ttwo \r\nContent-Length: 0\r\n\r\n")
	if err := c.ReadResponse(&p, "GET"); err != nil {
		t.Fatal(err)
	}
	p.Own()
	line, name, value := p.StatusLine(), p.Name(1), p.Value(1)
	c.Release()
	_, _ = io.WriteString(a, "HTTP/1.1 200 Other\r\nY-Y: 1\r\nyyyy:\t222 \r\nContent-Length: 0\r\n\r\n")
	var q Response
	if err := c.ReadResponse(&q, "GET"); err != nil {
		t.Fatal(err)
	}
	if line != "404 Not  Found" || name != "x-b" || value != "two" || p.Reason() != "Not  Found" {
		t.Errorf("%q %q %q %q", line, name, value, p.Reason())
	}
}
