package capture

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strings"
	"syscall"
)

// ipTablesNames is where the kernel says which tables of the older iptables there are, for root alone.
var ipTablesNames = map[family]string{ipv4: "/proc/thread-self/net/ip_tables_names", ipv6: "/proc/thread-self/net/ip6_tables_names"}

// legacyTables reports whether the older iptables may have a table of a family in which rules of ours could be.
func legacyTables(of family) bool {
	text, err := os.ReadFile(ipTablesNames[of])
	if os.IsNotExist(err) {
		return false // nobody has ever asked for one
	}
	return err != nil || strings.Contains(string(text), "nat\n") || strings.Contains(string(text), "mangle\n")
}

// there reports whether the machine has it, and has it of us. What the kernel cannot have is not there.
func (s *setting) there() (bool, error) {
	domain := map[family]int{ipv4: syscall.AF_INET, ipv6: syscall.AF_INET6}[s.of]
	switch s.kind {
	case tableRoute:
		return inRouting(syscall.RTM_GETROUTE, domain, func(b []byte) bool { return isRouteHere(b) && b[5] == routeProtocol })
	case markRule:
		return inRouting(syscall.RTM_GETRULE, domain, func(b []byte) bool {
			r := readRule(b)
			return r.leadsHere() && r.protocol == routeProtocol
		})
	default:
		return inRouting(syscall.RTM_GETADDR, domain, isPassAddress)
	}
}

// The parts of an address (linux/if_addr.h).
const (
	addressHeader      = 8
	ifaAddress         = 1
	ifaFlags           = 8
	ifaNoPrefixRoute   = 0x200
	lengthOfOneAddress = 128
)

// isPassAddress knows passAddress by its flag.
func isPassAddress(b []byte) bool {
	if b[1] != lengthOfOneAddress {
		return false
	}
	var is, flagged bool
	attributes(b[addressHeader:], func(kind uint16, value []byte) {
		switch {
		case kind == ifaAddress && len(value) == 16:
			is = netip.AddrFrom16([16]byte(value)) == istioV6.Addr()
		case kind == ifaFlags && len(value) == 4:
			flagged = binary.NativeEndian.Uint32(value)&ifaNoPrefixRoute != 0
		}
	})
	return is && flagged
}

// hasIPv6 reports whether the machine has ::1, and so may have passAddress beside it. It opens no socket of IPv6, which a unit of systemd's may not.
func hasIPv6() bool {
	is, err := inRouting(syscall.RTM_GETADDR, syscall.AF_INET6, func(b []byte) (is bool) {
		attributes(b[addressHeader:], func(kind uint16, value []byte) {
			is = is || kind == ifaAddress && len(value) == 16 && netip.AddrFrom16([16]byte(value)) == passV6.Addr()
		})
		return is
	})
	return is && err == nil
}
