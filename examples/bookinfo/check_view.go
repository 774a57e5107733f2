package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What a page says where a service does not answer. The words are the original's.
const (
	noReviews = "Sorry, product reviews are currently unavailable for this book."
	noDetails = "Sorry, product details are currently unavailable for this book."
)

// A view is what a page shows to its reader.
type view struct {
	id      string // x-request-id of the request, in the logs of all services that it reached
	took    time.Duration
	details bool   // those of the book, instead of the words that say that there are none
	pod     string // that the reviews are from
	reviews string // "no stars", "black", "red", or what the page says: unrated, noReviews
	err     error  // no page, or one that makes no sense
}

// requestID makes one that nobody else has.
func requestID() string { return "check-" + rand.Text() }

// view opens the page as a user, "" for a stranger.
func (c *check) view(ctx context.Context, browser *http.Client, user string) view {
	id := requestID()
	header := http.Header{"X-Request-Id": {id}}
	if user != "" {
		header.Set("Cookie", sessionCookie+"="+user)
	}
	began := time.Now()
	status, page, err := fetchAs(ctx, browser, c.url("/productpage"), header)
	took := time.Since(began)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if err != nil {
		return view{id: id, took: took, err: err}
	}
	v := readPage(string(page))
	v.id, v.took = id, took
	return v
}

var servedBy = regexp.MustCompile(`Reviews served by: <code>([^<]*)</code>`)

// readPage reads the page as its reader does.
func readPage(page string) view {
	v := view{details: strings.Contains(page, "PublisherA")}
	strange := func(what string) view {
		return view{err: fmt.Errorf("the page makes no sense, by its %s: %s", what, excerpt(page, "Error fetching", "Book Details"))}
	}
	if v.details == strings.Contains(page, noDetails) {
		return strange("details")
	}
	if at := servedBy.FindStringSubmatch(page); at != nil {
		v.pod = at[1]
	}
	if none := strings.Contains(page, noReviews); none || v.pod == "" {
		if none != (v.pod == "") {
			return strange("reviews")
		}
		v.reviews = noReviews
		return v
	}
	for words, reviews := range map[string]string{`class="stars black"`: "black", `class="stars red"`: "red", ">" + unrated + "<": unrated} {
		switch n := strings.Count(page, words); {
		case n == 0:
		case n != 2 || v.reviews != "":
			return strange("stars")
		default:
			v.reviews = reviews
		}
	}
	v.reviews = cmp.Or(v.reviews, "no stars")
	return v
}

// An outlook is what pages have to show, and when.
type outlook struct {
	reviews     string
	least, most time.Duration // that each of them takes
	usual       time.Duration // that half of them take at most, 0 for the same as most
}

// quickly is for pages that nobody waits for. The rest of the time is for busy machines.
func quickly(reviews string) outlook {
	return outlook{reviews: reviews, most: callTimeout, usual: time.Second}
}

// judgeViews holds pages, which all have the details, against an outlook.
func judgeViews(who string, views []view, want outlook) (string, error) {
	if len(views) == 0 {
		return "", fmt.Errorf("expected pages of %s, found none", who)
	}
	var times []time.Duration
	for _, v := range views {
		switch {
		case v.err != nil:
			return "", fmt.Errorf("the page of %s: %w", who, v.err)
		case !v.details:
			return "", fmt.Errorf("the page of %s: expected details, found none", who)
		case v.reviews != want.reviews:
			return "", fmt.Errorf("the page of %s: expected reviews to show %q, found %q from %s", who, want.reviews, v.reviews, cmp.Or(v.pod, "nobody"))
		case v.took < want.least || v.took > want.most:
			return "", fmt.Errorf("the page of %s: expected it after %s to %s, found it after %s", who, want.least, want.most, short(v.took))
		}
		times = append(times, v.took)
	}
	slices.Sort(times)
	if half := times[len(times)/2]; want.usual > 0 && half > want.usual {
		return "", fmt.Errorf("the pages of %s: expected half of them within %s, found them after %s", who, want.usual, short(half))
	}
	return fmt.Sprintf("%s %q, %d pages after %s to %s", who, want.reviews, len(views), short(times[0]), short(times[len(times)-1])), nil
}

// idsOf gives the ids of views.
func idsOf(views []view) []string {
	var ids []string
	for _, v := range views {
		ids = append(ids, v.id)
	}
	return ids
}

// logsOf gives what the instances of a service have logged, of one version or "" for all.
func (c *check) logsOf(service, version string) []string {
	var all []string
	for _, i := range c.app.list() {
		if i.service == service && (version == "" || i.version == version) {
			all = append(all, c.app.log(i.name)...)
		}
	}
	return all
}

var loggedID = regexp.MustCompile(` x-request-id=(\S+) `)

// judgeHeard holds a service's log against the requests that it should have had once each, and those that it should not
// have had.
func judgeHeard(service string, log, heard, unheard []string) error {
	times := make(map[string]int)
	for _, line := range log {
		if at := loggedID.FindStringSubmatch(line); at != nil {
			times[at[1]]++
		}
	}
	for _, id := range heard {
		if n := times[id]; n != 1 {
			return fmt.Errorf("expected %s to hear once of each of %d requests, found that it heard %d times of %s", service, len(heard), n, id)
		}
	}
	for _, id := range unheard {
		if n := times[id]; n != 0 {
			return fmt.Errorf("expected %s to hear of none of %d requests, found that it heard %d times of %s", service, len(unheard), n, id)
		}
	}
	return nil
}
