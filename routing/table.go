package routing

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// A VirtualHost is one port of one host: the names it answers to and the rules for it. It is immutable
// once in a Table.
type VirtualHost struct {
	Host string   // FQDN, a wildcard ("*.example.com"), or a name as a document gave it
	Port uint16   // the service's port
	Also []string // further names that mean this host to the calling workload: short names, virtual IPs
	// HTTP says that rules apply. A port of another protocol (TLS, TCP, …) is opaque: Default takes all.
	HTTP bool
	// TLS says of an opaque port that what comes is told by the name in its ClientHello (protocols TLS and HTTPS), UDP that no
	// connections come.
	TLS, UDP bool
	Routes   []*Route
	// Conns are the rules of an opaque port.
	Conns []*ConnRule
	// Default is where traffic goes that no rule applies to: the host's own service. nil for a name that is none. For what Conns do not take see Rest.
	Default *Route
	// Limits are the rate limits on calls to it: indices into what the snapshot lists.
	Limits []int
	// Origin says where the host was declared, for people, as Route.Origin does.
	Origin string

	index *index
}

// Match gives the first rule in list order that takes the request, and its match that did, nil for a rule
// without conditions. Where no rule does (404, flag NR) the route is nil. It does not allocate, unless a
// header field that a rule reads is there several times.
func (v *VirtualHost) Match(q *call.Request) (*Route, *Match) {
	e := v.index.find(q)
	if e == nil {
		return nil, nil
	}
	return e.route, e.match
}

// A Table is the compiled routes of one scope. It is immutable and safe for concurrent use.
type Table struct {
	hosts   []*VirtualHost
	names   map[string][]*VirtualHost // by name, wildcards with their star
	ports   map[uint16]*Port
	oddball []string // wildcard suffixes that do not begin at a label, longest first
}

// NewTable compiles the hosts. Where two claim one name and port, the first has it. The hosts belong to
// the table from then on.
func NewTable(hosts []*VirtualHost) *Table {
	t := &Table{hosts: hosts, names: make(map[string][]*VirtualHost, 2*len(hosts)), ports: make(map[uint16]*Port)}
	for _, v := range hosts {
		v.index = newIndex(v.Routes)
		t.claim(v.Host, v)
		t.note(v)
	}
	for _, v := range hosts { // a short name never takes a host's own
		for _, name := range v.Also {
			t.claim(name, v)
		}
	}
	slices.SortFunc(t.oddball, func(a, b string) int { return len(b) - len(a) })
	return t
}

func (t *Table) claim(name string, v *VirtualHost) {
	if suffix, ok := strings.CutPrefix(name, "*"); ok && !strings.HasPrefix(suffix, ".") &&
		!slices.Contains(t.oddball, suffix) {
		t.oddball = append(t.oddball, suffix)
	}
	for _, have := range t.names[name] {
		if have.Port == v.Port {
			return
		}
	}
	t.names[name] = append(t.names[name], v)
}

// A Port is what hosts have on a port of one number. It is immutable.
type Port struct {
	HTTP bool // some speak HTTP
	TLS  bool // some are told by the name in a ClientHello
	// Other is the first that is neither, and has no address of its own by which a connection to it could be told; it takes all
	// that nobody else does. nil for none.
	Other *VirtualHost

	named []*VirtualHost // whose rules ask for names
}

func (t *Table) note(v *VirtualHost) {
	p := t.ports[v.Port]
	if p == nil {
		p = &Port{}
		t.ports[v.Port] = p
	}
	isAddress := func(name string) bool {
		_, err := netip.ParseAddr(name)
		return err == nil
	}
	switch {
	case v.HTTP:
		p.HTTP = true
	case v.TLS:
		p.TLS = true
		if v.Named() {
			p.named = append(p.named, v)
		}
	case p.Other == nil && !v.UDP && !slices.ContainsFunc(v.Also, isAddress):
		p.Other = v
	}
}

// On says what there is on a port, for connections of which nothing but address and port is known. It must not be changed.
func (t *Table) On(port uint16) Port {
	if p := t.ports[port]; p != nil {
		return *p
	}
	return Port{}
}

// VirtualHosts lists what the table was made of. The list and what it points to must not be changed.
func (t *Table) VirtualHosts() []*VirtualHost { return t.hosts }

// Lookup finds the host by its canonical name: exact, then the longest wildcard (Istio's host.Name order).
// A wildcard does not take its own base domain. Where the name is known but not on this port, it gives no
// host and the ports it is known on.
func (t *Table) Lookup(host string, port uint16) (v *VirtualHost, known []uint16) {
	if v, known = find(t.names[host], port, known); v != nil {
		return v, nil
	}
	// Label by label from the left: the first hit is the longest suffix.
	for i := 0; i < len(host); {
		dot := strings.IndexByte(host[i:], '.')
		if dot < 0 {
			break
		}
		i += dot
		if i > 0 {
			if v, known = t.wildcard(host[i:], port, known); v != nil {
				break
			}
		}
		i++
	}
	for _, suffix := range t.oddball {
		if v != nil && len(v.Host) > len(suffix) {
			break
		}
		if len(host) > len(suffix) && strings.HasSuffix(host, suffix) {
			if w, _ := find(t.names["*"+suffix], port, nil); w != nil {
				return w, nil
			}
		}
	}
	if v != nil {
		return v, nil
	}
	return nil, known
}

func (t *Table) wildcard(suffix string, port uint16, known []uint16) (*VirtualHost, []uint16) {
	var key [256]byte // no allocation for the look-up key
	if len(suffix) >= len(key) {
		return nil, known
	}
	key[0] = '*'
	n := copy(key[1:], suffix)
	return find(t.names[string(key[:n+1])], port, known)
}

func find(hosts []*VirtualHost, port uint16, known []uint16) (*VirtualHost, []uint16) {
	for _, v := range hosts {
		if v.Port == port {
			return v, nil
		}
	}
	for _, v := range hosts {
		known = append(known, v.Port)
	}
	return nil, known
}
