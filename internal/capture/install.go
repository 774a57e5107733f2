package capture

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Tool runs a program of the system, with the text on its standard input, and gives what it wrote. It is called concurrently.
type Tool func(ctx context.Context, stdin, name string, args ...string) (stdout string, err error)

// ErrNoTool says that a program is not there.
var ErrNoTool = errors.New("it is not installed")

// Run is the Tool that runs them.
func Run(ctx context.Context, stdin, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // G204: the names and flags are this package's
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("run %s: %w", name, ErrNoTool)
	case err != nil && stderr.Len() > 0:
		err = fmt.Errorf("run %s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	case err != nil:
		err = fmt.Errorf("run %s: %w", name, err)
	}
	return stdout.String(), err
}

// mark is what is written beside the rules: so much of the configuration that whoever looks sees what they are, how many there
// are, and whether they are those of another configuration.
func (c *Config) mark(rules string) string {
	n := 0
	for line := range strings.Lines(rules) {
		if isRule(line) {
			n++
		}
	}
	sum := sha256.Sum256([]byte(rules))
	ports := fmt.Sprintf("out %d in %d", c.OutboundPort, c.InboundPort)
	if c.DNSPort != 0 {
		ports += fmt.Sprintf(" dns %d", c.DNSPort)
	}
	if c.NoQUIC {
		ports += " quic"
	}
	if c.TPROXY {
		ports += " tproxy"
		if c.NoIPv6 {
			ports += "4"
		}
	}
	if c.failOpen {
		ports += " fail-open" + c.lifted.mark()
	}
	return fmt.Sprintf("heddle %s rules %d digest %x", ports, n, sum[:6])
}

var markForm = regexp.MustCompile(`heddle out (\d+) in (\d+)(?: dns (\d+))?( quic)?( tproxy4?)?( fail-open)?(?: (out|in|both) (\d+))? rules (\d+) digest [0-9a-f]{12}`)

// isRule finds the lines that are rules, of both backends.
func isRule(line string) bool {
	line = strings.TrimSpace(line)
	for _, other := range []string{"", "}", "table ", "chain ", "type ", "comment "} {
		if line == other || other != "" && strings.HasPrefix(line, other) && (other == "}" || strings.HasSuffix(other, " ")) {
			return false
		}
	}
	return true
}

// Print gives what Install has the system's tools read: for nft, or for iptables-restore and ip6tables-restore where there is
// nothing of ours yet. The error is about the configuration.
func Print(c Config) (string, error) {
	c, err := c.complete()
	if err != nil {
		return "", err
	}
	text := ""
	for _, s := range c.settings() {
		text += "# " + s.String() + "\n"
	}
	if c.Backend == NFTables {
		return text + "# nft -f -\n" + c.nftScript(), nil
	}
	tool := iptablesOf(c.Backend, nil)
	text += "# " + tool.program(ipv4, "-restore") + " --noflush\n" + script(tableState{}, c.iptablesState(ipv4))
	if !c.NoIPv6 {
		text += "# " + tool.program(ipv6, "-restore") + " --noflush\n" + script(tableState{}, c.iptablesState(ipv6))
	}
	return text, nil
}

// Install puts the rules in place of those that are there of ours: all of them, or, with an error, none. It is done again
// without effect. Rules of ours that another backend has are an error: a connection would be captured twice.
func Install(ctx context.Context, c Config, run Tool) error {
	c, err := c.complete()
	if err != nil {
		return err
	}
	if c.Backend, err = variant(ctx, c.Backend, run); err != nil {
		return err
	}
	now, err := survey(ctx, run)
	if err != nil {
		return err
	}
	for _, p := range now.places {
		if p.Backend != c.Backend {
			return fmt.Errorf("rules of ours are installed by %s already: uninstall them first", p.Backend)
		}
	}
	undo, err := addSettings(ctx, &c, run)
	if err != nil {
		return err
	}
	if c.Backend == NFTables {
		_, err = run(ctx, c.nftScript(), "nft", "-f", "-")
	} else {
		err = iptablesOf(c.Backend, run).install(ctx, &c, now.states[c.Backend])
	}
	if err != nil {
		return errors.Join(err, undo())
	}
	return removeSettings(ctx, run, c.unwanted())
}

// variant finds out which one the system's choice is.
func variant(ctx context.Context, b Backend, run Tool) (Backend, error) {
	if b != IPTables {
		return b, nil
	}
	text, err := run(ctx, "", "iptables", "--version")
	switch {
	case err != nil:
		return b, err
	case strings.Contains(text, "nf_tables"):
		return IPTablesNFT, nil
	}
	return IPTablesLegacy, nil
}

// Uninstall takes our rules out, whichever backend has them, and nothing else. Where there are none it does nothing.
func Uninstall(ctx context.Context, run Tool) error {
	now, err := survey(ctx, run)
	for _, p := range now.places {
		var failed error
		if p.Backend == NFTables {
			_, failed = run(ctx, "table "+nftTable+"\ndelete table "+nftTable+"\n", "nft", "-f", "-")
		} else {
			failed = iptablesOf(p.Backend, run).uninstall(ctx, now.states[p.Backend])
		}
		err = errors.Join(err, failed)
	}
	return errors.Join(err, removeSettings(ctx, run, allSettings()))
}

// A Place is where rules of ours were found.
type Place struct {
	Backend Backend // never IPTables
	// OutboundPort, InboundPort and DNSPort are those that the rules redirect to, 0 where that is not to be told, or for none.
	OutboundPort, InboundPort, DNSPort uint16
	NoQUIC, TPROXY                     bool
	// FailOpen says that they were installed by a FailOpen. What it has lifted by now, and since when: Lifted is "outbound", "inbound",
	// "outbound and inbound", or "" for nothing.
	FailOpen bool
	Lifted   string
	Since    time.Time
	// Damage says what is wrong with the rules, "" for nothing: they are not as they were installed.
	Damage string
	// Rules are what there is, as the backend's tool writes it.
	Rules string

	noIPv6 bool
}

// Status finds our rules, in every backend whose tools are there.
func Status(ctx context.Context, run Tool) ([]Place, error) {
	now, err := survey(ctx, run)
	return now.places, err
}

// A surveyed is what there is of ours.
type surveyed struct {
	places []Place
	states map[Backend]map[family]tableState // of iptables' two variants
}

// survey looks at every backend. To start a program costs more than all that it does: so nft, where it is there, says whether the newer iptables has
// tables to look into, and the kernel whether the older one has.
func survey(ctx context.Context, run Tool) (surveyed, error) {
	now := surveyed{states: make(map[Backend]map[family]tableState)}
	missing := 0
	var failed error
	tables, err := run(ctx, "", "nft", "list", "tables")
	switch {
	case errors.Is(err, ErrNoTool):
		missing++
	case err != nil:
		failed = err
	case strings.Contains(tables, "table "+nftTable+"\n"):
		var p *Place
		if p, failed = statusNFT(ctx, run); p != nil {
			now.places = append(now.places, *p)
		}
	}
	there := func(b Backend, of family) bool {
		switch {
		case err != nil:
			return true
		case b == IPTablesLegacy:
			return legacyTables(of)
		}
		name := map[family]string{ipv4: "table ip ", ipv6: "table ip6 "}[of]
		return strings.Contains(tables, name+"nat\n") || strings.Contains(tables, name+"mangle\n")
	}
	for _, b := range []Backend{IPTablesNFT, IPTablesLegacy} {
		states, err := iptablesOf(b, run).states(ctx, func(of family) bool { return there(b, of) })
		if errors.Is(err, ErrNoTool) {
			missing++
			continue
		}
		if now.states[b] = states; err != nil {
			failed = errors.Join(failed, err)
		} else if p := placeOf(b, states); p != nil {
			now.places = append(now.places, *p)
		}
	}
	for i := range now.places {
		if p := &now.places[i]; p.TPROXY && p.Damage == "" {
			p.Damage = missingRoute(p.noIPv6)
		}
	}
	if missing == 3 {
		return now, fmt.Errorf("neither nft nor iptables is there: %w", ErrNoTool)
	}
	return now, failed
}

func statusNFT(ctx context.Context, run Tool) (*Place, error) {
	rules, err := run(ctx, "", "nft", append([]string{"list", "table"}, strings.Fields(nftTable)...)...)
	if err != nil {
		return nil, err
	}
	n := 0
	for line := range strings.Lines(rules) {
		if isRule(line) {
			n++
		}
	}
	p := &Place{Backend: NFTables, Rules: rules}
	p.inspect(n)
	return p, nil
}

// placeOf gives what a variant of iptables has, nil for nothing.
func placeOf(b Backend, states map[family]tableState) *Place {
	var p *Place
	for _, of := range []family{ipv4, ipv6} {
		t := states[of]
		if t.empty() {
			continue
		}
		if p == nil {
			p = &Place{Backend: b}
		}
		rules, there := t.all()
		one := Place{Rules: strings.Join(slices.Concat(rules, there), "\n") + "\n"}
		one.inspect(len(rules))
		jumps := 2
		if one.DNSPort != 0 {
			jumps = 4
		}
		for _, more := range []bool{one.NoQUIC, one.TPROXY} {
			if more {
				jumps++
			}
		}
		if one.Damage == "" && len(there) != jumps {
			one.Damage = "connections do not come to the rules, or come twice"
		}
		p.Rules += one.Rules
		p.Damage = one.Damage
		if p.Damage != "" {
			return p
		}
		one.Backend, one.Rules, one.Damage = p.Backend, p.Rules, p.Damage
		*p = one
	}
	return p
}

// inspect reads the mark, and holds it against the number of rules.
func (p *Place) inspect(rules int) {
	m := markForm.FindStringSubmatch(p.Rules)
	if m == nil {
		p.Damage = "what says which rules they are is missing"
		return
	}
	out, _ := strconv.ParseUint(m[1], 10, 16)
	in, _ := strconv.ParseUint(m[2], 10, 16)
	dns, _ := strconv.ParseUint(m[3], 10, 16)
	p.OutboundPort, p.InboundPort, p.DNSPort = uint16(out), uint16(in), uint16(dns)
	p.NoQUIC = m[4] != ""
	p.TPROXY, p.noIPv6 = m[5] != "", m[5] == " tproxy4"
	p.FailOpen = m[6] != ""
	if since, err := strconv.ParseInt(m[8], 10, 64); err == nil {
		p.Lifted, p.Since = liftedNames[m[7]], time.Unix(since, 0).UTC()
	}
	if m[9] != strconv.Itoa(rules) {
		p.Damage = fmt.Sprintf("there were %s rules, and there are %d", m[9], rules)
	}
}
