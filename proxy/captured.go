package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/proxyproto"
	"github.com/heddlemesh/mesh/internal/socket"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/transport"
)

// DefaultServerFirst is how long a captured connection that the program receives may say nothing before it is taken for one on
// which the program speaks first.
const DefaultServerFirst = 5 * time.Second

// Capture says where connections arrive that rules of the kernel have redirected (heddle capture). The sidecar must run as who those
// rules exempt. Its Guard is required.
type Capture struct {
	// Outbound are addresses for the program's own connections, of loopback: 127.0.0.1:15001 and [::1]:15001.
	Outbound []string
	// Inbound are addresses for connections to the program, ":15006".
	Inbound []string
	// Opaque are ports of the program on which HTTP is not looked for: nobody waits for a first byte there, unless mutual TLS of the
	// mesh may be what comes.
	Opaque []uint16
	// ProxyProtocol are ports of the program whose callers tell by the PROXY protocol, version 1 or 2, who has made the connection. Who
	// does not is refused: name ports that only who is believed can reach. Default: none, and a header is the program's to read.
	ProxyProtocol []uint16
	// ServerFirst is how long an inbound connection may be silent. Default: DefaultServerFirst.
	ServerFirst time.Duration
	// Destination says where a connection meant to go. Default: as the kernel knows it, SO_ORIGINAL_DST.
	Destination func(*net.TCPConn) (netip.AddrPort, error)
	// TPROXY says that the rules hand inbound connections over as they are: the program then sees its callers' own addresses. The
	// sidecar needs CAP_NET_ADMIN for it, and Start says what else is missing. Default: they are redirected, and the program sees 127.0.0.6.
	TPROXY bool
}

// The reasons of replies to captured connections that go nowhere. Such a reply has no status: the connection is reset.
const (
	NotCaptured = "not_captured"    // nobody redirected it: it came straight to a port for captured connections
	NoHeader    = "no_proxy_header" // it does not say who has made it, by the PROXY protocol
	OwnTraffic  = "own_traffic"     // it is the sidecar's own: the rules do not exempt whom it runs as
)

// A captor is what a wire needs for connections that were redirected. It is safe for concurrent use.
type captor struct {
	config  Capture
	guard   *Guard
	inbound *transport.Inbound // nil for outbound
	unheard unheard
	names   *names // of outbound
	engine  *transport.Engine

	mu    sync.Mutex // guards what follows
	apps  map[way]*application
	given map[net.Conn]netip.AddrPort // HTTP/2, on its way to net/http
}

// A way is where connections to the program meant to go, and, where it is to see that, whom they are from.
type way struct {
	to      netip.AddrPort
	from    netip.Addr
	program string // where a declared listener says that it is; "" for there
}

func newCaptor(c Capture, g *Guard, in *transport.Inbound) *captor {
	if c.Destination == nil {
		c.Destination = capture.OriginalDestination
	}
	if c.ServerFirst <= 0 {
		c.ServerFirst = DefaultServerFirst
	}
	return &captor{config: c, guard: g, inbound: in, apps: make(map[way]*application), given: make(map[net.Conn]netip.AddrPort)}
}

// maxApplications is how many ports of the program, and callers, are remembered, which callers may make up.
const maxApplications = 1024

// application gives the program on one of its ports, called from an address whose connections are not captured again: with TPROXY the
// caller's, unless that is nobody's.
func (c *captor) application(to netip.AddrPort, from netip.Addr, program string) *application {
	if !c.config.TPROXY || onLoopback(program) {
		from = netip.Addr{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := way{to, from, program}
	a := c.apps[w]
	if a != nil {
		return a
	}
	if len(c.apps) >= maxApplications {
		for _, old := range c.apps {
			old.close()
		}
		clear(c.apps)
	}
	a = newApplication(cmp.Or(program, to.String()))
	if at, err := netip.ParseAddrPort(a.address); err == nil {
		a.from, a.as = capture.PassThrough(at.Addr()), from
	}
	c.apps[w] = a
	return a
}

func (c *captor) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.apps {
		a.close()
	}
}

// give remembers where a connection meant to go until net/http has it.
func (c *captor) give(nc net.Conn, to netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.given[nc] = to
}

// connContext is http.Server.ConnContext.
func (c *captor) connContext(ctx context.Context, nc net.Conn) context.Context {
	c.mu.Lock()
	to := c.given[nc]
	delete(c.given, nc)
	c.mu.Unlock()
	ctx = transport.WithDestination(ctx, to)
	if c.inbound != nil {
		ctx = c.inbound.ConnContext(ctx, nc)
	}
	return ctx
}

// outboundTarget is the one of connections that meant to go to an address: what the mesh does not know goes there, whatever name
// the request has.
func (c *captor) outboundTarget(r *http.Request) (destination, *LocalReply) {
	d, refused := outboundTarget(r)
	if refused == nil {
		d.url.Host = c.names.beyond(transport.DestinationOf(r.Context()))
	}
	return d, refused
}

// inboundTarget sends every request to where its connection meant to go.
func (c *captor) inboundTarget(e *transport.Engine) func(*http.Request) (destination, *LocalReply) {
	return func(r *http.Request) (destination, *LocalReply) {
		return inboundTarget(transport.DestinationOf(r.Context()).String(), e)(r)
	}
}

func (c *captor) via(r *http.Request) http.RoundTripper {
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	to := transport.DestinationOf(r.Context())
	return c.application(to, from.Addr().Unmap(), programOf(c.declared(to), to.Addr())).via(r)
}

// captured finds out where a redirected connection meant to go, and what is spoken on it. What is not HTTP is served, or
// refused, here. It reports whether the session goes on, with HTTP.
func (s *session) captured() bool {
	c := s.wire.captor
	tcp, ok := s.nc.(*net.TCPConn)
	if !ok || s.raw == nil {
		return false
	}
	to, err := c.config.Destination(tcp)
	if err != nil || !to.IsValid() || c.refuses(to) {
		s.refuse(to, LocalReply{Flag: "UH", Reason: NotCaptured, Err: err, Text: "a connection straight to a port for captured connections"})
		return false
	}
	s.to, s.began = to, time.Now()
	if s.own(c) {
		s.refuse(to, LocalReply{Flag: "UH", Reason: OwnTraffic, Text: "the sidecar's own connection was captured: the rules must exempt the user or group that it runs as"})
		return false
	}
	if c.inbound != nil {
		return s.received()
	}
	if c.names.unassigned(to.Addr()) {
		s.refuse(to, LocalReply{Flag: "NR", Reason: Unassigned, Text: "an automatic address that is no host's any more"})
		return false
	}
	return s.made()
}

// refuses reports whether an address is a listener of the sidecar's. What the program receives is for this machine, by whichever
// of its addresses.
func (c *captor) refuses(to netip.AddrPort) bool {
	loopback := func(a netip.Addr) bool { return c.guard.Refuses(netip.AddrPortFrom(a, to.Port())) }
	return c.guard.Refuses(to) || c.inbound != nil && (loopback(netip.IPv6Loopback()) || loopback(netip.AddrFrom4([4]byte{127, 0, 0, 1})))
}

// own reports whether the connection is one that the sidecar has made, and that must not come back to it: to its program, or to
// anybody else. One to an endpoint that is the program itself is to be received.
func (s *session) own(c *captor) bool {
	from, ok := s.nc.RemoteAddr().(*net.TCPAddr)
	switch {
	case !ok:
		return true
	case c.inbound != nil:
		return slices.Contains(capture.PassThrough(s.to.Addr()), from.AddrPort().Addr().Unmap())
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if !s.attendCall(cancel) {
		return true
	}
	defer s.attendCall(nil)
	return c.guard.Mine(ctx, from.AddrPort(), s.to)
}

// refuse resets a connection that was captured, and tells of it. to is zero where it is not known.
func (s *session) refuse(to netip.AddrPort, l LocalReply) {
	l.Direction = s.wire.forward.direction
	if to.IsValid() {
		l.Host = to.String()
	}
	s.wire.forward.report(l)
	resetAtClose(s.nc)
}

// hear looks at what the client says first, until enough says so or time is up. Where that is up, err is nil and b what there is.
func (s *session) hear(wait time.Duration, b []byte, enough func([]byte) bool) ([]byte, error) {
	s.reading.Arm(wait)
	n, err := look(s.raw, b, enough)
	if inTime := s.reading.Disarm(); inTime {
		return b[:n], err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Load() == int32(sessionWoken) || s.why == clientGone {
		return nil, net.ErrClosed
	}
	if err != nil && !timedOut(err) {
		return nil, err
	}
	return b[:n], s.nc.SetReadDeadline(time.Time{})
}

// from gives the caller's address.
func (s *session) from() netip.Addr {
	if from, ok := s.nc.RemoteAddr().(*net.TCPAddr); ok {
		return from.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// received is captured of a connection to the program.
func (s *session) received() bool {
	c := s.wire.captor
	l := c.declared(s.to)
	program := programOf(l, s.to.Addr())
	path, unix := strings.CutPrefix(program, "unix://")
	if at, err := netip.ParseAddrPort(program); err == nil && c.refuses(at) || unix && c.guard.RefusesSocket(path) {
		s.refuse(s.to, LocalReply{Flag: "UH", Reason: OwnTraffic, Text: "the endpoint of the port's listener is the sidecar's own"})
		return false
	}
	s.app = c.application(s.to, s.from(), program)
	if slices.Contains(c.config.ProxyProtocol, s.to.Port()) && !s.proxied() {
		s.refuse(s.to, LocalReply{Flag: "DPE", Reason: NoHeader, Text: "the connection begins with no header of the PROXY protocol"})
		return false
	}
	opaque := slices.Contains(c.config.Opaque, s.to.Port()) || l != nil && l.Speech > snapshot.SpeaksHTTP
	said := undecided
	if !opaque || c.inbound.Identified() { // which may be asked for by TLS
		b, err := s.hear(c.config.ServerFirst, make([]byte, maxSniffed), func(b []byte) bool { return opaque || sniff(b) != undecided })
		if err != nil {
			return false
		}
		if said = sniff(b); said == undecided && len(b) > 0 {
			said = speaksOther
		}
	}
	options := []transport.InboundOption{transport.WithInboundPort(s.to.Port()), transport.WithPeerExchange()}
	own := false // it is the program's own TLS
	if said == speaksTLS {
		b, err := s.hear(c.config.ServerFirst, make([]byte, maxHello), func(b []byte) bool {
			_, done := offers(b)
			return done
		})
		if err != nil {
			return false
		}
		offered, _ := offers(b)
		own = !c.inbound.Meant(s.to.Port(), offered)
	}
	http := !own && !opaque && l != nil && l.Speech == snapshot.SpeaksHTTP
	if said == undecided && !http || own {
		options = append(options, transport.WithServerFirst())
	}
	nc, err := c.inbound.Admit(s.nc, options...)
	if err != nil {
		return false
	}
	s.take(nc)
	if s.tls != nil {
		said = s.within()
	}
	switch {
	case http && said != speaksHTTP2: // the codec refuses what is none
	case opaque || said != speaksHTTP1 && said != speaksHTTP2:
		s.pass()
		return false
	case said == speaksHTTP2:
		s.handOn()
		return false
	}
	return true
}

// proxied takes a header of the PROXY protocol away, and has the session's connection be from whom it names. It reports false where
// there is none.
func (s *session) proxied() bool {
	tcp, ok := s.nc.(*net.TCPConn)
	if !ok {
		return false
	}
	var h proxyproto.Header
	size := 0
	_, err := s.hear(transport.DefaultReadHeaderTimeout, make([]byte, proxyproto.MaxHeader), func(b []byte) bool {
		var err error
		h, size, err = proxyproto.Parse(b)
		return size > 0 || err != nil
	})
	if err != nil || size == 0 {
		return false
	}
	if _, err = io.CopyN(io.Discard, tcp, int64(size)); err != nil { // it is there
		return false
	}
	s.take(proxyproto.WithHeader(tcp, h))
	return true
}

// within says what is spoken within the mesh's TLS: what was agreed on, or what comes first.
func (s *session) within() spoken {
	switch s.tls.ConnectionState().NegotiatedProtocol {
	case "h2":
		return speaksHTTP2
	case "http/1.1":
		return speaksHTTP1
	case "istio", transport.PeerExchange: // of Istio's clients of TCP
		return speaksOther
	}
	s.reading.Arm(s.wire.captor.config.ServerFirst)
	err := s.conn.WaitReadable()
	if !s.reading.Disarm() {
		_ = s.nc.SetReadDeadline(time.Time{}) // TLS reads no more after a deadline: who speaks first must say so by ALPN
	}
	if err != nil {
		return speaksOther
	}
	switch said := sniff(s.conn.Buffered()); said {
	case undecided, speaksHTTP1: // the codec refuses what is none
		return speaksHTTP1
	default:
		return said
	}
}

// take puts an admitted connection in the place of the one that it is made of.
func (s *session) take(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := s.why == clientGone
	s.wrap(nc)
	if gone {
		_ = socket.Beneath(nc).Close()
	}
	s.caller = s.wire.engine.Caller(nc)
}

// handOn gives a connection of HTTP/2 to net/http.
func (s *session) handOn() {
	s.handed = true
	nc := s.conn.Detach()
	s.wire.captor.give(nc, s.to)
	s.wire.http2.give(nc)
}

// pass joins a connection that is not HTTP with the program, where policies let it in.
func (s *session) pass() {
	s.tell()
	tally := s.tally()
	if details, ok := s.wire.captor.inbound.LetsIn(s.nc, s.to); !ok {
		tally.Failed(0, details, nil)
		s.refuse(s.to, LocalReply{Flag: "UAEX", Reason: Denied, Text: "the connection is denied by policy"})
		return
	}
	s.reach(tally)
}

// tally begins that of a connection to the program.
func (s *session) tally() *transport.Tally {
	at := s.ends("")
	if s.tls != nil {
		at.ServerName = s.tls.ConnectionState().ServerName
	}
	return s.wire.engine.Tally(s.began, at, s.caller, s.said)
}

// reach joins a connection that was let in with the program.
func (s *session) reach(tally *transport.Tally) {
	port := s.to.Port()
	if !s.wire.reached.enter(port, s.wire.engine.Snapshot().Inbound.Most(port)) {
		reply := LocalReply{Flag: "UO", Reason: call.ReasonOverflow.String(), Text: "as many connections as inboundConnectionPool allows"}
		tally.Failed(reply.flags(), "", nil)
		s.refuse(s.to, reply)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	err := context.Canceled
	var up net.Conn
	if s.attendCall(cancel) {
		up, err = s.app.dial(ctx)
	}
	s.attendCall(nil)
	if err != nil {
		s.wire.reached.leave(port)
		reply := replyOf(err)
		tally.Failed(reply.flags(), "", err)
		if !errors.Is(err, context.Canceled) {
			s.refuse(s.to, reply)
		}
		return
	}
	s.tunnel(up, tally, func() { s.wire.reached.leave(port) })
}

// ends gives the addresses of the connection.
func (s *visitor) ends(name string) transport.Ends {
	return transport.Ends{Local: s.to, Remote: addressOf(s.nc.RemoteAddr()), Direct: transport.PhysicalPeer(s.nc), ServerName: name}
}
