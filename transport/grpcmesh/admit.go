package grpcmesh

import (
	"context"
	"net"
	"net/netip"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport"
)

// arrive takes an RPC through rate limits and policies, and gives the context that its method runs in. What the answer says of
// the limits goes with its header or, where that is a status alone, with its trailer: grpc-go sends the two in one then.
func (v server) arrive(ctx context.Context, g *guest, method string, w answer) (context.Context, error) {
	limits, claims := v.engine.Limits()
	if !limits && !claims {
		return g.enter(ctx, method, v.engine)
	}
	q, who := received(ctx, method), transport.CallerFrom(ctx).Principal()
	a := v.engine.Admit(&q, who)
	if a.Err != nil {
		return ctx, tooMany(&a, w, &g.arrival)
	}
	inner, err := g.enter(ctx, method, v.engine)
	if err == nil {
		if a = v.engine.AdmitClaims(a, &q, who, transport.TokenFrom(inner)); a.Err != nil {
			return ctx, tooMany(&a, w, &g.arrival)
		}
	}
	if md := limitsSay(&a); len(md) > 0 {
		_ = w.SetHeader(md) // only what was sent can be too late
	}
	return inner, err
}

func tooMany(a *transport.Admission, w answer, to *arrival) error {
	to.flags, to.detail = call.FlagRL, call.ReasonRateLimited.Details()
	w.SetTrailer(limitsSay(a))
	return detailed(grpcstatus.New(codes.Code(a.Err.GRPCStatusCode()), transport.BodyLimited), a.Err).Err()
}

func limitsSay(a *transport.Admission) metadata.MD {
	md := make(metadata.MD)
	a.Header(editor{headers(md)})
	return md
}

// An answer is where the metadata of an RPC's answer goes: a grpc.ServerStream is one.
type answer interface {
	SetHeader(metadata.MD) error
	SetTrailer(metadata.MD)
}

// unaryAnswer is the answer to the unary RPC of a context.
type unaryAnswer struct{ ctx context.Context }

func (a unaryAnswer) SetHeader(md metadata.MD) error { return grpc.SetHeader(a.ctx, md) }
func (a unaryAnswer) SetTrailer(md metadata.MD)      { _ = grpc.SetTrailer(a.ctx, md) }

// received shows an RPC as the HTTP request that it is on the wire.
func received(ctx context.Context, method string) call.Request {
	md, _ := metadata.FromIncomingContext(ctx)
	q := call.Request{Method: "POST", Scheme: "http", Protocol: "HTTP/2", Headers: headers(md)}
	q.Path, _ = call.CanonicalPath(method)
	if v := md[":authority"]; len(v) > 0 {
		q.Authority = v[0]
		q.Host, q.Port, _ = call.SplitAuthority(v[0])
	}
	if p, ok := peer.FromContext(ctx); ok {
		q.Source = addressOf(p.Addr)
	}
	return q
}

// addressOf is remoteOf without the port.
func addressOf(a net.Addr) netip.Addr { return remoteOf(a).Addr() }

// remoteOf reads an address: behind net/http it is a text (grpc.Server.ServeHTTP).
func remoteOf(a net.Addr) netip.AddrPort {
	var at netip.AddrPort
	if tcp, ok := a.(*net.TCPAddr); ok {
		at = tcp.AddrPort()
	} else if a != nil {
		at, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
