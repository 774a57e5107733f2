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

// checkEvery is how often open connections are held against time and policy. A change of what is believed is acted upon
// at once.
const checkEvery = time.Second

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
	peer   identity.Peer // guarded by live.mu
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
		for {
			changed := l.identity.Changed()
			if !l.check() {
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

// check closes what has to go, and reports whether anything is left.
func (l *live) check() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, c := range l.conns {
		conn := key.Value()
		if conn != nil && l.good(c) {
			continue
		}
		delete(l.conns, key)
		if conn != nil {
			_ = conn.NetConn().Close() // at once: tls.Conn.Close would wait for who is writing
		}
	}
	for key, wanted := range l.plain {
		conn := key.Value()
		if conn != nil && wanted() {
			continue
		}
		delete(l.plain, key)
		if conn != nil {
			_ = conn.Close()
		}
	}
	l.sweeping = len(l.conns)+len(l.plain) > 0
	return l.sweeping
}

// good reports whether a connection may stay. l.mu is held.
func (l *live) good(c *liveConn) bool {
	if c.peer.ID.IsZero() {
		return c.wanted()
	}
	again, err := l.identity.Again(c.peer)
	if err == nil {
		c.peer = again
	}
	return err == nil
}
