package transport

import (
	"crypto/x509"
	"net"
	"net/http"
	"sync"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport/http1"
)

// Peers that have proved each other by mutual TLS of the mesh tell each other which workload they are in, the caller in its request and
// the callee in its answer, as Istio's proxies do (telemetry.PeerMetadata). It goes no further than that connection: neither a program
// nor anybody else sees it, and of nobody else it is believed. Namespace and account are the certificate's, whatever is said.

const (
	// maxPeerWorkloads bounds the workloads that one identity is believed to have, and maxPeers those of all. What goes beyond is "other".
	maxPeerWorkloads = 256
	maxPeers         = 4096
)

// peers are what the engine says of itself, and has heard of others. It is safe for concurrent use.
type peers struct {
	says *Says // nil for nothing

	mu    sync.Mutex // guards what follows
	known map[string]map[telemetry.Workload]struct{}
	count int
}

// Says is what a workload says of itself to its peers. It is immutable.
type Says struct {
	Metadata, ID string
	values       [2]string // the same, for header maps
}

func (p *peers) tell(w telemetry.Workload) {
	metadata, id := telemetry.TellPeer(w)
	if metadata != "" {
		p.says = &Says{metadata, id, [2]string{metadata, id}}
	}
}

// Says gives what the engine's workload says to peers that were proved to be of the mesh, nil for nothing.
func (e *Engine) Says() *Says { return e.peers.says }

// Put writes it into a header.
func (s *Says) Put(h http.Header) {
	h[telemetry.PeerMetadata.Canonical()] = s.values[0:1:1]
	h[telemetry.PeerMetadataID.Canonical()] = s.values[1:2:2]
}

// PeerField reports a field, in any case, by which peers tell each other of their workloads. As in Claims, '_' is '-'.
func PeerField(name string) bool {
	switch len(name) {
	case len(peerMetadata):
		return http1.Alike(name, peerMetadata)
	case len(peerMetadata + "-id"):
		return http1.Alike(name, peerMetadata+"-id")
	}
	return false
}

const peerMetadata = "x-envoy-peer-metadata"

// peerSaid gives what a header says of its sender, "" for nothing, or for several things.
func peerSaid(h http.Header) string {
	if v := h[telemetry.PeerMetadata.Canonical()]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// workload gives what metrics call a peer that was proved to be principal and says this of itself. ok is false where it says nothing
// that could be read.
func (p *peers) workload(principal, said string) (w telemetry.Workload, ok bool) {
	if w, ok = telemetry.PeerWorkload(said); !ok {
		return telemetry.Workload{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.known[principal]
	if _, had := of[w]; had {
		return w, true
	}
	if len(of) >= maxPeerWorkloads || p.count >= maxPeers {
		const other = telemetry.Other
		return telemetry.Workload{Name: other, App: other, Version: other, Cluster: other, CanonicalService: other, CanonicalRev: other}, true
	}
	if of == nil {
		if p.known == nil {
			p.known = make(map[string]map[telemetry.Workload]struct{})
		}
		of = make(map[telemetry.Workload]struct{}, 1)
		p.known[principal] = of
	}
	of[w] = struct{}{}
	p.count++
	return w, true
}

// Hear notes what the endpoint of the last attempt has said of itself in its answer, "" for nothing, which came by the mesh's TLS from
// who has proved to be of the certificate. said is not kept.
func (c *Call) Hear(certificate *x509.Certificate, said string) {
	if ep := c.last; ep != nil && said != "" && certificate != nil {
		c.heard = c.engine.hear(ep, certificate, said)
	}
}

// Peer says who is at the other end of a connection that Open or Secure gave; ok is false where nobody was proved to be.
func (e *Engine) Peer(conn net.Conn) (p identity.Peer, ok bool) { return e.live.peer(conn) }

// hear gives what calls to the endpoint are recorded in from now on.
func (e *Engine) hear(ep *balance.Endpoint, certificate *x509.Certificate, said string) *telemetry.Group {
	if ep.Metrics() == nil || len(said) > telemetry.MaxPeerMetadata {
		return nil
	}
	if had := ep.Heard(); had != nil && had.Said == said && (had.Certificate == certificate || had.Certificate.Equal(certificate)) {
		return had.Metrics
	}
	id, err := identity.IDOf(certificate)
	if err != nil {
		return nil
	}
	w, ok := e.peers.workload(id.String(), said)
	if !ok {
		return nil
	}
	l := *ep.Metrics().Labels()
	l.Destination = w.Or(l.Destination)
	l.Destination.Principal = id.String()
	if namespace, _, ok := id.ServiceAccount(); ok {
		l.Destination.Namespace = namespace
	}
	h := &balance.Heard{Certificate: certificate, Said: string([]byte(said)), Metrics: e.metrics.Group(l)}
	ep.Hear(h)
	return h.Metrics
}

// hearAnswer takes what an endpoint says of itself off its answer.
func (c *Call) hearAnswer(a Attempt, resp *http.Response) {
	h := resp.Header
	said := peerSaid(h)
	if said != "" && resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0 {
		if t := a.TLS(); t != nil && t.Mesh {
			c.Hear(resp.TLS.PeerCertificates[0], said)
		}
	}
	delete(h, telemetry.PeerMetadata.Canonical())
	delete(h, telemetry.PeerMetadataID.Canonical())
}

// saying gives the request with what the engine's workload says of itself, in the place of what the program says there.
func (f *leaf) saying(req *http.Request) *http.Request {
	if !f.key.tls.Mesh || f.leaves.says == nil {
		return req
	}
	out := new(http.Request)
	*out = *req
	out.Header = make(http.Header, len(req.Header)+2)
	for name, values := range req.Header {
		if !PeerField(name) {
			out.Header[name] = values
		}
	}
	f.leaves.says.Put(out.Header)
	return out
}
