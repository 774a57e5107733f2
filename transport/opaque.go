package transport

import (
	"net/url"
	"strings"
)

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

// opaqueQuery gives the query that net/http sends with such a URL: what Opaque has of it, then RawQuery.
func opaqueQuery(u *url.URL) string {
	_, query, has := strings.Cut(u.Opaque, "?")
	switch {
	case !has:
		return u.RawQuery
	case u.RawQuery == "":
		return query
	}
	return query + "?" + u.RawQuery
}
