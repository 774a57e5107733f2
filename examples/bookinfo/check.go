package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// scenarioTimeout ends a scenario that hangs.
const scenarioTimeout = time.Minute

// A scenario is one thing that the running application is put through.
type scenario struct {
	name string // what -run chooses by
	// run gives what it measured; its error says what was expected and what was found.
	run func(context.Context, *check) (string, error)
	// logs are of the services that know more about a failure.
	logs []string
}

var scenarios = []scenario{
	{"all-to-v1", allToV1, []string{"productpage", "reviews"}},
	{"shares-50-50", halfToV3, []string{"productpage", "reviews"}},
	{"shares-80-20", fifthToV2, []string{"productpage", "reviews"}},
	{"jason", jason, []string{"productpage", "reviews"}},
	{"missing-subset", missingSubset, []string{"productpage"}},
	{"ratings-killed", ratingsKilled, []string{"reviews", "ratings"}},
	{"canary", canary, []string{"productpage"}},
	{"broken-yaml", brokenYAML, []string{"productpage"}},
	{"scenarios/canary", rollout, []string{"productpage", "reviews"}},
	{"scenarios/blue-green", blueGreen, []string{"productpage", "reviews"}},
	{"scenarios/dark-launch", darkLaunch, []string{"productpage", "reviews"}},
	{"scenarios/a-b", phones, []string{"productpage", "reviews"}},
	{"scenarios/mirror", mirrored, []string{"productpage", "reviews"}},
	{"scenarios/delay", delayed, []string{"productpage", "reviews", "ratings"}},
	{"scenarios/abort", aborted, []string{"reviews", "ratings"}},
	{"scenarios/details-503", flakyDetails, []string{"productpage", "details"}},
	{"scenarios/affinity", sticky, []string{"productpage", "reviews"}},
	{"scenarios/rate-limit", limited, []string{"productpage", "reviews"}},
	{"scenarios/jwt", signedIn, []string{"productpage"}},
	{"scenarios/deny-path", pathDenied, []string{"productpage"}},
	{"scenarios/audit", audited, []string{"productpage"}},
	{"scenarios/dry-run", tried, []string{"productpage"}},
	{"scenarios/circuit-breaker", broken, []string{"reviews", "ratings"}},
	{"scenarios/retries", repeated, []string{"reviews", "ratings"}},
	{"scenarios/strict", strict, []string{"productpage", "reviews", "ratings"}},
	{"scenarios/deadline", bounded, []string{"productpage", "reviews", "ratings"}},
	{"sigterm", terminated, []string{"productpage"}},
	{"trace", traced, []string{"productpage", "details", "reviews", "ratings"}},
	{spansScenario, spanned, []string{"productpage", "details", "reviews", "ratings"}},
	{"graph", graphed, []string{"productpage", "reviews"}},
	{capturedScenario, unaware, nil},
}

// capturedScenario is for -transparent only, and spansScenario is not for it: its collector is on the loopback of the check.
const capturedScenario, spansScenario = "captured", "spans"

type checkSettings struct {
	languages choice
	captured  bool
	only      *regexp.Regexp // of the scenarios' names, nil for all
	verbose   bool
	out       io.Writer // of the results
	notes     *os.File  // of progress, and of what the instances say where it is verbose
}

// check drives the running application from outside: requests as a browser sends them, files as people write
// them, signals. It is for one scenario at a time.
type check struct {
	app      *bookinfo
	settings checkSettings
	notes    notes
	skipped  []string // of the scenario that runs: what it left out, and why
	writes   int      // of rules
}

// runCheck starts the application, runs the scenarios and says how each went. The error counts those that failed.
func runCheck(ctx context.Context, s checkSettings) error {
	chosen, err := choose(s.only, s.captured)
	if err != nil {
		return err
	}
	began := time.Now()
	said := io.Discard
	if s.verbose {
		said = s.notes
	}
	app, err := start(ctx, settings{addr: "127.0.0.1:0", languages: s.languages, captured: s.captured, stderr: said})
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted during the start")
	}
	if err != nil {
		return err
	}
	defer app.stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-app.died:
			cancel(err)
		case <-ctx.Done():
		}
	}()
	c := &check{app: app, settings: s, notes: notes{out: s.notes, verbose: s.verbose}}
	c.notes.detail("started in %s", short(time.Since(began)))
	failed, skipped := 0, 0
	for _, one := range chosen {
		if !c.perform(ctx, one) {
			failed++
		}
		skipped += len(c.skipped)
		if err := c.mend(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.out, "\n%d passed, %d failed, %d parts skipped, in %s\n", len(chosen)-failed, failed, skipped, short(time.Since(began)))
	c.runtimes(s.out)
	if failed > 0 {
		return fmt.Errorf("%d of %d scenarios failed", failed, len(chosen))
	}
	return nil
}

func choose(only *regexp.Regexp, captured bool) ([]scenario, error) {
	chosen := slices.DeleteFunc(slices.Clone(scenarios), func(s scenario) bool {
		return only != nil && !only.MatchString(s.name) || s.name == capturedScenario && !captured || s.name == spansScenario && captured
	})
	if len(chosen) > 0 {
		return chosen, nil
	}
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return nil, fmt.Errorf("-run: no scenario matches %s; there are %s", only, strings.Join(names, ", "))
}

// perform runs one scenario and prints its line, and what was left out of it.
func (c *check) perform(ctx context.Context, s scenario) bool {
	c.skipped = nil
	c.notes.begin(s.name)
	began := time.Now()
	within, cancel := context.WithTimeout(ctx, scenarioTimeout)
	measured, err := s.run(within, c)
	cancel()
	c.notes.clear()
	verdict := "PASS"
	if err != nil {
		verdict, measured = "FAIL", err.Error()
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			measured += "\n" + cause.Error()
		}
		measured = strings.ReplaceAll(measured, "\n", "\n      ")
	}
	fmt.Fprintf(c.settings.out, "%s  %-21s  %6s  %s\n", verdict, s.name, short(time.Since(began)), measured)
	for _, what := range c.skipped {
		fmt.Fprintf(c.settings.out, "SKIP  %-21s  %6s  %s\n", s.name, "", what)
	}
	if err != nil {
		c.tails(s.logs)
	}
	return err == nil
}

// skip notes what a scenario leaves out.
func (c *check) skip(what, why string) { c.skipped = append(c.skipped, what+": skipped, "+why) }

// mend undoes what a scenario that failed may have left: instances that do not run, rules of another service.
func (c *check) mend(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for _, i := range c.app.instances {
		if !i.process().expected.Load() {
			continue // nobody has ended it
		}
		if err := c.app.restart(ctx, i.name); err != nil {
			return err
		}
	}
	return c.withdraw(ctx, detailsFile)
}

// tails prints the last lines of the services' logs, without the requests that went well.
func (c *check) tails(services []string) {
	for _, i := range c.app.list() {
		if !slices.Contains(services, i.service) {
			continue
		}
		last := slices.DeleteFunc(c.app.log(i.name), func(line string) bool { return strings.Contains(line, " 200 x-request-id=") })
		last = last[max(0, len(last)-8):]
		fmt.Fprintf(c.settings.out, "      log of %s (%s):\n", i.name, cmp.Or(i.runtime, "?"))
		for _, line := range last {
			fmt.Fprintf(c.settings.out, "        %.300s\n", line)
		}
		if len(last) == 0 {
			fmt.Fprintln(c.settings.out, "        nothing but requests that went well")
		}
	}
}

// runtimes prints what the instances ran on.
func (c *check) runtimes(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, i := range c.app.instances {
		fmt.Fprintf(w, "%s\t%s\t%s\n", i.name, i.program(), i.how())
	}
	_ = w.Flush()
	for _, note := range c.app.notes {
		fmt.Fprintln(out, note)
	}
}

// short is a duration for people.
func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// notes tell what goes on while it does: on a terminal in one line that is written over, elsewhere every few
// seconds, and more of it where that was asked for. One goroutine uses them.
type notes struct {
	out      *os.File
	verbose  bool
	scenario string
	last     time.Time
	open     bool // the terminal's line
}

const (
	noteEvery = 5 * time.Second
	lineEvery = 100 * time.Millisecond
)

func (n *notes) begin(scenario string) { n.scenario, n.last = scenario, time.Now() }

// progress says how far a scenario is.
func (n *notes) progress(format string, args ...any) {
	every, line := noteEvery, "  %s: %s\n"
	if stat, err := n.out.Stat(); err == nil && stat.Mode()&os.ModeCharDevice != 0 {
		every, line = lineEvery, "\r\x1b[K  %s: %s"
		n.open = true
	}
	if time.Since(n.last) >= every {
		fmt.Fprintf(n.out, line, n.scenario, fmt.Sprintf(format, args...))
		n.last = time.Now()
	}
}

// detail says what -v is for.
func (n *notes) detail(format string, args ...any) {
	if n.verbose {
		n.clear()
		fmt.Fprintf(n.out, "  %s %s\n", n.scenario, fmt.Sprintf(format, args...))
	}
}

// clear takes the terminal's line away.
func (n *notes) clear() {
	if n.open {
		fmt.Fprint(n.out, "\r\x1b[K")
		n.open = false
	}
}
