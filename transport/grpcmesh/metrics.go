package grpcmesh

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
	"github.com/heddlemesh/mesh/transport"
)

// codeOfError gives the status code of what a program is told, as a number.
func codeOfError(err error) uint32 {
	if e, ok := err.(*statusError); ok { //nolint:errorlint // ours, as it was made; without what it costs to make its details
		return uint32(codeOf(e.err))
	}
	s, ok := grpcstatus.FromError(err)
	if !ok {
		s = grpcstatus.FromContextError(err) // of a method, as grpc-go sends it
	}
	return uint32(s.Code())
}

// outcomeOf says how an RPC ended whose program is told err.
func outcomeOf(err error) telemetry.Outcome {
	o := telemetry.Outcome{Code: http.StatusOK}
	if _, ours := call.AsError(err); ours {
		o = transport.Failure(err, true)
	}
	o.GRPC = uint8(min(codeOfError(err), 16)) + 1
	return o
}

// measured is what metrics know of an RPC beside what the engine's call does. It has nothing where there are none.
type measured struct {
	calls, attempts *telemetry.RPCs
	sent, received  atomic.Uint64 // messages
	now             *tally        // of the attempt under way, nil where sizes are not counted
	closed          bool
}

// measure finds the RPC's own metrics. A method that was not there when the program was built is no label (gRFC A66).
func (r *rpc) measure(opts []grpc.CallOption) {
	store := r.driver.engine.Metrics()
	if store == nil {
		return
	}
	method := ""
	for _, o := range opts {
		if _, static := o.(grpc.StaticMethodCallOption); static {
			method = methodName(r.named)
		}
	}
	target := r.cc.Target()
	r.metrics.calls, r.metrics.attempts = store.RPC(telemetry.ClientCall, method, target), store.RPC(telemetry.ClientAttempt, method, target)
}

// methodName is a method as metrics have it: without the first slash.
func methodName(full string) string {
	if len(full) > 0 && full[0] == '/' {
		return full[1:]
	}
	return full
}

// tried counts an attempt that took so long, and ended with err.
func (r *rpc) tried(err error, took time.Duration) {
	if a := r.metrics.attempts; a != nil {
		code := codeOfError(err)
		a.Start()
		a.End(code, took)
		if t := r.metrics.now; t != nil {
			a.Sizes(code, t.sent.Load(), t.received.Load())
		}
	}
}

// record puts the RPC into the metrics, once.
func (r *rpc) record(err error) {
	if r.metrics.calls == nil || r.metrics.closed {
		return
	}
	r.metrics.closed = true
	o, m := outcomeOf(err), telemetry.Measurement{RequestMessages: r.metrics.sent.Load(), ResponseMessages: r.metrics.received.Load()}
	m.Duration = r.call.Record(o, m)
	r.metrics.calls.End(codeOfError(err), m.Duration)
	ours, ok := call.AsError(err)
	if !ok {
		r.driver.engine.Log(r.call.Entry(&r.asked, o, m, nil))
		return
	}
	r.driver.engine.Log(r.call.Entry(&r.asked, o, m, ours))
}

// SendMsg implements grpc.ClientStream.
func (s *clientStream) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	if err == nil {
		s.rpc.metrics.sent.Add(1)
	}
	return err
}

// An arrival is an RPC that a server has received. Its zero value is of a server without metrics.
type arrival struct {
	engine         *transport.Engine
	calls          *telemetry.RPCs
	came           context.Context // says who has sent it
	began          time.Time
	flags          call.Flags
	sent, received atomic.Uint64 // messages
	sizes          *tally        // nil where they are not counted
	authority      string
	method         string
	md             metadata.MD // that it came with, nil until it is asked for
	detail         string      // Envoy's details, where it was refused
	known          bool        // authority is
	said           string      // what its caller says of itself
	told           atomic.Bool // it is told who answers
	behind         bool        // a Handler of the mesh, which records it
	trace          telemetry.Trace
}

// arrive begins the account of an RPC. method is "" where the server does not have it.
func (a *arrival) arrive(ctx context.Context, v server, method string) {
	a.came, a.method = ctx, method
	if store := v.engine.Metrics(); store != nil {
		a.engine, a.began, a.behind = v.engine, time.Now(), v.engine.Admitted(ctx) != nil
		a.calls = store.RPC(telemetry.ServerCall, methodName(method), "")
		a.calls.Start()
		if v.sizes {
			a.sizes, _ = ctx.Value(tallyKey{}).(*tally)
		}
		if !a.behind {
			a.traces(ctx, method)
		}
	}
}

// traces begins the trace of the RPC.
func (a *arrival) traces(ctx context.Context, method string) {
	if !a.engine.TracesArrivals() {
		return
	}
	q := call.Request{Method: "POST", Scheme: "http", Path: method, Protocol: "HTTP/2", Headers: lookup{ctx}}
	q.Authority, _ = q.Headers.Value(authority, 0)
	if p, ok := peer.FromContext(ctx); ok {
		if from, ok := p.Addr.(*net.TCPAddr); ok {
			q.Source = from.AddrPort().Addr()
		}
	}
	a.trace = a.engine.TraceArrival(ctx, &q, transport.CallerFrom(ctx), methodName(method))
}

var authority = call.NewName(":authority")

// A lookup is the metadata of an RPC that came in, field by field: a copy of all would cost more.
type lookup struct{ ctx context.Context }

// Value implements call.Headers.
func (r lookup) Value(n *call.Name, i int) (string, bool) {
	v := metadata.ValueFromIncomingContext(r.ctx, n.Lower())
	if i < len(v) {
		return v[i], true
	}
	return "", false
}

// proved notes the context that says who has proved to send the RPC, and what that says of itself.
func (a *arrival) proved(ctx context.Context) {
	a.came = ctx
	if a.engine != nil && transport.CallerFrom(ctx) != nil {
		a.said = peerSaid(metadata.ValueFromIncomingContext(ctx, telemetry.PeerMetadata.Lower()))
	}
}

// named notes the metadata that the RPC came with.
func (a *arrival) named(md metadata.MD) {
	if v := md[":authority"]; len(v) > 0 {
		a.authority = v[0]
	}
	a.known, a.md = true, md
}

// end records the RPC.
func (a *arrival) end(err error) {
	if a.engine == nil {
		return
	}
	took := time.Since(a.began)
	code := codeOfError(err)
	a.calls.End(code, took)
	a.sizes.ends(a.calls, code)
	if a.behind {
		return
	}
	if !a.known {
		md, _ := metadata.FromIncomingContext(a.came)
		a.named(md)
	}
	o := telemetry.Outcome{Code: http.StatusOK, GRPC: uint8(min(code, 16)) + 1, Flags: a.flags}
	if a.came.Err() != nil {
		o.Flags |= call.FlagDC
	}
	m := telemetry.Measurement{Duration: took, RequestMessages: a.received.Load(), ResponseMessages: a.sent.Load()}
	g := a.engine.Arrived(transport.CallerFrom(a.came), a.authority, a.said)
	g.Series(o).Record(m)
	a.trace.End(o, m)
	a.tell(a.engine.Entry(telemetry.Destination, o, m), g)
}

// tell tells of the RPC's end; x is nil where nobody hears of it.
func (a *arrival) tell(x *accesslog.Entry, g *telemetry.Group) {
	if x == nil {
		return
	}
	x.Method, x.Scheme, x.Authority, x.Path, x.Protocol = http.MethodPost, "http", a.authority, a.method, "HTTP/2"
	x.Request, x.Details = headers(a.md), a.detail
	if x.Flags&call.FlagDC != 0 {
		x.Details = call.ReasonCanceled.Details()
	}
	var local, remote netip.AddrPort
	if p, ok := peer.FromContext(a.came); ok {
		remote = remoteOf(p.Addr)
		if at, ok := p.LocalAddr.(*net.TCPAddr); ok {
			local = at.AddrPort()
		}
		if secure, ok := p.AuthInfo.(authInfo); ok && secure.SecurityLevel == credentials.PrivacyAndIntegrity {
			x.Scheme, x.SNI = "https", secure.sni
		}
	}
	a.engine.Received(x, g, local, remote)
	a.engine.Log(x)
}
