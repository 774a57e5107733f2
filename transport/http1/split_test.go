package http1

import (
	"fmt"
	"strings"
	"testing"
)

// conversations are what one side of a connection may send. as is the method that responses answer, "" for requests.
func conversations() map[string]struct{ as, raw string } {
	big := strings.Repeat("B: "+strings.Repeat("b", 997)+"\r\n", 12) // more than a buffer
	all := map[string]struct{ as, raw string }{
		"requests":  {"", "\r\n" + get("A: b\r\nC:\t d ") + "POST /p?q HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello" + get("Connection: close")},
		"chunked":   {"", chunkedHead + "5;a=\"b\"\r\nhello\r\n6;c\r\n world\r\n0\r\nT: 1\r\nU: 2\r\n\r\n" + chunkedHead + "0\r\n\r\n" + get("A: b")},
		"responses": {"GET", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + ok("Content-Length: 5") + "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: v\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil close"},
		"tunnel":    {"CONNECT", ok("A: b")},
		"HEAD":      {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 \r\n\r\n"},
		"HTTP/1.0":  {"", "POST http://i/ HTTP/1.0\r\nContent-Length: 2\r\n\r\nok"},
		"large":     {"", get(big+"C: d") + "POST / HTTP/1.1\r\nHost: h\r\n" + big + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" + "T: v\r\n" + "\r\n" + get("A: b")},
	}
	for _, c := range refusedRequests {
		if len(c.raw) < 500 {
			all["request "+c.name+c.row] = struct{ as, raw string }{"", c.raw}
		}
	}
	for _, c := range refusedChunks {
		if len(c.raw) < 500 {
			all["chunks "+c.name+c.row] = struct{ as, raw string }{"", chunkedHead + c.raw}
		}
	}
	for _, c := range refusedResponses {
		if len(c.raw) < 500 {
			all["response "+c.name+c.row] = struct{ as, raw string }{"GET", c.raw}
		}
	}
	return all
}

// However a conversation is cut into reads, and however its bodies are read, it says the same.
func TestSplit(t *testing.T) {
	t.Parallel()
	for name, c := range conversations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := tell(whole(c.raw), c.as, byNext)
			check := func(how string, w *wire, read func(*Body) ([]byte, error)) {
				if got := tell(w, c.as, read); got != want {
					t.Fatalf("%s: it says\n%s\nwhole:\n%s", how, got, want)
				}
			}
			check("dripping", drip(c.raw), byNext)
			check("dripping, Read 1", drip(c.raw), byRead(1))
			check("dripping, Read 600", drip(c.raw), byRead(600))
			check("Read 1", whole(c.raw), byRead(1))
			check("Read 600", whole(c.raw), byRead(600))
			step := 1 + len(c.raw)/2000
			for i := 0; i <= len(c.raw); i += step {
				check(fmt.Sprintf("cut at %d", i), cut(c.raw, i), byNext)
				check(fmt.Sprintf("cut at %d, Read 600", i), cut(c.raw, i), byRead(600))
			}
		})
	}
}

// B-022: a conversation that ends at any byte ends in an error, and tells nothing that the whole does not.
func TestTruncation(t *testing.T) {
	t.Parallel()
	for name, c := range conversations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			step := 1 + len(c.raw)/2000
			want := tell(whole(c.raw), c.as, byNext)
			for i := 0; i < len(c.raw); i += step {
				got := tell(whole(c.raw[:i]), c.as, byNext)
				lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
				last := lines[len(lines)-1]
				if strings.Contains(c.raw[:i], "\r\n\r\nuntil") || strings.HasPrefix(lines[0], "200") && c.as == "CONNECT" {
					continue // the end of the connection is the end of the message
				}
				if !strings.HasPrefix(last, "error ") {
					t.Errorf("cut at %d it ends well:\n%s", i, got)
				}
				// Whole messages before the cut are told as they are.
				messages := strings.Count(got, "framing=")
				if whole := strings.Count(want, "framing="); messages > whole {
					t.Errorf("cut at %d it has %d messages of %d", i, messages, whole)
				}
			}
		})
	}
}

func tell(w *wire, as string, read func(*Body) ([]byte, error)) string {
	c := NewConn(w, nil)
	defer c.Close()
	return story(c, as, read)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	line := func(n int) string {
		return "GET /" + strings.Repeat("a", n-len("GET / HTTP/1.1")) + " HTTP/1.1\r\n" + host + "\r\n"
	}
	field := func(n int) string { return get("A:" + strings.Repeat("a", n-2)) }
	fields := func(n int) string { return get(strings.Repeat("A:\r\n", n-2) + "A:") }
	head := func(n int) string { return get("A:" + strings.Repeat("a", n-len(get("A:")))) }
	ext := func(n int) string { return chunkedHead + "0;" + strings.Repeat("a", n-1) + "\r\n\r\n" }
	trailer := func(n int) string {
		return chunkedHead + "0\r\nA:" + strings.Repeat("a", n-len("A:\r\n\r\n")) + "\r\n\r\n"
	}
	empty := func(n int) string { return strings.Repeat("\r\n", n) + get("A:") }
	for _, c := range []struct {
		name    string
		limits  Limits
		message func(int) string
		most    int
		rule    string
	}{
		{"Line, default", Limits{}, line, 8 << 10, "Limits.Line"},
		{"Line", Limits{Line: 40}, line, 40, "Limits.Line"},
		{"Field, default", Limits{}, field, 32 << 10, "Limits.Field"},
		{"Field", Limits{Field: 40}, field, 40, "Limits.Field"},
		{"Fields, default", Limits{}, fields, 100, "Limits.Fields"},
		{"Fields", Limits{Fields: 5}, fields, 5, "Limits.Fields"},
		{"Head, default", Limits{Field: 1 << 20}, head, 64 << 10, "Limits.Head"},
		{"Head", Limits{Head: 100}, head, 100, "Limits.Head"},
		{"Head, most", Limits{Head: 1 << 20, Field: 1 << 20}, head, 128<<10 - 1, "Limits.Head"},
		{"ChunkExtension, default", Limits{}, ext, 4 << 10, "Limits.ChunkExtension"},
		{"ChunkExtension", Limits{ChunkExtension: 10}, ext, 10, "Limits.ChunkExtension"},
		{"Trailer, default", Limits{}, trailer, 8 << 10, "Limits.Trailer"},
		{"Trailer, most", Limits{Trailer: 1 << 20, Field: 1 << 20}, trailer, 64 << 10, "Limits.Trailer"},
		{"EmptyLines, default", Limits{}, empty, 1, "Limits.EmptyLines"},
		{"EmptyLines, none", Limits{EmptyLines: -1}, empty, 0, "Limits.EmptyLines"},
		{"EmptyLines", Limits{EmptyLines: 3}, empty, 3, "Limits.EmptyLines"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			try := func(w *wire) string {
				conn := NewConn(w, &c.limits)
				defer conn.Close()
				return story(conn, "", byNext)
			}
			within, beyond := c.message(c.most), c.message(c.most+1)
			if got := try(whole(within)); !strings.Contains(got, "framing=") || !strings.HasSuffix(got, "error EOF\n") {
				t.Errorf("at the limit: %.300s", got)
			}
			for i, w := range []*wire{whole(beyond), drip(beyond), cut(beyond, len(beyond)/2)} {
				if got := try(w); !strings.Contains(got, "("+c.rule+")") {
					t.Errorf("beyond the limit, way %d: %.300s", i, got)
				}
			}
		})
	}
}
