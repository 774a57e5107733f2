package transport

import (
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
)

// A deadEnd is a connection of which it is only asked whether it was closed.
type deadEnd struct {
	net.Conn
	closed atomic.Bool
}

func (d *deadEnd) Close() error { d.closed.Store(true); return nil }

// provedBy gives an identity, and what it makes of a peer that proves itself to it.
func provedBy(t testing.TB, a *ca.Authority) (i *identity.Identity, prove func(account string) identity.Peer) {
	t.Helper()
	issue := func(account string) *identity.Material {
		id, err := identity.Workload("cluster.local", "default", account)
		if err != nil {
			t.Fatal(err)
		}
		m, err := a.Issue(id)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	i = identity.New(identity.Options{})
	if err := i.Take(issue("web")); err != nil {
		t.Fatal(err)
	}
	return i, func(account string) (p identity.Peer) {
		config, err := i.ServerConfig(identity.ServerOptions{Verified: func(q identity.Peer) { p = q }})
		if err != nil {
			t.Fatal(err)
		}
		client, server := net.Pipe()
		defer client.Close()
		go func() {
			_ = tls.Client(client, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{issue(account).SVID}}).Handshake()
		}()
		if err := tls.Server(server, config).Handshake(); err != nil {
			t.Fatal(err)
		}
		return p
	}
}

func newTestAuthority(t testing.TB) *ca.Authority {
	t.Helper()
	a, err := ca.New("cluster.local", ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestSweepHoldsNoLock: while connections are judged others are made, and asked about.
func TestSweepHoldsNoLock(t *testing.T) {
	t.Parallel()
	i, prove := provedBy(t, newTestAuthority(t))
	done := make(chan struct{})
	l := newLive(i, done)
	judging, judged := make(chan struct{}, 1), make(chan bool)
	slow := tls.Server(new(deadEnd), &tls.Config{})
	l.add(slow, identity.Peer{}, time.Time{}, func() bool {
		judging <- struct{}{}
		return <-judged
	})
	<-judging
	other, p := tls.Server(new(deadEnd), &tls.Config{}), prove("a")
	l.add(other, p, p.Expires, nil)
	l.addPlain(new(net.TCPConn), func() bool { return true })
	if got, ok := l.peer(other); !ok || got.ID != p.ID || l.rests(other).IsZero() {
		t.Errorf("%v, %v", got.ID, ok)
	}
	close(done)
	judged <- true
	runtime.KeepAlive(slow)
}

// TestSweepClosesWhoIsNotBelieved: of many connections, over several batches, those go whose authority is gone, and no others.
func TestSweepClosesWhoIsNotBelieved(t *testing.T) {
	t.Parallel()
	a := newTestAuthority(t)
	i, prove := provedBy(t, a)
	l := newLive(i, nil)
	l.sweeping = true // by the test itself
	const n = 3*batch + 7
	ends, conns := make([]*deadEnd, 2*n), make([]*tls.Conn, 2*n)
	add := func(at int, p identity.Peer) {
		for k := at; k < at+n; k++ {
			ends[k] = new(deadEnd)
			conns[k] = tls.Server(ends[k], &tls.Config{})
			l.add(conns[k], p, p.Expires, nil)
		}
	}
	closed := func(from, to int) (n int) {
		for _, e := range ends[from:to] {
			if e.closed.Load() {
				n++
			}
		}
		return n
	}
	take := func() {
		t.Helper()
		m, err := a.Issue(i.ID())
		if err == nil {
			err = i.Take(m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add(0, prove("old"))
	if err := a.AddRoot(); err != nil {
		t.Fatal(err)
	}
	take()
	var r round
	if l.check(&r); closed(0, n) > 0 {
		t.Errorf("%d were closed while both are believed", closed(0, n))
	}
	if err := a.RotateIssuing(); err != nil {
		t.Fatal(err)
	}
	take()
	add(n, prove("new"))
	a.DropRoots()
	take()
	if l.check(&r); closed(0, n) != n || closed(n, 2*n) != 0 {
		t.Errorf("closed %d of %d of the old authority, %d of the new", closed(0, n), n, closed(n, 2*n))
	}
	if len(l.conns) != n {
		t.Errorf("%d are watched", len(l.conns))
	}
	runtime.KeepAlive(conns) // l holds none of them
}

// BenchmarkSweep is the look at 10,000 connections of ten peers: when nothing has changed, when others are believed too, and when
// their authority is gone, which is the one time that signatures are checked.
func BenchmarkSweep(b *testing.B) {
	for _, what := range []string{"nothing changed", "another authority too", "authority gone"} {
		b.Run(what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				a := newTestAuthority(b)
				i, prove := provedBy(b, a)
				l := newLive(i, nil)
				l.sweeping = true
				conns := make([]*tls.Conn, 10_000)
				var p identity.Peer
				for k := range conns {
					if k%1000 == 0 {
						p = prove(fmt.Sprint("p", k))
					}
					conns[k] = tls.Server(new(deadEnd), &tls.Config{})
					l.add(conns[k], p, p.Expires, nil)
				}
				var r round
				l.check(&r)
				if what != "nothing changed" {
					_ = a.AddRoot()
				}
				if what == "authority gone" {
					_ = a.RotateIssuing()
					a.DropRoots()
				}
				if m, err := a.Issue(i.ID()); err != nil || i.Take(m) != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				l.check(&r)
				b.StopTimer()
				if gone := len(l.conns) == 0; gone != (what == "authority gone") {
					b.Fatalf("%d are left", len(l.conns))
				}
				runtime.KeepAlive(conns)
				b.StartTimer()
			}
		})
	}
}
