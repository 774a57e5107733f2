package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/identity/jwt"
	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/transport"
)

// appIdleTimeout is how long a connection to the application may be idle. Node's servers close theirs after
// 5 s, and a request that crosses the close is lost; a new connection on the same machine costs little.
const appIdleTimeout = 4 * time.Second

// An application is the program behind the sidecar, spoken to in the protocol that its caller speaks.
type application struct {
	network string // "tcp", or "unix" where the address is a path
	address string
	dialer  net.Dialer
	from    []netip.Addr // to connect from: the first that the machine has; nil for any
	as      netip.Addr   // to connect from in the place of those, as another's; the zero one for nobody's
	http1   http.Transport
	http2   http.Transport // without TLS, by prior knowledge
}

func newApplication(address string) *application {
	a := &application{network: "tcp", address: address, dialer: net.Dialer{Timeout: 10 * time.Second}}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		a.network, a.address = "unix", path
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return a.dial(ctx) }
	for _, t := range [...]*http.Transport{&a.http1, &a.http2} {
		t.DialContext = dial
		t.DisableCompression = true
		t.MaxIdleConnsPerHost = 256
		t.ReadBufferSize = 16 << 10 // most answers in one piece, and so one write to the client
		t.IdleConnTimeout = appIdleTimeout
		t.ExpectContinueTimeout = time.Second
		t.MaxResponseHeaderBytes = 256 << 10
		t.Protocols = new(http.Protocols)
	}
	a.http1.Protocols.SetHTTP1(true)
	a.http2.Protocols.SetUnencryptedHTTP2(true)
	return a
}

// host gives what stands in a URL for the program: it is not asked for by it.
func (a *application) host() string {
	if a.network == "unix" {
		return "localhost"
	}
	return a.address
}

// dial connects.
func (a *application) dial(ctx context.Context) (net.Conn, error) {
	if a.as.IsValid() && !a.as.IsLoopback() {
		return capture.DialAs(ctx, a.dialer, a.as, a.address)
	}
	for _, from := range a.from {
		d := a.dialer
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		if conn, err := d.DialContext(ctx, "tcp", a.address); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return conn, err
		}
	}
	return a.dialer.DialContext(ctx, a.network, a.address)
}

// peer is the application to a wire.
func (a *application) peer(u *upstreams) peer {
	to := discovery.Address{Network: a.network, Addr: a.address}
	if a.as.IsValid() {
		to.Via = a.as.String() // what one caller has used is no other's
	}
	return peer{key: upstreamKey{address: to}, pool: u.plain}
}

// via chooses by the version that the request came in; gRPC has no other than HTTP/2.
func (a *application) via(r *http.Request) http.RoundTripper {
	if r.ProtoMajor >= 2 {
		return &a.http2
	}
	return &a.http1
}

func (a *application) close() {
	a.http1.CloseIdleConnections()
	a.http2.CloseIdleConnections()
}

// The reasons of replies to requests that policies refuse.
const (
	Denied          = "rbac_access_denied"      // AuthorizationPolicy
	Unauthenticated = "jwt_authn_access_denied" // RequestAuthentication
	ExternalDenied  = "ext_authz_denied"        // whom a CUSTOM AuthorizationPolicy asks
	ExternalFailed  = "ext_authz_error"         // who could not be asked, or did not decide
)

// enters asks the policies whether the application is to see the request, and answers it where not; where they change before
// its end they are asked again. token is the one that was verified, nil for none. HTTP/2 meets them in the mesh's handler.
func (x *exchange) enters() (token *jwt.Token, ok bool) {
	x.stay.Arrival = transport.Arrival{Request: authz.Request{Request: &x.view, Authority: x.q.Authority()}}
	if c := x.s.caller; c != nil {
		x.stay.Peer = c.Policy
	}
	if direct := transport.PhysicalPeer(x.s.nc); direct.IsValid() {
		x.view.Source, x.stay.Remote = direct.Addr(), x.view.Source
	}
	if x.stay.Local = x.s.to; !x.stay.Local.IsValid() {
		if at, ok := x.s.nc.LocalAddr().(*net.TCPAddr); ok {
			x.stay.Local = at.AddrPort()
		}
	}
	if !x.stay.Prepare() {
		x.closing, x.unread = true, true
		x.reply(badRequest("malformed host"))
		return nil, false
	}
	x.over = false
	v := x.stay.Enter(x.s.wire.engine, x)
	switch {
	case x.over:
		return nil, false
	case v.Status != 0:
		x.refused(v)
		return nil, false
	}
	x.verdict = v
	x.entered = true
	if v.Edits() {
		x.edits = true
		x.edited.take(&x.forth)
		v.Edit(&x.edited)
		x.edited.Remove(transport.ForwardedCert) // it is not a token's to say
	}
	if query := v.Query(x.q.Query()); query != x.q.Query() {
		x.aimAt(x.view.Path, query)
	}
	return v.Token, true
}

// refused answers a request that policies do not let in.
func (x *exchange) refused(v transport.Verdict) {
	x.verdict = v
	flag := v.Flag
	if flag == "" {
		flag = "-"
	}
	x.account.detail = v.Details
	x.reply(LocalReply{Status: v.Status, Flag: flag, Reason: v.Reason, Text: v.Body, Err: errors.New(v.Details)})
}

// Ask implements transport.Guest.
func (x *exchange) Ask(gate transport.Gate, q *transport.Arrival, rule string) transport.Verdict {
	if x.verdict = (transport.Verdict{}); !x.put(gate, q, rule) {
		x.over = true
		return transport.Verdict{Status: http.StatusBadRequest}
	}
	return x.verdict
}

// Denied implements transport.Guest: where no answer has begun it is that of the policies, else the connection is cut.
func (x *exchange) Denied(v *transport.Verdict) { x.s.deny(v) }

// leave ends what enters has begun.
func (x *exchange) leave() {
	if x.entered {
		x.entered = false
		x.stay.Leave()
	}
}

// own keeps what was decided on while the buffers go.
func (x *exchange) own() {
	if !x.entered {
		return
	}
	x.stay.Own(func(q *transport.Arrival) {
		x.q.Own()
		x.view.Method, x.view.Path, x.view.Query = x.q.Method(), strings.Clone(x.view.Path), x.q.Query()
		x.view.Authority, x.view.Host = strings.Clone(x.view.Authority), strings.Clone(x.view.Host)
		q.Authority = x.q.Authority()
		q.Prepare()
	})
}
