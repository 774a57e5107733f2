package transport

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

// A limit is a rate limit of the live configuration with what it has counted.
type limit struct {
	def     *snapshot.RateLimit
	limiter *resilience.Limiter
}

// limitsOf gives the snapshot's limits, and apart from the others of what is received those that ask for claims of tokens. One
// that is the same under the same name goes on counting.
func limitsOf(s *snapshot.Snapshot, old *state) (all, inbound, claimed []limit) {
	if len(s.Limits) == 0 {
		return nil, nil, nil
	}
	before := make(map[string]*resilience.Limiter, len(old.limits))
	for _, l := range old.limits {
		before[l.def.Name] = l.limiter
	}
	all = make([]limit, len(s.Limits))
	for i := range s.Limits {
		def := &s.Limits[i]
		l := before[def.Name]
		if l == nil || !l.Limit().Same(&def.RateLimit) {
			l = resilience.NewLimiter(def.RateLimit)
		}
		all[i] = limit{def, l}
		switch {
		case def.Inbound && def.ByClaim():
			claimed = append(claimed, all[i])
		case def.Inbound:
			inbound = append(inbound, all[i])
		}
	}
	return all, inbound, claimed
}

// breakersOf gives the snapshot's circuit breakers by name. One that is the same stays in its state.
func breakersOf(s *snapshot.Snapshot, old map[string]*resilience.Breaker) map[string]*resilience.Breaker {
	var all map[string]*resilience.Breaker
	for i := range s.Clusters {
		def := s.Clusters[i].Breaker
		if def == nil || all[def.Name] != nil {
			continue
		}
		b := old[def.Name]
		if b == nil || b.Definition() != def.CircuitBreaker {
			b = resilience.NewBreaker(def.CircuitBreaker)
		}
		if all == nil {
			all = make(map[string]*resilience.Breaker)
		}
		all[def.Name] = b
	}
	return all
}

// openBreaker says, for people, why a call is not let through.
func openBreaker(c *cluster) string {
	return "the circuit breaker of " + c.def.Breaker.Name + " is " + c.breaker.State()
}

// limit counts the call against the limits on its host, once, and gives the error of one that is reached.
func (c *Call) limit(q *call.Request, limits []int) *call.Error {
	if c.counted {
		return nil
	}
	c.counted = true
	now := c.engine.now()
	for _, i := range limits {
		l := &c.state.limits[i]
		if !l.def.Takes(q, c.route) {
			continue
		}
		if t := l.limiter.Take(now, q, resilience.Known{Route: c.route.Name}); !t.OK {
			e := c.fail(call.ReasonRateLimited, nil, l.reached())
			e.RetryAfter = t.RetryAfter()
			e.GRPC = l.grpc()
			return e
		}
	}
	return nil
}

// reached says, for people, which limit it is.
func (l *limit) reached() string {
	return call.Printable(l.def.Name) + " allows " + describeRate(l.def) + " in this process"
}

// grpc is what callers that speak gRPC are told, plus one, 0 for what the HTTP status stands for.
func (l *limit) grpc() uint8 {
	const resourceExhausted = 8
	if l.def.Exhausted {
		return resourceExhausted + 1
	}
	return 0
}

// describeRate says how much a limit allows: "5 requests a second, 10 at once, for each header x-user (100 of them at most)".
func describeRate(r *snapshot.RateLimit) string {
	s := fmt.Sprintf("%d requests %s, %d at once", r.Requests, every(r.Per), r.Burst)
	for i, k := range r.By {
		s += [...]string{", for each ", " and "}[min(i, 1)] + k.String()
	}
	if len(r.By) > 0 {
		s += fmt.Sprintf(" (%d of them at most)", r.MaxKeys)
	}
	return s
}

// every says a unit of time in words.
func every(d time.Duration) string {
	switch d {
	case time.Second:
		return "a second"
	case time.Minute:
		return "a minute"
	case time.Hour:
		return "an hour"
	case 24 * time.Hour:
		return "a day"
	}
	return "every " + d.String()
}

var (
	rateLimited        = call.NewName("x-envoy-ratelimited")
	retryAfter         = call.NewName("retry-after")
	rateLimitLimit     = call.NewName("x-ratelimit-limit")
	rateLimitRemaining = call.NewName("x-ratelimit-remaining")
	rateLimitReset     = call.NewName("x-ratelimit-reset")
)

// RefusalHeader writes what tells the caller of a refused call why, and when to come back: x-envoy-ratelimited and
// x-envoy-overloaded, by which Envoys and meshes know that repeating it is no use, and Retry-After in seconds
// (RFC 9110 §10.2.3).
func RefusalHeader(h call.HeaderEditor, e *call.Error) {
	switch e.Reason {
	case call.ReasonRateLimited:
		h.Set(rateLimited, "true")
	case call.ReasonOverflow, call.ReasonCircuitOpen:
		h.Set(overloaded, "true")
	}
	if e.RetryAfter > 0 {
		h.Set(retryAfter, strconv.FormatInt(seconds(e.RetryAfter), 10))
	}
}

var overloaded = call.NewName("x-envoy-overloaded")

// seconds rounds up: who waits so long does not come too early.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// limitsOn says in words which limits a call to the host is counted against.
func (st *state) limitsOn(host *routing.VirtualHost, route *routing.Route, q *call.Request) []string {
	var all []string
	for _, i := range host.Limits {
		if l := st.limits[i].def; l.Takes(q, route) {
			all = append(all, fmt.Sprintf("rate limit %s: %s, in each process; %s", call.Printable(l.Name), call.Printable(describeRate(l)), l.Origin))
		}
	}
	return all
}

// describeBreaker says for people when a circuit breaker opens, and when it lets calls through again.
func describeBreaker(b *snapshot.Breaker) string {
	var when []string
	if b.Consecutive > 0 {
		when = append(when, fmt.Sprintf("%d failures in a row", b.Consecutive))
	}
	if b.Percent > 0 {
		when = append(when, fmt.Sprintf("%d %% failures of at least %d attempts in %v", b.Percent, b.Minimum, b.Window))
	}
	return fmt.Sprintf("circuit breaker %s: opens for %v after %s, then tries %d", b.Name, b.OpenFor, strings.Join(when, " or "), b.Probes)
}
