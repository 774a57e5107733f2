package main

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// repeated: ratings answers every second question with 503. Half of the pages have no stars, until the rule has reviews ask
// again: then all have them, and ratings has heard twice of those that failed.
func repeated(ctx context.Context, c *check) (string, error) {
	const pages = 20 // one after the other, so that those with stars take turns with those without
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	open := func(number int) (views []view, err error) {
		err = c.take(ctx, "retries", number)
		for n := 0; n < pages && err == nil; n++ {
			views = append(views, c.view(ctx, browser, ""))
		}
		return views, err
	}
	views, err := open(1)
	if err != nil {
		return "", err
	}
	if err := judgeHalf(views); err != nil {
		return "", err
	}
	if views, err = open(2); err != nil {
		return "", err
	}
	after, err := judgeViews("everybody", views, quickly("red"))
	if err != nil {
		return "", err
	}
	var again int
	err = until(ctx, func() (err error) { // the lines are on their way to us
		again, err = judgeRepeated(c.logsOf("ratings", ""), idsOf(views))
		return err
	})
	return fmt.Sprintf("without retries half of %d pages have no stars; with them %s; ratings has refused %d of these at first", pages, after, again), err
}

// judgeHalf looks for pages of which exactly half have stars, and nothing else is amiss.
func judgeHalf(views []view) error {
	shown := make(map[string]int)
	for _, v := range views {
		if v.err != nil {
			return fmt.Errorf("a page: %w", v.err)
		}
		shown[v.reviews]++
	}
	if half := len(views) / 2; shown["red"] != half || shown[unrated] != len(views)-half {
		return fmt.Errorf("expected red stars on half of %d pages and %q on the others, found %v", len(views), unrated, shown)
	}
	return nil
}

var loggedStatus = regexp.MustCompile(` (\d+) x-request-id=(\S+) `)

// statusesOf gives what a service has logged of requests: the statuses by id, in order.
func statusesOf(log, ids []string) map[string][]int {
	all := make(map[string][]int, len(ids))
	for _, id := range ids {
		all[id] = nil
	}
	for _, line := range log {
		if at := loggedStatus.FindStringSubmatch(line); at != nil {
			if have, ours := all[at[2]]; ours {
				status, _ := strconv.Atoi(at[1])
				all[at[2]] = append(have, status)
			}
		}
	}
	return all
}

// judgeRepeated counts the pages for which ratings was asked again, after a 503 and nothing else. One question more would
// have been answered with 200 the first time, so that it is half of the pages at least.
func judgeRepeated(log, ids []string) (again int, err error) {
	for id, statuses := range statusesOf(log, ids) {
		last := len(statuses) - 1
		if last < 0 || statuses[last] != http.StatusOK {
			return 0, fmt.Errorf("expected ratings to answer %s with 200 in the end, found %v", id, statuses)
		}
		for _, s := range statuses[:last] {
			if s != http.StatusServiceUnavailable {
				return 0, fmt.Errorf("expected ratings to be asked again for %s after 503 only, found %v", id, statuses)
			}
		}
		if last > 0 {
			again++
		}
	}
	if again < len(ids)/2 {
		return 0, fmt.Errorf("expected ratings to be asked again for half of %d pages at least, found %d", len(ids), again)
	}
	return again, nil
}

// What a page may take whose reviews have a second, once or twice; and how long after it everybody must have given up: well
// before the answer of ratings would have been there.
const (
	boundedOnce  = 900 * time.Millisecond
	boundedTwice = 1800 * time.Millisecond
	boundedMost  = 4500 * time.Millisecond
	givenUp      = 2 * time.Second
)

// bounded: ratings takes seven seconds, and the rule gives productpage's calls to reviews one. It ends the work of ratings
// too, and nobody waits for that.
func bounded(ctx context.Context, c *check) (string, error) {
	const pages = 4
	if err := c.take(ctx, "deadline", 1); err != nil {
		return "", err
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	views := many(c, pages, func(int) view { return c.view(ctx, browser, "") })
	took, err := judgeBounded(views)
	if err != nil {
		return "", err
	}
	within, cancel := context.WithTimeout(ctx, givenUp)
	defer cancel()
	var ended int
	err = until(within, func() (err error) {
		ended, err = judgeGivenUp(c.logsOf("ratings", ""), views)
		return err
	})
	return fmt.Sprintf("%d pages, the last after %s; ratings had given up on all %d questions by then, each of which takes it %s",
		pages, short(took), ended, short(lateness)), err
}

// judgeBounded looks at pages whose reviews did not come in time, and gives how long the slowest took. What reviews says at the
// very end of its time, reviews without stars, may come before productpage's own end, most often where that is a sidecar's,
// who looks at the clock every 100 ms.
func judgeBounded(views []view) (slowest time.Duration, err error) {
	for _, v := range views {
		want := outlook{reviews: noReviews, least: boundedTwice, most: boundedMost}
		if v.reviews == unrated {
			want.reviews, want.least = unrated, boundedOnce
		}
		if _, err := judgeViews("everybody", []view{v}, want); err != nil {
			return 0, err
		}
		slowest = max(slowest, v.took)
	}
	return slowest, nil
}

// judgeGivenUp counts the questions that ratings has had for the pages. A page that took so long is one for which
// productpage has tried twice.
func judgeGivenUp(log []string, views []view) (ended int, err error) {
	logged := statusesOf(log, idsOf(views))
	for _, v := range views {
		id, statuses, least := v.id, logged[v.id], 1
		if v.took >= boundedTwice {
			least = reviewsAttempts
		}
		if len(statuses) < least || len(statuses) > reviewsAttempts {
			return 0, fmt.Errorf("expected ratings to have ended %d to %d requests of %s, found %v", least, reviewsAttempts, id, statuses)
		}
		for _, s := range statuses {
			if s != statusClientGone {
				return 0, fmt.Errorf("expected ratings to give up on %s, status %d, found %v", id, statusClientGone, statuses)
			}
		}
		ended += len(statuses)
	}
	return ended, nil
}
