package grpcmesh

import (
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/transport"
)

// Scheme implements resolver.Builder. It is known to the mesh's own channels only.
func (d *driver) Scheme() string { return scheme }

// Build implements resolver.Builder: it keeps a channel's addresses up to date until it is closed.
func (d *driver) Build(t resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	to, err := parseTarget(t.URL.String())
	if err != nil {
		return nil, err
	}
	w := &watch{driver: d, to: to, cc: cc, config: cc.ParseServiceConfig(d.serviceConfig()),
		stop: make(chan struct{}), done: make(chan struct{})}
	forget := d.engine.OnPublish(w.prepare)
	go func() {
		defer close(w.done)
		w.run()
		forget()
	}()
	return w, nil
}

// A watch is the resolver of one channel. The engine remembers everything it publishes: a channel that has
// been idle loses nothing.
type watch struct {
	driver *driver
	to     target
	cc     resolver.ClientConn
	config *serviceconfig.ParseResult
	stop   chan struct{}
	done   chan struct{}

	mu    sync.Mutex // held while cc is told; guards what follows
	now   transport.Reach
	ahead transport.Reach // of a snapshot that is about to be live, zero for none
}

// run publishes after every change in the engine, also where the addresses are the same: a call that waits
// for a connection looks again whenever there is something new, and must not miss that what it waited for
// will not come.
func (w *watch) run() {
	for {
		reach := w.driver.engine.Reach(snapshot.Mesh, w.to.host, w.to.port)
		w.tell(reach)
		select {
		case <-reach.Changed:
		case <-w.stop:
			return
		}
	}
}

func (w *watch) tell(reach transport.Reach) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-reach.Changed:
		return // there is something newer, which prepare may have told of
	default:
	}
	w.now = reach
	w.update()
}

// prepare gives the channel connections to what a snapshot leads to before calls can see that.
func (w *watch) prepare(next transport.Ahead) (live func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now, w.ahead = next.Reach(snapshot.Mesh, w.to.host, w.to.port)
	w.update()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ahead = transport.Reach{}
	}
}

// update tells of it. w.mu is held.
func (w *watch) update() {
	_ = w.cc.UpdateState(w.state()) // fails for a closing channel only
}

// ResolveNow implements resolver.Resolver: there is never anything newer to be had.
func (w *watch) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver.
func (w *watch) Close() {
	close(w.stop)
	<-w.done
}

// state lists every endpoint that a call of the channel can be sent to, now or soon, and the host itself where the
// program's credentials and the mesh's policy allow for calls outside the mesh.
func (w *watch) state() resolver.State {
	s := resolver.State{ServiceConfig: w.config}
	seen := make(map[balance.ID]bool)
	for _, c := range slices.Concat(w.ahead.Clusters, w.now.Clusters) {
		for _, e := range c.Endpoints {
			if seen[e.ID()] {
				continue
			}
			seen[e.ID()] = true
			s.Endpoints = append(s.Endpoints, endpointOf(&member{
				id: e.ID(), cluster: c.Cluster, address: e.Def.Address, policy: *w.driver.engine.EndpointPolicy(&c.Policy, e.Def),
				rests: new(atomic.Int64), asked: w.driver.health != nil}))
		}
	}
	if w.driver.creds != nil && (w.now.Direct || w.ahead.Direct || w.driver.engine.Outbound() == transport.AllowAny) {
		s.Endpoints = append(s.Endpoints, endpointOf(&member{
			outside: true, address: discovery.TCP(w.to.host, w.to.port)}))
	}
	return s
}

// A member is what a connection of the channel is to: an endpoint of a cluster, or a host outside the mesh.
// Equal addresses in different clusters are different members and get a connection each.
type member struct {
	id      balance.ID // of the endpoint's record; zero for a host outside
	cluster string
	address discovery.Address
	policy  snapshot.Policy
	outside bool
	asked   bool // whether it serves
	// rests is when the newest connection's certificates are too old for another RPC to begin on it, in Unix nanoseconds;
	// 0 for never. It is nil for a host outside.
	rests *atomic.Int64
}

type memberKey struct{}

func endpointOf(m *member) resolver.Endpoint {
	return resolver.Endpoint{Addresses: []resolver.Address{{Addr: m.address.Addr, Attributes: attributes.New(memberKey{}, m)}}}
}

// memberOf gives the member that an address stands for, nil for an address of another resolver.
func memberOf(a *attributes.Attributes) *member {
	m, _ := a.Value(memberKey{}).(*member)
	return m
}

// Equal is for attributes.Attributes.
func (m *member) Equal(o any) bool {
	other, ok := o.(*member)
	if !ok || m == other {
		return ok
	}
	a, b := *m, *other
	a.rests, b.rests = nil, nil
	return a == b
}

// String is for grpc-go's logs.
func (m *member) String() string {
	if m.outside {
		return "outside the mesh"
	}
	return m.cluster
}
