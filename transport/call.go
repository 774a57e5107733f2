package transport

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
)

// A Call is one request on its way, through all its attempts. It belongs to one goroutine; its zero value
// is what Begin wants. It can live on the driver's stack.
type Call struct {
	engine  *Engine
	state   *state // what it was decided on
	route   *routing.Route
	match   *routing.Match // the route's that took the request, nil for none
	dest    *routing.Destination
	cluster *cluster
	origin  string // of a browser's call, "" where it is not allowed to read the answer

	routeName string     // the route's, with the name of the match that took the request
	path      string     // as the rule rewrites it, "" where it does not
	reply     Answer     // the rule's own, where it has one
	flags     call.Flags // beside those of the reason

	authority  string // what Host says whatever the rules say, "" for what they say
	service    string // the host's own name, "" where the mesh does not know it
	host       string // as the caller wrote it
	port       uint16
	began      time.Duration
	attempts   int
	retries    int
	hash       uint64 // what the cluster keeps calls together by, where hashed
	cookie     string // made for this call, "" for none
	hashed     bool
	idempotent bool   // by its method, or the program's word
	keyed      bool   // the request brings an Idempotency-Key, where the rule asks
	once       bool   // the program wants no retry
	key        string // the program's idempotency key
	told       time.Duration
	end        time.Time           // see Until
	late       bool                // the last attempt ran out of its own time
	held       *resilience.Retries // what the retries under way are counted in
	holds      int                 // how many they are
	hedged     bool                // attempts go on beside others
	faulted    bool                // faults have been drawn
	counted    bool                // against the rate limits
	resent     bool                // the one repetition on a dead kept connection is used up
	last       *balance.Endpoint
	heard      *telemetry.Group    // of what last has said of itself in its answer, nil for nothing
	story      []accesslog.Try     // the attempts that another has followed; made at the first
	tried      []*balance.Endpoint // made at the first retry
	away       []*balance.Endpoint // of priorities that are left out
	known      []uint16            // the ports of a host that is known on others than the one asked for
	info       *CallInfo
	trace      telemetry.Trace
	traced     bool   // trace has begun
	rpc        string // see OfRPC
}

// StepKind says what a call needs done first.
type StepKind uint8

const (
	Forward StepKind = iota // pick an endpoint and send
	Direct                  // send to the host itself as the program would without a mesh
	Reject                  // fail with Step.Err; nothing is sent
	Reply                   // answer with Call.Reply; nothing is sent
)

// A Step is Begin's answer.
type Step struct {
	Kind StepKind
	Err  *call.Error // for Reject
	// Delay is an injected one: the driver waits before it heeds Kind.
	Delay time.Duration
}

// Begin is the order of decisions of an outbound call, up to the first attempt: host, rule, cluster. It
// neither blocks nor keeps q. For the same snapshot, request and random bits its answer is the same, but for
// what rate limits have counted.
func (e *Engine) Begin(ctx context.Context, c *Call, q *call.Request) Step {
	c.engine, c.host, c.port = e, q.Authority, q.Port
	c.idempotent = resilience.Idempotent(q.Method)
	c.heed(ctx)
	c.start(ctx)
	step := c.decide(q)
	c.traceCall(ctx, q)
	return step
}

// start reads the clock where somebody wants to know how long the call takes.
func (c *Call) start(ctx context.Context) {
	if c.info = capture(ctx); c.info != nil || c.engine.metrics != nil {
		c.began = c.engine.now()
	}
}

// decide pins the live configuration and finds host, rule and cluster in it.
func (c *Call) decide(q *call.Request) Step {
	e := c.engine
	st := e.state.Load()
	c.state = st
	if e.closed.Load() {
		return c.reject(call.ReasonClosed, "")
	}

	// Which host.
	var host *routing.VirtualHost
	if t := st.snap.Tables[q.Scope]; t != nil {
		host, c.known = lookup(t, q)
	}
	if host == nil {
		return c.outside()
	}
	c.service = host.Host

	// Which rule. The program's own TLS and ports of other protocols are opaque to rules of HTTP.
	if !host.HTTP || q.Scheme == "https" {
		if c.route = host.MatchConn(q); c.route == nil { // a name that only rules of HTTP know, or that those of TLS do not take
			c.service = ""
			return c.outside()
		}
		c.routeName = c.route.Name
	} else {
		if q.Path == "" {
			return c.reject(call.ReasonInvalidRequest, "the path or the Host header has no safe spelling")
		}
		if c.route, c.match = host.Match(q); c.route != nil {
			c.routeName = c.route.Title(c.match)
		}
	}
	if c.route == nil {
		return c.reject(call.ReasonNoRoute, "no rule of "+host.Host+" matches")
	}

	// What the rule answers itself, and what it injects.
	step, answered := c.answer(q)
	if answered {
		if c.info != nil {
			c.info.Details = c.reply.Details
		}
		return step
	}

	// Whether it is one too many.
	if len(host.Limits) > 0 {
		if refused := c.limit(q, host.Limits); refused != nil {
			step.Kind, step.Err = Reject, refused
			return step
		}
	}

	// Which cluster.
	d := c.route.Pick(e.rand())
	switch {
	case d == nil:
		step.Kind, step.Err = Reject, c.fail(call.ReasonNoCluster, nil, "the route has no destination")
		return step
	case d.Index < 0 || d.Index >= len(st.clusters):
		c.seen(d.Cluster)
		step.Kind, step.Err = Reject, c.fail(call.ReasonNoCluster, nil, d.Missing)
		return step
	}
	if r := c.route.Retry; r != nil && r.Repeats == resilience.RepeatsKeyed {
		_, c.keyed = q.Headers.Value(idempotencyKey, 0)
	}
	c.dest, c.cluster = d, st.clusters[d.Index]
	c.seen(d.Cluster)
	c.path = ""
	path, safe := c.route.Rewrite.PathOf(q, c.match)
	if path != q.Path {
		c.path = path
	}
	if !safe {
		step.Kind, step.Err = Reject, c.fail(call.ReasonInvalidRequest, nil, unsafeRewrite)
		return step
	}
	switch {
	case c.cluster.def.Direct:
		step.Kind = Direct
	case c.cluster.def.Policy.Hash.Kind != snapshot.HashNothing:
		c.keepTogether(q)
	}
	return step
}

// lookup finds a request's host. The program's own TLS may be for a name that only rules of TLS know.
func lookup(t *routing.Table, q *call.Request) (host *routing.VirtualHost, known []uint16) {
	if host, known = t.Lookup(q.Host, q.Port); host == nil && q.Scheme == "https" && q.Conn == nil {
		host = t.LookupName(q.Host, q.Port)
	}
	return host, known
}

const unsafeRewrite = "the rule's rewrite makes a path of it that has no safe spelling"

// Unresolved gives nil where the call's cluster has endpoints, or is known to have none. Otherwise discovery
// has not said yet: the channel is closed when that may have changed, and the driver asks again before it
// picks. It does not block; the cluster may be a later snapshot's of the same name.
func (c *Call) Unresolved() <-chan struct{} {
	m := c.cluster.picker.Load()
	for m.moved != nil {
		c.cluster = m.moved
		m = c.cluster.picker.Load()
	}
	return m.unresolved
}

// FailUnresolved makes the error of a call whose context ended while it waited for Unresolved.
func (c *Call) FailUnresolved(cause error) *call.Error {
	return c.fail(call.ReasonCanceled, cause, "waiting for the first addresses of "+c.cluster.def.Set.Host)
}

// maxTold bounds how many attempts a CallInfo lists.
const maxTold = 100

// Ready narrows a pick to endpoints that a driver can use at once. Its implementation must be
// pointer-shaped, so that handing it over does not allocate.
type Ready interface {
	Ready(*balance.Endpoint) bool
}

// Pick chooses the endpoint of the next attempt and counts it as begun: Attempt.Finish must follow. A nil
// ready takes every endpoint. A retry prefers endpoints that this call has not tried
// (HTTPRetry.retryIgnorePreviousHosts). Its error is a *call.Error.
func (c *Call) Pick(ready Ready) (Attempt, error) {
	pass, ok := c.cluster.breaker.Enter()
	if !ok {
		c.cluster.records.load.counts.overflow.Add(1)
		return Attempt{}, c.fail(call.ReasonCircuitOpen, nil, openBreaker(c.cluster))
	}
	limited, err := c.admit()
	a := Attempt{cluster: c.cluster}
	if err == nil {
		a, err = c.pick(ready)
	}
	a.pass, a.limited = pass, limited
	if err != nil {
		a.leave()
	}
	return a, err
}

// admit counts the attempt against the limit of its cluster, where there is one.
func (c *Call) admit() (limited bool, err error) {
	most := c.cluster.def.Policy.Limits.Requests
	if most == 0 {
		return false, nil
	}
	if !c.cluster.records.load.Requests.Enter(most) {
		c.cluster.records.load.counts.overflow.Add(1)
		return false, c.fail(call.ReasonOverflow, nil, fmt.Sprintf("%d requests are under way, as many as http2MaxRequests allows", most))
	}
	return true, nil
}

func (c *Call) pick(ready Ready) (Attempt, error) {
	now := c.engine.now()
	c.engine.sweepDue(c.cluster.records, now)
	p := c.cluster.picker.Load()
	draw := balance.Draw{Random: c.engine.rand(), Hash: c.hash, Hashed: c.hashed, Now: now}
	ep := p.Pick(draw)
	if ep != nil && (ready != nil || c.tried != nil) && !c.wants(ep, ready) {
		ep = c.pickOther(p, draw, ready)
	}
	if ep == nil {
		if c.engine.closed.Load() { // while the call waited
			return Attempt{cluster: c.cluster}, c.fail(call.ReasonClosed, nil, "")
		}
		return Attempt{cluster: c.cluster}, c.fail(call.ReasonNoEndpoint, nil, c.whyEmpty())
	}
	c.attempts++
	c.last, c.heard = ep, nil
	c.engine.measure(ep, c.cluster.def)
	c.tracePick(ep)
	if c.info != nil && len(c.info.Tried) < maxTold {
		c.info.Tried = append(c.info.Tried, ep.Def.Address.String())
	}
	ep.Begin()
	return Attempt{Endpoint: ep, cluster: c.cluster, began: now, before: before(now - c.began)}, nil
}

func (c *Call) wants(ep *balance.Endpoint, ready Ready) bool {
	return (ready == nil || ready.Ready(ep)) && !slices.ContainsFunc(c.away, ep.Same) &&
		(c.tried == nil || !c.route.Retry.AvoidPrevious || !slices.ContainsFunc(c.tried, ep.Same))
}

// pickOther looks for an endpoint that is wanted: a few more picks, so that the algorithm keeps its say — where
// the call has a hash they step on from it — then all that are healthy in turn from a random place. Failing
// that it takes one that is at least ready, of a priority that is not left out if there is one.
func (c *Call) pickOther(p *members, draw balance.Draw, ready Ready) *balance.Endpoint {
	var fallback *balance.Endpoint
	suits := func(ep *balance.Endpoint) bool { // at least
		return (ready == nil || ready.Ready(ep)) && (fallback == nil || slices.ContainsFunc(c.away, fallback.Same) && !slices.ContainsFunc(c.away, ep.Same))
	}
	for range 4 {
		draw.Random = c.engine.rand()
		draw.Step++
		ep := p.Pick(draw)
		if ep == nil {
			break // ejected by now, all of them
		}
		if c.wants(ep, ready) {
			return ep
		}
		if suits(ep) {
			fallback = ep
		}
	}
	n := p.Len()
	start := int(c.engine.rand() % uint64(n))
	for i := range n {
		ep := p.At((start + i) % n)
		if !ep.Healthy() {
			continue
		}
		if c.wants(ep, ready) {
			return ep
		}
		if suits(ep) {
			fallback = ep
		}
	}
	return fallback
}

// whyEmpty says, for people, why a cluster has no endpoint.
func (c *Call) whyEmpty() string {
	set := c.engine.registry.Get(c.cluster.def.Set)
	switch {
	case set == nil:
		return "the endpoints of the service are not known yet"
	case set.Len() == 0 && set.Missing() != "":
		return "the service has no endpoints: " + set.Missing()
	case set.Len() == 0:
		return "the service has no endpoints"
	}
	if why := c.cluster.allEjected(); why != "" {
		return why
	}
	if len(c.cluster.def.Select) > 0 {
		return fmt.Sprintf("none of the service's %d endpoints has the labels of subset %s", set.Len(), c.cluster.def.Subset)
	}
	return ""
}

// An Attempt is one try on one endpoint. It is a value: copying it is free, but Finish is called once.
type Attempt struct {
	Endpoint *balance.Endpoint
	cluster  *cluster
	pass     resilience.Pass // of the service's circuit breaker
	began    time.Duration
	before   uint32 // microseconds that the call had taken by then, of an hour at most; for the call's own duration
	limited  bool   // counted against the limit of its cluster
	bounded  bool   // the rule bounds the call's time
}

func before(d time.Duration) uint32 {
	return uint32(min(max(d, 0), time.Hour) / time.Microsecond)
}

// Answered notes the verdict on the endpoint, at the response head or at the failure, and once more where
// the body breaks off after the head. That a kept connection had ended by the time it was used is nobody's fault.
func (a Attempt) Answered(o call.Outcome) {
	a.pass.Record(&o)
	switch {
	case o.StaleReuse:
		return
	case o.Neutral():
	case o.Failed():
		a.Endpoint.Failed()
	default:
		a.Endpoint.Succeeded()
	}
	if p := a.cluster.def.Policy.Outlier; p != nil && p.Note(a.Endpoint.Streaks(), &o) {
		a.cluster.engine.eject(a.cluster.records, a.Endpoint)
	}
}

// Finish ends the accounting of the attempt, when its body has ended or there will be none. It gives how long it took.
func (a Attempt) Finish() time.Duration {
	a.leave()
	e := a.cluster.engine
	took := e.now() - a.began
	if a.Endpoint.End(took) {
		e.release(a.Endpoint)
	}
	return took
}

// finish is Finish, and gives how long the whole call took.
func (a Attempt) finish() time.Duration {
	return a.Finish() + time.Duration(a.before)*time.Microsecond
}

// leave ends the counting of the attempt, by the circuit breaker of its service and against the limit of its cluster.
func (a Attempt) leave() {
	a.pass.Release()
	if a.limited {
		a.cluster.records.load.Requests.Leave()
	}
}

// Policy gives the policy of the call's cluster. It must not be changed.
func (c *Call) Policy() *snapshot.Policy { return &c.cluster.def.Policy }

// End closes the call's books. err is what the caller will see, nil where it gets an answer.
func (c *Call) End(err error) {
	c.settle()
	if c.info == nil {
		return
	}
	c.info.Attempts = c.attempts
	c.info.Duration = c.engine.now() - c.began
	if c.info.Reason = call.ReasonOf(err); c.info.Reason != call.ReasonNone {
		c.info.Details = c.details(c.info.Reason)
	}
	if c.route != nil {
		c.info.Route = c.routeName
	}
	if c.last != nil {
		c.info.Endpoint = c.last.Def.Address.String()
	}
	c.info.Host = c.hostPort()
	c.info = nil // it is the program's from now on
}

// Fail makes the error of a call that got no answer.
func (c *Call) Fail(o call.Outcome, cause error) *call.Error {
	detail := ""
	if o.Reason == call.ReasonTimeout && o.PerTry {
		detail = "no answer within the rule's perTryTimeout"
	}
	e := c.fail(o.Reason, cause, detail)
	if o.Told { // the caller of an RPC hears what it would say itself (gRPC, status codes: DEADLINE_EXCEEDED)
		e.GRPC = 4 + 1
	}
	return e
}

// FailDirect wraps the failure of a call that passed through, where the mesh can say more than the cause:
// the host is known, but on other ports. Otherwise it gives the cause itself.
func (c *Call) FailDirect(cause error) error {
	if len(c.known) == 0 {
		return cause
	}
	return c.fail(call.ReasonConnect, cause, fmt.Sprintf(
		"the mesh does not know the host on port %d, but on %s; the call passed through", c.port, portList(c.known)))
}

func portList(ports []uint16) string {
	list := make([]string, len(ports))
	for i, p := range ports {
		list[i] = strconv.Itoa(int(p))
	}
	return strings.Join(list, ", ")
}

func (c *Call) reject(r call.Reason, detail string) Step {
	return Step{Kind: Reject, Err: c.fail(r, nil, detail)}
}

func (c *Call) fail(r call.Reason, cause error, detail string) *call.Error {
	e := &call.Error{Reason: r, Host: c.hostPort(), Attempts: c.attempts, Err: cause, Detail: detail}
	if c.route != nil {
		e.Route = c.routeName
	}
	if c.cluster != nil {
		e.Cluster = c.cluster.def.Name
	}
	if c.last != nil {
		e.Endpoint = c.last.Def.Address.String()
	}
	return e
}

func (c *Call) hostPort() string {
	if host, _, err := call.SplitAuthority(c.host); err == nil {
		return net.JoinHostPort(host, strconv.Itoa(int(c.port)))
	}
	return strings.Clone(c.host)
}

func (c *Call) seen(cluster string) {
	if c.info != nil {
		c.info.Cluster = cluster
	}
}
