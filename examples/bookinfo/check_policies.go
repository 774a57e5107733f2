package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/heddlemesh/mesh/transport"
)

// ratingsSpelt are spellings of /api/v1/products/0/ratings that one program or another takes for it.
var ratingsSpelt = []string{
	"/api/v1/products/0/ratings", "//api/v1//products/0/ratings", "/api/v1/products/0/%72atings", "/%61pi/v1/products/%30/rating%73",
	"/x/../api/v1/products/0/ratings", "/x/%2e%2e/api/v1/./products/0/ratings", "/api%2fv1/products/0%2Fratings",
	"/api%5Cv1%5Cproducts/0/ratings", "/api/v1/products/0/%2572atings", "/x/%252e%252e/api/v1/products/0/ratings",
	"/api/v1/products/0/details/%2e%2e/ratings", "/api/v1/products/0/ratings?a=/../details",
}

// pathDenied: productpage answers nobody who asks for ratings, however he spells it, and does not hear of him.
func pathDenied(ctx context.Context, c *check) (string, error) {
	if err := c.take(ctx, "deny-path", 1); err != nil {
		return "", err
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	var denied []string
	for _, target := range ratingsSpelt {
		id := requestID()
		if err := c.asked(ctx, browser, id, http.MethodGet, target, http.StatusForbidden); err != nil {
			return "", err
		}
		denied = append(denied, id)
	}
	if err := c.asked(ctx, browser, requestID(), http.MethodGet, "/api/v1/products/0/ratings%00", http.StatusBadRequest); err != nil {
		return "", err
	}
	last := requestID()
	if err := c.asked(ctx, browser, last, http.MethodGet, "/api/v1/products/0", http.StatusOK); err != nil {
		return "", err
	}
	err := until(ctx, func() error { return judgeHeard("productpage", c.logsOf("productpage", ""), []string{last}, denied) })
	return fmt.Sprintf("403 to %d spellings of a path, of none of which productpage heard; 400 to one with %%00; the rest of the API is there", len(denied)), err
}

// audited: who signs in is counted, and he alone.
func audited(ctx context.Context, c *check) (string, error) {
	const times = 3
	if err := c.take(ctx, "audit", 1); err != nil {
		return "", err
	}
	browser := newBrowser()
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer browser.CloseIdleConnections()
	err := c.decides(ctx, transport.InboundDecided{Audited: times}, func() error {
		for range times {
			if err := c.asked(ctx, browser, requestID(), http.MethodPost, "/login", http.StatusFound); err != nil {
				return err
			}
			if err := c.asked(ctx, browser, requestID(), http.MethodGet, "/productpage", http.StatusOK); err != nil {
				return err
			}
		}
		return nil
	})
	return fmt.Sprintf("%d of %d requests, those that sign in, counted, all let in", times, 2*times), err
}

// tried: a dry run counts whom it would deny, and lets them in; the same policy in earnest denies them.
func tried(ctx context.Context, c *check) (string, error) {
	const times = 3
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	for n, want := range []struct {
		status  int
		decided transport.InboundDecided
	}{{http.StatusOK, transport.InboundDecided{Shadow: times}}, {http.StatusForbidden, transport.InboundDecided{Denied: times}}} {
		if err := c.take(ctx, "dry-run", n+1); err != nil {
			return "", err
		}
		err := c.decides(ctx, want.decided, func() error {
			for range times {
				if err := c.asked(ctx, browser, requestID(), http.MethodGet, "/api/v1/products", want.status); err != nil {
					return err
				}
				if err := c.asked(ctx, browser, requestID(), http.MethodGet, "/productpage", http.StatusOK); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return "", fmt.Errorf("step %d: %w", n+1, err)
		}
	}
	return fmt.Sprintf("dry: the API answers 200, %d of %d requests counted as denied; in earnest: 403 to as many, the page is there", times, 2*times), nil
}

// asked sends a request to productpage with the target as it is spelt, and wants a status.
func (c *check) asked(ctx context.Context, browser *http.Client, id, method, target string, status int) error {
	req, err := http.NewRequestWithContext(ctx, method, c.url("/"), http.NoBody)
	if err != nil {
		return err
	}
	raw, query, _ := strings.Cut(target, "?")
	path, err := url.PathUnescape(raw)
	if err != nil {
		return err
	}
	req.URL.Path, req.URL.RawPath, req.URL.RawQuery = path, raw, query
	if got := req.URL.RequestURI(); got != target {
		return fmt.Errorf("%s would be sent as %s", target, got)
	}
	req.Header.Set("X-Request-Id", id)
	got, body, err := send(browser, req)
	if err == nil && got != status {
		err = fmt.Errorf("%d: %.100s", got, body)
	}
	if err != nil {
		return fmt.Errorf("%s %s: expected %d, found %w", method, target, status, err)
	}
	return nil
}

// decides does something that productpage's policies have to say so much about, and no more.
func (c *check) decides(ctx context.Context, want transport.InboundDecided, do func() error) error {
	before, err := c.decided(ctx)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	after, err := c.decided(ctx)
	if err != nil {
		return err
	}
	return judgeDecided(before, after, want)
}

// decided gives what productpage's policies have decided so far.
func (c *check) decided(ctx context.Context) (transport.InboundDecided, error) {
	var s struct{ Policies transport.InboundDecided }
	return s.Policies, c.admin(ctx, c.front(), "/config_dump", &s)
}

func judgeDecided(before, after, want transport.InboundDecided) error {
	found := transport.InboundDecided{Unauthenticated: after.Unauthenticated - before.Unauthenticated, Denied: after.Denied - before.Denied,
		Audited: after.Audited - before.Audited, Shadow: after.Shadow - before.Shadow}
	if found != want {
		return fmt.Errorf("expected policies to count %+v, found %+v", want, found)
	}
	return nil
}
