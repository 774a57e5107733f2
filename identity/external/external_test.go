package external

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/call"
)

func TestValid(t *testing.T) {
	t.Parallel()
	one := func(name, value string) []Edit { return []Edit{{Name: name, Value: value}} }
	for _, c := range []struct {
		name string
		a    Answer
		ok   bool
	}{
		{"nothing", Answer{}, true},
		{"all of it", Answer{Status: 599, Body: "b", Denied: one("x-a", "1"), Request: one("x-a", "ü\t"), Response: one("x-a", ""), SetQuery: []Parameter{{"\n", "\r\n"}}}, true},
		{"a pseudo header, which is left out", Answer{Request: one(":path", "/")}, true},
		{"status 199", Answer{Status: 199}, false},
		{"status 600", Answer{Status: 600}, false},
		{"status -1", Answer{Status: -1}, false},
		{"long body", Answer{Body: strings.Repeat("a", MaxBody+1)}, false},
		{"no name", Answer{Request: one("", "1")}, false},
		{"name with a space", Answer{Request: one("x a", "1")}, false},
		{"name with a line feed", Answer{Denied: one("x\n", "1")}, false},
		{"name beyond ASCII", Answer{Denied: one("x-ü", "1")}, false},
		{"name with a bracket", Answer{Denied: one("x[", "1")}, false},
		{"value with CR", Answer{Response: one("x-a", "a\rb")}, false},
		{"value with LF", Answer{Denied: one("x-a", "\nb")}, false},
		{"value with NUL", Answer{Request: one("x-a", "\x00")}, false},
		{"value with DEL", Answer{Request: one("x-a", "\x7f")}, false},
		{"pseudo header with LF", Answer{Request: one(":path", "\n")}, false},
		{"large values", Answer{Request: one("x-a", strings.Repeat("a", MaxHeader))}, false},
		{"large parameters", Answer{SetQuery: []Parameter{{"a", strings.Repeat("a", MaxHeader)}}}, false},
		{"many edits", Answer{Denied: make([]Edit, 0), RemoveQuery: make([]string, MaxEdits+1)}, false},
	} {
		if err := c.a.Valid(); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	h := http.Header{"X-A": {"1", "2"}, "X-B": {"1"}, "Host": {"web"}, "Connection": {"close"}}
	Apply([]Edit{
		{"x-a", "3", Set}, {"x-b", " 2 ", Append}, {"x-b", "3", AddIfAbsent}, {"x-c", "1", AddIfAbsent}, {"x-d", "1", SetIfPresent}, {"x-c", "2", SetIfPresent},
		{"x-e", "1", Set}, {"x-e", "", Remove},
		{"host", "x", Set}, {":authority", "x", Set}, {"Connection", "", Remove}, {"content-length", "1", Set}, {"Content_Length", "1", Set}, {"TE", "x", Append},
		{"x-forwarded-client-cert", "x", Set}, {"X_Forwarded-Client_Cert", "x", Append}, {"x-heddle-check", "x", Set}, {"X_Heddle_A", "x", Set},
		{"grpc-status", "0", Set}, {"Expect", "x", Set}, {"Upgrade", "x", Set}, {"User-Agent", "x", Set},
	}, call.HTTPHeaders(h))
	want := http.Header{"X-A": {"3"}, "X-B": {"1", "2"}, "X-C": {"2"}, "Host": {"web"}, "Connection": {"close"}, "User-Agent": {"x"}}
	for name := range want {
		if !slices.Equal(h[name], want[name]) {
			t.Errorf("%s: %q, want %q", name, h[name], want[name])
		}
	}
	if len(h) != len(want) {
		t.Errorf("%v, want %v", h, want)
	}
}

// FuzzQuery: what an answer names is as it says, and everything else as it was written.
func FuzzQuery(f *testing.F) {
	for _, raw := range []string{"", "a=1", "a=1&b=2&a=3", "%61=1", "a", "a=&&b", "%zz=1&a=%", "b=1;a=2", "a+b=1"} {
		f.Add(raw, "a", "x y&", "b")
	}
	f.Fuzz(func(t *testing.T, raw, set, value, remove string) {
		a := Answer{SetQuery: []Parameter{{set, "first"}, {set, value}}, RemoveQuery: []string{remove}}
		got := a.Query(raw)
		var kept []string
		for part := range strings.SplitSeq(raw, "&") {
			name, _, _ := strings.Cut(part, "=")
			if decoded, err := url.QueryUnescape(name); err == nil {
				name = decoded
			}
			if part != "" && name != set && name != remove {
				kept = append(kept, part)
			}
		}
		if set != remove {
			kept = append(kept, url.QueryEscape(set)+"="+url.QueryEscape(value))
		}
		if want := strings.Join(kept, "&"); got != want {
			t.Errorf("%q became %q, want %q", raw, got, want)
		}
		if (&Answer{}).Query(raw) != raw {
			t.Errorf("an answer without parameters changes %q", raw)
		}
	})
}

// FuzzTarget: the question is about the path and query that the request has, to the byte.
func FuzzTarget(f *testing.F) {
	for _, path := range []string{"/", "/a/b", "//a", "/%2f", "/a%20b", "/ü", "/a;b", "/a:b", "*", "/%5B", "/[", "/\"", "/^"} {
		f.Add("", path, "a=%2f")
		f.Add("/check", path, "")
	}
	f.Fuzz(func(t *testing.T, prefix, path, query string) {
		canonical, ok := call.CanonicalPath(path)
		if before, sound := call.CanonicalPath(prefix); !ok || prefix != "" && (!sound || before != prefix || prefix == "*" || strings.Contains(prefix, "?")) ||
			canonical == "*" || strings.ContainsAny(query, "#\n\r\x00 ") {
			t.Skip()
		}
		var target, host string
		a := NewHTTP(&Provider{Host: "opa.example", Port: 9191, PathPrefix: prefix}, func(r *http.Request, authority string) (*http.Response, error) {
			target, host = r.URL.RequestURI(), authority
			if r.URL.Host != "opa.example:9191" {
				t.Errorf("asked at %s", r.URL.Host)
			}
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		})
		answer, err := a.Authorize(t.Context(), &Check{Method: http.MethodGet, Host: "web", Path: canonical, Query: query})
		want := prefix + canonical
		if query != "" {
			want += "?" + query
		}
		if _, rest, opaque := strings.Cut(target, "http://opa.example:9191"); opaque {
			target = rest // of an absolute target the path is the same
		}
		if err != nil || !answer.Allowed || target != want || host != "web" {
			t.Errorf("asked about %q of %q: %v %v, want %q", target, host, answer, err, want)
		}
	})
}

func TestListed(t *testing.T) {
	t.Parallel()
	list := []string{"x-a", "x-b-*", "*-c"}
	for name, want := range map[string]bool{"X-A": true, "X-Ab": false, "X-B-": true, "x-b-1": true, "x-b": false, "My-C": true, "-c": true, "c": false, "": false} {
		if listed(list, name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// A broken body ends the question.
func TestBrokenAnswer(t *testing.T) {
	t.Parallel()
	a := NewHTTP(&Provider{}, func(*http.Request, string) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusForbidden, Body: io.NopCloser(io.MultiReader(strings.NewReader("a"), broken{}))}, nil
	})
	if answer, err := a.Authorize(context.Background(), &Check{Path: "/"}); err == nil {
		t.Errorf("answered %+v", answer)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
