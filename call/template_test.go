package call_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
)

func TestTemplate(t *testing.T) {
	t.Parallel()
	host, _ := os.Hostname()
	v := &call.Values{
		Request: call.Request{Method: "GET", Scheme: "http", Authority: "reviews:9080", Path: "/a", Query: "b=c",
			Headers: call.HTTPHeaders(http.Header{"X-User": {"jason", "other"}})},
		Response: call.HTTPHeaders(http.Header{"Server": {"nginx"}}),
		Protocol: "HTTP/1.1", Route: "r", Cluster: "c", Endpoint: "10.0.0.1:80", Status: 503, Flags: "UH",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC),
	}
	for in, want := range map[string]string{
		"":                            "",
		"plain":                       "plain",
		"100%%":                       "100%",
		"%%REQ(x)%%":                  "%REQ(x)%",
		"%REQ(X-USER)%":               "jason",
		"<%REQ(x-none)%>":             "<>",
		"%REQ(x-none?x-user):3%":      "jas",
		"%REQ(:METHOD)% %REQ(:PATH)%": "GET /a?b=c",
		"%REQ(:AUTHORITY)%":           "reviews:9080",
		"%REQ(:SCHEME)%":              "http",
		"%RESP(server)%":              "nginx",
		"%PROTOCOL%":                  "HTTP/1.1",
		"%START_TIME%":                "2026-01-02T03:04:05.678Z",
		"%ROUTE_NAME%:%UPSTREAM_CLUSTER%:%UPSTREAM_HOST%": "r:c:10.0.0.1:80",
		"%RESPONSE_CODE%/%RESPONSE_FLAGS%":                "503/UH",
		"%HOSTNAME%":                                      host,
	} {
		tpl, err := call.ParseTemplate(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := tpl.Text(v); got != want {
			t.Errorf("%s = %q, want %q", in, got, want)
		}
	}
}

func TestTemplateRefuses(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"50%":              "a single %",
		"%REQ%":            "name a header",
		"%REQ()%":          "name a header",
		"%REQ(a?)%":        "name a header",
		"%REQ(a%":          "not closed",
		"%REQ(a):0%":       "1 to 65535",
		"%REQ(a):x%":       "1 to 65535",
		"%PROTOCOL(x)%":    "takes no argument",
		"%ENVIRONMENT(X)%": "these are: HOSTNAME, PROTOCOL, REQ,",
		"%a\r\nb%":         `a\r\nb`,
	} {
		if _, err := call.ParseTemplate(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}

// TestTemplateOfNothing: no value is known, and nothing falls over.
func TestTemplateOfNothing(t *testing.T) {
	t.Parallel()
	tpl, err := call.ParseTemplate("%REQ(a)%%RESP(b)%%PROTOCOL%%ROUTE_NAME%%UPSTREAM_HOST%%RESPONSE_CODE%%RESPONSE_FLAGS%")
	if err != nil {
		t.Fatal(err)
	}
	if got := tpl.Text(&call.Values{}); got != "" {
		t.Errorf("%q", got)
	}
	if !tpl.OfResponse() {
		t.Error("it asks for the answer")
	}
}

func TestHTTPHeadersEdit(t *testing.T) {
	t.Parallel()
	shared := []string{"1", "spare"}
	h := http.Header{"A": shared[:1]}
	n := call.NewName("a")
	e := call.HTTPHeaders(h)
	e.Add(n, "2")
	if shared[1] != "spare" {
		t.Error("Add wrote into the array of another header")
	}
	if got := h["A"]; len(got) != 2 || got[1] != "2" {
		t.Errorf("Add: %v", got)
	}
	e.Set(n, "3")
	if got := h["A"]; len(got) != 1 || got[0] != "3" {
		t.Errorf("Set: %v", got)
	}
	e.Remove(n)
	if _, ok := h["A"]; ok {
		t.Error("Remove")
	}
}
