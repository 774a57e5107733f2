package call

import (
	"bytes"
	"strings"
)

// CanonicalPath gives the one spelling of a request path that routing and policy decide on and that is
// sent: Istio's BASE normalisation (MeshConfig.pathNormalization, Envoy's normalize_path). Percent-encoded
// unreserved characters are decoded, once; a backslash becomes a slash; dot segments are resolved
// (RFC 3986 §5.2.4). Doubled slashes and encoded slashes stay. It reports false for what has no safe
// spelling: a path that does not begin with a slash, a malformed escape, an encoded or raw NUL, a control
// character, a space, a fragment. A path that is canonical already is returned as it is, unallocated.
func CanonicalPath(path string) (string, bool) {
	if path == "*" { // OPTIONS *
		return path, true
	}
	if path == "" || path[0] != '/' && path[0] != '\\' {
		return "", false
	}
	change := false
	for i := range len(path) {
		switch c := path[i]; {
		case c <= ' ' || c == 0x7f || c == '#' || c == '?':
			return "", false
		case c == '\\':
			change = true
		case c == '.':
			change = change || path[i-1] == '/' && endsDots(path[i+1:])
		case c == '%':
			d, ok := unhex(path, i)
			if !ok || d == 0 {
				return "", false
			}
			change = change || unreserved(d)
		}
	}
	if !change {
		return path, true
	}
	return ResolveDots(decodeUnreserved(path)), true
}

// PathNormalization is how the path of a request that comes in is spelt for the program (MeshConfig.pathNormalization).
type PathNormalization uint8

const (
	PathBase           PathNormalization = iota // as CanonicalPath has it
	PathNone                                    // as it came
	PathMerge                                   // MERGE_SLASHES: then slashes are merged
	PathDecodeAndMerge                          // DECODE_AND_MERGE_SLASHES: and escaped ones were slashes before all that
)

// Spell gives the path as the level has it. It reports false for what CanonicalPath has no safe spelling for, whatever the
// level. It allocates only where something changes.
func (n PathNormalization) Spell(path string) (string, bool) {
	canonical, ok := CanonicalPath(path)
	if ok && n == PathDecodeAndMerge {
		if decoded := decodeSlashes(path); decoded != path {
			canonical, ok = CanonicalPath(decoded)
		}
	}
	switch {
	case !ok:
		return "", false
	case n == PathNone:
		return path, true
	case n == PathBase:
		return canonical, true
	}
	return MergeSlashes(canonical), true
}

// decodeSlashes undoes the escapes of slash and backslash, once.
func decodeSlashes(path string) string {
	at := func(i int) bool {
		c, ok := unhex(path, i)
		return ok && path[i] == '%' && (c == '/' || c == '\\')
	}
	first := 0
	for first < len(path) && !at(first) {
		first++
	}
	if first == len(path) {
		return path
	}
	b := append(make([]byte, 0, len(path)), path[:first]...)
	for i := first; i < len(path); i++ {
		if at(i) {
			c, _ := unhex(path, i)
			b = append(b, c)
			i += 2
			continue
		}
		b = append(b, path[i])
	}
	return string(b)
}

// MergeSlashes makes one slash of several that stand together.
func MergeSlashes(s string) string {
	if !strings.Contains(s, "//") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] != '/' || i == 0 || s[i-1] != '/' {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// endsDots reports whether what follows a segment's first dot can make it a dot segment.
func endsDots(rest string) bool {
	return rest == "" || strings.IndexByte(`/\.%`, rest[0]) >= 0
}

func decodeUnreserved(path string) string {
	b := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '\\' {
			c = '/'
		}
		if c == '%' {
			if d, _ := unhex(path, i); unreserved(d) {
				b = append(b, d)
				i += 2
				continue
			}
		}
		b = append(b, c)
	}
	return string(b)
}

// ResolveDots resolves dot segments (RFC 3986 §5.2.4) of a path that begins with a slash.
func ResolveDots(path string) string {
	out := make([]byte, 0, len(path))
	for rest := path; rest != ""; {
		// rest begins with a slash: a segment is that slash and all up to the next.
		end := strings.IndexByte(rest[1:], '/') + 1
		if end == 0 {
			end = len(rest)
		}
		segment := rest[:end]
		rest = rest[end:]
		switch segment {
		case "/.", "/..":
			if segment == "/.." {
				out = out[:max(bytes.LastIndexByte(out, '/'), 0)]
			}
			if rest == "" {
				out = append(out, '/')
			}
		default:
			out = append(out, segment...)
		}
	}
	if len(out) == 0 {
		return "/"
	}
	return string(out)
}

func unhex(s string, i int) (byte, bool) {
	if i+2 >= len(s) {
		return 0, false
	}
	hi, ok1 := nibble(s[i+1])
	lo, ok2 := nibble(s[i+2])
	return hi<<4 | lo, ok1 && ok2
}

func nibble(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// unreserved is RFC 3986 §2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}
