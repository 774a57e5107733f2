package grpcmesh

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"runtime"
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
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/transport"
)

// A server is the receiving side of a mesh for RPCs. It is immutable.
type server struct {
	engine  *transport.Engine
	inbound *transport.Inbound
	saying  metadata.MD // of the program's workload, to callers; nil for nothing. It must not be changed
	sizes   bool        // of messages are counted
}

func (v server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	g := &guest{sent: bodyOf(req)}
	g.arrival.arrive(ctx, v, info.FullMethod)
	g.arrival.received.Store(1)
	err = errPanicked
	defer func() { g.arrival.end(err) }()
	defer g.end()
	inner, err := v.receive(ctx, g, info.FullMethod, unaryAnswer{ctx})
	if err == nil {
		err = errPanicked
		resp, err = handler(v.carrying(inner, &g.arrival), req)
		if denied := g.again(); denied != nil {
			resp, err = nil, denied
		}
	}
	if err == nil {
		g.arrival.sent.Store(1)
	}
	v.says(&g.arrival, unaryAnswer{ctx}, err == nil)
	return resp, err
}

// errPanicked stands for what a method did that has not returned.
var errPanicked = rpcstatus.Error(codes.Unknown, "panic")

// stream runs the method in a goroutine of its own: one that waits for a message hears of nothing else, and the end of the RPC
// ends that wait.
func (v server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	s, method := &serverStream{ServerStream: ss, guest: guest{sent: bodyOf(nil)}}, info.FullMethod
	if srv == nil {
		method = "" // of grpc.UnknownServiceHandler
	}
	s.arrival.arrive(ss.Context(), v, method)
	s.server = v
	err = errPanicked
	defer func() { s.arrival.end(err) }()
	defer func() { v.says(&s.arrival, ss, false) }()
	defer s.end()
	ctx, err := v.receive(ss.Context(), &s.guest, info.FullMethod, ss)
	if err != nil {
		return err
	}
	err = errPanicked
	s.ctx = v.carrying(ctx, &s.arrival)
	returned := make(chan returned, 1)
	go s.run(srv, handler, returned)
	select {
	case r := <-returned:
		err = s.result(r)
		return err
	case <-ctx.Done():
	}
	if denied := s.reason(); denied != nil {
		return denied
	}
	err = s.result(<-returned)
	return err
}

// receive is the order of decisions about an RPC that comes in: whose it is, whether it is one too many, and whether policies
// allow it. What a Handler of the mesh has decided before it, on a port that is shared with HTTP, is not decided twice. It gives
// the context that the method runs in.
func (v server) receive(ctx context.Context, g *guest, method string, w answer) (context.Context, error) {
	if before := v.engine.Admitted(ctx); before != nil {
		g.arrive(arrivedWith(ctx, before.Header), method)
		inner, cancel := context.WithCancel(ctx)
		g.cancel = cancel
		return g.let(inner, before.Join(&g.stay, g))
	}
	came, err := v.proved(ctx)
	if err != nil {
		return ctx, err
	}
	g.arrival.proved(came)
	return v.arrive(came, g, method, w)
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

// A returned is how a method ended: by an error or without, by a panic, or by runtime.Goexit.
type returned struct {
	err      error
	panicked any
	whole    bool
}

// run runs the method. A panic is the interceptors' that are before ours.
func (s *serverStream) run(srv any, handler grpc.StreamHandler, to chan<- returned) {
	var r returned
	defer func() {
		if !r.whole {
			r.panicked = recover()
		}
		to <- r
	}()
	r.err = handler(srv, s)
	r.whole = true
}

func (s *serverStream) result(r returned) error {
	switch denied := s.again(); {
	case r.panicked != nil:
		panic(r.panicked)
	case !r.whole:
		runtime.Goexit()
	case denied != nil:
		return denied
	}
	return r.err
}

// carrying gives a context whose calls carry what the RPC came with, and with a request id where that had none.
func (v server) carrying(ctx context.Context, a *arrival) context.Context {
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	a.named(md)
	var few [4]transport.Mark
	if fields := a.trace.Fields(few[:0], headers(md)); len(fields) > 0 {
		if md == nil {
			md = make(metadata.MD, len(fields))
		}
		for _, f := range fields {
			md[f.Name.Lower()] = []string{f.Value}
		}
		ctx = metadata.NewIncomingContext(a.trace.Context(ctx), md)
	}
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
	guest
	server server
	ctx    context.Context
}

// Context implements grpc.ServerStream.
func (s *serverStream) Context() context.Context { return s.ctx }

// SendMsg implements grpc.ServerStream.
func (s *serverStream) SendMsg(m any) error {
	if err := s.again(); err != nil {
		return err
	}
	s.server.says(&s.arrival, s.ServerStream, true)
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.arrival.sent.Add(1)
	}
	return err
}

// RecvMsg implements grpc.ServerStream. It asks when the message is there: that may have taken long.
func (s *serverStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if denied := s.again(); denied != nil {
		return denied
	}
	if err == nil {
		s.arrival.received.Add(1)
	}
	return err
}

// A guest is an RPC that policies have let in, until its end.
type guest struct {
	stay    transport.Stay
	arrival arrival
	view    call.Request
	ctx     context.Context // of the RPC, for who is asked about it
	md      metadata.MD     // as it is decided on, and whom was asked for whose sake
	sent    sentBody
	remote  netip.AddrPort
	cancel  context.CancelFunc // nil until it is let in

	mu     sync.Mutex // guards what follows
	denied error
}

// Ask implements transport.Guest.
func (g *guest) Ask(gate transport.Gate, q *transport.Arrival, rule string) transport.Verdict {
	sent := g.sent
	if q != &g.stay.Arrival { // by now there may be none, or many
		sent = bodyOf(nil)
	}
	return gate.Ask(g.ctx, q, rule, &asked{g.md, sent, g.remote})
}

// Denied implements transport.Guest: the RPC's context ends, and so does a stream.
func (g *guest) Denied(v *transport.Verdict) {
	g.mu.Lock()
	g.denied = refusal(v)
	g.mu.Unlock()
	g.cancel()
}

func (g *guest) reason() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.denied
}

// again asks the policies where they have changed.
func (g *guest) again() error {
	g.stay.Ask()
	return g.reason()
}

func (g *guest) end() {
	if g.cancel != nil {
		g.stay.Leave()
		g.cancel()
	}
}

// enter asks whether the method is to run, and gives the context that it runs in.
func (g *guest) enter(ctx context.Context, method string, e *transport.Engine) (context.Context, error) {
	ctx = g.arrive(ctx, method)
	if tooManyFields(g.md) {
		g.arrival.flags = call.FlagDPE
		return ctx, errTooManyFields
	}
	ctx, cancel := context.WithCancel(ctx)
	g.cancel = cancel // Denied may come at once
	return g.let(ctx, g.stay.Enter(e, g))
}

// errTooManyFields refuses what a Handler answers with 431, in gRPC's own word for it.
var errTooManyFields = rpcstatus.Errorf(codes.ResourceExhausted, "more than %d metadata fields", transport.MaxHeaderFields)

func tooManyFields(md metadata.MD) bool {
	n := 0
	for _, values := range md {
		n += len(values)
	}
	return n > transport.MaxHeaderFields
}

// arrive makes what is decided on, the metadata as it is on the wire, and gives the context without what callers may not claim.
func (g *guest) arrive(ctx context.Context, method string) context.Context {
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	_, proved := transport.PeerFromContext(ctx)
	trail := md.Get(external.TrailHeader)
	claimed := false
	for name := range md {
		if transport.Claims(name, proved) {
			delete(md, name)
			claimed = true
		}
	}
	if claimed {
		ctx = metadata.NewIncomingContext(ctx, md.Copy())
	}
	path, sound := call.CanonicalPath(method)
	g.view = call.Request{Method: http.MethodPost, Scheme: "http", Path: path, Protocol: "HTTP/2", Headers: headers(md)}
	if host := md[":authority"]; len(host) > 0 {
		g.view.Authority = host[0]
	}
	q := &g.stay.Arrival
	q.Request = authz.Request{Request: &g.view, Authority: g.view.Authority, Peer: transport.PolicyPeer(ctx)}
	if p, ok := peer.FromContext(ctx); ok {
		g.remote = remoteOf(p.Addr)
		g.view.Source = g.remote.Addr()
		if at, ok := p.LocalAddr.(*net.TCPAddr); ok {
			q.Local = at.AddrPort()
		}
		switch secure := p.AuthInfo.(type) {
		case credentials.TLSInfo: // the program's own
			g.view.Scheme, q.SNI = "https", secure.State.ServerName
		case authInfo:
			if q.SNI = secure.sni; secure.SecurityLevel == credentials.PrivacyAndIntegrity {
				g.view.Scheme = "https"
			}
		}
	}
	q.Unsound = !sound || !q.Prepare()
	if g.ctx, g.md = ctx, md; len(trail) > 0 { // for who is asked, and for nobody else
		g.md = md.Copy()
		g.md.Set(external.TrailHeader, trail...)
	}
	return ctx
}

// let acts on a verdict: ctx is what the method runs in, and what it changes.
func (g *guest) let(ctx context.Context, verdict transport.Verdict) (context.Context, error) {
	if verdict.Status != 0 {
		g.cancel()
		g.cancel = nil
		g.arrival.detail = verdict.Details
		if g.arrival.flags |= call.ParseFlags(verdict.Flag); verdict.Status == http.StatusBadRequest {
			g.arrival.flags = call.FlagDPE
		}
		told := metadata.MD{}
		verdict.Refusal(editor{headers(told)})
		delete(told, "content-type")
		if len(told) > 0 {
			_ = grpc.SetTrailer(ctx, told)
		}
		return ctx, refusal(&verdict)
	}
	if verdict.EditsAnswer() {
		told := metadata.MD{}
		verdict.EditAnswer(editor{headers(told)})
		_ = grpc.SetHeader(ctx, told)
	}
	if verdict.Edits() {
		md, _ := metadata.FromIncomingContext(ctx) // a copy: what was decided on stays as it came
		if md == nil {
			md = metadata.MD{}
		}
		verdict.Edit(editor{headers(md)})
		ctx = metadata.NewIncomingContext(ctx, md)
	}
	return transport.WithToken(ctx, verdict.Token), nil
}

// refusal is a verdict as an RPC's status. What is HTTP's 400 is Internal to gRPC.
func refusal(v *transport.Verdict) error {
	return rpcstatus.Error(codes.Code(call.GRPCCode(v.Status)), v.Message())
}
