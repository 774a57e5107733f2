package transport

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing/iotest"
)

// requestRows are what net/http's client makes of a request.
var requestRows = []requestRow{
	{name: "GET", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(*http.Request) {}},
	{name: "no method is GET", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Method = "" }},
	{name: "a method of its own", want: "PURGE / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Method = "PURGE" }},
	{name: "a method in lower case", want: "get / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Method = "get" }},
	{name: "a method that is none", want: "error invalid_request", request: func(r *http.Request) { r.Method = "GE T" }},
	{name: "a method with a line end", want: "error invalid_request", request: func(r *http.Request) { r.Method = "GET / HTTP/1.1\r\nX: y\r\n\r\nGET" }},
	{name: "a path", want: "GET /a/b HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.URL.Path = "/a/b" }},
	{name: "a path of nothing", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.URL.Path = "" }},
	{name: "a path to escape", want: "GET /a%20b/%C3%A9%3F%23 HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.URL.Path = "/a b/é?#" }},
	{name: "a path as it was escaped", want: "GET /a%2fb HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/a/b", "/a%2fb" }},
	{name: "an opaque URL", want: "GET /raw%2Fpath HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.URL.Path, r.URL.Opaque = "", "/raw%2Fpath" }},
	{name: "an asterisk", want: "OPTIONS * HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Method, r.URL.Path = "OPTIONS", "*" }},
	{name: "a query", want: "GET /?a=1&b=%20 HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.URL.RawQuery = "a=1&b=%20" }},
	{name: "an empty query", want: "GET /? HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.URL.ForceQuery = true }},
	{name: "a query beyond ASCII", want: "GET /?q=%C3%A9 HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", net: "GET /?q=é HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", why: "RFC 3986 §2.1: it is the same query",
		request: func(r *http.Request) { r.URL.RawQuery = "q=é" }},
	{name: "a query with a space", want: "GET /?q=a%20b HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", net: "error reset EOF", why: "net/http sends it as it is, which is no request line (RFC 9112 §3)",
		request: func(r *http.Request) { r.URL.RawQuery = "q=a b" }},
	{name: "a query with a line end", want: "error invalid_request", request: func(r *http.Request) { r.URL.RawQuery = "q=\r\nX: y" }},
	{name: "a fragment stays here", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.URL.Fragment = "top" }},
	{name: "who asks stays here", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.URL.User = url.UserPassword("u", "p") }},
	{name: "a port in the host", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.URL.Host = "svc:8080" }},
	{name: "another Host", want: "GET / HTTP/1.1 | Host: other | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Host = "other" }},
	{name: "no Host", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Host = "" }},
	{name: "no host at all", want: "error invalid_request", net: "error reset", why: "the reason says whose fault it is",
		request: func(r *http.Request) { r.Host, r.URL.Host = "", "" }},
	{name: "an address", want: "GET / HTTP/1.1 | Host: [fe80::1]:80 | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Host = "[fe80::1]:80" }},
	{name: "an address with a zone", want: "GET / HTTP/1.1 | Host: [fe80::1]:80 | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Host = "[fe80::1%25eth0]:80" }},
	{name: "a host beyond ASCII", want: "GET / HTTP/1.1 | Host: xn--bcher-kva.example | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Host = "bücher.example" }},
	{name: "a Host among the fields does not count", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Header["Host"] = []string{"evil"} }},
	{name: "no user agent", want: "GET / HTTP/1.1 | Host: svc || ", request: func(r *http.Request) { r.Header.Set("User-Agent", "") }},
	{name: "a user agent", want: "GET / HTTP/1.1 | Host: svc | User-Agent: me/1 || ", request: func(r *http.Request) { r.Header.Set("User-Agent", "me/1") }},
	{name: "a field", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 | X-A: 1 || ", request: func(r *http.Request) { r.Header.Set("X-A", "1") }},
	{name: "a field of two values", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 | X-A: 1 | X-A: 2 || ", request: func(r *http.Request) { r.Header["X-A"] = []string{"1", "2"} }},
	{name: "a field of no value", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Header["X-A"] = nil }},
	{name: "an empty value", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 | X-A:  || ", request: func(r *http.Request) { r.Header.Set("X-A", "") }},
	{name: "a field in another spelling", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 | x-a: 1 || ", request: func(r *http.Request) { r.Header["x-a"] = []string{"1"} }},
	{name: "a value in Latin-1", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 | X-A: caf\xe9 || ", request: func(r *http.Request) { r.Header.Set("X-A", "caf\xe9") }},
	{name: "a value with tabs", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 | X-A: 1\t2 || ", request: func(r *http.Request) { r.Header.Set("X-A", "1\t2") }},
	{name: "a value with a line end", want: "error invalid_request", request: func(r *http.Request) { r.Header.Set("X-A", "1\r\nX-B: 2") }},
	{name: "a value with a NUL", want: "error invalid_request", request: func(r *http.Request) { r.Header.Set("X-A", "1\x002") }},
	{name: "a name with a space", want: "error invalid_request", request: func(r *http.Request) { r.Header["X A"] = []string{"1"} }},
	{name: "a name with a line end", want: "error invalid_request", request: func(r *http.Request) { r.Header["X\r\nB"] = []string{"1"} }},
	{name: "an empty name", want: "error invalid_request", request: func(r *http.Request) { r.Header[""] = []string{"1"} }},
	{name: "no header map", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", net: "error invalid_request", why: "nothing is missing without one",
		request: func(r *http.Request) { r.Header = nil }},
	{name: "a large header", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 | X-A: " + strings.Repeat("v", 40000) + " || ", request: func(r *http.Request) { r.Header.Set("X-A", strings.Repeat("v", 40_000)) }},
	{name: "cookies", want: "GET / HTTP/1.1 | Cookie: a=1; b=2 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) {
		r.AddCookie(&http.Cookie{Name: "a", Value: "1"})
		r.AddCookie(&http.Cookie{Name: "b", Value: "2"})
	}},
	{name: "credentials", want: "GET / HTTP/1.1 | Authorization: Basic dTpw | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.SetBasicAuth("u", "p") }},
	{name: "encodings are the program's", want: "GET / HTTP/1.1 | Accept-Encoding: br | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Header.Set("Accept-Encoding", "br") }},
	{name: "a range", want: "GET / HTTP/1.1 | Host: svc | Range: bytes=0-1 | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Header.Set("Range", "bytes=0-1") }},
	{name: "close", want: "GET / HTTP/1.1 | Connection: close | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Close = true }},
	{name: "close by a field", want: "GET / HTTP/1.1 | Connection: close | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Header.Set("Connection", "close") }},
	{name: "close by both", want: "GET / HTTP/1.1 | Connection: close | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Close = true; r.Header.Set("Connection", "close") }},
	{name: "another connection option", want: "GET / HTTP/1.1 | Connection: x | Host: svc | User-Agent: Go-http-client/1.1 | X: 1 || ", request: func(r *http.Request) { r.Header.Set("Connection", "x"); r.Header.Set("X", "1") }},
	{name: "trailers accepted", want: "GET / HTTP/1.1 | Host: svc | Te: trailers | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Header.Set("Te", "trailers") }},
	{name: "a length among the fields does not count", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Header.Set("Content-Length", "7") }},
	{name: "a coding among the fields does not count", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Header.Set("Transfer-Encoding", "chunked") }},
	{name: "trailers among the fields do not count", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Header.Set("Trailer", "X-T") }},
	{name: "POST without a body", want: "POST / HTTP/1.1 | Content-Length: 0 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Method = "POST" }},
	{name: "PUT without a body", want: "PUT / HTTP/1.1 | Content-Length: 0 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Method = "PUT" }},
	{name: "PATCH without a body", want: "PATCH / HTTP/1.1 | Content-Length: 0 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Method = "PATCH" }},
	{name: "DELETE without a body", want: "DELETE / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Method = "DELETE" }},
	{name: "HEAD", want: "HEAD / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Method = "HEAD" }},
	{name: "POST of NoBody", want: "POST / HTTP/1.1 | Content-Length: 0 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Method, r.Body = "POST", http.NoBody }},
	{name: "GET of NoBody", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Body = http.NoBody }},
	{name: "a sized body", want: "POST / HTTP/1.1 | Content-Length: 5 | Host: svc | User-Agent: Go-http-client/1.1 || hello", request: func(r *http.Request) { withBody(r, "POST", strings.NewReader("hello"), 5) }},
	{name: "a sized body from afar", want: "POST / HTTP/1.1 | Content-Length: 5 | Host: svc | User-Agent: Go-http-client/1.1 || hello", request: func(r *http.Request) { withBody(r, "POST", trickle("hello"), 5) }},
	{name: "a sized body of a byte at a time", want: "POST / HTTP/1.1 | Content-Length: 5 | Host: svc | User-Agent: Go-http-client/1.1 || hello", request: func(r *http.Request) { withBody(r, "POST", iotest.OneByteReader(trickle("hello")), 5) }},
	{name: "a sized body that ends with its last byte", want: "POST / HTTP/1.1 | Content-Length: 5 | Host: svc | User-Agent: Go-http-client/1.1 || hello", request: func(r *http.Request) { withBody(r, "POST", iotest.DataErrReader(trickle("hello")), 5) }},
	{name: "a body of unknown size", want: "POST / HTTP/1.1 | Host: svc | Transfer-Encoding: chunked | User-Agent: Go-http-client/1.1 || 5\r\nhello\r\n0\r\n\r\n", request: func(r *http.Request) { withBody(r, "POST", iotest.DataErrReader(trickle("hello")), -1) }},
	{name: "a body of size 0 is unknown", want: "POST / HTTP/1.1 | Host: svc | Transfer-Encoding: chunked | User-Agent: Go-http-client/1.1 || 5\r\nhello\r\n0\r\n\r\n", request: func(r *http.Request) { withBody(r, "POST", trickle("hello"), 0) }},
	{name: "an empty body of unknown size", want: "POST / HTTP/1.1 | Host: svc | Transfer-Encoding: chunked | User-Agent: Go-http-client/1.1 || 0\r\n\r\n", request: func(r *http.Request) { withBody(r, "POST", trickle(""), -1) }},
	{name: "GET with a body", want: "GET / HTTP/1.1 | Content-Length: 5 | Host: svc | User-Agent: Go-http-client/1.1 || hello", request: func(r *http.Request) { withBody(r, "GET", strings.NewReader("hello"), 5) }},
	{name: "GET with a body of unknown size", want: "GET / HTTP/1.1 | Host: svc | Transfer-Encoding: chunked | User-Agent: Go-http-client/1.1 || 1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", request: func(r *http.Request) { withBody(r, "GET", trickle("hello"), -1) }},
	{name: "GET with an empty body of unknown size", want: "GET / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { withBody(r, "GET", trickle(""), -1) }},
	{name: "DELETE with an empty body in memory", want: "DELETE / HTTP/1.1 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { withBody(r, "DELETE", new(bytes.Buffer), -1) }},
	{name: "HEAD with a body", want: "HEAD / HTTP/1.1 | Content-Length: 5 | Host: svc | User-Agent: Go-http-client/1.1 || hello", request: func(r *http.Request) { withBody(r, "HEAD", strings.NewReader("hello"), 5) }},
	{name: "a body that is wanted in chunks", want: "POST / HTTP/1.1 | Host: svc | Transfer-Encoding: chunked | User-Agent: Go-http-client/1.1 || 5\r\nhello\r\n0\r\n\r\n", request: func(r *http.Request) {
		withBody(r, "POST", strings.NewReader("hello"), 5)
		r.TransferEncoding = []string{"chunked"}
	}},
	{name: "a body of 1 MB", want: "POST / HTTP/1.1 | Content-Length: 1048576 | Host: svc | User-Agent: Go-http-client/1.1 || " + strings.Repeat("v", 1048576), request: func(r *http.Request) { withBody(r, "POST", strings.NewReader(strings.Repeat("v", 1<<20)), 1<<20) }},
	{name: "a body that is too short", chance: true, want: "error invalid_request", request: func(r *http.Request) { withBody(r, "POST", strings.NewReader("hell"), 5) }},
	{name: "a body from afar that is too short", chance: true, want: "error invalid_request", request: func(r *http.Request) { withBody(r, "POST", trickle("hell"), 5) }},
	{name: "a body that is too long", chance: true, want: "error invalid_request", request: func(r *http.Request) { withBody(r, "POST", strings.NewReader("hello!"), 5) }},
	{name: "a body that fails", want: "error canceled the body's", net: "error reset the body's", why: "it is the caller's failure, not the endpoint's", bare: true,
		request: func(r *http.Request) { withBody(r, "POST", iotest.ErrReader(errOfBody), 5) }},
	{name: "a body that fails later", want: "error canceled the body's", net: "error reset the body's", why: "it is the caller's failure, not the endpoint's", bare: true,
		request: func(r *http.Request) {
			withBody(r, "POST", io.MultiReader(strings.NewReader("he"), iotest.ErrReader(errOfBody)), -1)
		}},
	{name: "a length and no body", want: "error invalid_request", request: func(r *http.Request) { r.Method, r.ContentLength = "POST", 5 }},
	{name: "a length and NoBody", want: "POST / HTTP/1.1 | Content-Length: 0 | Host: svc | User-Agent: Go-http-client/1.1 || ", request: func(r *http.Request) { r.Method, r.Body, r.ContentLength = "POST", http.NoBody, 5 }},
	{name: "trailers", want: "POST / HTTP/1.1 | Host: svc | Trailer: X-T | Transfer-Encoding: chunked | User-Agent: Go-http-client/1.1 || 5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", request: func(r *http.Request) {
		withBody(r, "POST", iotest.DataErrReader(trickle("hello")), -1)
		r.Trailer = http.Header{"X-T": {"1"}}
	}},
	{name: "two trailers", want: "POST / HTTP/1.1 | Host: svc | Trailer: A-T,X-T | Transfer-Encoding: chunked | User-Agent: Go-http-client/1.1 || 5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", request: func(r *http.Request) {
		withBody(r, "POST", iotest.DataErrReader(trickle("hello")), -1)
		r.Trailer = http.Header{"X-T": {"1"}, "A-T": nil}
	}},
	{name: "trailers of a sized body stay here", want: "POST / HTTP/1.1 | Content-Length: 5 | Host: svc | User-Agent: Go-http-client/1.1 || hello", request: func(r *http.Request) {
		withBody(r, "POST", strings.NewReader("hello"), 5)
		r.Trailer = http.Header{"X-T": {"1"}}
	}},
	{name: "trailers made while the body is read", want: "POST / HTTP/1.1 | Host: svc | Trailer: X-T | Transfer-Encoding: chunked | User-Agent: Go-http-client/1.1 || 5\r\nhello\r\n0\r\nX-T: late\r\n\r\n", request: func(r *http.Request) {
		r.Trailer = http.Header{"X-T": nil}
		withBody(r, "POST", &setsTrailer{strings.NewReader("hello"), r.Trailer}, -1)
	}},
	{name: "a trailer that frames", want: "error invalid_request", request: func(r *http.Request) {
		withBody(r, "POST", iotest.DataErrReader(trickle("hello")), -1)
		r.Trailer = http.Header{"Content-Length": {"1"}}
	}},
	{name: "a trailer with a line end", want: "error invalid_request", request: func(r *http.Request) {
		withBody(r, "POST", iotest.DataErrReader(trickle("hello")), -1)
		r.Trailer = http.Header{"X-T": {"1\r\n2"}}
	}},
}

// setsTrailer is a body at whose end the trailer is known.
type setsTrailer struct {
	io.Reader
	trailer http.Header
}

func (b *setsTrailer) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		b.trailer.Set("X-T", "late")
	}
	return n, err
}
