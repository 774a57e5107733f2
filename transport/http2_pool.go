package transport

import (
	"context"
	"slices"
	"time"
)

// An http2Pool is the connections of a leaf that were made under one name. It is guarded by its leaf's mu.
type http2Pool struct {
	leaf    *http2Leaf
	name    string
	conns   []*http2Conn // that are being opened or take requests
	waiting []*http2Waiter
	streams int // how many a connection takes at a time, as far as is known
}

// initialStreams is how many streams a connection is expected to take before one has said so (RFC 9113 §6.5.2 asks for no
// fewer).
const initialStreams = 100

// An http2Waiter is a request that waits for a connection.
type http2Waiter struct{ got chan http2Grant }

// An http2Grant is room for a request, a connection to open first, or why there is none.
type http2Grant struct {
	http2Lease
	open bool
	err  error
}

// take reserves room on the connection with the fewest requests under way; without a connection there is none.
func (p *http2Pool) take() http2Lease {
	for {
		var best *http2Conn
		least := 0
		for i := len(p.conns) - 1; i >= 0; i-- {
			c := p.conns[i]
			switch n, room := c.room(); {
			case room < 0:
				p.retire(c)
			case room > 0 && (best == nil || n < least):
				best, least = c, n
			}
		}
		if best == nil {
			return http2Lease{}
		}
		if best.cc.Reserve() == nil {
			return p.begin(best, least)
		}
		if n, _ := best.room(); best.streams > 0 && n < best.streams {
			p.retire(best) // it is going away
		}
	}
}

// begin counts a request on a connection that has a reservation.
func (p *http2Pool) begin(c *http2Conn, under int) http2Lease {
	c.begun++
	if c.begun == p.leaf.leaf.key.conns.MaxRequests || p.leaf.closed {
		p.retire(c)
	}
	return http2Lease{conn: c, reused: c.begun > 1, idle: under == 0}
}

// retire has a connection take no more requests; it is closed when it has none.
func (p *http2Pool) retire(c *http2Conn) {
	p.drop(c)
	f := p.leaf
	f.ending = append(f.ending, c)
	c.watch(true)
	if c.cc.InFlight() == 0 || c.cc.Err() != nil {
		f.again.Store(true)
	}
}

func (p *http2Pool) drop(c *http2Conn) {
	if i := slices.Index(p.conns, c); i >= 0 {
		p.conns = slices.Delete(p.conns, i, i+1)
	}
}

// serve gives those who wait, who came first before others, what room there is, and has connections opened for the rest.
func (p *http2Pool) serve() {
	for i := len(p.conns) - 1; i >= 0; i-- {
		if c := p.conns[i]; c.cc != nil && c.cc.Err() != nil {
			p.retire(c)
		}
	}
	p.watch()
	defer p.watch()
	for len(p.waiting) > 0 {
		l := p.take()
		if l.conn == nil {
			break
		}
		p.grant(http2Grant{http2Lease: l})
	}
	coming := 0 // room on connections that have none yet
	for _, c := range p.conns {
		if c.streams == 0 {
			coming += p.streams - 1
		}
	}
	for ; len(p.waiting) > coming; coming += p.streams - 1 {
		c := p.another()
		if c == nil {
			return
		}
		p.conns = append(p.conns, c)
		p.grant(http2Grant{http2Lease: http2Lease{conn: c}, open: true})
	}
}

// watch has connections tell of the end of streams while anyone waits for that.
func (p *http2Pool) watch() {
	for _, c := range p.conns {
		if c.cc != nil {
			c.watch(len(p.waiting) > 0)
		}
	}
}

// another gives a connection to be opened, where the cluster's limit lets it. An endpoint without any may have one in any
// case, as in Envoy: unlike one of HTTP/1.1, another endpoint's connection may never be idle.
func (p *http2Pool) another() *http2Conn {
	c := &http2Conn{pool: p}
	load, most := p.leaf.leaf.key.load, p.leaf.leaf.key.limits.Connections
	if load == nil || load.Connections.Enter(most) {
		return c
	}
	if load.makeRoom() && load.Connections.Enter(most) {
		return c
	}
	if len(p.conns) == 0 {
		load.Connections.Enter(0)
		return c
	}
	return nil
}

func (p *http2Pool) grant(g http2Grant) {
	w := p.waiting[0]
	p.waiting = slices.Delete(p.waiting, 0, 1)
	w.got <- g
}

// wait gives room once there is some, at most as long as the context lasts. The leaf's mu is held, and is not when it
// returns.
func (p *http2Pool) wait(ctx context.Context) (http2Lease, error) {
	f := p.leaf
	if load := f.leaf.key.load; load != nil {
		if err := load.pend(f.leaf.key.limits.Pending); err != nil {
			f.again.Store(true)
			f.unlock()
			return http2Lease{}, err
		}
		load.waiters.Add(1)
		defer load.Pending.Leave()
		defer load.waiters.Add(-1)
	}
	w := &http2Waiter{got: make(chan http2Grant, 1)}
	p.waiting = append(p.waiting, w)
	f.again.Store(true)
	f.unlock()
	select {
	case g := <-w.got:
		return p.granted(ctx, g)
	case <-ctx.Done():
	}
	f.mu.Lock()
	if i := slices.Index(p.waiting, w); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	} else if g := <-w.got; g.open { // it was given something at that moment
		p.drop(g.conn)
		defer g.conn.left()
	} else if g.err == nil {
		g.conn.cc.Release()
	}
	f.again.Store(true)
	f.unlock()
	return http2Lease{}, context.Cause(ctx)
}

// granted takes what was given, and opens the connection where that is left to do.
func (p *http2Pool) granted(ctx context.Context, g http2Grant) (http2Lease, error) {
	if !g.open {
		return g.http2Lease, g.err
	}
	f, c := p.leaf, g.conn
	cc, err := c.open(ctx)
	f.mu.Lock()
	if err == nil {
		err = cc.Reserve()
	}
	if err != nil {
		p.drop(c)
		if ctx.Err() == nil && len(p.conns) == 0 { // who waits for it would meet with the same
			for len(p.waiting) > 0 {
				p.grant(http2Grant{err: &connectError{err}})
			}
		}
		f.again.Store(true)
		f.unlock()
		if cc != nil {
			_ = cc.Close()
		}
		c.left()
		return http2Lease{}, &connectError{err}
	}
	c.cc = cc
	if age := f.leaf.key.conns.MaxAge; age > 0 {
		if until := time.Now().Add(age); c.until.IsZero() || until.Before(c.until) {
			c.until = until
		}
	}
	l := p.begin(c, 0)
	f.again.Store(true)
	f.unlock()
	return l, nil
}
