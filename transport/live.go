package transport

import (
	"crypto/tls"
	"net"
	"runtime"
	"sync"
	"time"
	"weak"

	"github.com/heddlemesh/mesh/identity"
)

// checkEvery is how often open connections are held against time and policy. A change of what is believed, and of policies,
// is acted upon at once.
const checkEvery = time.Second

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
	poked    bool          // policies have changed since the last check
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

// changed has all that is under way looked at: policies have changed. It does not wait for that.
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
		for {
			var changed <-chan struct{}
			if l.identity != nil {
				changed = l.identity.Changed()
			}
			if !l.check() {
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

// check ends what has to go, and reports whether there is more to look at.
func (l *live) check() bool {
	l.mu.Lock()
	poked := l.poked
	l.poked = false
	l.mu.Unlock()
	if poked {
		l.stays.check()
		l.checkTunnels()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, c := range l.conns {
		conn := c.conn()
		if conn != nil && l.good(c) {
			continue
		}
		delete(l.conns, key)
		if conn != nil {
			_ = beneath(conn).Close() // at once: tls.Conn.Close would wait for who is writing
		}
	}
	l.sweeping = len(l.conns) > 0 || l.poked
	return l.sweeping
}

// checkTunnels closes the connections whose requests would not be let in any more. It asks without the lock: whoever hears
// of denials may do as he likes.
func (l *live) checkTunnels() {
	var all []*liveConn
	l.mu.Lock()
	for _, c := range l.conns {
		if c.tunnel != nil {
			all = append(all, c)
		}
	}
	l.mu.Unlock()
	for _, c := range all {
		if conn := c.conn(); conn != nil && !c.tunnel() {
			_ = beneath(conn).Close()
		}
	}
}

// good reports whether a connection may stay. l.mu is held.
func (l *live) good(c *liveConn) bool {
	if c.peer.ID.IsZero() {
		return c.wanted == nil || c.wanted()
	}
	again, err := l.identity.Again(c.peer)
	if err == nil {
		c.peer = again
	}
	return err == nil
}
