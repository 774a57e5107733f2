package transport_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/internal/memory"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/transport"
)

// A pipes is a server behind connections in memory, for tests under fake time.
type pipes struct {
	*memory.Listener

	mu     sync.Mutex
	dialed int
	open   int
	protos []string
}

func newPipes(t *testing.T) *pipes {
	p := &pipes{Listener: memory.Listen(memory.Addr("server"))}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: &protocols, ErrorLog: discardLog(), ConnState: p.state,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.mu.Lock()
			p.protos = append(p.protos, r.Proto)
			p.mu.Unlock()
			if r.URL.Path == "/slow" {
				time.Sleep(time.Minute)
			}
			_, _ = io.WriteString(w, "ok")
		})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(p)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return p
}

func (p *pipes) state(_ net.Conn, s http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s {
	case http.StateNew:
		p.open++
	case http.StateClosed:
		p.open--
	}
}

func (p *pipes) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := p.Listener.Dial(ctx, network, address)
	if err == nil {
		p.mu.Lock()
		p.dialed++
		p.mu.Unlock()
	}
	return c, err
}

func (p *pipes) counts() (dialed, open int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dialed, p.open
}

// pooled is a mesh over the pipes.
func pooled(t *testing.T, p *pipes, policy snapshot.Policy) *transport.RoundTripper {
	t.Helper()
	key := discovery.Key{Host: "svc", Port: 80}
	registry := new(discovery.Registry)
	registry.Publish(key, discovery.NewSet(discovery.Endpoint{Address: discovery.TCP("10.0.0.1", 80)}))
	e := transport.NewEngine(transport.Config{Registry: registry, Pools: transport.NewLeaves(p.Dial, nil)})
	route := &routing.Route{Name: "r", Split: []routing.Destination{{}}}
	err := e.Publish(t.Context(), &snapshot.Snapshot{Version: "1",
		Tables: map[string]*routing.Table{snapshot.Mesh: routing.NewTable([]*routing.VirtualHost{
			{Host: "svc", Port: 80, HTTP: true, Routes: []*routing.Route{route}}})},
		Clusters: []snapshot.Cluster{{Name: "c", Set: key, Policy: policy}}})
	if err != nil {
		t.Fatal(err)
	}
	rt := transport.NewRoundTripper(e, http.DefaultTransport)
	t.Cleanup(func() {
		e.Close()
		rt.CloseIdleConnections()
	})
	return rt
}

func ask(t *testing.T, rt http.RoundTripper, path string, major int) {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://svc"+path, nil)
	if major == 2 {
		req.Proto, req.ProtoMajor, req.ProtoMinor = "HTTP/2.0", 2, 0
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	synctest.Wait()
}

// TestConnectionSettings: how many connections requests take that come a while apart, under fake time.
func TestConnectionSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy snapshot.Policy
		apart  time.Duration
		want   int // of three requests
	}{
		"kept":                     {snapshot.Policy{}, time.Minute, 1},
		"kept for 90 s":            {snapshot.Policy{}, 91 * time.Second, 3},
		"idle for 10 s":            {snapshot.Policy{Connections: snapshot.Connections{Idle: 10 * time.Second}}, 11 * time.Second, 3},
		"not idle for 10 s":        {snapshot.Policy{Connections: snapshot.Connections{Idle: 10 * time.Second}}, 9 * time.Second, 1},
		"idle for an hour":         {snapshot.Policy{Connections: snapshot.Connections{Idle: time.Hour}}, 10 * time.Minute, 1},
		"one request each":         {snapshot.Policy{Connections: snapshot.Connections{MaxRequests: 1}}, time.Millisecond, 3},
		"of age":                   {snapshot.Policy{Connections: snapshot.Connections{MaxAge: 30 * time.Second}}, 31 * time.Second, 3},
		"of age in the end":        {snapshot.Policy{Connections: snapshot.Connections{MaxAge: 30 * time.Second}}, 20 * time.Second, 2},
		"not of age":               {snapshot.Policy{Connections: snapshot.Connections{MaxAge: time.Hour}}, 20 * time.Second, 1},
		"HTTP/2, of age":           {snapshot.Policy{Protocol: snapshot.HTTP2, Connections: snapshot.Connections{MaxAge: 30 * time.Second}}, 31 * time.Second, 3},
		"HTTP/2, kept":             {snapshot.Policy{Protocol: snapshot.HTTP2}, 20 * time.Second, 1},
		"HTTP/2, idle":             {snapshot.Policy{Protocol: snapshot.HTTP2, Connections: snapshot.Connections{Idle: 10 * time.Second}}, 11 * time.Second, 3},
		"HTTP/2, one stream each":  {snapshot.Policy{Protocol: snapshot.HTTP2, Connections: snapshot.Connections{MaxRequests: 1}}, time.Millisecond, 3},
		"HTTP/2, two streams each": {snapshot.Policy{Protocol: snapshot.HTTP2, Connections: snapshot.Connections{MaxRequests: 2}}, time.Millisecond, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPipes(t)
				rt := pooled(t, p, c.policy)
				for i := range 3 {
					if i > 0 {
						time.Sleep(c.apart)
					}
					ask(t, rt, "/", 1)
				}
				if dialed, _ := p.counts(); dialed != c.want {
					t.Errorf("%d connections, want %d", dialed, c.want)
				}
			})
		})
	}
}

// TestOldConnectionsEnd: a connection that comes of age is closed, once what is on it has ended.
func TestOldConnectionsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes(t)
		rt := pooled(t, p, snapshot.Policy{Connections: snapshot.Connections{MaxAge: 10 * time.Second}})
		ask(t, rt, "/", 1)
		done := make(chan struct{})
		go func() {
			defer close(done)
			ask(t, rt, "/slow", 1) // a minute
		}()
		time.Sleep(11 * time.Second)
		ask(t, rt, "/", 1)
		if dialed, open := p.counts(); dialed != 2 || open != 2 {
			t.Errorf("%d connections, %d open; want 2, and the slow request's still open", dialed, open)
		}
		<-done
		time.Sleep(time.Second)
		synctest.Wait()
		if dialed, open := p.counts(); dialed != 2 || open != 1 {
			t.Errorf("%d connections, %d open; want the old one closed", dialed, open)
		}
	})
}

// TestClientProtocol: what the caller speaks is what the endpoint is spoken to in.
func TestClientProtocol(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes(t)
		rt := pooled(t, p, snapshot.Policy{Connections: snapshot.Connections{ClientProtocol: true}})
		for _, major := range []int{1, 2, 1, 2} {
			ask(t, rt, "/", major)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		want := [4]string{"HTTP/1.1", "HTTP/2.0", "HTTP/1.1", "HTTP/2.0"}
		if len(p.protos) != 4 || [4]string(p.protos) != want || p.dialed != 2 {
			t.Errorf("%v over %d connections", p.protos, p.dialed)
		}
	})
}

// TestKeepAlive: the system's probes are set where a policy has them, and only there.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set  snapshot.KeepAlive
		want *net.KeepAliveConfig
	}{
		"nothing":  {snapshot.KeepAlive{}, nil},
		"defaults": {snapshot.KeepAlive{Set: true}, &net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}},
		"all": {snapshot.KeepAlive{Set: true, Time: time.Minute, Interval: time.Second, Probes: 3},
			&net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: time.Second, Count: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got *net.KeepAliveConfig
			registry := new(discovery.Registry)
			e := transport.NewEngine(transport.Config{Registry: registry, Pools: transport.NewLeaves(
				func(context.Context, string, string) (net.Conn, error) {
					c, _ := net.Pipe()
					return &probed{c, func(k net.KeepAliveConfig) { got = &k }}, nil
				}, nil)})
			t.Cleanup(e.Close)
			conn, err := e.Connect(t.Context(), discovery.TCP("10.0.0.1", 80), &snapshot.Policy{Connections: snapshot.Connections{KeepAlive: c.set}})
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

type probed struct {
	net.Conn
	set func(net.KeepAliveConfig)
}

func (p *probed) SetKeepAliveConfig(k net.KeepAliveConfig) error {
	p.set(k)
	return nil
}
