package transport

import (
	"context"
	"fmt"
	"strings"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

// WaitReady waits until each host has an endpoint to send to, by the live configuration of the moment. A
// host is named as in a URL: without a port, any of its ports will do. A service without endpoints of its
// own kind, whose calls go to the host itself (resolution NONE), has one by nature. It fails at once for
// what no host can be and where the engine is closed, else when ctx ends, and then names the hosts still
// missing.
func (e *Engine) WaitReady(ctx context.Context, hosts ...string) error {
	wanted := make([]wantedHost, len(hosts))
	for i, h := range hosts {
		w := &wanted[i]
		var err error
		if w.host, w.port, err = call.SplitAuthority(h); err != nil {
			return err
		}
		w.name = h
	}
	for {
		changes := e.changes()
		if e.closed.Load() {
			return call.ReasonClosed
		}
		missing := e.state.Load().missing(wanted)
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", strings.Join(missing, ", "), ctx.Err())
		}
	}
}

type wantedHost struct {
	name, host string
	port       uint16 // 0 for any
}

// missing lists, for people, the hosts that no call can reach yet.
func (st *state) missing(wanted []wantedHost) []string {
	var missing []string
	for _, w := range wanted {
		switch known, ready := st.ready(w); {
		case !known:
			missing = append(missing, w.name+" (the mesh does not know it)")
		case !ready:
			missing = append(missing, w.name+" (it has no endpoint)")
		}
	}
	return missing
}

func (st *state) ready(w wantedHost) (known, ready bool) {
	t := st.snap.Tables[snapshot.Mesh]
	if t == nil {
		return false, false
	}
	ports := []uint16{w.port}
	if w.port == 0 {
		_, ports = t.Lookup(w.host, 0) // no host has port 0: these are all it is known on
	}
	for _, port := range ports {
		host, _ := t.Lookup(w.host, port)
		if host == nil {
			continue
		}
		known = true
		if host.HTTP && host.Default != nil {
			ready = ready || st.reaches(host.Default)
			continue
		}
		for r := range host.All() { // of a name that is no service only rules lead to services
			ready = ready || st.reaches(r)
		}
	}
	return known, ready
}

// reaches reports whether a destination of the route has an endpoint.
func (st *state) reaches(r *routing.Route) bool {
	for i := range r.Split {
		at := r.Split[i].Index
		if at < 0 || at >= len(st.clusters) {
			continue
		}
		if c := st.clusters[at]; c.def.Direct || c.picker.Load().Len() > 0 {
			return true
		}
	}
	return false
}

// changes gives a channel that is closed at the next publication of a configuration or of endpoints, or
// when the engine closes.
func (e *Engine) changes() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	return e.changed
}

// tell wakes who waits for changes. e.mu is held.
func (e *Engine) tell() {
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}
