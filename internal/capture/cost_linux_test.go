package capture_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/netns"
)

// started are the programs that a tool starts, in their order.
type started struct {
	mu  sync.Mutex // guards what follows
	all []string
}

func (s *started) run(ctx context.Context, stdin, name string, args ...string) (string, error) {
	s.mu.Lock()
	s.all = append(s.all, strings.Join(append([]string{name}, args...), " "))
	s.mu.Unlock()
	return capture.Run(ctx, stdin, name, args...)
}

// TestNamespaceProcesses: to install starts no more programs than it has to, for that is what it costs: one for each transaction, and those that say what
// is there. What others have is looked through only where they have tables of the same kind.
func TestNamespaceProcesses(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	if names, err := os.ReadFile("/proc/thread-self/net/ip_tables_names"); err == nil && len(names) > 0 {
		t.Skip("the kernel gives every namespace tables of the older iptables, which then have to be looked through")
	}
	const tables, ours, write, address = "nft list tables", "nft list table inet heddle", "nft -f -", "ip -6 -batch -"
	restores := func(suffix string) []string {
		return []string{"iptables" + suffix + "-restore --noflush --wait=5", "ip6tables" + suffix + "-restore --noflush --wait=5"}
	}
	saves := func(suffix string) []string {
		return []string{"iptables" + suffix + "-save", "ip6tables" + suffix + "-save"}
	}
	for _, c := range []struct {
		config                  capture.Config
		fresh, again, uninstall []string
	}{
		{capture.Config{}, []string{tables, address, write}, []string{tables, ours, write}, []string{tables, ours, write, address}},
		{
			capture.Config{TPROXY: true, DNSPort: capture.DNSPort, NoQUIC: true},
			[]string{tables, "ip -4 -batch -", address, write}, []string{tables, ours, write}, []string{tables, ours, write, "ip -4 -batch -", address},
		},
		{capture.Config{NoIPv6: true}, []string{tables, write}, []string{tables, ours, write}, []string{tables, ours, write}},
		{
			capture.Config{Backend: capture.IPTablesNFT}, slices.Concat([]string{tables, address}, restores("-nft")),
			slices.Concat([]string{tables}, saves("-nft"), restores("-nft")), slices.Concat([]string{tables}, saves("-nft"), restores("-nft"), []string{address}),
		},
	} {
		for _, step := range []struct {
			what string
			do   func(capture.Tool) error
			want []string
		}{
			{"fresh", func(run capture.Tool) error { return capture.Install(t.Context(), c.config, run) }, c.fresh},
			{"again", func(run capture.Tool) error { return capture.Install(t.Context(), c.config, run) }, c.again},
			{"uninstall", func(run capture.Tool) error { return capture.Uninstall(t.Context(), run) }, c.uninstall},
		} {
			var s started
			if err := step.do(s.run); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(s.all, step.want) {
				t.Errorf("%+v, %s:\n%s\nwant\n%s", c.config, step.what, strings.Join(s.all, "\n"), strings.Join(step.want, "\n"))
			}
		}
		netns.Command(t, "nft", "flush", "ruleset") // iptables leaves its empty chains
	}
}

// TestNamespaceInstallTime prints how long an installation takes, beside the start of one program that does nothing.
func TestNamespaceInstallTime(t *testing.T) {
	if os.Getenv("HEDDLE_CAPTURE_BENCH") == "" {
		t.Skip("HEDDLE_CAPTURE_BENCH is not set")
	}
	if !netns.Enter(t) {
		return
	}
	const rounds = 41
	measure := func(do, undo func() error) []time.Duration {
		var all []time.Duration
		for range rounds {
			began := time.Now()
			if err := do(); err != nil {
				t.Fatal(err)
			}
			all = append(all, time.Since(began).Round(100*time.Microsecond))
			if err := undo(); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(all)
		return all
	}
	nothing := func() error { return nil }
	command := func(name string, args ...string) func() error {
		return func() error {
			_, err := capture.Run(t.Context(), "", name, args...)
			return err
		}
	}
	for _, args := range [][]string{{"nft", "--version"}, {"nft", "list", "tables"}} {
		t.Logf("%-32s %8s", strings.Join(args, " "), measure(command(args[0], args[1:]...), nothing)[rounds/2])
	}
	for _, c := range []struct {
		name   string
		config capture.Config
	}{
		{"nftables", capture.Config{}},
		{"nftables, TPROXY, DNS, QUIC", capture.Config{TPROXY: true, DNSPort: capture.DNSPort, NoQUIC: true}},
		{"iptables-nft", capture.Config{Backend: capture.IPTablesNFT}},
		{"iptables-legacy", capture.Config{Backend: capture.IPTablesLegacy}},
	} {
		install := func() error { return capture.Install(t.Context(), c.config, capture.Run) }
		uninstall := func() error { return capture.Uninstall(t.Context(), capture.Run) }
		fresh, again := measure(install, uninstall), measure(install, nothing)
		t.Logf("%-32s %8s fresh (%s to %s), %s again; goal 100ms", c.name, fresh[rounds/2], fresh[0], fresh[rounds-1], again[rounds/2])
		if err := uninstall(); err != nil {
			t.Fatal(err)
		}
	}
}
