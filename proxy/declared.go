package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/internal/socket"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/transport"
)

const (
	// declaredDrain is how long connections of a declared listener may last after a configuration that does not have it any more
	// (MeshConfig.drainDuration, Envoy's --drain-time-s).
	declaredDrain = 45 * time.Second
	// declaredAgain is after how long a listener that could not be opened is tried again.
	declaredAgain = 5 * time.Second
)

// A declared are the listeners that the workload's Sidecar asks for (Sidecar.ingress and egress), where it is for the sidecar to listen. They come
// and go with the configuration, and each alone: one that cannot be opened is told of, and tried again, and the others serve.
type declared struct {
	sidecar *Sidecar
	changed chan struct{} // there is a new configuration
	ended   chan struct{} // closed by halt
	stop    func()        // of Engine.OnPublish
	once    sync.Once
	cut     context.CancelFunc
	leaving context.Context // of servers whose listener is not declared any more

	turn   sync.Mutex // held while listeners are opened and closed
	halted bool       // guarded by turn
	mu     sync.Mutex // guards what follows
	open   map[string]*asked
	broken []unopened
}

// An asked is one listener that documents ask for, by what it is. It is comparable but for its server.
type asked struct {
	listenTerms
	origin string
	server *server
}

// listenTerms are what a listener is opened by: with others it is another one, on the same socket.
type listenTerms struct {
	direction string // "inbound", "outbound"
	address   string // host:port, or unix://path
	in        snapshot.Ingress
	out       snapshot.Egress
}

// An unopened is one that could not be.
type unopened struct{ direction, address, origin, why string }

// openDeclared opens what the configuration of the start asks for. Where one cannot be opened none is.
func (s *Sidecar) openDeclared() error {
	d := &s.declared
	d.sidecar, d.changed, d.ended = s, make(chan struct{}, 1), make(chan struct{})
	d.open = make(map[string]*asked)
	d.leaving, d.cut = context.WithCancel(context.Background())
	d.stop = s.config.Mesh.Engine().OnPublish(func(transport.Ahead) func() {
		return func() {
			select {
			case d.changed <- struct{}{}:
			default:
			}
		}
	})
	d.reconcile()
	for _, b := range d.broken {
		return errors.New(b.why)
	}
	return nil
}

// follow serves what is declared, and has listeners come and go from here on.
func (d *declared) follow() {
	d.sidecar.running.Go(func() {
		for {
			var again <-chan time.Time
			if len(d.unopened()) > 0 {
				again = time.After(declaredAgain)
			}
			select {
			case <-d.ended:
				return
			case <-d.changed:
			case <-again:
			}
			d.reconcile()
		}
	})
}

// halt has listeners neither come nor go any more. It may be called several times, and before openDeclared.
func (d *declared) halt() {
	if d.sidecar == nil {
		return
	}
	d.once.Do(func() {
		d.stop()
		close(d.ended)
	})
	d.turn.Lock()
	defer d.turn.Unlock()
	d.halted = true
}

// close ends the listeners and all that is under way.
func (d *declared) close() {
	d.halt()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if d.sidecar != nil {
		d.cut()
	}
	_ = shutDown(ctx, d.servers("")...)
}

// hurry cuts off what is left of listeners that are not declared any more when ctx ends.
func (d *declared) hurry(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, d.cut)
}

// Receives reports whether there is a listener for callers of the application, of Config.Inbound or of documents.
func (s *Sidecar) Receives() bool { return len(s.inbound)+len(s.declared.servers("inbound")) > 0 }

// DeclaredAddrs gives where the sidecar listens because documents ask for it (Sidecar.ingress and egress), for callers first. They come and go
// with the configuration.
func (s *Sidecar) DeclaredAddrs() []net.Addr {
	var all []net.Addr
	for _, srv := range append(s.declared.servers("inbound"), s.declared.servers("outbound")...) {
		all = append(all, srv.l.Addr())
	}
	return all
}

// servers gives those of one direction, "" for both, sorted by address.
func (d *declared) servers(direction string) (all []*server) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.open {
		if a.server != nil && (direction == "" || a.direction == direction) {
			all = append(all, a.server)
		}
	}
	slices.SortFunc(all, func(a, b *server) int { return strings.Compare(a.address, b.address) })
	return all
}

func (d *declared) unopened() []unopened {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.broken)
}

// wanted gives the listeners that are for the sidecar to open, by address.
func (d *declared) wanted() map[string]*asked {
	c, snap := &d.sidecar.config, d.sidecar.config.Mesh.Engine().Snapshot()
	all := make(map[string]*asked)
	add := func(t listenTerms, origin string) {
		if first := all[t.address]; first == nil {
			all[t.address] = &asked{listenTerms: t, origin: origin}
		} else {
			d.tell(&unopened{t.direction, t.address, origin, fmt.Sprintf("%s: cannot listen on %s: %s has it; give one of them another port or bind", origin, t.address, first.origin)})
		}
	}
	for _, l := range snap.Inbound.Listeners {
		if l.Capture == snapshot.CaptureRules || l.Capture == snapshot.CaptureDefault && len(c.Capture.Inbound) > 0 || d.given(l.Port) {
			continue
		}
		host := ""
		if l.Bind.IsValid() {
			host = l.Bind.String()
		}
		origin := l.Origin
		l.Origin, l.MaxConnections = "", 0 // which count without it
		add(listenTerms{direction: "inbound", address: net.JoinHostPort(host, strconv.Itoa(int(l.Port))), in: l}, origin)
	}
	for _, l := range snap.Egress {
		unix := strings.HasPrefix(l.Bind, "unix://")
		captured := len(c.Capture.Outbound) > 0
		if !unix && l.Capture != snapshot.CaptureNone && (l.Capture != snapshot.CaptureDefault || captured || l.Bind == "" && !l.Proxied) {
			continue
		}
		address, origin := l.Bind, l.Origin
		if !unix {
			address = net.JoinHostPort(cmp.Or(l.Bind, "127.0.0.1"), strconv.Itoa(int(l.Port)))
		}
		l.Origin = ""
		add(listenTerms{direction: "outbound", address: address, out: l}, origin)
	}
	return all
}

// given reports whether the command has a listener for callers of the port, which then counts.
func (d *declared) given(port uint16) bool {
	return slices.ContainsFunc(d.sidecar.inbound, func(srv *server) bool {
		own, err := netip.ParseAddrPort(srv.l.Addr().String())
		return err == nil && own.Port() == port
	})
}

// reconcile closes what is not asked for any more, and opens what is.
func (d *declared) reconcile() {
	d.turn.Lock()
	defer d.turn.Unlock()
	if d.halted {
		return
	}
	before := d.unopened()
	d.mu.Lock()
	d.broken = nil
	d.mu.Unlock()
	want := d.wanted()
	for address, old := range d.open {
		if next := want[address]; next == nil {
			d.end(old, false)
			d.put(address, nil)
		}
	}
	for _, address := range sorted(want) {
		next, old := want[address], d.open[address]
		if old != nil && old.listenTerms == next.listenTerms {
			continue
		}
		if err := d.start(next, old); err != nil {
			d.tell(&unopened{next.direction, address, next.origin, fmt.Sprintf("%s: cannot listen on %s: %v", next.origin, address, err)})
			continue
		}
		d.put(address, next)
		if old != nil {
			socket.Pass(old.server.l.Listener, next.server.l.Listener)
			d.end(old, true)
		}
	}
	for _, b := range d.unopened() {
		if !slices.Contains(before, b) {
			d.sidecar.config.Logger.Error("a listener of a Sidecar is not open", slog.String("error", b.why))
		}
	}
}

func sorted(all map[string]*asked) []string {
	var keys []string
	for key := range all {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (d *declared) tell(b *unopened) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = append(d.broken, *b)
}

func (d *declared) put(address string, a *asked) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a == nil {
		delete(d.open, address)
	} else {
		d.open[address] = a
	}
}

// start opens a listener and serves it; on the socket of the one before it on the same address, where there is one.
func (d *declared) start(a, old *asked) error {
	s := d.sidecar
	if err := d.private(a); err != nil {
		return err
	}
	var l net.Listener
	open := func(f *forwarder) (*server, error) {
		var err error
		if l, err = d.listen(a, old); err != nil {
			return nil, hinted(err)
		}
		return s.serverOn(a.direction, a.address, l, f), nil
	}
	var srv *server
	var err error
	if a.direction == "inbound" {
		if a.in.Endpoint == "" {
			return errors.New("defaultEndpoint is missing, and connections that meant to go to the port come to the sidecar itself: write where the program listens, 127.0.0.1:PORT or unix:///path")
		}
		srv, err = s.receive(Inbound{App: programOf(&a.in, netip.Addr{}), Opaque: a.in.Speech > snapshot.SpeaksHTTP}, open)
	} else {
		srv, err = s.callFrom(&a.out, open)
	}
	if err != nil {
		return err
	}
	if err := s.closesLoop(srv); err != nil {
		_ = l.Close()
		return err
	}
	if srv.wire.idle = s.config.StreamIdleTimeout; a.direction == "outbound" && s.config.Guard != nil {
		s.config.Guard.Refuse(l.Addr())
	}
	a.server, srv.origin = srv, a.origin
	s.config.Logger.Info("a listener of a Sidecar is open", slog.String("listener", a.direction), slog.String("address", l.Addr().String()), slog.String("by", a.origin))
	s.running.Go(func() { s.serve(srv) })
	return nil
}

// closesLoop says where callers of a listener, or of another one by it, would be led to the sidecar itself in place of the program.
func (s *Sidecar) closesLoop(srv *server) error {
	all := append(s.servers(), srv)
	for _, in := range all {
		if in.app == nil {
			continue
		}
		if own := ownListener(in.app, all); own != nil && in == srv {
			return fmt.Errorf("the endpoint %s is the sidecar's own %s listener: write where the program listens", in.app.address, own.name)
		} else if own == srv {
			return fmt.Errorf("the %s listener %s has its program there: give one of them another port, bind or endpoint", in.name, in.address)
		}
	}
	return nil
}

// private refuses to have programs elsewhere call by the sidecar, where the command does not let them.
func (d *declared) private(a *asked) error {
	if a.direction == "inbound" || strings.HasPrefix(a.address, "unix://") || d.sidecar.config.AllowNonLoopback || loopback(a.address) {
		return nil
	}
	return errors.New("not a loopback address, and whoever reaches this listener may use it: write bind: 127.0.0.1, or allow it by --allow-non-loopback")
}

// listen gives the socket. That of a listener on other terms is shared, so that nobody is refused meanwhile.
func (d *declared) listen(a, old *asked) (net.Listener, error) {
	path, unix := strings.CutPrefix(a.address, "unix://")
	if old != nil {
		if from, ok := old.server.l.Listener.(interface{ File() (*os.File, error) }); ok {
			f, err := from.File()
			if err != nil {
				return nil, err
			}
			defer f.Close()
			l, err := net.FileListener(f)
			if err == nil && unix {
				l = socket.Adopt(l, path)
			}
			return l, err
		}
		d.end(old, false)
	}
	if unix {
		return d.sidecar.config.Listen("unix", path)
	}
	return d.sidecar.config.Listen("tcp", a.address)
}

// end stops listening, leaves who waits in the queue to whom the socket is left to, if it is, and lets what is under way end by itself.
func (d *declared) end(old *asked, left bool) {
	s, srv := d.sidecar, old.server
	if srv.l.stopping.Load() {
		return
	}
	if left {
		srv.l.cede()
	}
	if s.config.Guard != nil && old.direction == "outbound" {
		s.config.Guard.Forget(srv.l.Addr())
	}
	s.running.Go(func() {
		ctx, cancel := context.WithTimeout(d.leaving, declaredDrain)
		defer cancel()
		if err := shutDown(ctx, srv); err != nil {
			s.config.Logger.Warn("connections of a listener that is not declared any more were cut off", slog.Any("error", err))
		}
	})
	select {
	case <-srv.l.quiet: // its port is free
	case <-d.leaving.Done():
	}
}

// hinted adds what would be right to why a socket cannot be opened.
func hinted(err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "; give the listener another port or bind, or stop who listens there"
	case errors.Is(err, syscall.EACCES):
		hint = "; take a port from 1024 on, or give the sidecar CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "; this machine has no such address: remove bind, or write one of its own"
	}
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w%s", err, hint)
}

// callFrom makes the server of a listener for calls.
func (s *Sidecar) callFrom(l *snapshot.Egress, open func(*forwarder) (*server, error)) (*server, error) {
	c := &s.config
	f := &forwarder{direction: "outbound", target: outboundTarget}
	if l.Speech <= snapshot.SpeaksHTTP {
		f.tell, f.via = c.OnCall, callersIn(l.Scope, c.Mesh, c.OnCall)
		if !l.Proxied {
			f.target = targetOn(l.Port)
		}
	} else if c.Guard == nil {
		return nil, errors.New("a listener for what is not HTTP needs a Guard: by it the sidecar knows its own")
	}
	srv, err := open(f)
	if err != nil {
		return nil, err
	}
	srv.wire = newOutboundWire(f, srv.l, s.wheel, c.Mesh, c.Guard)
	srv.wire.countBuffers(&s.held)
	srv.wire.own, srv.wire.scope = s.addresses, l.Scope
	switch {
	case l.Speech > snapshot.SpeaksHTTP:
		srv.wire.fixed, srv.wire.named = &OutboundTCP{Host: l.Host, Port: l.To}, l.Speech == snapshot.SpeaksTLS
	case !l.Proxied:
		srv.wire.port = l.Port
	}
	return srv, nil
}

// targetOn is outboundTarget of a listener whose port calls are to, whatever they say.
func targetOn(port uint16) func(*http.Request) (destination, *LocalReply) {
	return func(r *http.Request) (destination, *LocalReply) {
		d, refused := outboundTarget(r)
		if refused == nil {
			d.url.Host = portOn(d.url.Host, port)
		}
		return d, refused
	}
}

// portOn gives a canonical host with a port in the place of its own; 0 leaves it as it is.
func portOn(authority string, port uint16) string {
	if host, _, err := call.SplitAuthority(authority); port != 0 && err == nil {
		return net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	return authority
}

// declared gives the listener that documents have for a port of the program; nil for none.
func (c *captor) declared(to netip.AddrPort) *snapshot.Ingress {
	return c.engine.Snapshot().Inbound.At(to)
}

// programOf gives where a declared listener says that the program is, "" for where the connection meant to go: at an unspecified address it is at
// that of the connection or, where that is of the other kind or not known, at the machine's first, or on loopback.
func programOf(l *snapshot.Ingress, to netip.Addr) string {
	if l == nil {
		return ""
	}
	at, err := netip.ParseAddrPort(l.Endpoint)
	if err != nil || !at.Addr().IsUnspecified() {
		return l.Endpoint
	}
	if to.IsValid() && to.Is4() == at.Addr().Is4() {
		return netip.AddrPortFrom(to, at.Port()).String()
	}
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if at.Addr().Is6() {
		host = netip.IPv6Loopback()
	}
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() == at.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			host = p.Addr()
			break
		}
	}
	return netip.AddrPortFrom(host, at.Port()).String()
}

// onLoopback reports whether a program is where nobody's address but the machine's own can call from.
func onLoopback(program string) bool {
	at, err := netip.ParseAddrPort(program)
	return program != "" && (err != nil || at.Addr().IsLoopback())
}
