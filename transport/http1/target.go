package http1

import "net/netip"

// parseTarget tells the form of the target and takes it apart (RFC 9112 §3.2). A fragment is none of its parts.
func (q *Request) parseTarget() *Error {
	q.scheme, q.auth, q.path, q.query = "", "", "", ""
	switch {
	case q.method == "CONNECT": // §3.2.3
		q.form, q.auth = AuthorityForm, q.target
		return checkConnect(q.target)
	case q.target[0] == '/': // §3.2.1
		q.form = OriginForm
		return q.parsePath(q.target)
	case q.target == "*" && q.method == "OPTIONS": // §3.2.4
		q.form, q.path = AsteriskForm, q.target
		return nil
	case q.target == "*":
		return errTargetForm
	}
	q.form = AbsoluteForm
	return q.parseAbsolute()
}

// parseAbsolute parses absolute-form (§3.2.2) for the two schemes that are HTTP.
func (q *Request) parseAbsolute() *Error {
	rest := ""
	for _, scheme := range [...]string{"http", "https"} {
		if n := len(scheme); len(q.target) > n && q.target[n] == ':' && equalFold(q.target[:n], scheme) {
			q.scheme, rest = scheme, q.target[n+1:]
		}
	}
	if q.scheme == "" {
		for i := range len(q.target) {
			if q.target[i] == ':' {
				return errScheme
			}
		}
		return errTargetForm
	}
	if len(rest) < 2 || rest[:2] != "//" {
		return errTargetForm
	}
	rest = rest[2:]
	end := 0
	for end < len(rest) && rest[end] != '/' && rest[end] != '?' && rest[end] != '#' {
		if rest[end] == '@' {
			return errUserinfo
		}
		end++
	}
	q.auth = rest[:end]
	if !authority(q.auth) {
		return errAuthority
	}
	return q.parsePath(rest[end:])
}

// parsePath parses absolute-path [ "?" query ] (§3.2.1). After an authority the path may be missing.
func (q *Request) parsePath(s string) *Error {
	i := 0
	for ; i < len(s) && s[i] != '?'; i++ {
		switch {
		case classes[s[i]]&isPath == 0:
			return badTarget(s[i])
		case s[i] == '%' && (i+2 >= len(s) || classes[s[i+1]]&classes[s[i+2]]&isHexDig == 0):
			return errPercent
		}
	}
	q.path = s[:i]
	if q.path == "" {
		q.path = "/"
	}
	if i == len(s) {
		return nil
	}
	q.query = s[i+1:]
	for i := range len(q.query) {
		if classes[q.query[i]]&isQuery == 0 {
			return badTarget(q.query[i])
		}
	}
	return nil
}

func badTarget(c byte) *Error {
	if c == '#' {
		return errFragment
	}
	return errTarget
}

// checkConnect wants authority-form: a host and a port, nothing else (§3.2.3).
func checkConnect(s string) *Error {
	if !authority(s) || s[len(s)-1] == ']' {
		return errConnect
	}
	for i := len(s) - 1; i >= 0; i-- {
		switch c := s[i]; {
		case c == ':' && i < len(s)-1:
			return nil
		case c < '0' || c > '9':
			return errConnect
		}
	}
	return errConnect
}

// authority reports uri-host [ ":" port ] (RFC 3986 §3.2.2, §3.2.3), without what no host has: userinfo, an empty host,
// sub-delimiters, percent-encoding, a zone, an IPvFuture, a port above 65535.
func authority(s string) bool {
	host, port := 0, ""
	if s != "" && s[0] == '[' {
		for host < len(s) && s[host] != ']' {
			host++
		}
		if host == len(s) || !ipv6(s[1:host]) {
			return false
		}
		host++
	} else {
		for host < len(s) && classes[s[host]]&isHost != 0 {
			host++
		}
		if host == 0 {
			return false
		}
	}
	if host == len(s) {
		return true
	}
	if s[host] != ':' {
		return false
	}
	port = s[host+1:]
	if port == "" {
		return true // RFC 3986 §3.2.3: the same as no port
	}
	n, ok := number(port)
	return ok && n <= 65535
}

func ipv6(s string) bool {
	for i := range len(s) {
		if c := s[i]; c == '%' {
			return false
		}
	}
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6()
}
