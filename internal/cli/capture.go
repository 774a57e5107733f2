package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh/internal/capture"
)

func captureCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "capture COMMAND",
		Short: "Hand a program's connections to a sidecar, by rules of the kernel",
		Long: `capture installs the rules by which the connections that a program makes and is sent go to heddle proxy --transparent,
though the program knows nothing of it. The rules need CAP_NET_ADMIN, once; the sidecar needs no privilege.

They are of this network namespace: of a container, or of the machine. The sidecar is known by its user or group, 1337:
run it as no other, and nothing else as that one. Where no sidecar runs, captured connections are refused, unless fail-open is there to lift the rules.`,
		Example: `  heddle capture print
  heddle capture install --exclude-outbound-ports 22
  setpriv --reuid 1337 --regid 1337 --clear-groups heddle proxy --config mesh.d --transparent
  heddle capture uninstall`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError("no command given: install, uninstall, status, print or fail-open")
		},
	}
	cmd.AddCommand(captureInstallCommand(), captureUninstallCommand(), captureStatusCommand(), capturePrintCommand(), captureFailOpenCommand())
	return cmd
}

// captureRules adds the flags for what is captured.
func captureRules(cmd *cobra.Command, c *capture.Config) {
	c.Backend, c.OutboundPort, c.InboundPort = capture.NFTables, capture.OutboundPort, capture.InboundPort
	f := cmd.Flags()
	f.SortFlags = false
	f.Var((*captureBackend)(&c.Backend), "backend", "what holds the rules: nftables, or iptables, of which the last two are variants")
	f.Uint16Var(&c.OutboundPort, "outbound-port", capture.OutboundPort, "`port` of the sidecar for the program's own connections")
	f.Uint16Var(&c.InboundPort, "inbound-port", capture.InboundPort, "`port` of the sidecar for connections to the program")
	f.Uint16Var(&c.DNSPort, "dns", 0, "capture the program's DNS queries too, by UDP and TCP, to this `port` of the sidecar; 15053 where it says none")
	f.Lookup("dns").NoOptDefVal = strconv.Itoa(capture.DNSPort)
	f.BoolVar(&c.NoQUIC, "block-quic", false, "refuse the program's UDP to port 443, so that it takes TCP, which is captured")
	f.BoolVar(&c.TPROXY, "tproxy", false, "hand over what the program is sent as it is, so that it sees its callers' addresses; the sidecar then needs CAP_NET_ADMIN")
	f.Var((*captureRanges)(&c.UIDs), "uid", "`users` that the sidecar runs as, by number; default 1337 for users and groups")
	f.Var((*captureRanges)(&c.GIDs), "gid", "`groups` that it runs as")
	for _, direction := range []struct {
		name string
		s    *capture.Selection
	}{{"outbound", &c.Outbound}, {"inbound", &c.Inbound}} {
		f.Var((*captureRanges)(&direction.s.IncludePorts), "include-"+direction.name+"-ports", "capture these `ports` only, 80,8000-8999; default: all")
		f.Var((*captureRanges)(&direction.s.ExcludePorts), "exclude-"+direction.name+"-ports", "`ports` that are not captured")
		f.Var((*captureNames)(&direction.s.IncludeInterfaces), "include-"+direction.name+"-interfaces", "capture by these `interfaces` only, eth0,veth*; default: all")
		f.Var((*captureNames)(&direction.s.ExcludeInterfaces), "exclude-"+direction.name+"-interfaces", "`interfaces` by which nothing is captured")
	}
	s := &c.Outbound
	f.Var((*capturePrefixes)(&s.IncludeCIDRs), "include-cidrs", "capture connections to these `CIDRs` only, of either family; default: all")
	f.Var((*capturePrefixes)(&s.ExcludeCIDRs), "exclude-cidrs", "`CIDRs` to which nothing is captured")
	f.Var((*captureRanges)(&s.IncludeUIDs), "include-uids", "capture what these `users` and the groups of --include-gids connect to only; default: all")
	f.Var((*captureRanges)(&s.ExcludeUIDs), "exclude-uids", "`users` of whose connections none is captured")
	f.Var((*captureRanges)(&s.IncludeGIDs), "include-gids", "the same for `groups`")
	f.Var((*captureRanges)(&s.ExcludeGIDs), "exclude-gids", "`groups` of whose connections none is captured")
	f.BoolVar(&c.NoIPv6, "no-ipv6", false, "leave IPv6 alone, which then goes past the sidecar")
}

func captureInstallCommand() *cobra.Command {
	var c capture.Config
	cmd := &cobra.Command{
		Use:   "install [flags]",
		Short: "Install the rules, in the place of those that are there of ours",
		Long: `install puts the rules in place: all of them or, where one cannot be, none. To do it again changes nothing. Rules that are
not ours stay as they are and count before ours where they came first.

Not captured, whatever the flags say: what goes to loopback addresses, what the sidecar itself connects to, but for the
machine's own other addresses, what is routed through this machine, and all that is not TCP, but for DNS with --dns.`,
		Example: `  heddle capture install
  heddle capture install --dns
  heddle capture install --backend iptables --exclude-inbound-ports 22 --exclude-cidrs 10.0.0.0/8`,
		DisableFlagsInUseLine: true,
		Args:                  cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if _, err := capture.Print(c); err != nil {
				return usageError("%w", err)
			}
			return capture.Install(cmd.Context(), c, capture.Run)
		}),
	}
	captureRules(cmd, &c)
	return cmd
}

func captureUninstallCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "uninstall",
		Short: "Take our rules out, and nothing else",
		Long:  "uninstall takes our rules out, whichever backend has them. Where there are none it does nothing.",
		Args:  cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			return capture.Uninstall(cmd.Context(), capture.Run)
		}),
	}
}

func captureStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say whether our rules are installed, and show them",
		Long: `status finds our rules in nftables and in both variants of iptables. Exit codes: 0 they are installed, 1 they are not,
79 they are not as they were installed, or installed twice, or fail-open has lifted them.`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			found, err := capture.Status(cmd.Context(), capture.Run)
			if err != nil {
				return err
			}
			return captureVerdict(cmd, found)
		}),
	}
}

func captureVerdict(cmd *cobra.Command, found []capture.Place) error {
	var b strings.Builder
	code := exitOK
	for _, p := range found {
		if p.Damage != "" || p.Lifted != "" || len(found) > 1 {
			code = exitFindings
		}
		if p.Damage != "" {
			fmt.Fprintf(&b, "damaged: %s: %s; install them again\n", p.Backend, p.Damage)
		} else {
			more := ""
			if p.DNSPort != 0 {
				more = fmt.Sprintf(", DNS to port %d", p.DNSPort)
			}
			if p.TPROXY {
				more += ", TPROXY"
			}
			fmt.Fprintf(&b, "installed: %s, outbound to port %d, inbound to port %d%s\n", p.Backend, p.OutboundPort, p.InboundPort, more)
			b.WriteString(captureState(&p))
		}
		b.WriteString(p.Rules)
	}
	if len(found) == 0 {
		b.WriteString("not installed\n")
		code = exitFailed
	}
	if err := emit(cmd, []byte(b.String())); err != nil || code == exitOK {
		return err
	}
	return &failure{code: code}
}

func capturePrintCommand() *cobra.Command {
	var c capture.Config
	cmd := &cobra.Command{
		Use:                   "print [flags]",
		Short:                 "Print what install would have the system's tools read",
		Long:                  "print shows the rules of install with the same flags. It changes nothing and needs no privilege.",
		Example:               "  heddle capture print --backend iptables --include-outbound-ports 80,8000-8999",
		DisableFlagsInUseLine: true,
		Args:                  cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			text, err := capture.Print(c)
			if err != nil {
				return usageError("%w", err)
			}
			return emit(cmd, []byte(text))
		}),
	}
	captureRules(cmd, &c)
	return cmd
}

// The types below are values of flags: lists, with commas or in several flags.

type captureBackend capture.Backend

func (b *captureBackend) String() string { return string(*b) }
func (*captureBackend) Type() string     { return "nftables|iptables|iptables-nft|iptables-legacy" }

func (b *captureBackend) Set(s string) error {
	for _, known := range capture.Backends {
		if s == string(known) {
			*b = captureBackend(s)
			return nil
		}
	}
	return errors.New("expected nftables, iptables, iptables-nft or iptables-legacy")
}

type captureRanges []capture.Range

func (*captureRanges) String() string { return "" }
func (*captureRanges) Type() string   { return "numbers" }

func (l *captureRanges) Set(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		first, last, is := strings.Cut(one, "-")
		if !is {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 32)
		to, err2 := strconv.ParseUint(last, 10, 32)
		if errors.Join(err, err2) != nil || from > to {
			return fmt.Errorf("%q is no number and no range of numbers", one)
		}
		*l = append(*l, capture.Range{First: uint32(from), Last: uint32(to)})
	}
	return nil
}

type capturePrefixes []netip.Prefix

func (*capturePrefixes) String() string { return "" }
func (*capturePrefixes) Type() string   { return "CIDRs" }

func (l *capturePrefixes) Set(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		p, err := netip.ParsePrefix(one)
		if a, single := netip.ParseAddr(one); single == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return fmt.Errorf("%q is no CIDR", one)
		}
		*l = append(*l, p.Masked())
	}
	return nil
}

type captureNames []string

func (*captureNames) String() string { return "" }
func (*captureNames) Type() string   { return "names" }

func (l *captureNames) Set(s string) error {
	*l = append(*l, strings.Split(s, ",")...)
	return nil
}
