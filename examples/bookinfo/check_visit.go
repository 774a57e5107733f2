package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// reviewsPath asks productpage for what reviews answers; its other pages are for the scenarios about them.
const reviewsPath = "/api/v1/products/0/reviews"

// unrated is what the original's reviews says where it has no stars.
const unrated = "Ratings service is currently unavailable"

// A visit is one request for reviews, and what came of it.
type visit struct {
	sent, done time.Time
	wrote      time.Time // when the request was on its way, zero where it did not get that far
	status     int
	version    string // of reviews, by the stars that it shows
	unrated    bool   // no stars, and the text that says so
	err        error  // no answer, or one that makes no sense
}

// fault says what is wrong with a visit, "" where reviews came with all that they should have.
func (v visit) fault() string {
	switch {
	case v.err != nil:
		return v.err.Error()
	case v.status != http.StatusOK:
		return fmt.Sprintf("status %d", v.status)
	case v.unrated:
		return "reviews without their stars"
	}
	return ""
}

// newBrowser gives a client that keeps connections, as browsers do, and knows no proxy.
func newBrowser() *http.Client {
	return &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
}

func (c *check) front() string { return c.app.instances[0].name }

func (c *check) url(path string) string { return "http://" + c.app.instances[0].address() + path }

// visit sends one request.
func (c *check) visit(ctx context.Context, browser *http.Client, path string) visit {
	return c.visitAs(ctx, browser, path, nil)
}

// visitAs sends one with headers.
func (c *check) visitAs(ctx context.Context, browser *http.Client, path string, header http.Header) visit {
	return timed(ctx, func(ctx context.Context, v *visit) {
		var body []byte
		v.status, body, v.err = fetchAs(ctx, browser, c.url(path), header)
		if v.err == nil && v.status == http.StatusOK {
			v.version, v.unrated, v.err = readReviews(body)
		}
	})
}

// timed notes the moments of a visit.
func timed(ctx context.Context, do func(context.Context, *visit)) visit {
	v := visit{sent: time.Now()}
	var wrote atomic.Pointer[time.Time]
	do(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(i httptrace.WroteRequestInfo) {
		if now := time.Now(); i.Err == nil {
			wrote.Store(&now)
		}
	}}), &v)
	v.done = time.Now()
	if t := wrote.Load(); t != nil {
		v.wrote = *t
	}
	return v
}

// fetchPage gets a page, whatever its status.
func fetchPage(ctx context.Context, browser *http.Client, url string) (int, []byte, error) {
	return fetchAs(ctx, browser, url, nil)
}

func fetchAs(ctx context.Context, browser *http.Client, url string, header http.Header) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	maps.Copy(req.Header, header)
	return send(browser, req)
}

func send(browser *http.Client, req *http.Request) (int, []byte, error) {
	resp, err := browser.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return resp.StatusCode, body, err
}

// readReviews tells the version of reviews by the stars, and holds it against the name of who answered.
func readReviews(body []byte) (version string, without bool, err error) {
	var a reviewsAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return "", false, fmt.Errorf("read reviews: %w: %.100q", err, body)
	}
	var looks []string
	for _, one := range a.Reviews {
		looks = append(looks, look(one))
	}
	podVersion := ""
	if parts := strings.Split(a.Podname, "-"); len(parts) > 1 {
		podVersion = parts[1]
	}
	strange := fmt.Errorf("reviews of %q make no sense: %.1000s", a.Podname, body)
	if len(looks) != 2 || looks[0] != looks[1] {
		return "", false, strange
	}
	switch version = looks[0]; {
	case version == unrated && (podVersion == "v2" || podVersion == "v3"):
		return podVersion, true, nil
	case version == "" || version != podVersion:
		return "", false, strange
	}
	return version, false, nil
}

// look tells the version that shows a review like this: no stars, black ones, red ones.
func look(r review) string {
	stars := map[string]int{"Reviewer1": 5, "Reviewer2": 4}[r.Reviewer]
	switch {
	case stars == 0:
		return ""
	case r.Rating == nil:
		return "v1"
	case r.Rating.Error != "":
		return r.Rating.Error
	case r.Rating.Stars == nil || *r.Rating.Stars != stars:
		return ""
	}
	return map[string]string{"black": "v2", "red": "v3"}[r.Rating.Color]
}

// burst sends n requests for reviews, some at a time.
func (c *check) burst(ctx context.Context, n int) []visit {
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	return many(c, n, func(int) visit { return c.visit(ctx, browser, reviewsPath) })
}

// many does something n times, some at a time.
func many[T any](c *check, n int, once func(number int) T) []T {
	const atATime = 12
	results := make(chan T)
	var begun atomic.Int64
	for range atATime {
		go func() {
			for {
				number := int(begun.Add(1))
				if number > n {
					return
				}
				results <- once(number)
			}
		}()
	}
	all := make([]T, 0, n)
	for len(all) < n {
		all = append(all, <-results)
		if len(all)%100 == 0 {
			c.notes.progress("%d of %d requests", len(all), n)
		}
	}
	return all
}

// A stream is requests that keep coming, at a rate that answers slow down only where too many are missing.
type stream struct {
	end     chan struct{}
	running sync.WaitGroup
	once    sync.Once

	mu     sync.Mutex // guards visits
	visits []visit
}

// stream begins to send requests for reviews; stop must be called.
func (c *check) stream(ctx context.Context, perSecond int) *stream {
	browser := newBrowser()
	return newStream(perSecond, func() visit { return c.visit(ctx, browser, reviewsPath) })
}

// newStream begins to make visits; stop must be called.
func newStream(perSecond int, once func() visit) *stream {
	s := &stream{end: make(chan struct{})}
	s.running.Go(func() {
		const most = 32 // under way: where they are too slow, more of them would be slower still
		slots := make(chan struct{}, most)
		timer := time.NewTimer(0)
		defer timer.Stop()
		next := time.Now()
		for {
			select {
			case <-timer.C:
			case <-s.end:
				return
			}
			slots <- struct{}{}
			s.running.Go(func() {
				v := once()
				<-slots
				s.mu.Lock()
				defer s.mu.Unlock()
				s.visits = append(s.visits, v)
			})
			next = next.Add(time.Second / time.Duration(perSecond))
			if behind := time.Since(next); behind > time.Second {
				next = time.Now() // a machine that was asleep: not all of it at once
			}
			timer.Reset(time.Until(next))
		}
	})
	return s
}

// stop ends the sending, waits for the answers and gives them all.
func (s *stream) stop() []visit {
	s.once.Do(func() { close(s.end) })
	s.running.Wait()
	return s.visits
}

// answered gives how many answers have come.
func (s *stream) answered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.visits)
}

// since gives the visits that came after the first n.
func (s *stream) since(n int) []visit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.visits[n:])
}

// flow waits until n more answers have come.
func (c *check) flow(ctx context.Context, s *stream, n int) error {
	from := s.answered()
	return until(ctx, func() error {
		if got := s.answered(); got < from+n {
			c.notes.progress("%d answers", got)
			return fmt.Errorf("expected %d more answers, found %d", n, got-from)
		}
		return nil
	})
}

// until waits until an attempt brings no error, and gives the last error where that takes too long.
func until(ctx context.Context, attempt func() error) error {
	const patience = 20 * time.Second
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := attempt()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return fmt.Errorf("%w (after %s)", err, patience)
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}
