package faults_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/proxy"
)

// subjects are what has to keep its promises. The client of one reaches a mesh with the given configuration.
var subjects = []struct {
	name  string
	start func(tb testing.TB, r *run, config string)
}{
	{"library", func(tb testing.TB, r *run, config string) {
		r.exact = true
		startLibrary(tb, r, config)
	}},
	{"library on net/http", func(tb testing.TB, r *run, config string) {
		startLibrary(tb, r, config, mesh.WithNetHTTPTransport())
	}},
	{"sidecar", startSidecar},
}

func startLibrary(tb testing.TB, r *run, config string, opts ...mesh.Option) {
	startMesh(tb, r, config, opts...)
	r.client = r.mesh.RoundTripper()
	r.watch = func(ctx context.Context, _ *told) (context.Context, func()) {
		info := new(mesh.CallInfo)
		return mesh.Capture(ctx, info), func() { r.tried.Add(int64(info.Attempts)) }
	}
}

func startSidecar(tb testing.TB, r *run, config string) {
	startMesh(tb, r, config)
	s, err := proxy.Start(proxy.Config{Mesh: r.mesh, Outbound: "127.0.0.1:0",
		OnCall: func(info *mesh.CallInfo) { r.tried.Add(int64(info.Attempts)) }})
	if err != nil {
		tb.Fatal(err)
	}
	r.sidecar, r.exact = s, true
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: s.OutboundAddr().String()}),
		DisableCompression: true, MaxIdleConnsPerHost: maxInFlight}
	tb.Cleanup(func() {
		tr.CloseIdleConnections()
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what a fault leaves under way is cut off
		_ = s.Shutdown(ctx)
	})
	r.client = tr
	r.watch = func(ctx context.Context, t *told) (context.Context, func()) {
		// The client of a sidecar is net/http's, which repeats a GET itself where a kept connection ended before any answer.
		return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { t.sent.Add(1) }}), func() {}
	}
}

func startMesh(tb testing.TB, r *run, config string, opts ...mesh.Option) {
	m, err := mesh.New(tb.Context(), append(opts, mesh.WithConfig([]byte(config)), mesh.WithDialer(r.dial),
		mesh.WithLogger(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = m.Close() })
	r.mesh = m
}

// dial connects to an upstream, or does what its fault does instead.
func (r *run) dial(ctx context.Context, network, address string) (net.Conn, error) {
	for _, u := range r.upstreams {
		if f := u.state.Load().dial; f != nil && u.address == address {
			r.book.strike(nil)
			return f(ctx, (&net.Dialer{}).DialContext, network, address)
		}
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// services is the ServiceEntry of some of the upstreams, and its rules.
func (r *run) services(name string, policy policy, upstreams ...*upstream) string {
	text := fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %[1]s}
spec:
  hosts: [%[1]s.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
`, name)
	for _, u := range upstreams {
		host, port, _ := net.SplitHostPort(u.address)
		text += fmt.Sprintf("  - {address: %s, ports: {http: %s}}\n", host, port)
	}
	return text + fmt.Sprintf(`---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: %[1]s}
spec:
  host: %[1]s
  trafficPolicy: {%[2]s}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: %[1]s}
spec:
  hosts: [%[1]s]
  http:
  - route: [{destination: {host: %[1]s}}]
    %[3]s
---
`, name, policy.traffic, policy.route)
}

// A policy is what stands in the DestinationRule's trafficPolicy and in the VirtualService's one rule.
type policy struct{ traffic, route string }

// ejections says which upstreams are out.
func (r *run) ejections() (out []string) {
	for _, c := range r.mesh.Status().Clusters {
		for _, ep := range c.Endpoints {
			if ep.Ejected != nil {
				out = append(out, ep.Address)
			}
		}
	}
	return out
}

// A run is one fault met by one subject.
type run struct {
	name      string
	rate      int // requests a second
	tb        testing.TB
	book      ledger
	upstreams []*upstream
	mesh      *mesh.Mesh
	sidecar   *proxy.Sidecar
	client    http.RoundTripper
	watch     func(context.Context, *told) (context.Context, func()) // counts attempts
	tried     atomic.Int64
	exact     bool // its transport looks whether a kept connection lives before it is used
	over      bool // the books are joined

	clientBook
}
