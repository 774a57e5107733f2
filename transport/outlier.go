package transport

import (
	"fmt"
	"slices"
	"time"

	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/routing/balance"
)

// Ejection is decided where an attempt's outcome is known, and takes effect there: every pick from then on passes over the
// endpoint. An endpoint comes back at a sweep (resilience.Outlier), which nobody waits for: the first pick after it, or
// whoever looks at the cluster, carries it out. There is no goroutine and no timer.

// ejected gives the history of an endpoint's ejections, nil where there is none. r.ejecting is held.
func (r *records) ejected(ep *balance.Endpoint) *resilience.Ejection { return r.history[ep.ID()] }

// eject takes an endpoint out that has failed too often in a row, unless too many are out already (Envoy,
// DetectorImpl::ejectHost).
func (e *Engine) eject(r *records, ep *balance.Endpoint) {
	now := e.now()
	e.sweepDue(r, now)
	if r.eject(ep, now) {
		e.repick(r)
	}
}

func (r *records) eject(ep *balance.Endpoint, now time.Duration) bool {
	r.ejecting.Lock()
	defer r.ejecting.Unlock()
	c := r.live.Load()
	p, all := c.def.Policy.Outlier, c.picker.Load().all
	if p == nil || !ep.Healthy() || !slices.ContainsFunc(all, ep.Same) || !p.Allows(len(all)-balance.Healthy(all), len(all)) {
		return false
	}
	x := r.ejected(ep)
	if x == nil {
		x = new(resilience.Ejection)
		if r.history == nil {
			r.history = make(map[balance.ID]*resilience.Ejection)
		}
		r.history[ep.ID()] = x
	}
	p.Eject(x, r.began, now)
	r.load.counts.ejections.Add(1)
	ep.Eject()
	ep.Streaks().Forget()
	r.schedule(p)
	return true
}

// schedule notes when the next endpoint comes back. r.ejecting is held.
func (r *records) schedule(p *resilience.Outlier) {
	next := time.Duration(0)
	for _, x := range r.history {
		if !x.Out {
			continue
		}
		if until := p.Until(x, r.began); next == 0 || until < next {
			next = until
		}
	}
	r.due.Store(int64(next))
}

// sweepDue puts back the endpoints whose ejection is over. While none is, it costs one load.
func (e *Engine) sweepDue(r *records, now time.Duration) {
	if due := r.due.Load(); due != 0 && due <= int64(now) {
		r.sweep(now)
		e.repick(r)
	}
}

func (r *records) sweep(now time.Duration) {
	r.ejecting.Lock()
	defer r.ejecting.Unlock()
	c := r.live.Load()
	p := c.def.Policy.Outlier
	if p == nil {
		r.due.Store(0)
		return
	}
	for _, ep := range c.picker.Load().all {
		if x := r.ejected(ep); x != nil && x.Out && p.Until(x, r.began) <= now {
			p.Release(x, r.began)
			ep.Streaks().Forget()
			ep.Uneject()
		}
	}
	r.schedule(p)
}

// asSoonAsPossible is a time for records.due that has always come.
const asSoonAsPossible = 1

// repick makes the cluster's picker anew where that depends on how many endpoints are healthy. Where the configuration is
// just changing it leaves it to a later pick: no call waits for that.
func (e *Engine) repick(r *records) {
	if c := r.live.Load().def; c.Policy.Locality == nil && c.Policy.PanicThreshold == 0 {
		return
	}
	if !e.mu.TryLock() {
		r.due.Store(asSoonAsPossible)
		return
	}
	defer e.mu.Unlock()
	c := r.live.Load()
	next := *c.picker.Load()
	next.Picker = balance.New(c.def.Policy.Config, next.all, e.rand())
	c.become(&next)
}

// settle makes a cluster's definition, whose endpoints have been read, that by which its records are judged. What is
// ejected stays so, by the new policy's times; where that ejects nothing, everything comes back. Engine.mu is held.
func (r *records) settle(c *cluster, all []*balance.Endpoint, now time.Duration) {
	r.ejecting.Lock()
	defer r.ejecting.Unlock()
	r.live.Store(c)
	p := c.def.Policy.Outlier
	if p == nil {
		for _, ep := range all {
			ep.Uneject()
			ep.Streaks().Forget()
		}
		r.history = nil
		r.due.Store(0)
		return
	}
	if !r.judged {
		r.judged, r.began = true, now
	}
	if r.history == nil {
		return
	}
	kept := make(map[balance.ID]*resilience.Ejection, len(r.history))
	for _, ep := range all {
		if x := r.ejected(ep); x != nil {
			kept[ep.ID()] = x
		}
	}
	r.history = kept
	r.schedule(p)
}

// An EjectionView is what outlier detection has done to an endpoint that is out.
type EjectionView struct {
	Times int           `json:"times"` // how often of late, this one included
	Left  time.Duration `json:"left"`  // until it comes back
}

// ejections gives a function that tells of each endpoint whether it is out.
func (c *cluster) ejections(now time.Duration) func(*balance.Endpoint) *EjectionView {
	r := c.records
	r.ejecting.Lock()
	defer r.ejecting.Unlock()
	p := r.live.Load().def.Policy.Outlier
	views := make(map[balance.ID]*EjectionView)
	for id, x := range r.history {
		if p != nil && x.Out {
			views[id] = &EjectionView{Times: x.Times, Left: p.Until(x, r.began) - now}
		}
	}
	return func(ep *balance.Endpoint) *EjectionView { return views[ep.ID()] }
}

// sweepAll carries out what is due in all clusters, for who looks at them.
func (e *Engine) sweepAll(st *state, now time.Duration) {
	for _, c := range st.clusters {
		e.sweepDue(c.records, now)
	}
}

// allEjected says that it is ejection which leaves a cluster without an endpoint, "" where it is not.
func (c *cluster) allEjected() string {
	all := c.picker.Load().all
	switch {
	case len(all) == 0 || balance.Healthy(all) > 0:
		return ""
	case len(all) == 1:
		return "the only endpoint is ejected by outlier detection"
	}
	return fmt.Sprintf("all %d endpoints are ejected by outlier detection", len(all))
}
