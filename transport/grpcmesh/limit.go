package grpcmesh

import (
	"maps"
	"time"
)

// An idleLimit ends a connection that has had no attempt under way for some time. It is immutable.
type idleLimit struct {
	timer *time.Timer
	after time.Duration
}

// limit starts the time that a connection has, which is connected now: without an attempt (connectionPool http.idleTimeout, else
// tcp.idleTimeout) and in all (tcp.maxConnectionDuration, and what its certificates have left). b.mu is held.
func (b *connector) limit(c *conn) {
	m := memberOf(c.to.Attributes)
	if m == nil || m.outside {
		return
	}
	c.stopTimers()
	set := &m.policy.Connections
	age := set.MaxAge
	if rests := c.made.rests.Load(); rests != 0 {
		if left := max(time.Until(time.Unix(0, rests)), time.Millisecond); age == 0 || left < age {
			age = left
		}
	}
	if age > 0 {
		c.age = time.AfterFunc(age, func() { b.replace(m, c, false) })
	}
	idle := set.Idle
	if c.first.Load() != nil && (idle == 0 || idle > spareIdle) {
		idle = spareIdle
	}
	if idle > 0 {
		c.idle.Store(&idleLimit{time.AfterFunc(idle, func() { b.replace(m, c, true) }), idle})
	}
}

// replace puts a conn that is not connected in the place of one, which goes when its streams have ended: whoever picks it
// next connects anew. An attempt that has picked the old one at this moment is picked again by grpc-go.
func (b *connector) replace(m *member, c *conn, idle bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.removed || idle && c.active.Load() > 0 {
		return
	}
	if c.first.Load() != nil {
		b.drop(c)
		b.publish()
		return
	}
	if b.conns.byID[m.id] != c {
		return
	}
	next := b.connect(c.to)
	if next == nil {
		return
	}
	conns := &connSet{byID: maps.Clone(b.conns.byID), outside: b.conns.outside}
	conns.byID[m.id] = next
	c.takeOver(next)
	b.conns = conns
	b.remove(c)
	b.publish()
}

// begin counts an attempt on the connection, and done takes it back.
func (c *conn) begin() { c.active.Add(1) }

func (c *conn) done() {
	c.leave()
	if first := c.first.Load(); first != nil {
		c = first
	}
	c.freed()
}

func (c *conn) leave() {
	if c.active.Add(-1) == 0 {
		if l := c.idle.Load(); l != nil {
			l.timer.Reset(l.after)
		}
	}
}

func (c *conn) stopTimers() {
	if c.age != nil {
		c.age.Stop()
		c.age = nil
	}
	if l := c.idle.Swap(nil); l != nil {
		l.timer.Stop()
	}
}
