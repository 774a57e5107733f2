package transport

import (
	"context"
	"slices"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/telemetry"
)

// maxPushback is the longest wait that an endpoint can ask for before another attempt. Who is told to come back later than
// that is told so (Retry-After).
const maxPushback = 5 * time.Second

// Next decides whether the call is tried once more after the outcome, and how long to wait before. replayable says
// whether the driver could send the request again.
func (c *Call) Next(o call.Outcome, replayable bool) (wait time.Duration, again bool) {
	if !c.hedged {
		c.settle()
	}
	c.late = o.PerTry
	wait, v := c.judge(&o, replayable)
	if c.info != nil && len(c.info.Why) < maxTold && (v > resilience.NotRetried || o.Failed()) {
		for len(c.info.Why) < min(c.attempts, maxTold)-1 {
			c.info.Why = append(c.info.Why, resilience.Unjudged)
		}
		c.info.Why = append(c.info.Why, v)
	}
	if v == resilience.AttemptsSpent {
		c.flag(call.FlagURX)
	}
	if v == resilience.Repeated {
		c.trace.Failed(o)
		c.tell(c.last, &o)
	}
	return wait, v == resilience.Repeated
}

func (c *Call) judge(o *call.Outcome, replayable bool) (wait time.Duration, v resilience.Verdict) {
	if o.Reason == call.ReasonTimeout && !o.PerTry {
		return 0, resilience.NotRetried // the whole call's
	}
	if o.StaleReuse && (c.idempotent || o.Unprocessed) && replayable && !c.resent && !c.once {
		// What net/http would have done itself, had its replay not been switched off.
		c.resent = true
		return 0, resilience.Repeated
	}
	r := c.route.Retry
	if r == nil || r.Attempts == 0 {
		return 0, resilience.NoRetries
	}
	if v = r.Judge(o, c.repeatable()); v != resilience.Repeated {
		return 0, v
	}
	switch {
	case c.once:
		return 0, resilience.TurnedOff
	case !replayable:
		return 0, resilience.BodyLost
	case c.retries >= r.Attempts:
		return 0, resilience.AttemptsSpent
	case o.Pushback < 0 || o.Pushback > maxPushback || o.Pushback > 0 && c.over(o.Pushback):
		return 0, resilience.PushedBack
	case !c.afford():
		c.cluster.records.load.counts.retryRefused.Add(1)
		return 0, resilience.BudgetSpent
	}
	c.retries++
	c.cluster.records.load.counts.retries.Add(1)
	c.tried = append(c.tried, c.last)
	c.away = c.elsewhere()
	wait = r.Backoff.Wait(c.retries, c.engine.rand())
	if o.Pushback > 0 { // not all at the same moment (Envoy, rate_limited_retry_back_off: up to half as long again)
		wait = max(wait, o.Pushback+time.Duration(c.engine.rand()%uint64(o.Pushback/2+1)))
	}
	return wait, resilience.Repeated
}

// repeatable reports whether the request may be sent twice, though it may have been acted on.
func (c *Call) repeatable() bool {
	r := c.route.Retry
	return c.idempotent || c.engine.istio || r.Repeats == resilience.RepeatsAll || r.Repeats == resilience.RepeatsKeyed && c.keyed
}

// Idempotent notes that the request may be sent twice with the effect of once, whatever its method.
func (c *Call) Idempotent() { c.idempotent = true }

// over reports whether nothing is left of the call's time after the wait.
func (c *Call) over(wait time.Duration) bool {
	return !c.end.IsZero() && !time.Now().Add(wait).Before(c.end)
}

// afford takes one retry from the cluster's budget.
func (c *Call) afford() bool {
	b, r := &c.cluster.def.Policy.Budget, &c.cluster.records.retries
	if !b.Limited() {
		return true
	}
	var requests int64
	if b.Share {
		var total uint64
		for _, ep := range c.cluster.picker.Load().all {
			n := ep.Counts()
			requests += n.Active
			total += n.Total
		}
		if b.Interval > 0 {
			requests = r.Recent(c.engine.now(), total, b.Interval)
		}
	}
	if !r.Take(b.Limit(requests)) {
		return false
	}
	c.held = r
	c.holds++
	return true
}

// settle gives the retries back that the call holds: how they fared is known now.
func (c *Call) settle() {
	for ; c.holds > 0; c.holds-- {
		c.held.Give()
	}
	c.held = nil
}

// Retries reports whether the call may come to more than one attempt by its rule.
func (c *Call) Retries() bool { return c.route.Retry != nil && c.route.Retry.Attempts > 0 && !c.once }

// PerTry bounds one attempt from now on up to its answer's head, 0 for no bound of its own. One that is no shorter than the
// bound of the whole call is none (HTTPRetry.perTryTimeout).
func (c *Call) PerTry() time.Duration {
	if c.route == nil || c.route.Retry == nil {
		return 0
	}
	if try := c.route.Retry.PerTry; try > 0 && !c.over(try) {
		return try
	}
	return 0
}

// elsewhereEvery: after every second attempt the priorities of the endpoints tried so far are left out (Envoy,
// PreviousPrioritiesRetryPriority).
const elsewhereEvery = 2

// elsewhere gives the endpoints of priorities that the call has tried, where the next attempt is to leave them out.
func (c *Call) elsewhere() []*balance.Endpoint {
	r, policy := c.route.Retry, &c.cluster.def.Policy
	n := len(c.tried) / elsewhereEvery * elsewhereEvery
	if !r.Elsewhere || n == 0 || policy.Locality == nil {
		return nil
	}
	var out []*balance.Endpoint
	levels := balance.Priorities(policy.Client.Locality, policy.Client.Labels, policy.Locality, c.cluster.picker.Load().all)
	for i := range levels {
		var level []*balance.Endpoint
		for _, g := range levels[i].Groups {
			level = append(level, g.Endpoints...)
		}
		if slices.ContainsFunc(level, func(e *balance.Endpoint) bool { return slices.ContainsFunc(c.tried[:n], e.Same) }) {
			out = append(out, level...)
		}
	}
	if len(out) == len(c.cluster.picker.Load().all) {
		return nil // all priorities have been tried: from the first again
	}
	return out
}

// The header fields by which an attempt tells its endpoint about itself (Envoy, router filter).
var (
	attemptCount    = call.NewName("x-envoy-attempt-count")
	timeoutRetry    = call.NewName("x-envoy-is-timeout-retry")
	expectedTimeout = call.NewName("x-envoy-expected-rq-timeout-ms")
	grpcTimeout     = call.NewName("grpc-timeout")
	idempotencyKey  = call.NewName("idempotency-key")
)

// A Mark is a header field that an attempt has beside those of the request, in the place of one of its name.
type Mark = telemetry.Field

// Marks appends the fields of the next attempt to list: those of AttemptMarks, and how long the caller waits. h is the
// request's own header; the texts stand in room, which may be nil.
func (c *Call) Marks(list []Mark, h call.Headers, room *call.Room) []Mark {
	if c.attempts == 0 {
		if _, ok := h.Value(attemptCount, 0); ok { // from elsewhere
			list = append(list, Mark{Name: attemptCount, Value: "1"})
		}
	}
	list = c.AttemptMarks(list, h, room)
	left := c.Left()
	if left == 0 {
		return list
	}
	list = append(list, Mark{Name: expectedTimeout, Value: room.Int(milliseconds(left))})
	if v, _ := h.Value(contentType, 0); call.IsGRPC(v) {
		list = append(list, Mark{Name: grpcTimeout, Value: formatGRPCTimeout(left, room)})
	}
	return list
}

// AttemptMarks appends which attempt the next one is, where it is not the first, and the idempotency key that the program
// has set by WithIdempotencyKey.
func (c *Call) AttemptMarks(list []Mark, h call.Headers, room *call.Room) []Mark {
	if c.attempts > 0 {
		list = append(list, Mark{Name: attemptCount, Value: room.Int(int64(c.attempts) + 1)})
		if c.late {
			list = append(list, Mark{Name: timeoutRetry, Value: "true"})
		}
	}
	if c.key != "" {
		if _, ok := h.Value(idempotencyKey, 0); !ok {
			list = append(list, Mark{Name: idempotencyKey, Value: c.key})
		}
	}
	return c.traceMarks(list, h)
}

// Left gives how long the next attempt's answer is waited for, 0 where nothing bounds that.
func (c *Call) Left() time.Duration {
	left := c.PerTry()
	if !c.end.IsZero() {
		if all := time.Until(c.end); left == 0 || all < left {
			left = max(all, time.Millisecond)
		}
	}
	return left
}

// milliseconds rounds a time up to what x-envoy-expected-rq-timeout-ms can say.
func milliseconds(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

// What a program says of its calls stands in their context.
type saidKey struct{}

type said struct {
	once bool
	key  string
}

func saidOf(ctx context.Context) said {
	s, _ := ctx.Value(saidKey{}).(*said)
	if s == nil {
		return said{}
	}
	return *s
}

// WithoutRetry gives a context whose calls are tried once, whatever their rules say.
func WithoutRetry(ctx context.Context) context.Context {
	s := saidOf(ctx)
	s.once = true
	return context.WithValue(ctx, saidKey{}, &s)
}

// WithIdempotencyKey gives a context whose calls may be sent twice with the effect of once: the endpoint tells
// repetitions by the key, which goes in the header Idempotency-Key unless the request has one. "" is no key.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	s := saidOf(ctx)
	s.key = key
	return context.WithValue(ctx, saidKey{}, &s)
}

// heed reads what the context says of the call.
func (c *Call) heed(ctx context.Context) {
	s := saidOf(ctx)
	c.once, c.key = s.once, s.key
	c.idempotent = c.idempotent || s.key != ""
}
