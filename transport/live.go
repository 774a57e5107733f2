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
)

// checkEvery is how often open connections are held against time and policy, so that a change is acted upon within a
// second; one of what is believed is at once.
const checkEvery = time.Second / 2

// live is the open connections that have to go when their peer is not believed any more, or when they are not wanted any
// more. It keeps none of them: what the garbage collector takes is gone. While it has any it has one goroutine, until
// done.
type live struct {
	identity *identity.Identity
	done     <-chan struct{}

	mu       sync.Mutex // guards what follows
	conns    map[weak.Pointer[tls.Conn]]*liveConn
	plain    map[weak.Pointer[net.TCPConn]]func() bool
	sweeping bool
}

type liveConn struct {
	peer   identity.Peer // guarded by live.mu, written by who sweeps
	wanted func() bool   // of a connection whose peer is nobody
	until  time.Time     // when no more is to begin on it: a fifth of the time is left that its certificates have
}

func newLive(id *identity.Identity, done <-chan struct{}) *live {
	return &live{identity: id, done: done,
		conns: make(map[weak.Pointer[tls.Conn]]*liveConn), plain: make(map[weak.Pointer[net.TCPConn]]func() bool)}
}

// add has the connection closed when its peer, which has been verified, is not believed any more; where the peer is
// nobody, when it is not wanted any more. own is when the certificate expires that was shown to the peer: it may have been
// replaced since.
func (l *live) add(conn *tls.Conn, peer identity.Peer, own time.Time, wanted func() bool) {
	key := weak.Make(conn)
	runtime.AddCleanup(conn, l.forget, key)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[key] = &liveConn{peer, wanted, until(&peer, own)}
	l.sweep()
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
	key := weak.Make(conn)
	runtime.AddCleanup(conn, l.forgetPlain, key)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plain[key] = wanted
	l.sweep()
}

func (l *live) forget(key weak.Pointer[tls.Conn]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, key)
}

func (l *live) forgetPlain(key weak.Pointer[net.TCPConn]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.plain, key)
}

// peer says who is at the other end of a connection, or of what it is a wrapping of; ok is false where that was not
// verified here.
func (l *live) peer(conn net.Conn) (p identity.Peer, ok bool) {
	for l != nil && conn != nil {
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
			changed := l.identity.Changed()
			if !l.check(&r) {
				return
			}
			select {
			case <-t.C:
			case <-changed:
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
	conns    []secured
	plain    []unsecured
	verdicts [batch]verdict
}

type secured struct {
	key  weak.Pointer[tls.Conn]
	live *liveConn
}

type unsecured struct {
	key    weak.Pointer[net.TCPConn]
	wanted func() bool
}

type verdict struct {
	peer identity.Peer // as it was proved again
	gone bool
}

// batch is how many connections are judged between two times that l.mu is taken.
const batch = 64

// check closes what has to go, and reports whether anything is left. While it looks at a connection it holds no lock: of
// ten thousand whose authority has changed, none waits for another.
func (l *live) check(r *round) bool {
	l.mu.Lock()
	r.conns, r.plain = slices.Grow(r.conns[:0], len(l.conns)), slices.Grow(r.plain[:0], len(l.plain))
	for key, c := range l.conns {
		r.conns = append(r.conns, secured{key, c})
	}
	for key, wanted := range l.plain {
		r.plain = append(r.plain, unsecured{key, wanted})
	}
	l.mu.Unlock()
	for some := range slices.Chunk(r.conns, batch) {
		l.judge(some, r.verdicts[:len(some)])
	}
	for _, p := range r.plain {
		if conn := p.key.Value(); conn != nil && !p.wanted() {
			l.forgetPlain(p.key)
			_ = conn.Close()
		}
	}
	clear(r.conns)
	clear(r.plain)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweeping = len(l.conns)+len(l.plain) > 0
	return l.sweeping
}

// judge looks at some connections and closes those that must not stay.
func (l *live) judge(some []secured, verdicts []verdict) {
	for i, s := range some {
		v := &verdicts[i]
		if v.peer, v.gone = l.good(s.live); !v.gone {
			continue
		}
		if conn := s.key.Value(); conn != nil {
			_ = conn.NetConn().Close() // at once: tls.Conn.Close would wait for who is writing
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range some {
		if verdicts[i].gone {
			delete(l.conns, s.key)
		}
		s.live.peer = verdicts[i].peer
	}
	clear(verdicts)
}

// good proves the peer of a connection again, and reports whether it must go.
func (l *live) good(c *liveConn) (p identity.Peer, gone bool) {
	if c.peer.ID.IsZero() {
		return c.peer, !c.wanted()
	}
	p, err := l.identity.Again(c.peer)
	return p, err != nil
}
