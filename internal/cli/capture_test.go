package cli

import (
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/netns"
)

// TestCapturePrint: flags become the rules of package capture, whose own tests look at those.
func TestCapturePrint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"# nft -f -", "redirect to :15001", "redirect to :15006", "skuid 1337 return", "skgid 1337 return"}},
		{[]string{"--backend", "iptables", "--no-ipv6"}, []string{"# iptables-restore --noflush", "--to-ports 15001", "--gid-owner 1337"}},
		{
			[]string{"--uid", "500", "--outbound-port", "1", "--inbound-port", "2", "--exclude-outbound-ports", "22,7000-7999",
				"--include-inbound-ports", "9080", "--exclude-cidrs", "10.1.2.3/8,fd00::1", "--exclude-uids", "0", "--exclude-gids", "5-6",
				"--include-uids", "1000", "--include-gids", "8", "--exclude-inbound-interfaces", "veth*,docker0", "--include-cidrs", "10.0.0.0/8",
				"--include-outbound-ports", "80", "--exclude-inbound-ports", "15020", "--include-outbound-interfaces", "eth0",
				"--exclude-outbound-interfaces", "tun0", "--include-inbound-interfaces", "eth1"},
			[]string{"skuid 500 return", ":1\n", ":2\n", "dport 22 return", "dport 7000-7999 return", "dport 9080 goto", "ip daddr 10.0.0.0/8 return",
				"ip6 daddr fd00::1/128 return", "skuid 0 return", "skgid 5-6 return", "skuid 1000 goto", "skgid 8 goto", `iifname "veth*" return`,
				`iifname "docker0" return`, "dport 80 goto", "dport 15020 return", `oifname "eth0" goto`, `oifname "tun0" return`, `iifname "eth1" goto`,
				"ip daddr 10.0.0.0/8 goto"},
		},
	} {
		got := heddle(t, "", append([]string{"capture", "print"}, c.args...)...)
		if got.code != exitOK {
			t.Errorf("%v: exit code %d, %s", c.args, got.code, got.stderr)
		}
		for _, want := range c.want {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("%v: no %q in\n%s", c.args, want, got.stdout)
			}
		}
	}
}

// TestCaptureUsage: what no rules can be made of is wrong usage, before anything is looked at.
func TestCaptureUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "no command given: install, uninstall, status or print"},
		{[]string{"print", "--backend", "pf"}, `invalid argument "pf" for "--backend" flag: expected nftables, iptables, iptables-nft or iptables-legacy`},
		{[]string{"print", "--uid", "root"}, `invalid argument "root" for "--uid" flag: "root" is no number and no range of numbers`},
		{[]string{"install", "--exclude-cidrs", "10.0.0.0/33"}, `invalid argument "10.0.0.0/33" for "--exclude-cidrs" flag: "10.0.0.0/33" is no CIDR`},
		{[]string{"install", "--outbound-port", "15006"}, "the outbound port and the inbound port are the same"},
		{[]string{"install", "--include-outbound-interfaces", "a b"}, `"a b" is no name of an interface`},
	} {
		got := heddle(t, "", append([]string{"capture"}, c.args...)...)
		if first, _, _ := strings.Cut(got.stderr, "\n"); got.code != exitUsage || first != "heddle: "+c.says && first != "Error: "+c.says && first != c.says {
			t.Errorf("%v: exit code %d, %q, want %q", c.args, got.code, first, c.says)
		}
	}
}

// TestNamespaceCaptureCommand: the commands, one after the other.
func TestNamespaceCaptureCommand(t *testing.T) {
	if !netns.Enter(t) {
		return
	}
	for _, step := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"status"}, exitFailed, "not installed\n"},
		{[]string{"uninstall"}, exitOK, ""},
		{[]string{"install"}, exitOK, ""},
		{[]string{"install", "--backend", string(capture.IPTables)}, exitFailed, "rules of ours are installed by nftables already"},
		{[]string{"status"}, exitOK, "installed: nftables, outbound to port 15001, inbound to port 15006\n"},
		{[]string{"uninstall"}, exitOK, ""},
		{[]string{"install", "--backend", string(capture.IPTables), "--inbound-port", "16006"}, exitOK, ""},
		{[]string{"status"}, exitOK, "inbound to port 16006\n"},
		{[]string{"uninstall"}, exitOK, ""},
		{[]string{"status"}, exitFailed, "not installed\n"},
	} {
		got := heddle(t, "", append([]string{"capture"}, step.args...)...)
		if got.code != step.code || !strings.Contains(got.stdout+got.stderr, step.says) {
			t.Errorf("%v: exit code %d, %s%s", step.args, got.code, got.stdout, got.stderr)
		}
	}
	if got := heddle(t, "", "capture", "install"); got.code != exitOK {
		t.Fatal(got)
	}
	netns.Command(t, "nft", "flush", "chain", "inet", "heddle", "receive")
	if got := heddle(t, "", "capture", "status"); got.code != exitFindings || !strings.HasPrefix(got.stdout, "damaged: nftables: ") {
		t.Errorf("damaged: exit code %d, %s%s", got.code, got.stdout, got.stderr)
	}
}
