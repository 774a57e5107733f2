package proxy

import (
	"net/http"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// An account is what metrics are told of an exchange.
type account struct {
	began  time.Duration
	status int   // that the client was answered with, 0 for none
	grpc   uint8 // as in telemetry.Outcome
	rpc    bool
	flags  call.Flags // beside those of the call
	bytes  int64      // of the answer's body
	others bool       // RoundTripper sees to it
	called bool       // it is a call of the mesh
	unread bool       // the request has no head
	trace  telemetry.Trace
}

// meshEngine gives the engine of the side that the wire serves.
func (w *wire) meshEngine() *transport.Engine {
	if w.mesh != nil {
		return w.mesh.engine
	}
	return w.engine
}

// openAccount begins the account of a request whose head could be read, or not.
func (x *exchange) openAccount(read bool) {
	x.account = account{unread: !read}
	e := x.s.wire.meshEngine()
	if e.Metrics() == nil {
		return
	}
	if x.account.rpc = !x.account.unread && x.grpc(); x.s.wire.mesh == nil {
		x.account.began = e.Now()
	}
}

// replied notes an answer of our own.
func (x *exchange) replied(l *LocalReply, rpc bool) {
	x.account.status = l.Status
	x.account.flags |= call.ParseFlags(l.Flag)
	if rpc {
		x.account.status, x.account.grpc = http.StatusOK, telemetry.GRPCStatus(l.grpcStatus())
	}
}

// ended notes how an RPC ended whose answer was passed on: by its trailer, or where that is all in one by its header.
func (a *account) ended(p *http1.Response) {
	status, ok := "", false
	if t := p.Body.Trailer(); t != nil {
		status, ok = t.Get("grpc-status", 0)
	}
	if !ok {
		status, _ = p.Get("grpc-status", 0)
	}
	a.grpc = telemetry.GRPCStatus(status)
}

// brokeOff notes that an answer did not reach the client whole, and whose doing that was.
func (a *account) brokeOff(x *exchange) {
	switch {
	case x.s.cause() == tooLate:
		a.flags |= call.FlagUT
	case x.s.cause() == streamStill:
		a.flags |= call.FlagSI
	case x.s.cause() == notEnded && x.brokeOff():
		a.flags |= call.FlagUC
	default:
		a.flags |= call.FlagDC
	}
}

// record puts the exchange into the metrics: a call of the mesh, or a request for the application.
func (x *exchange) record() {
	a := &x.account
	e := x.s.wire.meshEngine()
	if a.others || e.Metrics() == nil {
		return
	}
	o := telemetry.Outcome{Code: uint16(a.status), GRPC: a.grpc, Flags: a.flags}
	m := telemetry.Measurement{RequestBytes: uint64(x.q.Body.Taken()), ResponseBytes: uint64(a.bytes)}
	authority := ""
	switch {
	case a.called:
		x.call.Record(o, m)
		return
	case x.s.wire.mesh != nil:
		e.Unsent().Series(o).Record(m)
		return
	case !a.unread:
		authority = x.q.Authority()
	}
	m.Duration = e.Now() - a.began
	e.Arrived(x.s.caller, authority).Series(o).Record(m)
	a.trace.End(o, m)
}
