package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/proxy"
)

// service is a ServiceEntry of one endpoint.
func service(name, protocol, address string) string {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %[1]s}
spec:
  hosts: [%[1]s.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: %[2]s}]
  endpoints: [{address: %[3]s, ports: {http: %[4]s}, labels: {version: v1}}]
---
`, name, protocol, host, port)
}

// A rig is a mesh, its sidecar, and a client of the outbound listener.
type rig struct {
	t       testing.TB
	mesh    *mesh.Mesh
	sidecar *proxy.Sidecar
	client  *http.Client // by the outbound listener as its proxy

	mu      sync.Mutex
	replies []proxy.LocalReply
	told    chan proxy.LocalReply
}

func start(t testing.TB, config string, change func(*proxy.Config)) *rig {
	t.Helper()
	return startMesh(t, config, change)
}

// startMesh is start with further options for the mesh.
func startMesh(t testing.TB, config string, change func(*proxy.Config), opts ...mesh.Option) *rig {
	t.Helper()
	guard := proxy.NewGuard(nil)
	through := proxy.Passthrough(guard.DialContext)
	m, err := mesh.New(t.Context(), append(opts, mesh.WithConfig([]byte(config)), mesh.WithDialer(guard.DialContext),
		mesh.WithPassthrough(through), mesh.WithLogger(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, mesh: m, told: make(chan proxy.LocalReply, 1024)}
	c := proxy.Config{Mesh: m, Guard: guard, Outbound: "127.0.0.1:0", Version: "test", OnReply: r.reply}
	if change != nil {
		change(&c)
	}
	if r.sidecar, err = proxy.Start(c); err != nil {
		_ = m.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what a test leaves under way is cut off
		_ = r.sidecar.Shutdown(ctx)
		noBuffers(t, r.sidecar)
		_ = m.Close()
		through.CloseIdleConnections()
	})
	if a := r.sidecar.OutboundAddr(); a != nil {
		r.client = clientOf(t, &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: a.String()}),
			DisableCompression: true})
	}
	return r
}

func clientOf(t testing.TB, tr *http.Transport) *http.Client {
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (r *rig) reply(l proxy.LocalReply) {
	r.mu.Lock()
	r.replies = append(r.replies, l)
	r.mu.Unlock()
	select {
	case r.told <- l:
	default:
	}
}

func (r *rig) last() proxy.LocalReply {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.replies) == 0 {
		return proxy.LocalReply{}
	}
	return r.replies[len(r.replies)-1]
}

// inbound gives a rig whose inbound listener stands before the handler.
func inbound(t testing.TB, h http.Handler) (*rig, string) {
	t.Helper()
	app := upstream(t, h)
	r := start(t, "", func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: app}} })
	return r, r.sidecar.InboundAddrs()[0].String()
}

func saying(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, text+" for "+r.Host) })
}

// upstream serves HTTP/1.1 and HTTP/2 without TLS, and gives its address.
func upstream(t testing.TB, h http.Handler) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// raw serves connections with f, each until it returns, and gives the address.
func raw(t testing.TB, f func(net.Conn, *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				f(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// answer reads one request and writes text for it.
func answer(text string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(c, text)
	}
}

// patience is after how long a test gives up that would otherwise hang. It is no bound on anything that is measured.
const patience = time.Minute

// dial connects to a listener of the sidecar, for requests that no client would send.
func dial(t testing.TB, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

func send(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// exchange sends a text on a connection of its own and gives the answer.
func exchange(t testing.TB, address, text string) (*http.Response, string) {
	t.Helper()
	c, br := dial(t, address)
	send(t, c, text)
	return read(t, br, http.MethodGet)
}

func read(t testing.TB, br *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func (r *rig) get(target string) (*http.Response, string) {
	r.t.Helper()
	return r.do(r.request(http.MethodGet, target, nil))
}

func (r *rig) request(method, target string, body io.Reader) *http.Request {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.(interface{ Context() context.Context }).Context(), method, target, body)
	if err != nil {
		r.t.Fatal(err)
	}
	return req
}

func (r *rig) do(req *http.Request) (*http.Response, string) {
	r.t.Helper()
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, string(body)
}

// head gives the lines of a raw request's head, without the request line, as a set.
func head(t testing.TB, br *bufio.Reader) map[string]string {
	t.Helper()
	lines := map[string]string{}
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return lines
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			return lines
		}
		k, v, _ := strings.Cut(line, ": ")
		lines[k] = v
	}
}
