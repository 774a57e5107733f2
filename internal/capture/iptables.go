package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const chainPrefix = "HEDDLE_"

// A tableState is what a table of iptables has of ours, as iptables-save writes it.
type tableState struct {
	chains []string
	jumps  []string // rules of others' chains
	rules  []string
	mangle *tableState // beside "nat", nil for nothing
}

func (t *tableState) empty() bool {
	return t == nil || len(t.chains)+len(t.jumps) == 0 && t.mangle.empty()
}

// all gives rules and jumps of both tables.
func (t *tableState) all() (rules, jumps []string) {
	if t.mangle == nil {
		return t.rules, t.jumps
	}
	return slices.Concat(t.rules, t.mangle.rules), slices.Concat(t.jumps, t.mangle.jumps)
}

// iptablesState gives what is to be there.
func (c *Config) iptablesState(of family) tableState {
	if of == ipv6 && c.NoIPv6 {
		return tableState{}
	}
	t := tableState{jumps: []string{"-A OUTPUT -p tcp -j " + chainName(chainOutbound)}}
	inbound := "-A PREROUTING -p tcp -j " + chainName(chainInbound)
	if c.TPROXY {
		mark := "-A " + chainName(chainMark)
		t.mangle = &tableState{jumps: []string{inbound, "-A OUTPUT -p tcp -j " + chainName(chainMark)}, chains: []string{chainName(chainMark)}, rules: []string{
			fmt.Sprintf("%s -m mark --mark %#x -j CONNMARK --set-xmark %#[2]x/0xffffffff", mark, Mark),
			fmt.Sprintf("%s -m connmark --mark %#x -j MARK --set-xmark %#[2]x/0xffffffff", mark, Mark)}}
		t.mangle.write(c.mangle(), of)
	} else {
		t.jumps = append([]string{inbound}, t.jumps...)
	}
	if c.DNSPort != 0 {
		t.jumps = append(t.jumps, "-A OUTPUT -p udp -m udp --dport 53 -j "+chainName(chainDNS), "-A OUTPUT -p tcp -m tcp --dport 53 -j "+chainName(chainDNS))
	}
	if c.NoQUIC {
		t.jumps = append(t.jumps, "-A OUTPUT -p udp -m udp --dport 443 -j "+chainName(chainQUIC))
	}
	t.write(c.nat(), of)
	// It is the last rule of the last chain that says what all of them are.
	last := len(t.rules) - 1
	rules, _ := t.all()
	mark := c.mark(strings.Join(rules, "\n"))
	t.rules[last] = strings.Replace(t.rules[last], " -j ", " -m comment --comment \""+mark+"\" -j ", 1)
	return t
}

// write adds chains.
func (t *tableState) write(chains []chain, of family) {
	for _, ch := range chains {
		t.chains = append(t.chains, chainName(ch.name))
		for i := range ch.rules {
			if words, ok := ch.rules[i].iptables(of); ok {
				t.rules = append(t.rules, "-A "+chainName(ch.name)+" "+words)
			}
		}
	}
}

func chainName(name string) string { return chainPrefix + strings.ToUpper(name) }

// iptables writes the rule. It reports false for one of the other family.
func (r *rule) iptables(of family) (string, bool) {
	if r.family != both && r.family != of || r.only == nft {
		return "", false
	}
	var w []string
	say := func(words ...string) { w = append(w, words...) }
	if r.from.IsValid() {
		say("-s", r.from.String())
	}
	if r.to.IsValid() {
		say("-d", r.to.String())
	}
	if r.notTo.IsValid() {
		say("!", "-d", r.notTo.String())
	}
	if r.loopback {
		say("-o", "lo")
	}
	if r.in != "" {
		say("-i", wild(r.in))
	}
	if r.out != "" {
		say("-o", wild(r.out))
	}
	if r.port != nil || r.then == redirect || r.then == divert {
		say("-p", r.protocol())
	}
	if r.marked {
		say("-m", "mark", "--mark", fmt.Sprintf("%#x", Mark))
	}
	if r.reply {
		say("-m", "conntrack", "--ctdir", "REPLY")
	}
	if r.established {
		say("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-m", "socket")
	}
	if r.local {
		say("-m", "addrtype", "--dst-type", "LOCAL")
	}
	if r.port != nil {
		say("--dport", r.port.text(":"))
	}
	if r.uid != nil {
		say("-m", "owner", "--uid-owner", r.uid.text("-"))
	}
	if r.gid != nil {
		say("-m", "owner", "--gid-owner", r.gid.text("-"))
	}
	switch r.then {
	case leave:
		say("-j", "RETURN")
	case goTo:
		say("-g", chainName(r.chain))
	case redirect:
		say("-j", "REDIRECT", "--to-ports", fmt.Sprint(r.port2))
	case divert:
		say("-j", "TPROXY", "--on-port", fmt.Sprint(r.port2))
	case refuse: // nft's
	}
	return strings.Join(w, " "), true
}

// wild writes the end of an interface's name as iptables has it.
func wild(name string) string {
	if rest, ok := strings.CutSuffix(name, "*"); ok {
		return rest + "+"
	}
	return name
}

// readState finds what is ours in what iptables-save wrote.
func readState(saved string) tableState {
	var t, mangle tableState
	var in *tableState
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			in = map[string]*tableState{"*nat": &t, "*mangle": &mangle}[line]
		case in == nil:
		case strings.HasPrefix(line, ":"+chainPrefix):
			name, _, _ := strings.Cut(line[1:], " ")
			in.chains = append(in.chains, name)
		case strings.HasPrefix(line, "-A "+chainPrefix):
			in.rules = append(in.rules, line)
		case strings.HasPrefix(line, "-A ") && jumpsToOurs(line):
			in.jumps = append(in.jumps, line)
		}
	}
	if !mangle.empty() {
		t.mangle = &mangle
	}
	return t
}

// jumpsToOurs reports whether a rule ends in a jump to a chain of ours, and has not only a comment that says so.
func jumpsToOurs(line string) bool {
	at := strings.LastIndex(line, " -j "+chainPrefix)
	return at >= 0 && !strings.ContainsAny(line[at+len(" -j "):], " \"")
}

// script gives what iptables-restore has to read to make one state of another, in one transaction for each table and without a look
// at what is foreign. Jumps that are there stay in their place.
func script(now, want tableState) string {
	text := tableScript("nat", now, want)
	if now.mangle == nil && want.mangle == nil {
		return text
	}
	var before, after tableState
	if now.mangle != nil {
		before = *now.mangle
	}
	if want.mangle != nil {
		after = *want.mangle
	}
	return text + tableScript("mangle", before, after)
}

func tableScript(name string, now, want tableState) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("*%s", name)
	gone := slices.DeleteFunc(slices.Clone(now.chains), func(name string) bool { return slices.Contains(want.chains, name) })
	for _, name := range slices.Concat(want.chains, gone) { // new, or emptied
		line(":%s - [0:0]", name)
	}
	missing := slices.Clone(want.jumps)
	for _, jump := range now.jumps {
		if i := slices.Index(missing, jump); i >= 0 {
			missing = slices.Delete(missing, i, i+1)
			continue
		}
		line("-D%s", strings.TrimPrefix(jump, "-A"))
	}
	for _, rule := range slices.Concat(want.rules, missing) {
		if strings.HasSuffix(rule, " -j "+chainName(chainDNS)) { // before all others', as with nft
			rule = "-I" + strings.TrimPrefix(rule, "-A")
		}
		line("%s", rule)
	}
	for _, name := range gone {
		line("-X %s", name)
	}
	line("COMMIT")
	return b.String()
}

// An iptables is one variant of the programs, "iptables" and "ip6tables" in front of the suffix.
type iptables struct {
	run    Tool
	suffix string // "", "-nft", "-legacy"
}

func iptablesOf(b Backend, run Tool) iptables {
	return iptables{run, strings.TrimPrefix(string(b), string(IPTables))}
}

func (i iptables) program(of family, verb string) string {
	if of == ipv6 {
		return "ip6tables" + i.suffix + verb
	}
	return "iptables" + i.suffix + verb
}

// states gives what there is of both families, looking only where there is something. A family without its tool has nothing, where the other one's is
// there.
func (i iptables) states(ctx context.Context, look func(family) bool) (map[family]tableState, error) {
	all := make(map[family]tableState)
	for _, of := range []family{ipv4, ipv6} {
		if !look(of) {
			continue
		}
		saved, err := i.run(ctx, "", i.program(of, "-save"))
		if err != nil && (of == ipv4 || !errors.Is(err, ErrNoTool)) {
			return all, err
		}
		all[of] = readState(saved)
	}
	return all, nil
}

// become makes a family's rules of ours those that are wanted, of those that are there now.
func (i iptables) become(ctx context.Context, of family, now, want tableState) error {
	if now.empty() && want.empty() {
		return nil
	}
	_, err := i.run(ctx, script(now, want), i.program(of, "-restore"), "--noflush", "--wait=5")
	return err
}

// install takes back what it has done where it cannot do all: of a family one table may have its rules when the other cannot.
func (i iptables) install(ctx context.Context, c *Config, before map[family]tableState) error {
	for _, of := range []family{ipv4, ipv6} {
		if err := i.become(ctx, of, before[of], c.iptablesState(of)); err != nil {
			return errors.Join(err, i.restore(context.WithoutCancel(ctx), before))
		}
	}
	return nil
}

func (i iptables) restore(ctx context.Context, before map[family]tableState) error {
	now, err := i.states(ctx, func(family) bool { return true })
	for of, is := range now {
		err = errors.Join(err, i.become(ctx, of, is, before[of]))
	}
	return err
}

func (i iptables) uninstall(ctx context.Context, now map[family]tableState) error {
	return errors.Join(i.become(ctx, ipv4, now[ipv4], tableState{}), i.become(ctx, ipv6, now[ipv6], tableState{}))
}
