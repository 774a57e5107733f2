package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/heddlemesh/mesh"
)

// missing is a subset that no DestinationRule has.
const missing = "v9"

// missingSubset: a rule that leads nowhere is answered with 503 and flag NC, and whoever looks for the reason
// finds host, subset and rule in the log and on the admin page of the caller.
func missingSubset(ctx context.Context, c *check) (string, error) {
	if err := c.route(ctx, share{missing, 100}); err != nil {
		return "", err
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	code, body, err := fetchPage(ctx, browser, c.url(reviewsPath))
	if err != nil {
		return "", err
	}
	const apology = "Sorry, product reviews are currently unavailable for this book."
	if code != http.StatusServiceUnavailable || !strings.Contains(string(body), apology) {
		return "", fmt.Errorf("expected 503 and %q, found %d %.200q", apology, code, body)
	}
	code, page, err := fetchPage(ctx, browser, c.url("/productpage"))
	if err != nil {
		return "", err
	}
	if code != http.StatusOK || !strings.Contains(string(page), apology) || !strings.Contains(string(page), "PublisherA") {
		return "", fmt.Errorf("expected a page with details and %q, found %d %s", apology, code, excerpt(string(page), "Error fetching", "Book Reviews"))
	}
	var shown []mesh.Failure
	if err := c.admin(ctx, c.front(), "/failures", &shown); err != nil {
		return "", err
	}
	entry, err := judgeMissing(shown)
	if err != nil {
		return "", err
	}
	sidecar := c.app.list()[0].sidecar != 0
	var line string
	err = until(ctx, func() (err error) { // the line is on its way to us
		line, err = judgeMissingLog(c.app.log(c.front()), sidecar)
		return err
	})
	if err != nil {
		return "", err
	}
	c.notes.detail("log: %s", line)
	return "503, NC; on the admin page: " + entry.Error + "; in the log too", nil
}

// explains reports whether a text names host, subset and rule.
func explains(text, rule string) bool {
	return strings.Contains(text, "reviews.default.svc.cluster.local") && strings.Contains(text, missing) && strings.Contains(text, rule)
}

// judgeMissing looks for the call's entry on the page of failures.
func judgeMissing(shown []mesh.Failure) (mesh.Failure, error) {
	for _, f := range slices.Backward(shown) {
		if f.Flags == "NC" && f.Status == http.StatusServiceUnavailable && f.Reporter == "source" && explains(f.Error, "route everybody") {
			return f, nil
		}
	}
	return mesh.Failure{}, fmt.Errorf("expected 503, NC, host, subset %s and rule everybody on the page /failures, found %+v", missing, shown)
}

// judgeMissingLog looks for a line that says the same. A sidecar logs the call that it has answered; the library
// leaves calls to the program and logs what it found when it read the rule.
func judgeMissingLog(log []string, sidecar bool) (string, error) {
	flag, rule := "flag=NC", "route everybody"
	if !sidecar {
		flag, rule = "flag NC", "VirtualService default/reviews "
	}
	for _, line := range slices.Backward(log) {
		if strings.Contains(line, flag) && explains(line, rule) {
			return line, nil
		}
	}
	return "", fmt.Errorf("expected a log line with %s, host, subset %s and %s, found none in %d lines", flag, missing, rule, len(log))
}

// While ratings is down no answer may take longer than productpage waits for reviews, twice 3 s. A connection that
// is refused takes no time, so that half of them must be there much sooner; the rest is for busy machines.
const (
	outageBound = 6 * time.Second
	outageUsual = time.Second
)

// ratingsKilled: ratings is killed under load. Reviews go on with the original's words in place of the stars,
// each within its time, and the stars are back when ratings is.
func ratingsKilled(ctx context.Context, c *check) (string, error) {
	const rate, ratings = 60, "ratings-v1"
	if err := c.route(ctx, share{"v2", 50}, share{"v3", 50}); err != nil {
		return "", err
	}
	s := c.stream(ctx, rate)
	defer s.stop()
	if err := c.flow(ctx, s, rate); err != nil {
		return "", err
	}
	if err := faults(s.since(0)); err != nil {
		return "", fmt.Errorf("expected stars before anything happens, found %w", err)
	}
	if err := c.app.kill(ratings); err != nil {
		return "", err
	}
	if err := c.app.awaitEnd(ctx, ratings); err != nil {
		return "", err
	}
	down := s.answered()
	if err := c.flow(ctx, s, 2*rate); err != nil {
		return "", err
	}
	if err := c.app.restart(ctx, ratings); err != nil {
		return "", err
	}
	restarted, back := time.Now(), s.answered()
	err := until(ctx, func() error {
		all := s.since(back)
		if len(all) < rate {
			return fmt.Errorf("expected %d answers after the restart, found %d", rate, len(all))
		}
		if err := faults(all[len(all)-rate:]); err != nil {
			return fmt.Errorf("expected the stars back after the restart, found %w", err)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	c.notes.detail("a second of stars is complete %s after the restart; %d answers before ratings had ended", short(time.Since(restarted)), down)
	return judgeOutage(s.stop())
}

// judgeOutage looks at the visits of the whole time.
func judgeOutage(visits []visit) (string, error) {
	var without []time.Duration
	var slowest time.Duration
	for _, v := range visits {
		took := v.done.Sub(v.sent)
		slowest = max(slowest, took)
		switch fault := v.fault(); {
		case v.unrated && v.err == nil && v.status == http.StatusOK:
			without = append(without, took)
		case fault != "":
			return "", fmt.Errorf("expected reviews in every answer, with stars or with %q, found %s", unrated, fault)
		}
	}
	if len(without) == 0 {
		return "", fmt.Errorf("expected answers with %q while ratings was down, found none of %d", unrated, len(visits))
	}
	slices.Sort(without)
	switch usual := without[len(without)/2]; {
	case slowest > outageBound:
		return "", fmt.Errorf("expected every answer within %s, found one after %s", outageBound, short(slowest))
	case usual > outageUsual:
		return "", fmt.Errorf("expected half of the answers without stars within %s, found them after %s", outageUsual, short(usual))
	}
	return fmt.Sprintf("%d answers, %d of them with %q, none failed, the slowest after %s; the stars are back", len(visits), len(without), unrated, short(slowest)), nil
}

// brokenYAML: files with mistakes are saved under load. Nothing fails, the rules that were good stay, every
// instance shows file and line, and a file that is right again is taken.
func brokenYAML(ctx context.Context, c *check) (string, error) {
	const rate = 100
	if err := c.route(ctx, share{"v3", 100}); err != nil {
		return "", err
	}
	s := c.stream(ctx, rate)
	defer s.stop()
	if err := c.flow(ctx, s, rate); err != nil {
		return "", err
	}
	var shown []string
	toV1 := c.reviewsRules(everybody(share{"v1", 100}))
	for _, text := range []string{
		strings.Replace(toV1, "    route:", "    rout:", 1), // a word that is none
		strings.Replace(toV1, "  hosts:", "\thosts:", 1),    // no YAML
	} {
		if _, err := c.saveRules(reviewsFile, text); err != nil {
			return "", err
		}
		for _, i := range c.app.list() {
			var where string
			err := until(ctx, func() error {
				status, err := c.status(ctx, i.name)
				if err == nil {
					where, err = judgeRefusal(status, toV1, text)
				}
				return err
			})
			if err != nil {
				return "", fmt.Errorf("%s: %w", i.name, err)
			}
			if i.name == c.front() {
				shown = append(shown, where)
			}
		}
		if err := c.flow(ctx, s, rate); err != nil {
			return "", err
		}
	}
	visits := s.stop()
	measured, err := judgeShares(visits, len(visits), share{"v3", 100})
	if err != nil {
		return "", fmt.Errorf("while the file was broken: %w", err)
	}
	if err := c.repaired(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("0 failed; %s; all %d instances show %s; repaired", measured, len(c.app.list()), strings.Join(shown, " and ")), nil
}

// repaired saves a good file after a broken one: it is taken, and nothing speaks of the broken one any more.
func (c *check) repaired(ctx context.Context) error {
	if err := c.route(ctx, share{"v1", 100}); err != nil {
		return err
	}
	for _, i := range c.app.list() {
		status, err := c.status(ctx, i.name)
		if err != nil {
			return err
		}
		if status.Refused != nil {
			return fmt.Errorf("%s: expected no refusal once the file is repaired, found %v", i.name, status.findings())
		}
	}
	_, err := judgeShares(c.burst(ctx, 50), 50, share{"v1", 100})
	return err
}

// judgeRefusal holds what an admin page says against the first line in which the texts differ.
func judgeRefusal(s meshStatus, good, bad string) (string, error) {
	if s.Refused == nil {
		return "", errors.New("expected the broken file to be refused, found no refusal")
	}
	line := differs(good, bad)
	for _, f := range s.findings() {
		if filepath.Base(f.File) == reviewsFile && f.Line == line {
			return fmt.Sprintf("%s:%d", reviewsFile, line), nil
		}
	}
	return "", fmt.Errorf("expected a finding at %s:%d, found %v", reviewsFile, line, s.findings())
}

// differs gives the first line that is another one, from 1.
func differs(a, b string) int {
	was, is := strings.Split(a, "\n"), strings.Split(b, "\n")
	n := 0
	for n < min(len(was), len(is)) && was[n] == is[n] {
		n++
	}
	return n + 1
}
