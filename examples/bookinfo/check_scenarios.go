package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
)

// The folders of scenarios/ are applied as they are; what has to come of them is written down here once more.

// take applies a step of a scenario, counted from 1, and returns when every instance has it.
func (c *check) take(ctx context.Context, name string, number int) error {
	g, err := findGuide(name)
	if err != nil {
		return err
	}
	if number > len(g.steps) {
		return fmt.Errorf("scenario %s: expected a step %d, found %d", name, number, len(g.steps))
	}
	s := g.steps[number-1]
	c.writes++
	err = c.apply(ctx, reviewsFile, fmt.Sprintf("# %s of scenario %s, number %d of this check.\n%s", s.name, name, c.writes, s.text))
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// An expectation is what one step of a rollout has to bring.
type expectation struct {
	requests int
	shares   []share
}

func rollout(ctx context.Context, c *check) (string, error) {
	return c.follow(ctx, "canary",
		expectation{requestsFor(90), []share{{"v1", 90}, {"v3", 10}}}, expectation{requestsFor(70), []share{{"v1", 70}, {"v3", 30}}},
		expectation{requestsFor(50), []share{{"v1", 50}, {"v3", 50}}}, expectation{requestsFor(0), []share{{"v1", 0}, {"v3", 100}}})
}

func blueGreen(ctx context.Context, c *check) (string, error) {
	return c.follow(ctx, "blue-green", expectation{requestsFor(0), []share{{"v1", 100}}}, expectation{requestsFor(0), []share{{"v3", 100}}})
}

// requestsFor gives how many requests make the tolerance four and a half standard deviations of a share, and enough
// of them to meet every instance where the share is all or nothing.
func requestsFor(percent float64) int {
	const deviations, least = 4.5, 300
	p, scale := percent/100, 100*deviations/tolerance
	return max(least, int(math.Ceil(p*(1-p)*scale*scale)))
}

// follow goes through the steps of a rollout. From the first of them on requests keep coming, of which none fails.
func (c *check) follow(ctx context.Context, name string, steps ...expectation) (string, error) {
	const rate = 30
	if err := c.take(ctx, name, 1); err != nil {
		return "", err
	}
	s := c.stream(ctx, rate)
	defer s.stop()
	var measured []string
	for n, want := range steps {
		if n > 0 {
			if err := c.take(ctx, name, n+1); err != nil {
				return "", err
			}
		}
		found, err := judgeShares(c.burst(ctx, want.requests), want.requests, want.shares...)
		if err != nil {
			return "", fmt.Errorf("step %d: %w", n+1, err)
		}
		measured = append(measured, found)
	}
	all := s.stop()
	if err := faults(all); err != nil || len(all) == 0 {
		return "", fmt.Errorf("expected requests all the time and none that fails, found %d of them, %w", len(all), err)
	}
	return fmt.Sprintf("%s; 0 of %d requests failed meanwhile", strings.Join(measured, "; "), len(all)), nil
}

// A viewer is somebody whose requests the rules tell from others.
type viewer struct {
	who           string
	header, value string
	version       string // of reviews that he gets, always
}

var darkByHeader = []viewer{
	{"jason", "Cookie", "session=jason", "v2"},
	{"mary", "Cookie", "session=mary", "v1"},
	{"jasonx", "Cookie", "session=jasonx", "v1"},
	{"a stranger", "", "", "v1"},
	{"a forged end-user", "end-user", "jason", "v1"},
}

var darkByCookie = []viewer{
	{"jason", "Cookie", "session=jason", "v3"},
	{"jason with more cookies", "Cookie", "theme=dark; session=jason; lang=en", "v3"},
	{"mary", "Cookie", "session=mary", "v1"},
	{"jasonx", "Cookie", "session=jasonx", "v1"},
	{"another cookie of that value", "Cookie", "xsession=jason", "v1"},
	{"a stranger", "", "", "v1"},
	{"a forged end-user", "end-user", "jason", "v1"},
}

func darkLaunch(ctx context.Context, c *check) (string, error) {
	byHeader, err := c.audience(ctx, "dark-launch", 1, darkByHeader)
	if err != nil {
		return "", err
	}
	byCookie, err := c.audience(ctx, "dark-launch", 2, darkByCookie)
	return "by header: " + byHeader + "; by cookie: " + byCookie, err
}

func phones(ctx context.Context, c *check) (string, error) {
	return c.audience(ctx, "a-b", 1, []viewer{
		{"Android", "User-Agent", "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Mobile Safari/537.36", "v3"},
		{"iPhone", "User-Agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15", "v3"},
		{"Linux", "User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "v1"},
		{"Mac", "User-Agent", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15", "v1"},
		{"android in small letters", "User-Agent", "android", "v1"},
		{"none at all", "User-Agent", "", "v1"},
	})
}

// audience applies a step and lets everybody ask for reviews.
func (c *check) audience(ctx context.Context, name string, number int, viewers []viewer) (string, error) {
	const requests = 30
	if err := c.take(ctx, name, number); err != nil {
		return "", err
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	var saw []string
	for _, v := range viewers {
		header := make(http.Header)
		if v.header != "" {
			header.Set(v.header, v.value)
		}
		var visits []visit
		for range requests {
			visits = append(visits, c.visitAs(ctx, browser, reviewsPath, header))
		}
		if _, err := judgeShares(visits, requests, share{v.version, 100}); err != nil {
			return "", fmt.Errorf("%s: %w", v.who, err)
		}
		saw = append(saw, v.who+" "+v.version)
	}
	return strings.Join(saw, ", "), nil
}
