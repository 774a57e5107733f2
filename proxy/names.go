package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/heddlemesh/mesh/internal/dns"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport"
)

// DNS says where the program's DNS queries are answered: names of the mesh's hosts with their addresses, or with automatic ones by
// which connections are then told apart; everything else by name servers (Istio's ISTIO_META_DNS_CAPTURE).
type DNS struct {
	// Listen are addresses of loopback for queries by UDP and TCP, 127.0.0.1:15053. Default: none.
	Listen []string
	// Upstreams are asked for what the mesh does not know. Default: the name servers of /etc/resolv.conf.
	Upstreams []netip.AddrPort
	// NoAutomatic leaves hosts that have no address to the name servers. Default: they have one of 240.240.0.0/16 and one of
	// 2001:2::/64 (Istio's ISTIO_META_DNS_AUTO_ALLOCATE).
	NoAutomatic bool
}

// Unassigned is the reason of replies to connections to an automatic address that is no host's: a name that the mesh knew before.
const Unassigned = "automatic_address_of_nobody"

// names are those of the mesh's hosts, as the snapshot has them. A nil one has none. It is safe for concurrent use.
type names struct {
	engine      *transport.Engine
	noAutomatic bool

	mu        sync.Mutex // held while a zone is made
	automatic dns.Automatic
	last      atomic.Pointer[zoneOf]
}

type zoneOf struct {
	snapshot *snapshot.Snapshot
	zone     *dns.Zone
}

// zone gives what there is at the moment. It is made anew for a new snapshot, by the first who asks.
func (n *names) zone() *dns.Zone {
	if last := n.last.Load(); last != nil && last.snapshot == n.engine.Snapshot() {
		return last.zone
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	snap := n.engine.Snapshot()
	if last := n.last.Load(); last != nil && last.snapshot == snap {
		return last.zone
	}
	z := n.zoneFor(snap)
	n.last.Store(&zoneOf{snap, z})
	return z
}

func (n *names) zoneFor(snap *snapshot.Snapshot) *dns.Zone {
	t := snap.Tables[snapshot.Mesh]
	if t == nil {
		return dns.NewZone(nil)
	}
	var hosts []dns.Host
	var without []string                             // an address
	ports := make(map[string][]*routing.VirtualHost) // of hosts of the registry
	for _, v := range t.VirtualHosts() {
		if v.Default == nil {
			continue // a name that rules have, and no service
		}
		ports[v.Host] = append(ports[v.Host], v)
		if len(ports[v.Host]) > 1 {
			continue
		}
		h := dns.Host{Name: v.Host}
		for _, also := range v.Also {
			if a, err := netip.ParseAddr(also); err == nil {
				h.Addrs = append(h.Addrs, a)
			} else {
				h.Aliases = append(h.Aliases, also)
			}
		}
		hosts = append(hosts, h)
	}
	for i := range hosts {
		h := &hosts[i]
		h.Automatic = len(h.Addrs) == 0 && !n.noAutomatic && takesAutomatic(snap, h.Name, ports[h.Name])
		if h.Automatic {
			without = append(without, h.Name)
		}
	}
	given := n.automatic.Assign(without)
	for i := range hosts {
		if a, ok := given[hosts[i].Name]; ok && hosts[i].Automatic {
			hosts[i].Addrs = []netip.Addr{a.V4, a.V6}
		}
	}
	return dns.NewZone(slices.DeleteFunc(hosts, func(h dns.Host) bool { return len(h.Addrs) == 0 }))
}

// takesAutomatic reports whether calls to a host can be told by an address that nobody else knows: not where it stands for many names, or
// where calls go to the address that was called, or are no connections (istio.io, pilot/pkg/serviceregistry/serviceentry autoAllocateIPs).
func takesAutomatic(snap *snapshot.Snapshot, host string, ports []*routing.VirtualHost) bool {
	if _, err := netip.ParseAddr(host); err == nil || strings.HasPrefix(host, "*") {
		return false
	}
	return slices.ContainsFunc(ports, func(v *routing.VirtualHost) bool {
		if v.UDP {
			return false
		}
		to := v.Default.Split[0].Index
		return to < 0 || !snap.Clusters[to].Direct
	})
}

// hostOf gives the host that has an automatic address, "" for none.
func (n *names) hostOf(a netip.Addr) string {
	if n == nil || !isAutomatic(a) {
		return ""
	}
	return n.zone().HostOf(a)
}

// unassigned reports whether a connection meant to go to an automatic address that is nobody's.
func (n *names) unassigned(a netip.Addr) bool { return n != nil && isAutomatic(a) && n.hostOf(a) == "" }

// named gives the host whose automatic address a caller has put in the place of its name, else what the caller has put.
func (n *names) named(host string) string {
	if n == nil || !strings.HasPrefix(host, "240.240.") && !strings.HasPrefix(host, "2001:2:") {
		return host
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if name := n.hostOf(a); name != "" {
			return name
		}
	}
	return host
}

// beyond says where what the mesh does not know is sent that a connection to an address brings: there, or where name servers say that the host
// is that has the address.
func (n *names) beyond(to netip.AddrPort) string {
	if host := n.hostOf(to.Addr()); host != "" {
		return net.JoinHostPort(host, strconv.Itoa(int(to.Port())))
	}
	return to.String()
}

func isAutomatic(a netip.Addr) bool {
	a = a.Unmap()
	return dns.AutomaticV4.Contains(a) || dns.AutomaticV6.Contains(a)
}

// openNames makes the names and opens the listeners for queries, which nobody reads yet.
func (s *Sidecar) openNames() error {
	c := &s.config
	if len(c.DNS.Listen) == 0 {
		return nil
	}
	s.names = &names{engine: c.Mesh.Engine(), noAutomatic: c.DNS.NoAutomatic}
	var err error
	s.dns, err = dns.Listen(dns.Config{Addresses: c.DNS.Listen, Listen: c.Listen, ListenPacket: c.ListenPacket, Zone: s.names.zone, Upstreams: c.DNS.Upstreams, Failed: func(name string, err error) {
		c.Logger.Debug("no name server has answered", slog.String("name", name), slog.Any("error", err))
	}})
	if err == nil && c.Guard != nil {
		for _, a := range s.dns.Addrs() {
			c.Guard.Refuse(net.TCPAddrFromAddrPort(a))
		}
	}
	return err
}

// DNSAddrs says where names are asked for, in the order of DNS.Listen.
func (s *Sidecar) DNSAddrs() []netip.AddrPort {
	if s.dns == nil {
		return nil
	}
	return s.dns.Addrs()
}

// closeNames ends DNS, where a successor has the sockets when queries under way are answered, or ctx ends.
func (s *Sidecar) closeNames(ctx context.Context) {
	if s.dns == nil {
		return
	}
	if s.ceded.Load() {
		s.dns.Wait(ctx)
	}
	s.dns.Close()
}

// queries are the metrics of DNS.
func (s *Sidecar) queries(yield func(telemetry.Family)) {
	if s.dns == nil {
		return
	}
	f := telemetry.Family{Name: "heddle_proxy_dns_queries_total", Help: "DNS queries of the program, by who has answered them.", Kind: telemetry.Counter}
	n := s.dns.Counts()
	f.Add(float64(n.Mesh), "answered", "mesh")
	f.Add(float64(n.Cached), "answered", "cache")
	f.Add(float64(n.Asked), "answered", "upstream")
	f.Add(float64(n.Failed), "answered", "failed")
	f.Add(float64(n.Refused), "answered", "refused")
	yield(f)
}
