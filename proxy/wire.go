package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/transport"
	"github.com/heddlemesh/mesh/transport/http1"
)

// A wire serves the connections of one listener: HTTP/1 itself, HTTP/2 by handing them to net/http. It is safe for
// concurrent use.
type wire struct {
	forward *forwarder
	conns   *connections
	wheel   *http1.Wheel
	limits  *http1.Limits
	http2   *handoff
	date    http1.Date
	idle    time.Duration // how long nothing may move of a request, 0 for any time

	// The two ways: calls of the mesh, or requests for one application.
	mesh     *outbound               // nil for inbound
	app      *application            // nil for outbound, and for captured connections, of which each has its own
	captor   *captor                 // of captured connections, nil for others
	opaque   bool                    // what is spoken is not HTTP, of inbound
	reached  portCounts              // connections to the program that are not HTTP
	connects bool                    // programs may ask for tunnels, by CONNECT
	own      func() []netip.AddrPort // the sidecar's listeners, to which nobody may ask for one
	fixed    *OutboundTCP            // where all connections go, of outbound; nil for HTTP
	scope    string                  // whose hosts calls find; "" for the mesh's
	port     uint16                  // that all calls are to, of a declared listener; 0 for what they name
	named    bool                    // the name in a ClientHello chooses among the hosts of fixed's port
	engine   *transport.Engine       // of the limits on what is received; nil for outbound

	upstreams *upstreams
	forget    func() // ends what it is told of, nil for nothing
	running   sync.WaitGroup
	parked    parking
}

// An outbound is the mesh as a wire needs it.
type outbound struct {
	engine *transport.Engine
	// others takes the calls that are not made on the wire, such as those over HTTP/2.
	others *transport.RoundTripper
	// outside dials hosts that the mesh does not know; nil where that is for others to do.
	outside DialFunc
}

func newWire(f *forwarder, l *gentleListener, wheel *http1.Wheel) *wire {
	return &wire{forward: f, conns: &l.conns, wheel: wheel, limits: wireLimits(), http2: newHandoff(l.Addr())}
}

// countBuffers has held count the bytes of the buffers that connections hold. It is called before the first.
func (w *wire) countBuffers(held *atomic.Int64) {
	w.limits.Held, w.upstreams.limits.Held = held, held
}

// newOutboundWire serves the calls of programs. guard, nil for none, dials what the mesh does not know.
func newOutboundWire(f *forwarder, l *gentleListener, wheel *http1.Wheel, m *mesh.Mesh, guard *Guard) *wire {
	w, e := newWire(f, l, wheel), m.Engine()
	w.mesh = &outbound{engine: e, others: m.RoundTripper().(*transport.RoundTripper)}
	if guard != nil {
		w.mesh.outside = guard.DialContext
	}
	w.upstreams = newUpstreams(90 * time.Second)
	w.forget = e.OnRetired(w.upstreams.forget)
	return w
}

// newInboundWire serves the callers of an application.
func newInboundWire(f *forwarder, l *gentleListener, wheel *http1.Wheel, e *transport.Engine, app *application) *wire {
	w := newWire(f, l, wheel)
	w.engine = e
	w.app = app
	w.upstreams = newUpstreams(appIdleTimeout)
	return w
}

// serve takes connections until the listener ends, and gives why that was. It closes the listener.
func (w *wire) serve(l net.Listener) error {
	defer l.Close()
	var wait time.Duration
	for {
		nc, err := l.Accept()
		if err != nil {
			var passing interface{ Temporary() bool }
			if errors.As(err, &passing) && passing.Temporary() {
				wait = min(max(2*wait, 5*time.Millisecond), time.Second)
				time.Sleep(wait)
				continue
			}
			return err
		}
		wait = 0
		s := newSession(w, nc)
		if !w.conns.enter(s) {
			s.end()
			continue
		}
		w.running.Go(s.run)
	}
}

// table gives the hosts that calls find.
func (w *wire) table() *routing.Table { return w.mesh.engine.Snapshot().Tables[w.scope] }

// at gives a host with the port that calls are to.
func (w *wire) at(host string) string { return portOn(host, w.port) }

// wait waits until no connection is left, or cuts those off that are when ctx ends.
func (w *wire) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		w.running.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		select {
		case <-done:
		default:
			err = ctx.Err()
		}
		w.conns.cut()
		<-done
	}
	w.parked.close()
	if w.forget != nil {
		w.forget()
	}
	w.upstreams.close()
	return err
}

// A handoff is the listener of net/http's server: connections that a wire has found to be HTTP/2.
type handoff struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandoff(addr net.Addr) *handoff {
	return &handoff{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *handoff) give(nc net.Conn) {
	select {
	case h.conns <- nc:
	case <-h.closed:
		_ = nc.Close()
	}
}

// Accept implements net.Listener, as do Close and Addr.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case nc := <-h.conns:
		return nc, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listener.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr gives the address of the listener that the connections came from.
func (h *handoff) Addr() net.Addr { return h.addr }
