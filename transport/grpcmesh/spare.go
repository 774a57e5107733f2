package grpcmesh

import (
	"math"
	"slices"
	"time"

	"google.golang.org/grpc/resolver"
)

// spareIdle is how long a further connection to an endpoint is kept without an attempt, where the policy's idle time is longer.
const spareIdle = time.Minute

// enter counts an attempt on the connection if it is there and the endpoint takes one more stream on it.
func (c *conn) enter() bool {
	if !c.status.Load().ready {
		return false
	}
	if c.active.Add(1) <= c.streams.Load() {
		return true
	}
	c.leave()
	return false
}

// room counts an attempt on one of the connections to c's endpoint, nil where all that there are take no more.
func (c *conn) room() *conn {
	if c.enter() {
		return c
	}
	if list := c.spares.Load(); list != nil {
		for _, s := range *list {
			if s.enter() {
				return s
			}
		}
	}
	return nil
}

// more makes a further connection to c's endpoint, where all take no more streams: one that got ready since is given as room gives it. wait
// says that waiting for one can help: else the policy allows no other (tcp.maxConnections), or the last one could not be made.
func (c *conn) more() (since *conn, wait bool) {
	c.starved.Store(true)
	b := c.of
	b.mu.Lock() // no connection gets ready meanwhile
	defer b.mu.Unlock()
	if since = c.room(); since != nil {
		return since, false
	}
	var list []*conn
	if old := c.spares.Load(); old != nil {
		list = *old
	}
	for _, s := range list {
		if st := s.status.Load(); !st.ready {
			return nil, st.err == nil // on its way
		}
	}
	m := memberOf(c.to.Attributes)
	if most := m.policy.Limits.Connections; c.removed || most > 0 && b.countOf(m.cluster) >= most {
		return nil, false
	}
	next := b.connect(c.to)
	if next == nil {
		return nil, false
	}
	next.first.Store(c)
	c.spares.Store(new(append(slices.Clone(list), next)))
	next.want()
	return nil, true
}

// countOf gives how many connections the channel has to the cluster, or is making. b.mu is held.
func (b *connector) countOf(cluster string) (n int) {
	for _, c := range b.conns.byID {
		if memberOf(c.to.Attributes).cluster == cluster {
			for range c.all {
				n++
			}
		}
	}
	return n
}

// all gives c and its spares; b.mu is held. It is an iterator.
func (c *conn) all(yield func(*conn) bool) {
	if !yield(c) {
		return
	}
	if list := c.spares.Load(); list != nil {
		for _, s := range *list {
			if !yield(s) {
				return
			}
		}
	}
}

// drop takes a spare out, whose streams go on to their end. b.mu is held.
func (b *connector) drop(c *conn) {
	first := c.first.Load()
	if list := first.spares.Load(); list != nil {
		first.spares.Store(new(slices.DeleteFunc(slices.Clone(*list), func(s *conn) bool { return s == c })))
	}
	b.remove(c)
}

// takeOver gives next the spares of c, in whose place it comes. b.mu is held.
func (c *conn) takeOver(next *conn) {
	list := c.spares.Swap(nil)
	if list == nil {
		return
	}
	for _, s := range *list {
		s.first.Store(next)
	}
	next.spares.Store(list)
}

// freed wakes those who wait for a stream on a connection to the endpoint.
func (c *conn) freed() {
	if c.starved.Load() && c.starved.Swap(false) {
		c.of.mu.Lock()
		defer c.of.mu.Unlock()
		c.of.publish()
	}
}

// unlimited is how many streams a connection takes whose endpoint has not said.
const unlimited = math.MaxInt64

// Which connection it is stands in an address's attributes, for the handshake.
type connKey struct{}

func (c *conn) address() resolver.Address {
	to := c.to
	to.Attributes = to.Attributes.WithValue(connKey{}, c)
	return to
}
