package transport

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// A cluster is one definition of a cluster with its current endpoints. A snapshot that defines the cluster
// anew makes another; both draw on the same records.
type cluster struct {
	engine  *Engine
	def     *snapshot.Cluster
	records *records
	breaker *resilience.Breaker // of the service, nil for none
	picker  atomic.Pointer[members]
}

type members struct {
	balance.Picker
	// all are the cluster's endpoints, those too that its locality policy sends nothing to.
	all []*balance.Endpoint
	// unresolved is there while discovery has not published the cluster's set: it is closed when it has, and
	// when the cluster is given up.
	unresolved chan struct{}
	// moved is the same cluster in a later snapshot, where this one was given up before it was resolved.
	moved *cluster
}

// records are the live endpoint records of one cluster name. Guarded by Engine.mu.
type records struct {
	byKey map[recordKey]*balance.Endpoint
	tls   []*snapshot.TLS // those of the keys: two that are equal are one
	// timeout and conns are the policy's by which the pools of all of them were opened.
	timeout time.Duration
	conns   snapshot.Connections
	limits  resilience.Limits
	load    *Load

	// What follows is not guarded by Engine.mu.
	live    atomic.Pointer[cluster] // the definition that the endpoints were last read by; set before the first pick
	due     atomic.Int64            // when an ejected endpoint comes back, 0 where none is out
	retries resilience.Retries

	ejecting sync.Mutex // guards what follows; may be taken while Engine.mu is held, not the other way round
	judged   bool       // there has been a policy that ejects
	began    time.Duration
	history  map[balance.ID]*resilience.Ejection // of the endpoints that were ever ejected
}

// recordKey: what speaks to another peer, or in another way, is another record.
type recordKey struct {
	addr  discovery.Address
	proto snapshot.Protocol
	tls   *snapshot.TLS // one of records.tls, nil for plain text
}

// one gives that of the records' policies which is equal to t.
func (r *records) one(t *snapshot.TLS) *snapshot.TLS {
	if t == nil {
		return nil
	}
	for _, had := range r.tls {
		if *had == *t {
			return had
		}
	}
	r.tls = append(r.tls, t)
	return t
}

// refresh filters the cluster's discovery set and gives it a new picker. Records of addresses that stay
// keep their state; those that go are retired. Engine.mu is held.
func (e *Engine) refresh(c *cluster) {
	var list []*balance.Endpoint
	keep := make(map[recordKey]bool)
	var replaced []any // pools
	policy := &c.def.Policy
	reopen := c.records.timeout != policy.ConnectTimeout || c.records.conns != policy.Connections ||
		c.records.limits != policy.Limits
	c.records.timeout, c.records.conns, c.records.limits = policy.ConnectTimeout, policy.Connections, policy.Limits
	set := e.registry.Get(c.def.Set)
	if set != nil && !c.def.Direct {
		now := e.now() // once: what joins together warms up together
		for i := range set.Len() {
			d := set.At(i)
			if !d.Matches(c.def.Select) {
				continue
			}
			policy := e.EndpointPolicy(policy, d)
			key := recordKey{addr: d.Address, proto: policy.Protocol, tls: c.records.one(policy.TLS)}
			if keep[key] {
				continue // defined twice, in the middle of a change (discovery.Union)
			}
			ep := c.records.byKey[key]
			switch {
			case ep == nil:
				ep = balance.NewEndpoint(d, e.pools.Open(d, *policy, c.records.load))
				ep.Join(now)
			case reopen:
				replaced = append(replaced, ep.Conns)
				ep = ep.Redefined(d)
				ep.Reopened(e.pools.Open(d, *policy, c.records.load))
			case ep.Def != d:
				ep = ep.Redefined(d) // the same state under new labels or weight
			}
			c.records.byKey[key] = ep
			keep[key] = true
			list = append(list, ep)
		}
	}
	m := &members{Picker: balance.New(policy.Config, list, e.rand()), all: list}
	if set == nil && !c.def.Direct {
		m.unresolved = c.waiting()
		if m.unresolved == nil {
			m.unresolved = make(chan struct{})
		}
	}
	c.become(m)
	c.records.settle(c, list, e.now())
	e.retire(c.records, keep)
	for _, conns := range replaced {
		e.pools.Release(conns)
	}
}

// EndpointPolicy is a cluster's policy for one of its endpoints: which may take mutual TLS, and has its own service account to
// prove.
func (e *Engine) EndpointPolicy(p *snapshot.Policy, d *discovery.Endpoint) *snapshot.Policy {
	t := p.TLS
	if t == nil && d.MTLS && e.identity != nil {
		t = p.Automatic
	}
	if t == p.TLS && (t == nil || !t.Mesh || d.ServiceAccount == "") {
		return p
	}
	own, secured := *p, *t
	if d.ServiceAccount != "" {
		secured.Accounts = d.Namespace + "/" + d.ServiceAccount
	}
	own.TLS = &secured
	return &own
}

// waiting gives what calls for the cluster's first endpoints wait on, nil where there is nothing to wait for.
func (c *cluster) waiting() chan struct{} {
	if m := c.picker.Load(); m != nil {
		return m.unresolved
	}
	return nil
}

// become replaces the members and wakes who waited for that. Engine.mu is held.
func (c *cluster) become(m *members) {
	old := c.waiting()
	c.picker.Store(m)
	if old != nil && m.unresolved == nil {
		close(old)
	}
}

// giveUp ends the waiting for the first endpoints of a cluster that will not be refreshed any more. Calls go
// on with its successor, where there is one. Engine.mu is held.
func (c *cluster) giveUp(successor *cluster) {
	if c.waiting() != nil {
		m := c.picker.Load()
		c.become(&members{Picker: m.Picker, all: m.all, moved: successor})
	}
}

// retire takes out the records that are not kept. Their connections go when the last attempt on them ends.
func (e *Engine) retire(r *records, keep map[recordKey]bool) {
	for key, ep := range r.byKey {
		if keep[key] {
			continue
		}
		delete(r.byKey, key)
		if ep.Retire() {
			e.release(ep)
		}
	}
	if len(r.tls) > 0 {
		used := make(map[*snapshot.TLS]bool, len(r.tls))
		for key := range r.byKey {
			used[key.tls] = true
		}
		r.tls = slices.DeleteFunc(r.tls, func(t *snapshot.TLS) bool { return !used[t] })
	}
}

// OnRetired has f told of the address of each endpoint that is gone, when its last attempt is over, until stop: for drivers
// with connections of their own. It is called concurrently and must neither wait nor call the engine. Other endpoints can
// have the address still.
func (e *Engine) OnRetired(f func(discovery.Address)) (stop func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.retired.Store(new(append(slices.Clone(e.hooks()), &f)))
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.retired.Store(new(slices.DeleteFunc(slices.Clone(e.hooks()), func(h *func(discovery.Address)) bool { return h == &f })))
	}
}

func (e *Engine) hooks() []*func(discovery.Address) {
	if list := e.retired.Load(); list != nil {
		return *list
	}
	return nil
}

// release lets go of an endpoint's connections: those of the record at hand, and where its pool has been
// opened anew since, the newest.
func (e *Engine) release(ep *balance.Endpoint) {
	for _, f := range e.hooks() {
		(*f)(ep.Def.Address)
	}
	e.pools.Release(ep.Conns)
	if newest := ep.Newest(); newest != nil {
		e.pools.Release(newest)
	}
}
