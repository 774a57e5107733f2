package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// An account is what metrics are told of an exchange.
type account struct {
	began   time.Duration
	status  int   // that the client was answered with, 0 for none
	grpc    uint8 // as in telemetry.Outcome
	rpc     bool
	flags   call.Flags     // beside those of the call
	bytes   int64          // of the answer's body
	others  bool           // RoundTripper sees to it
	called  bool           // it is a call of the mesh
	unread  bool           // the request has no head
	detail  string         // Envoy's response code details of an answer of our own
	err     error          // what led to it, nil for what the detail says
	logged  bool           // there is an access log: what follows is wanted
	tried   time.Duration  // when the last attempt began
	took    time.Duration  // to the head of its answer
	reached string         // whom it was sent to, "" for nobody
	from    netip.AddrPort // on which connection
	answer  http.Header    // where somebody asks for it
	trace   telemetry.Trace
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
	x.account.logged = e.Logged(x.reporter())
	if x.account.rpc = !x.account.unread && x.grpc(); x.s.wire.mesh == nil {
		x.account.began = e.Now()
	}
}

// replied notes an answer of our own.
func (x *exchange) replied(l *LocalReply, rpc bool) {
	x.account.status = l.Status
	x.account.err = l.Err
	if x.account.detail == "" { // the policies' own go before
		x.account.detail = l.responseDetails()
	}
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
	authority, said := "", ""
	switch {
	case a.called:
		m.Duration = x.call.Record(o, m)
		x.tell(x.call.Entry(&x.view, o, m, a.err), nil)
		return
	case x.s.wire.mesh != nil:
		e.Unsent().Series(o).Record(m)
		x.tell(e.Entry(telemetry.Source, o, m), nil)
		return
	case !a.unread:
		authority, said = x.q.Authority(), x.said()
	}
	m.Duration = e.Now() - a.began
	g := e.Arrived(x.s.caller, authority, said)
	g.Series(o).Record(m)
	a.trace.End(o, m)
	x.tell(e.Entry(telemetry.Destination, o, m), g)
}

// tell tells of the exchange's end; entry is nil where nobody hears of it.
func (x *exchange) tell(entry *accesslog.Entry, g *telemetry.Group) {
	if entry == nil {
		return
	}
	a, e := &x.account, x.s.wire.meshEngine()
	local, remote := addressOf(x.s.nc.LocalAddr()), addressOf(x.s.nc.RemoteAddr())
	if a.detail != "" {
		entry.Details = a.detail
	}
	if entry.Err = a.err; entry.Reason == call.ReasonNone {
		entry.Reason = call.ReasonOf(a.err)
	}
	if a.status == 0 && entry.Details == "" {
		entry.Details = call.ReasonCanceled.Details()
	}
	if !a.unread {
		entry.Method, entry.Authority, entry.Path, entry.Query = x.q.Method(), x.q.Authority(), x.q.Path(), x.q.Query()
		entry.Scheme, entry.Protocol, entry.Request = "http", "HTTP/1.1", (*came)(&x.q)
		if x.q.Minor() == 0 {
			entry.Protocol = "HTTP/1.0"
		}
		if _, ok := x.q.Get("x-request-id", 0); !ok && x.s.wire.mesh == nil && a.reached != "" {
			entry.RequestID = string(x.id[:])
		}
	}
	if x.s.tls != nil {
		entry.Scheme, entry.SNI = "https", x.s.tls.ConnectionState().ServerName
	}
	entry.UpstreamTime, entry.UpstreamLocal = a.took, a.from
	if a.answer != nil {
		entry.Response = call.HTTPHeaders(a.answer)
	}
	if entry.Reporter == telemetry.Destination {
		e.Received(entry, g, local, remote)
		if entry.Endpoint = a.reached; a.reached != "" {
			entry.Attempts = 1
		}
	} else {
		entry.Local, entry.Remote = local, remote
	}
	e.Log(entry)
}

// reporter says on which side of a request the wire is.
func (x *exchange) reporter() telemetry.Reporter {
	if x.s.wire.mesh != nil {
		return telemetry.Source
	}
	return telemetry.Destination
}

// sending notes an attempt that begins, and answered the head of its answer.
func (x *exchange) sending() {
	x.account.reached, x.account.took = x.to.key.address.Addr, 0
	if x.account.logged {
		x.account.tried = x.s.wire.meshEngine().Now()
	}
}

func (x *exchange) headed() {
	if !x.account.logged {
		return
	}
	e := x.s.wire.meshEngine()
	x.account.took, x.account.from = max(e.Now()-x.account.tried, 1), addressOf(x.up.NetConn().LocalAddr())
	if !e.Answers() {
		return
	}
	x.account.answer = make(http.Header, x.p.Len())
	for i := range x.p.Len() {
		x.account.answer.Add(strings.Clone(x.p.Name(i)), strings.Clone(x.p.Value(i)))
	}
}

func addressOf(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	return netip.AddrPort{}
}

// came is the header of a request as it was read.
type came http1.Request

// Value implements call.Headers.
func (c *came) Value(n *call.Name, i int) (string, bool) {
	return (*http1.Request)(c).Get(n.Lower(), i)
}
