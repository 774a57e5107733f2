package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/heddlemesh/mesh"
)

// limited: reviews answers each user five times an hour, and does not hear of what is too many.
func limited(ctx context.Context, c *check) (string, error) {
	const allowed, pages = 5, 8
	if err := c.take(ctx, "rate-limit", 1); err != nil {
		return "", err
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	var measured []string
	for _, user := range []string{"jason", "mary", ""} {
		var views []view // one after the other: the first five are those with reviews
		for range pages {
			views = append(views, c.view(ctx, browser, user))
		}
		who := user
		if who == "" {
			who = "strangers"
		}
		with, err := judgeViews(who, views[:allowed], quickly("no stars"))
		if err != nil {
			return "", err
		}
		without, err := judgeViews(who, views[allowed:], quickly(noReviews))
		if err != nil {
			return "", err
		}
		if err := c.heardOnly(ctx, "reviews", views[:allowed], views[allowed:]); err != nil {
			return "", err
		}
		measured = append(measured, with+", then "+without)
	}
	return strings.Join(measured, "; ") + "; reviews heard only of the first five of each", nil
}

// broken: ratings is killed, reviews stops asking for it and says why, and asks again when it is back.
func broken(ctx context.Context, c *check) (string, error) {
	const ratings, reviews, pages = "ratings-v1", "reviews-v3", 10
	if err := c.take(ctx, "circuit-breaker", 1); err != nil {
		return "", err
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	open := func() []view { return many(c, pages, func(int) view { return c.view(ctx, browser, "") }) }
	before, err := judgeViews("everybody", open(), quickly("red"))
	if err != nil {
		return "", err
	}
	killed := time.Now()
	if err := c.app.kill(ratings); err != nil {
		return "", err
	}
	if err := c.app.awaitEnd(ctx, ratings); err != nil {
		return "", err
	}
	during, err := judgeViews("everybody", open(), quickly(unrated))
	if err != nil {
		return "", err
	}
	var shown []mesh.Failure
	if err := c.admin(ctx, reviews, "/failures", &shown); err != nil {
		return "", err
	}
	shown = slices.DeleteFunc(shown, func(f mesh.Failure) bool { return f.At.Before(killed) }) // another scenario's
	refused, err := judgeOpen(shown)
	if err != nil {
		return "", err
	}
	if err := c.app.restart(ctx, ratings); err != nil {
		return "", err
	}
	restarted := time.Now()
	err = until(ctx, func() error {
		_, err := judgeViews("everybody after the restart", []view{c.view(ctx, browser, "")}, quickly("red"))
		return err
	})
	if err != nil {
		return "", err
	}
	back := time.Since(restarted)
	after, err := judgeViews("everybody", open(), quickly("red"))
	return fmt.Sprintf("%s; without ratings %s, %d of the calls not even made; %s after the restart %s", before, during, refused, short(back), after), err
}

// judgeOpen counts the calls that the breaker has kept back: all but those that opened it, or tried again.
func judgeOpen(shown []mesh.Failure) (refused int, err error) {
	shown = slices.DeleteFunc(shown, func(f mesh.Failure) bool { return f.Reporter != "source" })
	for _, f := range shown {
		if f.Flags == "UO" && strings.Contains(f.Error, "default/ratings for ratings.default.svc.cluster.local is open") {
			refused++
		}
	}
	if refused == 0 || refused < len(shown)/2 {
		return 0, fmt.Errorf("expected most failed calls of reviews to be refused by the circuit breaker, flag UO, found %d of %+v", refused, shown)
	}
	return refused, nil
}
