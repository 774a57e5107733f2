package dns

import (
	"context"
	"math"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Lookup is net's resolver, with its hosts file, search list and name servers, that also says how long what it finds is good.
// It is safe for concurrent use.
type Lookup struct {
	resolver net.Resolver
}

// NewLookup makes one. dial connects to name servers; nil stands for a net.Dialer's.
func NewLookup(dial func(ctx context.Context, network, address string) (net.Conn, error)) *Lookup {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	l := new(Lookup)
	l.resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		h, ok := ctx.Value(heardKey{}).(*heard)
		if err != nil || !ok {
			return conn, err
		}
		if packets, ok := conn.(net.PacketConn); ok { // by which net tells UDP from TCP
			return &heardPackets{Conn: conn, packets: packets, heard: h}, nil
		}
		return &heardStream{Conn: conn, heard: h}, nil
	}
	return l
}

// LookupNetIP is net.Resolver's.
func (l *Lookup) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return l.resolver.LookupNetIP(ctx, network, host)
}

// LookupFor is LookupNetIP that also says for how long the addresses are good, to the second: the shortest TTL of the answers. It
// is 0 where that is not known, as of the hosts file and of a system whose own resolver was asked.
func (l *Lookup) LookupFor(ctx context.Context, network, host string) ([]netip.Addr, time.Duration, error) {
	h := heard{shortest: unheard}
	addrs, err := l.resolver.LookupNetIP(context.WithValue(ctx, heardKey{}, &h), network, host)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shortest == unheard {
		return addrs, 0, err
	}
	return addrs, h.shortest, err
}

type heardKey struct{}

// heard is the shortest life of the answers with data that a lookup was given.
type heard struct {
	mu       sync.Mutex // guards shortest
	shortest time.Duration
}

const unheard = time.Duration(math.MaxInt64)

func (h *heard) message(b []byte) {
	if life := lifetimeOf(b); life.data {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.shortest = min(h.shortest, life.Duration)
	}
}

// heardPackets is a connection of UDP: every Read is a message, and one with another number than the question's is nobody's.
type heardPackets struct {
	net.Conn
	packets net.PacketConn
	heard   *heard
	id      [2]byte
}

func (c *heardPackets) Write(b []byte) (int, error) {
	copy(c.id[:], b)
	return c.Conn.Write(b)
}

func (c *heardPackets) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && n > headerLen && [2]byte(b) == c.id {
		c.heard.message(b[:n])
	}
	return n, err
}

// ReadFrom implements net.PacketConn, as does WriteTo.
func (c *heardPackets) ReadFrom(b []byte) (int, net.Addr, error)   { return c.packets.ReadFrom(b) }
func (c *heardPackets) WriteTo(b []byte, to net.Addr) (int, error) { return c.packets.WriteTo(b, to) }

// heardStream is a connection of TCP: what is read is the length of a message, and that (RFC 1035 §4.2.2).
type heardStream struct {
	net.Conn
	heard *heard
	got   []byte
}

func (c *heardStream) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.got = append(c.got, b[:n]...)
	if len(c.got) >= 2 && len(c.got) == 2+word(c.got, 0) {
		c.heard.message(c.got[2:])
	}
	return n, err
}
