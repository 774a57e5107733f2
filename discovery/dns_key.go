package discovery

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// A dnsKey is one service port that has, or had, names to resolve. Guarded by DNS.mu.
type dnsKey struct {
	set   *Set       // as it was declared
	names []*dnsName // of its endpoints; none for a set that is passed on as it is

	sent      bool
	published *Set
	busy      bool // somebody is in deliver
	again     bool // and has more to do
}

// hostsOf lists the names that the set's endpoints ask to resolve.
func hostsOf(s *Set) (hosts []string) {
	if s == nil {
		return nil
	}
	for i := range s.endpoints {
		if e := &s.endpoints[i]; e.Resolve {
			if host, _ := e.hostPort(); !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
	}
	return hosts
}

// hostPort splits the address of an endpoint that is to be resolved. Case makes no other name; a dot at the
// end does, for it keeps search lists out.
func (e *Endpoint) hostPort() (host, port string) {
	host, port, err := net.SplitHostPort(e.Address.Addr)
	if err != nil {
		host = e.Address.Addr // nothing will be found under it, and that will be said
	}
	return strings.ToLower(host), port
}

// deliver publishes the key's set if it has changed. Two goroutines can find a change at once, and then one
// publishes for both: what comes last is the newest, with no lock held.
func (d *DNS) deliver(key Key, k *dnsKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k.again = true
	if k.busy {
		return
	}
	k.busy = true
	for k.again {
		k.again = false
		set, known := k.expand()
		if !known || k.sent && set.Equal(k.published) {
			continue
		}
		k.sent, k.published = true, set
		d.mu.Unlock()
		d.next.Publish(key, set)
		d.mu.Lock()
	}
	k.busy = false
	d.idle.Broadcast()
	if len(k.names) == 0 && d.keys[key] == k {
		delete(d.keys, key)
	}
}

// expand puts addresses in place of names. It reports false while it is better to wait for what is not known yet.
func (k *dnsKey) expand() (*Set, bool) {
	if len(k.names) == 0 {
		return k.set, true
	}
	list := make([]Endpoint, 0, k.set.Len())
	var missing []string
	for i := range k.set.endpoints {
		e := &k.set.endpoints[i]
		if !e.Resolve {
			list = append(list, *e)
			continue
		}
		host, port := e.hostPort()
		for _, a := range k.name(host).addrs {
			list = append(list, e.at(a, port))
		}
	}
	pending := false
	for _, n := range k.names {
		pending = pending || !n.tried
		if len(n.addrs) == 0 && n.failed != "" {
			missing = append(missing, n.failed)
		}
	}
	// A first set of some names only would put the whole load on them, and one with nothing would fail calls
	// that need only wait.
	if pending && (!k.sent || len(list) == 0) {
		return nil, false
	}
	s := NewSet(list...)
	s.missing = strings.Join(missing, "; ")
	return s, true
}

func (k *dnsKey) name(host string) *dnsName {
	return k.names[slices.IndexFunc(k.names, func(n *dnsName) bool { return n.host == host })]
}

// at gives the endpoint under one of its addresses.
func (e *Endpoint) at(a netip.Addr, port string) Endpoint {
	found := *e
	found.Resolve = false
	found.Address.Addr = net.JoinHostPort(a.String(), port)
	return found
}
