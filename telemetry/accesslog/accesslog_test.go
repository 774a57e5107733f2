package accesslog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
)

// sample is a call that was answered.
func sample() *accesslog.Entry {
	return &accesslog.Entry{
		Reporter: telemetry.Source, Start: time.Date(2026, 3, 1, 12, 30, 15, 123456789, time.UTC),
		Outcome:      telemetry.Outcome{Code: 200},
		Measurement:  telemetry.Measurement{Duration: 21*time.Millisecond + 900*time.Microsecond, RequestBytes: 5, ResponseBytes: 135},
		UpstreamTime: 20 * time.Millisecond, Method: "GET", Scheme: "http", Authority: "httpbin:8000", Path: "/status/418", Query: "a=b",
		Protocol: "HTTP/1.1", Details: "via_upstream", Route: "default", Cluster: "outbound|8000||httpbin.foo.svc.cluster.local",
		Endpoint: "10.44.1.27:80", Attempts: 1,
		Request:       call.HTTPHeaders{"User-Agent": {"curl/7.73.0"}, "X-Request-Id": {"84961386-6d84-929d-98bd-c5aee93b5c88"}},
		UpstreamLocal: netip.MustParseAddrPort("10.44.1.23:37652"), Local: netip.MustParseAddrPort("10.0.45.184:8000"),
		Remote: netip.MustParseAddrPort("[::ffff:10.44.1.23]:46520"),
	}
}

// TestIstioFormats: the lines that Istio's documentation shows of a request, to the byte.
func TestIstioFormats(t *testing.T) {
	t.Parallel()
	const text = `[2026-03-01T12:30:15.123Z] "GET /status/418?a=b HTTP/1.1" 200 - via_upstream - "-" 5 135 21 20 "-" "curl/7.73.0" ` +
		`"84961386-6d84-929d-98bd-c5aee93b5c88" "httpbin:8000" "10.44.1.27:80" outbound|8000||httpbin.foo.svc.cluster.local ` +
		`10.44.1.23:37652 10.0.45.184:8000 10.44.1.23:46520 - default` + "\n"
	const object = `{"authority":"httpbin:8000","bytes_received":5,"bytes_sent":135,"connection_termination_details":null,` +
		`"downstream_local_address":"10.0.45.184:8000","downstream_remote_address":"10.44.1.23:46520","duration":21,"method":"GET",` +
		`"path":"/status/418?a=b","protocol":"HTTP/1.1","request_id":"84961386-6d84-929d-98bd-c5aee93b5c88","requested_server_name":null,` +
		`"response_code":200,"response_code_details":"via_upstream","response_flags":"-","route_name":"default",` +
		`"start_time":"2026-03-01T12:30:15.123Z","upstream_cluster":"outbound|8000||httpbin.foo.svc.cluster.local",` +
		`"upstream_host":"10.44.1.27:80","upstream_local_address":"10.44.1.23:37652","upstream_service_time":"20",` +
		`"upstream_transport_failure_reason":null,"user_agent":"curl/7.73.0","x_forwarded_for":null}` + "\n"
	f, err := accesslog.ParseText(accesslog.DefaultText)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(f.Append(nil, sample())); got != text {
		t.Errorf("text is\n%swant\n%s", got, text)
	}
	if f, err = accesslog.ParseJSON(accesslog.DefaultJSON); err != nil {
		t.Fatal(err)
	}
	if got := string(f.Append(nil, sample())); got != object {
		t.Errorf("JSON is\n%swant\n%s", got, object)
	}
}

// TestWithoutEmpty: what is not there leaves nothing behind: no "-" in a text, no key in JSON, no object without keys.
func TestWithoutEmpty(t *testing.T) {
	t.Parallel()
	e := &accesslog.Entry{Outcome: telemetry.Outcome{Code: 503}}
	for format, want := range map[string]string{
		`%RESPONSE_CODE% "%PROTOCOL%" %ROUTE_NAME%;`:                                           `503 "" ;` + "\n",
		`{"a": "%PROTOCOL%", "b": "%RESPONSE_CODE%", "c": "%ROUTE_NAME%"}`:                     `{"b":503}` + "\n",
		`{"a": {"b": "%PROTOCOL%"}, "c": ["%PROTOCOL%", "%RESPONSE_CODE%"], "d": {}, "e": []}`: `{"c":[503]}` + "\n",
		`{"a": "<%PROTOCOL%>", "b": null, "c": 1, "d": "-"}`:                                   `{"a":"<>","b":null,"c":1,"d":"-"}` + "\n",
		`{"a": "%PROTOCOL%"}`: "{}\n",
	} {
		parse := accesslog.ParseText
		if format[0] == '{' {
			parse = accesslog.ParseJSON
		}
		f, err := parse(format)
		if err != nil {
			t.Fatal(err)
		}
		g := f.WithoutEmpty()
		if got := string(g.Append(nil, e)); got != want {
			t.Errorf("%s: %q, want %q", format, got, want)
		}
		if g.Equal(f) || !g.Equal(f.WithoutEmpty()) {
			t.Errorf("%s: it is equal to what writes something else", format)
		}
	}
}

// TestOperators: every command operator, of an entry that has it and of one that has nothing.
func TestOperators(t *testing.T) {
	t.Parallel()
	e := sample()
	e.Code, e.GRPC, e.Flags = 503, 14+1, call.FlagUF|call.FlagURX
	e.Err = &call.Error{Reason: call.ReasonConnect, Err: errors.New("connection refused")}
	e.Reason, e.SNI, e.Peer = call.ReasonConnect, "a.b", "spiffe://td/ns/n/sa/s"
	e.Request = call.HTTPHeaders{"X-A": {"one two", "three"}, "Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	e.Response, e.Trailer = call.HTTPHeaders{"X-B": {"b"}}, call.HTTPHeaders{"Grpc-Status": {"14"}}
	host, _ := os.Hostname()
	asked := make(map[string]bool)
	for _, c := range []struct{ format, want, empty string }{
		{"%START_TIME%", "2026-03-01T12:30:15.123Z", "0001-01-01T00:00:00.000Z"},
		{"%START_TIME(%Y/%m/%dT%H:%M:%S.%3f %s%%)%", "2026/03/01T12:30:15.123 1772368215%", "0001/01/01T00:00:00.000 -62135596800%"},
		{"%PROTOCOL%", "HTTP/1.1", "-"}, {"%RESPONSE_CODE%", "503", "0"}, {"%RESPONSE_CODE_DETAILS%", "via_upstream", "-"},
		{"%RESPONSE_FLAGS%", "UF,URX", "-"}, {"%RESPONSE_FLAGS_LONG%", "UpstreamConnectionFailure,UpstreamRetryLimitExceeded", "-"},
		{"%CONNECTION_TERMINATION_DETAILS%", "-", "-"}, {`"%UPSTREAM_TRANSPORT_FAILURE_REASON%"`, `"connection refused"`, `"-"`},
		{"%UPSTREAM_TRANSPORT_FAILURE_REASON%", `connection\x20refused`, "-"},
		{"%BYTES_RECEIVED%", "5", "0"}, {"%BYTES_SENT%", "135", "0"}, {"%DURATION%", "21", "0"}, {"%RESPONSE_DURATION%", "20", "-"},
		{"%UPSTREAM_HOST%", "10.44.1.27:80", "-"}, {"%UPSTREAM_REMOTE_ADDRESS%", "10.44.1.27:80", "-"},
		{"%UPSTREAM_CLUSTER%", "outbound|8000||httpbin.foo.svc.cluster.local", "-"},
		{"%UPSTREAM_CLUSTER_RAW%", "outbound|8000||httpbin.foo.svc.cluster.local", "-"},
		{"%UPSTREAM_LOCAL_ADDRESS%", "10.44.1.23:37652", "-"}, {"%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "10.44.1.23", "-"},
		{"%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "1", "0"}, {"%DOWNSTREAM_LOCAL_ADDRESS%", "10.0.45.184:8000", "-"},
		{"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "10.0.45.184", "-"}, {"%DOWNSTREAM_LOCAL_PORT%", "8000", "-"},
		{"%DOWNSTREAM_REMOTE_ADDRESS%", "10.44.1.23:46520", "-"}, {"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.44.1.23", "-"},
		{"%DOWNSTREAM_REMOTE_PORT%", "46520", "-"}, {"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "10.44.1.23:46520", "-"},
		{"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "10.44.1.23", "-"}, {"%DOWNSTREAM_PEER_URI_SAN%", "spiffe://td/ns/n/sa/s", "-"},
		{"%REQUESTED_SERVER_NAME%", "a.b", "-"}, {"%ROUTE_NAME%", "default", "-"},
		{"%GRPC_STATUS%", "Unavailable", "-"}, {"%GRPC_STATUS(SNAKE_STRING)%", "UNAVAILABLE", "-"}, {"%GRPC_STATUS(NUMBER)%", "14", "-"},
		{"%GRPC_STATUS_NUMBER%", "14", "-"}, {"%REQ(:METHOD)% %REQ(:AUTHORITY)% %REQ(:SCHEME)%", "GET httpbin:8000 http", "- - -"},
		{"%REQ(X-NONE?:PATH)%", "/status/418?a=b", "-"}, {"%REQ(:PATH):8%", "/status/", "-"}, {"%REQ(:PATH):13%", "/status/418?a", "-"},
		{"%REQ_WITHOUT_QUERY(:PATH)%", "/status/418", "-"}, {"%REQ(x-a)%", `one\x20two`, "-"}, {`"%REQ(X-A):3%"`, `"one"`, `"-"`},
		{"%RESP(X-B)%%RESP(:STATUS)%", "b503", "-0"}, {"%RESP(X-C?X-B)%", "b", "-"}, {"%TRAILER(GRPC-STATUS)%", "14", "-"},
		{"%TRACE_ID%", "0af7651916cd43dd8448eb211c80319c", "-"}, {"%HOSTNAME%", host, host}, {"100%%", "100%", "100%"},
	} {
		f, err := accesslog.ParseText(c.format)
		if err != nil {
			t.Errorf("%s: %v", c.format, err)
			continue
		}
		name, _, _ := strings.Cut(strings.Trim(c.format, `"%`), "%")
		name, _, _ = strings.Cut(name, "(")
		name, _, _ = strings.Cut(name, ":")
		asked[name] = true
		if got := strings.TrimSuffix(string(f.Append(nil, e)), "\n"); got != c.want {
			t.Errorf("%s gives %s, want %s", c.format, got, c.want)
		}
		if got := strings.TrimSuffix(string(f.Append(nil, new(accesslog.Entry))), "\n"); got != c.empty {
			t.Errorf("%s gives %s of nothing, want %s", c.format, got, c.empty)
		}
	}
	for _, name := range accesslog.Operators() {
		if !asked[name] {
			t.Errorf("no case for %s", name)
		}
	}
}

func TestFormatRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ format, want string }{
		{"%NOPE%", "%NOPE% at byte 1 is no operator of the mesh's; there are BYTES_RECEIVED"}, {"ab %START_TIME", "at byte 4 has no end; write %% for a percent sign"},
		{"%REQ%", "no field of a header"}, {"%REQ(:what)%", ":what"}, {"%PROTOCOL(x)%", "takes none"}, {"%REQ(a):x%", "length"}, {"%REQ(a):0%", "length"},
		{"%REQ(a b)%", "no field"}, {"%START_TIME(%Q)%", "%Q"}, {"%START_TIME(%Y%)%", "directive"}, {"%GRPC_STATUS(x)%", "one of"},
		{"%DYNAMIC_METADATA(a:b)%", "no operator"}, {"%REQ(a%", "has no end"},
	} {
		if _, err := accesslog.ParseText(c.format); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.format, err, c.want)
		}
	}
	for _, c := range []struct{ format, want string }{
		{`["%PROTOCOL%"]`, "object"}, {`{"a": 1} {}`, "more behind"}, {`{"a": {"b": "%X%"}}`, "a: b: %X%"}, {strings.Repeat(`{"a":`, 30) + "1" + strings.Repeat("}", 30), "levels"},
	} {
		if _, err := accesslog.ParseJSON(c.format); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.format, err, c.want)
		}
	}
	f, err := accesslog.ParseJSON(`{"n": 1.50, "b": true, "z": null, "l": ["%RESPONSE_CODE%", "x %REQ(A)% %PROTOCOL%"], "a": {"\n": "%PROTOCOL%"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(f.Append(nil, sample())); got != `{"a":{"\n":"HTTP/1.1"},"b":true,"l":[200,"x - HTTP/1.1"],"n":1.50,"z":null}`+"\n" {
		t.Errorf("JSON is %s", got)
	}
}

// FuzzLine: whatever a request says, its line is one line, its columns in quotes end where they end, and its JSON is JSON (attacks.md, log injection).
func FuzzLine(f *testing.F) {
	for _, s := range []string{"", `"`, "\n", "\r\nfake line", `\`, "\x1b[31m", "\u2028", "\u202e", "\u0085", "\xff\xfe", "é", "a b", "\x00", "%REQ(A)%", `"} {"`, "\x7f"} {
		f.Add(s, s)
	}
	text, err := accesslog.ParseText(accesslog.DefaultText)
	if err != nil {
		f.Fatal(err)
	}
	object, err := accesslog.ParseJSON(accesslog.DefaultJSON)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		e := sample()
		e.Path, e.Query, e.Method, e.Authority, e.Route, e.Details, e.SNI, e.Endpoint = a, b, b, a, b, a, b, a
		e.Request = call.HTTPHeaders{"User-Agent": {a}, "X-Forwarded-For": {b}, "X-Request-Id": {b}}
		line := string(text.Append(nil, e))
		unsafe := func(line string) bool {
			return !utf8.ValidString(line) || strings.Count(line, "\n") != 1 || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool {
				return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0x202e
			})
		}
		if unsafe(line) {
			t.Fatalf("%q", line)
		}
		quotes := 0
		for i := range len(line) {
			if line[i] == '\\' && i+1 < len(line) && (line[i+1] == '"' || line[i+1] == '\\') {
				line = line[:i] + "__" + line[i+2:]
			}
			if line[i] == '"' {
				quotes++
			}
		}
		if quotes != 14 {
			t.Fatalf("%d quotes in %q", quotes, line)
		}
		if out := string(object.Append(nil, e)); !json.Valid([]byte(out)) || unsafe(out) {
			t.Fatalf("%q", out)
		}
	})
}

func TestFilter(t *testing.T) {
	t.Parallel()
	e := sample()
	e.Request = call.HTTPHeaders{"X-Debug": {"yes"}}
	server := sample()
	server.Reporter, server.Peer, server.Code, server.GRPC = telemetry.Destination, "spiffe://td/ns/a/sa/b", 503, 14+1
	server.Flags = call.FlagUF | call.FlagURX
	for _, c := range []struct {
		expr           string
		client, server bool
	}{
		{"response.code >= 400", false, true}, {"response.code < 400 && request.method == 'GET'", true, false}, {"connection.mtls", false, true},
		{"!connection.mtls", true, false}, {`request.url_path == "/status/418"`, true, true}, {"request.path.endsWith('?a=b')", true, true},
		{"request.url_path.startsWith('/status') && !request.url_path.contains('419')", true, true}, {"request.host.matches('^httpbin:[0-9]+$')", true, true},
		{"has(response.grpc_status) && response.grpc_status == 14", false, true}, {"response.grpc_status != 14", false, false},
		{"response.grpc_status == 14 || response.code == 200", true, true}, {"!(response.grpc_status == 14) && response.code == 200", false, false},
		{"request.headers['x-debug'] == 'yes'", true, false}, {"has(request.headers['X-Debug'])", true, false},
		{"request.method in ['GET', \"HEAD\"]", true, true}, {"response.code in [500, 503]", false, true}, {"request.duration > duration('20ms')", true, true},
		{"request.duration >= duration('1s')", false, false}, {"(response.flags == 0)", true, false}, {"response.flags == 32800", false, true},
		{"400 <= response.code || false", false, true}, {"true", true, true}, {"connection.mtls == false", true, false}, {"response.code != -1", true, true},
		{"request.size == 5 && response.size > 134.5", true, true}, {"xds.cluster_name.contains('httpbin')", true, true},
		{"request.method != 'a\\'b'", true, true}, {"\n request.method\n==\n'GET' ", true, true},
	} {
		f, err := accesslog.ParseFilter(c.expr)
		if err != nil {
			t.Errorf("%s: %v", c.expr, err)
			continue
		}
		if a, b := f.Match(e), f.Match(server); a != c.client || b != c.server {
			t.Errorf("%s: %v and %v, want %v and %v", c.expr, a, b, c.client, c.server)
		}
	}
}

func TestFilterRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ expr, want string }{
		{"", "something is missing, at line 1, column 1"}, {"response.code", "is a number, not true or false"}, {"response.code >= '400'", "compares a number with a text, at line 1, column 15"},
		{"response.nope == 1", `"response.nope" is no attribute or function that is supported, at line 1, column 1`}, {"response.code >= 400 ? true : false", `"?" is not supported here, at line 1, column 22`},
		{"true &&\n  request.headers.exists(h, h == 'a')", "line 2, column 3"}, {"response.code + 1 == 2", `"+" is not supported`}, {"request.time < timestamp('x')", `"request.time"`},
		{"request.method.size() == 3", `"size"`}, {"response.code.startsWith('4')", "function of texts"}, {"request.method.matches('(')", "column 16"}, {"request.headers == 'a'", "is a map"},
		{"request.headers[x] == 'a'", "text in quotes"}, {"(true", "in the place of )"}, {"!response.code", "turns true and false around"}, {"true && response.code", "joins true and false, not a number"},
		{"'a", "has no end"}, {"request.method == 'a\\u0041'", "escape"}, {"request.method in 'GET'", "looks into a list"}, {"request.method in [1]", "a list of others"}, {"true < false", "no meaning"},
		{"[1] == [1]", "compares a list"}, {"0x10 == response.code", "is no number"}, {"has(1)", "asks for an attribute"}, {"true true", `"true" is not supported here`}, {"duration('x') < request.duration", "no duration"},
		{strings.Repeat("(", 10000), "4096 bytes"}, {strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100), "stand in each other"}, {strings.Repeat("!", 100) + "true", "stand in each other"},
	} {
		f, err := accesslog.ParseFilter(c.expr)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: %v, %v, want %s", c.expr, f, err, c.want)
		}
	}
}

// FuzzFilter: what can be read can be evaluated, of any entry.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{"response.code >= 400 || connection.mtls", "request.headers['a'].matches('x')", "!(a", "request.method in ['a']", "has(response.code)", "duration('1s') < request.duration"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) {
		if x, err := accesslog.ParseFilter(s); err == nil {
			x.Match(sample())
			x.Match(new(accesslog.Entry))
		}
	})
}

func plan(t testing.TB, path string, filter string) *accesslog.Plan {
	t.Helper()
	format, err := accesslog.ParseText("%REQ(:PATH)%")
	if err != nil {
		t.Fatal(err)
	}
	o := accesslog.Output{Path: path, Format: format}
	if filter != "" {
		if o.Filter, err = accesslog.ParseFilter(filter); err != nil {
			t.Fatal(err)
		}
	}
	return &accesslog.Plan{telemetry.Source: {o}}
}

func pathOnly(path string) *accesslog.Entry {
	return &accesslog.Entry{Path: path, Outcome: telemetry.Outcome{Code: 200}}
}

// TestFileTurnedOver: a file that is renamed goes on under its own name, and no line is lost or written twice.
func TestFileTurnedOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "access.log")
	synctest.Test(t, func(t *testing.T) {
		l := accesslog.New(nil, nil)
		l.Set(plan(t, path, "response.code == 200"))
		l.Log(pathOnly("/1"))
		synctest.Wait()
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		l.Log(pathOnly("/2"))
		time.Sleep(time.Second)
		l.Set(plan(t, path, "")) // the same file, another filter
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		l.Log(pathOnly("/3"))
		l.Close()
		l.Log(pathOnly("/4"))
		for name, want := range map[string]string{path + ".1": "/1\n", path: "/3\n"} {
			if got, err := os.ReadFile(name); string(got) != want {
				t.Errorf("%s has %q, %v, want %q", name, got, err, want)
			}
		}
		if n := l.Counts(); len(n) != 1 || n[0].Written != 3 || n[0].Dropped != 0 {
			t.Errorf("counts %v", n)
		}
	})
}

// A stuck writer takes its first piece only when it is let go.
type stuck struct {
	begun, free chan struct{}
	once        sync.Once
	bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.begun); <-s.free })
	return s.Buffer.Write(p)
}

// TestBounded: where nobody takes lines, requests do not wait; what has no room is counted, and the rest is written at the end.
func TestBounded(t *testing.T) {
	t.Parallel()
	w := &stuck{begun: make(chan struct{}), free: make(chan struct{})}
	own := make(counter, 1)
	l := accesslog.New(own, map[string]io.Writer{"/dev/stdout": w})
	l.Set(plan(t, "/dev/stdout", ""))
	l.Log(pathOnly("/first"))
	<-w.begun
	const n = 100_000
	e := pathOnly("/0123456789")
	for range n {
		l.Log(e)
	}
	dropped := l.Counts()[0].Dropped
	if kept := n - dropped; dropped == 0 || kept*12 > 1<<20 || kept*12 < 1<<20-12 {
		t.Errorf("%d lines dropped", dropped)
	}
	close(w.free)
	l.Close()
	if got := uint64(strings.Count(w.String(), "\n")); got != n+1-dropped {
		t.Errorf("%d lines written, %d dropped", got, dropped)
	}
	if c := l.Counts(); len(c) != 1 || c[0].Dropped != dropped || c[0].Written != n+1-dropped {
		t.Errorf("counts %v", c)
	}
	if got := <-own; got != n {
		t.Errorf("the logger has heard of %d", got)
	}
}

// A counter is a Logger; it holds how many entries it has heard of since the first.
type counter chan int

func (c counter) Log(*accesslog.Entry) {
	select {
	case n := <-c:
		c <- n + 1
	default:
		c <- 0
	}
}

// TestUnwritable: lines for a file that cannot be written to are counted.
func TestUnwritable(t *testing.T) {
	t.Parallel()
	l := accesslog.New(nil, nil)
	l.Set(plan(t, filepath.Join(t.TempDir(), "none", "access.log"), ""))
	l.Log(pathOnly("/"))
	l.Set(nil)
	if c := l.Counts(); fmt.Sprint(c) != "[{ 0 1}]" {
		t.Errorf("counts %v", c)
	}
	l.Close()
	l.Close()
}

// TestAllocs: a line costs no allocation, filtered or not, and nothing is on without a plan.
func TestAllocs(t *testing.T) {
	l := accesslog.New(nil, map[string]io.Writer{"x": io.Discard})
	defer l.Close()
	if l.On(telemetry.Source) || l.On(telemetry.Destination) {
		t.Error("a log without outputs is on")
	}
	text, err := accesslog.ParseText(accesslog.DefaultText)
	if err != nil {
		t.Fatal(err)
	}
	filter, err := accesslog.ParseFilter("response.code >= 200 && (connection.mtls || request.headers['user-agent'].startsWith('curl'))")
	if err != nil {
		t.Fatal(err)
	}
	l.Set(&accesslog.Plan{{{Path: "x", Format: text, Filter: filter}}})
	e := sample()
	line := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(1000, func() {
		if filter.Match(e) {
			line = text.Append(line[:0], e)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	l.Log(e)
}

func BenchmarkText(b *testing.B) {
	f, err := accesslog.ParseText(accesslog.DefaultText)
	if err != nil {
		b.Fatal(err)
	}
	e, line := sample(), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		line = f.Append(line[:0], e)
	}
}

func BenchmarkLog(b *testing.B) {
	l := accesslog.New(nil, map[string]io.Writer{"x": io.Discard})
	defer l.Close()
	f, err := accesslog.ParseText(accesslog.DefaultText)
	if err != nil {
		b.Fatal(err)
	}
	l.Set(&accesslog.Plan{{{Path: "x", Format: f}}})
	e := sample()
	b.ReportAllocs()
	for b.Loop() {
		l.Log(e)
	}
}
