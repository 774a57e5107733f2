package transport

import "strings"

// opaquePath gives the path of a URL that carries its encoding in Opaque: "//host/path" or "/path", with
// or without a query. Anything else has none.
func opaquePath(opaque string) string {
	opaque, _, _ = strings.Cut(opaque, "?")
	if rest, ok := strings.CutPrefix(opaque, "//"); ok {
		slash := strings.IndexByte(rest, '/')
		if slash < 0 {
			return "/"
		}
		return rest[slash:]
	}
	return opaque
}
