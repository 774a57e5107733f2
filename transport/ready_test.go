package transport

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

func TestWaitReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := new(discovery.Registry)
		e := NewEngine(Config{Registry: registry, Pools: new(noopPools)})
		defer e.Close()
		wait := func(hosts ...string) <-chan error {
			done := make(chan error, 1)
			go func() { done <- e.WaitReady(t.Context(), hosts...) }()
			synctest.Wait()
			return done
		}
		pending := func(what string, done <-chan error) {
			t.Helper()
			select {
			case err := <-done:
				t.Errorf("%s: did not wait: %v", what, err)
			default:
			}
		}
		if err := e.WaitReady(t.Context()); err != nil {
			t.Errorf("without hosts: %v", err)
		}
		if err := e.WaitReady(t.Context(), "a b"); err == nil {
			t.Error("waited for what is no host")
		}

		all, ported, other := wait("SVC"), wait("svc:80"), wait("svc:81")
		pending("no configuration", all)
		svc := discovery.Key{Host: "svc", Port: 80}
		to := func(i int) *routing.Route { return &routing.Route{Split: []routing.Destination{{Index: i}}} }
		err := e.Publish(t.Context(), &snapshot.Snapshot{
			Tables: map[string]*routing.Table{snapshot.Mesh: routing.NewTable([]*routing.VirtualHost{
				{Host: "svc", Port: 80, HTTP: true, Default: to(0)},
				{Host: "svc", Port: 82, HTTP: true, Default: to(-1)},
				{Host: "rules.only", Port: 80, HTTP: true, Routes: []*routing.Route{to(-1), to(0)}},
				{Host: "direct", Port: 80, HTTP: true, Default: to(1)},
			})},
			Clusters: []snapshot.Cluster{{Name: "svc", Set: svc}, {Name: "direct", Direct: true}},
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		pending("no endpoints", all)
		if err := e.WaitReady(t.Context(), "direct"); err != nil {
			t.Errorf("resolution NONE: %v", err)
		}
		rules := wait("rules.only", "svc")
		registry.Publish(svc, discovery.NewSet())
		synctest.Wait()
		pending("an empty set", rules)
		registry.Publish(svc, discovery.NewSet(discovery.Endpoint{Address: discovery.TCP("10.0.0.1", 1)}))
		for what, done := range map[string]<-chan error{"any port": all, "a port": ported, "rules": rules} {
			if err := <-done; err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		pending("another port", other)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err = e.WaitReady(ctx, "svc", "svc:82", "nobody")
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "svc:82 (it has no endpoint), nobody (the mesh does not know it)") ||
			strings.Contains(err.Error(), "svc,") {
			t.Errorf("%v", err)
		}
		if err := e.WaitReady(ctx, "svc"); err != nil {
			t.Errorf("ready, with a context that has ended: %v", err)
		}
		e.Close()
		if err := <-other; !errors.Is(err, call.ReasonClosed) {
			t.Errorf("closed while waiting: %v", err)
		}
		if err := e.WaitReady(t.Context()); !errors.Is(err, call.ReasonClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}
