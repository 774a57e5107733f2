package transport

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

// DialFunc opens a connection to an endpoint, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// DefaultConnectTimeout is Istio's MeshConfig.connectTimeout.
const DefaultConnectTimeout = 10 * time.Second

// Leaves are the net/http connection pools: one http.Transport for each endpoint address, which dials that
// address whatever the URL says. So the caller's request goes down untouched, its Host is the service's
// name, and one endpoint's connections can go without the others'. It is safe for concurrent use.
type Leaves struct {
	dial DialFunc
	tls  *tls.Config // for the program's own TLS, https URLs

	mu    sync.Mutex
	byKey map[leafKey]*leaf
}

// leafKey is all that connections must agree in to be shared.
type leafKey struct {
	addr    discovery.Address
	proto   snapshot.Protocol
	timeout time.Duration
}

type leaf struct {
	http.Transport
	key  leafKey
	refs int // guarded by Leaves.mu
}

// lease is one endpoint record's hold on a leaf.
type lease struct {
	*leaf
	released bool // guarded by Leaves.mu
}

// NewLeaves makes the pools. dial nil means a net.Dialer; tlsConfig, which may be nil, is the client
// configuration for https URLs.
func NewLeaves(dial DialFunc, tlsConfig *tls.Config) *Leaves {
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	return &Leaves{dial: dial, tls: tlsConfig, byKey: make(map[leafKey]*leaf)}
}

// Open implements Pools.
func (l *Leaves) Open(e *discovery.Endpoint, p snapshot.Policy) any {
	key := leafKey{e.Address, p.Protocol, p.ConnectTimeout}
	if key.timeout == 0 {
		key.timeout = DefaultConnectTimeout
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.byKey[key]
	if f == nil {
		f = l.newLeaf(key)
		l.byKey[key] = f
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
	}
	l.mu.Unlock()
	if unused {
		h.CloseIdleConnections()
		// To net/http an HTTP/2 stream is over a moment after its body has ended for us, and until then its
		// connection is not idle.
		time.AfterFunc(streamEnd, h.CloseIdleConnections)
	}
}

const streamEnd = 100 * time.Millisecond

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

func (l *Leaves) newLeaf(key leafKey) *leaf {
	f := &leaf{key: key}
	f.Proxy = nil               // the endpoint is the destination
	f.DisableCompression = true // encodings are between the program and the service
	f.MaxIdleConnsPerHost = 64  // net/http's 2 makes every burst dial
	f.IdleConnTimeout = 90 * time.Second
	f.TLSHandshakeTimeout = DefaultConnectTimeout
	f.ExpectContinueTimeout = time.Second
	f.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second} // finds dead peers
	f.Protocols = new(http.Protocols)
	f.Protocols.SetHTTP2(true) // over the program's own TLS, where the peer offers it
	if key.proto == snapshot.HTTP2 {
		f.Protocols.SetUnencryptedHTTP2(true)
	} else {
		f.Protocols.SetHTTP1(true)
	}
	if l.tls != nil {
		f.TLSClientConfig = l.tls.Clone()
	}
	f.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, key.timeout)
		defer cancel()
		conn, err := l.dial(ctx, key.addr.Network, key.addr.Addr)
		if err != nil {
			return nil, &connectError{err}
		}
		return conn, nil
	}
	return f
}
