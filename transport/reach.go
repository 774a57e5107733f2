package transport

import (
	"slices"

	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// A Reach is where calls to one host can end up, at one moment.
type Reach struct {
	Known    bool      // whether the mesh knows the host on the port
	Direct   bool      // whether calls can be sent to the host itself: it is not known, and may be called all the same, or a rule says so
	Clusters []Reached // each once, in the order of the rules; those of mirrors too
	// Changed is closed when the answer may be another one.
	Changed <-chan struct{}
}

// A Reached is one cluster with its endpoints. The list must not be changed.
type Reached struct {
	Cluster   string
	Policy    snapshot.Policy
	Endpoints []*balance.Endpoint
}

// Reach says which clusters the rules for plain HTTP to the host lead to, or those for connections where it speaks another protocol,
// whatever the request: what a driver has to be able to connect to before it knows the call. The host is canonical. A closed engine
// reaches nothing.
func (e *Engine) Reach(scope, host string, port uint16) Reach {
	changed := e.changes() // first: what changes from here on is told
	if e.closed.Load() {
		return Reach{Changed: changed}
	}
	r := e.state.Load().reach(scope, host, port)
	r.Changed = changed
	return r
}

func (st *state) reach(scope, host string, port uint16) (r Reach) {
	var v *routing.VirtualHost
	if t := st.snap.Tables[scope]; t != nil {
		v, _ = t.Lookup(host, port)
	}
	if v == nil {
		r.Direct = st.policy == AllowAny
		return r
	}
	r.Known = true
	seen := make(map[int]bool)
	for route := range v.All() {
		r.add(st, route, seen)
	}
	return r
}

// An Ahead is a snapshot that is about to be live, in the place of another one.
type Ahead struct{ live, next *state }

// Reach is Engine.Reach as it is yet, and as it will be, without Changed.
func (a Ahead) Reach(scope, host string, port uint16) (now, next Reach) {
	return a.live.reach(scope, host, port), a.next.reach(scope, host, port)
}

// OnPublish has f told of each snapshot before calls can see it, until stop: for drivers with connections of their own to what
// it leads to. What f returns is called when the snapshot is live and that has been told (Reach.Changed). Publish waits for both; neither
// may call the engine.
func (e *Engine) OnPublish(f func(Ahead) (live func())) (stop func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.prepare = append(e.prepare, &f)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.prepare = slices.DeleteFunc(e.prepare, func(h *func(Ahead) func()) bool { return h == &f })
	}
}

// goLive makes the state the one that calls begin with. e.mu is held.
func (e *Engine) goLive(next *state) (told []func()) {
	for _, f := range e.prepare {
		told = append(told, (*f)(Ahead{e.state.Load(), next}))
	}
	e.state.Store(next)
	return told
}

func (r *Reach) add(st *state, route *routing.Route, seen map[int]bool) {
	for i := range route.Split {
		if c := st.unseen(route.Split[i].Index, seen); c != nil && c.def.Direct {
			r.Direct = true
		} else if c != nil {
			r.Clusters = append(r.Clusters, c.reached())
		}
	}
	for i := range route.Mirrors {
		if c := st.unseen(route.Mirrors[i].Index, seen); c != nil && !c.def.Direct {
			r.Clusters = append(r.Clusters, c.reached())
		}
	}
}

// unseen gives the cluster of an index, nil for one that has been seen already or is none.
func (st *state) unseen(at int, seen map[int]bool) *cluster {
	if at < 0 || at >= len(st.clusters) || seen[at] {
		return nil
	}
	seen[at] = true
	return st.clusters[at]
}

func (c *cluster) reached() Reached {
	m := c.picker.Load()
	found := Reached{Cluster: c.def.Name, Policy: c.def.Policy, Endpoints: make([]*balance.Endpoint, m.Len())}
	for j := range found.Endpoints {
		found.Endpoints[j] = m.At(j)
	}
	return found
}
