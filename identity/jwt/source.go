package jwt

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/internal/guard"
)

// DefaultFetchTimeout is how long a fetch may take where a Source does not say (JWTRule.timeout).
const DefaultFetchTimeout = 5 * time.Second

// A Source is where the keys of an issuer are fetched from. The zero Source is none. It is comparable: what is fetched from
// equal ones is fetched once.
type Source struct {
	// URI is that of the JWKS (JWTRule.jwksUri), http or https. "" for the one that the issuer names.
	URI string
	// Issuer is the URL of one that is to be asked where URI is "" (OpenID Connect Discovery 1.0 §4), otherwise "".
	Issuer string
	// Timeout bounds one fetch, discovery and redirects with it. Default: DefaultFetchTimeout.
	Timeout time.Duration
}

// String gives the URL that is asked first.
func (s Source) String() string {
	if s.URI != "" {
		return s.URI
	}
	return strings.TrimSuffix(s.Issuer, "/") + "/.well-known/openid-configuration"
}

// Check says what is wrong with the URL, before anybody has been asked: its scheme, its form, and an address that no
// program is let to ask (see package internal/guard).
func (s Source) Check() error {
	u, err := url.Parse(s.String())
	if err != nil {
		return errors.New("is no URL")
	}
	return checkURL(u)
}

// Plain reports a source that is asked without TLS: who is on the way can put in keys of his own.
func (s Source) Plain() bool { return strings.HasPrefix(strings.ToLower(s.String()), "http:") }

// checkURL holds a URL of keys, or one that leads to them, against what may be asked.
func checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("is no URL of http or https")
	case u.Host == "" || u.Hostname() == "":
		return errors.New("names no host")
	case u.User != nil:
		return errors.New("has a user in it: keys are public")
	case u.Fragment != "":
		return errors.New("has a fragment")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return errors.New("has no port of 1 to 65535")
		}
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		if why := guard.Never(a); why != "" {
			return fmt.Errorf("leads to %s, where no keys are fetched: %s", a, why)
		}
	}
	return nil
}
