package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// TestRetryRemoteLocalities: with retryRemoteLocalities the third attempt leaves out the priorities of the first two, the
// fifth those of the first four, and then it begins anew.
func TestRetryRemoteLocalities(t *testing.T) {
	t.Parallel()
	for _, remote := range []bool{true, false} {
		p := snapshot.Policy{Config: balance.Config{Locality: new(balance.LocalityPolicy), Client: &balance.Client{Locality: balance.ParseLocality("us/a/1")}}}
		c := newClocked(t, p, at("10.0.0.1", "us/a/1"), at("10.0.0.2", "us/a/1"), at("10.0.0.3", "us/a/1"), at("10.0.0.4", "us/b/1"), at("10.0.0.5", "us/b/1"), at("10.0.0.6", "eu/x/1"))
		c.route.Retry.Elsewhere, c.route.Retry.Attempts, c.route.Retry.AvoidPrevious = remote, 9, true
		var one Call
		c.Begin(t.Context(), &one, hashedRequest("X", ""))
		var places []string
		for range 6 {
			a, err := one.Pick(nil)
			if err != nil {
				t.Fatal(err)
			}
			places = append(places, a.Endpoint.Def.Locality)
			a.Finish()
			if _, again := one.Next(call.Outcome{Reason: call.ReasonConnect, Unprocessed: true}, true); !again {
				t.Fatal("not repeated")
			}
		}
		want := []string{"us/a/1", "us/a/1", "us/b/1", "us/b/1", "eu/x/1", "eu/x/1"}
		if !remote {
			want = want[:0]
			if places[2] == "us/a/1" {
				continue // the third of its own place
			}
		}
		if !slices.Equal(places, want) {
			t.Errorf("remote %v: %v", remote, places)
		}
	}
}

// overBudget is a rig of one route with a budget, whose calls all fail.
func overBudget(t *testing.T, b resilience.Budget) (*clocked, func() (*Call, resilience.Verdict)) {
	t.Helper()
	c := newClocked(t, snapshot.Policy{Budget: b}, three()...)
	return c, func() (*Call, resilience.Verdict) {
		var info CallInfo
		one := new(Call)
		c.Begin(Capture(t.Context(), &info), one, hashedRequest("X", ""))
		a, err := one.Pick(nil)
		if err != nil {
			t.Fatal(err)
		}
		o := call.Outcome{Reason: call.ReasonConnect, Unprocessed: true}
		a.Answered(o)
		one.Next(o, true)
		a.Finish()
		return one, info.Why[0]
	}
}

// TestRetryBudget: retries under way, the sleeping ones among them, are no more than maxRetries or retryBudget allow; what
// is over it fails as it is.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		budget  resilience.Budget
		running int // other requests under way
		allowed int
	}{
		"none":                {resilience.Budget{}, 0, 20},
		"maxRetries":          {resilience.Budget{Max: 2}, 0, 2},
		"three at least":      {resilience.Budget{Share: true, Percent: 20, Min: 3}, 0, 3},
		"a fifth of many":     {resilience.Budget{Share: true, Percent: 20, Min: 3}, 40, 8},
		"minRetryConcurrency": {resilience.Budget{Share: true, Percent: 20, Min: 5}, 0, 5},
		"a whole interval":    {resilience.Budget{Share: true, Percent: 20, Min: 0, Interval: time.Minute}, 44, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig, fails := overBudget(t, c.budget)
			for range c.running {
				var one Call
				rig.Begin(t.Context(), &one, hashedRequest("X", ""))
				if _, err := one.Pick(nil); err != nil {
					t.Fatal(err)
				}
			}
			var sleeping []*Call
			spent := 0
			for range 20 {
				one, v := fails()
				switch v {
				case resilience.Repeated:
					sleeping = append(sleeping, one)
				case resilience.BudgetSpent:
					spent++
				default:
					t.Fatalf("verdict %v", v)
				}
				if len(sleeping) == c.allowed && c.budget.Interval > 0 {
					break // each of them counts as a request
				}
			}
			if len(sleeping) != c.allowed || c.budget.Limited() && c.budget.Interval == 0 && spent != 20-c.allowed {
				t.Errorf("%d retries under way, %d refused", len(sleeping), spent)
			}
			for _, one := range sleeping {
				one.End(nil)
			}
			if one, v := fails(); v != resilience.Repeated {
				t.Errorf("after all have ended: %v", v)
			} else {
				one.End(nil)
			}
			if n := rig.state.Load().clusters[0].records.retries.Active(); n != 0 {
				t.Errorf("%d retries under way for good", n)
			}
		})
	}
}

// scripted is a leaf that answers with one status after the other, 0 for a connection that ends, and then 200. It notes what
// it is sent.
type scripted struct {
	statuses []int
	header   http.Header // of the answers
	seen     []http.Header
	bodies   []string
}

func (s *scripted) RoundTrip(req *http.Request) (*http.Response, error) {
	s.seen = append(s.seen, req.Header.Clone())
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		_ = req.Body.Close()
	}
	s.bodies = append(s.bodies, string(body))
	status := 200
	if len(s.statuses) > 0 {
		status, s.statuses = s.statuses[0], s.statuses[1:]
	}
	if status == 0 {
		return nil, errors.New("connection reset by peer")
	}
	return &http.Response{StatusCode: status, ProtoMajor: 1, Header: s.header, Body: http.NoBody, Request: req}, nil
}

// TestWhy: the idempotency of a request decides, and CallInfo says what did.
func TestWhy(t *testing.T) {
	t.Parallel()
	type request struct {
		method string
		ctx    func(context.Context) context.Context
		header http.Header
		body   io.Reader
	}
	post := request{method: http.MethodPost}
	key := func(ctx context.Context) context.Context { return WithIdempotencyKey(ctx, "k") }
	long := strings.Repeat("x", ReplayLimit+1)
	for name, c := range map[string]struct {
		request  request
		statuses []int
		answer   http.Header
		retry    resilience.Retry
		istio    bool
		why      []resilience.Verdict
		flags    string
	}{
		"answered":                       {request: request{method: "GET"}},
		"repeated":                       {request: request{method: "GET"}, statuses: []int{503}, why: []resilience.Verdict{resilience.Repeated}},
		"no attempt left":                {request: request{method: "GET"}, statuses: []int{503, 0, 503}, why: []resilience.Verdict{resilience.Repeated, resilience.Repeated, resilience.AttemptsSpent}, flags: "URX"},
		"no condition":                   {request: request{method: "GET"}, statuses: []int{500}, retry: resilience.Retry{On: resilience.OnGatewayError}, why: []resilience.Verdict{resilience.NotRetried}},
		"not idempotent":                 {request: post, statuses: []int{503}, why: []resilience.Verdict{resilience.NotIdempotent}},
		"not idempotent, reset":          {request: post, statuses: []int{0}, why: []resilience.Verdict{resilience.NotIdempotent}},
		"the program's key":              {request: request{method: "POST", ctx: key}, statuses: []int{0}, why: []resilience.Verdict{resilience.Repeated}},
		"a key in a header":              {request: request{method: "POST", header: http.Header{"Idempotency-Key": {"k"}}}, statuses: []int{0}, why: []resilience.Verdict{resilience.NotIdempotent}},
		"a key in a header, by the rule": {request: request{method: "POST", header: http.Header{"Idempotency-Key": {"k"}}}, statuses: []int{0}, retry: resilience.Retry{Repeats: resilience.RepeatsKeyed}, why: []resilience.Verdict{resilience.Repeated}},
		"any, by the rule":               {request: post, statuses: []int{0}, retry: resilience.Retry{Repeats: resilience.RepeatsAll}, why: []resilience.Verdict{resilience.Repeated}},
		"as Istio":                       {request: post, statuses: []int{0}, istio: true, why: []resilience.Verdict{resilience.Repeated}},
		"turned off":                     {request: request{method: "GET", ctx: WithoutRetry}, statuses: []int{503}, why: []resilience.Verdict{resilience.TurnedOff}},
		"a key, but turned off": {request: request{method: "POST", ctx: func(ctx context.Context) context.Context { return WithoutRetry(key(ctx)) }}, statuses: []int{503},
			why: []resilience.Verdict{resilience.TurnedOff}},
		"too long a body":        {request: request{method: "PUT", body: io.MultiReader(strings.NewReader(long))}, statuses: []int{503}, why: []resilience.Verdict{resilience.BodyLost}},
		"asked to wait too long": {request: request{method: "GET"}, statuses: []int{503}, answer: http.Header{"Retry-After": {"6"}}, why: []resilience.Verdict{resilience.PushedBack}},
		"no retries":             {request: request{method: "GET"}, statuses: []int{503}, retry: resilience.Retry{Attempts: -1}, why: []resilience.Verdict{resilience.NoRetries}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leaf := &scripted{statuses: c.statuses, header: c.answer}
			r := newRig(t, snapshot.HTTP1, leafPools{leaf: leaf.RoundTrip}, "10.0.0.1:80")
			retry := c.retry
			if retry.On == 0 {
				retry.On = resilience.On5xx
			}
			if retry.Attempts == 0 {
				retry.Attempts = 2
			}
			retry.Attempts = max(retry.Attempts, 0)
			retry.Backoff.Base = 1
			*r.route.Retry, r.engine.istio = retry, c.istio
			var info CallInfo
			ctx := Capture(t.Context(), &info)
			if c.request.ctx != nil {
				ctx = c.request.ctx(ctx)
			}
			req, _ := http.NewRequestWithContext(ctx, c.request.method, "http://svc/", c.request.body)
			if c.request.header != nil {
				req.Header = c.request.header
			}
			if resp, err := r.rt.RoundTrip(req); err == nil {
				_ = resp.Body.Close()
			}
			if !slices.Equal(info.Why, c.why) || info.Flags != c.flags {
				t.Errorf("why %v, flags %q; want %v, %q", info.Why, info.Flags, c.why, c.flags)
			}
		})
	}
}

// TestIdempotencyKeyIsSent, with every attempt, spelled so that net/http does not repeat by itself; the request's own wins.
func TestIdempotencyKeyIsSent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ own, want string }{"the program's": {"", "k"}, "the request's": {"own", "own"}} {
		leaf := &scripted{statuses: []int{503}}
		r := newRig(t, snapshot.HTTP1, leafPools{leaf: leaf.RoundTrip}, "10.0.0.1:80")
		r.route.Retry.On, r.route.Retry.Backoff.Base = resilience.On5xx, 1
		req, _ := http.NewRequestWithContext(WithIdempotencyKey(t.Context(), "k"), "POST", "http://svc/", io.MultiReader(strings.NewReader("body")))
		if c.own != "" {
			req.Header.Set("Idempotency-Key", c.own)
		}
		resp, err := r.rt.RoundTrip(req)
		if err != nil || resp.StatusCode != 200 || len(leaf.seen) != 2 || !slices.Equal(leaf.bodies, []string{"body", "body"}) {
			t.Fatalf("%s: %v, %d attempts, %q", name, err, len(leaf.seen), leaf.bodies)
		}
		for i, h := range leaf.seen {
			const hidden = "idempotency-key"
			if got := map[string][]string(h)[hidden]; !slices.Equal(got, []string{c.want}) || len(h["Idempotency-Key"]) > 0 {
				t.Errorf("%s: attempt %d is sent %v", name, i+1, h)
			}
		}
		if got := leaf.seen[1].Get("X-Envoy-Attempt-Count"); got != "2" || leaf.seen[0].Get("X-Envoy-Attempt-Count") != "" {
			t.Errorf("%s: attempt count %q", name, got)
		}
	}
}

// TestPerTryTimeout: an attempt ends with its own time, its endpoint is blamed for it, and another is made; the answer's body
// has all the time that the call has.
func TestPerTryTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		var canceled []error
		leaf := func(req *http.Request) (*http.Response, error) {
			if tries++; tries < 3 {
				<-req.Context().Done()
				canceled = append(canceled, req.Context().Err())
				return nil, req.Context().Err()
			}
			return &http.Response{StatusCode: 200, ProtoMajor: 1, Body: &slowBody{ctx: req.Context(), takes: time.Hour}, Request: req}, nil
		}
		r := newRig(t, snapshot.HTTP1, leafPools{leaf: leaf}, "10.0.0.1:80")
		r.route.Retry.On, r.route.Retry.PerTry = resilience.OnReset, 2*time.Second
		var info CallInfo
		req, _ := http.NewRequestWithContext(Capture(t.Context(), &info), "GET", "http://svc/", nil)
		began := time.Now()
		resp, err := r.rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 4*time.Second || took >= 4*time.Second+200*time.Millisecond {
			t.Errorf("three attempts took %v", took)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "slow" {
			t.Errorf("body %q, %v", b, err)
		}
		_ = resp.Body.Close()
		if n := r.blamed(); len(canceled) != 2 || n != 2 || info.Attempts != 3 {
			t.Errorf("%d canceled, %d blamed, %d attempts", len(canceled), n, info.Attempts)
		}

		// The last attempt's end is the call's.
		tries, r.route.Retry.Attempts = 0, 1
		var last CallInfo
		req, _ = http.NewRequestWithContext(Capture(t.Context(), &last), "GET", "http://svc/", nil)
		_, err = r.rt.RoundTrip(req)
		if call.ReasonOf(err) != call.ReasonTimeout || !strings.Contains(err.Error(), "perTryTimeout") ||
			last.Details != "upstream_per_try_timeout" || last.Flags != "URX" {
			t.Errorf("%v, details %q, flags %q", err, last.Details, last.Flags)
		}
	})
}

// slowBody takes its time, unless the request's context ends.
type slowBody struct {
	ctx   context.Context
	takes time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.takes == 0 {
		return 0, io.EOF
	}
	if err := sleep(b.ctx, b.takes); err != nil {
		return 0, err
	}
	b.takes = 0
	return copy(p, "slow"), nil
}
func (b *slowBody) Close() error { return nil }

// TestPerTryTimeoutMeetsTheHead: an answer that comes at the very moment its attempt ends is none, and is closed.
func TestPerTryTimeoutMeetsTheHead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Int32
		leaf := func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			open.Add(1)
			return &http.Response{StatusCode: 200, ProtoMajor: 1, Body: &closing{open: &open}, Request: req}, nil
		}
		r := newRig(t, snapshot.HTTP1, leafPools{leaf: leaf}, "10.0.0.1:80")
		r.route.Retry.On, r.route.Retry.PerTry = resilience.OnReset, time.Second
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://svc/", nil)
		if _, err := r.rt.RoundTrip(req); call.ReasonOf(err) != call.ReasonTimeout {
			t.Error(err)
		}
		if n := open.Load(); n != 0 {
			t.Errorf("%d bodies left open", n)
		}
	})
}

type closing struct {
	emptyBody
	open *atomic.Int32
}

func (c *closing) Close() error {
	c.open.Add(-1)
	return nil
}

// TestRetryAfterIsWaitedFor, and not by all at the same moment.
func TestRetryAfterIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, when := range []string{"2", ""} {
			if when == "" {
				when = time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat)
			}
			leaf := &scripted{statuses: []int{503}, header: http.Header{"Retry-After": {when}}}
			r := newRig(t, snapshot.HTTP1, leafPools{leaf: leaf.RoundTrip}, "10.0.0.1:80")
			r.route.Retry.On = resilience.On5xx
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://svc/", nil)
			began := time.Now()
			resp, err := r.rt.RoundTrip(req)
			if took := time.Since(began); err != nil || resp.StatusCode != 200 || took < time.Second || took > 3*time.Second {
				t.Errorf("Retry-After %s: %v after %v", when, err, took)
			}
			// A caller with less time gets the answer at once.
			leaf.statuses, leaf.header = []int{503}, http.Header{"Retry-After": {"2"}}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			req, _ = http.NewRequestWithContext(ctx, "GET", "http://svc/", nil)
			began = time.Now()
			resp, err = r.rt.RoundTrip(req)
			if err != nil || resp.StatusCode != 503 || time.Since(began) != 0 {
				t.Errorf("Retry-After %s, no time for it: %v after %v", when, err, time.Since(began))
			}
			cancel()
		}
	})
}
