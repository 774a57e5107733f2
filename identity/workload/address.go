package workload

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// CheckAddress says what is wrong with the address of a Workload API, nil for nothing.
func CheckAddress(address string) error {
	_, _, err := splitAddress(address)
	return err
}

// splitAddress gives an address as net.Dial has it (SPIFFE Workload Endpoint §4).
func splitAddress(address string) (network, where string, err error) {
	wrong := func(what string) (string, string, error) {
		return "", "", fmt.Errorf("address of the Workload API %q: %s", address, what)
	}
	u, err := url.Parse(address)
	if err != nil {
		inner, ok := errors.AsType[*url.Error](err)
		if !ok {
			return wrong(err.Error())
		}
		return wrong(inner.Err.Error())
	}
	switch {
	case u.Scheme != "unix" && u.Scheme != "tcp":
		return wrong("expected unix:///path or tcp://ip:port")
	case u.Opaque != "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(address, "#"):
		return wrong("it may have nothing but scheme and path, or scheme and ip:port")
	case u.Scheme == "unix" && (u.Host != "" || len(u.Path) < 2):
		return wrong("expected unix:///path, with an absolute path")
	case u.Scheme == "unix":
		return "unix", u.Path, nil
	case u.Path != "":
		return wrong("expected tcp://ip:port, without a path")
	}
	host, port, err := net.SplitHostPort(u.Host)
	if ip, parsed := netip.ParseAddr(host); err != nil || parsed != nil || ip.Zone() != "" || port == "" {
		return wrong("expected tcp://ip:port, with an IP address")
	}
	return "tcp", u.Host, nil
}
