package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// refusedChunks are chunked bodies that break RFC 9112 §7.1 or a limit.
var refusedChunks = []struct {
	row, name string
	status    int
	rule      string
	raw       string
}{
	{"B-020", "bare LF after the size", 400, "RFC 9112 §2.2", "1\na\r\n0\r\n\r\n"},
	{"B-020", "bare CR after the size", 400, "RFC 9112 §2.2", "1\ra\r\n0\r\n\r\n"},
	{"B-020", "0x", 400, "RFC 9112 §7.1", "0x1\r\na\r\n0\r\n\r\n"},
	{"B-020", "plus", 400, "RFC 9112 §7.1", "+1\r\na\r\n0\r\n\r\n"},
	{"B-020", "minus", 400, "RFC 9112 §7.1", "-1\r\na\r\n0\r\n\r\n"},
	{"B-020", "space before", 400, "RFC 9112 §7.1", " 1\r\na\r\n0\r\n\r\n"},
	{"B-020", "space behind", 400, "RFC 9112 §7.1", "1 \r\na\r\n0\r\n\r\n"},
	{"B-020", "tab behind", 400, "RFC 9112 §7.1", "1\t\r\na\r\n0\r\n\r\n"},
	{"B-020", "17 digits", 400, "RFC 9112 §7.1", "00000000000000001\r\na\r\n0\r\n\r\n"},
	{"B-020", "overflow", 400, "RFC 9112 §7.1", "FFFFFFFFFFFFFFFF\r\na\r\n0\r\n\r\n"},
	{"B-020", "sign bit", 400, "RFC 9112 §7.1", "8000000000000000\r\na\r\n0\r\n\r\n"},
	{"B-020", "empty", 400, "RFC 9112 §7.1", "\r\na\r\n0\r\n\r\n"},
	{"B-020", "only an extension", 400, "RFC 9112 §7.1", ";a\r\na\r\n0\r\n\r\n"},
	{"B-020", "data not followed by CRLF", 400, "RFC 9112 §7.1", "1\r\nZXX\r\n0\r\n\r\n"},
	{"B-020", "data followed by LF", 400, "RFC 9112 §7.1", "1\r\na\n0\r\n\r\n"},
	{"B-020", "data followed by CR and no LF", 400, "RFC 9112 §7.1", "1\r\na\r0\r\n\r\n"},
	{"B-020", "data followed by CR and another byte", 400, "RFC 9112 §7.1", "1\r\na\rX0\r\n\r\n"},
	{"B-020", "underscore", 400, "RFC 9112 §7.1", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n"},
	{"B-021", "LF in an extension", 400, "RFC 9112 §2.2", "1;a\nb\r\na\r\n0\r\n\r\n"},
	{"B-021", "CR in an extension", 400, "RFC 9112 §2.2", "1;a\rb\r\na\r\n0\r\n\r\n"},
	{"B-021", "CR in a quoted extension", 400, "RFC 9112 §2.2", "1;a=\"\r\"\r\na\r\n0\r\n\r\n"},
	{"B-021", "LF in a quoted extension", 400, "RFC 9112 §2.2", "1;a=\"\n\"\r\na\r\n0\r\n\r\n"},
	{"B-021", "NUL in an extension", 400, "RFC 9112 §7.1.1", "1;a\x00\r\na\r\n0\r\n\r\n"},
	{"B-021", "extension without a name", 400, "RFC 9112 §2.2", "1;\r\na\r\n0\r\n\r\n"},
	{"B-021", "extension without a value", 400, "RFC 9112 §2.2", "1;a=\r\na\r\n0\r\n\r\n"},
	{"B-021", "space before an extension", 400, "RFC 9112 §7.1", "1 ;a\r\na\r\n0\r\n\r\n"},
	{"B-021", "space in an extension", 400, "RFC 9112 §7.1.1", "1; a\r\na\r\n0\r\n\r\n"},
	{"B-021", "text after a quoted value", 400, "RFC 9112 §7.1.1", "1;a=\"b\"c\r\na\r\n0\r\n\r\n"},
	{"B-021", "1 MB extension", 400, "Limits.ChunkExtension", "1;" + strings.Repeat("a", 1<<20) + "\r\na\r\n0\r\n\r\n"},
	{"B-021", "many small extensions", 400, "Limits.ChunkExtension", strings.Repeat("1;a\r\na\r\n", 2100) + "0\r\n\r\n"},
	{"B-022", "CR without LF at the end", 400, "RFC 9112 §2.2", "0\r\n\rX"},
	{"B-024", "bare LF at the end", 400, "RFC 9112 §2.2", "0\r\n\n"},
	{"B-024", "Content-Length", 400, "RFC 9110 §6.5.1", "0\r\nContent-Length: 5\r\n\r\n"},
	{"B-024", "Transfer-Encoding", 400, "RFC 9110 §6.5.1", "0\r\nA: b\r\ntransfer-encoding: chunked\r\n\r\n"},
	{"B-024", "Host", 400, "RFC 9110 §6.5.1", "0\r\nHost: h\r\n\r\n"},
	{"B-024", "Connection", 400, "RFC 9110 §6.5.1", "0\r\nConnection: close\r\n\r\n"},
	{"B-024", "fold", 400, "RFC 9112 §5.2", "0\r\nA: b\r\n c\r\n\r\n"},
	{"B-024", "folded first line", 400, "RFC 9112 §5.2", "0\r\n A: b\r\n\r\n"},
	{"B-024", "no colon", 400, "RFC 9112 §5", "0\r\nGET / HTTP/1.1\r\n\r\n"},
	{"B-024", "10,000 fields", 431, "Limits.Fields", "0\r\n" + strings.Repeat("A:\r\n", 10000) + "\r\n"},
	{"B-024", "1 MB", 431, "Limits.Trailer", "0\r\nA: " + strings.Repeat("b", 1<<20) + "\r\n\r\n"},
}

const chunkedHead = "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n"

func TestChunksRefused(t *testing.T) {
	t.Parallel()
	for _, c := range refusedChunks {
		t.Run(c.row+" "+c.name, func(t *testing.T) {
			t.Parallel()
			for name, read := range map[string]func(*Body) ([]byte, error){"Next": byNext, "Read 1": byRead(1), "Read 4096": byRead(4096)} {
				q, conn, err := request(t, chunkedHead+c.raw)
				if err != nil {
					t.Fatal(err)
				}
				_, err = read(&q.Body)
				wantError(t, err, c.status, c.rule)
				if q.Body.Done() || q.Body.Trailer().Len() != 0 || conn.ReadRequest(new(Request)) == nil {
					t.Errorf("%s: done %t, %d trailer fields", name, q.Body.Done(), q.Body.Trailer().Len())
				}
			}
		})
	}
}

func TestChunks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, raw, body, trailer, left string }{
		{"empty", "0\r\n\r\n", "", "", ""},
		{"zeros", "000\r\n\r\n", "", "", ""},
		{"two", "1\r\na\r\n002\r\nbc\r\n0\r\n\r\n", "abc", "", ""},
		{"either case", "a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n", "01234567890123456789a", "", ""},
		{"extension forms", "1;a=b;c=\"d;\\\"\t\xff\";e\r\na\r\n0;f\r\n\r\n", "a", "", ""},
		{"data that looks like framing", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n", "", ""},
		{"trailers", "1\r\na\r\n0\r\nX: 1\r\ny:2 \r\n\r\n", "a", "X=1;y=2;", ""},
		{"a pipelined request", "1\r\na\r\n0\r\n\r\nGET ", "a", "", "GET "},
		{"trailers and a pipelined request", "0\r\nX: 1\r\n\r\nGET / HTTP/1.1\r\n", "", "X=1;", "GET / HTTP/1.1\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for name, read := range map[string]func(*Body) ([]byte, error){"Next": byNext, "Read 1": byRead(1), "Read 4096": byRead(4096)} {
				q, conn, err := request(t, chunkedHead+c.raw)
				if err != nil {
					t.Fatal(err)
				}
				body, err := read(&q.Body)
				var trailer string
				for i := range q.Body.Trailer().Len() {
					trailer += q.Body.Trailer().Name(i) + "=" + q.Body.Trailer().Value(i) + ";"
				}
				if err != nil || string(body) != c.body || trailer != c.trailer || string(conn.Buffered()) != c.left {
					t.Errorf("%s: %q, %v, trailer %q, left %q", name, body, err, trailer, conn.Buffered())
				}
				if q.Method() != "POST" || q.Authority() != "h" {
					t.Errorf("%s: the head has changed: %s %s", name, q.Method(), q.Authority())
				}
			}
		})
	}
}

// Bodies of many sizes and chunkings, followed by a request, over every kind of connection, by every way to read.
func TestBodies(t *testing.T) {
	t.Parallel()
	const next = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, size := range []int{0, 1, 511, 512, 8191, 8192, 8193, 40000, maxBuffer - 1, maxBuffer, maxBuffer + 1, 400000} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i*7 + i>>8)
		}
		messages := map[string]string{
			"sized": fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", size, data),
		}
		for _, chunk := range []int{1, 100, 8192, 100000} {
			if chunk == 1 && size > 8193 {
				continue
			}
			var s strings.Builder
			s.WriteString(chunkedHead)
			for at := 0; at < size; at += chunk {
				piece := data[at:min(size, at+chunk)]
				fmt.Fprintf(&s, "%x;e\r\n%s\r\n", len(piece), piece)
				if at/chunk > 1000 {
					break
				}
			}
			if s.Len() > len(chunkedHead)+size {
				s.WriteString("0\r\nT: v\r\n\r\n")
				messages[fmt.Sprintf("chunks of %d", chunk)] = s.String()
			}
		}
		for name, m := range messages {
			for _, dial := range []struct {
				name string
				pair func(testing.TB) (net.Conn, net.Conn)
			}{{"unix", unixPair}, {"pipe", pipePair}} {
				t.Run(fmt.Sprintf("%s of %d over %s", name, size, dial.name), func(t *testing.T) {
					t.Parallel()
					limits := &Limits{ChunkExtension: 1 << 20}
					for way, read := range map[string]func(*Body) ([]byte, error){"Next": byNext, "Next 128K": byNext128, "Read 100": byRead(100), "Read 8K": byRead(8192), "Read 1M": byRead(1 << 20)} {
						a, b := dial.pair(t)
						go func() {
							_, _ = io.WriteString(a, m+next)
							_ = a.Close()
						}()
						c := NewConn(b, limits)
						var q Request
						if err := c.ReadRequest(&q); err != nil {
							t.Fatal(err)
						}
						body, err := read(&q.Body)
						if err != nil || !bytes.Equal(body, data) {
							t.Errorf("%s: %d bytes, %v", way, len(body), err)
						}
						if err := c.ReadRequest(&q); err != nil || q.Path() != "/next" {
							t.Errorf("%s: the next request is %q, %v", way, q.Path(), err)
						}
						if err := c.WaitReadable(); !errors.Is(err, io.EOF) {
							t.Errorf("%s: at the end %v", way, err)
						}
						_ = c.Close()
					}
				})
			}
		}
	}
}

func byNext128(b *Body) ([]byte, error) {
	var all []byte
	for {
		piece, err := b.Next(1 << 20)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, piece...)
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, raw string
		limit     int64
		want      bool
	}{
		{"sized within", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello", 5, true},
		{"sized beyond", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello", 4, false},
		{"none", get("A: b"), 0, true},
		{"chunked within", chunkedHead + "5\r\nhello\r\n0\r\n\r\n", 10, true},
		{"chunked beyond", chunkedHead + strings.Repeat("2000\r\n"+strings.Repeat("a", 0x2000)+"\r\n", 100) + "0\r\n\r\n", 20000, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q, _, err := request(t, c.raw)
			if err != nil {
				t.Fatal(err)
			}
			if done, err := q.Body.Drain(c.limit); done != c.want || err != nil || q.Body.Done() != c.want {
				t.Errorf("%t, %v", done, err)
			}
		})
	}
	q, _, _ := request(t, "POST / HTTP/1.1\r\n"+host+"Content-Length: 5\r\n\r\nhell")
	if done, err := q.Body.Drain(5); done || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut short: %t, %v", done, err)
	}
}

// What is not in the buffer may be taken from the socket, and nothing else.
func TestDirect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		head, body string
		direct     int64
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "hello", 5},
		{"HTTP/1.1 200 OK\r\n\r\n", "hello", -1},
	} {
		a, b := unixPair(t)
		_, _ = io.WriteString(a, c.head+c.body)
		cn := conn(t, b, nil)
		var p Response
		if err := cn.ReadResponse(&p, "GET"); err != nil {
			t.Fatal(err)
		}
		if p.Body.Direct() != 0 || p.Body.Buffered() != 5 {
			t.Errorf("direct %d with %d buffered", p.Body.Direct(), p.Body.Buffered())
		}
		piece, err := p.Body.Next(0)
		if err != nil || string(piece) != "hello" || p.Body.Direct() != c.direct {
			t.Fatalf("%q, %v, direct %d", piece, err, p.Body.Direct())
		}
		if err := p.Body.Took(5, c.direct < 0); err != nil || !p.Body.Done() || p.Body.Direct() != 0 {
			t.Errorf("%v, done %t", err, p.Body.Done())
		}
		_ = a.Close()
	}
	a, b := unixPair(t)
	defer a.Close()
	_, _ = io.WriteString(a, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
	cn := conn(t, b, nil)
	var p Response
	if err := cn.ReadResponse(&p, "GET"); err != nil {
		t.Fatal(err)
	}
	if err := p.Body.Took(9, true); !errors.Is(err, io.ErrUnexpectedEOF) || p.Body.Done() {
		t.Errorf("cut short: %v", err)
	}
}

// Where Alive cannot look beneath, the read of a body's last byte asks for what comes with it.
func TestBytesBehind(t *testing.T) {
	t.Parallel()
	const size = 600
	head, body := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size), strings.Repeat("a", size)
	for _, piece := range []int{1, 511, 512, size - 1, size, size + 1, 2 * size} {
		c := conn(t, &wire{in: [][]byte{[]byte(head), []byte(body + "HTTP/1.1 200 OK\r\n")}}, nil)
		var p Response
		if err := c.ReadResponse(&p, "GET"); err != nil {
			t.Fatal(err)
		}
		got, err := byRead(piece)(&p.Body)
		if err != nil || string(got) != body || len(c.Buffered()) == 0 {
			t.Errorf("Read %d: %d bytes, %v, %q behind them", piece, len(got), err, c.Buffered())
		}
	}
}

func TestRemaining(t *testing.T) {
	t.Parallel()
	q, _, err := request(t, "POST / HTTP/1.1\r\n"+host+"Content-Length: 5\r\n\r\nhello")
	if err != nil || q.Body.Remaining() != 5 {
		t.Fatalf("%v, %d", err, q.Body.Remaining())
	}
	var p [2]byte
	if n, err := q.Body.Read(p[:]); n != 2 || err != nil || q.Body.Remaining() != 3 || q.Body.Buffered() != 3 {
		t.Errorf("%d, %v, %d", n, err, q.Body.Remaining())
	}
	if n, err := q.Body.Read(nil); n != 0 || err != nil {
		t.Errorf("into nothing: %d, %v", n, err)
	}
	q, _, _ = request(t, chunkedHead+"0\r\n\r\n")
	if q.Body.Remaining() != -1 || q.Body.Length() != -1 {
		t.Errorf("chunked: %d, %d", q.Body.Remaining(), q.Body.Length())
	}
	if _, err := q.Body.Next(0); !errors.Is(err, io.EOF) || q.Body.Remaining() != 0 {
		t.Errorf("at the end: %v, %d", err, q.Body.Remaining())
	}
}

// unixPair gives two ends of a Unix socket; the first and the second are closed with the test at the latest.
func unixPair(t testing.TB) (net.Conn, net.Conn) { return socketPair(t, "unix", t.TempDir()+"/s") }
func tcpPair(t testing.TB) (net.Conn, net.Conn)  { return socketPair(t, "tcp", "127.0.0.1:0") }

func socketPair(t testing.TB, network, addr string) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

func pipePair(t testing.TB) (net.Conn, net.Conn) {
	a, b := net.Pipe()
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}
