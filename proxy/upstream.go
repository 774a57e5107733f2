package proxy

import (
	"context"
	"net"
	"sync"
	"time"
	"unique"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/transport/http1"
)

// A peer is whom an attempt goes to, and how connections to it are made and kept.
type peer struct {
	key    upstreamKey
	pool   *http1.Pool[upstreamKey]
	policy *snapshot.Policy // of an endpoint's cluster; nil for the application and for hosts outside the mesh
	tls    *snapshot.TLS    // of the endpoint itself, nil for plain text
}

// An upstreamKey is what connections of one pool must agree in to be shared.
type upstreamKey struct {
	address discovery.Address
	// host is the one that a TLS connection was made for, the zero handle where that makes no difference.
	host unique.Handle[string]
}

// terms are what a cluster's policy says about connections of HTTP/1.1. Those on other terms are other connections.
type terms struct {
	secured bool
	tls     snapshot.TLS
	conns   snapshot.Connections
}

// maxTerms is how many pools there may be before those that hold nothing are given up.
const maxTerms = 64

// An upstreams keeps HTTP/1.1 connections to endpoints. It is safe for concurrent use.
type upstreams struct {
	limits *http1.Limits
	idle   time.Duration
	plain  *http1.Pool[upstreamKey] // of plaintext about which no policy says anything

	mu     sync.Mutex // guards what follows
	pools  map[terms]*http1.Pool[upstreamKey]
	closed bool
}

func newUpstreams(idle time.Duration) *upstreams {
	limits := wireLimits()
	limits.Head, limits.Fields = 127<<10, maxFields // an answer's is the program's to judge, within reason
	u := &upstreams{limits: limits, idle: idle, pools: make(map[terms]*http1.Pool[upstreamKey])}
	u.plain = u.newPool(&snapshot.Connections{})
	return u
}

func (u *upstreams) newPool(c *snapshot.Connections) *http1.Pool[upstreamKey] {
	l := http1.PoolLimits{IdleTimeout: u.idle, MaxAge: c.MaxAge, MaxRequests: c.MaxRequests, PerKey: 256, Total: 4096}
	if c.Idle > 0 {
		l.IdleTimeout = c.Idle
	}
	return http1.NewPool[upstreamKey](l)
}

// to gives the peer at an address under a policy and TLS, nil for none, for calls to host, which may have a port.
func (u *upstreams) to(address discovery.Address, p *snapshot.Policy, t *snapshot.TLS, host string) peer {
	to := peer{key: upstreamKey{address: address}, pool: u.plain, policy: p, tls: t}
	if t == nil && p.Connections == (snapshot.Connections{}) {
		return to
	}
	on := terms{conns: p.Connections}
	on.conns.Ping, on.conns.ClientProtocol = snapshot.Ping{}, false // of HTTP/2
	if t != nil {
		on.secured, on.tls = true, *t
		if on.tls.ServerName == "" {
			name, _, _ := call.SplitAuthority(host) // it is canonical, or there is none and the handshake says so
			to.key.host = unique.Make(name)
		}
	}
	to.pool = u.poolOf(on)
	return to
}

func (u *upstreams) poolOf(on terms) *http1.Pool[upstreamKey] {
	u.mu.Lock()
	defer u.mu.Unlock()
	p := u.pools[on]
	if p != nil {
		return p
	}
	if len(u.pools) >= maxTerms {
		for old, p := range u.pools {
			if p.Idle() == 0 {
				p.Close() // what is in use ends with its request
				delete(u.pools, old)
			}
		}
	}
	p = u.newPool(&on.conns)
	if u.pools[on] = p; u.closed {
		p.Close()
	}
	return p
}

// forget closes the idle connections to an address.
func (u *upstreams) forget(address discovery.Address) {
	gone := func(key upstreamKey) bool { return key.address == address }
	u.plain.CloseIdle(upstreamKey{address: address})
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, p := range u.pools {
		p.CloseIdleFunc(gone)
	}
}

// close ends the connections that are kept, and from now on those that are no longer used.
func (u *upstreams) close() {
	u.plain.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for _, p := range u.pools {
		p.Close()
	}
}

// open connects to whom the attempt goes. The error is the dialer's, or that of the handshake.
func (x *exchange) open(ctx context.Context) (*http1.Conn, error) {
	w, to := x.s.wire, &x.to
	var nc net.Conn
	var err error
	var over func() // is to hear of the connection's end, nil for nobody
	switch {
	case w.mesh == nil:
		nc, err = x.s.app.dial(ctx)
	case to.policy == nil:
		nc, err = w.mesh.outside(ctx, to.key.address.Network, to.key.address.Addr)
	default:
		host := ""
		if to.key.host != (unique.Handle[string]{}) {
			host = to.key.host.Value()
		}
		nc, err = w.mesh.engine.Open(ctx, to.key.address, to.policy, to.tls, host)
		over = x.call.Connected(err)
	}
	if err != nil {
		return nil, err
	}
	c := http1.NewConn(nc, w.upstreams.limits)
	c.Opened = time.Now()
	if w.mesh != nil {
		c.Rests = w.mesh.engine.Rests(nc)
		p, _ := w.mesh.engine.Peer(nc)
		if over != nil {
			c.Owner = &endpointConn{p.Certificate, over}
		}
	}
	return c, nil
}
