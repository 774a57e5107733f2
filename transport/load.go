package transport

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/resilience"
)

// A Load is what a cluster has taken at the moment, whichever way its calls go, and who waits for a connection. Its zero
// value is ready for use; it is safe for concurrent use.
type Load struct {
	resilience.Load
	counts      clusterCounts
	connections connectionCounts

	waiters atomic.Int32 // len(waiting), and those at leaves themselves
	again   atomic.Bool  // something changed while mu was held

	mu      sync.Mutex // guards what follows
	waiting []*waiter  // who came first is first
	leaves  []bounded
}

// A bounded leaf is one whose connections count against the limits of a cluster.
type bounded interface {
	// makeRoom closes a connection that no request uses. It reports whether there was one, as far as it can know.
	makeRoom() bool
	// wake serves those who wait at the leaf itself.
	wake()
}

// A waiter is a request that waits for a connection.
type waiter struct {
	leaf *http1Leaf
	name string
	// got takes one: a connection that was kept, or nil for leave to open one.
	got chan *http1Conn
}

// join makes the leaf's idle connections count among those that can make room for others.
func (l *Load) join(f bounded) {
	l.mu.Lock()
	l.leaves = append(l.leaves, f)
	l.mu.Unlock()
	l.wake()
}

func (l *Load) leave(f bounded) {
	l.mu.Lock()
	l.leaves = slices.DeleteFunc(l.leaves, func(o bounded) bool { return o == f })
	l.mu.Unlock()
	l.wake()
}

// connect gives the leaf a connection within the limits of the cluster: a new one, or one that became free while the
// request waited. It gives an overflow at once where as many wait as may, and the context's error where that ends. again says
// that what the request was given before was dead: it has waited already, is not refused, and comes before all others.
func (l *Load) connect(ctx context.Context, f *http1Leaf, name string, again bool) (*http1Conn, error) {
	limits := &f.leaf.key.limits
	if again {
		l.Pending.Enter(0)
	} else if err := l.pend(limits.Pending); err != nil {
		return nil, err
	}
	defer l.Pending.Leave()
	if !again && l.waiters.Load() > 0 || !l.Connections.Enter(limits.Connections) {
		c, err := l.wait(ctx, f, name, again)
		if c != nil || err != nil {
			return c, err
		}
	}
	opened := false
	defer func() {
		if !opened { // it failed, or the program's dialer panicked
			l.Connections.Leave()
			l.wake()
		}
	}()
	c, err := f.open(ctx, name)
	opened = err == nil
	return c, err
}

// Occupy takes one of the places for connections that the call's cluster has (tcp.maxConnections), whichever endpoint it is to, for one of a
// driver's own that nobody waits for; leave gives it back. Where none is left, and no request lets one go, the call has overflowed, and is not to
// be tried again (Envoy, tcp_proxy and upstream_cx_overflow).
func (c *Call) Occupy() (leave func(), err error) {
	l, most := c.cluster.records.load, c.cluster.def.Policy.Limits.Connections
	if !l.Connections.Enter(most) && (!l.makeRoom() || !l.Connections.Enter(most)) {
		l.connections.overflow.Add(1)
		return nil, c.fail(call.ReasonOverflow, nil, fmt.Sprintf("%d connections are open, as many as maxConnections allows", most))
	}
	return func() {
		l.Connections.Leave()
		l.wake()
	}, nil
}

// pend counts a request that has no connection yet, where http1MaxPendingRequests lets it. In spite of its name that holds
// for HTTP/2 too (Envoy's max_pending_requests).
func (l *Load) pend(most int) error {
	if l.Pending.Enter(most) {
		return nil
	}
	l.counts.overflow.Add(1)
	return &exchangeError{call.Outcome{Reason: call.ReasonOverflow},
		fmt.Errorf("%d requests wait for a connection, as many as http1MaxPendingRequests allows", most)}
}

// wait gives a connection that became free, or nil for leave to open one; to who waits again before all others.
func (l *Load) wait(ctx context.Context, f *http1Leaf, name string, again bool) (*http1Conn, error) {
	l.connections.overflow.Add(1)
	w := &waiter{leaf: f, name: name, got: make(chan *http1Conn, 1)}
	l.mu.Lock()
	if again {
		l.waiting = append([]*waiter{w}, l.waiting...)
	} else {
		l.waiting = append(l.waiting, w)
	}
	l.waiters.Add(1)
	l.mu.Unlock()
	l.wake()
	select {
	case c := <-w.got:
		return c, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	i := slices.Index(l.waiting, w)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.waiters.Add(-1)
	}
	l.mu.Unlock()
	if i < 0 { // it was given something at that moment
		if c := <-w.got; c != nil {
			f.pool.Put(c.name, c.conn, c.since)
		} else {
			l.Connections.Leave()
		}
	}
	l.wake()
	return nil, context.Cause(ctx)
}

// wake gives those who wait what has become free. It may be called while it runs.
func (l *Load) wake() {
	if l.waiters.Load() == 0 {
		return
	}
	l.again.Store(true)
	for l.again.Load() && l.mu.TryLock() {
		l.again.Store(false)
		for len(l.waiting) > 0 && l.serve(l.waiting[0]) {
			l.waiting = slices.Delete(l.waiting, 0, 1)
			l.waiters.Add(-1)
		}
		for _, f := range l.leaves {
			f.wake()
		}
		l.mu.Unlock()
	}
}

// makeRoom closes a connection of the cluster that no request uses. It reports whether there was one, as far as it can know.
func (l *Load) makeRoom() bool {
	if !l.mu.TryLock() {
		return false
	}
	made := slices.ContainsFunc(l.leaves, bounded.makeRoom)
	l.mu.Unlock()
	if l.again.Load() {
		l.wake()
	}
	return made
}

// serve gives the first of them a connection of its leaf, or leave to open one. Where others have all of them idle, one
// of those goes. mu is held.
func (l *Load) serve(w *waiter) bool {
	for {
		if c := w.leaf.kept(w.name); c != nil {
			w.got <- c
			return true
		}
		if l.Connections.Enter(w.leaf.leaf.key.limits.Connections) {
			w.got <- nil
			return true
		}
		if !slices.ContainsFunc(l.leaves, bounded.makeRoom) {
			return false
		}
	}
}
