package capture

import (
	"net/netip"
	"slices"
	"strconv"
)

// A family is one of IP's, or neither for rules of both.
type family uint8

const (
	both family = iota
	ipv4
	ipv6
)

// A rule is what one line of a chain says, whichever backend writes it. Its conditions hold all together.
type rule struct {
	family   family
	loopback bool // leaves by lo
	from, to netip.Prefix
	notTo    netip.Prefix
	in, out  string // interfaces; "*" at the end is any rest
	local    bool   // the destination is an address of this machine
	port     *Range
	uid, gid *Range

	then  verdict
	chain string // to go to
	port2 uint16 // to redirect to
	udp   bool   // what is redirected; else TCP

	marked      bool    // has Mark
	reply       bool    // goes back to who has connected
	established bool    // of a connection that is there
	only        backend // which writes it; both, where it is zero
}

// A backend is one of the two languages of rules.
type backend uint8

const (
	nft backend = 1 + iota
	xtables
)

type verdict uint8

const (
	leave    verdict = iota // not captured
	goTo                    // the chain decides, for good
	redirect                // captured
	divert                  // captured as it is (TPROXY)
	refuse                  // reset
)

// A chain is a list of rules, of which the first that holds counts. At its end nothing is captured.
type chain struct {
	name  string
	rules []rule
}

// The chains that connections come to: those that this machine makes, and those that it is sent.
const (
	chainOutbound = "outbound"
	chainInbound  = "inbound"
	chainReceive  = "receive" // inbound, whichever way it came
	chainDNS      = "dns"     // queries that this machine makes
	chainQUIC     = "quic"    // UDP to port 443
	chainDivert   = "divert"  // inbound with TPROXY, in the place of receive
	chainMark     = "mark"    // what the sidecar and its program say to each other by the addresses of callers
)

// The addresses that a sidecar connects to its program from. IPv6 has one address for loopback only, and from that one Linux does
// not hear that nobody listens on another address; Istio's tool adds another.
var (
	passV4  = netip.MustParsePrefix("127.0.0.6/32")
	passV6  = netip.MustParsePrefix("::1/128")
	istioV6 = netip.MustParsePrefix("::6/128")

	loopbackV4 = netip.MustParsePrefix("127.0.0.0/8")
	loopbackV6 = netip.MustParsePrefix("::1/128")
)

// chains gives what the kernel is to do. The configuration is complete.
func (c *Config) chains() []chain {
	return slices.Concat(c.nat(), c.mangle())
}

// nat is what translates addresses.
func (c *Config) nat() []chain {
	all := slices.Concat(c.dns(), c.quic(), c.outbound())
	if !c.TPROXY {
		all = append(all, c.inbound()...)
	}
	return append(all, c.receive(chainReceive, rule{then: redirect, port2: c.InboundPort})...)
}

// mangle is what takes packets as they are. What has no listener is refused: nft goes on to the next rule, iptables drops it itself.
func (c *Config) mangle() []chain {
	if !c.TPROXY {
		return nil
	}
	return append(c.inbound(), c.receive(chainDivert, rule{established: true, only: xtables}, rule{then: divert, port2: c.InboundPort},
		rule{established: true, only: nft}, rule{then: refuse, only: nft})...)
}

// dns decides about queries that this machine makes, to loopback addresses too: a stub of the system's may be there.
func (c *Config) dns() []chain {
	if c.DNSPort == 0 {
		return nil
	}
	return c.ofUsers(chainDNS, rule{then: redirect, port2: c.DNSPort, udp: true}, rule{then: redirect, port2: c.DNSPort})
}

// quic sends datagrams to a port on which nobody listens by UDP.
func (c *Config) quic() []chain {
	if !c.NoQUIC {
		return nil
	}
	return c.ofUsers(chainQUIC, rule{then: redirect, port2: c.OutboundPort, udp: true})
}

// ofUsers is a chain for what those do who are captured.
func (c *Config) ofUsers(name string, taken ...rule) []chain {
	b, s := builder{name: name}, &c.Outbound
	b.add(ownersOf(c.UIDs, c.GIDs)...)
	b.add(ownersOf(s.ExcludeUIDs, s.ExcludeGIDs)...)
	b.choose(ownersOf(s.IncludeUIDs, s.IncludeGIDs)...)
	b.next()
	b.add(taken...)
	return b.chains()
}

// inbound decides about connections that come by an interface. What is only routed through this machine is not for it.
func (c *Config) inbound() []chain {
	b, to := builder{name: chainInbound}, chainReceive
	if c.TPROXY { // which is for packets, and not for connections
		b.add(rule{in: "lo"}, rule{reply: true})
		to = chainDivert
	}
	for _, name := range c.Inbound.ExcludeInterfaces {
		b.add(rule{in: name})
	}
	for _, name := range c.Inbound.IncludeInterfaces {
		b.choose(rule{in: name})
	}
	b.next()
	b.add(rule{local: true, then: goTo, chain: to})
	return b.chains()
}

// receive decides about connections to this machine by their port.
func (c *Config) receive(name string, taken ...rule) []chain {
	b := builder{name: name}
	for i := range c.Inbound.ExcludePorts {
		b.add(rule{port: &c.Inbound.ExcludePorts[i]})
	}
	for i := range c.Inbound.IncludePorts {
		b.choose(rule{port: &c.Inbound.IncludePorts[i]})
	}
	b.next()
	if c.Inbound.nothing {
		taken = []rule{{}}
	}
	b.add(taken...)
	return b.chains()
}

// outbound decides about connections that this machine makes.
func (c *Config) outbound() []chain {
	b, s := builder{name: chainOutbound}, &c.Outbound
	// The sidecar's own go where they are meant to; but what it sends to this machine, by another address than those for
	// loopback, is a call of the program to itself, and received as every other.
	b.add(rule{family: ipv4, loopback: true, from: passV4}, rule{family: ipv6, loopback: true, from: passV6},
		rule{family: ipv6, loopback: true, from: istioV6})
	own := ownersOf(c.UIDs, c.GIDs)
	if c.TPROXY { // calls of the program, by the addresses of callers
		for _, r := range own {
			r.marked = true
			b.add(r)
		}
	}
	for _, r := range own {
		r.loopback, r.then, r.chain = true, goTo, chainReceive
		r.family, r.notTo = ipv4, loopbackV4
		b.add(r)
		r.family, r.notTo = ipv6, loopbackV6
		b.add(r)
	}
	b.add(own...)
	// What the program says to this machine is its own affair.
	b.add(rule{family: ipv4, to: loopbackV4}, rule{family: ipv6, to: loopbackV6}, rule{loopback: true})

	b.add(ownersOf(s.ExcludeUIDs, s.ExcludeGIDs)...)
	for _, name := range s.ExcludeInterfaces {
		b.add(rule{out: name})
	}
	for i := range s.ExcludePorts {
		b.add(rule{port: &s.ExcludePorts[i]})
	}
	for _, p := range s.ExcludeCIDRs {
		b.add(toPrefix(p))
	}

	b.choose(ownersOf(s.IncludeUIDs, s.IncludeGIDs)...)
	b.next()
	for _, name := range s.IncludeInterfaces {
		b.choose(rule{out: name})
	}
	b.next()
	for i := range s.IncludePorts {
		b.choose(rule{port: &s.IncludePorts[i]})
	}
	b.next()
	for _, p := range s.IncludeCIDRs {
		b.choose(toPrefix(p))
	}
	b.next()
	if !s.nothing {
		b.add(rule{then: redirect, port2: c.OutboundPort})
	}
	return b.chains()
}

func ownersOf(uids, gids []Range) []rule {
	var all []rule
	for i := range uids {
		all = append(all, rule{uid: &uids[i]})
	}
	for i := range gids {
		all = append(all, rule{gid: &gids[i]})
	}
	return all
}

func toPrefix(p netip.Prefix) rule {
	if p.Addr().Is4() {
		return rule{family: ipv4, to: p}
	}
	return rule{family: ipv6, to: p}
}

// A builder writes a chain that decides in stages. What one stage selects goes on to the next, in a chain of its own; what it
// does not is not captured.
type builder struct {
	name     string
	done     []chain
	rules    []rule
	selected int // rules of this stage
	stages   int
}

func (b *builder) add(rules ...rule) { b.rules = append(b.rules, rules...) }

// choose lets what a rule is true of go on.
func (b *builder) choose(rules ...rule) {
	for _, r := range rules {
		r.then, r.chain = goTo, b.nextName()
		b.selected++
		b.rules = append(b.rules, r)
	}
}

func (b *builder) nextName() string { return b.name + "_" + strconv.Itoa(b.stages+1) }

// next begins the next stage, where this one has selected anything.
func (b *builder) next() {
	if b.selected == 0 {
		return
	}
	b.done = append(b.done, chain{b.current(), b.rules})
	b.stages++
	b.rules, b.selected = nil, 0
}

func (b *builder) current() string {
	if b.stages == 0 {
		return b.name
	}
	return b.name + "_" + strconv.Itoa(b.stages)
}

// chains ends the last stage.
func (b *builder) chains() []chain { return append(b.done, chain{b.current(), b.rules}) }

// PassThrough gives the addresses that a sidecar connects to its program from, so that the connection is not captured again: the
// first that the machine has. With our rules that is every one, with those of Istio's tool the first.
func PassThrough(to netip.Addr) []netip.Addr {
	if to.Unmap().Is4() {
		return []netip.Addr{passV4.Addr()}
	}
	return []netip.Addr{istioV6.Addr(), passV6.Addr()}
}
