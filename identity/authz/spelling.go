package authz

import (
	"strconv"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// readings is how many readings a path can have: as it is passed on and, where that is not its canonical form, in that; with
// slashes merged, with escapes decoded once, with escapes decoded for as long as there are some, and as the path of a reference
// that begins with a host.
const readings = 6

// maxDecodes bounds the last of them. No known server decodes more than twice.
const maxDecodes = 4

// readPath finds the different readings of a path that has a canonical form. The first is the path itself.
func readPath(into *[readings]string, path string) int {
	into[0] = path
	canonical, ok := call.CanonicalPath(path)
	if strings.IndexByte(path, '%') < 0 && !strings.Contains(path, "//") && (canonical == path || !ok) {
		return 1
	}
	n := 1
	add := func(s string) {
		for _, had := range into[:n] {
			if had == s {
				return
			}
		}
		into[n] = s
		n++
	}
	if ok {
		add(canonical)
		path = canonical
	}
	add(call.MergeSlashes(path))
	decoded := decode(path)
	add(reduce(decoded))
	for range maxDecodes - 1 {
		again := decode(decoded)
		if again == decoded {
			break
		}
		decoded = again
	}
	add(reduce(decoded))
	if behind, ok := behindHost(path); ok {
		add(reduce(decode(behind)))
	}
	return n
}

// behindHost gives the path of what begins with two slashes, as those read it who take it for a reference with a host (RFC 3986
// §4.2; the URL Standard takes any number of slashes): new URL(request.url, base) in Node's programs, urlsplit in Python's.
func behindHost(path string) (string, bool) {
	if !strings.HasPrefix(path, "//") {
		return "", false
	}
	path = strings.TrimLeft(path, "/")
	if slash := strings.IndexByte(path, '/'); slash >= 0 {
		return path[slash:], true
	}
	return "/", true
}

// decode replaces every escape, and every backslash by the slash that many programs take it for.
func decode(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				c = byte(n)
				i += 2
			}
		}
		if c == '\\' {
			c = '/'
		}
		b = append(b, c)
	}
	return string(b)
}

// reduce merges slashes and then resolves dot segments, as path.Clean and its like do.
func reduce(path string) string { return call.MergeSlashes(call.ResolveDots(call.MergeSlashes(path))) }

// spell gives what is written in a rule as the last reading of a path has it.
func spell(s string) string {
	for range maxDecodes {
		again := decode(s)
		if again == s {
			break
		}
		s = again
	}
	return call.MergeSlashes(s)
}

// readHost finds the canonical forms of an authority: without the port of http, and with it where it is written.
func readHost(into *[2]string, authority string) (int, bool) {
	const http = 80
	host, port, err := call.SplitAuthority(authority)
	if err != nil {
		return 0, false
	}
	if strings.IndexByte(host, ':') >= 0 {
		host = "[" + host + "]"
	}
	if port == 0 {
		into[0] = host
		return 1, true
	}
	whole := authority
	if rest, same := strings.CutPrefix(authority, host); !same || len(rest) < 2 || rest[0] != ':' || rest[1] == '0' {
		whole = host + ":" + strconv.Itoa(int(port))
	}
	into[0] = whole
	if port != http {
		return 1, true
	}
	into[1] = host
	return 2, true
}
