package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"slices"

	"github.com/heddlemesh/mesh"
)

// sticky: the session's cookie keeps a user with one instance of reviews, while strangers are sent anywhere. A caller of
// reviews without a cookie is given one, and stays where it leads.
func sticky(ctx context.Context, c *check) (string, error) {
	const users, visits = 12, 8
	if err := c.take(ctx, "affinity", 1); err != nil {
		return "", err
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	ask := func(user string) ([]string, error) {
		var pods []string
		for range visits {
			header := make(http.Header)
			if user != "" {
				header.Set("Cookie", sessionCookie+"="+user)
			}
			status, body, err := fetchAs(ctx, browser, c.url(reviewsPath), header)
			if err != nil {
				return nil, err
			}
			pod, err := podOf(status, body)
			if err != nil {
				return nil, err
			}
			pods = append(pods, pod)
		}
		return pods, nil
	}
	signedIn := make(map[string][]string)
	for n := range users {
		user := fmt.Sprintf("user-%d", n+1)
		pods, err := ask(user)
		if err != nil {
			return "", err
		}
		signedIn[user] = pods
	}
	var strangers []string
	for range users {
		pods, err := ask("")
		if err != nil {
			return "", err
		}
		strangers = append(strangers, pods...)
	}
	byUser, err := judgeAffinity(signedIn)
	if err != nil {
		return "", err
	}
	anywhere := distinct(strangers)
	if len(anywhere) < 2 {
		return "", fmt.Errorf("expected strangers to be sent anywhere, found all %d at %v", len(strangers), anywhere)
	}
	made, err := c.givenCookies(ctx)
	return fmt.Sprintf("%d users, %d answers each of one instance, %d instances in all; strangers at %d; %s", users, visits, byUser, len(anywhere), made), err
}

// podOf gives the instance that an answer of reviews is from.
func podOf(status int, body []byte) (string, error) {
	var a reviewsAnswer
	if err := json.Unmarshal(body, &a); status != http.StatusOK || err != nil || a.Podname == "" {
		return "", fmt.Errorf("expected reviews, found status %d and %.200q", status, body)
	}
	return a.Podname, nil
}

// judgeAffinity looks at who answered whom: one instance each, not the same for everybody. It counts the instances.
func judgeAffinity(answered map[string][]string) (int, error) {
	var all []string
	for who, pods := range answered {
		if used := distinct(pods); len(used) != 1 {
			return 0, fmt.Errorf("expected %s to stay with one instance, found %d answers of %v", who, len(pods), used)
		}
		all = append(all, pods[0])
	}
	used := distinct(all)
	if len(used) < 2 {
		return 0, fmt.Errorf("expected %d callers to be spread over the instances, found all of them at %v", len(answered), used)
	}
	return len(used), nil
}

func distinct(all []string) []string { return slices.Compact(slices.Sorted(slices.Values(all))) }

// givenCookies calls reviews itself, as programs of the mesh that keep cookies: the first answer brings one.
func (c *check) givenCookies(ctx context.Context) (string, error) {
	const callers, calls = 12, 6
	m, err := mesh.New(ctx, mesh.WithConfigPath(c.app.dir), mesh.WithLogger(slog.New(slog.DiscardHandler)),
		mesh.WithWorkload(mesh.Workload{Namespace: "default", Name: "check"}))
	if err != nil {
		return "", err
	}
	defer m.Close()
	answered := make(map[string][]string)
	for n := range callers {
		jar, _ := cookiejar.New(nil)
		client := &http.Client{Transport: m.RoundTripper(), Jar: jar}
		for call := range calls {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, upstream("reviews")+"/reviews/0", http.NoBody)
			if err != nil {
				return "", err
			}
			resp, err := client.Do(req)
			if err != nil {
				return "", err
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			pod := ""
			if err == nil {
				pod, err = podOf(resp.StatusCode, body)
			}
			if err = errors.Join(err, judgeCookie(resp.Cookies(), call == 0)); err != nil {
				return "", err
			}
			caller := fmt.Sprintf("caller %d", n+1)
			answered[caller] = append(answered[caller], pod)
		}
	}
	used, err := judgeAffinity(answered)
	return fmt.Sprintf("%d callers that were given a cookie stay too, with %d instances", callers, used), err
}

// judgeCookie looks at the cookies that an answer sets: the one that the rule describes with the first, none later.
func judgeCookie(given []*http.Cookie, first bool) error {
	switch {
	case !first && len(given) > 0:
		return fmt.Errorf("expected no cookie for a caller that has one, found %s", given[0])
	case !first:
	case len(given) != 1 || given[0].Name != sessionCookie || given[0].Value == "" || given[0].MaxAge != 3600 || given[0].Path != "/":
		return fmt.Errorf("expected one cookie %s for an hour and the path / with the first answer, found %v", sessionCookie, given)
	}
	return nil
}
