package grpcmesh

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	rpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/transport"
)

// A server is the receiving side of a mesh for RPCs. It is immutable.
type server struct {
	engine  *transport.Engine
	inbound *transport.Inbound
}

func (v server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	var a arrival
	a.arrive(ctx, v, info.FullMethod)
	a.received.Store(1)
	err = errPanicked
	defer func() { a.end(err) }()
	in, err := v.receive(ctx, info.FullMethod, unaryAnswer{ctx}, bodyOf(req), &a)
	if err != nil {
		return nil, err
	}
	err = errPanicked
	if resp, err = handler(v.carrying(in.ctx, &a), req); err == nil {
		a.sent.Store(1)
	}
	return resp, err
}

// errPanicked stands for what a method did that has not returned.
var errPanicked = rpcstatus.Error(codes.Unknown, "panic")

func (v server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	a, method := new(arrival), info.FullMethod
	if srv == nil {
		method = "" // of grpc.UnknownServiceHandler
	}
	a.arrive(ss.Context(), v, method)
	err = errPanicked
	defer func() { a.end(err) }()
	in, err := v.receive(ss.Context(), info.FullMethod, ss, bodyOf(nil), a)
	if err != nil {
		return err
	}
	err = errPanicked
	err = handler(srv, &serverStream{ServerStream: ss, ctx: v.carrying(in.ctx, a), server: v, came: in.came, method: info.FullMethod, gate: in.gate, arrival: a})
	return err
}

// A reception is an RPC that has been let in.
type reception struct {
	ctx  context.Context // that the method runs in
	came context.Context // before anything was changed
	gate transport.Gate  // that has let it through
}

// receive is the order of decisions about an RPC that comes in: whose it is, whether it is one too many, and whether policies
// allow it. What a Handler of the mesh has decided before it, on a port that is shared with HTTP, is not decided twice.
func (v server) receive(ctx context.Context, method string, w answer, sent sentBody, a *arrival) (in reception, err error) {
	in.gate = v.engine.Gate()
	if before := v.engine.Admitted(ctx); before != nil {
		in.came = arrivedWith(ctx, before.Header)
		if in.ctx = ctx; before.Gate == in.gate {
			return in, nil
		}
		in.ctx, err = v.enter(in.came, method, in.gate, sent, a)
		return in, err
	}
	if in.came, err = v.proved(ctx); err != nil {
		return in, err
	}
	a.came = in.came
	in.ctx, err = v.arrive(in.came, method, w, in.gate, sent, a)
	return in, err
}

// arrivedWith gives a context whose RPC has the header as its metadata: the Handler's policies may have changed what grpc-go
// has seen.
func arrivedWith(ctx context.Context, h http.Header) context.Context {
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	for name, values := range h {
		name = strings.ToLower(name)
		if _, ok := md[name]; !ok && !strings.HasSuffix(name, binary) {
			md[name] = values
		}
	}
	return metadata.NewIncomingContext(ctx, md)
}

// carrying gives a context whose calls carry what the RPC came with, and with a request id where that had none.
func (v server) carrying(ctx context.Context, a *arrival) context.Context {
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	a.named(md)
	if id := md["x-request-id"]; len(id) == 0 || id[0] == "" {
		if md == nil {
			md = make(metadata.MD, 1)
		}
		md["x-request-id"] = []string{v.engine.RequestID()}
		ctx = metadata.NewIncomingContext(ctx, md)
	}
	return transport.WithCarried(ctx, transport.Collect(headers(md)))
}

// A serverStream is a stream under another context that policies can end.
type serverStream struct {
	grpc.ServerStream
	ctx    context.Context
	came   context.Context // before anything was changed
	server server
	method string

	arrival *arrival

	mu     sync.Mutex     // guards what follows: messages are sent and received concurrently
	gate   transport.Gate // that has let it through
	denied error
}

// Context implements grpc.ServerStream.
func (s *serverStream) Context() context.Context { return s.ctx }

// SendMsg implements grpc.ServerStream.
func (s *serverStream) SendMsg(m any) error {
	if err := s.again(); err != nil {
		return err
	}
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.arrival.sent.Add(1)
	}
	return err
}

// RecvMsg implements grpc.ServerStream. It asks when the message is there: that may have taken long.
func (s *serverStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	s.arrival.received.Add(1)
	return s.again()
}

// again asks the policies where they have changed.
func (s *serverStream) again() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.server.engine.Gate(); now != s.gate && s.denied == nil {
		_, s.denied = s.server.enter(s.came, s.method, now, bodyOf(nil), s.arrival)
		s.gate = now
	}
	return s.denied
}

// enter asks whether the method is to run, and gives the context that it runs in. What is decided on is the metadata as it
// is on the wire.
func (v server) enter(ctx context.Context, method string, g transport.Gate, sent sentBody, a *arrival) (context.Context, error) {
	if g.None() {
		return ctx, nil
	}
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	path, sound := call.CanonicalPath(method)
	view := call.Request{Method: http.MethodPost, Scheme: "http", Path: path, Protocol: "HTTP/2", Headers: headers(md)}
	if host := md[":authority"]; len(host) > 0 {
		view.Authority = host[0]
	}
	q := transport.Arrival{Request: authz.Request{Request: &view, Authority: view.Authority, Peer: transport.PolicyPeer(ctx)}}
	var remote netip.AddrPort
	if p, ok := peer.FromContext(ctx); ok {
		remote = remoteOf(p.Addr)
		view.Source = remote.Addr()
		if at, ok := p.LocalAddr.(*net.TCPAddr); ok {
			q.Local = at.AddrPort()
		}
		switch secure := p.AuthInfo.(type) {
		case credentials.TLSInfo: // the program's own
			view.Scheme, q.SNI = "https", secure.State.ServerName
		case authInfo:
			if q.SNI = secure.sni; secure.SecurityLevel == credentials.PrivacyAndIntegrity {
				view.Scheme = "https"
			}
		}
	}
	if !sound || !q.Prepare() {
		a.flags = call.FlagDPE
		return ctx, rpcstatus.Error(codes.Internal, http.StatusText(http.StatusBadRequest)) // as HTTP's 400 is to gRPC
	}
	var verdict transport.Verdict
	if rule := g.Custom(&q); rule != "" {
		verdict = g.Ask(ctx, &q, rule, &asked{md, sent, remote})
	}
	if verdict.Status == 0 {
		verdict = g.Decide(&q)
	}
	if verdict.Status != 0 {
		a.flags |= call.ParseFlags(verdict.Flag)
		told := metadata.MD{}
		verdict.Refusal(editor{headers(told)})
		delete(told, "content-type")
		if len(told) > 0 {
			_ = grpc.SetTrailer(ctx, told)
		}
		return ctx, rpcstatus.Error(codes.Code(call.GRPCCode(verdict.Status)), verdict.Message())
	}
	if verdict.EditsAnswer() {
		told := metadata.MD{}
		verdict.EditAnswer(editor{headers(told)})
		_ = grpc.SetHeader(ctx, told) // a stream under way has sent it
	}
	if verdict.Edits() {
		if md == nil {
			md = metadata.MD{}
		}
		verdict.Edit(editor{headers(md)})
		ctx = metadata.NewIncomingContext(ctx, md)
	}
	return transport.WithToken(ctx, verdict.Token), nil
}
