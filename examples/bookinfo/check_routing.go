package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"time"
)

// allToV1: with one rule that sends everybody to v1 there are no stars at all.
func allToV1(ctx context.Context, c *check) (string, error) {
	const requests = 500
	if err := c.route(ctx, share{"v1", 100}); err != nil {
		return "", err
	}
	return judgeShares(c.burst(ctx, requests), requests, share{"v1", 100})
}

func halfToV3(ctx context.Context, c *check) (string, error) {
	return shares(ctx, c, share{"v1", 50}, share{"v3", 50})
}

func fifthToV2(ctx context.Context, c *check) (string, error) {
	return shares(ctx, c, share{"v1", 80}, share{"v2", 20})
}

// shares: the versions answer as often as the weights say.
func shares(ctx context.Context, c *check, want ...share) (string, error) {
	const requests = 2000
	if err := c.route(ctx, want...); err != nil {
		return "", err
	}
	return judgeShares(c.burst(ctx, requests), requests, want...)
}

// tolerance is by how many points of a hundred a share may differ. Of 2,000 requests it is more than four
// standard deviations.
const tolerance = 5.0

// judgeShares holds visits against the shares of all versions: none failed, and a version with all or nothing has
// exactly that.
func judgeShares(visits []visit, requests int, want ...share) (string, error) {
	count := make(map[string]int)
	if err := faults(visits); err != nil {
		return "", fmt.Errorf("expected %d good answers, found %w", requests, err)
	}
	for _, v := range visits {
		count[v.version]++
	}
	if len(visits) != requests {
		return "", fmt.Errorf("expected %d answers, found %d", requests, len(visits))
	}
	wanted := map[string]int{"v1": 0, "v2": 0, "v3": 0}
	for _, s := range want {
		wanted[s.subset] = s.weight
	}
	var found []string
	var off error
	for _, version := range slices.Sorted(maps.Keys(wanted)) {
		weight := wanted[version]
		percent := 100 * float64(count[version]) / float64(requests)
		if count[version] > 0 || weight > 0 {
			found = append(found, fmt.Sprintf("%s %.1f %%", version, percent))
		}
		allowed := tolerance
		if weight == 0 || weight == 100 {
			allowed = 0
		}
		if math.Abs(percent-float64(weight)) > allowed {
			off = errors.Join(off, fmt.Errorf("expected %d %% of %d answers from %s, within %.0f points, found %.1f %%", weight, requests, version, allowed, percent))
		}
	}
	return fmt.Sprintf("%d answers: %s", requests, strings.Join(found, ", ")), off
}

// faults counts what is wrong with visits and shows the first; nil where nothing is.
func faults(visits []visit) error {
	n, first := 0, ""
	for _, v := range visits {
		if fault := v.fault(); fault != "" {
			if n++; n == 1 {
				first = fault
			}
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d faults in %d answers, the first: %s", n, len(visits), first)
}

// jason signs in and sees black stars; nobody else does, not even who sends the header himself, and he neither
// once he has signed out.
func jason(ctx context.Context, c *check) (string, error) {
	const pages = 40
	if err := c.apply(ctx, reviewsFile, c.reviewsRules(jasonRule+everybody(share{"v1", 100}))); err != nil {
		return "", err
	}
	for _, who := range []struct {
		name, header string
		signIn       bool
		black        bool
	}{
		{name: "jason", signIn: true, black: true},
		{name: "mary", signIn: true},
		{name: "a stranger"},
		{name: "a stranger with the header end-user: jason", header: "jason"},
	} {
		browser := newBrowser()
		browser.Jar, _ = cookiejar.New(nil)
		err := c.look(ctx, browser, who.name, who.header, who.signIn, who.black, pages)
		browser.CloseIdleConnections()
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d pages each: jason v2, black stars; mary, a stranger and a forged header v1; jason signed out v1", pages), nil
}

func (c *check) look(ctx context.Context, browser *http.Client, name, header string, signIn, black bool, pages int) error {
	if signIn {
		form := url.Values{"username": {name}, "passwd": {"x"}}.Encode()
		if err := c.post(ctx, browser, "/login", form); err != nil {
			return fmt.Errorf("sign in %s: %w", name, err)
		}
	}
	for range pages {
		if _, err := c.openPage(ctx, browser, name, header, signIn, black); err != nil {
			return err
		}
	}
	if !signIn {
		return nil
	}
	if _, _, err := fetchPage(ctx, browser, c.url("/logout")); err != nil {
		return fmt.Errorf("sign out %s: %w", name, err)
	}
	_, err := c.openPage(ctx, browser, name+", signed out,", header, false, false)
	return err
}

// post sends a form and follows to the page behind it.
func (c *check) post(ctx context.Context, browser *http.Client, path, form string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url(path), strings.NewReader(form))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	code, _, err := send(browser, req)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("status %d", code)
	}
	return err
}

// openPage looks at the page as somebody, and gives its status.
func (c *check) openPage(ctx context.Context, browser *http.Client, name, header string, signedIn, black bool) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url("/productpage"), http.NoBody)
	if err != nil {
		return 0, err
	}
	if header != "" {
		req.Header.Set("end-user", header)
	}
	code, page, err := send(browser, req)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("status %d", code)
	}
	if err == nil {
		err = judgePage(string(page), name, signedIn, black)
	}
	if err != nil {
		return code, fmt.Errorf("the page of %s: %w", name, err)
	}
	return code, nil
}

// judgePage reads the page as its reader does: with v2 there are black stars for both reviews, with v1 none.
func judgePage(page, name string, signedIn, black bool) error {
	stars, found := 0, strings.Count(page, `class="stars `)
	pod, color := "reviews-v1", ""
	if black {
		stars, pod, color = 2, "reviews-v2", `class="stars black"`
	}
	switch {
	case strings.Contains(page, `class="name">`+name+`<`) != signedIn:
		return fmt.Errorf("expected the page to greet a user: %t, found the opposite", signedIn)
	case !strings.Contains(page, "<code>"+pod):
		return fmt.Errorf("expected reviews from %s, found %s", pod, excerpt(page, "Reviews served by", "Error fetching product reviews"))
	case found != stars || color != "" && strings.Count(page, color) != stars:
		return fmt.Errorf("expected %d reviews with stars (%s), found %d", stars, color, found)
	case !strings.Contains(page, "PublisherA"):
		return errors.New("expected the details of the book, found none")
	}
	return nil
}

// excerpt is a page from the first of some words on.
func excerpt(page string, words ...string) string {
	for _, w := range words {
		if at := strings.Index(page, w); at >= 0 {
			return fmt.Sprintf("%.120q", page[at:])
		}
	}
	return fmt.Sprintf("%.120q", page)
}

// The canary's load, and how soon after the change the old version must have answered for the last time.
const (
	canaryRate   = 200
	canaryWithin = time.Second
)

// canary: v3 takes over from v1 while requests keep coming. None fails, and v1 is out of it within a second. A
// machine that does other things may sleep through that second, so there is another try; one that is late because
// of the mesh is late every time.
func canary(ctx context.Context, c *check) (measured string, err error) {
	var lates []string
	for range 3 {
		if measured, err = c.shift(ctx); err == nil {
			return measured + strings.Join(lates, ""), nil
		}
		late, ok := errors.AsType[lateError](err)
		if !ok {
			break
		}
		lates = append(lates, "; after "+short(time.Duration(late))+" in an earlier try")
		c.notes.detail("%v, once more", err)
	}
	return "", err
}

// shift moves the weight once.
func (c *check) shift(ctx context.Context) (string, error) {
	if err := c.route(ctx, share{"v1", 80}, share{"v3", 20}); err != nil {
		return "", err
	}
	s := c.stream(ctx, canaryRate)
	defer s.stop()
	if err := c.flow(ctx, s, 2*canaryRate); err != nil {
		return "", err
	}
	saved, err := c.saveRules(reviewsFile, c.reviewsRules(everybody(share{"v1", 0}, share{"v3", 100})))
	if err != nil {
		return "", err
	}
	if err := c.flow(ctx, s, 3*canaryRate); err != nil {
		return "", err
	}
	return judgeCanary(s.stop(), saved)
}

// A lateError is how long after the change v1 still answered.
type lateError time.Duration

func (e lateError) Error() string {
	return fmt.Sprintf("expected the last answer of v1 within %s of the change, found it after %s", canaryWithin, short(time.Duration(e)))
}

// judgeCanary looks at the visits before and after the change.
func judgeCanary(visits []visit, saved time.Time) (string, error) {
	if err := faults(visits); err != nil {
		return "", fmt.Errorf("expected 0 failed requests, found %w", err)
	}
	before, after := make(map[string]int), make(map[string]int)
	var first, last, lastV1 time.Time
	for _, v := range visits {
		if first.IsZero() || v.sent.Before(first) {
			first = v.sent
		}
		if v.sent.After(last) {
			last = v.sent
		}
		count := before
		if v.done.After(saved) {
			count = after
		}
		count[v.version]++
		if v.version == "v1" && v.done.After(lastV1) {
			lastV1 = v.done
		}
	}
	rate := float64(len(visits)) / last.Sub(first).Seconds()
	late, all := max(0, lastV1.Sub(saved)), before["v1"]+before["v3"]
	switch {
	case !(rate >= canaryRate/4): // nor is it a number, without visits
		return "", fmt.Errorf("expected a load of about %d requests/s, found %.0f: this machine is too slow to tell anything", canaryRate, rate)
	case before["v2"]+after["v2"] > 0:
		return "", fmt.Errorf("expected nothing from v2, found %d answers", before["v2"]+after["v2"])
	case all == 0 || math.Abs(100*float64(before["v1"])/float64(all)-80) > 2*tolerance: // fewer requests, wider bounds
		return "", fmt.Errorf("expected 80 %% v1 before the change, found %d of %d", before["v1"], all)
	case late > canaryWithin:
		return "", lateError(late)
	case after["v3"] == 0:
		return "", errors.New("expected answers of v3 after the change, found none")
	}
	return fmt.Sprintf("%d requests at %.0f/s, 0 failed; last answer of v1 %s after the file changed", len(visits), rate, short(late)), nil
}
