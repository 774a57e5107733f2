package http1

import (
	"sync"
	"time"
)

// PoolLimits bound a [Pool]. The zero value of each field is its stated default.
type PoolLimits struct {
	IdleTimeout time.Duration // how long a connection may lie idle; default 90 s
	MaxAge      time.Duration // since Conn.Opened; default no limit
	MaxRequests int           // final responses read from one connection; default no limit
	PerKey      int           // idle connections of one key; default 64
	Total       int           // idle connections of all keys; default 1024
}

// A Pool keeps idle client connections by key and gives the one used last first. It limits idle connections, not those in
// use. It has no goroutine; while something is idle, one timer of its own looks for what has been idle too long. Safe for
// concurrent use. It must be closed.
type Pool[K comparable] struct {
	limits PoolLimits

	mu     sync.Mutex // guards what follows; no connection is closed while it is held
	byKey  map[K]*stack[K]
	all    idle[K] // the ring of all: after it the one put first, before it the one put last
	count  int
	spare  *idle[K] // entries to be used again, linked by next
	timer  *time.Timer
	armed  bool
	closed bool
}

// A stack holds the idle connections of one key. It stays in the map for some time when it is empty: with one
// connection in use at a time it would else be made for each request.
type stack[K comparable] struct {
	top, bottom *idle[K]
	depth       int
}

// An idle is one idle connection, in the ring of all and in the stack of its key.
type idle[K comparable] struct {
	c            *Conn
	since        time.Time
	prev, next   *idle[K]
	stack        *stack[K]
	above, below *idle[K]
}

// NewPool makes a pool.
func NewPool[K comparable](limits PoolLimits) *Pool[K] {
	if limits.IdleTimeout <= 0 {
		limits.IdleTimeout = 90 * time.Second
	}
	if limits.PerKey <= 0 {
		limits.PerKey = 64
	}
	if limits.Total <= 0 {
		limits.Total = 1024
	}
	p := &Pool[K]{limits: limits, byKey: make(map[K]*stack[K])}
	p.all.prev, p.all.next = &p.all, &p.all
	return p
}

// Get takes a connection for the key out of the pool, the one put last of those that are neither too old nor dead
// (Conn.Alive); it closes those that are. It gives nil if there is none.
func (p *Pool[K]) Get(key K, now time.Time) *Conn {
	for {
		c := p.Take(key, now)
		if c == nil || c.Alive() {
			return c
		}
		_ = c.Close()
	}
}

// Take is Get for what is sent by Conn.Ask: it does not look whether the connection is dead, for Ask does.
func (p *Pool[K]) Take(key K, now time.Time) *Conn {
	for {
		p.mu.Lock()
		s := p.byKey[key]
		if s == nil || s.depth == 0 {
			p.mu.Unlock()
			return nil
		}
		since := s.top.since
		c := p.take(s.top)
		p.mu.Unlock()
		if now.Sub(since) < p.limits.IdleTimeout && !p.worn(c, now) {
			return c
		}
		_ = c.Close()
	}
}

// Put gives a connection back whose last response was read to its end. Where it cannot be used again, is worn or the pool
// is closed, it is closed instead. Put reports whether it was kept; the oldest one makes room for it where there
// are too many. An idle connection holds no buffer.
func (p *Pool[K]) Put(key K, c *Conn, now time.Time) bool {
	c.Release()
	if c.open || c.err != nil || c.r < c.w || p.worn(c, now) {
		_ = c.Close()
		return false
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		_ = c.Close()
		return false
	}
	s := p.byKey[key]
	if s == nil {
		s = new(stack[K])
		p.byKey[key] = s
	}
	var over *Conn
	switch {
	case s.depth >= p.limits.PerKey:
		over = p.take(s.bottom)
	case p.count >= p.limits.Total:
		over = p.take(p.all.next)
	}
	p.push(s, c, now)
	p.mu.Unlock()
	if over != nil {
		_ = over.Close()
	}
	return true
}

// Idle gives the number of idle connections of all keys.
func (p *Pool[K]) Idle() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// CloseIdle closes the idle connections of a key.
func (p *Pool[K]) CloseIdle(key K) {
	p.mu.Lock()
	gone := p.takeAll(key, nil)
	p.mu.Unlock()
	closeAll(gone)
}

// CloseIdleFunc closes the idle connections of the keys of which gone reports true. It must not call the pool.
func (p *Pool[K]) CloseIdleFunc(gone func(K) bool) {
	p.mu.Lock()
	var all []*Conn
	for key := range p.byKey {
		if gone(key) {
			all = p.takeAll(key, all)
		}
	}
	p.mu.Unlock()
	closeAll(all)
}

// takeAll takes out a key, and appends its connections to list.
func (p *Pool[K]) takeAll(key K, list []*Conn) []*Conn {
	if s := p.byKey[key]; s != nil {
		for s.depth > 0 {
			list = append(list, p.take(s.top))
		}
		delete(p.byKey, key)
	}
	return list
}

// CloseAllIdle closes the idle connections of all keys.
func (p *Pool[K]) CloseAllIdle() {
	p.mu.Lock()
	gone := p.empty()
	p.mu.Unlock()
	closeAll(gone)
}

// CloseOldest closes the idle connection that was put first, and reports whether there was one.
func (p *Pool[K]) CloseOldest() bool {
	p.mu.Lock()
	if p.count == 0 {
		p.mu.Unlock()
		return false
	}
	c := p.take(p.all.next)
	p.mu.Unlock()
	_ = c.Close()
	return true
}

// Close closes all idle connections, and from then on those that are put.
func (p *Pool[K]) Close() {
	p.mu.Lock()
	p.closed = true
	gone := p.empty()
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	closeAll(gone)
}

// empty takes all out.
func (p *Pool[K]) empty() []*Conn {
	var gone []*Conn
	for p.count > 0 {
		gone = append(gone, p.take(p.all.next))
	}
	return gone
}

func closeAll(conns []*Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

// worn reports a connection that has served its time.
func (p *Pool[K]) worn(c *Conn, now time.Time) bool {
	return p.limits.MaxRequests > 0 && c.final >= p.limits.MaxRequests ||
		p.limits.MaxAge > 0 && !c.Opened.IsZero() && now.Sub(c.Opened) >= p.limits.MaxAge ||
		!c.Rests.IsZero() && !now.Before(c.Rests)
}

// push puts c on its stack and at the end of the ring. It starts the timer where that does not run.
func (p *Pool[K]) push(s *stack[K], c *Conn, now time.Time) {
	e := p.spare
	if e == nil {
		e = new(idle[K])
	} else {
		p.spare = e.next
	}
	*e = idle[K]{c: c, since: now, prev: p.all.prev, next: &p.all, stack: s, below: s.top}
	e.prev.next, e.next.prev = e, e
	if s.top != nil {
		s.top.above = e
	} else {
		s.bottom = e
	}
	s.top = e
	s.depth++
	p.count++
	if !p.armed {
		p.armed = true
		p.rearm(p.limits.IdleTimeout)
	}
}

// take takes an entry out and gives its connection.
func (p *Pool[K]) take(e *idle[K]) *Conn {
	e.prev.next, e.next.prev = e.next, e.prev
	s := e.stack
	if e.above != nil {
		e.above.below = e.below
	} else {
		s.top = e.below
	}
	if e.below != nil {
		e.below.above = e.above
	} else {
		s.bottom = e.above
	}
	s.depth--
	p.count--
	c := e.c
	*e = idle[K]{next: p.spare}
	p.spare = e
	return c
}

func (p *Pool[K]) rearm(after time.Duration) {
	if p.timer == nil {
		p.timer = time.AfterFunc(after, p.sweep)
		return
	}
	p.timer.Reset(after)
}

// sweep closes what has been idle too long and forgets the keys of which nothing is idle.
func (p *Pool[K]) sweep() {
	now := time.Now()
	p.mu.Lock()
	var gone []*Conn
	for p.count > 0 && now.Sub(p.all.next.since) >= p.limits.IdleTimeout {
		gone = append(gone, p.take(p.all.next))
	}
	for key, s := range p.byKey {
		if s.depth == 0 {
			delete(p.byKey, key)
		}
	}
	if p.count == 0 {
		p.spare = nil
	}
	p.armed = p.count > 0 && !p.closed
	if p.armed {
		p.rearm(max(p.limits.IdleTimeout-now.Sub(p.all.next.since), p.limits.IdleTimeout/8))
	}
	p.mu.Unlock()
	closeAll(gone)
}
