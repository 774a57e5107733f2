package config

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing"
)

// FuzzRewrite: whatever a client asks for and a document says, a path that is sent begins with a slash, stands on a
// request line as it is, and is read by everybody as it was decided on.
func FuzzRewrite(f *testing.F) {
	f.Add("/foo/bar", "/foo", "/api/", "", "")
	f.Add("/foo../bar", "/foo", "/api/", "", "")
	f.Add("/a%2Fb%20c", "/a", "/my api#?x=1", "^/(.*)$", `\1`)
	f.Add("/to/http://other/", "/", "", "^/to/(.*)$", `\1`)
	f.Add("/a%2500", "/", "", "25", "")
	f.Add("/one/one", "/one", "/%zz\"<>", "(o)(n)?", `\2\\\0\9 é`)
	f.Add("*", "/", "/x", ".*", "..")
	f.Fuzz(func(t *testing.T, path, prefix, uri, expr, substitution string) {
		path, ok := call.CanonicalPath(path)
		if !ok || !strings.HasPrefix(path, prefix) || len(expr) > 64 {
			return
		}
		spec := &networking.HTTPRewrite{Uri: uri}
		if _, err := regexp.Compile(expr); err == nil && expr != "" {
			spec = &networking.HTTPRewrite{UriRegexRewrite: &networking.RegexRewrite{Match: expr, Rewrite: substitution}}
		} else if uri != "" && uri[0] != '/' {
			return // validate refuses it
		}
		w := rewrite(spec)
		exact, segment := call.Exact(path), call.Prefix(prefix)
		for _, m := range []*routing.Match{nil, {}, {PathKind: routing.PathPrefix, Path: call.Prefix(prefix)}, {PathKind: routing.PathExact, Path: exact}, {PathKind: routing.PathRegex, Path: exact}, {PathKind: routing.PathSegment, Path: segment}} {
			got, safe := w.PathOf(&call.Request{Path: path}, m)
			if got == path && safe {
				continue // as it came
			}
			if !strings.HasPrefix(got, "/") {
				t.Fatalf("%q becomes %q, without a slash", path, got)
			}
			for i := range len(got) {
				if c := got[i]; c <= ' ' || c == 0x7f || c == '#' {
					t.Fatalf("%q becomes %q, with %q", path, got, c)
				}
			}
			if !safe {
				continue
			}
			bare, _, _ := strings.Cut(got, "?")
			again, ok := call.CanonicalPath(bare)
			if !ok {
				t.Fatalf("%q becomes %q, which has no spelling", path, got)
			}
			if _, err := url.PathUnescape(bare); err != nil {
				t.Fatalf("%q becomes %q: %v", path, got, err)
			}
			if n := strings.Count(again, "/"); n != strings.Count(bare, "/")+strings.Count(bare, `\`) {
				t.Fatalf("%q becomes %q, which is %q to others", path, got, again)
			}
		}
	})
}
