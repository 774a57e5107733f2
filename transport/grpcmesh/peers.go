package grpcmesh

import (
	"crypto/x509"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport"
)

// What peers tell each other of their workloads, in metadata (see transport.Says): a client in each attempt over the mesh's TLS, a server
// in the header of its answer, which is the trailer where a status is all of it.

func peerSaid(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return ""
}

// saying is what a workload says of itself, as metadata; nil for nothing.
func saying(e *transport.Engine) metadata.MD {
	s := e.Says()
	if s == nil {
		return nil
	}
	return metadata.MD{telemetry.PeerMetadata.Lower(): {s.Metadata}, telemetry.PeerMetadataID.Lower(): {s.ID}}
}

// says tells the caller of an RPC once who answers it, where it has said who it is itself. message says that a message follows: else
// the status is all there is.
func (v server) says(a *arrival, w answer, message bool) {
	if a.said == "" || v.saying == nil || a.told.Swap(true) {
		return
	}
	if message {
		_ = w.SetHeader(v.saying) // only what was sent can be too late
		return
	}
	w.SetTrailer(v.saying)
}

// A proof is by which certificate the endpoint of a connection was proved to be of the mesh.
type proof struct{ certificate *x509.Certificate }

// proven notes at the balancer's connection who was proved to be at its other end.
func (c meshCredentials) proven(secured net.Conn, a *attributes.Attributes) {
	of, _ := a.Value(connKey{}).(*conn)
	if of == nil {
		return
	}
	of.proof.Store(nil)
	if p, ok := c.engine.Peer(secured); ok {
		of.proof.Store(&proof{p.Certificate})
	}
}

// mayHear reports whether the RPC can go to an endpoint that has something to say of itself.
func (r *rpc) mayHear() bool {
	if r.direct || r.driver.saying == nil {
		return false
	}
	p := r.call.Policy()
	return p.TLS != nil && p.TLS.Mesh || p.TLS == nil && p.Automatic != nil
}

// hear notes what the endpoint of the last attempt has said of itself in a header, or in what is all of an answer.
func (r *rpc) hear(md metadata.MD) {
	if r.by == nil || md == nil {
		return
	}
	if said := peerSaid(md[telemetry.PeerMetadata.Lower()]); said != "" {
		r.call.Hear(r.by.certificate, said)
	}
}

// unsaid takes what peers tell each other off what the program has asked for.
func unsaid(opts []grpc.CallOption) {
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			withoutPeer(*o.HeaderAddr)
		case grpc.TrailerCallOption:
			withoutPeer(*o.TrailerAddr)
		}
	}
}

func withoutPeer(md metadata.MD) metadata.MD {
	delete(md, telemetry.PeerMetadata.Lower())
	delete(md, telemetry.PeerMetadataID.Lower())
	return md
}
