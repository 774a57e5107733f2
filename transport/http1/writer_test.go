package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// B-037, B-094: what could end a line or a head is refused, and nothing of that head is sent.
func TestInjection(t *testing.T) {
	t.Parallel()
	q, _, err := request(t, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nA: b\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	field := func(name, value string) func(*Writer) {
		return func(w *Writer) {
			w.Response(200, "OK", "GET")
			w.Field("A", "b")
			w.Field(name, value)
		}
	}
	for name, write := range map[string]func(*Writer){
		"CRLF in a value":     field("A", "b\r\nSet-Cookie: c"),
		"LF in a value":       field("A", "b\nc"),
		"CR in a value":       field("A", "b\rc"),
		"NUL in a value":      field("A", "b\x00"),
		"DEL in a value":      field("A", "12345678\x7f"),
		"CRLF in a name":      field("A\r\nB", "c"),
		"space in a name":     field("A ", "c"),
		"colon in a name":     field("A:", "c"),
		"high byte in name":   field("A\x80", "c"),
		"empty name":          field("", "c"),
		"long name":           field(strings.Repeat("a", 257), "c"),
		"Content-Length":      field("content-LENGTH", "1"),
		"Transfer-Encoding":   field("Transfer-Encoding", "chunked"),
		"copied framing":      func(w *Writer) { w.Request("GET", "/"); w.Copy(&q.Fields, 1) },
		"reason":              func(w *Writer) { w.Response(200, "OK\r\nA: b", "GET") },
		"status 99":           func(w *Writer) { w.Response(99, "", "GET") },
		"status 600":          func(w *Writer) { w.Response(600, "", "GET") },
		"method with space":   func(w *Writer) { w.Request("GET /", "/") },
		"no method":           func(w *Writer) { w.Request("", "/") },
		"target with space":   func(w *Writer) { w.Request("GET", "/ HTTP/1.1") },
		"target with CRLF":    func(w *Writer) { w.Request("GET", "/\r\n") },
		"target beyond":       func(w *Writer) { w.Request("GET", "/\xff") },
		"no target":           func(w *Writer) { w.Request("GET", "") },
		"negative length":     func(w *Writer) { w.Response(200, "", "GET"); w.Length(-1) },
		"two framings":        func(w *Writer) { w.Response(200, "", "GET"); w.Length(1); w.Chunked() },
		"request until close": func(w *Writer) { w.Request("POST", "/"); w.UntilClose() },
		"two heads":           func(w *Writer) { w.Request("POST", "/"); w.Request("POST", "/") },
		"head too large": func(w *Writer) {
			w.Request("POST", "/")
			for range 5 {
				w.Field("A", strings.Repeat("a", 30000))
			}
		},
		"head far too large":  func(w *Writer) { w.Request("POST", "/"); w.Field("A", strings.Repeat("a", 1<<20)) },
		"field without head":  func(w *Writer) { w.Field("A", "b") },
		"copy without head":   func(w *Writer) { w.Copy(&q.Fields, 0) },
		"length without head": func(w *Writer) { w.Length(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := whole("")
			var w Writer
			defer w.Release()
			w.Reset(conn(t, out, nil))
			write(&w)
			var e *Error
			if err := w.End(); !errors.As(err, &e) || e.Status != 500 {
				t.Errorf("End says %v", err)
			}
			for what, err := range map[string]error{"Flush": w.Flush(), "Finish": w.Finish([]byte("x"))} {
				if !errors.As(err, &e) {
					t.Errorf("%s says %v", what, err)
				}
			}
			if n, err := w.Write([]byte("x")); n != 0 || err == nil {
				t.Errorf("Write says %d, %v", n, err)
			}
			if out.out.Len() != 0 || w.Sent() != 0 {
				t.Errorf("sent %q", out.out.String())
			}
		})
	}
}

func TestBodyRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		write func(w *Writer) error
		want  error
	}{
		{"more than its length", func(w *Writer) error { w.Request("POST", "/"); w.Length(1); return w.Finish([]byte("ab")) }, errWriteLong},
		{"less than its length", func(w *Writer) error { w.Request("POST", "/"); w.Length(2); return w.Finish([]byte("a")) }, errWriteShort},
		{"body of a GET without framing", func(w *Writer) error { w.Request("GET", "/"); return w.Finish([]byte("a")) }, errWriteBody},
		{"body of HEAD", func(w *Writer) error { w.Response(200, "", "HEAD"); w.Length(1); return w.Finish([]byte("a")) }, errWriteBody},
		{"body of 204", func(w *Writer) error { w.Response(204, "", "GET"); w.Length(1); return w.Finish([]byte("a")) }, errWriteBody},
		{"body of 304", func(w *Writer) error { w.Response(304, "", "GET"); w.Chunked(); return w.Finish([]byte("a")) }, errWriteBody},
		{"body of 103", func(w *Writer) error { w.Response(103, "", "GET"); return w.Finish([]byte("a")) }, errWriteBody},
		{"trailer of a sized body", func(w *Writer) error { w.Request("POST", "/"); w.Length(0); w.Trailer("A", "b"); return w.Finish(nil) }, errWriteTrailer},
		{"trailer that frames", func(w *Writer) error {
			w.Request("POST", "/")
			w.Chunked()
			w.Trailer("Content-Length", "1")
			return w.Finish(nil)
		}, errWriteTrailer},
		{"trailer with CRLF", func(w *Writer) error {
			w.Request("POST", "/")
			w.Chunked()
			w.Trailer("A", "b\r\nc")
			return w.Finish(nil)
		}, errWriteValue},
		{"Took too much", func(w *Writer) error {
			w.Request("POST", "/")
			w.Length(5)
			_ = w.Flush()
			return w.Took(6)
		}, errWriteLong},
		{"Took of a chunked body", func(w *Writer) error {
			w.Request("POST", "/")
			w.Chunked()
			_ = w.Flush()
			return w.Took(1)
		}, errWriteLong},
		{"a body before a head", func(w *Writer) error { _, err := w.Write([]byte("a")); return err }, errWriteOrder},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var w Writer
			defer w.Release()
			w.Reset(conn(t, whole(""), nil))
			if err := c.write(&w); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// What is written, byte for byte, and in how many writes.
func TestWritten(t *testing.T) {
	t.Parallel()
	p, _, err := response(t, "HTTP/1.1 200 OK\r\nServer:  x \r\nTransfer-Encoding: chunked\r\n\r\n0\r\nt: 1\r\n\r\n", "GET")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := byNext(&p.Body); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		write  func(w *Writer) error
		want   string
		writes int
	}{
		{"request", func(w *Writer) error {
			w.Request("GET", "/p?q")
			w.Field("Host", "h")
			w.Field("A", "b\tc\xff")
			w.Field("Empty", "")
			return w.Finish(nil)
		}, "GET /p?q HTTP/1.1\r\nHost: h\r\nA: b\tc\xff\r\nEmpty: \r\n\r\n", 1},
		{"sized", func(w *Writer) error {
			w.Request("POST", "/")
			w.Length(10)
			if n, err := w.Write([]byte("hello")); n != 5 || err != nil {
				return fmt.Errorf("%d, %w", n, err)
			}
			return w.Finish([]byte("world"))
		}, "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhelloworld", 2},
		{"copied response", func(w *Writer) error {
			w.Response(200, "OK", "GET")
			w.Copy(&p.Fields, 0)
			w.Chunked()
			w.CopyTrailer(p.Body.Trailer(), 0)
			w.Trailer("u", "2")
			return w.Finish([]byte("0123456789abcdef"))
		}, "HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n0123456789abcdef\r\n0\r\nt: 1\r\nu: 2\r\n\r\n", 1},
		{"chunks", func(w *Writer) error {
			w.Response(200, "OK", "GET")
			w.Chunked()
			_, _ = w.Write([]byte("a"))
			_, _ = w.Write(nil)
			_, _ = w.Write([]byte("b"))
			return w.Finish(nil)
		}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n", 3},
		{"empty chunked with trailers", func(w *Writer) error {
			w.Response(200, "OK", "GET")
			w.Chunked()
			if err := w.Flush(); err != nil {
				return err
			}
			w.Trailer("t", "1")
			return w.Finish(nil)
		}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nt: 1\r\n\r\n", 2},
		{"no framing", func(w *Writer) error { w.Response(200, "OK", "GET"); return w.Finish(nil) }, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1},
		{"until close", func(w *Writer) error { w.Response(200, "OK", "GET"); w.UntilClose(); return w.Finish([]byte("a")) }, "HTTP/1.1 200 OK\r\n\r\na", 1},
		{"HEAD", func(w *Writer) error { w.Response(200, "OK", "HEAD"); w.Length(5); return w.Finish(nil) }, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 1},
		{"HEAD, chunked", func(w *Writer) error {
			w.Response(200, "OK", "HEAD")
			w.Chunked()
			w.Trailer("a", "b")
			return w.Finish(nil)
		}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 1},
		{"HEAD, nothing said", func(w *Writer) error { w.Response(200, "OK", "HEAD"); return w.Finish(nil) }, "HTTP/1.1 200 OK\r\n\r\n", 1},
		{"304", func(w *Writer) error { w.Response(304, "", "GET"); w.Length(5); return w.Finish(nil) }, "HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n", 1},
		{"204", func(w *Writer) error { w.Response(204, "", "GET"); w.Length(0); return w.Finish(nil) }, "HTTP/1.1 204 \r\n\r\n", 1},
		{"2xx to CONNECT", func(w *Writer) error { w.Response(200, "", "CONNECT"); w.Length(5); return w.Finish(nil) }, "HTTP/1.1 200 \r\n\r\n", 1},
		{"1xx, then final", func(w *Writer) error {
			w.Response(103, "Early Hints", "GET")
			w.Field("Link", "a")
			if err := w.Finish(nil); err != nil {
				return err
			}
			w.Response(200, "OK", "GET")
			w.Length(1)
			return w.Finish([]byte("a"))
		}, "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", 2},
		{"101", func(w *Writer) error {
			w.Response(101, "Switching Protocols", "GET")
			w.Field("Upgrade", "websocket")
			return w.Finish(nil)
		}, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out := whole("")
			var w Writer
			defer w.Release()
			w.Reset(conn(t, out, nil))
			if err := c.write(&w); err != nil {
				t.Fatal(err)
			}
			if got := out.out.String(); got != c.want || out.writes != c.writes || w.Sent() != int64(len(c.want)) {
				t.Errorf("in %d writes, %d bytes:\n%q\nwant\n%q", out.writes, w.Sent(), got, c.want)
			}
		})
	}
}

// Large bodies in large and small pieces, over a socket and over what is none, come out as they went in, read by us and
// by net/http.
func TestWrittenRead(t *testing.T) {
	t.Parallel()
	for _, piece := range []int{1, 1000, 8000, 8192, 100000, 300000} {
		data := bytes.Repeat([]byte("0123456789abcdef"), 300000/16)
		if piece == 1 {
			data = data[:3000]
		}
		for _, framing := range []Framing{Sized, Chunked, UntilClose} {
			t.Run(fmt.Sprintf("%d in pieces of %d", framing, piece), func(t *testing.T) {
				t.Parallel()
				send := func(c *Conn) error {
					var w Writer
					defer w.Release()
					w.Reset(c)
					w.Response(200, "OK", "GET")
					w.Field("A", "b")
					switch framing {
					case Sized:
						w.Length(int64(len(data)))
					case Chunked:
						w.Chunked()
						w.Trailer("T", strings.Repeat("v", 9000))
					default:
						w.UntilClose()
					}
					rest := data
					for len(rest) > piece {
						if n, err := w.Write(rest[:piece]); n != piece || err != nil {
							return fmt.Errorf("%d, %w", n, err)
						}
						rest = rest[piece:]
					}
					return w.Finish(rest)
				}
				out := whole("")
				if err := send(conn(t, out, nil)); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(bufio.NewReaderSize(bytes.NewReader(out.out.Bytes()), 64<<10), nil)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, data) || framing == Chunked && len(resp.Trailer.Get("T")) != 9000 {
					t.Errorf("net/http reads %d bytes, %v", len(got), err)
				}
				a, b := tcpPair(t)
				sent := make(chan error, 1)
				go func() {
					sent <- send(NewConn(a, nil))
					_ = a.Close()
				}()
				var p Response
				c := conn(t, b, &Limits{Trailer: 10000})
				if err := c.ReadResponse(&p, "GET"); err != nil {
					t.Fatal(err)
				}
				if got, err := byNext(&p.Body); err != nil || !bytes.Equal(got, data) {
					t.Errorf("we read %d bytes, %v", len(got), err)
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestShortWrites(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for short := 1; short < 53; short++ {
		for _, body := range []int{1, 20000} {
			out := &wire{short: short}
			var w Writer
			w.Reset(conn(t, out, nil))
			w.Response(200, "OK", "GET")
			w.Chunked()
			n, err := w.Write(make([]byte, body))
			if !errors.Is(err, io.ErrShortWrite) || n > body || n < 0 || w.Sent() != int64(out.out.Len()) {
				t.Errorf("%d: %d, %v, sent %d", short, n, err, w.Sent())
			}
			if err := w.Finish(nil); !errors.Is(err, io.ErrShortWrite) || out.writes != 1 {
				t.Errorf("after that: %v, %d writes", err, out.writes)
			}
			w.Release()
		}
	}
	var w Writer
	defer w.Release()
	w.Reset(conn(t, &wire{broken: broken}, nil))
	w.Request("GET", "/")
	if err := w.Finish(nil); !errors.Is(err, broken) || w.Sent() != 0 {
		t.Errorf("%v, sent %d", err, w.Sent())
	}
}

func TestWriterDirect(t *testing.T) {
	t.Parallel()
	out := whole("")
	var w Writer
	defer w.Release()
	w.Reset(conn(t, out, nil))
	w.Response(200, "OK", "GET")
	w.Length(10)
	if w.Direct() != 0 {
		t.Error("direct before the head is sent")
	}
	if err := w.Flush(); err != nil || w.Direct() != 10 {
		t.Fatalf("%v, direct %d", err, w.Direct())
	}
	head := w.Sent()
	if err := w.Took(7); err != nil || w.Direct() != 3 || w.Sent() != head+7 {
		t.Errorf("%v, direct %d, sent %d", err, w.Direct(), w.Sent())
	}
	if err := w.Finish([]byte("abc")); err != nil {
		t.Error(err)
	}
}
