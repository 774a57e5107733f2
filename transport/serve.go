package transport

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/internal/goaway"
)

// What Serve sets on a server where its owner has not.
const (
	// DefaultMaxHeaderBytes bounds a request's header, for net/http's 1 MiB.
	DefaultMaxHeaderBytes = 64 << 10
	// DefaultReadHeaderTimeout bounds the time from a request's first byte to the end of its header.
	DefaultReadHeaderTimeout = 10 * time.Second
	// DefaultIdleTimeout ends a connection without a request under way. It is Envoy's, and longer than any
	// usual client keeps its own: where the server ends a connection, a request may cross the end.
	DefaultIdleTimeout = time.Hour
	// DefaultMaxConcurrentStreams bounds the requests under way on one HTTP/2 connection, for net/http's 250.
	DefaultMaxConcurrentStreams = 100
)

// An Inbound is the receiving side of a mesh: the servers it was given, and what stands before their
// handlers. It is safe for concurrent use.
type Inbound struct {
	engine   *Engine
	counters inboundCounters
	live     *live

	mu       sync.Mutex // guards what follows
	servers  map[*http.Server]*served
	shutting bool
}

type served struct {
	arrivals  arrivals
	goodbye   *goaway.Goodbyes
	codec     *serverCodec         // nil where HTTP/1.1 is net/http's
	listeners map[net.Listener]int // what it serves on, and how often
	serving   int
	drained   bool // Serve returned because the server is shut down
}

// NewInbound makes the receiving side of the engine's mesh.
func NewInbound(e *Engine) *Inbound {
	return &Inbound{engine: e, live: e.live, servers: make(map[*http.Server]*served)}
}

// Listener gives a listener that hands out connections of l whose first byte has come and, where they begin with TLS,
// whose handshake is over. It waits for that in bounded goroutines of its own, at most SniffTimeout for each
// connection and each of the two. What the PeerAuthentication of the port does not take is closed: plain text under
// STRICT, TLS that is not the mesh's where there is no WithAppTLS. A *tls.Conn of l is handed out as it is, but not
// under STRICT. It is what Serve listens with; one that an Inbound has made already is given back.
func (in *Inbound) Listener(l net.Listener, opts ...InboundOption) net.Listener {
	if l == nil {
		return nil
	}
	if made, ok := l.(*listener); ok {
		return made
	}
	return newListener(l, &in.counters, in.guard(opts, l.Addr()))
}

// Counts says how many connections the listeners have closed unserved.
func (in *Inbound) Counts() InboundCounts {
	return InboundCounts{Silent: in.counters.silent.Load(), Crowded: in.counters.crowded.Load(), TLS: in.counters.tls.Load(),
		Plaintext: in.counters.plaintext.Load(), Handshake: in.counters.handshake.Load()}
}

// Serve serves srv on l, like srv.Serve, behind Handler and Listener, and returns what srv.Serve returns.
// It changes srv, the first time it is given: Handler is wrapped, and answers OPTIONS * as net/http did unless
// DisableGeneralOptionsHandler was set; Protocols, where nil, become net/http's own and HTTP/2 without TLS; MaxHeaderBytes, HTTP2.MaxConcurrentStreams, ReadHeaderTimeout and
// IdleTimeout, where zero (the two times: where ReadTimeout is zero too), become this package's defaults.
// So srv must not be serving elsewhere by then. It may be served on several listeners. l is closed when
// Serve returns. After Shutdown or the engine's Close it returns http.ErrServerClosed at once.
func (in *Inbound) Serve(srv *http.Server, l net.Listener, opts ...InboundOption) error {
	if srv == nil || l == nil {
		return errors.New("serve: no server or no listener")
	}
	l = in.Listener(l, opts...)
	s := in.begin(srv, l, opts)
	if s == nil {
		_ = l.Close()
		return http.ErrServerClosed
	}
	var err error
	if s.codec != nil {
		err = s.codec.serve(l)
	} else {
		err = srv.Serve(l)
	}
	in.end(srv, l, err)
	return err
}

func (in *Inbound) begin(srv *http.Server, l net.Listener, opts []InboundOption) *served {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.shutting || in.engine.closed.Load() {
		return nil
	}
	s := in.servers[srv]
	if s == nil {
		s = &served{listeners: make(map[net.Listener]int)}
		in.servers[srv] = s
		in.configure(srv, opts)
		s.arrivals.configure(srv)
		o := &in.guard(opts, nil).o
		if o.codec != nil && srv.Protocols.HTTP1() {
			s.codec = newServerCodec(in.engine, srv, &s.arrivals, o.codec)
		}
		if s.goodbye = o.goodbye; s.goodbye == nil {
			s.goodbye = new(goaway.Goodbyes)
		}
		s.goodbye.Attach(srv)
	}
	s.serving++
	s.listeners[l]++
	return s
}

// end forgets a server that its owner has shut down. One whose listener broke may have requests under way
// still, for Shutdown to wait for.
func (in *Inbound) end(srv *http.Server, l net.Listener, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := in.servers[srv]
	s.serving--
	if s.listeners[l]--; s.listeners[l] == 0 {
		delete(s.listeners, l)
	}
	s.drained = s.drained || errors.Is(err, http.ErrServerClosed)
	if s.serving == 0 && s.drained && !in.shutting {
		delete(in.servers, srv)
	}
}

func (in *Inbound) configure(srv *http.Server, opts []InboundOption) {
	h, ours := srv.Handler.(*handler)
	if !ours {
		h = in.Handler(srv.Handler, opts...).(*handler)
	}
	connContext := srv.ConnContext
	srv.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, conn)
		}
		return in.ConnContext(ctx, conn)
	}
	if !srv.DisableGeneralOptionsHandler {
		srv.DisableGeneralOptionsHandler = true // or OPTIONS * would go past Handler
		h = &handler{in: h.in, guard: h.guard, next: generalOptions{h.next}}
	}
	srv.Handler = h
	if srv.Protocols == nil {
		srv.Protocols = new(http.Protocols)
		srv.Protocols.SetHTTP1(true)
		// A map without "h2" is how programs switch HTTP/2 off (http.Server.TLSNextProto).
		_, h2 := srv.TLSNextProto["h2"]
		srv.Protocols.SetHTTP2(srv.TLSNextProto == nil || h2)
		srv.Protocols.SetUnencryptedHTTP2(srv.TLSNextProto == nil || h2)
	}
	if srv.MaxHeaderBytes == 0 {
		srv.MaxHeaderBytes = DefaultMaxHeaderBytes
	}
	if srv.ReadTimeout == 0 { // net/http takes it for those that are zero
		if srv.ReadHeaderTimeout == 0 {
			srv.ReadHeaderTimeout = DefaultReadHeaderTimeout
		}
		if srv.IdleTimeout == 0 {
			srv.IdleTimeout = DefaultIdleTimeout
		}
	}
	var h2 http.HTTP2Config
	if srv.HTTP2 != nil {
		h2 = *srv.HTTP2
	}
	if h2.MaxConcurrentStreams == 0 {
		h2.MaxConcurrentStreams = DefaultMaxConcurrentStreams
		srv.HTTP2 = &h2
	}
}

// Shutdown shuts down all servers given to Serve, concurrently: listeners end, and whoever was connected by then still
// has his request answered, with the end of the connection announced; then it waits, as http.Server.Shutdown does, for
// the requests under way until ctx ends. A connection that says nothing within a second is closed, hijacked ones are not
// waited for. Connections of HTTP/2 hear GOAWAY twice, as RFC 9113 §6.8 has it: at once one that leaves no stream out, and, when the client has
// read it or a second has passed, one that names the last stream that is served. On Linux nobody is reset, where the listener is plain TCP (net.ListenConfig.SetMultipathTCP(false));
// elsewhere those are who connect in the last microseconds. It gives all errors joined. Further calls wait again.
func (in *Inbound) Shutdown(ctx context.Context) error {
	in.mu.Lock()
	in.shutting = true
	var wg sync.WaitGroup
	errs := make([]error, len(in.servers))
	i := 0
	for srv, s := range in.servers {
		err, listeners := &errs[i], slices.Collect(maps.Keys(s.listeners))
		i++
		wg.Go(func() { *err = s.shutdown(ctx, srv, listeners) })
	}
	in.mu.Unlock()
	wg.Wait()
	return errors.Join(errs...)
}

func (s *served) shutdown(ctx context.Context, srv *http.Server, listeners []net.Listener) error {
	srv.SetKeepAlivesEnabled(false)
	s.goodbye.Say()
	if s.codec != nil {
		s.codec.draining.Store(true)
	}
	var wg sync.WaitGroup
	for _, l := range listeners {
		if own, ok := l.(*listener); ok {
			wg.Go(func() { own.leave(ctx) })
		}
	}
	wg.Wait()
	s.arrivals.settle(ctx)
	s.goodbye.Wait(ctx)
	return srv.Shutdown(ctx)
}
