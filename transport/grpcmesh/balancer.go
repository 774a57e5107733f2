package grpcmesh

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/heddlemesh/mesh/routing/balance"
)

const (
	balancerName  = "heddle_mesh"
	serviceConfig = `{"loadBalancingConfig":[{"` + balancerName + `":{}}]}`
)

// grpc-go knows balancers by name, process-wide. This one has no state: what it needs comes with the
// addresses and the calls, so that any number of meshes share it.
func init() { balancer.Register(builder{}) }

type builder struct{}

func (builder) Name() string { return balancerName }

func (builder) Build(cc balancer.ClientConn, _ balancer.BuildOptions) balancer.Balancer {
	return &connector{cc: cc, states: new(balancer.ConnectivityStateEvaluator), conns: &connSet{}}
}

// A connector keeps the connections of one channel. It chooses nothing. grpc-go calls its methods and the
// connections' listeners one at a time; the timers of connections come in between. Only connSet and conn are read by
// picks meanwhile.
type connector struct {
	cc balancer.ClientConn

	mu     sync.Mutex // guards what follows
	states *balancer.ConnectivityStateEvaluator
	conns  *connSet
}

// A connSet is the connections that there are for one list of addresses. Its maps do not change.
type connSet struct {
	byID    map[balance.ID]*conn
	outside *conn // to the target itself; nil without credentials
}

// Ready implements transport.Ready: it takes every endpoint but those that could not be connected to when
// last tried. An endpoint that nobody called yet is taken, and so connected to.
func (s *connSet) Ready(e *balance.Endpoint) bool {
	c := s.byID[e.ID()]
	return c == nil || c.status.Load().err == nil
}

// A conn is one connection and what is known of it.
type conn struct {
	sub    balancer.SubConn
	wanted atomic.Bool // connections are made when first picked, and kept from then on
	status atomic.Pointer[status]
	proof  atomic.Pointer[proof] // of who is at the other end, nil for nobody

	active  atomic.Int64 // attempts under way
	streams atomic.Int64 // how many the endpoint takes
	idle    atomic.Pointer[idleLimit]
	spares  atomic.Pointer[[]*conn] // further connections to the same, once streams have run out; replaced as a whole
	starved atomic.Bool             // somebody waits for a stream
	first   atomic.Pointer[conn]    // whose spare it is, nil for none

	// For the connector only.
	of       *connector
	to       resolver.Address
	made     *member            // of to when it was connected
	recorded connectivity.State // as it counts in the channel's state
	removed  bool
	age      *time.Timer // ends it when it is as old as its policy lets it be
}

// A status is immutable.
type status struct {
	ready    bool
	dialing  bool
	sick     bool   // it is connected, and says that it does not serve
	err      error  // why the last try to connect failed; it stays until one succeeds
	failures uint64 // tries that failed since the conn was made
}

// hurry ends the back-off of the channel's connections. grpc-go goes through its list of them without a lock, and a list that changes
// meanwhile ends the process; it changes under b.mu only.
func (b *connector) hurry(cc *grpc.ClientConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	cc.ResetConnectBackoff()
}

// want makes the connection unless that is under way.
func (c *conn) want() {
	if !c.wanted.Swap(true) {
		c.sub.Connect()
	}
}

// UpdateClientConnState implements balancer.Balancer. Every update gives a new picker.
func (b *connector) UpdateClientConnState(s balancer.ClientConnState) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := &connSet{byID: make(map[balance.ID]*conn, len(s.ResolverState.Endpoints))}
	for _, e := range s.ResolverState.Endpoints {
		if len(e.Addresses) == 0 {
			continue
		}
		m := memberOf(e.Addresses[0].Attributes)
		switch {
		case m == nil:
			b.cc.UpdateState(balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: foreign{}})
			return errForeign
		case m.outside:
			if next.outside = b.conns.outside; next.outside == nil {
				next.outside = b.connect(e.Addresses[0])
			}
		default:
			c := b.conns.byID[m.id]
			if c == nil {
				c = b.connect(e.Addresses[0])
			} else if memberOf(c.to.Attributes).policy.Connections != m.policy.Connections {
				for c := range c.all {
					c.to = e.Addresses[0]
					if c.status.Load().ready {
						b.limit(c)
					}
				}
			}
			if c != nil {
				next.byID[m.id] = c
			}
		}
	}
	for id, c := range b.conns.byID {
		if next.byID[id] != c {
			b.removeAll(c)
		}
	}
	if c := b.conns.outside; c != nil && c != next.outside {
		b.remove(c)
	}
	b.conns = next
	b.publish() // after the removals: who picked what is gone looks again
	return nil
}

// connect makes a conn that is not connected yet. It gives nil for a channel that is closing.
func (b *connector) connect(to resolver.Address) *conn {
	c := &conn{to: to, of: b, made: memberOf(to.Attributes)}
	c.status.Store(new(status))
	c.streams.Store(unlimited)
	//nolint:staticcheck // deprecated for several addresses; for one there is nothing else
	sub, err := b.cc.NewSubConn([]resolver.Address{c.address()}, balancer.NewSubConnOptions{
		StateListener: func(s balancer.SubConnState) { b.changed(c, s) },
	})
	if err != nil {
		return nil
	}
	c.sub, c.recorded = sub, connectivity.Idle
	b.states.RecordTransition(connectivity.Shutdown, connectivity.Idle)
	return c
}

// remove gives a conn up. Its streams go on to their end.
func (b *connector) remove(c *conn) {
	c.removed = true
	c.stopTimers()
	b.states.RecordTransition(c.recorded, connectivity.Shutdown)
	c.sub.Shutdown()
}

func (b *connector) removeAll(c *conn) {
	for c := range c.all {
		b.remove(c)
	}
}

// changed hears of a conn's new state and wakes the calls that wait for one.
func (b *connector) changed(c *conn, s balancer.SubConnState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.removed || s.ConnectivityState == connectivity.Shutdown {
		return
	}
	next := *c.status.Load()
	if c.first.Load() != nil && next.ready && s.ConnectivityState != connectivity.Ready {
		b.drop(c)
		b.publish()
		return
	}
	next.ready, next.dialing, next.sick = false, false, false
	switch s.ConnectivityState {
	case connectivity.Ready:
		if c.made.asked {
			next.dialing = true // as far as calls are concerned
			c.sub.RegisterHealthListener(func(s balancer.SubConnState) { b.told(c, s) })
			break
		}
		next.ready, next.err = true, nil
		b.limit(c)
	case connectivity.TransientFailure:
		next.err = s.ConnectionError
		if next.err == nil {
			next.err = errors.New("connection failed")
		}
		next.failures++
	case connectivity.Connecting, connectivity.Idle:
		next.dialing = true
	}
	b.become(c, &next, s.ConnectivityState)
	if s.ConnectivityState == connectivity.Idle {
		c.sub.Connect() // lost, or the back-off is over
	}
	b.publish()
}

// become notes what is known of a conn now. b.mu is held.
func (b *connector) become(c *conn, next *status, state connectivity.State) {
	c.status.Store(next)
	if next.err != nil {
		state = connectivity.TransientFailure // until it is ready, as grpc-go's own balancers have it
	}
	b.states.RecordTransition(c.recorded, state)
	c.recorded = state
}

// told hears from an endpoint that is connected whether it serves.
func (b *connector) told(c *conn, s balancer.SubConnState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.removed {
		return
	}
	next := *c.status.Load()
	next.ready, next.dialing, next.sick = false, false, false
	switch s.ConnectivityState {
	case connectivity.Ready:
		next.ready, next.err = true, nil
		b.limit(c)
	case connectivity.TransientFailure:
		next.sick, next.err = true, s.ConnectionError
		if next.err == nil {
			next.err = errNotServing
		}
	default:
		next.dialing = true
	}
	b.become(c, &next, s.ConnectivityState)
	b.publish()
}

var errNotServing = errors.New("the endpoint says that it does not serve")

func (b *connector) publish() {
	b.cc.UpdateState(balancer.State{ConnectivityState: b.states.CurrentState(), Picker: &picker{b.conns}})
}

// ResolverError implements balancer.Balancer. The mesh's resolver has none to report.
func (b *connector) ResolverError(error) {}

// UpdateSubConnState implements balancer.Balancer; grpc-go calls the listeners instead.
func (b *connector) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle implements balancer.Balancer: the program wants the channel connected before it calls.
func (b *connector) ExitIdle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns.byID {
		c.want()
	}
	if c := b.conns.outside; c != nil && len(b.conns.byID) == 0 {
		c.want()
	}
}

// Close implements balancer.Balancer.
func (b *connector) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns.byID {
		b.removeAll(c)
	}
	if c := b.conns.outside; c != nil {
		b.remove(c)
	}
	b.conns = &connSet{}
}
