package cli

import (
	"errors"
	"net/netip"
	"strings"
)

// addresses are host:port of numbers, with commas or in several flags; "none" is an empty list, and nil nothing said.
type addresses []string

func (*addresses) String() string { return "" }
func (*addresses) Type() string   { return "addresses" }

func (l *addresses) Set(s string) error {
	if *l == nil {
		*l = addresses{}
	}
	if s == "none" {
		return nil
	}
	for one := range strings.SplitSeq(s, ",") {
		a, err := netip.ParseAddrPort(one)
		if err != nil || !a.Addr().Unmap().IsLoopback() {
			return errors.New("expected addresses of loopback, as in 127.0.0.1:15053,[::1]:15053, or none")
		}
		*l = append(*l, one)
	}
	return nil
}

// nameServers are addresses, with commas or in several flags, on port 53 where they name no other.
type nameServers []netip.AddrPort

func (*nameServers) String() string { return "" }
func (*nameServers) Type() string   { return "servers" }

func (l *nameServers) Set(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		at, err := netip.ParseAddrPort(one)
		if a, bare := netip.ParseAddr(one); bare == nil {
			at, err = netip.AddrPortFrom(a, 53), nil
		}
		if err != nil || at.Port() == 0 {
			return errors.New("expected addresses, as in 10.0.0.2,[fd00::2]:53")
		}
		*l = append(*l, at)
	}
	return nil
}
