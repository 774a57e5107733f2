package transport

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// asciiHost gives an authority with its host in ASCII, "" where it has no such form.
func asciiHost(authority string) string {
	name, rest := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i >= 0 {
		name, rest = authority[:i], authority[i:]
	}
	if name = dialledName(name); strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return ""
	}
	return name + rest
}

// dialledName has net/http itself spell a name beyond ASCII, by asking it to dial: it keeps the tables of Unicode that
// this takes to itself, and a second copy of them would be 0.15 MB of every program. What is no name comes back as it is.
func dialledName(name string) (spelled string) {
	spelled = name
	once := http.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		spelled = strings.TrimSuffix(addr, ":80")
		return nil, net.ErrClosed
	}}
	if resp, err := once.RoundTrip(&http.Request{Method: http.MethodGet, Header: http.Header{}, URL: &url.URL{Scheme: "http", Host: name}}); err == nil {
		_ = resp.Body.Close() // never: nothing was dialled
	}
	return spelled
}
