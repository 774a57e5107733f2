package transport

import (
	"sync/atomic"

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
}

// records are the live endpoint records of one cluster name. Guarded by Engine.mu.
type records struct {
	byKey map[recordKey]*balance.Endpoint
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
	if set := e.registry.Get(c.def.Set); set != nil && !c.def.Direct {
		for i := range set.Len() {
			d := set.At(i)
			if !d.Matches(c.def.Select) {
				continue
			}
			key := recordKey{d.Address, c.def.Policy.Protocol}
			ep := c.records.byKey[key]
			switch {
			case ep == nil:
				ep = balance.NewEndpoint(d, e.pools.Open(d, c.def.Policy))
			case ep.Def != d:
				ep = ep.Redefined(d) // the same state under new labels or weight
			}
			c.records.byKey[key] = ep
			keep[key] = true
			list = append(list, ep)
		}
	}
	c.picker.Store(&members{balance.New(c.def.Policy.Balancer, list, e.rand())})
	e.retire(c.records, keep)
}

// retire takes out the records that are not kept. Their connections go when the last attempt on them ends.
func (e *Engine) retire(r *records, keep map[recordKey]bool) {
	for key, ep := range r.byKey {
		if keep[key] {
			continue
		}
		delete(r.byKey, key)
		if ep.Retire() {
			e.pools.Release(ep.Conns)
		}
	}
}
