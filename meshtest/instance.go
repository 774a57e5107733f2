package meshtest

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/memory"
)

// An Instance is one endpoint of a service: an http.Handler or a gRPC server with an address, on which faults
// can be injected. It speaks HTTP/1.1 and, where the service's port says HTTP2 or GRPC, HTTP/2. It is safe
// for concurrent use.
type Instance struct {
	world   *world
	host    string
	labels  map[string]string
	addr    netip.AddrPort
	handler http.Handler
	rpc     *grpc.Server // behind the handler; nil where that is the test's own
	account string       // "" without identities
	mesh    *mesh.Mesh   // nil without identities

	server   http.Server
	listener *memory.Listener
	served   chan struct{} // closed when the server has ended
	quiet    chan struct{} // closed when it is stopped and no handler runs

	mu       sync.Mutex // guards what follows
	faults   []*armed
	refuses  bool // one of them is RefuseConn
	conns    map[*conn]*usage
	handlers int
	stopped  bool
	random   *rand.Rand
}

// usage is what a connection is doing.
type usage struct {
	handlers int
	state    http.ConnState
	served   bool // some request
	ahead    bool // made without a request to send, as gRPC does
}

// unused reports whether closing the connection costs nobody an answer.
func (u *usage) unused() bool {
	return u.state == http.StateNew || u.state == http.StateIdle && (u.served || u.ahead) && u.handlers == 0
}

// Address gives the instance's address, as in 198.18.0.1:9080: the nth instance of a test has the nth.
func (i *Instance) Address() string { return i.addr.String() }

// Labels gives the instance's labels. They must not be changed.
func (i *Instance) Labels() map[string]string { return i.labels }

// String names the instance for people: its host, its labels, its address.
func (i *Instance) String() string {
	s := shortName(i.host, defaultNamespace)
	if len(i.labels) > 0 {
		s += " " + labelText(i.labels)
	}
	return s + " at " + i.Address()
}

// Inject makes the fault happen from now on, after those injected before; restore takes it out again and
// may be called more than once. Delays add up, a status, a reset or a hang ends what a request meets.
func (i *Instance) Inject(f Fault) (restore func()) {
	a := f.arm()
	i.change(func() { i.faults = append(i.faults, a) })
	return func() {
		i.change(func() { i.faults = slices.DeleteFunc(i.faults, func(o *armed) bool { return o == a }) })
	}
}

// change changes the faults. Where connections are refused from now on, it returns when the callers know
// that the idle ones are gone, so that the next request meets the fault and not a dying connection.
func (i *Instance) change(faults func()) {
	i.mu.Lock()
	faults()
	i.refuses = slices.ContainsFunc(i.faults, func(a *armed) bool { return a.kind == refuseFault })
	i.server.SetKeepAlivesEnabled(!i.refuses)
	var going []*conn
	for c, u := range i.conns {
		if !i.refuses {
			break
		}
		if u.unused() {
			_ = c.Close()
		}
		if u.unused() || u.served && u.handlers == 0 { // the latter is about to be idle: see track
			going = append(going, c)
		}
	}
	i.mu.Unlock()
	patience := time.NewTimer(time.Second) // for a caller that does not look at its connections
	defer patience.Stop()
	for _, c := range going {
		select {
		case <-c.peer.closed:
		case <-patience.C:
			return
		}
	}
}

// connect makes a connection to the instance, or refuses it.
func (i *Instance) connect(ctx context.Context, from, to *net.TCPAddr) (net.Conn, error) {
	if f := i.refusal(); f != "" {
		i.world.net.record(&event{instance: i, refused: true, call: Call{Fault: f}})
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: to, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	client, server := connect(from, to)
	i.mu.Lock()
	i.conns[server] = &usage{state: http.StateNew, ahead: i.rpc != nil}
	i.mu.Unlock()
	if i.listener.Give(ctx, server) == nil {
		return client, nil
	}
	i.track(server, http.StateClosed)
	_ = client.Close()
	_ = server.Close()
	if err := ctx.Err(); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: to, Err: err}
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: to, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

// refusal gives the fault by which the next connection is refused, "" for none.
func (i *Instance) refusal() (fault string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, a := range i.faults {
		if a.kind == refuseFault && a.strikes(i.random) {
			return a.String()
		}
	}
	return ""
}

// track is the server's ConnState: it follows what a connection is doing.
func (i *Instance) track(c net.Conn, s http.ConnState) {
	i.mu.Lock()
	defer i.mu.Unlock()
	server := i.connOf(c)
	u := i.conns[server]
	if u == nil {
		return
	}
	u.state = s
	if s == http.StateClosed || s == http.StateHijacked {
		delete(i.conns, server)
	}
}
