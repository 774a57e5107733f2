package proxy_test

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// headerFields are pairs of name and value.
type headerFields []string

func get2(more ...string) headerFields {
	return append(headerFields{":method", "GET", ":scheme", "http", ":authority", "reviews", ":path", "/bad"}, more...)
}

func method2(method string) headerFields {
	return headerFields{":method", method, ":scheme", "http", ":authority", "reviews", ":path", "/bad"}
}

// TestRefusedHTTP2 (B-013, B-015): heads that HTTP/1.1 refuses go nowhere in HTTP/2 either, over which no client would send
// them: the stream or the connection ends, or a status says so. What comes behind on the connection is served.
func TestRefusedHTTP2(t *testing.T) {
	t.Parallel()
	var bad atomic.Int64
	up := upstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/good" {
			bad.Add(1)
			t.Errorf("the endpoint is asked %s %s: %v", r.Method, r.URL, r.Header)
		}
	}))
	_, addresses := both(t, up)
	for _, a := range []struct {
		row, name string
		fields    headerFields
		status    string // "" for the end of the stream or of the connection, 400 or 431
	}{
		{"B-013", "empty name", get2("", "b"), ""},
		{"B-013", "capital", get2("Abc", "b"), ""},
		{"B-013", "space", get2("a b", "b"), ""},
		{"B-013", "space at the end", get2("transfer-encoding ", "chunked"), ""},
		{"B-013", "colon", get2("a:b", "b"), ""},
		{"B-013", "high byte", get2("a\x80", "b"), ""},
		{"B-013", "parenthesis", get2("a(", "b"), ""},
		{"B-013", "like Transfer-Encoding", get2("transfer_encoding", "chunked"), "400"},
		{"B-013", "like Content-Length", get2("content_length", "5"), "400"},
		{"B-013", "line end in a value", get2("a", "b\r\nc: d"), ""},
		{"B-013", "NUL in a value", get2("a", "b\x00c"), ""},
		{"B-013", "Transfer-Encoding", get2("transfer-encoding", "chunked"), ""},
		{"B-013", "Connection", get2("connection", "keep-alive"), ""},
		{"B-013", "an unknown pseudo-field", get2(":b", "c"), ""},
		{"B-013", "a pseudo-field behind others", append(headerFields{"a", "b"}, get2()...), ""},
		{"B-015", "lower case", method2("get"), "400"},
		{"B-015", "space", method2("GET /x HTTP/1.1"), ""},
		{"B-015", "control byte", method2("G\x01T"), ""},
		{"B-015", "empty", method2(""), ""},
		{"B-015", "two", get2(":method", "POST"), ""},
		{"B-015", "100 KB", method2(strings.Repeat("M", 100<<10)), ""},
		{"B-015", "TRACE", method2("TRACE"), "405"},
		{"B-015", "CONNECT", headerFields{":method", "CONNECT", ":authority", "reviews:80"}, "405"},
	} {
		for side, address := range addresses {
			t.Run(a.row+" "+a.name+" "+side, func(t *testing.T) {
				t.Parallel()
				got := ask2(t, address, a.fields)
				if a.status != "" && got != a.status || a.status == "" && !slices.Contains([]string{"", "400", "431"}, got) {
					t.Errorf("answered %q, want %q", got, a.status)
				}
			})
		}
	}
	for side, address := range addresses {
		if got := ask2(t, address, headerFields{":method", "GET", ":scheme", "http", ":authority", "reviews", ":path", "/good"}); got != "200" {
			t.Errorf("%s: a good request is answered %q", side, got)
		}
	}
}

// ask2 sends one head in HTTP/2 by prior knowledge, as it is, and gives the status of the answer, "" where the stream or the
// connection ends without one.
func ask2(t *testing.T, address string, fields headerFields) string {
	t.Helper()
	c, br := dial(t, address)
	defer c.Close()
	send(t, c, http2.ClientPreface)
	f := http2.NewFramer(c, br)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = f.WriteSettings()
	for first, rest := true, block.Bytes(); first || len(rest) > 0; first = false {
		piece := rest[:min(len(rest), 16<<10)]
		rest = rest[len(piece):]
		if first { // what ends the connection shows in what is read
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: piece, EndStream: true, EndHeaders: len(rest) == 0})
		} else {
			_ = f.WriteContinuation(1, len(rest) == 0, piece)
		}
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			if !reset(err) {
				t.Fatal(err)
			}
			return ""
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return ""
		case *http2.DataFrame:
			_, _ = io.Discard.Write(frame.Data())
		}
	}
}
