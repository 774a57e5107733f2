package proxy

import (
	"net/http"
	"net/url"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
)

// sound refuses requests that different readers understand differently, before anybody decides about them.
func sound(r *http.Request) *LocalReply {
	refuse := func(l LocalReply) *LocalReply { return &l }
	switch {
	case r.Method == http.MethodConnect:
		return refuse(LocalReply{Status: http.StatusMethodNotAllowed, Flag: "-", Reason: "connect_refused",
			Text: "CONNECT is not served here: https goes to its host directly"})
	case tooManyFields(r.Header):
		return refuse(LocalReply{Status: http.StatusRequestHeaderFieldsTooLarge, Flag: "DPE", Reason: "too_many_fields",
			Text: "more than 100 header fields"})
	case doubtful(r.RequestURI):
		return refuse(badRequest("malformed request target"))
	case r.ProtoMajor >= 2 && r.URL.Host != "": // :path is no place for a host
		return refuse(badRequest("malformed request target"))
	case r.URL.User != nil:
		return refuse(badRequest("the request target has user information"))
	case r.URL.Opaque != "" || r.URL.Path != "" && r.URL.Path[0] != '/' || r.URL.Path == "" && r.URL.Host == "":
		return refuse(badRequest("malformed request target"))
	}
	for _, host := range r.Header["Host"] { // of HTTP/2; HTTP/1's has been taken out
		if host != r.Host {
			return refuse(badRequest("host and :authority differ"))
		}
	}
	return nil
}

// doubtful reports targets that some readers cut off or split: at a fragment, a space, a control character.
func doubtful(target string) bool {
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c == 0x7f || c == '#' {
			return true
		}
	}
	return false
}

func tooManyFields(h http.Header) bool {
	n := 0
	for _, v := range h {
		n += len(v)
	}
	return n > transport.MaxHeaderFields
}

// outboundTarget reads a request as a forward proxy does (RFC 9112 §3.2.2), or by its Host.
func outboundTarget(r *http.Request) (*url.URL, *LocalReply) {
	if refused := sound(r); refused != nil {
		return nil, refused
	}
	l := LocalReply{}
	switch _, _, err := call.SplitAuthority(r.Host); {
	case err != nil:
		l = badRequest("malformed host")
		l.Err = err
		return nil, &l
	case r.URL.Scheme != "" && r.URL.Scheme != "http":
		l = badRequest("only http is proxied; a program's own TLS goes to its host directly")
		return nil, &l
	}
	u := *r.URL
	u.Scheme, u.Host = "http", r.Host
	return &u, nil
}

// inboundTarget sends every request to the application, in the one spelling that was decided on.
func inboundTarget(app string) func(*http.Request) (*url.URL, *LocalReply) {
	return func(r *http.Request) (*url.URL, *LocalReply) {
		if refused := sound(r); refused != nil {
			return nil, refused
		}
		if r.Host != "" || r.ProtoAtLeast(1, 1) {
			if _, _, err := call.SplitAuthority(r.Host); err != nil {
				l := badRequest("malformed host")
				l.Err = err
				return nil, &l
			}
		}
		path := r.URL.EscapedPath()
		if path == "" {
			path = "/"
		}
		canonical, ok := call.CanonicalPath(path)
		if !ok {
			l := badRequest("the path has no safe spelling")
			return nil, &l
		}
		u := *r.URL
		u.Scheme, u.Host = "http", app
		if canonical != path {
			decoded, err := url.PathUnescape(canonical)
			if err != nil {
				l := badRequest("the path has no safe spelling")
				return nil, &l
			}
			u.Path, u.RawPath = decoded, canonical
		}
		return &u, nil
	}
}
