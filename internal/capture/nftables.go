package capture

import (
	"fmt"
	"net/netip"
	"strings"
)

// nftTable is the table that the rules are in. Nobody else writes to it.
const nftTable = "inet heddle"

// nftScript gives what nft has to read, in one transaction: the table as it is to be, in the place of the one that may be there.
func (c *Config) nftScript() string {
	body := c.nftBody()
	var b strings.Builder
	fmt.Fprintf(&b, "table %s\ndelete table %s\ntable %s {\n\tcomment %q\n", nftTable, nftTable, nftTable, c.mark(body))
	b.WriteString(body)
	b.WriteString("}\n")
	return b.String()
}

func (c *Config) nftBody() string {
	var b strings.Builder
	for _, ch := range c.chains() {
		fmt.Fprintf(&b, "\tchain %s {\n", ch.name)
		for i := range ch.rules {
			if words, ok := ch.rules[i].nft(c.NoIPv6); ok {
				fmt.Fprintf(&b, "\t\t%s\n", words)
			}
		}
		b.WriteString("\t}\n")
	}
	only := "meta l4proto tcp"
	if c.NoIPv6 {
		only = "meta nfproto ipv4 " + only
	}
	inbound := "type nat hook prerouting priority -100"
	if c.TPROXY {
		inbound = "type filter hook prerouting priority -150"
		fmt.Fprintf(&b, "\tchain output_%[1]s {\n\t\ttype route hook output priority -150; policy accept;\n\t\tmeta mark %[2]d ct mark set %[2]d\n"+
			"\t\tct mark %[2]d meta mark set %[2]d\n\t}\n", chainMark, Mark)
	}
	for _, hook := range []struct{ name, kind, chain string }{{"prerouting", inbound, chainInbound}, {"output", "type nat hook output priority -100", chainOutbound}} {
		fmt.Fprintf(&b, "\tchain %s {\n\t\t%s; policy accept;\n\t\t%s jump %s\n\t}\n", hook.name, hook.kind, only, hook.chain)
	}
	if c.NoQUIC {
		fmt.Fprintf(&b, "\tchain output_quic {\n\t\ttype nat hook output priority -100; policy accept;\n\t\t%sudp dport 443 jump %s\n\t}\n",
			strings.TrimSuffix(only, "meta l4proto tcp"), chainQUIC)
	}
	if c.DNSPort != 0 {
		// Before all others', for a container's own resolver is found by rules too (Docker's 127.0.0.11).
		only = strings.Replace(only, "tcp", "{ tcp, udp }", 1)
		fmt.Fprintf(&b, "\tchain output_dns {\n\t\ttype nat hook output priority -101; policy accept;\n\t\t%s th dport 53 jump %s\n\t}\n", only, chainDNS)
	}
	return b.String()
}

// protocol is that of what is redirected.
func (r *rule) protocol() string {
	if r.udp {
		return "udp"
	}
	return "tcp"
}

// nft writes the rule. It reports false for one of a family that is left alone.
func (r *rule) nft(noIPv6 bool) (string, bool) {
	if r.family == ipv6 && noIPv6 || r.only == xtables {
		return "", false
	}
	var w []string
	say := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	ip := "ip"
	if r.family == ipv6 {
		ip = "ip6"
	}
	for _, p := range []struct {
		how string
		of  netip.Prefix
	}{{"saddr ", r.from}, {"daddr ", r.to}, {"daddr != ", r.notTo}} {
		if p.of.IsValid() {
			say("%s %s%s", ip, p.how, p.of)
		}
	}
	if r.loopback {
		say(`oifname "lo"`)
	}
	if r.in != "" {
		say("iifname %q", r.in)
	}
	if r.out != "" {
		say("oifname %q", r.out)
	}
	if r.marked {
		say("meta mark %d", Mark)
	}
	if r.reply {
		say("ct direction reply")
	}
	if r.established {
		say("ct state established,related")
	}
	if r.local {
		say("fib daddr type local")
	}
	if r.port != nil {
		say("tcp dport %s", r.port.text("-"))
	}
	if r.uid != nil {
		say("meta skuid %s", r.uid.text("-"))
	}
	if r.gid != nil {
		say("meta skgid %s", r.gid.text("-"))
	}
	switch r.then {
	case leave:
		say("return")
	case goTo:
		say("goto %s", r.chain)
	case redirect:
		say("meta l4proto %s redirect to :%d", r.protocol(), r.port2)
	case divert:
		say("meta l4proto tcp tproxy to :%d accept", r.port2)
	case refuse:
		say("meta l4proto tcp reject with tcp reset")
	}
	return strings.Join(w, " "), true
}

func (r Range) text(between string) string {
	if r.First == r.Last {
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d%s%d", r.First, between, r.Last)
}
