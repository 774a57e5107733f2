package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

// differences are messages of which we and net/http say different things, on purpose. Where we accept what net/http
// refuses, the rule has to stand here; where we refuse what it accepts, the rules stand in the tables of what is refused,
// and here those that RFC 9112 leaves to the recipient.
var differences = []struct {
	name, rule, as, raw string
	ours, theirs        bool // accepted, body and all
}{
	{"empty line before the request line", "RFC 9112 §2.2: a server should skip at least one", "", "\r\n" + get("A: b"), true, false},
	{"Trailer names a framing field", "RFC 9110 §6.6.2: Trailer only announces; the field itself is refused", "", "POST / HTTP/1.1\r\n" + host + "Trailer: Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true, false},
	{"Content-Length of the same value twice", "RFC 9112 §6.3 permits either", "", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", false, true},
	{"whitespace after Content-Length", "stricter than RFC 9112 §5", "", cl("1 "), false, true},
	{"whitespace after Transfer-Encoding", "stricter than RFC 9112 §5", "", te("chunked "), false, true},
	{"Content-Length with chunked", "RFC 9112 §6.3 permits either; net/http prefers chunked", "", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, true},
	{"Transfer-Encoding in HTTP/1.0", "RFC 9112 §6.1; net/http ignores it", "", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, true},
	{"bare LF", "RFC 9112 §2.2 permits either", "", "GET / HTTP/1.1\nHost: h\n\n", false, true},
	{"folded line", "RFC 9112 §5.2 permits either", "", get("A: b\r\n c"), false, true},
	{"no Host", "RFC 9112 §3.2; net/http's server refuses it too, its parser does not", "", "GET / HTTP/1.1\r\n\r\n", false, true},
	{"Host of a list", "stricter than RFC 3986 §3.2.2", "", hosted("a,b"), false, true},
	{"PRI", "RFC 9113 §3.4", "", "PRI / HTTP/1.1\r\n" + host + "\r\n", false, true},
	{"fragment in the target", "RFC 9112 §3.2", "", "GET /#a HTTP/1.1\r\n" + host + "\r\n", false, true},
	{"high byte in the target", "RFC 9112 §3.2", "", "GET /\xff HTTP/1.1\r\n" + host + "\r\n", false, true},
	{"other scheme in the target", "RFC 9112 §3.2.2", "", "GET ftp://h/ HTTP/1.1\r\n" + host + "\r\n", false, true},
	{"userinfo in the target", "RFC 9110 §4.2.4", "", "GET http://u@h/ HTTP/1.1\r\n" + host + "\r\n", false, true},
	{"expectation other than 100-continue", "RFC 9110 §10.1.1; net/http's server refuses it too, its parser does not", "", get("Expect: x"), false, true},
	{"control character in a chunk extension", "RFC 9112 §7.1.1", "", chunkedHead + "1;a=\x00\r\na\r\n0\r\n\r\n", false, true},
	{"whitespace after a chunk size", "RFC 9112 §7.1", "", chunkedHead + "1 \r\na\r\n0\r\n\r\n", false, true},
	{"Host among trailers", "RFC 9110 §6.5.1", "", chunkedHead + "0\r\nHost: h\r\n\r\n", false, true},
	{"status line without the second space", "RFC 9112 §4", "GET", "HTTP/1.1 200\r\n\r\n", false, true},
	{"status above 599", "RFC 9110 §15", "GET", "HTTP/1.1 999 No\r\n\r\n", false, true},
	{"204 with a length", "RFC 9112 §6.1", "GET", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", false, true},
	{"HTTP/1.2", "RFC 9110 §2.5 would have us read it as 1.1; only what was tested is served", "GET", "HTTP/1.2 200 OK\r\n\r\n", false, true},
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	for _, d := range differences {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			if ours := !strings.Contains(firstStory([]byte(d.raw), d.as), "error"); ours != d.ours {
				t.Errorf("we accept it: %t (%s)", ours, firstStory([]byte(d.raw), d.as))
			}
			if theirs := !strings.Contains(theirStory(bufio.NewReader(strings.NewReader(d.raw)), d.as), "error"); theirs != d.theirs {
				t.Errorf("net/http accepts it: %t", theirs)
			}
			if d.rule == "" {
				t.Error("no rule")
			}
		})
	}
}

// deliberate reports a message that we accept and net/http refuses for a reason that stands among the differences.
func deliberate(q *Fields, raw []byte) bool {
	return bytes.HasPrefix(raw, []byte("\r\n")) || q.Has(FieldTrailer)
}

// firstStory tells what the first message is, in the words of theirStory.
func firstStory(raw []byte, as string) string {
	c := NewConn(whole(string(raw)), nil)
	defer c.Close()
	s, _ := ourStory(c, as)
	return s
}

// ourStory tells one message; deliberate says that net/http may refuse it.
func ourStory(c *Conn, as string) (s string, fields *Fields) {
	var q Request
	var p Response
	var start string
	f, b := &q.Fields, &q.Body
	var err error
	if as == "" {
		if err = c.ReadRequest(&q); err == nil {
			start = fmt.Sprintf("%s %s %s %d", q.Method(), q.Target(), q.Authority(), q.Minor())
		}
	} else {
		f, b = &p.Fields, &p.Body
		if err = c.ReadResponse(&p, as); err == nil {
			start = fmt.Sprintf("%d %q %d", p.Status(), p.Reason(), p.Minor())
		}
	}
	if err != nil {
		return "error " + err.Error(), f
	}
	h := headerOf(f)
	// net/http takes these out of the header.
	delete(h, "Host")
	if b.Framing() == Chunked || f.Has(FieldTransferEncoding) {
		delete(h, "Transfer-Encoding")
		delete(h, "Trailer")
	}
	start += tellHeader(h)
	body, err := byNext(b)
	if err != nil {
		return "error " + err.Error(), f
	}
	return start + fmt.Sprintf(" %q", body) + tellHeader(headerOf(b.Trailer())), f
}

func headerOf(f *Fields) http.Header {
	h := http.Header{}
	for i := range f.Len() {
		k := textproto.CanonicalMIMEHeaderKey(strings.Clone(f.Name(i)))
		h[k] = append(h[k], strings.Clone(f.Value(i)))
	}
	return h
}

func theirStory(r *bufio.Reader, as string) string {
	var start string
	var h, trailer http.Header
	var body io.ReadCloser
	var late *http.Header
	if as == "" {
		q, err := http.ReadRequest(r)
		if err != nil {
			return "error " + err.Error()
		}
		start = fmt.Sprintf("%s %s %s %d", q.Method, q.RequestURI, q.Host, q.ProtoMinor)
		h, body, late = q.Header, q.Body, &q.Trailer
	} else {
		p, err := http.ReadResponse(r, &http.Request{Method: as})
		if err != nil {
			return "error " + err.Error()
		}
		start = fmt.Sprintf("%d %q %d", p.StatusCode, strings.TrimPrefix(p.Status, fmt.Sprintf("%d ", p.StatusCode)), p.ProtoMinor)
		h, body, late = p.Header, p.Body, &p.Trailer
	}
	start += tellHeader(h)
	got, err := io.ReadAll(body)
	if err != nil {
		return "error " + err.Error()
	}
	_ = body.Close()
	trailer = http.Header{}
	for k, v := range *late {
		if v != nil { // announced and sent
			trailer[k] = v
		}
	}
	return start + fmt.Sprintf(" %q", got) + tellHeader(trailer)
}

func tellHeader(h http.Header) string {
	if v, ok := h["Cache-Control"]; ok && slices.Equal(v, []string{"no-cache"}) && len(h["Pragma"]) > 0 {
		delete(h, "Cache-Control") // net/http adds it to Pragma
	}
	keys := make([]string, 0, len(h))
	for k := range h {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var s strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&s, " %q=%q", k, h[k])
	}
	return s.String()
}

// compare holds us against net/http, message after message: what we accept it reads as the same thing, up to the same
// byte. It also holds us against ourselves, the bytes coming one by one.
func compare(t *testing.T, raw []byte, as string) {
	if len(raw) > 16<<10 {
		return
	}
	if one, all := tell(drip(string(raw)), as, byRead(600)), tell(whole(string(raw)), as, byNext); one != all {
		t.Fatalf("%q dripping is\n%s\nwhole:\n%s", raw, one, all)
	}
	c := NewConn(whole(string(raw)), nil)
	defer c.Close()
	theirs := bufio.NewReaderSize(bytes.NewReader(raw), 64<<10)
	left := raw
	for range 8 {
		// Bytes that come after the end of one message are the start of the next, here and there.
		if bytes.HasPrefix(left, []byte("\r\n")) && as == "" {
			_, _ = theirs.Discard(2)
			left = left[2:]
		}
		ours, fields := ourStory(c, as)
		if strings.HasPrefix(ours, "error") {
			return
		}
		want := theirStory(theirs, as)
		if normal(ours) != normal(want) {
			if strings.HasPrefix(want, "error") && deliberate(fields, nil) {
				return
			}
			t.Fatalf("%q\nwe:       %s\nnet/http: %s", left, ours, want)
		}
		rest, _ := io.ReadAll(theirs)
		mine := remaining(c)
		if !bytes.Equal(rest, mine) {
			t.Fatalf("%q\nwe leave       %q\nnet/http leaves %q", left, mine, rest)
		}
		left = rest
		theirs = bufio.NewReaderSize(bytes.NewReader(left), 64<<10)
		if as != "" && strings.HasPrefix(ours, "101 ") {
			return
		}
	}
}

// remaining gives all that c has not consumed.
func remaining(c *Conn) []byte {
	w := c.nc.(*wire)
	all := bytes.Clone(c.Buffered())
	for _, piece := range w.in {
		all = append(all, piece...)
	}
	return all
}

// normal takes away what net/http says otherwise without a difference in meaning.
func normal(s string) string { return strings.ReplaceAll(s, ` "" `, " ") }

func seedRequests(f *testing.F) {
	for _, c := range refusedRequests {
		if len(c.raw) < 2000 {
			f.Add([]byte(c.raw))
		}
	}
	for _, c := range conversations() {
		if c.as == "" && len(c.raw) < 2000 {
			f.Add([]byte(c.raw))
		}
	}
	f.Add([]byte(browserRequest + browserRequest))
	f.Add([]byte("POST http://h:80/p?q HTTP/1.1\r\nHost: i\r\nTrailer: T\r\nTransfer-Encoding: chunked\r\nPragma: no-cache\r\n\r\n1;a\r\nb\r\n0\r\nT: v\r\n\r\n" + get("Connection: close")))
	f.Add([]byte("CONNECT [::1]:80 HTTP/1.1\r\nHost: h\r\n\r\n"))
}

func FuzzRequestHead(f *testing.F) {
	seedRequests(f)
	f.Fuzz(func(t *testing.T, raw []byte) { compare(t, raw, "") })
}

func FuzzResponse(f *testing.F) {
	for _, c := range refusedResponses {
		if len(c.raw) < 2000 {
			f.Add([]byte(c.raw), false)
		}
	}
	for _, c := range conversations() {
		if c.as != "" && len(c.raw) < 2000 {
			f.Add([]byte(c.raw), c.as == "HEAD")
		}
	}
	f.Add([]byte(serverResponse+chunkedResponse), false)
	f.Fuzz(func(t *testing.T, raw []byte, head bool) {
		as := "GET"
		if head {
			as = "HEAD"
		}
		compare(t, raw, as)
	})
}

func FuzzChunked(f *testing.F) {
	for _, c := range refusedChunks {
		if len(c.raw) < 2000 {
			f.Add([]byte(c.raw))
		}
	}
	f.Add([]byte("5;a=\"b\\\"\";c=d;e\r\nhello\r\nA\r\n0123456789\r\n000;f\r\nT: v\r\n\r\n" + get("A: b")))
	f.Fuzz(func(t *testing.T, body []byte) {
		compare(t, append([]byte(chunkedHead), body...), "")
		compare(t, append([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), body...), "GET")
	})
}

// FuzzWriter: whatever is asked for, what is written is one message that says just that, or nothing.
func FuzzWriter(f *testing.F) {
	f.Add("GET", "/", "A", "b", "T", "v", []byte("body"), uint8(0))
	f.Add("POST", "/\r\nX: y", "A\r\n", "b\x00", "Content-Length", "1", []byte(""), uint8(1))
	f.Add("G T", "", "Transfer-Encoding", "chunked", "T", "v\n", bytes.Repeat([]byte("a"), 9000), uint8(2))
	f.Fuzz(func(t *testing.T, method, target, name, value, tname, tvalue string, body []byte, how uint8) {
		out := whole("")
		var w Writer
		defer w.Release()
		c := NewConn(out, nil)
		defer c.Close()
		w.Reset(c)
		w.Request(method, target)
		w.Field("Host", "h")
		w.Field(name, value)
		if how%2 == 0 {
			w.Length(int64(len(body)))
		} else {
			w.Chunked()
			w.Trailer(tname, tvalue)
		}
		half := len(body) / 2
		_, _ = w.Write(body[:half])
		if err := w.Finish(body[half:]); err != nil {
			if how%2 == 0 && out.out.Len() != 0 {
				t.Fatalf("%v, and %q is sent", err, out.out.String())
			}
			return
		}
		in := NewConn(whole(out.out.String()), &Limits{Line: 64 << 10, Field: 64 << 10, Trailer: 64 << 10})
		defer in.Close()
		var q Request
		if err := in.ReadRequest(&q); err != nil {
			var e *Error
			if errors.As(err, &e) && e.Rule != "RFC 9112 §2.2" && e.Rule != "RFC 9112 §5.2" {
				return // well-formed, and means nothing: a target in no form, a second Host
			}
			t.Fatalf("%q: %v", out.out.String(), err)
		}
		got, err := byNext(&q.Body)
		if err != nil || !bytes.Equal(got, body) || q.Method() != method || q.Target() != target || q.Len() != 3 || q.Name(1) != name ||
			q.Value(1) != strings.Trim(value, " \t") || len(in.Buffered()) != 0 || q.Body.Trailer().Len() != int(how%2) {
			t.Fatalf("%q: %v, %d fields, %q is left", out.out.String(), err, q.Len(), in.Buffered())
		}
	})
}
