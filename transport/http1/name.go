package http1

// A FieldID names the fields that this package knows by themselves; every other name is FieldOther.
type FieldID uint8

// The fields that frame or route a message, concern one connection only, or mean something to nearly every caller.
const (
	FieldOther FieldID = iota
	FieldHost
	FieldConnection
	FieldContentLength
	FieldTransferEncoding
	FieldExpect
	FieldUpgrade
	FieldTE
	FieldTrailer
	FieldKeepAlive
	FieldProxyConnection
	FieldProxyAuthenticate
	FieldProxyAuthorization
	FieldHTTP2Settings
	FieldUserAgent
)

// HopByHop reports a field that concerns one connection only (RFC 9110 §7.6.1, and those that older clients send
// as if they did): all that have an ID but Host, Content-Length, Expect and User-Agent.
func (id FieldID) HopByHop() bool {
	switch id {
	case FieldOther, FieldHost, FieldContentLength, FieldExpect, FieldUserAgent:
		return false
	default:
		return true
	}
}

// lateForbidden reports a field that a recipient must not find in a trailer section (RFC 9110 §6.5.1): it would frame,
// route or end a message that is over. What else a caller does not let through late is the caller's policy.
func (id FieldID) lateForbidden() bool {
	return id == FieldHost || id == FieldContentLength || id == FieldExpect || id.HopByHop()
}

// Identify gives the ID of a name in any case.
func Identify(name string) FieldID {
	switch len(name) {
	case 2:
		return known(name, "te", FieldTE)
	case 4:
		return known(name, "host", FieldHost)
	case 6:
		return known(name, "expect", FieldExpect)
	case 7:
		if name[0]|0x20 == 'u' {
			return known(name, "upgrade", FieldUpgrade)
		}
		return known(name, "trailer", FieldTrailer)
	case 10:
		switch name[0] | 0x20 {
		case 'c':
			return known(name, "connection", FieldConnection)
		case 'k':
			return known(name, "keep-alive", FieldKeepAlive)
		default:
			return known(name, "user-agent", FieldUserAgent)
		}
	case 14:
		if name[0]|0x20 == 'h' {
			return known(name, "http2-settings", FieldHTTP2Settings)
		}
		return known(name, "content-length", FieldContentLength)
	case 16:
		return known(name, "proxy-connection", FieldProxyConnection)
	case 17:
		return known(name, "transfer-encoding", FieldTransferEncoding)
	case 18:
		return known(name, "proxy-authenticate", FieldProxyAuthenticate)
	case 19:
		return known(name, "proxy-authorization", FieldProxyAuthorization)
	}
	return FieldOther
}

func known(name, lower string, id FieldID) FieldID {
	if equalFold(name, lower) {
		return id
	}
	return FieldOther
}

// equalFold reports whether two strings of bytes are equal but for the case of ASCII letters. Unlike
// strings.EqualFold it takes no other letter for one of ours, such as the Kelvin sign for k.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// FramingAlike reports Content_Length and its like: what a reader makes of them that takes "_" for "-", as those do that
// turn header fields into variables, frames the message otherwise than its reader before.
func FramingAlike(name string) bool {
	switch len(name) {
	case len("content-length"):
		return name[7] == '_' && Alike(name, "content-length")
	case len("transfer-encoding"):
		return name[8] == '_' && Alike(name, "transfer-encoding")
	}
	return false
}

// Alike compares the beginning of a name, which is not shorter, with one in lower case, "_" as "-".
func Alike(name, lower string) bool {
	for i := range len(lower) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case c == '_':
			c = '-'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// IsFieldName reports whether a field can have the name: a token (RFC 9110 §5.1) of at most 256 bytes.
func IsFieldName(s string) bool { return s != "" && len(s) <= maxName && all(s, isToken) }

// IsFieldValue reports whether a field can have the value: no control character but HTAB (RFC 9110 §5.5).
func IsFieldValue(s string) bool { return text(bytesOf(s)) }

// IsTrailerName reports whether a field may come in a trailer section (RFC 9110 §6.5.1).
func IsTrailerName(s string) bool { return IsFieldName(s) && !Identify(s).lateForbidden() }
