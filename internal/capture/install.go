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
	"sync"
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
	return fmt.Sprintf("heddle %s rules %d digest %x", ports, n, sum[:6])
}

var markForm = regexp.MustCompile(`heddle out (\d+) in (\d+)(?: dns (\d+))?( quic)?( tproxy4?)? rules (\d+) digest [0-9a-f]{12}`)

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
	if c.TPROXY {
		for _, r := range routes(c.NoIPv6) {
			text += "# ip " + strings.Join(r.add, " ") + "\n"
		}
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
	found, err := Status(ctx, run)
	if err != nil {
		return err
	}
	for _, p := range found {
		if p.Backend != c.Backend {
			return fmt.Errorf("rules of ours are installed by %s already: uninstall them first", p.Backend)
		}
	}
	undo := func() error { return nil }
	if c.TPROXY {
		if undo, err = addRoutes(ctx, &c, run); err != nil {
			return err
		}
	}
	if c.Backend == NFTables {
		_, err = run(ctx, c.nftScript(), "nft", "-f", "-")
	} else {
		err = iptablesOf(c.Backend, run).install(ctx, &c)
	}
	switch {
	case err != nil:
		return errors.Join(err, undo())
	case !c.TPROXY && len(found) > 0 && found[0].TPROXY:
		return removeRoutes(ctx, run)
	}
	return nil
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
	found, err := Status(ctx, run)
	for _, p := range found {
		var failed error
		if p.Backend == NFTables {
			_, failed = run(ctx, "table "+nftTable+"\ndelete table "+nftTable+"\n", "nft", "-f", "-")
		} else {
			failed = iptablesOf(p.Backend, run).uninstall(ctx)
		}
		err = errors.Join(err, failed)
	}
	return errors.Join(err, removeRoutes(ctx, run))
}

// A Place is where rules of ours were found.
type Place struct {
	Backend Backend // never IPTables
	// OutboundPort, InboundPort and DNSPort are those that the rules redirect to, 0 where that is not to be told, or for none.
	OutboundPort, InboundPort, DNSPort uint16
	NoQUIC, TPROXY                     bool
	// Damage says what is wrong with the rules, "" for nothing: they are not as they were installed.
	Damage string
	// Rules are what there is, as the backend's tool writes it.
	Rules string

	noIPv6 bool
}

// Status finds our rules, in every backend whose tools are there.
func Status(ctx context.Context, run Tool) ([]Place, error) {
	type answer struct {
		place *Place
		err   error
	}
	looks := []func(context.Context, Tool) (*Place, error){statusNFT, statusIPTables(IPTablesNFT), statusIPTables(IPTablesLegacy)}
	answers := make([]answer, len(looks))
	var wg sync.WaitGroup
	for i, look := range looks { // each waits for programs to start
		wg.Go(func() { answers[i].place, answers[i].err = look(ctx, run) })
	}
	wg.Wait()
	var all []Place
	var failed error
	missing := 0
	for _, a := range answers {
		switch {
		case errors.Is(a.err, ErrNoTool):
			missing++
		case a.err != nil:
			failed = errors.Join(failed, a.err)
		case a.place != nil:
			all = append(all, *a.place)
		}
	}
	for i := range all {
		if p := &all[i]; p.TPROXY && p.Damage == "" {
			p.Damage = missingRoute(ctx, p.noIPv6, run)
		}
	}
	if missing == len(looks) {
		return nil, fmt.Errorf("neither nft nor iptables is there: %w", ErrNoTool)
	}
	return all, failed
}

func statusNFT(ctx context.Context, run Tool) (*Place, error) {
	tables, err := run(ctx, "", "nft", "list", "tables")
	if err != nil || !strings.Contains(tables, "table "+nftTable+"\n") {
		return nil, err
	}
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

func statusIPTables(b Backend) func(context.Context, Tool) (*Place, error) {
	return func(ctx context.Context, run Tool) (*Place, error) {
		var p *Place
		for _, of := range []family{ipv4, ipv6} {
			t, err := iptablesOf(b, run).state(ctx, of)
			if err != nil {
				return nil, err
			}
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
				return p, nil
			}
			one.Backend, one.Rules, one.Damage = p.Backend, p.Rules, p.Damage
			*p = one
		}
		return p, nil
	}
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
	if m[6] != strconv.Itoa(rules) {
		p.Damage = fmt.Sprintf("there were %s rules, and there are %d", m[6], rules)
	}
}
