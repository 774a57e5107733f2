package call_test

import (
	"net/http"
	"testing"

	"github.com/heddlemesh/mesh/call"
)

func TestName(t *testing.T) {
	t.Parallel()
	for _, spelling := range []string{"End-User", "end-user", "END-USER"} {
		n := call.NewName(spelling)
		if n.Lower() != "end-user" || n.Canonical() != "End-User" || n.String() != "end-user" {
			t.Errorf("%q: %q, %q, %q", spelling, n.Lower(), n.Canonical(), n)
		}
	}
}

func TestHTTPHeaders(t *testing.T) {
	t.Parallel()
	h := http.Header{}
	h.Add("x-role", "user")
	h.Add("X-Role", "admin")
	h.Set("X-Empty", "")
	h["x-raw"] = []string{"not seen"}
	for _, c := range []struct {
		name  string
		i     int
		value string
		ok    bool
	}{
		{"X-ROLE", 0, "user", true},
		{"x-role", 1, "admin", true},
		{"x-role", 2, "", false},
		{"x-empty", 0, "", true},
		{"x-empty", 1, "", false},
		{"x-raw", 0, "", false},
		{"x-none", 0, "", false},
	} {
		if v, ok := call.HTTPHeaders(h).Value(call.NewName(c.name), c.i); v != c.value || ok != c.ok {
			t.Errorf("%s[%d] = %q, %v; want %q, %v", c.name, c.i, v, ok, c.value, c.ok)
		}
	}
	if _, ok := call.HTTPHeaders(nil).Value(call.NewName("x"), 0); ok {
		t.Error("no headers have a value")
	}
}

func TestHeadersAllocateNothing(t *testing.T) {
	name := call.NewName("x-role")
	q := call.Request{Headers: call.HTTPHeaders{"X-Role": {"user"}}}
	if n := testing.AllocsPerRun(100, func() { q.Headers.Value(name, 0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
