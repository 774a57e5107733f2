package capture

import (
	"context"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write testdata")

// everything selects in every way.
func everything(b Backend) Config {
	return Config{Backend: b, OutboundPort: 16001, InboundPort: 16006, UIDs: []Range{{1337, 1337}}, GIDs: []Range{{1337, 1338}},
		Outbound: Selection{
			IncludePorts: []Range{{80, 80}, {8000, 8999}}, ExcludePorts: []Range{{22, 22}},
			IncludeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
			ExcludeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
			IncludeUIDs:  []Range{{1000, 1999}}, ExcludeUIDs: []Range{{0, 0}}, IncludeGIDs: []Range{{100, 100}}, ExcludeGIDs: []Range{{7, 7}},
			IncludeInterfaces: []string{"eth*"}, ExcludeInterfaces: []string{"docker0"},
		},
		Inbound: Selection{
			IncludePorts: []Range{{1, 1024}, {9080, 9080}}, ExcludePorts: []Range{{15020, 15021}},
			IncludeInterfaces: []string{"eth0"}, ExcludeInterfaces: []string{"veth*"},
		}}
}

// TestPrint holds the rules against those that were looked through and tried in namespaces.
func TestPrint(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"nftables":            {},
		"iptables":            {Backend: IPTables},
		"nftables-everything": everything(NFTables),
		"iptables-everything": everything(IPTablesLegacy),
		"nftables-no-ipv6":    {NoIPv6: true},
		"iptables-no-ipv6":    {Backend: IPTablesNFT, NoIPv6: true},
		"nftables-tproxy":     {TPROXY: true, DNSPort: DNSPort, NoQUIC: true},
		"iptables-tproxy":     {Backend: IPTables, TPROXY: true, DNSPort: DNSPort, NoQUIC: true},
	} {
		got, err := Print(c)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		file := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(file); err != nil || string(want) != got {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", name, err, got, want)
		}
	}
}

// TestRefused: what no rules can be made of.
func TestRefused(t *testing.T) {
	t.Parallel()
	prefix := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}
	for name, c := range map[string]Config{
		"backend":              {Backend: "ebtables"},
		"one port":             {OutboundPort: 15006},
		"a port too high":      {Outbound: Selection{ExcludePorts: []Range{{1, 65536}}}},
		"an empty range":       {Inbound: Selection{IncludePorts: []Range{{2, 1}}}},
		"nobody":               {UIDs: []Range{{0, 1<<32 - 1}}}, // who is no user
		"bits of the host":     {Outbound: Selection{IncludeCIDRs: prefix}},
		"mapped":               {Outbound: Selection{IncludeCIDRs: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}}},
		"an interface's words": {Outbound: Selection{IncludeInterfaces: []string{`lo" accept`}}},
		"a long interface":     {Inbound: Selection{ExcludeInterfaces: []string{"abcdefghijklmnop"}}},
		"no interface":         {Inbound: Selection{ExcludeInterfaces: []string{""}}},
		"inbound CIDRs":        {Inbound: Selection{ExcludeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
		"inbound users":        {Inbound: Selection{IncludeUIDs: []Range{{1, 1}}}},
	} {
		if text, err := Print(c); err == nil {
			t.Errorf("%s: %s", name, text)
		}
		err := Install(t.Context(), c, func(context.Context, string, string, ...string) (string, error) {
			t.Errorf("%s: a tool is run", name)
			return "", nil
		})
		if err == nil {
			t.Errorf("%s is installed", name)
		}
	}
}

// A kernel is what iptables has of two families, as its tools show it.
type kernel struct {
	state map[string]*tableState // by the program
	fail  string                 // the tool that fails

	mu    sync.Mutex // guards what follows, and state
	calls []string
}

func (k *kernel) run(_ context.Context, stdin, name string, args ...string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, strings.Join(append([]string{name}, args...), " "))
	switch {
	case name == "nft" || strings.Contains(name, "-legacy"):
		return "", ErrNoTool
	case name == "iptables":
		return "iptables v1.8.9 (nf_tables)\n", nil
	case name == k.fail:
		return "", errors.New("it failed")
	}
	program, verb, _ := strings.Cut(name, "-nft-")
	now := k.state[program]
	if now == nil {
		now = &tableState{}
		k.state[program] = now
	}
	if verb == "save" {
		var b strings.Builder
		b.WriteString("# Generated\n*nat\n:OUTPUT ACCEPT [0:0]\n")
		for _, c := range now.chains {
			b.WriteString(":" + c + " - [0:0]\n")
		}
		b.WriteString(strings.Join(append(now.jumps, now.rules...), "\n") + "\nCOMMIT\n*filter\n:HEDDLE_X - [0:0]\nCOMMIT\n")
		return b.String(), nil
	}
	*now = readState(stdin)
	if strings.Contains(stdin, "\n-X ") {
		*now = tableState{}
	}
	return "", nil
}

// TestRollback: where the second family cannot have its rules the first one has none either.
func TestRollback(t *testing.T) {
	t.Parallel()
	k := &kernel{state: map[string]*tableState{}, fail: "ip6tables-nft-restore"}
	if err := Install(t.Context(), Config{Backend: IPTables}, k.run); err == nil || !strings.Contains(err.Error(), "it failed") {
		t.Errorf("error %v", err)
	}
	if s := k.state["iptables"]; !s.empty() {
		t.Errorf("left behind: %+v\n%s", s, strings.Join(k.calls, "\n"))
	}
	k.fail = ""
	if err := Install(t.Context(), Config{Backend: IPTables}, k.run); err != nil {
		t.Fatal(err)
	}
	if found, err := Status(t.Context(), k.run); err != nil || len(found) != 1 || found[0].Backend != IPTablesNFT || found[0].Damage != "" || found[0].InboundPort != 15006 {
		t.Errorf("status %+v, %v", found, err)
	}
	if err := Uninstall(t.Context(), k.run); err != nil || !k.state["iptables"].empty() || !k.state["ip6tables"].empty() {
		t.Errorf("uninstalled: %v, %+v", err, k.state)
	}
}

// TestNoTool: an error that says it, where there is nothing to work with.
func TestNoTool(t *testing.T) {
	t.Parallel()
	none := func(context.Context, string, string, ...string) (string, error) { return "", ErrNoTool }
	for name, err := range map[string]error{
		"install":   Install(t.Context(), Config{}, none),
		"uninstall": Uninstall(t.Context(), none),
	} {
		if !errors.Is(err, ErrNoTool) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Run(t.Context(), "", "heddle-there-is-no-such-program"); !errors.Is(err, ErrNoTool) {
		t.Errorf("run: %v", err)
	}
}

// TestForeignComment: a rule of others that speaks of a chain of ours is not ours.
func TestForeignComment(t *testing.T) {
	t.Parallel()
	const ours = "-A OUTPUT -p tcp -j HEDDLE_OUTBOUND"
	for line, want := range map[string]bool{
		ours: true,
		`-A OUTPUT -m comment --comment "before -j HEDDLE_OUTBOUND" -j ACCEPT`:                     false,
		`-A OUTPUT -p tcp -j LOG --log-prefix "x -j HEDDLE_OUTBOUND"`:                              false,
		`-A OTHER -p tcp -m comment --comment "x -j HEDDLE_X" -m tcp --dport 80 -j HEDDLE_INBOUND`: true, // it would keep the chain from being removed
	} {
		t1 := readState("*nat\n:HEDDLE_OUTBOUND - [0:0]\n" + line + "\nCOMMIT\n")
		if is := len(t1.jumps) == 1; is != want {
			t.Errorf("%s: %v, want %v", line, is, want)
		}
	}
}

// FuzzReadState: whatever iptables-save says, the script to uninstall touches nothing but what is ours.
func FuzzReadState(f *testing.F) {
	f.Add("*nat\n:HEDDLE_OUTBOUND - [0:0]\n-A OUTPUT -p tcp -j HEDDLE_OUTBOUND\n-A HEDDLE_OUTBOUND -j RETURN\n-A OTHER -j X\nCOMMIT\n")
	f.Fuzz(func(t *testing.T, saved string) {
		for line := range strings.Lines(script(readState(saved), tableState{})) {
			if line = strings.TrimSpace(line); line == "*nat" || line == "COMMIT" {
				continue
			}
			if !strings.Contains(line, chainPrefix) {
				t.Errorf("%q", line)
			}
		}
	})
}
