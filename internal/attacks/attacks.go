// Package attacks is the hostile requests of the attack catalogue, for the tests of whatever reads requests: the sidecar and
// the server codec. No program imports it. Layer L0.
package attacks

import "strings"

// HostLine is the Host field of all of them.
const HostLine = "Host: reviews\r\n"

// Posted is a request with fields and a body.
func Posted(fields, body string) string {
	return "POST / HTTP/1.1\r\n" + HostLine + fields + "\r\n" + body
}

// Fielded is a request with fields.
func Fielded(fields string) string { return "GET / HTTP/1.1\r\n" + HostLine + fields + "\r\n\r\n" }

// Heads are heads that go nowhere.
var Heads = []struct {
	Row, Name, Request string
	Status             []int // of which one is right; nil for 400
}{
	{"B-001", "CL.TE", Posted("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG"), nil},
	{"B-002", "TE.CL", Posted("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "8\r\nSMUGGLED\r\n0\r\n\r\n"), nil},
	{"B-003", "chunked and identity", Posted("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"), nil},
	{"B-003", "xchunked", Posted("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), nil},
	{"B-003", "chunked, identity", Posted("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), nil},
	{"B-003", "gzip, chunked", Posted("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), []int{501}},
	{"B-003", "twice", Posted("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), nil},
	{"B-003", "VT before the value", Posted("Transfer-Encoding: \vchunked\r\n", "0\r\n\r\n"), nil},
	{"B-003", "parameter", Posted("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n"), nil},
	{"B-003", "empty with CL", Posted("Transfer-Encoding:\r\nContent-Length: 3\r\n", "abc"), nil},
	{"B-004", "TE.0", "POST / HTTP/1.0\r\n" + HostLine + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", nil},
	{"B-006", "obfuscated expectation", Posted("Expect: y 100-continue\r\nContent-Length: 2\r\n", "hi"), []int{417}},
	{"B-007", "two different", Posted("Content-Length: 1\r\nContent-Length: 2\r\n", "ab"), nil},
	{"B-007", "list", Posted("Content-Length: 1, 1\r\n", "a"), nil},
	{"B-007", "plus", Posted("Content-Length: +1\r\n", "a"), nil},
	{"B-007", "minus", Posted("Content-Length: -1\r\n", "a"), nil},
	{"B-007", "hexadecimal", Posted("Content-Length: 0x1\r\n", "a"), nil},
	{"B-007", "underscore", Posted("Content-Length: 1_0\r\n", "a"), nil},
	{"B-007", "space", Posted("Content-Length:  \r\n", "a"), nil},
	{"B-007", "20 digits", Posted("Content-Length: 99999999999999999999\r\n", "a"), nil},
	{"B-007", "space behind", Posted("Content-Length: 1 \r\n", "a"), nil},
	{"B-008", "twice the same", Posted("Content-Length: 1\r\nContent-Length: 1\r\n", "a"), nil},
	{"B-010", "bare LF after the request line", "GET / HTTP/1.1\n" + HostLine + "\r\n", nil},
	{"B-010", "bare LF after a field", "GET / HTTP/1.1\r\nHost: reviews\n\r\n", nil},
	{"B-010", "bare LF only", "GET / HTTP/1.1\nHost: reviews\n\n", nil},
	{"B-011", "bare CR in a value", Fielded("A: b\rc"), nil},
	{"B-011", "NUL in a value", Fielded("A: b\x00c"), nil},
	{"B-011", "NUL in a name", Fielded("A\x00: b"), nil},
	{"B-011", "CR in the target", "GET /\ra HTTP/1.1\r\n" + HostLine + "\r\n", nil},
	{"B-012", "fold", Fielded("A: b\r\n c"), nil},
	{"B-012", "fold as the first field", "GET / HTTP/1.1\r\n Host: reviews\r\n\r\n", nil},
	{"B-013", "space before the colon", Fielded("Transfer-Encoding : chunked"), nil},
	{"B-013", "empty name", Fielded(": b"), nil},
	{"B-013", "no colon", Fielded("A"), nil},
	{"B-013", "high byte", Fielded("A\x80: b"), nil},
	{"B-013", "parenthesis", Fielded("A(: b"), nil},
	{"B-013", "like Transfer-Encoding", Fielded("Transfer_Encoding: chunked"), nil},
	{"B-013", "like Content-Length, in other letters", Fielded("CONTENT_length: 5"), nil},
	{"B-014", "HTTP/1.2", "GET / HTTP/1.2\r\n" + HostLine + "\r\n", []int{505}},
	{"B-014", "HTTP/2.0", "GET / HTTP/2.0\r\n" + HostLine + "\r\n", []int{505}},
	{"B-014", "HTTP/0.9", "GET / HTTP/0.9\r\n" + HostLine + "\r\n", []int{505}},
	{"B-014", "lower case", "GET / http/1.1\r\n" + HostLine + "\r\n", nil},
	{"B-014", "HTTP/1.10", "GET / HTTP/1.10\r\n" + HostLine + "\r\n", nil},
	{"B-015", "lower case", "get / HTTP/1.1\r\n" + HostLine + "\r\n", nil},
	{"B-015", "rest of a body before it", "helloGET / HTTP/1.1\r\n" + HostLine + "\r\n", nil},
	{"B-015", "control byte", "G\x01T / HTTP/1.1\r\n" + HostLine + "\r\n", nil},
	{"B-015", "1 MB", strings.Repeat("M", 1<<20) + " / HTTP/1.1\r\n" + HostLine + "\r\n", []int{400, 414, 431, 501}},
	{"B-015", "TRACE", "TRACE / HTTP/1.1\r\n" + HostLine + "\r\n", []int{405}},
	{"B-015", "PRI", "PRI / HTTP/1.1\r\n" + HostLine + "\r\n", nil},
	{"B-024", "10,000 trailer fields", Posted("Transfer-Encoding: chunked\r\n", "0\r\n"+strings.Repeat("A:\r\n", 10_000)+"\r\n"), nil},
	{"B-032", "absolute form without a host", "GET http:///x HTTP/1.1\r\n" + HostLine + "\r\n", nil},
	{"B-032", "authority form with GET", "GET reviews:80 HTTP/1.1\r\n" + HostLine + "\r\n", nil},
	{"B-032", "asterisk with GET", "GET * HTTP/1.1\r\n" + HostLine + "\r\n", nil},
	{"B-032", "no slash", "GET x HTTP/1.1\r\n" + HostLine + "\r\n", nil},
	{"B-032", "space", "GET /a b HTTP/1.1\r\n" + HostLine + "\r\n", nil},
	{"B-032", "tab", "GET /a\tb HTTP/1.1\r\n" + HostLine + "\r\n", nil},
	{"B-033", "two equal", Fielded("Host: reviews"), nil},
	{"B-033", "two different", Fielded("Host: ratings"), nil},
	{"B-033", "none", "GET / HTTP/1.1\r\n\r\n", nil},
	{"B-033", "list", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", nil},
	{"B-033", "zone", "GET / HTTP/1.1\r\nHost: [fe80::1%25lo]\r\n\r\n", nil},
	{"B-041", "another expectation", Posted("Expect: x\r\nContent-Length: 2\r\n", "hi"), []int{417}},
	{"B-052", "line of 65 KiB", Fielded("A: " + strings.Repeat("a", 65<<10)), []int{431}},
	{"B-052", "cookie of 1 MB", Fielded("Cookie: " + strings.Repeat("a", 1<<20)), []int{431}},
	{"B-052", "value of 10 MiB", Fielded("A: " + strings.Repeat("a", 10<<20)), []int{431}},
	{"B-053", "1,000 fields", Fielded(strings.Repeat("A: b\r\n", 999) + "A: b"), []int{431}},
	{"B-053", "118,000 fields", Fielded(strings.Repeat("A: b\r\n", 118_000) + "A: b"), []int{431}},
	{"B-053", "101 fields", Fielded(strings.Repeat("A: b\r\n", 100) + "A: b"), []int{431}},
}

// Bodies are chunked bodies that are none.
var Bodies = []struct{ Row, Name, Body string }{
	{"B-020", "bare LF", "1\na\r\n0\r\n\r\n"},
	{"B-020", "0x", "0x1\r\na\r\n0\r\n\r\n"},
	{"B-020", "plus", "+1\r\na\r\n0\r\n\r\n"},
	{"B-020", "minus", "-1\r\na\r\n0\r\n\r\n"},
	{"B-020", "space before", " 1\r\na\r\n0\r\n\r\n"},
	{"B-020", "space behind", "1 \r\na\r\n0\r\n\r\n"},
	{"B-020", "17 digits", "00000000000000001\r\na\r\n0\r\n\r\n"},
	{"B-020", "overflow", "FFFFFFFFFFFFFFFF\r\na\r\n0\r\n\r\n"},
	{"B-020", "empty", "\r\na\r\n0\r\n\r\n"},
	{"B-020", "no CRLF behind", "1\r\nZXX\r\n0\r\n\r\n"},
	{"B-021", "LF in an extension", "1;a\nb\r\na\r\n0\r\n\r\n"},
	{"B-021", "CR in an extension", "1;a\rb\r\na\r\n0\r\n\r\n"},
	{"B-021", "1 MB extension", "1;" + strings.Repeat("a", 1<<20) + "\r\na\r\n0\r\n\r\n"},
	{"B-021", "more than 4 KiB in small ones", strings.Repeat("1;a\r\na\r\n", 2100) + "0\r\n\r\n"},
	{"B-022", "no LF at the end", "0\r\n\rX"},
	{"B-024", "Content-Length", "0\r\nContent-Length: 5\r\n\r\n"},
	{"B-024", "Transfer-Encoding", "0\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{"B-024", "Host", "0\r\nHost: ratings\r\n\r\n"},
	{"B-024", "TE", "0\r\nTE: trailers\r\n\r\n"},
	{"B-024", "1 MB", "0\r\nA: " + strings.Repeat("b", 1<<20) + "\r\n\r\n"},
}
