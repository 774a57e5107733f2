package transport

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
)

// Pools makes and releases the connection pools of endpoints. An implementation is safe for concurrent
// use; Open must not connect. The RoundTripper needs pools that are http.RoundTrippers.
type Pools interface {
	// load is the cluster's, of which the pool's connections are a part.
	Open(e *discovery.Endpoint, p snapshot.Policy, load *Load) (conns any)
	// Release says that the pool's endpoint is gone and its last attempt over, or that another pool has taken
	// its place: attempts may then still use it. It may be called again, and concurrently, for the same pool:
	// where an attempt began in between, or ended at that moment.
	Release(conns any)
}

// Config is what an Engine is made of.
type Config struct {
	Registry *discovery.Registry // required
	Pools    Pools               // required
	// Outbound says what becomes of calls to what the mesh does not know, where the snapshot does not say so.
	// Default: AllowAny.
	Outbound OutboundTrafficPolicy
	// Rand gives 64 random bits; it must be safe for concurrent use. Default: math/rand/v2's.
	Rand func() uint64
	// Now gives the time since some fixed moment. Default: the monotonic time since NewEngine.
	Now func() time.Duration
	// Trace gives the W3C traceparent and tracestate of the context's active span, "" where there is none;
	// it must be safe for concurrent use. Default: there never is a span.
	Trace func(ctx context.Context) (parent, state string)
	// IstioRetries repeats requests whatever their method, as Istio does. Default: one that may have been processed is
	// repeated only where it is idempotent.
	IstioRetries bool
	// Decided hears what policies decide about requests that come in: denials, and what AUDIT and dry-run policies
	// tell. It is called concurrently, before the request goes on, and must not wait. Default: nobody does.
	Decided func(PolicyEvent)
	// Authorizers are the program's own, whom CUSTOM policies ask by name, before providers of that name that documents have.
	// Default: none.
	Authorizers map[string]external.Authorizer
	// DialAuthorizer makes the clients of providers of kind external.GRPC. Default: what they would be asked about is
	// refused.
	DialAuthorizer DialAuthorizer
	// Identity is who the program is. Default: nobody, and there is no mutual TLS of the mesh's.
	Identity *identity.Identity
	// Metrics are where calls and requests are recorded. Default: nowhere.
	Metrics *telemetry.Store
	// Tracer makes the spans of calls and requests; it needs Metrics. Default: nobody does.
	Tracer *telemetry.Tracer
	// AccessLog hears of every call and request at its end. Default: nobody does.
	AccessLog *accesslog.Logs
	// Workload is what metrics call the program. Default: unknown.
	Workload telemetry.Workload
}

// An Engine holds the live configuration and the state that outlives it, and makes every decision of a
// call. It is safe for concurrent use.
type Engine struct {
	registry *discovery.Registry
	pools    Pools
	policy   OutboundTrafficPolicy
	rand     func() uint64
	now      func() time.Duration
	trace    func(context.Context) (parent, state string) // nil for none
	istio    bool                                         // retries do as Istio's
	identity *identity.Identity                           // nil for none
	live     *live                                        // what is under way, of the identity's connections and of requests
	metrics  *telemetry.Store                             // nil for none
	tracer   *telemetry.Tracer                            // nil for none
	workload telemetry.Workload
	arrived  arrivedGroups
	peers    peers
	access   *accesslog.Logs // nil for none
	failures failures
	ports    [8]atomic.Pointer[inboundName]

	onDecided func(PolicyEvent) // nil for nobody
	decided   struct {
		unauthenticated, denied, audited, shadow       atomic.Uint64
		externalDenied, externalFailed, externalOpened atomic.Uint64
	}

	authorizers    map[string]external.Authorizer
	dialAuthorizer DialAuthorizer // nil for none
	trail          string         // see newTrail

	state  atomic.Pointer[state]
	closed atomic.Bool
	cancel func() // ends the subscription to the registry

	background context.Context // of what no caller waits for; ends with the engine
	halt       func()
	mirrors    mirrors

	mu       sync.Mutex // guards what follows, and publication
	clusters map[string]*records
	breakers map[string]*resilience.Breaker // by the name of their policy
	changed  chan struct{}                  // closed at the next change; nil where nobody waits for it
	prepare  []*func(Ahead) func()          // see OnPublish

	retired atomic.Pointer[[]*func(discovery.Address)] // see OnRetired; replaced as a whole
}

// state is what one call pins: a snapshot and its clusters, by the snapshot's own index.
type state struct {
	snap     *snapshot.Snapshot
	policy   OutboundTrafficPolicy
	clusters []*cluster
	bySet    map[discovery.Key][]*cluster
	limits   []limit // by the snapshot's index
	inbound  []limit // those of them that limit what is received,
	claimed  []limit // and those that do by what tokens say
	asks     *authorization
}

// NewEngine makes an engine that knows no host yet: every call is one to the outside. Close releases it.
func NewEngine(c Config) *Engine {
	e := &Engine{registry: c.Registry, pools: c.Pools, policy: c.Outbound, rand: c.Rand, now: c.Now, trace: c.Trace, istio: c.IstioRetries,
		identity: c.Identity, onDecided: c.Decided, authorizers: c.Authorizers, dialAuthorizer: c.DialAuthorizer, trail: newTrail(),
		metrics: c.Metrics, tracer: c.Tracer, workload: c.Workload, access: c.AccessLog,
		clusters: make(map[string]*records)}
	e.arrived.seed = maphash.MakeSeed()
	if e.rand == nil {
		e.rand = rand.Uint64
	}
	if e.now == nil {
		base := time.Now()
		e.now = func() time.Duration { return time.Since(base) }
	}
	e.background, e.halt = context.WithCancel(context.Background())
	e.live = newLive(e.identity, e.background.Done())
	if e.metrics != nil && e.identity != nil {
		e.peers.tell(e.workload)
	}
	if l, ok := e.pools.(*Leaves); ok && e.identity != nil {
		l.live, l.says = e.live, e.peers.says
	}
	e.state.Store(&state{snap: &snapshot.Snapshot{}, policy: c.Outbound})
	if e.metrics != nil {
		e.metrics.Collect(e.families)
	}
	e.cancel = e.registry.Subscribe(e.endpointsChanged)
	return e
}

// Publish makes the snapshot live: calls that begin from now on use it, those under way keep the one they
// began with. Endpoint records — load, failures, connections — carry over by cluster and address. The
// snapshot must not be changed afterwards. It fails when ctx has ended or the engine is closed.
func (e *Engine) Publish(ctx context.Context, s *snapshot.Snapshot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var asked, asks *authorization
	defer func() { asked.retire(asks) }() // without the lock: it closes connections
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed.Load() {
		return call.ReasonClosed
	}
	old := e.state.Load()
	previous := make(map[string]*cluster, len(old.clusters))
	for _, c := range old.clusters {
		previous[c.def.Name] = c
	}
	next := &state{snap: s, policy: e.policyOf(s), clusters: make([]*cluster, len(s.Clusters)), bySet: make(map[discovery.Key][]*cluster)}
	next.limits, next.inbound, next.claimed = limitsOf(s, old)
	next.asks = e.authorizationOf(s, old.asks)
	e.breakers = breakersOf(s, e.breakers)
	live := make(map[string]*records, len(s.Clusters))
	for i := range s.Clusters {
		def := &s.Clusters[i]
		rec := e.clusters[def.Name]
		if rec == nil {
			rec = &records{byKey: make(map[recordKey]*balance.Endpoint), load: new(Load)}
		}
		live[def.Name] = rec
		c := previous[def.Name]
		if c == nil || !c.def.Same(def) {
			c = &cluster{engine: e, records: rec}
			c.def = def
			if def.Breaker != nil {
				c.breaker = e.breakers[def.Breaker.Name]
			}
			e.refresh(c)
		}
		next.clusters[i] = c
		next.bySet[def.Set] = append(next.bySet[def.Set], c)
	}
	told := e.goLive(next)
	asked, asks = old.asks, next.asks
	if e.metrics != nil {
		e.metrics.SetView(s.Metrics)
	}
	if e.access != nil {
		e.access.Set(s.AccessLog)
	}
	for i, c := range next.clusters {
		if old := previous[c.def.Name]; old != c && old != nil {
			old.giveUp(next.clusters[i])
			delete(previous, c.def.Name)
		}
	}
	for name, c := range previous {
		if live[name] == nil {
			c.giveUp(nil)
		}
	}
	for name, rec := range e.clusters {
		if live[name] == nil {
			e.retire(rec, nil)
		}
	}
	e.clusters = live
	e.tell()
	e.live.changed()
	for _, f := range told {
		f()
	}
	return nil
}

// KeysChanged tells that keys have changed by which tokens are verified: what is under way is asked about again, at once. It does
// not wait for that.
func (e *Engine) KeysChanged() { e.live.changed() }

// Outbound says what becomes, at this moment, of calls to what the mesh does not know.
func (e *Engine) Outbound() OutboundTrafficPolicy { return e.state.Load().policy }

// Snapshot gives the live configuration. It must not be changed.
func (e *Engine) Snapshot() *snapshot.Snapshot { return e.state.Load().snap }

// Close makes every further call fail with call.ReasonClosed and releases all connections that are not in
// use; those in use follow when their attempt ends. It does not wait. Further calls do nothing.
func (e *Engine) Close() {
	if e.closed.Swap(true) {
		return
	}
	e.cancel()
	e.halt()
	defer func() { e.state.Load().asks.retire(nil) }()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.state.Load().clusters {
		c.giveUp(nil)
	}
	for _, rec := range e.clusters {
		e.retire(rec, nil)
	}
	e.clusters = make(map[string]*records)
	e.tell()
}

func (e *Engine) endpointsChanged(key discovery.Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed.Load() {
		return
	}
	for _, c := range e.state.Load().bySet[key] {
		e.refresh(c)
	}
	e.tell()
}
