package capture

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// routeProtocol is by whom routes and rules of routing say that they are there (rtnetlink(7), rtm_protocol): so we know ours.
const routeProtocol = "137"

// A route is one of the two things that keep marked packets on this machine: the table, and the rule that leads to it.
type route struct {
	of        family
	rule      bool
	add, find []string // arguments of ip; what it finds is ours where it has the protocol
}

// routes are what TPROXY needs of routing (docs.kernel.org, networking/tproxy).
func routes(noIPv6 bool) []route {
	var all []route
	for _, of := range []family{ipv4, ipv6} {
		if of == ipv6 && noIPv6 {
			continue
		}
		flag, table := map[family]string{ipv4: "-4", ipv6: "-6"}[of], fmt.Sprint(RouteTable)
		everything := map[family]string{ipv4: "0.0.0.0/0", ipv6: "::/0"}[of]
		all = append(all,
			route{of, false, []string{flag, "route", "add", "local", everything, "dev", "lo", "table", table, "proto", routeProtocol},
				[]string{flag, "route", "show", "table", table, "proto", routeProtocol, "type", "local"}},
			route{of, true, []string{flag, "rule", "add", "fwmark", fmt.Sprint(Mark), "lookup", table, "protocol", routeProtocol},
				[]string{flag, "rule", "show", "fwmark", fmt.Sprint(Mark), "table", table, "protocol", routeProtocol}})
	}
	return all
}

// there reports whether the machine has it. A table that nobody has named is an error of ip.
func (r *route) there(ctx context.Context, run Tool) (bool, error) {
	out, err := run(ctx, "", "ip", r.find...)
	if err != nil && !errors.Is(err, ErrNoTool) && strings.Contains(err.Error(), "FIB table does not exist") {
		return false, nil
	}
	return strings.TrimSpace(out) != "", err
}

func (r *route) remove(ctx context.Context, run Tool) error {
	args := append([]string{}, r.add...)
	args[2] = "del"
	_, err := run(ctx, "", "ip", args...)
	return err
}

// addRoutes adds what is missing: all of it, or with an error none. undo takes back what it has added.
func addRoutes(ctx context.Context, c *Config, run Tool) (undo func() error, err error) {
	var added []route
	undo = func() (err error) {
		for _, r := range added {
			err = errors.Join(err, r.remove(context.WithoutCancel(ctx), run))
		}
		return err
	}
	for _, r := range routes(c.NoIPv6) {
		is, err := r.there(ctx, run)
		if err == nil && !is {
			if _, err = run(ctx, "", "ip", r.add...); err == nil {
				added = append(added, r)
			}
		}
		if err != nil {
			return nil, errors.Join(err, undo())
		}
	}
	return undo, nil
}

// removeRoutes takes ours out. Without the tool there are none.
func removeRoutes(ctx context.Context, run Tool) error {
	var all error
	for _, r := range routes(false) {
		is, err := r.there(ctx, run)
		switch {
		case errors.Is(err, ErrNoTool):
			return nil
		case err != nil && r.of == ipv6: // a machine may have none
			continue
		case err == nil && is:
			err = r.remove(ctx, run)
		}
		all = errors.Join(all, err)
	}
	return all
}

// missingRoute says what of routing is not there, "" for nothing.
func missingRoute(ctx context.Context, noIPv6 bool, run Tool) string {
	for _, r := range routes(noIPv6) {
		if is, err := r.there(ctx, run); err == nil && !is {
			return "missing: ip " + strings.Join(r.add, " ")
		}
	}
	return ""
}
