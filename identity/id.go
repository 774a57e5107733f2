package identity

import (
	"fmt"
	"strings"
)

const (
	scheme = "spiffe://"
	// maxID and maxTrustDomain are the lengths that SPIFFE-ID §2 has implementations support.
	maxID          = 2048
	maxTrustDomain = 255
)

// An ID is a SPIFFE ID of a workload. It is comparable; the zero ID is nobody's.
type ID struct{ trustDomain, path string }

// ParseID reads a SPIFFE ID as SPIFFE-ID §2 writes it, without mercy: lower-case scheme and trust domain, no port,
// user, query, fragment or percent-encoding, a path without empty or dot segments. A trust domain alone is no ID of a
// workload.
func ParseID(s string) (ID, error) {
	wrong := func(what string) (ID, error) {
		const shown = 100
		if len(s) > shown {
			s = s[:shown] + "…"
		}
		return ID{}, fmt.Errorf("parse SPIFFE ID %q: %s", s, what)
	}
	rest, ok := strings.CutPrefix(s, scheme)
	switch {
	case len(s) > maxID:
		return wrong(fmt.Sprintf("longer than %d bytes", maxID))
	case !ok:
		return wrong("does not begin with " + scheme)
	}
	slash := strings.IndexByte(rest, '/')
	if slash < 0 {
		return wrong("has no path")
	}
	id := ID{rest[:slash], rest[slash:]}
	if err := CheckTrustDomain(id.trustDomain); err != nil {
		return wrong(err.Error())
	}
	for segment := range strings.SplitSeq(id.path[1:], "/") {
		switch {
		case segment == "":
			return wrong("has an empty path segment")
		case segment == "." || segment == "..":
			return wrong("has a dot segment")
		case !only(segment, isPathByte):
			return wrong("has a character that its path may not have")
		}
	}
	return id, nil
}

// CheckTrustDomain says what is wrong with the name of a trust domain (SPIFFE-ID §2.1), nil for nothing.
func CheckTrustDomain(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("has no trust domain")
	case len(name) > maxTrustDomain:
		return fmt.Errorf("has a trust domain longer than %d bytes", maxTrustDomain)
	case !only(name, isTrustDomainByte):
		return fmt.Errorf("has a character that a trust domain may not have: lower-case letters, digits, '.', '-' and '_' are all")
	}
	return nil
}

func only(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}

func isTrustDomainByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_'
}

func isPrintable(c byte) bool { return ' ' <= c && c < 0x7f }

func isPathByte(c byte) bool { return isTrustDomainByte(c) || 'A' <= c && c <= 'Z' }

// Workload makes the ID that Istio gives a service account: spiffe://<trust domain>/ns/<namespace>/sa/<account>.
func Workload(trustDomain, namespace, account string) (ID, error) {
	return ParseID(scheme + trustDomain + "/ns/" + namespace + "/sa/" + account)
}

// IsZero reports the ID of nobody.
func (id ID) IsZero() bool { return id == ID{} }

// String gives the ID as a URI, "" for nobody's.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return scheme + id.trustDomain + id.path
}

// TrustDomain gives the name of the trust domain.
func (id ID) TrustDomain() string { return id.trustDomain }

// Path gives what follows the trust domain, with its slash.
func (id ID) Path() string { return id.path }

// ServiceAccount takes an ID in Istio's form apart; ok is false for another form.
func (id ID) ServiceAccount() (namespace, account string, ok bool) {
	rest, ok := strings.CutPrefix(id.path, "/ns/")
	if !ok {
		return "", "", false
	}
	namespace, account, ok = strings.Cut(rest, "/sa/")
	if !ok || strings.Contains(namespace, "/") || strings.Contains(account, "/") {
		return "", "", false
	}
	return namespace, account, true
}

// MarshalText gives the ID as a URI.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }
