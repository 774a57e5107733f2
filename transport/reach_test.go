package transport

import (
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

func TestReach(t *testing.T) {
	t.Parallel()
	registry := new(discovery.Registry)
	publish(registry, "10.0.0.1:1", "10.0.0.2:1")
	e := NewEngine(Config{Registry: registry, Pools: NewLeaves(nil, nil)})
	defer e.Close()
	empty := e.Reach(snapshot.Mesh, "svc", 80)
	if empty.Known || !empty.Direct || len(empty.Clusters) != 0 {
		t.Errorf("an engine without a configuration: %+v", empty)
	}

	to := func(at ...int) *routing.Route {
		r := new(routing.Route)
		for _, i := range at {
			r.Split = append(r.Split, routing.Destination{Index: i, Weight: 1})
		}
		return r
	}
	host := &routing.VirtualHost{Host: "svc", Port: 80, HTTP: true, Routes: []*routing.Route{to(1, 0), to(-1, 9), to(1), to(2)}, Default: to(3)}
	opaque := &routing.VirtualHost{Host: "svc", Port: 81, Routes: []*routing.Route{to(0)}, Default: to(3)}
	err := e.Publish(t.Context(), &snapshot.Snapshot{
		Tables: map[string]*routing.Table{snapshot.Mesh: routing.NewTable([]*routing.VirtualHost{host, opaque})},
		Clusters: []snapshot.Cluster{{Name: "a", Set: key}, {Name: "b", Set: key, Select: map[string]string{"no": "body"}},
			{Name: "direct", Set: key, Direct: true}, {Name: "d", Set: key}},
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-empty.Changed:
	default:
		t.Error("nobody told that a configuration is live")
	}
	r := e.Reach(snapshot.Mesh, "svc", 80)
	if !r.Known || !r.Direct || len(r.Clusters) != 2 || r.Clusters[0].Cluster != "b" || r.Clusters[1].Cluster != "a" {
		t.Fatalf("got %+v", r)
	}
	if len(r.Clusters[0].Endpoints) != 0 || len(r.Clusters[1].Endpoints) != 2 {
		t.Errorf("endpoints %+v", r.Clusters)
	}
	if o := e.Reach(snapshot.Mesh, "svc", 81); len(o.Clusters) != 1 || o.Clusters[0].Cluster != "d" || o.Direct {
		t.Errorf("opaque port: %+v", o)
	}

	publish(registry, "10.0.0.2:1")
	select {
	case <-r.Changed:
	default:
		t.Error("nobody told that an endpoint went")
	}
	now := e.Reach(snapshot.Mesh, "svc", 80).Clusters[1].Endpoints
	if len(now) != 1 || now[0].ID() != r.Clusters[1].Endpoints[1].ID() || now[0].ID() == r.Clusters[1].Endpoints[0].ID() {
		t.Error("an endpoint that stays keeps its identity")
	}
	e.Close()
	if r := e.Reach(snapshot.Mesh, "svc", 80); r.Known || r.Direct || len(r.Clusters) != 0 {
		t.Errorf("a closed engine: %+v", r)
	}
}

func TestRenewAndDrop(t *testing.T) {
	t.Parallel()
	r := newRig(t, snapshot.HTTP2, nil, "10.0.0.1:1")
	q := &call.Request{Method: "POST", Scheme: "http", Host: "svc", Port: 80, Authority: "svc", Path: "/", Headers: call.HTTPHeaders(nil)}
	var c Call
	var info CallInfo
	if step := r.engine.Begin(Capture(t.Context(), &info), &c, q); step.Kind != Forward || c.Stale() {
		t.Fatalf("%+v, stale %v", step, c.Stale())
	}
	first, err := c.Pick(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.publish(t, snapshot.Policy{Protocol: snapshot.HTTP2})
	if !c.Stale() {
		t.Error("not stale after a publication")
	}
	publish(r.registry) // the endpoint goes while it is picked
	c.Drop(first)
	if n := first.Endpoint.Counts(); n.Active != 0 || n.Total != 0 {
		t.Errorf("after Drop: %+v", n)
	}
	if step := c.Renew(q); step.Kind != Forward || c.Stale() {
		t.Errorf("%+v, stale %v", step, c.Stale())
	}
	if _, err := c.Pick(nil); call.ReasonOf(err) != call.ReasonNoEndpoint {
		t.Errorf("the renewed call sees the endpoints of then: %v", err)
	}
	c.End(nil)
	if info.Attempts != 0 || len(info.Tried) != 0 {
		t.Errorf("%+v", &info)
	}
	r.engine.Close()
	if !c.Stale() {
		t.Error("not stale after Close")
	}
	if step := c.Renew(q); step.Kind != Reject || step.Err.Reason != call.ReasonClosed {
		t.Errorf("closed: %+v", step)
	}
}
