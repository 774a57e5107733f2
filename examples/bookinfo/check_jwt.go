package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// signedIn: productpage wants a token of the issuer's, and shows the page to those who bring one; then five times an hour each.
func signedIn(ctx context.Context, c *check) (string, error) {
	const allowed, pages = 5, 7
	alice, err := scenarioToken("alice")
	if err != nil {
		return "", err
	}
	bob, err := scenarioToken("bob")
	if err != nil {
		return "", err
	}
	forged := alice[:strings.LastIndexByte(alice, '.')] + bob[strings.LastIndexByte(bob, '.'):]
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	if err := c.take(ctx, "jwt", 1); err != nil {
		return "", err
	}
	for _, step := range []struct {
		who, token string
		status     int
		body       string
	}{
		{"a stranger", "", http.StatusForbidden, "RBAC: access denied"},
		{"a forger", forged, http.StatusUnauthorized, "Jwt verification fails"},
		{"one with half a token", alice[:20], http.StatusUnauthorized, "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"},
		{"alice", alice, http.StatusOK, "Reviews served by"},
	} {
		status, body, err := c.pageWith(ctx, browser, step.token)
		if err == nil && (status != step.status || !strings.Contains(body, step.body)) {
			err = fmt.Errorf("%d %.100q", status, body)
		}
		if err != nil {
			return "", fmt.Errorf("the page of %s: expected %d %q, found %w", step.who, step.status, step.body, err)
		}
	}
	if err := c.take(ctx, "jwt", 2); err != nil {
		return "", err
	}
	for who, token := range map[string]string{"alice": alice, "bob": bob} {
		for n := range pages {
			status, _, err := c.pageWith(ctx, browser, token)
			want := http.StatusOK
			if n >= allowed {
				want = http.StatusTooManyRequests
			}
			if err == nil && status != want {
				err = fmt.Errorf("%d", status)
			}
			if err != nil {
				return "", fmt.Errorf("page %d of %s: expected %d, found %w", n+1, who, want, err)
			}
		}
	}
	return fmt.Sprintf("403 without a token, 401 with a forged or broken one, 200 with alice's; then %d of %d pages of alice and of bob each", allowed, pages), nil
}

// scenarioToken reads a token of the scenario's folder.
func scenarioToken(who string) (string, error) {
	text, err := scenarioFiles.ReadFile("scenarios/jwt/" + who + ".jwt")
	return strings.TrimSpace(string(text)), err
}

// pageWith opens the page with a token, "" for none.
func (c *check) pageWith(ctx context.Context, browser *http.Client, token string) (int, string, error) {
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	status, body, err := fetchAs(ctx, browser, c.url("/productpage"), header)
	return status, string(body), err
}
