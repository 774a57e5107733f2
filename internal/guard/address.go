package guard

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Never says why no Guard lets anybody connect to an address, "" for one that some let through.
func Never(a netip.Addr) string {
	a = plain(a)
	switch {
	case a.IsLinkLocalUnicast():
		return "it is link-local"
	case slices.Contains(metadata, a) || metadataNet.Contains(a):
		return "it is a metadata service"
	}
	return ""
}

// metadata are the services outside the link-local range that tell a machine's secrets to whoever asks.
var (
	metadata = []netip.Addr{
		netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
		netip.MustParseAddr("168.63.129.16"),   // Azure
		netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
		netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
	}
	metadataNet = netip.MustParsePrefix("fd00:ec2::/32") // Amazon
	nat64       = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour   = netip.MustParsePrefix("2002::/16")
)

// plain gives the IPv4 address that an IPv6 one stands for, and no zone.
func plain(a netip.Addr) netip.Addr {
	a = a.WithZone("").Unmap()
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

// SameSocket reports whether two paths are of one Unix socket: the same in any spelling, or links to it.
func SameSocket(a, b string) bool {
	if a == b || strings.HasPrefix(a, "@") || strings.HasPrefix(b, "@") {
		return a == b
	}
	one, err := os.Stat(a)
	if err != nil {
		return filepath.Clean(a) == filepath.Clean(b)
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// SameHost reports whether a connection to addr reaches a listener on own. To connect to the unspecified
// address is to connect to this machine.
func SameHost(own, addr netip.Addr) bool {
	own, addr = plain(own), plain(addr)
	switch {
	case own == addr:
		return true
	case own.IsUnspecified():
		return addr.IsUnspecified() || addr.IsLoopback() || slices.Contains(localAddrs(), addr)
	case addr.IsUnspecified():
		return own.IsLoopback()
	}
	return false
}

func localAddrs() []netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var found []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			found = append(found, p.Addr().Unmap())
		}
	}
	return found
}
