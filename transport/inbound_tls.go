package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/internal/goaway"
	"github.com/heddlemesh/mesh/snapshot"
)

// An InboundOption says how one server takes its callers.
type InboundOption func(*inboundOptions)

type inboundOptions struct {
	port     uint16 // 0 for the listener's own
	appTLS   *tls.Config
	codec    func(format string, args ...any) // what the server codec reports to; nil for net/http's
	opaque   bool                             // what is spoken is not HTTP
	silent   bool                             // the caller waits for the program to speak
	exchange bool                             // peers of what is not HTTP may tell each other who they are
	goodbye  *goaway.Goodbyes                 // nil for Serve's own
}

// PeerExchange is Istio's name, by ALPN, for connections that are not HTTP and on which both sides first say which workload they are in.
const PeerExchange = "istio-peer-exchange"

// WithPeerExchange says that who takes a connection sees to PeerExchange where that was agreed on. Default: nobody is offered it.
func WithPeerExchange() InboundOption {
	return func(o *inboundOptions) { o.exchange = true }
}

// WithGoodbyes has Serve attach what says goodbye to connections of HTTP/2, for who shuts the server down himself. It counts for the first Serve
// of a server. Default: Shutdown says it.
func WithGoodbyes(g *goaway.Goodbyes) InboundOption {
	return func(o *inboundOptions) { o.goodbye = g }
}

// WithOpaque says of a Listener that what is spoken on its connections is not HTTP: AuthorizationPolicies decide about each
// connection, by what is known of it, and again when they change. What they do not let in is closed. A rule of ALLOW that asks
// for anything of HTTP lets nothing in, a rule of DENY denies without regard to that (istio.io, AuthorizationPolicy).
// Default: they decide about requests, in Handler.
func WithOpaque() InboundOption {
	return func(o *inboundOptions) { o.opaque = true }
}

// WithServerFirst says of Admit that the caller waits for the program to speak first: nothing is waited for, and what the port
// takes is plain text.
func WithServerFirst() InboundOption {
	return func(o *inboundOptions) { o.silent = true }
}

// WithInboundPort says which workload port the policies of a server are those of. Default: the listener's own.
func WithInboundPort(port uint16) InboundOption {
	return func(o *inboundOptions) { o.port = port }
}

// WithAppTLS serves TLS that is not the mesh's, by the program's own certificates, where the policy of the port is
// PERMISSIVE or DISABLE. Default: such connections are closed.
func WithAppTLS(config *tls.Config) InboundOption {
	return func(o *inboundOptions) { o.appTLS = config }
}

// A guard holds the policies of one port.
type guard struct {
	in   *Inbound
	o    inboundOptions
	port uint16
}

func (in *Inbound) guard(opts []InboundOption, addr net.Addr) *guard {
	g := &guard{in: in}
	for _, o := range opts {
		if o != nil {
			o(&g.o)
		}
	}
	if g.port = g.o.port; g.port == 0 {
		g.port = portOf(addr)
	}
	return g
}

func portOf(addr net.Addr) uint16 {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return uint16(tcp.Port)
	}
	return 0
}

// mode is what the port takes at this moment.
func (g *guard) mode() snapshot.MTLS {
	return g.in.engine.Snapshot().Inbound.Mode(g.port)
}

// protocols are what is taken by ALPN. Istio's clients name the mesh's own protocols beside these; "istio" alone is what
// its TCP clients have (istio.io, pilot/pkg/networking/util ALPNInMesh).
var (
	protocols  = []string{"h2", "http/1.1", "istio"}
	exchanging = []string{"h2", "http/1.1", PeerExchange, "istio"}
)

// meshProtocol is what every name begins with by which Istio's clients say that TLS is the mesh's.
const meshProtocol = "istio"

var (
	errPlaintext = errors.New("plain text where mutual TLS is required")
	errNotMesh   = errors.New("TLS that is not the mesh's")
	errNotTaken  = errors.New("TLS where plain text is served")
	errDenied    = errors.New("a connection that policies do not let in")
)

// admit takes a connection whose first byte has come, by the policy of the port: mutual TLS is shaken hands on, which
// ends by the deadline that the connection has.
func (g *guard) admit(conn net.Conn, first byte) (net.Conn, error) {
	if _, proved := g.in.live.peer(conn); proved { // it, or what it is a wrapping of, was admitted already
		return conn, nil
	}
	mode := g.mode()
	if _, own := conn.(*tls.Conn); own {
		if mode == snapshot.Strict {
			return nil, errNotMesh // the program's own TLS proves nothing to the mesh
		}
		return conn, nil
	}
	if first != tlsHandshake {
		if mode == snapshot.Strict {
			return nil, errPlaintext
		}
		g.watch(conn)
		return conn, nil
	}
	if !g.in.Identified() && g.o.appTLS == nil {
		return nil, errNotTaken
	}
	var peer identity.Peer
	var own time.Time
	mesh := false
	secured := tls.Server(conn, &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if mesh = g.in.meant(hello.SupportedProtos, mode); !mesh {
			if g.o.appTLS == nil {
				return nil, errNotMesh
			}
			if choose := g.o.appTLS.GetConfigForClient; choose != nil { // crypto/tls asks once only
				if config, err := choose(hello); config != nil || err != nil {
					return config, err
				}
			}
			return g.o.appTLS, nil
		}
		policy := &g.in.engine.Snapshot().Inbound
		taken := protocols
		if g.o.exchange {
			taken = exchanging
		}
		config, err := g.in.live.identity.ServerConfig(identity.ServerOptions{Protocols: taken, Optional: mode == snapshot.Permissive,
			Aliases: policy.Aliases, TLS13: policy.TLS13, Verified: func(p identity.Peer) { peer = p }})
		if err == nil {
			own = config.Certificates[0].Leaf.NotAfter
		}
		return config, err
	}})
	if err := secured.Handshake(); err != nil {
		return nil, err
	}
	if mesh {
		g.in.live.add(secured, peer, own, g.open)
	}
	return secured, nil
}

// meant reports whether a client means the mesh's TLS and not the program's: under PERMISSIVE it says so by ALPN.
func (in *Inbound) meant(offered []string, mode snapshot.MTLS) bool {
	switch {
	case mode == snapshot.Strict:
		return in.Identified()
	case mode == snapshot.Disabled || !in.Identified():
		return false
	}
	return slices.ContainsFunc(offered, func(p string) bool { return strings.HasPrefix(p, meshProtocol) })
}

// Meant reports whether TLS to a port of the workload is the mesh's, by what its ClientHello offers by ALPN: what is not goes to the
// program as it is, where the port takes plain text.
func (in *Inbound) Meant(port uint16, offered []string) bool {
	return in.meant(offered, in.engine.Snapshot().Inbound.Mode(port))
}

// allowed asks the policies about a connection that is not HTTP.
func (g *guard) allowed(conn net.Conn) bool {
	if !g.o.opaque {
		return true
	}
	var local netip.AddrPort
	if at, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		local = at.AddrPort()
	}
	_, ok := g.in.engine.letsIn(conn, netip.AddrPortFrom(local.Addr(), g.port))
	return ok
}

// LetsIn asks the policies about a connection that Admit has given, and that is not HTTP, to a port of this machine's, as those
// of WithOpaque are asked. It is closed when they do not let it in any more. Where they do not, details say why, in Envoy's words.
func (in *Inbound) LetsIn(conn net.Conn, to netip.AddrPort) (details string, ok bool) {
	return in.engine.letsIn(conn, to)
}

// open reports whether the port takes callers who prove nothing.
func (g *guard) open() bool { return g.mode() != snapshot.Strict }

// watch has a plain connection closed when the port takes none any more.
func (g *guard) watch(conn net.Conn) {
	if !g.in.Identified() {
		return
	}
	if peeked, ok := conn.(*peekedTCP); ok {
		conn = peeked.TCPConn
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		g.in.live.addPlain(tcp, g.open)
	}
}

// refuses reports whether a request without a verified peer must not be served.
func (g *guard) refuses(r *http.Request) bool {
	policy := &g.in.engine.Snapshot().Inbound
	if policy.MTLS != snapshot.Strict && len(policy.Ports) == 0 {
		return false
	}
	port := g.port
	if port == 0 {
		port = localOf(r.Context()).Port()
	}
	return policy.Mode(port) == snapshot.Strict
}

// misdirected reports a request for another name than that of its connection, where the program's own TLS asks different
// things for different names (RFC 9110 §15.5.20).
func (g *guard) misdirected(r *http.Request) bool {
	if g.o.appTLS == nil || g.o.appTLS.GetConfigForClient == nil || r.TLS == nil {
		return false
	}
	host, _, err := call.SplitAuthority(r.Host)
	_, notIP := netip.ParseAddr(host)
	if err == nil && notIP == nil && r.TLS.ServerName == "" {
		return false // an address is no server name (RFC 6066 §3)
	}
	return err != nil || !strings.EqualFold(host, r.TLS.ServerName)
}

type destinationKey struct{}

// WithDestination gives a context, of a connection that was redirected, to which the address that it meant to go to counts as
// the local one.
func WithDestination(ctx context.Context, to netip.AddrPort) context.Context {
	return context.WithValue(ctx, destinationKey{}, to)
}

// DestinationOf gives the address of WithDestination, the zero one for none.
func DestinationOf(ctx context.Context) netip.AddrPort {
	to, _ := ctx.Value(destinationKey{}).(netip.AddrPort)
	return to
}

// localOf gives the local address of the connection that a request of net/http's came on.
func localOf(ctx context.Context) netip.AddrPort {
	if to := DestinationOf(ctx); to.IsValid() {
		return to
	}
	if at, is := ctx.Value(http.LocalAddrContextKey).(*net.TCPAddr); is {
		return at.AddrPort()
	}
	return netip.AddrPort{}
}

// Admit does with one connection what Listener does, for servers that make their handshakes themselves. It blocks for
// SniffTimeout at most for each of first byte and handshake, and closes what it refuses.
func (in *Inbound) Admit(conn net.Conn, opts ...InboundOption) (net.Conn, error) {
	admitted, refused, err := in.guard(opts, conn.LocalAddr()).hear(conn, SniffTimeout)
	if refused != nil {
		in.counters.refused(refused)
		err = refused
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return admitted, nil
}

// Requires reports whether a workload port takes mutual TLS of the mesh only, at this moment.
func (in *Inbound) Requires(port uint16) bool {
	return in.engine.Snapshot().Inbound.Mode(port) == snapshot.Strict
}

// Identified reports whether the mesh has an identity.
func (in *Inbound) Identified() bool { return in.live.identified() }
