package proxy

import (
	"crypto/x509"

	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// What peers tell each other of their workloads, on a wire (see transport.Says).

// An endpointConn keeps by which certificate the endpoint at the other end of a connection was proved to be of the mesh, nil for none,
// and who hears of its end.
type endpointConn struct {
	certificate *x509.Certificate
	over        func()
}

// Closed implements http1.Owner.
func (c *endpointConn) Closed() { c.over() }

// says gives what the endpoint of the attempt is told of who sends the request, nil for nothing.
func (x *exchange) says() *transport.Says {
	if x.s.wire.mesh == nil || x.to.tls == nil || !x.to.tls.Mesh {
		return nil
	}
	return x.s.wire.mesh.engine.Says()
}

// answers gives what the client is told of who answers it, nil for nothing: one that has proved to be of the mesh, and says it too.
func (x *exchange) answers() *transport.Says {
	if x.s.wire.mesh != nil || x.s.caller == nil || x.said() == "" {
		return nil
	}
	return x.s.wire.engine.Says()
}

// said gives what the client says of itself, "" for nothing.
func (x *exchange) said() string {
	if x.s.caller == nil {
		return ""
	}
	return saidIn(&x.q.Fields)
}

// heard notes what the endpoint says of itself in its answer.
func (x *exchange) heard() {
	if by, ok := x.up.Owner.(*endpointConn); ok && by.certificate != nil {
		x.call.Hear(by.certificate, saidIn(&x.p.Fields))
	}
}

func saidIn(f *http1.Fields) string {
	said, _ := f.Get(telemetry.PeerMetadata.Lower(), 0)
	if _, several := f.Get(telemetry.PeerMetadata.Lower(), 1); several {
		return ""
	}
	return said
}

func putPeer(w *http1.Writer, says *transport.Says) {
	if says != nil {
		w.Field(telemetry.PeerMetadata.Canonical(), says.Metadata)
		w.Field(telemetry.PeerMetadataID.Canonical(), says.ID)
	}
}
