package conformance

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/internal/memory"
	"github.com/heddlemesh/mesh/proxy"
)

// Proxy drives the mesh through the outbound listener of a running sidecar, as a program does that is not written in
// Go: an HTTP client on the one side, the engine behind package proxy on the other. HTTP/1.1 is served on the wire.
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
	if _, path := target(c.Request.URL); strings.Contains(path, `\`) {
		c.Want = Result{Status: http.StatusBadRequest, Flag: "DPE"} // no target of HTTP/1.1 has one (RFC 9112 §3.2)
	}
	c.Repeat = min(c.Repeat, enoughRequests)
	for _, w := range []*Result{&c.Want, &c.Then} {
		switch {
		case w.Flag == "UT" && w.Status == 0:
			w.Flag = cutOff // an answer under way
		case w.Flag != "" && c.rpc():
			if w.GRPC == 0 {
				w.GRPC = int(call.GRPCCode(w.Status))
			}
			w.Status = http.StatusOK
		}
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
	if c.Want.Flag == "DC" {
		return "a client that has gone is told nothing"
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
		ctx, cancel := context.WithTimeout(context.Background(), c.patience())
		req, err := d.request(ctx, c.request(i))
		if err != nil {
			cancel()
			t.Fatal(err)
		}
		s.begin()
		b.Net.Begin()
		answer := roundTrip(client, req)
		cancel()
		c.settle()
		results[i] = s.result(c, joinedBy(c, b.Net.Seen(), answer))
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
		req.URL.RawQuery, req.URL.ForceQuery = "", false
	case strings.HasPrefix(path, "//"): // to net/url that is a host
	case path != "":
		req.URL.Opaque = path
		req.URL.RawQuery, req.URL.ForceQuery = "", false
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header["User-Agent"] = nil
	}
	return req, nil
}

// A proxyServer is the outbound listener in the network of the test, and what it says of the call under way.
type proxyServer struct {
	*memory.Listener // it is on the loopback by its name

	mu   sync.Mutex // guards what follows
	info *mesh.CallInfo
	flag string
}

func newProxyServer(t testing.TB, m *mesh.Mesh) *proxyServer {
	s := &proxyServer{Listener: memory.Listen(memory.Addr("127.0.0.1:15001"))}
	sidecar, err := proxy.Start(proxy.Config{Mesh: m, Outbound: s.Addr().String(), StreamIdleTimeout: -1 /* as istiod has it */, OnReply: s.report, OnCall: s.told,
		Listen: func(_, address string) (net.Listener, error) {
			if address == s.Addr().String() {
				return s, nil
			}
			return memory.Listen(memory.Addr(address)), nil // a document's, which nobody calls
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what a row leaves under way is cut off
		_ = sidecar.Shutdown(ctx)
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
	if err := s.Give(ctx, conn{server, s.Addr()}); err != nil {
		return nil, err
	}
	return client, nil
}

func (s *proxyServer) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info, s.flag = new(mesh.CallInfo), "-"
}

func (s *proxyServer) told(info *mesh.CallInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info = info
}

func (s *proxyServer) report(l proxy.LocalReply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flag = l.Flag
}

// tick is how exactly a sidecar keeps a time-out.
const tick = 100 * time.Millisecond

// result joins what the upstreams saw, what the proxy said of it and what the client got.
func (s *proxyServer) result(c *Case, r Result) Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	tell(&r, s.info)
	if r.Flag == "-" { // else there was no answer at all, or no whole one
		r.Flag = s.flag
	}
	if late := r.Took - c.Want.Took; 0 <= late && late <= 3*tick {
		r.Took = c.Want.Took
	}
	if r.Flag != "-" {
		r.Endpoint = "" // some upstream may have seen the request, none answered
	}
	return r
}
