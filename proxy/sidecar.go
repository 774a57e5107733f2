package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/dns"
	"github.com/heddlemesh/mesh/internal/goaway"
	"github.com/heddlemesh/mesh/internal/guard"
	"github.com/heddlemesh/mesh/internal/proxyproto"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// An Inbound is one port that the sidecar serves for the application.
type Inbound struct {
	Listen string // "host:port" or ":port"
	App    string // where the application listens, "127.0.0.1:19080" or "unix:///run/app.sock"
	// Opaque says that the application does not speak HTTP: connections go to it as they are, under policies of connections and, where
	// the port has it, mutual TLS. Without an identity nobody waits for the caller to speak first. Default: it speaks HTTP.
	Opaque bool
	// ProxyProtocol says that callers tell by the PROXY protocol, version 1 or 2, who has made the connection, before TLS and all
	// else. Who does not is closed. Default: a header is no request.
	ProxyProtocol bool
	// TLS is what callers must speak: the certificates, and by its ClientAuth who may call. It must not change while it is
	// used; what it offers by ALPN is, where it does not say, h2 and http/1.1. Default: plaintext.
	TLS *tls.Config
}

// An OutboundTCP is one address at which programs reach a host by a protocol that is not HTTP.
type OutboundTCP struct {
	Listen string // "127.0.0.1:3306"
	Host   string // of the mesh or, where the outbound traffic policy lets it out, any other
	Port   uint16 // of the host's
}

// Config is what a Sidecar is made of.
type Config struct {
	Mesh *mesh.Mesh // required; the sidecar does not close it
	// Guard is the dialer that the mesh was given, so that it refuses the sidecar's own outbound and admin listeners. HTTP/1.1
	// to hosts that the mesh does not know is sent over its connections, and not by the mesh's pass-through transport. Default:
	// nobody refuses them, and that transport sends.
	Guard    *Guard
	Inbound  []Inbound
	Outbound string // address of the outbound listener, "" for none
	// AllowConnect lets programs ask the outbound listener for tunnels by CONNECT, which go by the rules of tcp and tls, or
	// where the outbound traffic policy lets them out to any other host, but never to this machine. It needs a Guard. Default: 405.
	AllowConnect bool
	// OutboundTCP are listeners for what is not HTTP, which go by the rules of tcp and tls. Default: none.
	OutboundTCP []OutboundTCP
	Admin       string // address of the admin listener, or unix:///path of a socket, which gets mode 0600; "" for none
	// Health is the address of a listener for /healthz/ready and Probes, and nothing else, "" for none. Whoever reaches it may ask.
	Health string
	// Probes are the application's, which the health listener makes so that a kubelet, which speaks no mutual TLS, need not. Default: none.
	Probes Probes
	// Capture takes connections that the kernel has redirected. Default: none.
	Capture Capture
	// DNS answers the program's queries for names. Default: nobody does.
	DNS DNS
	// AllowNonLoopback lets the outbound and admin listeners be reached from other machines. Default: refused.
	AllowNonLoopback bool
	// StreamIdleTimeout ends requests of HTTP/1 of which nothing has moved for so long, to the sidecar or from it: with 408
	// or 504 and flag SI, or by cutting off what has begun. A tunnel has no such end. Default: DefaultStreamIdleTimeout;
	// negative: none, as istiod has it for sidecars.
	StreamIdleTimeout time.Duration
	// Listen opens listeners, of "tcp" and, by a path, of "unix". Default: net.ListenConfig's without multipath TCP, with whose listeners a
	// few connections can be reset at the moment of Drain; of Unix sockets, which get mode 0600, one at the path that Close removes.
	Listen func(network, address string) (net.Listener, error)
	// ListenPacket opens the sockets for DNS queries over UDP, each before the listener for those over TCP on its port; it gives a
	// *net.UDPConn. Default: net.ListenPacket.
	ListenPacket func(network, address string) (net.PacketConn, error)
	// OnReply hears of every answer of the sidecar's own; it is called concurrently. Default: nobody does.
	OnReply func(LocalReply)
	// OnCall hears of every call of the outbound side when its answer or its error is known and before the program
	// hears of it; it is called concurrently and must not wait. Default: nobody does.
	OnCall func(*mesh.CallInfo)
	// MaxHeap is how many bytes of memory the process is to have: near it requests and connections are refused, rather than all ended by the
	// system (docs/sidecar.md). Default: Go's memory limit, GOMEMLIMIT; negative: none.
	MaxHeap int64
	memory  func() uint64 // what of MaxHeap is taken; nil for liveMemory's
	// AppMetrics is the URL of the application's own metrics in Prometheus's text format, which /stats/prometheus then has behind
	// those of the mesh; it is asked at each scrape, for 5 s at most. Default: none.
	AppMetrics string
	// Quit is what POST /quitquitquit asks for; it must not wait. Default: the page does not exist.
	Quit func()
	// LogLevel is the level of Logger, which /logging tells and sets. Default: there is no such page.
	LogLevel *slog.LevelVar
	// Workload and Version are what /server_info says.
	Workload mesh.Workload
	Version  string
	// Logger hears of listeners and connections, not of requests. Default: nothing is logged.
	Logger *slog.Logger
}

// A Sidecar is the running listeners. It is safe for concurrent use.
type Sidecar struct {
	config   Config
	started  time.Time
	inbound  []*server
	outbound *server   // nil for none
	captured []*server // of Config.Capture
	tcp      []*server // for what programs speak that is not HTTP
	declared declared  // by documents
	names    *names    // nil without DNS, as is dns
	dns      *dns.Server
	admin    *server
	health   *server // nil for none
	draining atomic.Bool
	ceded    atomic.Bool
	replies  replies
	app      *appMetrics // nil for none
	overload *overload   // nil without a limit
	forget   func()      // takes the sidecar's metrics out of the mesh's
	wheel    *http1.Wheel
	held     atomic.Int64 // bytes of buffers
	failed   chan error
	running  sync.WaitGroup
}

// A server is one listener and what serves it.
type server struct {
	name    string // "inbound", "outbound", "admin", "health"
	address string // as configured
	origin  string // the document that asks for it; "" where that is Config
	l       *gentleListener
	http    http.Server
	goodbye goaway.Goodbyes
	wire    *wire        // nil for admin and health
	forward *forwarder   // nil for admin and health
	app     *application // nil but for inbound
	captor  *captor      // nil but for captured connections
	tls     *tls.Config  // nil for plaintext
	opaque  bool         // what is spoken is not HTTP
	proxied bool         // its callers begin with a header of the PROXY protocol
}

// secured gives the listener as its callers speak to it. Who hands its connections out does not wait for a handshake.
func (s *server) secured() net.Listener {
	var l net.Listener = s.l
	if s.proxied {
		l = proxyproto.Listener{Listener: l}
	}
	if s.tls == nil {
		return l
	}
	config := s.tls
	if len(config.NextProtos) == 0 {
		config = config.Clone()
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	return tls.NewListener(l, config)
}

// Start opens all listeners and serves them. Where one cannot be opened none is; the error names it.
func Start(c Config) (*Sidecar, error) {
	if c.Mesh == nil {
		return nil, errors.New("start sidecar: no mesh")
	}
	if c.Listen == nil {
		c.Listen = listen
	}
	if c.StreamIdleTimeout == 0 {
		c.StreamIdleTimeout = DefaultStreamIdleTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sidecar{config: c, started: time.Now(), wheel: http1.NewWheel(0), failed: make(chan error, 1)}
	s.overload = newOverload(c.MaxHeap, c.memory, c.Logger)
	if err := s.open(); err != nil {
		s.overload.close()
		s.declared.close()
		for _, srv := range s.configured() {
			_ = srv.l.Close()
		}
		s.closeNames(context.Background())
		s.wheel.Close()
		return nil, fmt.Errorf("start sidecar: %w", err)
	}
	if c.AppMetrics != "" {
		s.app = newAppMetrics(c.AppMetrics, c.Mesh.Metrics().Gather)
	}
	s.forget = c.Mesh.Metrics().Collect(s.families)
	for _, srv := range s.configured() {
		s.running.Go(func() { s.serve(srv) })
	}
	s.declared.follow()
	if s.dns != nil {
		s.dns.Serve()
	}
	return s, nil
}

func (s *Sidecar) open() error {
	c := &s.config
	if c.AllowConnect && c.Guard == nil {
		return errors.New("AllowConnect needs a Guard: by it the sidecar knows its own listeners")
	}
	for _, in := range c.Inbound {
		srv, err := s.receive(in, func(f *forwarder) (*server, error) { return s.listen("inbound", in.Listen, f) })
		if err != nil {
			return err
		}
		s.inbound = append(s.inbound, srv)
	}
	if c.Outbound != "" {
		srv, err := s.listen("outbound", c.Outbound, &forwarder{direction: "outbound", target: outboundTarget, tell: c.OnCall,
			via: callers(c.Mesh, c.OnCall)})
		if err != nil {
			return err
		}
		srv.wire = newOutboundWire(srv.forward, srv.l, s.wheel, c.Mesh, c.Guard)
		srv.wire.countBuffers(&s.held)
		if srv.wire.connects = c.AllowConnect; c.AllowConnect {
			srv.forward.connects, srv.goodbye.Handler = srv.wire, streamsOf
		}
		s.outbound = srv
	}
	if err := s.openTCP(); err != nil {
		return err
	}
	if err := s.openNames(); err != nil {
		return err
	}
	if err := s.openCapture(); err != nil {
		return err
	}
	if c.Admin != "" {
		srv, err := s.listen("admin", c.Admin, nil)
		if err != nil {
			return err
		}
		srv.http.Handler = s.adminHandler()
		s.admin = srv
	}
	if err := s.openHealth(); err != nil {
		return err
	}
	for _, srv := range s.servers() {
		if srv.wire != nil {
			srv.wire.idle = c.StreamIdleTimeout
		}
	}
	if s.outbound != nil {
		s.outbound.wire.own = s.addresses
	}
	for _, srv := range append(append([]*server{s.outbound, s.admin}, s.captured...), s.tcp...) {
		if srv != nil && c.Guard != nil {
			c.Guard.Refuse(srv.l.Addr())
		}
	}
	if err := s.loops(); err != nil {
		return err
	}
	return s.openDeclared()
}

// receive makes the server of one inbound listener.
func (s *Sidecar) receive(in Inbound, open func(*forwarder) (*server, error)) (*server, error) {
	e, app := s.config.Mesh.Engine(), newApplication(in.App)
	srv, err := open(&forwarder{direction: "inbound", target: inboundTarget(app.host(), e), via: app.via})
	if err != nil {
		return nil, err
	}
	srv.proxied, srv.opaque = in.ProxyProtocol, in.Opaque
	srv.app, srv.wire, srv.tls = app, newInboundWire(srv.forward, srv.l, s.wheel, e, app), in.TLS
	srv.wire.countBuffers(&s.held)
	srv.wire.opaque = in.Opaque
	return srv, nil
}

// addresses gives those of all listeners that have one.
func (s *Sidecar) addresses() (all []netip.AddrPort) {
	for _, srv := range s.servers() {
		if own, err := netip.ParseAddrPort(srv.l.Addr().String()); err == nil {
			all = append(all, own)
		}
	}
	return all
}

// listen opens one listener. Those that trust whoever reaches them are for this machine only.
func (s *Sidecar) listen(name, address string, f *forwarder) (*server, error) {
	c := &s.config
	private := name != "inbound" && name != "captured" && !c.AllowNonLoopback
	refused := fmt.Errorf("listen %s %s: not a loopback address, and whoever reaches this listener may use it; "+
		"allow it explicitly if that is meant", name, address)
	path, unix := strings.CutPrefix(address, "unix://")
	if unix = unix && name == "admin"; private && !unix && !loopback(address) {
		return nil, refused
	}
	network, at := "tcp", address
	if unix {
		network, at = "unix", path
	}
	l, err := c.Listen(network, at)
	if err != nil {
		return nil, fmt.Errorf("listen %s %s: %w", name, address, err)
	}
	if private && !unix && !loopback(l.Addr().String()) { // a name may stand for any address
		_ = l.Close()
		return nil, refused
	}
	return s.serverOn(name, address, l, f), nil
}

// serverOn makes the server of a listener.
func (s *Sidecar) serverOn(name, address string, l net.Listener, f *forwarder) *server {
	c := &s.config
	srv := &server{name: name, address: address, l: newGentleListener(l), forward: f}
	srv.http.ConnState = srv.l.conns.changed
	if f != nil {
		f.report = s.report
		f.overload, srv.l.overload = s.overload, s.overload
		srv.http.Handler = f
		if name != "inbound" { // which the mesh sees to
			srv.goodbye.Attach(&srv.http)
		}
	}
	srv.http.ErrorLog = slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug)
	if name != "inbound" { // what the mesh sets on those
		srv.http.MaxHeaderBytes = transport.DefaultMaxHeaderBytes
		srv.http.ReadHeaderTimeout = transport.DefaultReadHeaderTimeout
		srv.http.IdleTimeout = transport.DefaultIdleTimeout
		srv.http.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 250}
		srv.http.Protocols = new(http.Protocols)
		srv.http.Protocols.SetHTTP1(true)
		srv.http.Protocols.SetUnencryptedHTTP2(true)
	}
	return srv
}

// loops refuses an application that is one of our own listeners: its requests would never end.
func (s *Sidecar) loops() error {
	for _, in := range s.inbound {
		if own := ownListener(in.app, s.servers()); own != nil {
			return fmt.Errorf("listen inbound %s: the application's address %s is the sidecar's own %s listener",
				in.address, in.app.address, own.name)
		}
	}
	return nil
}

// ownListener gives the server that listens where the application is, nil for none.
func ownListener(app *application, servers []*server) *server {
	at, err := netip.ParseAddrPort(strings.Replace(app.address, "localhost", "127.0.0.1", 1))
	if err != nil && app.network == "tcp" {
		return nil // a name: what it stands for may change at any time
	}
	for _, srv := range servers {
		if a := srv.l.Addr(); app.network == "unix" {
			if a.Network() == "unix" && guard.SameSocket(a.String(), app.address) {
				return srv
			}
		} else if own, err := netip.ParseAddrPort(a.String()); err == nil && own.Port() == at.Port() && guard.SameHost(own.Addr(), at.Addr()) {
			return srv
		}
	}
	return nil
}

func (s *Sidecar) servers() []*server { return append(s.configured(), s.declared.servers("")...) }

// configured gives the servers that Config asks for.
func (s *Sidecar) configured() []*server {
	all := slices.Concat(s.inbound, s.captured, s.tcp)
	for _, srv := range []*server{s.outbound, s.admin, s.health} {
		if srv != nil {
			all = append(all, srv)
		}
	}
	return all
}

// serve serves a listener until that ends: HTTP/1 on the wire, HTTP/2, the admin pages and health by net/http.
func (s *Sidecar) serve(srv *server) {
	var err error
	switch {
	case srv.wire == nil:
		err = srv.http.Serve(srv.l)
	case srv.app != nil:
		s.running.Go(func() { _ = s.config.Mesh.Serve(&srv.http, srv.wire.http2, transport.WithGoodbyes(&srv.goodbye)) })
		err = srv.wire.serve(s.config.Mesh.Listener(srv.secured(), s.taken(srv)...))
	default:
		s.running.Go(func() { _ = srv.http.Serve(srv.wire.http2) })
		err = srv.wire.serve(srv.l)
	}
	if errors.Is(err, http.ErrServerClosed) || srv.l.stopping.Load() {
		return
	}
	select {
	case s.failed <- fmt.Errorf("serve %s %s: %w", srv.name, srv.address, err):
	default: // one is enough to end the sidecar
	}
}

// BufferBytes gives the bytes of the buffers that HTTP/1 connections of both sides hold at the moment.
func (s *Sidecar) BufferBytes() int64 { return s.held.Load() }

// Failed gives the error of a listener that broke.
func (s *Sidecar) Failed() <-chan error { return s.failed }

// InboundAddrs says where callers reach the application, in the order of Config.Inbound.
func (s *Sidecar) InboundAddrs() []net.Addr {
	var all []net.Addr
	for _, srv := range s.inbound {
		all = append(all, srv.l.Addr())
	}
	return all
}

// OutboundAddr says where programs reach the mesh, nil where they cannot.
func (s *Sidecar) OutboundAddr() net.Addr { return s.outbound.addr() }

// AdminAddr says where the admin pages are, nil where there are none.
func (s *Sidecar) AdminAddr() net.Addr { return s.admin.addr() }

// HealthAddr says where the health listener is, nil where there is none.
func (s *Sidecar) HealthAddr() net.Addr { return s.health.addr() }

// closePages ends the admin pages and the health listener. Who has asked is answered, for a time: also who was accepted just before a
// successor had the sockets, and has not asked yet.
func (s *Sidecar) closePages(ctx context.Context) {
	most := pagesTime
	if s.ceded.Load() { // nobody waits for this process any more
		most = cededPagesTime
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
	defer cancel()
	var all sync.WaitGroup
	for _, srv := range []*server{s.admin, s.health} {
		if srv != nil {
			all.Go(func() {
				if capped, ok := srv.l.Listener.(*cappedListener); ok && s.ceded.Load() {
					capped.wait(within)
				}
				if srv.http.Shutdown(within) != nil { // which drops what it has read at this moment
					_ = srv.http.Close()
				}
			})
		}
	}
	all.Wait()
}

// How long who asks the admin pages and the health listener may take when everything else has ended.
const (
	pagesTime      = time.Second
	cededPagesTime = 10 * time.Second
)

func (s *server) addr() net.Addr {
	if s == nil {
		return nil
	}
	return s.l.Addr()
}

// Leaving makes /ready say 503 from now on, while everything is served as before: whoever sends requests here has
// to hear of it before Drain closes the listeners.
func (s *Sidecar) Leaving() { s.draining.Store(true) }

// Drain ends the inbound side in good order: /ready says so, the listeners close, requests under way and
// tunnels end by themselves, or are cut off when ctx ends, which is an error. The outbound side goes on, so
// that the application can finish what it does.
func (s *Sidecar) Drain(ctx context.Context) error {
	s.Leaving()
	s.declared.halt()
	return shutDown(ctx, slices.Concat(s.capturing("inbound"), s.inbound, s.declared.servers("inbound"))...)
}

// Shutdown drains the inbound side, then the outbound side, and then ends the admin pages and the health listener. Where ctx ends
// before, what is left is cut off and the error says which side. It waits for the sidecar's goroutines.
func (s *Sidecar) Shutdown(ctx context.Context) error {
	err := s.Drain(ctx)
	stop := s.declared.hurry(ctx)
	defer stop()
	outbound := slices.Concat(s.capturing("outbound"), s.tcp, s.declared.servers("outbound"))
	if s.outbound != nil {
		outbound = append(outbound, s.outbound)
	}
	err = errors.Join(err, shutDown(ctx, outbound...))
	s.closePages(ctx)
	s.closeNames(ctx)
	s.running.Wait()
	s.declared.cut()
	s.wheel.Close()
	s.overload.close()
	s.forget()
	if s.app != nil {
		s.app.close()
	}
	return err
}

// shutDown ends servers at the same time.
func shutDown(ctx context.Context, servers ...*server) error {
	errs := make([]error, len(servers))
	var wg sync.WaitGroup
	for i, srv := range servers {
		wg.Go(func() {
			srv.forward.draining.Store(true)
			srv.goodbye.Say()
			srv.l.stop(ctx)
			var http2 sync.WaitGroup
			var err error
			http2.Go(func() { // its second GOAWAY is not for the end of long streams
				srv.goodbye.Wait(ctx)
				err = srv.http.Shutdown(ctx)
			})
			srv.l.rest(ctx)
			srv.wire.conns.shut()
			http2.Wait()
			if err != nil {
				_ = srv.http.Close()
			}
			srv.goodbye.End()
			_ = srv.wire.http2.Close()
			_ = srv.l.Close()
			if err = errors.Join(err, srv.forward.tunnels.drain(ctx), srv.wire.wait(ctx)); err != nil {
				errs[i] = fmt.Errorf("shut down %s %s: %w", srv.name, srv.address, err)
			}
			if srv.app != nil {
				srv.app.close()
			}
			if srv.captor != nil {
				srv.captor.close()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Outbound is the outbound side without a listener: an http.Handler that sends every request through the
// mesh, as a forward proxy or by its Host. report may be nil; it is called concurrently.
func Outbound(m *mesh.Mesh, report func(LocalReply)) http.Handler {
	if report == nil {
		report = func(LocalReply) {}
	}
	return &forwarder{direction: "outbound", target: outboundTarget, report: report, via: callers(m, nil)}
}
