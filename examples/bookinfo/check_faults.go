package main

import (
	"context"
	"fmt"
	"math"
	"time"
)

// delayed: with ratings 7 s late for jason, productpage gives up after twice 3 s, while everybody else is served at once.
// With v3, which gives up itself after 2.5 s, his reviews are back.
func delayed(ctx context.Context, c *check) (string, error) {
	var measured string
	for n, step := range []struct{ jason, others outlook }{
		{outlook{reviews: noReviews, least: 5500 * time.Millisecond, most: 8 * time.Second}, quickly("black")},
		{outlook{reviews: unrated, least: 2300 * time.Millisecond, most: 5500 * time.Millisecond}, quickly("red")},
	} {
		if err := c.take(ctx, "delay", n+1); err != nil {
			return "", err
		}
		late, others := c.besides(ctx, "jason")
		jason, err := judgeViews("jason", late, step.jason)
		if err != nil {
			return "", err
		}
		rest, err := judgeViews("the others", others, step.others)
		if err != nil {
			return "", err
		}
		if err := c.heardOnly(ctx, "ratings", others, late); err != nil {
			return "", err
		}
		if n > 0 {
			measured += "; repaired: "
		}
		measured += jason + "; " + rest
	}
	return measured + "; ratings heard only of the others", nil
}

// heardOnly holds a service's log against pages that it had part in, and those for which the mesh of its caller answered, or has
// not let the call go on yet.
func (c *check) heardOnly(ctx context.Context, service string, heard, unheard []view) error {
	return until(ctx, func() error { // the lines are on their way to us
		return judgeHeard(service, c.logsOf(service, ""), idsOf(heard), idsOf(unheard))
	})
}

// besides opens some pages of a user at once, and meanwhile those of others one after the other.
func (c *check) besides(ctx context.Context, user string) (his, others []view) {
	const pages = 3
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	views := make(chan view)
	for range pages {
		go func() { views <- c.view(ctx, browser, user) }()
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 0; len(his) < pages; n++ {
		select {
		case v := <-views:
			his = append(his, v)
		case <-tick.C:
			others = append(others, c.view(ctx, browser, []string{"mary", ""}[n%2]))
			c.notes.progress("%d pages of others", len(others))
		}
	}
	return his, others
}

// aborted: jason's reviews have no stars, because the mesh of reviews answers in place of ratings, which hears nothing of it.
func aborted(ctx context.Context, c *check) (string, error) {
	const pages = 40
	if err := c.take(ctx, "abort", 1); err != nil {
		return "", err
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	open := func(user string) []view {
		return many(c, pages, func(int) view { return c.view(ctx, browser, user) })
	}
	views := open("jason")
	jason, err := judgeViews("jason", views, quickly(unrated))
	if err != nil {
		return "", err
	}
	others := append(open("mary"), open("")...)
	rest, err := judgeViews("the others", others, quickly("black"))
	if err != nil {
		return "", err
	}
	err = c.heardOnly(ctx, "ratings", others, views)
	return jason + "; " + rest + "; ratings heard only of the others", err
}

// flakyDetails: a fifth of the pages has no details, because the mesh of productpage answers in their place. details heard of
// the others only.
func flakyDetails(ctx context.Context, c *check) (string, error) {
	const percent = 20
	pages := requestsFor(percent)
	if err := c.take(ctx, "details-503", 1); err != nil {
		return "", err
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	views := many(c, pages, func(int) view { return c.view(ctx, browser, "") })
	with, without, err := judgeFlaky(views, percent)
	if err != nil {
		return "", err
	}
	err = c.heardOnly(ctx, "details", with, without)
	return fmt.Sprintf("%.1f %% of %d pages without details, all with reviews; details heard only of the other %d",
		100*float64(len(without))/float64(pages), pages, len(with)), err
}

// judgeFlaky parts pages with details from those without, of which there must be so many percent.
func judgeFlaky(views []view, percent float64) (with, without []view, err error) {
	for _, v := range views {
		switch {
		case v.err != nil:
			return nil, nil, fmt.Errorf("a page: %w", v.err)
		case v.reviews != "no stars":
			return nil, nil, fmt.Errorf("expected reviews without stars on every page, found %q", v.reviews)
		case v.details:
			with = append(with, v)
		default:
			without = append(without, v)
		}
	}
	found := 100 * float64(len(without)) / float64(len(views))
	if !(math.Abs(found-percent) <= tolerance) { // nor is it a number, without pages
		return nil, nil, fmt.Errorf("expected %.0f %% of %d pages without details, within %.0f points, found %.1f %%", percent, len(views), tolerance, found)
	}
	return with, without, nil
}
