package resilience_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
)

var userKey = resilience.LimitKey{Kind: resilience.LimitByHeader, Header: call.NewName("x-user")}

func ofUser(names ...string) *call.Request {
	return &call.Request{Headers: call.HTTPHeaders(http.Header{"X-User": names})}
}

// taken says how many of n requests are let through at one moment.
func taken(l *resilience.Limiter, now time.Duration, n int, q *call.Request) (ok int) {
	for range n {
		if t := l.Take(now, q, resilience.Known{}); t.OK {
			ok++
		}
	}
	return ok
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit resilience.RateLimit
		at    []time.Duration // 100 requests at each
		want  []int
	}{
		"a burst, then by the second": {resilience.RateLimit{Requests: 5, Per: time.Second, Burst: 5},
			[]time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 10 * time.Second}, []int{5, 0, 1, 5}},
		"a burst of its own": {resilience.RateLimit{Requests: 60, Per: time.Minute, Burst: 3},
			[]time.Duration{0, 999 * time.Millisecond, time.Second, time.Hour}, []int{3, 0, 1, 3}},
		"one a day": {resilience.RateLimit{Requests: 1, Per: 24 * time.Hour, Burst: 1},
			[]time.Duration{0, 24*time.Hour - time.Second, 24 * time.Hour, 48 * time.Hour}, []int{1, 0, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := resilience.NewLimiter(c.limit)
			for i, at := range c.at {
				if got := taken(l, at, 100, new(call.Request)); got != c.want[i] {
					t.Errorf("at %v: %d let through, want %d", at, got, c.want[i])
				}
			}
		})
	}
}

func TestRateLimitSaysWhen(t *testing.T) {
	t.Parallel()
	l := resilience.NewLimiter(resilience.RateLimit{Requests: 2, Per: time.Second, Burst: 4})
	first := l.Take(0, new(call.Request), resilience.Known{})
	if !first.OK || first.Burst != 4 || first.Remaining() != 3 || first.Reset() != 500*time.Millisecond || first.RetryAfter() != 0 {
		t.Errorf("after the first: %d left, full in %v, again in %v", first.Remaining(), first.Reset(), first.RetryAfter())
	}
	taken(l, 0, 3, new(call.Request))
	last := l.Take(0, new(call.Request), resilience.Known{})
	if last.OK || last.Remaining() != 0 || last.Reset() != 2*time.Second || last.RetryAfter() != 500*time.Millisecond {
		t.Errorf("after the last: %d left, full in %v, again in %v", last.Remaining(), last.Reset(), last.RetryAfter())
	}
}

// TestRateLimitKeys: what is counted apart, and what is not.
func TestRateLimitKeys(t *testing.T) {
	t.Parallel()
	source := func(s string) *call.Request { return &call.Request{Source: netip.MustParseAddr(s)} }
	byHeader, bySource := []resilience.LimitKey{userKey}, []resilience.LimitKey{{Kind: resilience.LimitBySource}}
	for name, c := range map[string]struct {
		by    []resilience.LimitKey
		a, b  *call.Request
		apart bool
	}{
		"two users":              {byHeader, ofUser("a"), ofUser("b"), true},
		"one user":               {byHeader, ofUser("a"), ofUser("a"), false},
		"none and empty":         {byHeader, ofUser(), ofUser(""), true},
		"no headers at all":      {byHeader, ofUser(), new(call.Request), false},
		"several values":         {byHeader, ofUser("a", "b"), ofUser("a"), true},
		"values do not run on":   {byHeader, ofUser("ab", "c"), ofUser("a", "bc"), true},
		"nor do keys":            {[]resilience.LimitKey{userKey, {Kind: resilience.LimitByHeader, Header: call.NewName("x-other")}}, ofUser("a", ""), ofUser("a"), true},
		"two addresses":          {bySource, source("192.0.2.1"), source("192.0.2.2"), true},
		"one, mapped":            {bySource, source("192.0.2.1"), source("::ffff:192.0.2.1"), false},
		"one network of IPv6":    {bySource, source("2001:db8::1"), source("2001:db8::ffff:2"), false},
		"two networks of IPv6":   {bySource, source("2001:db8::1"), source("2001:db8:0:1::1"), true},
		"no address is one, too": {bySource, new(call.Request), new(call.Request), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := resilience.NewLimiter(resilience.RateLimit{Requests: 1, Per: time.Hour, Burst: 1, By: c.by, MaxKeys: 10})
			first, second := l.Take(0, c.a, resilience.Known{}), l.Take(0, c.b, resilience.Known{})
			if !first.OK || second.OK != c.apart {
				t.Errorf("let through: %v, %v; counted apart: want %v", first.OK, second.OK, c.apart)
			}
		})
	}
	byRoute := resilience.NewLimiter(resilience.RateLimit{Requests: 1, Per: time.Hour, Burst: 1, By: []resilience.LimitKey{{Kind: resilience.LimitByRoute}}, MaxKeys: 2})
	for _, c := range []struct {
		route string
		want  bool
	}{{"v1", true}, {"v2", true}, {"v1", false}, {"v2", false}} {
		if got := byRoute.Take(0, new(call.Request), resilience.Known{Route: c.route}); got.OK != c.want {
			t.Errorf("route %s: let through %v", c.route, got.OK)
		}
	}
}

// TestKeyFlood: however many keys a caller invents, a key that is known and used up stays so, the invented ones share one
// bucket, and there is no more to remember.
func TestKeyFlood(t *testing.T) {
	t.Parallel()
	const keys, burst = 100, 5
	l := resilience.NewLimiter(resilience.RateLimit{Requests: burst, Per: time.Hour, Burst: burst, By: []resilience.LimitKey{userKey}, MaxKeys: keys})
	victim, heavy := ofUser("victim"), ofUser("heavy")
	if got := taken(l, 0, 2, victim); got != 2 {
		t.Fatalf("%d of the victim's first two", got)
	}
	if got := taken(l, 0, burst+1, heavy); got != burst {
		t.Fatalf("%d of the heavy user's", got)
	}
	through := 0
	for i := range 100_000 {
		through += taken(l, 0, 1, ofUser(fmt.Sprint("invented-", i)))
	}
	if want := keys - 2 + burst; through != want {
		t.Errorf("%d invented keys were let through, want one for each of %d buckets and %d for all others", through, keys-2, burst)
	}
	if got := taken(l, 0, 10, heavy); got != 0 {
		t.Errorf("the flood gave the heavy user %d requests more", got)
	}
	if got := taken(l, 0, 10, victim); got != burst-2 {
		t.Errorf("the flood left the victim %d of its %d requests", got, burst-2)
	}
	if got := l.Keys(); got != keys {
		t.Errorf("%d buckets", got)
	}
	// Once buckets are full again they can be another's, without a loss to anybody.
	if got := taken(l, 2*time.Hour, 10, ofUser("late")); got != burst {
		t.Errorf("%d of a key that came when others had gone", got)
	}
	if got := l.Keys(); got != keys {
		t.Errorf("%d buckets", got)
	}
}

// TestRateLimitMemory: 10,000 keys cost 32 MB at most, whatever is in them.
func TestRateLimitMemory(t *testing.T) {
	const keys, bound = 10_000, 32 << 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l := resilience.NewLimiter(resilience.RateLimit{Requests: 5, Per: time.Second, Burst: 5, By: []resilience.LimitKey{userKey}, MaxKeys: keys})
	long := strings.Repeat("x", 16<<10)
	for i := range 3 * keys {
		l.Take(0, ofUser(fmt.Sprint(long, i)), resilience.Known{})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d keys: %d KiB", l.Keys(), grown>>10)
	if grown > bound || l.Keys() != keys {
		t.Errorf("%d keys take %d bytes", l.Keys(), grown)
	}
}

// TestRateLimitConcurrently: no request too many, whoever asks at the same time.
func TestRateLimitConcurrently(t *testing.T) {
	t.Parallel()
	l := resilience.NewLimiter(resilience.RateLimit{Requests: 100, Per: time.Hour, Burst: 100, By: []resilience.LimitKey{userKey}, MaxKeys: 4})
	var through [4]atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			through[i%4].Add(int64(taken(l, 0, 500, ofUser(fmt.Sprint(i%4)))))
		})
	}
	wg.Wait()
	for i := range through {
		if got := through[i].Load(); got != 100 {
			t.Errorf("user %d: %d", i, got)
		}
	}
}

func TestRateLimitSame(t *testing.T) {
	t.Parallel()
	of := func(change func(*resilience.RateLimit)) *resilience.RateLimit {
		r := &resilience.RateLimit{Requests: 5, Per: time.Second, Burst: 5, MaxKeys: 2,
			By: []resilience.LimitKey{{Kind: resilience.LimitByHeader, Header: call.NewName("X-User")}}}
		change(r)
		return r
	}
	base := of(func(*resilience.RateLimit) {})
	if !base.Same(of(func(r *resilience.RateLimit) { r.By[0].Header = call.NewName("x-user") })) {
		t.Error("not the same as itself")
	}
	for name, change := range map[string]func(*resilience.RateLimit){
		"requests": func(r *resilience.RateLimit) { r.Requests++ },
		"per":      func(r *resilience.RateLimit) { r.Per++ },
		"burst":    func(r *resilience.RateLimit) { r.Burst++ },
		"maxKeys":  func(r *resilience.RateLimit) { r.MaxKeys++ },
		"header":   func(r *resilience.RateLimit) { r.By[0].Header = call.NewName("x-other") },
		"kind":     func(r *resilience.RateLimit) { r.By[0] = resilience.LimitKey{Kind: resilience.LimitBySource} },
		"more":     func(r *resilience.RateLimit) { r.By = append(r.By, resilience.LimitKey{Kind: resilience.LimitByRoute}) },
	} {
		if base.Same(of(change)) {
			t.Errorf("another %s is the same", name)
		}
	}
}

// claims are those of a token, each by its keys joined.
type claims map[string][]string

func (c claims) Issuer() string                { return c["iss"][0] }
func (c claims) Values(keys []string) []string { return c[strings.Join(keys, ".")] }

// TestRateLimitByCaller: who sent a request is who has proved to be it; nobody's are counted together.
func TestRateLimitByCaller(t *testing.T) {
	t.Parallel()
	byPeer := []resilience.LimitKey{{Kind: resilience.LimitByPeer}}
	byClaim := []resilience.LimitKey{{Kind: resilience.LimitByClaim, Claim: []string{"org", "team"}}}
	of := func(issuer string, teams ...string) resilience.Known {
		return resilience.Known{Token: claims{"iss": {issuer}, "org.team": teams}}
	}
	peer := func(id string) resilience.Known { return resilience.Known{Peer: id} }
	nobody := resilience.Known{}
	for name, c := range map[string]struct {
		by    []resilience.LimitKey
		a, b  resilience.Known
		apart bool
	}{
		"two peers":                 {byPeer, peer("td/ns/a/sa/b"), peer("td/ns/a/sa/c"), true},
		"one peer":                  {byPeer, peer("td/ns/a/sa/b"), peer("td/ns/a/sa/b"), false},
		"a peer and nobody":         {byPeer, peer("td/ns/a/sa/b"), nobody, true},
		"nobody twice":              {byPeer, nobody, nobody, false},
		"two teams":                 {byClaim, of("i", "a"), of("i", "b"), true},
		"one team":                  {byClaim, of("i", "a"), of("i", "a"), false},
		"one team of two issuers":   {byClaim, of("i", "a"), of("j", "a"), true},
		"issuer and team run apart": {byClaim, of("ia", "b"), of("i", "ab"), true},
		"no team and no token":      {byClaim, of("i"), nobody, false},
		"no team of two issuers":    {byClaim, of("i"), of("j"), false},
		"an empty team and none":    {byClaim, of("i", ""), nobody, true},
		"two of one list":           {byClaim, of("i", "a", "b"), of("i", "a"), true},
	} {
		l := resilience.NewLimiter(resilience.RateLimit{Requests: 1, Per: time.Hour, Burst: 1, By: c.by, MaxKeys: 10})
		if first, second := l.Take(0, new(call.Request), c.a), l.Take(0, new(call.Request), c.b); !first.OK || second.OK != c.apart {
			t.Errorf("%s: let through %v, %v; counted apart: want %v", name, first.OK, second.OK, c.apart)
		}
	}
	limit := resilience.RateLimit{Requests: 1, Per: time.Hour, Burst: 1, By: byClaim, MaxKeys: 10}
	other := limit
	other.By = []resilience.LimitKey{{Kind: resilience.LimitByClaim, Claim: []string{"org"}}}
	if !limit.ByClaim() || !limit.Same(&limit) || limit.Same(&other) || byClaim[0].String() != "claim org.team" || byPeer[0].String() != "peer identity" {
		t.Errorf("%v, %v", byClaim[0], byPeer[0])
	}
}
