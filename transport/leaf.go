package transport

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/snapshot"
)

// DialFunc opens a connection to an endpoint, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// DefaultConnectTimeout is Istio's MeshConfig.connectTimeout.
const DefaultConnectTimeout = 10 * time.Second

// Leaves are the connection pools: one for each endpoint address, which dials that
// address whatever the URL says. So the caller's request goes down untouched, its Host is the service's
// name, and one endpoint's connections can go without the others'. It is safe for concurrent use.
type Leaves struct {
	dial    DialFunc
	tls     *tls.Config // for the program's own TLS, https URLs
	netHTTP bool        // all goes over net/http's pools
	live    *live       // of the mesh's identity, nil where it has none; set before the first Open
	says    *Says       // to endpoints that are reached by the mesh's TLS, nil for nothing; set before the first Open

	mu       sync.Mutex
	byKey    map[leafKey]*leaf
	policies map[leafPolicy]*sharedPolicy // of those
	secured  map[securedKey]*originator
}

// leafKey is all that connections must agree in to be shared.
type leafKey struct {
	addr discovery.Address
	*sharedPolicy
}

// A sharedPolicy is what many leaves have in common, so that each is small.
type sharedPolicy struct {
	leafPolicy
	leaves int // that have it; guarded by Leaves.mu
}

type leafPolicy struct {
	proto   snapshot.Protocol
	timeout time.Duration
	conns   snapshot.Connections
	secured bool
	tls     snapshot.TLS
	// limits bound the connections of load's cluster; nil where nothing does, and other clusters share them.
	limits resilience.Limits
	load   *Load
}

type securedKey struct {
	tls   snapshot.TLS
	proto snapshot.Protocol
}

// NewLeaves makes the pools. dial nil means a net.Dialer; tlsConfig, which may be nil, is the client
// configuration for https URLs.
func NewLeaves(dial DialFunc, tlsConfig *tls.Config) *Leaves {
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	return &Leaves{dial: dial, tls: tlsConfig, byKey: make(map[leafKey]*leaf), policies: make(map[leafPolicy]*sharedPolicy), secured: make(map[securedKey]*originator)}
}

// NewNetHTTPLeaves is NewLeaves with net/http's Transport and its pools.
func NewNetHTTPLeaves(dial DialFunc, tlsConfig *tls.Config) *Leaves {
	l := NewLeaves(dial, tlsConfig)
	l.netHTTP = true
	return l
}

// Open implements Pools.
func (l *Leaves) Open(e *discovery.Endpoint, p snapshot.Policy, load *Load) any {
	policy := leafPolicy{proto: p.Protocol, timeout: p.ConnectTimeout, conns: p.Connections}
	if p.TLS != nil {
		policy.secured, policy.tls = true, *p.TLS
	}
	if !l.netHTTP && p.Limits.Connections+p.Limits.Pending > 0 {
		policy.load, policy.limits = load, resilience.Limits{Connections: p.Limits.Connections, Pending: p.Limits.Pending}
	}
	if policy.timeout == 0 {
		policy.timeout = DefaultConnectTimeout
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	shared := l.policies[policy]
	if shared == nil {
		shared = &sharedPolicy{leafPolicy: policy}
		l.policies[policy] = shared
	}
	key := leafKey{e.Address, shared}
	f := l.byKey[key]
	if f == nil {
		f = newLeaf(l, key)
		f.counts = &load.connections
		l.byKey[key] = f
		shared.leaves++
	}
	f.refs++
	return &lease{leaf: f}
}

// Release implements Pools.
func (l *Leaves) Release(conns any) {
	h, ok := conns.(*lease)
	if !ok {
		return
	}
	l.mu.Lock()
	if !h.released {
		h.released = true
		h.refs--
	}
	unused := h.refs == 0
	if unused && l.byKey[h.key] == h.leaf {
		delete(l.byKey, h.key)
		if h.key.leaves--; h.key.leaves == 0 {
			delete(l.policies, h.key.leafPolicy)
		}
	}
	l.mu.Unlock()
	if unused {
		if h.http1 != nil {
			h.http1.close()
		}
		if h.http2 != nil {
			h.http2.close()
		}
		h.CloseIdleConnections()
		// To net/http an HTTP/2 stream is over a moment after its body has ended for us, and until then its
		// connection is not idle.
		time.AfterFunc(streamEnd, h.CloseIdleConnections)
	}
}

const streamEnd = 100 * time.Millisecond

// originator gives the one of a policy; all its connections share what its files came to. l.mu is held.
func (l *Leaves) originator(t snapshot.TLS, p snapshot.Protocol) *originator {
	key := securedKey{t, p}
	if l.secured[key] == nil {
		l.secured[key] = newOriginator(t, p, l.live)
	}
	return l.secured[key]
}

// CloseIdleConnections closes the connections of all leaves that no call uses at the moment.
func (l *Leaves) CloseIdleConnections() {
	l.mu.Lock()
	all := make([]*leaf, 0, len(l.byKey))
	for _, f := range l.byKey {
		all = append(all, f)
	}
	l.mu.Unlock()
	for _, f := range all {
		f.CloseIdleConnections()
	}
}
