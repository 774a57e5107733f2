package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// ask puts one question to ratings in the mood.
func ask(ctx context.Context, mux *http.ServeMux, mood string) int {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/ratings/0", http.NoBody)
	r.Header.Set(moodHeader, mood)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w.Code
}

// TestRatingsMoods: what a faulty and a slow ratings answer, and when.
func TestRatingsMoods(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mux := http.NewServeMux()
		newRatings().register(mux)
		var got []int
		for _, mood := range []string{faulty, faulty, "", "well", faulty, faulty} {
			got = append(got, ask(t.Context(), mux, mood))
		}
		if fmt.Sprint(got) != "[503 200 200 200 503 200]" {
			t.Errorf("got %v", got)
		}
		for _, c := range []struct {
			patience, took time.Duration
			status         int
		}{{time.Minute, lateness, http.StatusOK}, {time.Second, time.Second, statusClientGone}} {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), c.patience)
			if got := ask(ctx, mux, slow); got != c.status || time.Since(began) != c.took {
				t.Errorf("who waits for %v got %d after %v", c.patience, got, time.Since(began))
			}
			cancel()
		}
	})
}

func TestJudgeHalf(t *testing.T) {
	t.Parallel()
	of := func(shown ...string) (views []view) {
		for _, s := range shown {
			views = append(views, view{details: true, reviews: s})
		}
		return views
	}
	for name, c := range map[string]struct {
		views []view
		err   string
	}{
		"half":         {of("red", unrated, "red", unrated), ""},
		"all":          {of("red", "red"), "expected red stars on half"},
		"none":         {of(unrated, unrated), "expected red stars on half"},
		"something":    {of("red", "black"), "expected red stars on half"},
		"no page":      {append(of("red", unrated), view{err: fmt.Errorf("status 500")}), "status 500"},
		"no reviews":   {of("red", noReviews), "expected red stars on half"},
		"one too many": {of("red", "red", unrated), "expected red stars on half"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expects(t, judgeHalf(c.views), c.err)
		})
	}
}

// logOf gives the lines of requests by id and status, between others.
func logOf(requests ...string) []string {
	lines := []string{"level=INFO msg=whatever", "GET /ratings/0 500 x-request-id=someone traceparent="}
	for _, r := range requests {
		var id, status string
		_, _ = fmt.Sscan(r, &id, &status)
		lines = append(lines, "GET /ratings/0 "+status+" x-request-id="+id+" traceparent=")
	}
	return lines
}

func TestJudgeRepeated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		log   []string
		again int
		err   string
	}{
		"each":        {logOf("a 503", "a 200", "b 503", "b 200"), 2, ""},
		"half":        {logOf("a 200", "b 503", "b 200"), 1, ""},
		"none":        {logOf("a 200", "b 200"), 0, "half of 2 pages at least, found 0"},
		"unheard":     {logOf("a 503", "a 200"), 0, "in the end, found []"},
		"given up":    {logOf("a 503", "a 200", "b 503"), 0, "in the end, found [503]"},
		"after a 200": {logOf("a 200", "a 200", "b 503", "b 200"), 0, "after 503 only"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			again, err := judgeRepeated(c.log, []string{"a", "b"})
			expects(t, err, c.err)
			if err == nil && again != c.again {
				t.Errorf("got %d", again)
			}
		})
	}
}

func TestJudgeGivenUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		log   []string
		ended int
		err   string
	}{
		"twice each": {logOf("a 499", "b 499", "a 499", "b 499"), 4, ""},
		"once":       {logOf("a 499", "b 499", "b 499"), 3, ""},
		"unheard":    {logOf("a 499"), 0, "2 to 2 requests of b, found []"},
		"too often":  {logOf("a 499", "b 499", "b 499", "b 499"), 0, "2 to 2 requests of b"},
		"not yet":    {logOf("a 499", "b 499"), 0, "2 to 2 requests of b, found [499]"},
		"works on":   {logOf("a 499", "b 499", "b 200"), 0, "give up on b, status 499, found [499 200]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended, err := judgeGivenUp(c.log, []view{{id: "a", took: boundedOnce}, {id: "b", took: boundedTwice}})
			expects(t, err, c.err)
			if err == nil && ended != c.ended {
				t.Errorf("got %d", ended)
			}
		})
	}
}

func TestJudgeBounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		v   view
		err string
	}{
		"two tries":            {view{details: true, reviews: noReviews, took: 2 * time.Second}, ""},
		"too soon":             {view{details: true, reviews: noReviews, took: time.Second}, "expected it after"},
		"too late":             {view{details: true, reviews: noReviews, took: 7 * time.Second}, "expected it after"},
		"stars":                {view{details: true, reviews: "black", took: 2 * time.Second}, "expected reviews to show"},
		"without stars":        {view{details: true, reviews: unrated, took: time.Second}, ""},
		"without stars, early": {view{details: true, reviews: unrated, took: 100 * time.Millisecond}, "expected it after"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slowest, err := judgeBounded([]view{c.v})
			expects(t, err, c.err)
			if err == nil && slowest != c.v.took {
				t.Errorf("got %v", slowest)
			}
		})
	}
}
