package conformance

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/proxy"
)

// Proxy drives the mesh through the outbound side of the sidecar, as a program does that is not written in Go:
// an HTTP client on the one side, the engine behind package proxy on the other.
type Proxy struct {
	// ByHost sends requests as to the service itself, found by its Host; RPCs go in HTTP/2. Otherwise they go
	// in absolute form, as to an HTTP proxy (RFC 9112 §3.2.2), all of them in HTTP/1.1.
	ByHost bool
}

// Name implements Driver.
func (d Proxy) Name() string {
	if d.ByHost {
		return "proxy by host"
	}
	return "proxy"
}

// Adapt implements Driver. A rejection is an answer here, and to an RPC one with a grpc-status.
func (d Proxy) Adapt(c Case) (Case, string) {
	if why := c.Except[d.Name()]; why != "" {
		return c, why
	}
	if why := notForAProxy(&c); why != "" {
		return c, why
	}
	c.Repeat = min(c.Repeat, enoughRequests)
	if c.Want.Flag != "" && c.rpc() {
		c.Want.GRPC, c.Want.Status = int(call.GRPCCode(c.Want.Status)), http.StatusOK
	}
	return c, ""
}

// enoughRequests tell shares apart; a request costs two more trips here.
const enoughRequests = 2_500

// notForAProxy says why no request to a proxy is what the row is about, "" where one is.
func notForAProxy(c *Case) string {
	authority, _ := target(c.Request.URL)
	if authority == "" {
		return "a program's own TLS goes to its host directly: the proxy refuses CONNECT"
	}
	if c.Request.Host != "" && c.Request.Host != authority {
		return "a request to a proxy names one host and port: the target's, which Host is made to repeat (RFC 9112 §3.2.2)"
	}
	if c.Group == "authority" && authority != strings.ToLower(authority) {
		return "the proxy decides on hosts, and sends them on, in one spelling (attacks.md B-033)"
	}
	for _, b := range c.Upstream.Script {
		if b.Stream && c.Request.Body == "" {
			return resentInside[HTTP{}.Name()]
		}
	}
	return ""
}

// rpc reports a request that is an RPC.
func (c *Case) rpc() bool {
	return strings.HasPrefix(c.Request.Header.Get("Content-Type"), "application/grpc")
}

// Do implements Driver.
func (d Proxy) Do(t testing.TB, c *Case, b *Bench) []Result {
	t.Helper()
	s := newProxyServer(t, b.Mesh)
	client := s.client(d.ByHost, d.ByHost && c.rpc())
	defer client.CloseIdleConnections()
	results := make([]Result, max(c.Repeat, 1))
	for i := range results {
		ctx, cancel := context.WithTimeout(context.Background(), hung)
		req, err := d.request(ctx, c.request(i))
		if err != nil {
			cancel()
			t.Fatal(err)
		}
		s.begin()
		b.Net.Begin()
		answer := roundTrip(client, req)
		cancel()
		results[i] = s.result(b.Net.Seen(), answer)
	}
	return results
}

// request makes the request of a row, its target as it is written there.
func (d Proxy) request(ctx context.Context, r *Request) (*http.Request, error) {
	req, err := r.http(ctx)
	if err != nil {
		return nil, err
	}
	authority, path := target(r.URL)
	switch {
	case !d.ByHost:
		req.URL.Opaque = "//" + authority + path // net/url would spell it anew
		req.URL.RawQuery = ""
	case strings.HasPrefix(path, "//"): // to net/url that is a host
	case path != "":
		req.URL.Opaque = path
		req.URL.RawQuery = ""
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header["User-Agent"] = nil
	}
	return req, nil
}

// A proxyServer is the outbound listener in the network of the test, and what it says of the call under way.
type proxyServer struct {
	conns chan net.Conn
	done  chan struct{}

	mu   sync.Mutex // guards what follows
	info *mesh.CallInfo
	flag string
}

func newProxyServer(t testing.TB, m *mesh.Mesh) *proxyServer {
	s := &proxyServer{conns: make(chan net.Conn), done: make(chan struct{})}
	forward := proxy.Outbound(m, s.report)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		forward.ServeHTTP(w, r.WithContext(mesh.Capture(r.Context(), s.call())))
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(s)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return s
}

// client gives what a program would reach the listener with.
func (s *proxyServer) client(byHost, http2 bool) *http.Transport {
	tr := &http.Transport{DialContext: s.dial, DisableCompression: true}
	if !byHost {
		tr.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: s.Addr().String()})
	}
	if http2 {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	return tr
}

func (s *proxyServer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case s.conns <- conn{server, memory(s.Addr().String())}:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *proxyServer) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info, s.flag = new(mesh.CallInfo), "-"
}

func (s *proxyServer) call() *mesh.CallInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info
}

func (s *proxyServer) report(l proxy.LocalReply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flag = l.Flag
}

// result joins what the upstreams saw, what the proxy said of it and what the client got.
func (s *proxyServer) result(r, answer Result) Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Route, r.Cluster, r.Attempts = s.info.Route, s.info.Cluster, s.info.Attempts
	r.Status, r.GRPC, r.Flag, r.Cookie = answer.Status, answer.GRPC, s.flag, answer.Cookie
	if answer.Flag != "-" {
		r.Flag = answer.Flag // no answer at all
	}
	if r.Flag != "-" {
		r.Endpoint = "" // some upstream may have seen the request, none answered
	}
	return r
}

// Accept implements net.Listener, as do Close and Addr.
func (s *proxyServer) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close ends the listener.
func (s *proxyServer) Close() error {
	close(s.done)
	return nil
}

// Addr gives the listener's name in the network.
func (s *proxyServer) Addr() net.Addr { return memory("proxy:15001") }
