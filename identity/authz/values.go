package authz

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// values is one list of a term, compiled. What is written in it is never made a regular expression.
type values struct {
	few       []string            // exact, up to fewValues of them
	exact     map[string]struct{} // otherwise
	prefixes  []string
	suffixes  []string
	templates []template
	present   bool // "*": anything but nothing
	networks  []netip.Prefix
	ports     []uint16
	// spelt is the list as the readings of a path beyond the first are spelt, nil where that is the same.
	spelt *values
}

// fewValues are compared one by one: a map costs more.
const fewValues = 8

func compileValues(a Attribute, list []string) (*values, error) {
	if len(list) == 0 {
		return nil, nil
	}
	v, err := packed(a, list)
	if err != nil || a != Path {
		return v, err
	}
	otherwise := func(s string) bool { return !isTemplate(s) && spell(s) != s }
	if slices.ContainsFunc(list, otherwise) {
		again := slices.Clone(list)
		for i, s := range again {
			if otherwise(s) {
				again[i] = spell(s)
			}
		}
		v.spelt, err = packed(a, again)
	}
	return v, err
}

func packed(a Attribute, list []string) (*values, error) {
	v := new(values)
	if len(list) > fewValues {
		v.exact = make(map[string]struct{}, len(list))
	}
	for _, s := range list {
		if err := v.add(a, s); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (v *values) add(a Attribute, s string) error {
	switch a {
	case SourceIP, RemoteIP, DestinationIP:
		p, err := ParseNetwork(s)
		if err != nil {
			return err
		}
		v.networks = append(v.networks, p)
		return nil
	case Port:
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("port %q is not a number from 1 to 65535", s)
		}
		v.ports = append(v.ports, uint16(n))
		return nil
	case ServiceAccount:
		v.addExact(s)
		return nil
	case Path:
		if isTemplate(s) {
			t, err := parseTemplate(s)
			if err != nil {
				return err
			}
			v.templates = append(v.templates, t)
			return nil
		}
	}
	s = lowered(a, s)
	switch {
	case s == "*":
		v.present = true
	case strings.HasPrefix(s, "*"):
		v.suffixes = append(v.suffixes, s[1:])
	case strings.HasSuffix(s, "*"):
		v.prefixes = append(v.prefixes, s[:len(s)-1])
	default:
		v.addExact(s)
	}
	return nil
}

func (v *values) addExact(s string) {
	if v.exact != nil {
		v.exact[s] = struct{}{}
	} else {
		v.few = append(v.few, s)
	}
}

// ParseNetwork reads an address or a block of them. An IPv4 address within IPv6 is an IPv4 address; bits beyond the
// length of the prefix do not count. Zones are refused.
func ParseNetwork(s string) (netip.Prefix, error) {
	if strings.IndexByte(s, '/') < 0 {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is no address", s)
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no block of addresses", s)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q is no block of addresses", s)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// match reports whether a text is like one of the list.
func (v *values) match(s string) bool {
	if v.present && s != "" {
		return true
	}
	if v.exact != nil {
		if _, ok := v.exact[s]; ok {
			return true
		}
	}
	for _, one := range v.few {
		if s == one {
			return true
		}
	}
	for _, p := range v.prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	for _, p := range v.suffixes {
		if strings.HasSuffix(s, p) {
			return true
		}
	}
	for i := range v.templates {
		if v.templates[i].match(s) {
			return true
		}
	}
	return false
}

func (v *values) contains(a netip.Addr) bool {
	for _, p := range v.networks {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func (v *values) hasPort(n uint16) bool { return slices.Contains(v.ports, n) }
