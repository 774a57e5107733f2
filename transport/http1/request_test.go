package http1

import (
	"strings"
	"testing"
)

const host = "Host: h\r\n"

// refusedRequests are requests that RFC 9110, RFC 9112 or a limit has us refuse. row is that of the attack table.
var refusedRequests = []struct {
	row, name string
	status    int
	rule      string
	raw       string
}{
	{"B-001", "CL.TE", 400, "RFC 9112 §6.3", "POST / HTTP/1.1\r\n" + host + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"},
	{"B-002", "TE.CL", 400, "RFC 9112 §6.3", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n"},
	{"B-003", "chunked and identity, two lines", 400, "RFC 9112 §6.1", te("chunked\r\nTransfer-Encoding: identity")},
	{"B-003", "xchunked", 400, "RFC 9112 §6.1", te("xchunked")},
	{"B-003", "chunked, identity", 400, "RFC 9112 §6.1", te("chunked, identity")},
	{"B-003", "identity, chunked", 400, "RFC 9112 §6.1", te("identity, chunked")},
	{"B-003", "gzip, chunked", 501, "RFC 9112 §6.1", te("gzip, chunked")},
	{"B-003", "gzip", 400, "RFC 9112 §6.1", te("gzip")},
	{"B-003", "chunked twice in a line", 400, "RFC 9112 §6.1", te("chunked, chunked")},
	{"B-003", "chunked twice in lines", 400, "RFC 9112 §6.1", te("chunked\r\nTransfer-Encoding: chunked")},
	{"B-003", "VT before the value", 400, "RFC 9110 §5.5", te("\vchunked")},
	{"B-003", "parameter", 400, "RFC 9112 §6.1", te("chunked;q=1")},
	{"B-003", "quoted", 400, "RFC 9112 §6.1", te("\"chunked\"")},
	{"B-003", "comma before", 400, "RFC 9112 §6.1", te(", chunked")},
	{"B-003", "comma behind", 400, "RFC 9112 §6.1", te("chunked,")},
	{"B-003", "whitespace behind", 400, "RFC 9112 §6.1", te("chunked ")},
	{"B-003", "empty with CL", 400, "RFC 9112 §6.3", te("\r\nContent-Length: 3")},
	{"B-003", "empty", 400, "RFC 9112 §6.1", te("")},
	{"B-003", "Kelvin sign", 400, "RFC 9112 §6.1", te("chun\u212aed")},
	{"B-004", "TE.0", 400, "RFC 9112 §6.1", "POST / HTTP/1.0\r\n" + host + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"B-006", "obfuscated expectation", 417, "RFC 9110 §10.1.1", get("Expect: y 100-continue")},
	{"B-006", "two expectations", 417, "RFC 9110 §10.1.1", get("Expect: 100-continue\r\nExpect: 100-continue")},
	{"B-007", "two different", 400, "RFC 9112 §6.3", cl("1\r\nContent-Length: 2")},
	{"B-007", "list", 400, "RFC 9110 §8.6", cl("1, 1")},
	{"B-007", "plus", 400, "RFC 9110 §8.6", cl("+1")},
	{"B-007", "minus", 400, "RFC 9110 §8.6", cl("-1")},
	{"B-007", "hexadecimal", 400, "RFC 9110 §8.6", cl("0x1")},
	{"B-007", "underscore", 400, "RFC 9110 §8.6", cl("1_0")},
	{"B-007", "empty", 400, "RFC 9110 §8.6", cl("")},
	{"B-007", "space", 400, "RFC 9110 §8.6", cl(" ")},
	{"B-007", "20 digits", 400, "RFC 9110 §8.6", cl("99999999999999999999")},
	{"B-007", "above an int64", 400, "RFC 9110 §8.6", cl("9223372036854775808")},
	{"B-007", "space behind", 400, "RFC 9110 §8.6", cl("1 ")},
	{"B-007", "tab behind", 400, "RFC 9110 §8.6", cl("1\t")},
	{"B-007", "within", 400, "RFC 9110 §8.6", cl("1 0")},
	{"B-008", "twice the same", 400, "RFC 9112 §6.3", cl("1\r\nContent-Length: 1")},
	{"B-010", "bare LF after the request line", 400, "RFC 9112 §2.2", "GET / HTTP/1.1\n" + host + "\r\n"},
	{"B-010", "bare LF after a field", 400, "RFC 9112 §2.2", "GET / HTTP/1.1\r\nHost: h\n\r\n"},
	{"B-010", "bare LF as the last line", 400, "RFC 9112 §2.2", "GET / HTTP/1.1\r\nHost: h\r\n\n"},
	{"B-010", "bare LF before the request line", 400, "RFC 9112 §2.2", "\nGET / HTTP/1.1\r\n" + host + "\r\n"},
	{"B-010", "bare LF in a value", 400, "RFC 9112 §2.2", get("A: b\nTransfer-Encoding: chunked")},
	{"B-011", "bare CR in a value", 400, "RFC 9112 §2.2", get("A: b\rc")},
	{"B-011", "CR CR LF", 400, "RFC 9112 §2.2", get("A: b\r")},
	{"B-011", "bare CR in a name", 400, "RFC 9112 §2.2", get("A\rb: c")},
	{"B-011", "bare CR in the target", 400, "RFC 9112 §2.2", "GET /\ra HTTP/1.1\r\n" + host + "\r\n"},
	{"B-011", "bare CR in the version", 400, "RFC 9112 §2.2", "GET / HTTP/1.1\r \r\n" + host + "\r\n"},
	{"B-011", "NUL in a value", 400, "RFC 9110 §5.5", get("A: b\x00c")},
	{"B-011", "NUL in a name", 400, "RFC 9110 §5.1", get("A\x00: c")},
	{"B-011", "NUL in the target", 400, "RFC 9112 §3.2", "GET /\x00 HTTP/1.1\r\n" + host + "\r\n"},
	{"B-011", "DEL in a value", 400, "RFC 9110 §5.5", get("A: 1234567890\x7f")},
	{"B-011", "escape in a value", 400, "RFC 9110 §5.5", get("A: \x1b[31m")},
	{"B-012", "folded line", 400, "RFC 9112 §5.2", get("A: b\r\n c")},
	{"B-012", "folded with a tab", 400, "RFC 9112 §5.2", get("A: b\r\n\tc")},
	{"B-012", "folded first line", 400, "RFC 9112 §5.2", "GET / HTTP/1.1\r\n Host: h\r\n\r\n"},
	{"B-012", "line of a space", 400, "RFC 9112 §5.2", get(" ")},
	{"B-013", "space before the colon", 400, "RFC 9112 §5.1", get("A : b")},
	{"B-013", "tab before the colon", 400, "RFC 9112 §5.1", get("A\t: b")},
	{"B-013", "space in the name", 400, "RFC 9112 §5.1", get("A b: c")},
	{"B-013", "empty name", 400, "RFC 9112 §5", get(": b")},
	{"B-013", "no colon", 400, "RFC 9112 §5", get("A")},
	{"B-013", "no colon, with a space", 400, "RFC 9112 §5", get("A b")},
	{"B-013", "high byte in the name", 400, "RFC 9110 §5.1", get("A\x80: b")},
	{"B-013", "parenthesis in the name", 400, "RFC 9110 §5.1", get("A(: b")},
	{"B-014", "HTTP/1.2", 505, "RFC 9110 §15.6.6", "GET / HTTP/1.2\r\n" + host + "\r\n"},
	{"B-014", "HTTP/2.0", 505, "RFC 9110 §15.6.6", "GET / HTTP/2.0\r\n" + host + "\r\n"},
	{"B-014", "HTTP/0.9", 505, "RFC 9110 §15.6.6", "GET / HTTP/0.9\r\n" + host + "\r\n"},
	{"B-014", "no version", 400, "RFC 9112 §3", "GET /\r\n" + host + "\r\n"},
	{"B-014", "lower case", 400, "RFC 9112 §2.3", "GET / http/1.1\r\n" + host + "\r\n"},
	{"B-014", "HTTP/1.10", 400, "RFC 9112 §2.3", "GET / HTTP/1.10\r\n" + host + "\r\n"},
	{"B-014", "HTTP/1", 400, "RFC 9112 §2.3", "GET / HTTP/1\r\n" + host + "\r\n"},
	{"B-014", "HTTP/1,1", 400, "RFC 9112 §2.3", "GET / HTTP/1,1\r\n" + host + "\r\n"},
	{"B-015", "control byte in the method", 400, "RFC 9110 §9.1", "G\x01T / HTTP/1.1\r\n" + host + "\r\n"},
	{"B-015", "method of 33 bytes", 501, "RFC 9112 §3", strings.Repeat("M", 33) + " / HTTP/1.1\r\n" + host + "\r\n"},
	{"B-015", "method of 1 MB", 400, "Limits.Line", strings.Repeat("M", 1<<20) + " / HTTP/1.1\r\n" + host + "\r\n"},
	{"B-015", "PRI", 400, "RFC 9113 §3.4", "PRI / HTTP/1.1\r\n" + host + "\r\n"},
	{"B-015", "the HTTP/2 preface", 505, "RFC 9110 §15.6.6", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
	{"B-015", "no method", 400, "RFC 9112 §3", " / HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "absolute form without host", 400, "RFC 3986 §3.2", "GET http:///x HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "absolute form with userinfo", 400, "RFC 9110 §4.2.4", "GET http://u:p@h/x HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "absolute form without slashes", 400, "RFC 9112 §3.2", "GET http:/x HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "other scheme", 400, "RFC 9112 §3.2.2", "GET ftp://h/x HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "authority form with GET", 400, "RFC 9112 §3.2.2", "GET h:80 HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "host name with GET", 400, "RFC 9112 §3.2", "GET h HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "asterisk with GET", 400, "RFC 9112 §3.2", "GET * HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "no slash", 400, "RFC 9112 §3.2", "GET index.html HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "asterisk and more", 400, "RFC 9112 §3.2", "OPTIONS *a HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "CONNECT with a path", 400, "RFC 9112 §3.2.3", "CONNECT / HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "CONNECT without port", 400, "RFC 9112 §3.2.3", "CONNECT h HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "CONNECT with an empty port", 400, "RFC 9112 §3.2.3", "CONNECT h: HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "CONNECT to an address without port", 400, "RFC 9112 §3.2.3", "CONNECT [::1] HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "CONNECT with userinfo", 400, "RFC 9112 §3.2.3", "CONNECT u@h:1 HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "space in the target", 400, "RFC 9112 §3", "GET /a b HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "tab in the target", 400, "RFC 9112 §3", "GET /a\tb HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "two spaces", 400, "RFC 9112 §3", "GET  / HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "space behind", 400, "RFC 9112 §3", "GET / HTTP/1.1 \r\n" + host + "\r\n"},
	{"B-032", "tab as separator", 400, "RFC 9112 §3", "GET\t/ HTTP/1.1\r\n" + host + "\r\n"},
	{"B-032", "target above 8 KiB", 414, "Limits.Line", "GET /" + strings.Repeat("a", 8<<10) + " HTTP/1.1\r\n" + host + "\r\n"},
	{"B-031", "fragment", 400, "RFC 9112 §3.2", "GET /a#b HTTP/1.1\r\n" + host + "\r\n"},
	{"B-031", "fragment in the query", 400, "RFC 9112 §3.2", "GET /?a#b HTTP/1.1\r\n" + host + "\r\n"},
	{"B-030", "backslash in the path", 400, "RFC 9112 §3.2", "GET /a\\b HTTP/1.1\r\n" + host + "\r\n"},
	{"B-030", "malformed percent-encoding in the path", 400, "RFC 3986 §2.1", "GET /%zz HTTP/1.1\r\n" + host + "\r\n"},
	{"B-030", "cut percent-encoding in the path", 400, "RFC 3986 §2.1", "GET /%4 HTTP/1.1\r\n" + host + "\r\n"},
	{"B-030", "percent-encoding that runs into the query", 400, "RFC 3986 §2.1", "GET /%4?1 HTTP/1.1\r\n" + host + "\r\n"},
	{"B-030", "high byte", 400, "RFC 9112 §3.2", "GET /\xff HTTP/1.1\r\n" + host + "\r\n"},
	{"B-030", "quote", 400, "RFC 9112 §3.2", "GET /?\" HTTP/1.1\r\n" + host + "\r\n"},
	{"B-033", "two equal", 400, "RFC 9112 §3.2", get("Host: h")},
	{"B-033", "two different", 400, "RFC 9112 §3.2", get("Host: i")},
	{"B-033", "missing", 400, "RFC 9112 §3.2", "GET / HTTP/1.1\r\n\r\n"},
	{"B-033", "missing in an absolute form", 400, "RFC 9112 §3.2", "GET http://h/ HTTP/1.1\r\n\r\n"},
	{"B-033", "empty", 400, "RFC 9112 §3.2", hosted("")},
	{"B-033", "list", 400, "RFC 9112 §3.2", hosted("a,b")},
	{"B-033", "space", 400, "RFC 9112 §3.2", hosted("a b")},
	{"B-033", "userinfo", 400, "RFC 9112 §3.2", hosted("u@h")},
	{"B-033", "path", 400, "RFC 9112 §3.2", hosted("h/p")},
	{"B-033", "large port", 400, "RFC 9112 §3.2", hosted("h:99999")},
	{"B-033", "port with a sign", 400, "RFC 9112 §3.2", hosted("h:+80")},
	{"B-033", "two ports", 400, "RFC 9112 §3.2", hosted("h:80:80")},
	{"B-033", "only a port", 400, "RFC 9112 §3.2", hosted(":80")},
	{"B-033", "zone", 400, "RFC 9112 §3.2", hosted("[fe80::1%25eth0]")},
	{"B-033", "open bracket", 400, "RFC 9112 §3.2", hosted("[::1")},
	{"B-033", "IPv6 without brackets", 400, "RFC 9112 §3.2", hosted("::1")},
	{"B-033", "IPv4 in brackets", 400, "RFC 9112 §3.2", hosted("[127.0.0.1]")},
	{"B-033", "IPvFuture", 400, "RFC 9112 §3.2", hosted("[v1.x]")},
	{"B-033", "percent-encoding", 400, "RFC 9112 §3.2", hosted("%68")},
	{"B-033", "query", 400, "RFC 9112 §3.2", hosted("h?")},
	{"B-052", "field line of 33 KiB", 431, "Limits.Field", get("A: " + strings.Repeat("a", 33<<10))},
	{"B-052", "head of 65 KiB", 431, "Limits.Head", get(strings.Repeat("A: "+strings.Repeat("a", 1000)+"\r\n", 66) + "B: c")},
	{"B-052", "10 MB cookie", 431, "Limits.Field", get("Cookie: " + strings.Repeat("a", 10<<20))},
	{"B-052", "name of 257 bytes", 431, "Limits.Field", get(strings.Repeat("a", 257) + ": b")},
	{"B-053", "101 fields", 431, "Limits.Fields", get(strings.Repeat("A: b\r\n", 99) + "A: b")},
	{"", "two empty lines before", 400, "Limits.EmptyLines", "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n"},
}

func te(v string) string {
	return "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding:" + spaced(v) + "\r\n\r\n0\r\n\r\n"
}
func cl(v string) string {
	return "POST / HTTP/1.1\r\n" + host + "Content-Length:" + spaced(v) + "\r\n\r\na"
}
func get(lines string) string { return "GET / HTTP/1.1\r\n" + host + lines + "\r\n\r\n" }
func hosted(v string) string  { return "GET / HTTP/1.1\r\nHost:" + spaced(v) + "\r\n\r\n" }
func spaced(v string) string {
	if v == "" {
		return v
	}
	return " " + v
}

func TestRequestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range refusedRequests {
		t.Run(c.row+" "+c.name, func(t *testing.T) {
			t.Parallel()
			q, conn, err := request(t, c.raw)
			wantError(t, err, c.status, c.rule)
			if again := conn.ReadRequest(q); again != err { //nolint:errorlint // the same one
				t.Errorf("asked again it says %v", again)
			}
		})
	}
}

// No text of an error holds a byte of the message.
func TestErrorsAreConstants(t *testing.T) {
	t.Parallel()
	for _, c := range refusedRequests {
		_, _, err := request(t, c.raw)
		if err == nil {
			continue // TestRequestRefused says so
		}
		for i, b := range []byte(err.Error()) {
			if b < ' ' || b == 0x7f {
				t.Errorf("%s: control byte %d in %q", c.name, i, err)
			}
		}
	}
}

func TestRequestAccepted(t *testing.T) {
	t.Parallel()
	type want struct {
		form                                           Form
		method, scheme, authority, path, query, origin string
		differs                                        bool
	}
	for _, c := range []struct {
		name, raw string
		want      want
	}{
		{"origin form", get("A: b"), want{OriginForm, "GET", "", "h", "/", "", "/", false}},
		{"query", "GET /a/b?c=d&e?/f HTTP/1.1\r\n" + host + "\r\n", want{OriginForm, "GET", "", "h", "/a/b", "c=d&e?/f", "/a/b?c=d&e?/f", false}},
		{"question mark only", "GET /? HTTP/1.1\r\n" + host + "\r\n", want{OriginForm, "GET", "", "h", "/", "", "/?", false}},
		{"two slashes", "GET //a/b HTTP/1.1\r\n" + host + "\r\n", want{OriginForm, "GET", "", "h", "//a/b", "", "//a/b", false}},
		{"what browsers send", "GET /a[1]|^?f[x]={a}|\\^`%zz HTTP/1.1\r\n" + host + "\r\n", want{OriginForm, "GET", "", "h", "/a[1]|^", "f[x]={a}|\\^`%zz", "/a[1]|^?f[x]={a}|\\^`%zz", false}},
		{"absolute form", "GET http://H:80/p?q HTTP/1.1\r\nHost: h:80\r\n\r\n", want{AbsoluteForm, "GET", "http", "H:80", "/p", "q", "/p?q", false}},
		{"absolute form, other host", "GET HTTPS://i/ HTTP/1.1\r\n" + host + "\r\n", want{AbsoluteForm, "GET", "https", "i", "/", "", "/", true}},
		{"absolute form without path", "GET http://h HTTP/1.1\r\n" + host + "\r\n", want{AbsoluteForm, "GET", "http", "h", "/", "", "/", false}},
		{"absolute form with a query only", "GET http://h?q HTTP/1.1\r\n" + host + "\r\n", want{AbsoluteForm, "GET", "http", "h", "/", "q", "/?q", false}},
		{"absolute form, OPTIONS", "OPTIONS http://h HTTP/1.1\r\n" + host + "\r\n", want{AbsoluteForm, "OPTIONS", "http", "h", "/", "", "*", false}},
		{"asterisk", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", want{AsteriskForm, "OPTIONS", "", "h", "*", "", "*", false}},
		{"CONNECT", "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", want{AuthorityForm, "CONNECT", "", "h:443", "", "", "", false}},
		{"CONNECT to an address", "CONNECT [::1]:443 HTTP/1.1\r\nHost: i\r\n\r\n", want{AuthorityForm, "CONNECT", "", "[::1]:443", "", "", "", true}},
		{"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", want{OriginForm, "GET", "", "", "/", "", "/", false}},
		{"empty line before", "\r\n" + get("A: b"), want{OriginForm, "GET", "", "h", "/", "", "/", false}},
		{"IPv6", hosted("[2001:db8::1]:8080"), want{OriginForm, "GET", "", "[2001:db8::1]:8080", "/", "", "/", false}},
		{"odd host", hosted("A_b-c.~.:080"), want{OriginForm, "GET", "", "A_b-c.~.:080", "/", "", "/", false}},
		{"empty port", hosted("h:"), want{OriginForm, "GET", "", "h:", "/", "", "/", false}},
		{"own method", "pURGE! / HTTP/1.1\r\n" + host + "\r\n", want{OriginForm, "pURGE!", "", "h", "/", "", "/", false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q, _, err := request(t, c.raw)
			if err != nil {
				t.Fatal(err)
			}
			got := want{q.Form(), q.Method(), q.Scheme(), q.Authority(), q.Path(), q.Query(), q.Origin(), q.HostDiffers()}
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	q, _, err := request(t, "GET / HTTP/1.1\r\nhOST: h\r\nA: 1\r\nb:\r\na: \t 2 \t\r\nC: \xff\t \x80\r\nConnection: a, Upgrade,b\r\nconnection:close\r\nUPGRADE: websocket\r\nX_y~!#$%&'*+-.^`|: z\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		i    int
		want string
		ok   bool
	}{
		{"a", 0, "1", true}, {"A", 1, "2", true}, {"a", 2, "", false}, {"B", 0, "", true}, {"host", 0, "h", true},
		{"c", 0, "\xff\t \x80", true}, {"x_Y~!#$%&'*+-.^`|", 0, "z", true}, {"x_Y^!#$%&'*+-.~`|", 0, "", false}, {"", 0, "", false}, {"x-y", 0, "", false},
	} {
		if v, ok := q.Get(c.name, c.i); v != c.want || ok != c.ok {
			t.Errorf("Get(%q, %d) is %q, %t", c.name, c.i, v, ok)
		}
	}
	if v, ok := q.Known(FieldConnection, 1); v != "close" || !ok {
		t.Errorf("Known(Connection, 1) is %q, %t", v, ok)
	}
	if _, ok := q.Known(FieldTE, 0); ok || q.Has(FieldTE) || !q.Has(FieldUpgrade) {
		t.Error("Has is wrong about TE or Upgrade")
	}
	for token, want := range map[string]bool{"a": true, "UPGRADE": true, "B": true, "close": true, "ab": false, "": false, "upgrade,b": false} {
		if q.Lists(FieldConnection, token) != want {
			t.Errorf("Connection lists %q: %t", token, !want)
		}
	}
	if q.Len() != 9 || q.Name(0) != "hOST" || q.ID(0) != FieldHost || !q.Is(1, "a") || q.ID(1) != FieldOther || q.Persistent() {
		t.Errorf("%d fields, %q, %d, persistent %t", q.Len(), q.Name(0), q.ID(0), q.Persistent())
	}
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	names := map[string]FieldID{
		"Host": FieldHost, "Connection": FieldConnection, "Content-Length": FieldContentLength, "Transfer-Encoding": FieldTransferEncoding,
		"Expect": FieldExpect, "Upgrade": FieldUpgrade, "TE": FieldTE, "Trailer": FieldTrailer, "Keep-Alive": FieldKeepAlive,
		"Proxy-Connection": FieldProxyConnection, "Proxy-Authenticate": FieldProxyAuthenticate,
		"Proxy-Authorization": FieldProxyAuthorization, "HTTP2-Settings": FieldHTTP2Settings, "User-Agent": FieldUserAgent,
	}
	for name, id := range names {
		for _, s := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			if Identify(s) != id {
				t.Errorf("%s is %d, not %d", s, Identify(s), id)
			}
		}
		for i := range len(name) {
			if s := name[:i] + "_" + name[i+1:]; Identify(s) != FieldOther {
				t.Errorf("%s is taken for %s", s, name)
			}
		}
		if end := id == FieldHost || id == FieldContentLength || id == FieldExpect || id == FieldUserAgent; id.HopByHop() == end {
			t.Errorf("%s: hop by hop is %t", name, id.HopByHop())
		}
	}
}

func TestPersistence(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]bool{
		get("A: b"):                                        true,
		get("Connection: keep-alive"):                      true,
		get("Connection: keep-alive, CLOSE"):               false, // B-035: close wins
		get("Connection: closed"):                          true,
		"GET / HTTP/1.0\r\n\r\n":                           false,
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n": false, // RFC 9112 §9.3
	} {
		if q, _, err := request(t, raw); err != nil || q.Persistent() != want {
			t.Errorf("%q: persistent %t, %v", raw, q.Persistent(), err)
		}
	}
}

func TestExpect(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]bool{
		"POST / HTTP/1.1\r\n" + host + "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n": true,
		"POST / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n": false, // nothing comes
		"POST / HTTP/1.0\r\n" + host + "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n": false, // RFC 9110 §10.1.1
	} {
		if q, _, err := request(t, raw); err != nil || q.ExpectContinue() != want {
			t.Errorf("%q: %t, %v", raw, q.ExpectContinue(), err)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for size := range 20 {
		for at := range size {
			for c := range 256 {
				b := []byte("abcdefghijklmnopqrst")[:size]
				b[at] = byte(c)
				if want := c == '\t' || c >= ' ' && c != 0x7f; text(b) != want {
					t.Errorf("byte %#x at %d of %d: %t", c, at, size, !want)
				}
			}
		}
	}
}

// TestRefusedRequestHasNothingOfTheOneBefore: a Request is used again, and its buffer may be another's by then.
func TestRefusedRequestHasNothingOfTheOneBefore(t *testing.T) {
	t.Parallel()
	c := NewConn(whole("HEAD http://h/p?q HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n\x00"), nil)
	defer c.Close()
	var q Request
	if err := c.ReadRequest(&q); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadRequest(&q); err == nil {
		t.Fatal("NUL is a request")
	}
	if s := q.Method() + q.Target() + q.Scheme() + q.Authority() + q.Host() + q.Path() + q.Query(); s != "" || q.Persistent() || q.ExpectContinue() || q.Form() != OriginForm {
		t.Errorf("the refused request has %q of the one before", s)
	}
}
