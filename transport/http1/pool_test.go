package http1

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// idleConn is a client connection that has had one answer, and the server's end of it.
func idleConn(t testing.TB, pair func(testing.TB) (net.Conn, net.Conn)) (*Conn, net.Conn) {
	t.Helper()
	a, b := pair(t)
	c := NewConn(b, nil)
	answer(t, c, a)
	return c, a
}

func answer(t testing.TB, c *Conn, server net.Conn) {
	t.Helper()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = io.WriteString(server, "HTTP/1.1 204 \r\n\r\n")
	}()
	var p Response
	if err := c.ReadResponse(&p, "GET"); err != nil {
		t.Fatal(err)
	}
	<-wrote
}

type owner int

func (o *owner) Closed() { *o++ }

func TestPool(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	p := NewPool[string](PoolLimits{IdleTimeout: time.Hour, MaxAge: time.Minute, MaxRequests: 3, PerKey: 3, Total: 5})
	defer p.Close()
	if p.Get("a", now) != nil || p.Idle() != 0 {
		t.Error("there is something in an empty pool")
	}
	var conns []*Conn
	var servers []net.Conn
	for range 8 {
		c, s := idleConn(t, unixPair)
		conns, servers = append(conns, c), append(servers, s)
	}
	for i := range 3 {
		if !p.Put("a", conns[i], now) {
			t.Fatal("not kept")
		}
	}
	if c := p.Get("a", now); c != conns[2] {
		t.Error("not the last one")
	}
	p.Put("a", conns[2], now)
	p.Put("a", conns[3], now) // conns[0] makes room
	if p.Idle() != 3 || !closed(servers[0]) {
		t.Errorf("%d idle", p.Idle())
	}
	p.Put("b", conns[4], now)
	p.Put("c", conns[5], now)
	p.Put("d", conns[6], now) // conns[1], the oldest of all, makes room
	if p.Idle() != 5 || !closed(servers[1]) || closed(servers[2]) {
		t.Errorf("%d idle", p.Idle())
	}
	// Dead ones are passed over.
	_, _ = io.WriteString(servers[3], "HTTP/1.1 408 \r\n\r\n")
	if c := p.Get("a", now); c != conns[2] || !closed(servers[3]) {
		t.Error("one with unasked bytes is given, or stays open")
	}
	_ = servers[4].Close()
	if c := p.Get("b", now); c != nil {
		t.Error("one that has ended is given")
	}
	// Too old, too often, not done, not released.
	conns[2].Opened = now.Add(-time.Minute)
	if p.Put("a", conns[2], now) || !closed(servers[2]) {
		t.Error("one that is too old is kept")
	}
	conns[5].Opened = now.Add(-59 * time.Second)
	if c := p.Get("c", now.Add(2*time.Second)); c != nil || !closed(servers[5]) {
		t.Error("one that has become too old is given")
	}
	answer(t, conns[7], servers[7])
	if !p.Put("e", conns[7], now) || p.Get("e", now) != conns[7] {
		t.Error("two answers are too many")
	}
	answer(t, conns[7], servers[7])
	if p.Put("e", conns[7], now) || !closed(servers[7]) {
		t.Error("three answers are not too many")
	}
	if !p.CloseOldest() || !closed(servers[6]) || p.CloseOldest() {
		t.Error("CloseOldest does not close the only one")
	}
	e, f := idleConn(t, unixPair)
	p.Put("g", e, now)
	p.CloseIdle("nobody")
	p.CloseIdleFunc(func(key string) bool { return key == "g" })
	if p.Idle() != 0 || !closed(f) {
		t.Errorf("%d idle after CloseIdleFunc", p.Idle())
	}
	c, d := idleConn(t, unixPair)
	var told owner
	c.Owner = &told
	p.Put("f", c, now)
	p.CloseIdle("nobody")
	p.CloseIdle("f")
	p.CloseAllIdle()
	if _ = c.Close(); told != 1 {
		t.Errorf("the owner is told %d times", told)
	}
	if p.Idle() != 0 || !closed(d) {
		t.Errorf("%d idle after CloseIdle", p.Idle())
	}
}

func closed(server net.Conn) bool {
	_ = server.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	var one [1]byte
	_, err := server.Read(one[:])
	return err != nil && !isTimeout(err)
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error) //nolint:errorlint // straight from the connection
	return ok && e.Timeout()
}

// B-090: what has not ended, or has more than its answer, does not come back.
func TestPoolRefuses(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{ok("Content-Length: 6"), ok("Content-Length: 4"), ok("A: b"), ok("Content-Length: 5"), "HTTP/1.1 99\r\n\r\n"} {
		p := NewPool[int](PoolLimits{})
		a, b := unixPair(t)
		c := NewConn(b, nil)
		_, _ = io.WriteString(a, raw)
		var r Response
		if err := c.ReadResponse(&r, "GET"); err == nil && r.Body.Framing() == Sized && r.Body.Length() < 6 {
			_, _ = r.Body.Drain(100)
		}
		want := raw == ok("Content-Length: 5")
		if kept := p.Put(1, c, time.Now()); kept != want {
			t.Errorf("%q: kept %t", raw, kept)
		}
		p.Close()
		if !closed(a) || p.Idle() != 0 {
			t.Errorf("%q: left open", raw)
		}
	}
}

func TestPoolClosed(t *testing.T) {
	t.Parallel()
	p := NewPool[int](PoolLimits{})
	p.Close()
	c, server := idleConn(t, unixPair)
	if p.Put(1, c, time.Now()) || !closed(server) || p.Get(1, time.Now()) != nil {
		t.Error("a closed pool keeps a connection")
	}
}

// An idle connection ends in time by itself, without a goroutine that waits for it (synctest says so).
func TestPoolIdleTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool[string](PoolLimits{IdleTimeout: 90 * time.Second})
		defer p.Close()
		for i := range 3 {
			c, _ := idleConn(t, pipePair)
			p.Put(fmt.Sprint(i), c, time.Now())
			time.Sleep(29 * time.Second)
		}
		if p.Idle() != 3 {
			t.Errorf("%d idle", p.Idle())
		}
		if c := p.Get("0", time.Now().Add(3*time.Second)); c != nil {
			t.Error("one that lay too long is given")
		}
		time.Sleep(45 * time.Second)
		if p.Idle() != 1 {
			t.Errorf("%d idle after a while", p.Idle())
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if p.Idle() != 0 || len(p.byKey) != 0 || p.armed {
			t.Errorf("%d idle, %d keys, armed %t", p.Idle(), len(p.byKey), p.armed)
		}
		c, _ := idleConn(t, pipePair)
		p.Put("x", c, time.Now()) // the timer goes on
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if p.Idle() != 0 {
			t.Error("nobody looks any more")
		}
	})
}

func TestPoolConcurrent(t *testing.T) {
	t.Parallel()
	p := NewPool[int](PoolLimits{PerKey: 4, Total: 10})
	defer p.Close()
	var wg sync.WaitGroup
	for g := range 4 {
		c, _ := idleConn(t, unixPair)
		d, _ := idleConn(t, unixPair)
		wg.Go(func() {
			p.Put(g%2, c, time.Now())
			p.Put(g%2, d, time.Now())
			for range 500 {
				if c := p.Get(g%2, time.Now()); c != nil {
					p.Put(g%2, c, time.Now())
				}
			}
			p.CloseIdle(g)
			p.CloseAllIdle()
		})
	}
	wg.Wait()
}
