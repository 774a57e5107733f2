package call_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
)

// FuzzTemplate: no text makes it fall over, text is text again, and what comes out stood in the template or in the
// values.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{
		"", "plain", "100%%", "%REQ(x-user?x-other):3%", "%RESP(server)%", "%REQ(:PATH)%%REQ(:METHOD):1%", "%START_TIME%", "%RESPONSE_CODE%/%RESPONSE_FLAGS%",
		"%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %ROUTE_NAME% %PROTOCOL%", "%HOSTNAME%", "%", "%%%", "%REQ(%", "%REQ(a)):1%", "%REQ(a):%", "%REQ(?)%", "%:1%", "%REQ((a:b)):2%",
	} {
		f.Add(s, "jason", "\x00é\xff")
	}
	host, _ := os.Hostname()
	f.Fuzz(func(t *testing.T, s, user, server string) {
		quoted, err := call.ParseTemplate(strings.ReplaceAll(s, "%", "%%"))
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if text, ok := quoted.Literal(); !ok || text != s || quoted.Text(new(call.Values)) != s {
			t.Fatalf("%q comes out as %q", s, text)
		}
		tpl, err := call.ParseTemplate(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n\x00") {
				t.Fatalf("the error has more than a line: %q", err)
			}
			return
		}
		v := &call.Values{Request: call.Request{Method: "GET", Scheme: "http", Authority: "a:1", Path: "/p", Query: "q", Headers: call.HTTPHeaders{"X-User": {user}}},
			Response: call.HTTPHeaders(http.Header{"Server": {server}}), Protocol: "HTTP/2", Route: "r", Cluster: "c", Endpoint: "e", Status: 503, Flags: "DI,FI", Time: time.Unix(0, 0)}
		got := tpl.Text(v)
		if again := string(tpl.Append([]byte(">"), v)); again != ">"+got {
			t.Fatalf("%q: Text gives %q, Append %q", s, got, again)
		}
		known := s + user + server + host + "GET http a:1 /p?q HTTP/2 r c e 503 DI,FI 0123456789-:.TZ"
		for i := range len(got) {
			if strings.IndexByte(known, got[i]) < 0 {
				t.Fatalf("%q: %q has the byte %q, which nobody gave", s, got, got[i])
			}
		}
	})
}
