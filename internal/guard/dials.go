package guard

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Watch has the guard remember, from now on, which connections it makes (see Mine).
func (g *Guard) Watch() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dials == nil {
		g.dials = &dials{under: make(map[netip.AddrPort]map[*attempt]struct{}), made: make(map[ends]time.Time)}
	}
}

// Mine reports whether a connection from one address to another is one that the guard has made a moment ago: one that has come
// back to where it was made. Where the guard is connecting to that address it waits for that to end.
func (g *Guard) Mine(ctx context.Context, from, to netip.AddrPort) bool {
	w := g.watched()
	if w == nil {
		return false
	}
	from, to = plainPort(from), plainPort(to)
	for _, d := range w.connecting(to) {
		select {
		case <-d.over:
		case <-ctx.Done():
			return true // nobody wants to know
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, mine := w.made[ends{from, to}]
	return mine
}

func (g *Guard) watched() *dials {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.dials
}

// remembered is how long a connection is known: longer than a listener of the same process takes to accept it, and not so long
// that a system gives its port to somebody else who calls the same address.
const remembered = 10 * time.Second

// dials are the connections that a guard makes, and has made.
type dials struct {
	mu    sync.Mutex // guards what follows
	under map[netip.AddrPort]map[*attempt]struct{}
	made  map[ends]time.Time
	swept time.Time
}

type ends struct{ from, to netip.AddrPort }

func (w *dials) connecting(to netip.AddrPort) []*attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []*attempt
	for d := range w.under[to] {
		all = append(all, d)
	}
	return all
}

type dialKey struct{}

// An attempt is one call of DialContext, which may try several addresses.
type attempt struct {
	of   *dials
	over chan struct{}
	to   []netip.AddrPort // guarded by of.mu
}

// begin notes an address before the first packet to it.
func (d *attempt) begin(address string) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return
	}
	to = plainPort(to)
	d.of.mu.Lock()
	defer d.of.mu.Unlock()
	if d.of.under[to] == nil {
		d.of.under[to] = make(map[*attempt]struct{})
	}
	d.of.under[to][d] = struct{}{}
	d.to = append(d.to, to)
}

// made notes a connection. d may be nil.
func (d *attempt) made(conn net.Conn) {
	if d == nil {
		return
	}
	from, isTCP := conn.LocalAddr().(*net.TCPAddr)
	to, too := conn.RemoteAddr().(*net.TCPAddr)
	if !isTCP || !too {
		return
	}
	now := time.Now()
	w := d.of
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made[ends{plainPort(from.AddrPort()), plainPort(to.AddrPort())}] = now
	if now.Sub(w.swept) < time.Second {
		return
	}
	w.swept = now
	for e, at := range w.made {
		if now.Sub(at) > remembered {
			delete(w.made, e)
		}
	}
}

func (d *attempt) end() {
	d.of.mu.Lock()
	for _, to := range d.to {
		if delete(d.of.under[to], d); len(d.of.under[to]) == 0 {
			delete(d.of.under, to)
		}
	}
	d.of.mu.Unlock()
	close(d.over)
}

func plainPort(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(plain(a.Addr()), a.Port()) }
