package dns

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"sync"
)

// The ranges of automatic addresses, which are Istio's: of the class that nobody uses (RFC 1112 §4), and of the one for benchmarks
// (RFC 5180).
var (
	AutomaticV4 = netip.MustParsePrefix("240.240.0.0/16")
	AutomaticV6 = netip.MustParsePrefix("2001:2::/64")
)

// An Automatic finds addresses for hosts that have none. A host has those that its name says, so that they are the same after a
// restart and in every process; of two names that say the same the first in the alphabet has it and the other the next that is free.
// Whoever has addresses keeps them as long as it is there. The zero value is ready; it is safe for concurrent use.
type Automatic struct {
	mu    sync.Mutex // guards what follows
	hosts map[string]Addresses
	v4    []bool // what is taken, by the number of the address
	v6    map[netip.Addr]bool
}

// Addresses are those of one host, one of each family.
type Addresses struct{ V4, V6 netip.Addr }

// Assign gives every one of the hosts its addresses, and forgets all others. Hosts for which the range has no room, which is for
// 64,516, are left out.
func (a *Automatic) Assign(hosts []string) map[string]Addresses {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.hosts
	a.hosts, a.v4, a.v6 = make(map[string]Addresses, len(hosts)), make([]bool, roomV4), make(map[netip.Addr]bool, len(hosts))
	sorted := slices.Compact(slices.Sorted(slices.Values(hosts)))
	for _, host := range sorted {
		if had, ok := before[host]; ok {
			a.hosts[host], a.v4[numberV4(had.V4)], a.v6[had.V6] = had, true, true
		}
	}
	for _, host := range sorted {
		if _, has := a.hosts[host]; !has && len(a.hosts) < roomV4 {
			a.hosts[host] = a.find(sha256.Sum256([]byte(host)))
		}
	}
	return maps.Clone(a.hosts)
}

// find takes the addresses that a sum says, or the next that are free, of which there are some.
func (a *Automatic) find(sum [sha256.Size]byte) Addresses {
	n := binary.BigEndian.Uint32(sum[:]) % roomV4
	for a.v4[n] {
		n = (n + 1) % roomV4
	}
	a.v4[n] = true
	b := AutomaticV6.Addr().As16()
	copy(b[8:], sum[8:16])
	b[15] |= 1 // never the first address of the network, which is everybody's (RFC 4291 §2.6.1)
	v6 := netip.AddrFrom16(b)
	for a.v6[v6] {
		binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])+2)
		v6 = netip.AddrFrom16(b)
	}
	a.v6[v6] = true
	return Addresses{addrV4(n), v6}
}

// roomV4 leaves out what ends in 0 or 255, and the first and last such block, which some take for networks and broadcasts.
const roomV4 = 254 * 254

func addrV4(n uint32) netip.Addr {
	b := AutomaticV4.Addr().As4()
	b[2], b[3] = byte(1+n/254), byte(1+n%254)
	return netip.AddrFrom4(b)
}

func numberV4(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[2]-1)*254 + uint32(b[3]-1)
}
