package call_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/call"
)

// TestCanonicalPath has the spellings of attacks.md §1.7 and row B-030. BASE resolves dots, decodes
// unreserved characters once and turns backslashes; all else stays for policy to see.
func TestCanonicalPath(t *testing.T) {
	t.Parallel()
	const secret = "/private/secret.html"
	for name, c := range map[string]struct{ in, want string }{
		"canonical":                {secret, secret},
		"root":                     {"/", "/"},
		"asterisk":                 {"*", "*"},
		"dot segment":              {"/./private/secret.html", secret},
		"dots":                     {"/x/../private/secret.html", secret},
		"dots above the root":      {"/../../private/secret.html", secret},
		"dots after double slash":  {"/x//../../private/secret.html", secret},
		"encoded dot segment":      {"/%2e/private/secret.html", secret},
		"encoded dots":             {"/x/%2e%2e/private/secret.html", secret},
		"encoded dots, upper case": {"/x/%2E%2E/private/secret.html", secret},
		"one dot encoded":          {"/x/.%2e/private/secret.html", secret},
		"other dot encoded":        {"/x/%2e./private/secret.html", secret},
		"encoded letter":           {"/pr%69vate/secret.html", secret},
		"all encoded":              {"/%70%72%69%76%61%74%65/%73ecret%2Ehtml", secret},
		"backslash for a slash":    {`/private\secret.html`, secret},
		"leading backslash":        {`\private\secret.html`, secret},
		"backslash dots":           {`/x\..\private/secret.html`, secret},
		"backslash encoded dots":   {`/x\%2e%2e\private/secret.html`, secret},
		"slash backslash":          {`/\private/secret.html`, "//private/secret.html"},
		"double slash stays":       {"//private/secret.html", "//private/secret.html"},
		"inner double slash stays": {"/private//secret.html", "/private//secret.html"},
		"encoded slash stays":      {"/%2fprivate/secret.html", "/%2fprivate/secret.html"},
		"encoded slash, no dots":   {"/x/..%2fprivate/secret.html", "/x/..%2fprivate/secret.html"},
		"encoded backslash stays":  {"/x/..%5cprivate", "/x/..%5cprivate"},
		"decoded once":             {"/pr%2569vate/secret.html", "/pr%2569vate/secret.html"},
		"dots decoded once":        {"/x/%252e%252e/private", "/x/%252e%252e/private"},
		"percent stays":            {"/100%25", "/100%25"},
		"path parameter":           {"/x/..;/private", "/x/..;/private"},
		"overlong UTF-8":           {"/x/%c0%ae%c0%ae/private", "/x/%c0%ae%c0%ae/private"},
		"fullwidth slash":          {"/x／..／private", "/x／..／private"},
		"case":                     {"/PRIVATE/secret.html", "/PRIVATE/secret.html"},
		"trailing slash":           {"/private/", "/private/"},
		"trailing dot":             {"/private.", "/private."},
		"trailing encoded space":   {"/private%20", "/private%20"},
		"three dots":               {"/a/.../b", "/a/.../b"},
		"hidden file":              {"/.well-known/x", "/.well-known/x"},
		"dots before text":         {"/a/..b", "/a/..b"},
		"dots after text":          {"/a/b..", "/a/b.."},
		"tilde":                    {"/%7Euser", "/~user"},
		"reserved stay encoded":    {"/%3a%40%21%24", "/%3a%40%21%24"},
		"escape case stays":        {"/%2F%2f", "/%2F%2f"},
		"dot at the end":           {"/a/.", "/a/"},
		"dots at the end":          {"/a/b/..", "/a/"},
		"dots to the root":         {"/a/..", "/"},
		"dot alone":                {"/.", "/"},
		"dots alone":               {"/..", "/"},
		"encoded dot alone":        {"/%2e", "/"},
		"double slash and dots":    {"//..", "/"},
		"empty segment removed":    {"/a//..", "/a/"},
		"RFC 3986 §5.2.4":          {"/a/b/c/./../../g", "/a/g"},
		"RFC 3986 §5.2.4, mid":     {"/mid/content=5/../6", "/mid/6"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := call.CanonicalPath(c.in)
			if got != c.want || !ok {
				t.Fatalf("CanonicalPath(%q) = %q, %v; want %q", c.in, got, ok, c.want)
			}
			if again, ok := call.CanonicalPath(got); again != got || !ok {
				t.Errorf("again it is %q, %v", again, ok)
			}
		})
	}
}

func TestCanonicalPathRefuses(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{
		"empty":             "",
		"no slash":          "private",
		"dots, no slash":    "../private",
		"encoded slash":     "%2fprivate",
		"fullwidth slash":   "／private",
		"absolute form":     "http://a//admin",
		"authority":         "host:22",
		"asterisk and more": "*/x",
		"encoded NUL":       "/%00/private",
		"NUL at the end":    "/private/secret.html%00",
		"NUL and suffix":    "/private/secret.html%00.txt",
		"raw NUL":           "/private\x00",
		"space":             "/private /x",
		"tab":               "/private\t",
		"line feed":         "/private\n",
		"carriage return":   "/private\r",
		"delete":            "/private\x7f",
		"fragment":          "/private#x",
		"query":             "/private?x",
		"escape cut":        "/private%",
		"escape half":       "/private%4",
		"not hexadecimal":   "/private%zz",
		"half hexadecimal":  "/private%4g",
		"escape in escape":  "/%%34%31",
		"IIS escape":        "/%u0041",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, ok := call.CanonicalPath(path); ok || got != "" {
				t.Errorf("CanonicalPath(%q) = %q, %v; want a refusal", path, got, ok)
			}
		})
	}
}

// TestCanonicalPathEveryEscape: only what RFC 3986 §2.3 calls unreserved is decoded, in either case of the
// digits, and nothing twice.
func TestCanonicalPathEveryEscape(t *testing.T) {
	t.Parallel()
	const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	for b := range 256 {
		for _, format := range []string{"/x%%%02xy", "/x%%%02Xy"} {
			in := fmt.Sprintf(format, b)
			want, refused := in, b == 0
			if strings.IndexByte(unreserved, byte(b)) >= 0 {
				want = "/x" + string(rune(b)) + "y"
			}
			if got, ok := call.CanonicalPath(in); ok == refused || ok && got != want {
				t.Errorf("CanonicalPath(%q) = %q, %v; want %q", in, got, ok, want)
			}
		}
		twice := fmt.Sprintf("/x%%25%02xy", b)
		if got, ok := call.CanonicalPath(twice); got != twice || !ok {
			t.Errorf("CanonicalPath(%q) = %q, %v; want it unchanged", twice, got, ok)
		}
	}
}

func TestCanonicalPathAllocatesNothingWhereCanonical(t *testing.T) {
	for _, path := range []string{"/", "*", "/reviews/1", "/.well-known/jwks.json", "/a%20b/%2F", "/v1.2/x..y/z."} {
		n := testing.AllocsPerRun(100, func() {
			if got, ok := call.CanonicalPath(path); got != path || !ok {
				t.Errorf("%q changed to %q", path, got)
			}
		})
		if n != 0 {
			t.Errorf("%q: %v allocations", path, n)
		}
	}
}

func FuzzCanonicalPath(f *testing.F) {
	for _, s := range []string{
		"/", "*", "", "/a/../b", `/\..\x`, "/%2e%2e/%2E", "/%252e", "/%00", "/a//..//.", "/..;/x", "/%", "/%c0%ae",
		"/./.", "/.../..", "/a/.%2e/%2e./b", "/%5c..%5c", "/#", "/?", "/\xff/..", "//..//../",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, ok := call.CanonicalPath(path)
		if !ok {
			if got != "" {
				t.Fatalf("%q: refused, and %q", path, got)
			}
			return
		}
		if got == "*" && path == "*" {
			return
		}
		if got == "" || got[0] != '/' || len(got) > len(path)+1 {
			t.Fatalf("%q became %q", path, got)
		}
		if again, ok := call.CanonicalPath(got); again != got || !ok {
			t.Fatalf("%q became %q, then %q, %v", path, got, again, ok)
		}
		for segment := range strings.SplitSeq(got, "/") {
			if dots := strings.NewReplacer("%2e", ".", "%2E", ".").Replace(segment); dots == "." || dots == ".." {
				t.Fatalf("%q became %q, with the segment %q", path, got, segment)
			}
		}
		for i := range len(got) {
			if c := got[i]; c <= ' ' || c == 0x7f || c == '\\' || c == '#' || c == '?' {
				t.Fatalf("%q became %q, with the byte %#x", path, got, c)
			}
		}
	})
}

// TestPathNormalization: Istio's levels (MeshConfig.pathNormalization), in the order in which Envoy does what they ask for.
func TestPathNormalization(t *testing.T) {
	t.Parallel()
	levels := []call.PathNormalization{call.PathNone, call.PathBase, call.PathMerge, call.PathDecodeAndMerge}
	for in, want := range map[string][4]string{
		"/a":          {"/a", "/a", "/a", "/a"},
		"//a///b":     {"//a///b", "//a///b", "/a/b", "/a/b"},
		"/x/../a":     {"/x/../a", "/a", "/a", "/a"},
		`/a\b`:        {`/a\b`, "/a/b", "/a/b", "/a/b"},
		"/%61%2fb":    {"/%61%2fb", "/a%2fb", "/a%2fb", "/a/b"},
		"/a%5cb":      {"/a%5cb", "/a%5cb", "/a%5cb", "/a/b"},
		"/a%2F%2Fb":   {"/a%2F%2Fb", "/a%2F%2Fb", "/a%2F%2Fb", "/a/b"},
		"/a%252fb":    {"/a%252fb", "/a%252fb", "/a%252fb", "/a%252fb"},
		"/x%2f..%2fa": {"/x%2f..%2fa", "/x%2f..%2fa", "/x%2f..%2fa", "/a"},
		"/a//../b":    {"/a//../b", "/a/b", "/a/b", "/a/b"},
		"/%2e%2e%2fa": {"/%2e%2e%2fa", "/..%2fa", "/..%2fa", "/a"},
		"/a;b":        {"/a;b", "/a;b", "/a;b", "/a;b"},
		"/caf%C3%A9":  {"/caf%C3%A9", "/caf%C3%A9", "/caf%C3%A9", "/caf%C3%A9"},
		"*":           {"*", "*", "*", "*"},
	} {
		for i, level := range levels {
			got, ok := level.Spell(in)
			if !ok || got != want[i] {
				t.Errorf("level %d: %s becomes %s, %v; want %s", level, in, got, ok, want[i])
			}
			if again, ok := level.Spell(got); !ok || again != got {
				t.Errorf("level %d: %s becomes %s and then %s", level, in, got, again)
			}
		}
	}
	for _, in := range []string{"", "a", "/%00", "/%zz", "/a b", "/a#b", "/%"} {
		for _, level := range levels {
			if got, ok := level.Spell(in); ok {
				t.Errorf("level %d: %q becomes %q", level, in, got)
			}
		}
	}
}

// FuzzPathNormalization: what a level makes of a path it leaves as it is, and the levels agree on what has no safe spelling.
func FuzzPathNormalization(f *testing.F) {
	for _, s := range []string{"/a//b", "/%2f%5c", `/a\..\b`, "/%252f", "/x/%2e%2e%2f%2Fa", "/%", "*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		_, sound := call.PathBase.Spell(in)
		for level := call.PathBase; level <= call.PathDecodeAndMerge; level++ {
			got, ok := level.Spell(in)
			if ok != sound {
				t.Fatalf("level %d: %q is sound: %v, by BASE %v", level, in, ok, sound)
			}
			if again, _ := level.Spell(got); ok && again != got {
				t.Errorf("level %d: %q becomes %q and then %q", level, in, got, again)
			}
			if ok && level >= call.PathMerge && strings.Contains(got, "//") {
				t.Errorf("level %d: %q becomes %q", level, in, got)
			}
		}
	})
}
