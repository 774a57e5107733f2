package dns_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/heddlemesh/mesh/internal/dns"
)

func hostNames(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("service-%d.shop.svc.cluster.local", i)
	}
	return all
}

// TestAutomatic: addresses are of their ranges, each one host's, the same in every process and whatever order hosts come in, and
// nobody's changes while it is there.
func TestAutomatic(t *testing.T) {
	t.Parallel()
	var a, restarted, grown dns.Automatic
	hosts := hostNames(5000)
	first := a.Assign(hosts)
	seen := make(map[netip.Addr]string)
	for host, addrs := range first {
		b := addrs.V4.As4()
		if !dns.AutomaticV4.Contains(addrs.V4) || !dns.AutomaticV6.Contains(addrs.V6) || b[3] == 0 || b[3] == 255 || b[2] == 0 || b[2] == 255 {
			t.Errorf("%s: %v", host, addrs)
		}
		for _, addr := range []netip.Addr{addrs.V4, addrs.V6} {
			if seen[addr] != "" {
				t.Errorf("%s and %s: %s", host, seen[addr], addr)
			}
			seen[addr] = host
		}
	}
	if len(first) != len(hosts) {
		t.Errorf("%d of %d hosts have addresses", len(first), len(hosts))
	}
	slices.Reverse(hosts)
	if got := restarted.Assign(hosts); !maps.Equal(got, first) {
		t.Error("another process gives other addresses")
	}
	slices.Reverse(hosts)
	few := grown.Assign(hosts[4000:])
	for host, addrs := range grown.Assign(append(hosts, "more.example.com")) {
		if had, ok := few[host]; ok && had != addrs {
			t.Errorf("%s had %v and has %v", host, had, addrs)
		}
	}
	// What is known for good: other versions give these too.
	if got := new(dns.Automatic).Assign([]string{"reviews.default.svc.cluster.local"}); got["reviews.default.svc.cluster.local"] !=
		(dns.Addresses{V4: netip.MustParseAddr("240.240.204.80"), V6: netip.MustParseAddr("2001:2::bc3b:a838:4bfe:57ef")}) {
		t.Errorf("%v", got)
	}
}

// TestAutomaticFull: where there is no room, there is none, and whoever goes makes some.
func TestAutomaticFull(t *testing.T) {
	t.Parallel()
	var a dns.Automatic
	hosts := hostNames(254*254 + 3)
	if got := a.Assign(hosts); len(got) != 254*254 {
		t.Errorf("%d hosts have addresses", len(got))
	}
	if got := a.Assign(hosts[10:]); len(got) != 254*254-7 {
		t.Errorf("%d hosts have addresses", len(got))
	}
}
