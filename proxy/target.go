package proxy

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// sound refuses requests that different readers understand differently, before anybody decides about them.
func sound(r *http.Request) *LocalReply {
	refuse := func(l LocalReply) *LocalReply { return &l }
	if l := refusedMethod(r.Method); l != nil {
		return l
	}
	switch {
	case tooManyFields(r.Header):
		return refuse(LocalReply{Status: http.StatusRequestHeaderFieldsTooLarge, Flag: "DPE", Reason: "too_many_fields",
			Text: "more than 100 header fields"})
	case doubtful(r.RequestURI):
		return refuse(badRequest("malformed request target"))
	case r.ProtoMajor >= 2 && r.URL.Host != "": // :path is no place for a host
		return refuse(badRequest("malformed request target"))
	case r.URL.Scheme != "" && r.URL.Host == "": // http:///x, which the Host header must not complete
		return refuse(badRequest("the request target has no host"))
	case r.URL.User != nil:
		return refuse(badRequest("the request target has user information"))
	case hasFramingAlike(r.Header):
		return refuse(badRequest("a field name is like one that frames a message"))
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

// refusedMethod says how a method is answered that goes nowhere, nil for one that does. A program that takes get for GET
// would serve what no rule about GET has seen (RFC 9110 §9.1: methods are told apart by case).
func refusedMethod(method string) *LocalReply {
	switch method {
	case http.MethodConnect:
		return &LocalReply{Status: http.StatusMethodNotAllowed, Flag: "-", Reason: "connect_refused",
			Text: "CONNECT is not served here: https goes to its host directly"}
	case http.MethodTrace:
		return &LocalReply{Status: http.StatusMethodNotAllowed, Flag: "-", Reason: "trace_refused",
			Text: "TRACE is not served here: it would show what was added on the way"}
	}
	for i := range len(method) {
		if c := method[i]; 'a' <= c && c <= 'z' {
			l := badRequest("a method with small letters")
			return &l
		}
	}
	return nil
}

func hasFramingAlike(h http.Header) bool {
	for k := range h {
		if http1.FramingAlike(k) {
			return true
		}
	}
	return false
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

// A destination is where a request goes on to.
type destination struct {
	url  *url.URL
	host string // what Host says there
}

// outboundTarget reads a request as a forward proxy does (RFC 9112 §3.2.2), or by its Host. Of an absolute
// target net/http has put the host in the place of the header's.
func outboundTarget(r *http.Request) (destination, *LocalReply) {
	if refused := sound(r); refused != nil {
		return destination{}, refused
	}
	host, err := canonicalHost(r.Host)
	if err != nil {
		l := badRequest("malformed host")
		l.Err = err
		return destination{}, &l
	}
	if r.URL.Scheme != "" && r.URL.Scheme != "http" {
		l := badRequest("only http is proxied; a program's own TLS goes to its host directly")
		return destination{}, &l
	}
	u := *r.URL
	u.Scheme, u.Host = "http", host
	if path, anew := spelling(r); anew && !setPath(&u, path) {
		l := badRequest("malformed request target")
		return destination{}, &l
	}
	return destination{&u, host}, nil
}

// inboundTarget sends every request to the application, host and path in the one spelling that was decided on.
func inboundTarget(app string, e *transport.Engine) func(*http.Request) (destination, *LocalReply) {
	return func(r *http.Request) (destination, *LocalReply) {
		if refused := sound(r); refused != nil {
			return destination{}, refused
		}
		host := r.Host
		if host != "" || r.ProtoAtLeast(1, 1) {
			var err error
			if host, err = canonicalHost(host); err != nil {
				l := badRequest("malformed host")
				l.Err = err
				return destination{}, &l
			}
		}
		path, anew := spelling(r)
		if path == "" {
			path = "/"
		}
		canonical, ok := e.Paths().Spell(path)
		u := *r.URL
		u.Scheme, u.Host = "http", app
		if !ok || (anew || canonical != path) && !setPath(&u, canonical) {
			l := badRequest("the path has no safe spelling")
			return destination{}, &l
		}
		return destination{&u, host}, nil
	}
}

// canonicalHost gives a Host in the one spelling that is decided on and sent: lower case, no trailing dot, no
// port 80. It allocates only where something changes.
func canonicalHost(authority string) (string, error) {
	host, port, err := call.SplitAuthority(authority)
	if err != nil {
		return "", err
	}
	if rest, same := strings.CutPrefix(authority, host); same &&
		(rest == "" || port != 0 && port != 80 && rest[0] == ':' && rest[1] != '0') {
		return authority, nil
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != 0 && port != 80 {
		host += ":" + strconv.Itoa(int(port))
	}
	return host, nil
}

// spelling gives the path of a request's target as the client wrote it, and whether net/url would spell it
// anew. Then what a path cannot hold (RFC 3986 §3.3) is written as an escape, and a backslash as the slash that
// it is to the rules (call.CanonicalPath) and to many programs; net/url would make %5C of it and, where one
// byte needs an escape, undo those of all others, %2F among them.
func spelling(r *http.Request) (path string, anew bool) {
	path, _, _ = strings.Cut(r.RequestURI, "?")
	if r.URL.Host != "" {
		_, path, _ = strings.Cut(path, "://")
		slash := strings.IndexByte(path, '/')
		if slash < 0 {
			return "", false
		}
		path = path[slash:]
	}
	return spell(path)
}

func spell(path string) (spelled string, anew bool) {
	clean := true
	for i := range len(path) {
		if notOfPath(rune(path[i])) {
			clean = false
			break
		}
	}
	if clean {
		return path, false
	}
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		switch c := path[i]; {
		case c == '\\':
			b.WriteByte('/')
		case c >= utf8.RuneSelf || notOfPath(rune(c)):
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

// notOfPath finds what net/url leaves in no path as it is.
func notOfPath(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c < utf8.RuneSelf && strings.IndexByte("-._~!$&'()*+,;=:@/%[]", byte(c)) >= 0)
}

// setPath gives a URL the path in this spelling.
func setPath(u *url.URL, path string) bool {
	decoded, err := url.PathUnescape(path)
	u.Path, u.RawPath = decoded, path
	return err == nil
}
