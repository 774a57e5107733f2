package transport

import (
	"hash/maphash"
	"math/bits"
	"strings"
	"sync/atomic"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/telemetry"
)

// arrivedGroups remembers what requests that come in are recorded in, by who sends them and the host that they name.
type arrivedGroups struct {
	seed  maphash.Seed
	slots [256]atomic.Pointer[arrivedGroup]
}

// An arrivedGroup is one that was found. It is immutable.
type arrivedGroup struct {
	state                      *state
	principal, authority, said string
	group                      *telemetry.Group
}

// Arrived gives what a request that came in is recorded in, nil for nothing. caller is who was proved to send it, nil for nobody: then
// its workload is unknown. Of a caller that was, said is its telemetry.PeerMetadata, "" for none; namespace and account are those of its
// certificate. The service is that of the Host, where the mesh knows it. Neither authority nor said are kept.
func (e *Engine) Arrived(caller *Caller, authority, said string) *telemetry.Group {
	if e.metrics == nil {
		return nil
	}
	var peer authz.Peer
	if caller != nil {
		peer = caller.Policy
	}
	if peer.Principal == "" || len(said) > telemetry.MaxPeerMetadata {
		said = ""
	}
	st := e.state.Load()
	h := maphash.String(e.arrived.seed, authority) ^ maphash.String(e.arrived.seed, peer.Principal)
	if said != "" {
		h ^= bits.RotateLeft64(maphash.String(e.arrived.seed, said), 1)
	}
	slot := &e.arrived.slots[h%uint64(len(e.arrived.slots))]
	if had := slot.Load(); had != nil && had.state == st && had.authority == authority && had.principal == peer.Principal && had.said == said {
		return had.group
	}
	l := telemetry.Labels{Reporter: telemetry.Destination, Destination: e.self(peer.Principal != ""), Service: st.serviceNamed(authority),
		Security: telemetry.PlainText}
	if peer.Principal != "" {
		l.Source, _ = e.peers.workload("spiffe://"+peer.Principal, said)
		l.Source.Principal, l.Source.Namespace, l.Security = "spiffe://"+peer.Principal, peer.Namespace, telemetry.MutualTLS
	}
	g := e.metrics.Group(l)
	if len(authority) <= maxAuthority {
		slot.Store(&arrivedGroup{st, peer.Principal, strings.Clone(authority), strings.Clone(said), g})
	}
	return g
}

// maxAuthority bounds what is remembered, in bytes.
const maxAuthority = 256

// serviceNamed gives the service of a Host field. For one that the mesh does not know it is the workload's own: who writes it is free to
// write anything.
func (st *state) serviceNamed(authority string) telemetry.Service {
	t := st.snap.Tables[snapshot.Mesh]
	host, port, err := call.SplitAuthority(authority)
	if t == nil || err != nil {
		return st.ownService()
	}
	if port == 0 {
		port = 80
	}
	found, known := t.Lookup(host, port)
	if found == nil && len(known) > 0 {
		found, _ = t.Lookup(host, known[0])
	}
	if found == nil {
		return st.ownService()
	}
	return telemetry.ServiceOf(found.Host, "")
}

// ownService gives the service that the workload is of (Istio: that of the inbound cluster).
func (st *state) ownService() telemetry.Service {
	if st.snap.Service == "" {
		return telemetry.Service{}
	}
	return telemetry.ServiceOf(st.snap.Service, "")
}
