package proxy

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/internal/guard"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// connects reports whether the request asks for a tunnel where one may be asked for.
func (x *exchange) connects() bool { return x.s.wire.connects && x.q.Form() == http1.AuthorityForm }

// tunnelTo connects to the host and port that the client has named (RFC 9110 §9.3.6), by the rules of tcp and tls for them. When the
// client has been told so, joins makes the tunnel; else it has an answer of ours. To rules of tls the name is the one of the ClientHello,
// which comes too late to choose by.
func (x *exchange) tunnelTo() {
	s := x.s
	host, port, err := call.SplitAuthority(x.q.Authority())
	if err != nil || port == 0 || x.q.Body.Framing() != http1.NoBody {
		x.closing, x.unread = true, true
		x.reply(badRequest("CONNECT names a host and a port, and has no body"))
		return
	}
	name := s.serverName(host, port)
	q := s.asTCP(host, port, name)
	s.began, s.asked, x.account.others = time.Now(), true, true // the connection is told of, not the request
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if !s.attendCall(cancel) {
		x.aborted = true
		return
	}
	var c transport.Call
	up, finish, err := s.connect(ctx, &c, q)
	more := s.attendCall(nil)
	c.End(err)
	tally := c.Tally(s.began, s.ends(name), err)
	if err == nil && !more {
		_ = up.Close()
		finish()
		err = context.Canceled
	}
	if err != nil {
		tally.Failed(replyOf(err).flags(), "", err)
		if s.cause() != notEnded {
			x.lose(call.Outcome{Reason: call.ReasonCanceled}, err)
			return
		}
		x.reply(replyOf(err))
		return
	}
	x.w.Response(http.StatusOK, "OK", x.q.Method())
	x.w.Field("Date", s.wire.date.Field(time.Now()))
	x.aborted = x.w.Finish(nil) != nil
	x.joins = func() { s.tunnel(up, tally, finish) }
}

// serverName gives what rules of tls take for the ClientHello's name, "" where the host has none.
func (s *visitor) serverName(host string, port uint16) string {
	if t := s.wire.table(); t != nil {
		if v, _ := t.Lookup(host, port); v != nil && v.Named() {
			return host
		}
	}
	return ""
}

// asTCP is the request that stands for a connection that is not HTTP. To rules of HTTP it is what the program's own TLS is.
func (s *visitor) asTCP(host string, port uint16, name string) *call.Request {
	return &call.Request{Scope: s.wire.scope, Scheme: "https", Method: http.MethodConnect, Authority: net.JoinHostPort(host, "0"), Host: host, Port: port, Path: "/",
		Protocol: "TCP", Headers: call.HTTPHeaders(nil), Source: sourceOf(s.nc),
		Conn: &call.Connection{ServerName: name, To: s.to.Addr()}}
}

// beyond connects to what the mesh does not know. Whom a client has named by CONNECT is never this machine, whatever its name stands
// for at the moment, nor one of the sidecar's own listeners.
func (s *visitor) beyond(ctx context.Context, to string) (net.Conn, error) {
	if s.asked {
		ctx = guard.Besides(ctx, s.wire.refuses)
	}
	return s.wire.mesh.outside(ctx, "tcp", to)
}

// refuses says why no client may ask for a tunnel to an address, "" for one to which it may.
func (w *wire) refuses(to netip.AddrPort) string {
	switch a := to.Addr(); {
	case a.IsLoopback() || a.IsUnspecified():
		return "it is this machine"
	case a.IsMulticast():
		return "it is multicast"
	}
	for _, own := range w.own() {
		if own.Port() == to.Port() && guard.SameHost(own.Addr(), to.Addr()) {
			return "it is a listener of the proxy itself"
		}
	}
	return ""
}
