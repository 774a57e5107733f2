package snapshot

import (
	"fmt"

	"github.com/heddlemesh/mesh/call"
)

// MTLS says which connections a port takes (PeerAuthentication mtls.mode).
type MTLS uint8

const (
	// Permissive takes mutual TLS of the mesh and plain text. It is Istio's default.
	Permissive MTLS = iota
	// Strict takes mutual TLS of the mesh only.
	Strict
	// Disabled takes no TLS of the mesh.
	Disabled
)

func (m MTLS) String() string {
	switch m {
	case Permissive:
		return "PERMISSIVE"
	case Strict:
		return "STRICT"
	case Disabled:
		return "DISABLE"
	}
	return fmt.Sprintf("MTLS(%d)", uint8(m))
}

// Inbound says what the workload takes of its callers. Its zero value is Istio's default.
type Inbound struct {
	MTLS  MTLS
	Ports map[uint16]MTLS // by workload port, where it differs
	// Aliases are trust domains that the workload's own authorities speak for as well
	// (MeshConfig.trustDomainAliases).
	Aliases []string
	// Paths is how the paths of requests are spelt for the program (MeshConfig.pathNormalization).
	Paths call.PathNormalization
	// Hops is how many proxies before the workload are believed what they write into x-forwarded-for: a gateway and those
	// before it (MeshConfig.defaultConfig.gatewayTopology.numTrustedProxies); 0 for none.
	Hops int
	// MaxConnections bounds the connections to each port of the workload that are not HTTP, in each process; 0 for no bound
	// (Sidecar.inboundConnectionPool.tcp.maxConnections).
	MaxConnections int
	// Listeners are those that are declared by port (Sidecar.ingress). What is captured on its way to other ports goes there.
	Listeners []Ingress
	// TLS13 takes TLS 1.3 of the mesh and nothing older (MeshConfig.meshMTLS.minProtocolVersion).
	TLS13 bool
	// Origin says where MTLS was written, for people: kind, name, file:line:column. "" for nowhere. PortsOrigin is where
	// Ports were.
	Origin, PortsOrigin string
}

// Strict says where it is written that the workload, or a port of it, takes mutual TLS only; ok is false where nothing
// says so.
func (in *Inbound) Strict() (origin string, ok bool) {
	if in.MTLS == Strict {
		return in.Origin, true
	}
	for _, m := range in.Ports {
		if m == Strict {
			return in.PortsOrigin, true
		}
	}
	return "", false
}

// Mode gives what a workload port takes.
func (in *Inbound) Mode(port uint16) MTLS {
	if m, ok := in.Ports[port]; ok {
		return m
	}
	return in.MTLS
}
