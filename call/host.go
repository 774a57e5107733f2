package call

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// SplitAuthority takes a Host header or URL authority apart into the canonical host — lower case, no
// trailing dot, brackets off an IPv6 address — and its port, 0 where it names none. It refuses what no
// host can be: user information, paths, spaces, commas, zone identifiers, labels that DNS cannot hold
// (empty, longer than 63 bytes, with a hyphen at an end), ports of 0 or above 65535 (RFC 9110 §7.2,
// RFC 3986 §3.2, RFC 1123 §2.1). Underscores are taken as they come, and so are punycode labels.
func SplitAuthority(authority string) (host string, port uint16, err error) {
	host = authority
	if strings.HasPrefix(authority, "[") {
		end := strings.IndexByte(authority, ']')
		if end < 0 {
			return "", 0, fmt.Errorf("host %s: missing ]", quote(authority))
		}
		addr, perr := netip.ParseAddr(authority[1:end])
		if perr != nil || !addr.Is6() || addr.Zone() != "" {
			return "", 0, fmt.Errorf("host %s: not an IPv6 address", quote(authority))
		}
		host = addr.Unmap().String() // an IPv4 address has one spelling (RFC 4291 §2.5.5.2)
		if port, err = splitPort(authority, authority[end+1:]); err != nil {
			return "", 0, err
		}
		return host, port, nil
	}
	if i := strings.IndexByte(authority, ':'); i >= 0 {
		host = authority[:i]
		if port, err = splitPort(authority, authority[i:]); err != nil {
			return "", 0, err
		}
	}
	canonical, ok := canonicalHost(host)
	if !ok {
		return "", 0, fmt.Errorf("host %s: not a host name", quote(authority))
	}
	return canonical, port, nil
}

func splitPort(authority, s string) (uint16, error) {
	if s == "" || s == ":" {
		return 0, nil
	}
	if s[0] != ':' || s[1] == '+' || s[1] == '-' {
		return 0, fmt.Errorf("host %s: malformed port", quote(authority))
	}
	n, err := strconv.ParseUint(s[1:], 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("host %s: port is not a number from 1 to 65535", quote(authority))
	}
	return uint16(n), nil
}

// canonicalHost lowers the case and drops one trailing dot; it allocates only where something changes.
func canonicalHost(s string) (string, bool) {
	s = strings.TrimSuffix(s, ".")
	if len(s) > 253 {
		return "", false
	}
	upper, label := false, 0
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '.':
			if !validLabel(s[label:i]) {
				return "", false
			}
			label = i + 1
		case 'A' <= c && c <= 'Z':
			upper = true
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return "", false
		}
	}
	if !validLabel(s[label:]) {
		return "", false
	}
	if upper {
		s = strings.ToLower(s)
	}
	return s, true
}

func validLabel(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-'
}

func quote(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
