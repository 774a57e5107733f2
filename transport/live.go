package transport

import (
	"crypto/tls"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/internal/socket"
)

// checkEvery is how often open connections are held against time and policy, so that a change is acted upon within a
// second; one of what is believed, of policies, and of the keys of tokens, is at once.
const checkEvery = time.Second / 2

// live is what is under way and has to end when it is not believed any more, or not wanted any more: connections, of which
// it keeps none — what the garbage collector takes is gone — and the requests that were let in (see Stay). While it has
// connections it has one goroutine, until done; for requests it has one when policies have changed.
type live struct {
	identity *identity.Identity // nil for none
	done     <-chan struct{}
	stays    stays

	mu       sync.Mutex // guards what follows
	conns    map[any]*liveConn
	sweeping bool
	poked    bool          // policies or keys have changed since the last check
	poke     chan struct{} // wakes the goroutine
}

// A liveConn is an open connection, by its weak pointer. live.mu guards it.
type liveConn struct {
	conn   func() net.Conn // nil where it is gone
	peer   identity.Peer
	wanted func() bool // of a connection whose peer is nobody; nil for always
	tunnel func() bool // of one that was a request and is the program's now; nil for none
	until  time.Time   // when no more is to begin on it: a fifth of the time is left that its certificates have
}

func newLive(id *identity.Identity, done <-chan struct{}) *live {
	return &live{identity: id, done: done, conns: make(map[any]*liveConn), poke: make(chan struct{}, 1)}
}

// identified reports whether the mesh has an identity.
func (l *live) identified() bool { return l != nil && l.identity != nil }

// follow gives the entry of a connection, a new one where there is none. l.mu is held.
func follow[T any](l *live, conn *T) *liveConn {
	key := weak.Make(conn)
	c := l.conns[key]
	if c == nil {
		runtime.AddCleanup(conn, l.forget, any(key))
		c = &liveConn{conn: func() net.Conn {
			if conn := key.Value(); conn != nil {
				return any(conn).(net.Conn)
			}
			return nil
		}}
		l.conns[key] = c
		l.sweep()
	}
	return c
}

// add has the connection closed when its peer, which has been verified, is not believed any more; where the peer is
// nobody, when it is not wanted any more. own is when the certificate expires that was shown to the peer: it may have been
// replaced since.
func (l *live) add(conn *tls.Conn, peer identity.Peer, own time.Time, wanted func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := follow(l, conn)
	c.peer, c.wanted, c.until = peer, wanted, until(&peer, own)
}

// until gives the moment after which a connection that begins now is to rest.
func until(p *identity.Peer, own time.Time) time.Time {
	if p.ID.IsZero() {
		return time.Time{}
	}
	end := own
	if p.Expires.Before(end) {
		end = p.Expires
	}
	now := time.Now()
	return now.Add(end.Sub(now) / 5 * 4)
}

// rests gives the moment after which nothing more is to begin on a connection, so that it ends before its certificates
// do; zero for never.
func (l *live) rests(conn net.Conn) time.Time {
	own, ok := conn.(*tls.Conn)
	if !ok || l == nil {
		return time.Time{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.conns[weak.Make(own)]; c != nil {
		return c.until
	}
	return time.Time{}
}

// addPlain has a connection without TLS closed when it is not wanted any more.
func (l *live) addPlain(conn *net.TCPConn, wanted func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	follow(l, conn).wanted = wanted
}

// addTunnel has a connection closed that a request has become, and nobody tells of its end, when the request would not be
// let in any more. It reports false for connections that are neither TLS nor the system's.
func (l *live) addTunnel(conn net.Conn, wanted func() bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch c := conn.(type) {
		case *tls.Conn:
			follow(l, c).tunnel = wanted
			return true
		case *net.TCPConn:
			follow(l, c).tunnel = wanted
			return true
		case *net.UnixConn:
			follow(l, c).tunnel = wanted
			return true
		case *peekedTCP:
			conn = c.TCPConn
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return false
		}
	}
}

func (l *live) forget(key any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, key)
}

// peer says who is at the other end of a connection, or of what it is a wrapping of; ok is false where that was not
// verified here.
func (l *live) peer(conn net.Conn) (p identity.Peer, ok bool) {
	for l.identified() && conn != nil {
		if own, ok := conn.(*tls.Conn); ok {
			return l.peerOf(own)
		}
		over, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = over.NetConn()
	}
	return identity.Peer{}, false
}

func (l *live) peerOf(conn *tls.Conn) (p identity.Peer, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.conns[weak.Make(conn)]; c != nil {
		return c.peer, !c.peer.ID.IsZero()
	}
	return identity.Peer{}, false
}

// changed has all that is under way looked at: policies or keys of tokens have changed. It does not wait for that.
func (l *live) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.poked = true
	if !l.sweeping {
		l.sweep()
		return
	}
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// sweep starts the goroutine where there is none. l.mu is held.
func (l *live) sweep() {
	if l.sweeping {
		return
	}
	l.sweeping = true
	go func() {
		t := time.NewTicker(checkEvery)
		defer t.Stop()
		var r round
		for {
			var changed <-chan struct{}
			if l.identity != nil {
				changed = l.identity.Changed()
			}
			if !l.check(&r) {
				return
			}
			select {
			case <-t.C:
			case <-changed:
			case <-l.poke:
			case <-l.done:
				l.mu.Lock()
				l.sweeping = false
				l.mu.Unlock()
				return
			}
		}
	}()
}

// A round is what one look at all connections goes through, whose room the next one uses again.
type round struct {
	conns    []looked
	verdicts [batch]judged
}

// A looked is a connection as it is when the round begins.
type looked struct {
	key            any
	live           *liveConn
	peer           identity.Peer
	wanted, tunnel func() bool
}

type judged struct {
	peer identity.Peer // as it was proved again
	gone bool
}

// batch is how many connections are judged between two times that l.mu is taken.
const batch = 64

// check ends what has to go, and reports whether there is more to look at. While it looks at a connection it holds no lock:
// of ten thousand whose authority has changed, none waits for another.
func (l *live) check(r *round) bool {
	l.mu.Lock()
	poked := l.poked
	l.poked = false
	r.conns = slices.Grow(r.conns[:0], len(l.conns))
	for key, c := range l.conns {
		r.conns = append(r.conns, looked{key, c, c.peer, c.wanted, c.tunnel})
	}
	l.mu.Unlock()
	if poked {
		l.stays.check()
	}
	for some := range slices.Chunk(r.conns, batch) {
		l.judge(some, r.verdicts[:len(some)])
	}
	clear(r.conns)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweeping = len(l.conns) > 0 || l.poked
	return l.sweeping
}

// judge looks at some connections and closes those that must not stay.
func (l *live) judge(some []looked, verdicts []judged) {
	for i := range some {
		v := &verdicts[i]
		if v.peer, v.gone = l.good(&some[i]); !v.gone {
			continue
		}
		if conn := some[i].live.conn(); conn != nil {
			_ = socket.Beneath(conn).Close() // at once: tls.Conn.Close would wait for who is writing
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range some {
		if verdicts[i].gone {
			delete(l.conns, s.key)
		}
		if !s.peer.ID.IsZero() {
			s.live.peer = verdicts[i].peer
		}
	}
	clear(verdicts)
}

// good proves the peer of a connection again, and reports whether it must go.
func (l *live) good(c *looked) (p identity.Peer, gone bool) {
	switch {
	case c.tunnel != nil && !c.tunnel():
		return c.peer, true
	case c.peer.ID.IsZero():
		return c.peer, c.wanted != nil && !c.wanted()
	}
	p, err := l.identity.Again(c.peer)
	return p, err != nil
}
