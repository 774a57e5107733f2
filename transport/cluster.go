package transport

import (
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// A cluster is one definition of a cluster with its current endpoints. A snapshot that defines the cluster
// anew makes another; both draw on the same records.
type cluster struct {
	def     *snapshot.Cluster
	records *records
	picker  atomic.Pointer[members]
}

type members struct {
	balance.Picker
	// unresolved is there while discovery has not published the cluster's set: it is closed when it has, and
	// when the cluster is given up.
	unresolved chan struct{}
	// moved is the same cluster in a later snapshot, where this one was given up before it was resolved.
	moved *cluster
}

// records are the live endpoint records of one cluster name. Guarded by Engine.mu.
type records struct {
	byKey map[recordKey]*balance.Endpoint
	// timeout is the policy's by which the pools of all of them were opened.
	timeout time.Duration
}

// recordKey: what makes another connection pool makes another record.
type recordKey struct {
	addr  discovery.Address
	proto snapshot.Protocol
}

// refresh filters the cluster's discovery set and gives it a new picker. Records of addresses that stay
// keep their state; those that go are retired. Engine.mu is held.
func (e *Engine) refresh(c *cluster) {
	var list []*balance.Endpoint
	keep := make(map[recordKey]bool)
	var replaced []any // pools
	reopen := c.records.timeout != c.def.Policy.ConnectTimeout
	c.records.timeout = c.def.Policy.ConnectTimeout
	set := e.registry.Get(c.def.Set)
	if set != nil && !c.def.Direct {
		for i := range set.Len() {
			d := set.At(i)
			if !d.Matches(c.def.Select) {
				continue
			}
			key := recordKey{d.Address, c.def.Policy.Protocol}
			if keep[key] {
				continue // defined twice, in the middle of a change (discovery.Union)
			}
			ep := c.records.byKey[key]
			switch {
			case ep == nil:
				ep = balance.NewEndpoint(d, e.pools.Open(d, c.def.Policy))
			case reopen:
				replaced = append(replaced, ep.Conns)
				ep = ep.Redefined(d)
				ep.Reopened(e.pools.Open(d, c.def.Policy))
			case ep.Def != d:
				ep = ep.Redefined(d) // the same state under new labels or weight
			}
			c.records.byKey[key] = ep
			keep[key] = true
			list = append(list, ep)
		}
	}
	m := &members{Picker: balance.New(c.def.Policy.Balancer, list, e.rand())}
	if set == nil && !c.def.Direct {
		m.unresolved = c.waiting()
		if m.unresolved == nil {
			m.unresolved = make(chan struct{})
		}
	}
	c.become(m)
	e.retire(c.records, keep)
	for _, conns := range replaced {
		e.pools.Release(conns)
	}
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
		c.become(&members{Picker: c.picker.Load().Picker, moved: successor})
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
}

// release lets go of an endpoint's connections: those of the record at hand, and where its pool has been
// opened anew since, the newest.
func (e *Engine) release(ep *balance.Endpoint) {
	e.pools.Release(ep.Conns)
	if newest := ep.Newest(); newest != nil {
		e.pools.Release(newest)
	}
}
