package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// routeProtocol is by whom routes and rules of routing say that they are there (rtnetlink(7), rtm_protocol): so we know ours.
const routeProtocol = 137

// A setting is one thing of the machine's that we add beside the rules. Whether it is there, and ours, the kernel is asked (settings_linux.go).
type setting struct {
	of   family
	kind settingKind
	add  string // arguments of ip, after its family
}

type settingKind uint8

const (
	tableRoute   settingKind = iota // RouteTable keeps packets on this machine
	markRule                        // and those with Mark come to it
	loopbackAddr                    // the sidecar connects to its program from it
)

// routes are what TPROXY needs of routing (docs.kernel.org, networking/tproxy).
func routes(noIPv6 bool) []setting {
	var all []setting
	for _, of := range []family{ipv4, ipv6} {
		if of == ipv6 && noIPv6 {
			continue
		}
		everything := map[family]string{ipv4: "0.0.0.0/0", ipv6: "::/0"}[of]
		all = append(all,
			setting{of, tableRoute, fmt.Sprintf("route add local %s dev lo table %d proto %d", everything, RouteTable, routeProtocol)},
			setting{of, markRule, fmt.Sprintf("rule add fwmark %d lookup %d protocol %d", Mark, RouteTable, routeProtocol)})
	}
	return all
}

// passAddress is the address of IPv6 that the sidecar connects to its program from, the one of Istio's tool: to ::1 Linux sends no answer from
// another address of its own where nobody listens, so that nobody would hear of it. No program ever has it as its own source, for it is
// deprecated; by the flag uninstall knows ours.
var passAddress = setting{ipv6, loopbackAddr, fmt.Sprintf("address add %s dev lo nodad noprefixroute valid_lft forever preferred_lft 0", istioV6)}

// settings are what an installation has beside its rules.
func (c *Config) settings() []setting {
	var all []setting
	if c.TPROXY {
		all = routes(c.NoIPv6)
	}
	if !c.NoIPv6 {
		all = append(all, passAddress)
	}
	return all
}

// unwanted are settings that an earlier installation may have had, and this one has not.
func (c *Config) unwanted() []setting {
	wanted := c.settings()
	return slices.DeleteFunc(allSettings(), func(s setting) bool { return slices.Contains(wanted, s) })
}

func allSettings() []setting { return append(routes(false), passAddress) }

func (s *setting) flag() string { return map[family]string{ipv4: "-4", ipv6: "-6"}[s.of] }

// String is the command that adds it.
func (s *setting) String() string { return "ip " + s.flag() + " " + s.add }

func (s *setting) removal() string { return strings.Replace(s.add, " add ", " del ", 1) }

// ipBatch runs lines of ip's, in their order, in one process for each family. The first that fails ends it.
func ipBatch(ctx context.Context, run Tool, all []setting, line func(*setting) string) error {
	for _, of := range []family{ipv4, ipv6} {
		var b strings.Builder
		flag := ""
		for i := range all {
			if s := &all[i]; s.of == of {
				flag = s.flag()
				b.WriteString(line(s) + "\n")
			}
		}
		if flag == "" {
			continue
		}
		if _, err := run(ctx, b.String(), "ip", flag, "-batch", "-"); err != nil {
			return err
		}
	}
	return nil
}

// addSettings adds what is missing: all of it, or with an error none. Without the address the sidecar has another one, so that is no error. undo
// takes back what was added.
func addSettings(ctx context.Context, c *Config, run Tool) (undo func() error, err error) {
	var missing []setting
	for _, s := range c.settings() {
		is, err := s.there()
		switch {
		case s.kind == loopbackAddr && (err != nil || !hasIPv6()):
		case err != nil:
			return nil, err
		case !is:
			missing = append(missing, s)
		}
	}
	undo = func() error { return removeSettings(context.WithoutCancel(ctx), run, missing) }
	err = ipBatch(ctx, run, missing, func(s *setting) string { return s.add })
	if err == nil || !c.TPROXY || missingRoute(c.NoIPv6) == "" {
		return undo, nil
	}
	return nil, errors.Join(err, undo())
}

// removeSettings takes out those that are there.
func removeSettings(ctx context.Context, run Tool, all []setting) error {
	var ours []setting
	for _, s := range all {
		is, err := s.there()
		if err != nil && s.of != ipv6 { // which a machine may not have
			return err
		}
		if is {
			ours = append(ours, s)
		}
	}
	return ipBatch(ctx, run, ours, (*setting).removal)
}

// missingRoute says what of routing is not there, "" for nothing.
func missingRoute(noIPv6 bool) string {
	for _, s := range routes(noIPv6) {
		if is, err := s.there(); err == nil && !is {
			return "missing: " + s.String()
		}
	}
	return ""
}
