package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const shadow = "reviews-v3"

// mirrored: v3 hears of every request that v1 answers, and callers see nothing of it, also when it hangs or is gone.
func mirrored(ctx context.Context, c *check) (string, error) {
	const requests = 200
	if err := c.take(ctx, "mirror", 1); err != nil {
		return "", err
	}
	ids, _, err := c.marked(ctx, requests)
	if err == nil {
		err = c.copied(ctx, ids)
	}
	if err != nil {
		return "", err
	}
	hanging, err := c.besideHanging(ctx, requests)
	if err != nil {
		return "", err
	}
	if err := c.app.kill(shadow); err != nil {
		return "", err
	}
	if err := c.app.awaitEnd(ctx, shadow); err != nil {
		return "", err
	}
	_, slowest, err := c.marked(ctx, requests)
	if err != nil {
		return "", fmt.Errorf("while %s was dead: %w", shadow, err)
	}
	if err := c.app.restart(ctx, shadow); err != nil {
		return "", err
	}
	ids, _, err = c.marked(ctx, requests/10)
	if err == nil {
		err = c.copied(ctx, ids)
	}
	return fmt.Sprintf("%d answers, all of v1, and one copy of each at v3; as many of v1 while v3 %s, and was dead, the slowest after %s; then copies again",
		requests, hanging, short(slowest)), err
}

// besideHanging sends requests while v3 accepts connections and does nothing more. It hears of them when it goes on.
func (c *check) besideHanging(ctx context.Context, requests int) (string, error) {
	if pauseSignal == nil {
		c.skip("a v3 that hangs", "no signal does that on this system")
		return "did not hang", nil
	}
	if err := c.app.signal(shadow, pauseSignal); err != nil {
		return "", err
	}
	ids, slowest, err := c.marked(ctx, requests)
	if err := c.app.signal(shadow, goOnSignal); err != nil {
		return "", err
	}
	if err == nil {
		err = c.copied(ctx, ids)
	}
	if err != nil {
		return "", fmt.Errorf("while %s hung: %w", shadow, err)
	}
	return "hung, the slowest after " + short(slowest), nil
}

// marked sends requests, each with an id of its own. v1 answers them all in time, whatever v3 does.
func (c *check) marked(ctx context.Context, requests int) (ids []string, slowest time.Duration, err error) {
	for range requests {
		ids = append(ids, requestID())
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	visits := many(c, requests, func(number int) visit {
		return c.visitAs(ctx, browser, reviewsPath, http.Header{"X-Request-Id": {ids[number-1]}})
	})
	slowest, err = judgeUndisturbed(visits, requests)
	return ids, slowest, err
}

// copied waits for the requests to arrive at v1 and v3: copies, and the lines about them, are on their way.
func (c *check) copied(ctx context.Context, ids []string) error {
	return until(ctx, func() error {
		return judgeCopies(ids, c.logsOf("reviews", "v1"), c.logsOf("reviews", "v2"), c.logsOf("reviews", "v3"))
	})
}

func judgeCopies(ids, v1, v2, v3 []string) error {
	if err := judgeHeard("reviews v3", v3, ids, nil); err != nil {
		return err
	}
	if err := judgeHeard("reviews v1", v1, ids, nil); err != nil {
		return err
	}
	return judgeHeard("reviews v2", v2, nil, ids)
}

// judgeUndisturbed looks at what callers saw.
func judgeUndisturbed(visits []visit, requests int) (slowest time.Duration, err error) {
	if _, err := judgeShares(visits, requests, share{"v1", 100}); err != nil {
		return 0, err
	}
	var times []time.Duration
	for _, v := range visits {
		times = append(times, v.done.Sub(v.sent))
	}
	slices.Sort(times)
	slowest = times[len(times)-1]
	if usual := times[len(times)/2]; usual > outageUsual || slowest > callTimeout {
		return 0, fmt.Errorf("expected half of the answers within %s and all within %s, found them after %s and %s", outageUsual, callTimeout, short(usual), short(slowest))
	}
	return slowest, nil
}
