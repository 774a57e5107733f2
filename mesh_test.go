package mesh_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/heddlemesh/mesh"
)

var discard = mesh.WithLogger(slog.New(slog.DiscardHandler))

func upstream(t testing.TB, h http.HandlerFunc) (host, port string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	host, port, _ = net.SplitHostPort(s.Listener.Addr().String())
	return host, port
}

func entry(host, protocol, address, port string) []byte {
	return fmt.Appendf(nil, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s}
spec:
  hosts: [%s]
  resolution: STATIC
  ports: [{number: 9080, name: p, protocol: %s}]
  endpoints: [{address: %s, ports: {p: %s}}]
`, strings.SplitN(host, ".", 2)[0], host, protocol, address, port)
}

func start(t testing.TB, opts ...mesh.Option) *mesh.Mesh {
	t.Helper()
	m, err := mesh.New(t.Context(), append(opts, discard)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func get(t testing.TB, c *http.Client, url string) (string, error) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// TestWhichHost: DESIGN §5 — Request.Host where set, else the URL's; the URL's port, else 80.
func TestWhichHost(t *testing.T) {
	t.Parallel()
	addr, port := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })
	m := start(t, mesh.WithConfig(entry("reviews.default.svc.cluster.local", "HTTP", addr, port)))
	for _, url := range []string{
		"http://reviews:9080/", "http://reviews.default:9080/", "http://reviews.default.svc:9080/",
		"http://reviews.default.svc.cluster.local:9080/", "http://REVIEWS:9080/", "http://reviews.default.svc.cluster.local.:9080/",
	} {
		var info mesh.CallInfo
		req, _ := http.NewRequestWithContext(mesh.Capture(t.Context(), &info), "GET", url, nil)
		resp, err := m.Client().Do(req)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		resp.Body.Close()
		if info.Cluster != "outbound|9080||reviews.default.svc.cluster.local" || info.Route != "default" || info.Endpoint != addr+":"+port {
			t.Errorf("%s: %+v", url, &info)
		}
	}
	req, _ := http.NewRequest("GET", "http://"+addr+":9080/", nil)
	req.Host = "reviews"
	resp, err := m.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); string(b) != "reviews" {
		t.Errorf("the upstream saw host %q", b)
	}
	resp.Body.Close()
	if _, err := get(t, m.Client(), "http://reviews:9081/"); err == nil || !strings.Contains(err.Error(), "knows the host") && !strings.Contains(err.Error(), "but on 9080") {
		t.Errorf("undeclared port: %v", err)
	}
}

// TestPassthroughIsUnchanged: a host that the mesh does not know is served as without a mesh, whatever its
// path or header look like, and its errors are net/http's own.
func TestPassthroughIsUnchanged(t *testing.T) {
	t.Parallel()
	addr, port := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.RequestURI, len(r.Header))
	})
	m := start(t)
	bare := &http.Client{Transport: &http.Transport{}}
	defer bare.CloseIdleConnections()
	for _, path := range []string{"/", "/a/../b", "/%61//x", "/a%00b?x=%zz;y"} {
		url := "http://" + addr + ":" + port + path
		want, err := get(t, bare, url)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := get(t, m.Client(), url); err != nil || got != want {
			t.Errorf("%s: got %q, %v; bare net/http gives %q", path, got, err, want)
		}
	}
	if _, err := get(t, m.Client(), "ftp://x/"); err == nil || mesh.ReasonOf(err) != mesh.ReasonNone {
		t.Errorf("ftp: %v", err)
	}
}

// TestOwnTLS: an https URL of a known host goes to the mesh's endpoint under the program's own TLS.
func TestOwnTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "tls") }))
	t.Cleanup(s.Close)
	addr, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	through := s.Client().Transport.(*http.Transport).Clone()
	through.TLSClientConfig.ServerName = "example.com"
	m := start(t, mesh.WithPassthrough(through), mesh.WithConfig(entry("secure.default.svc.cluster.local", "HTTPS", addr, port)))
	if got, err := get(t, m.Client(), "https://secure:9080/"); err != nil || got != "tls" {
		t.Errorf("%q, %v", got, err)
	}
	m = start(t, mesh.WithPassthrough(&http.Transport{TLSClientConfig: &tls.Config{}}),
		mesh.WithConfig(entry("secure.default.svc.cluster.local", "HTTPS", addr, port)))
	_, err := get(t, m.Client(), "https://secure:9080/")
	if mesh.ReasonOf(err) != mesh.ReasonConnect {
		t.Errorf("an untrusted certificate gave %v", err)
	}
}

// TestDefaultTransportCanBeTheMesh: the mesh never falls back on http.DefaultTransport, so that it can be
// put there without calling itself.
func TestDefaultTransportCanBeTheMesh(t *testing.T) {
	old := http.DefaultTransport
	defer func() { http.DefaultTransport = old }()
	addr, port := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	m := start(t, mesh.WithConfig(entry("a.default.svc.cluster.local", "HTTP", addr, port)))
	http.DefaultTransport = m.RoundTripper()
	for _, url := range []string{"http://a:9080/", "http://" + addr + ":" + port} {
		if got, err := get(t, &http.Client{}, url); err != nil || got != "ok" {
			t.Errorf("%s: %q, %v", url, got, err)
		}
	}
}

// TestOddOptions: A-083 — an error or a sensible default, never a panic.
func TestOddOptions(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]mesh.Option{
		"none":             nil,
		"nil option":       {nil},
		"nil config":       {mesh.WithConfig(nil)},
		"no config":        {mesh.WithConfig()},
		"nil fs":           {mesh.WithConfigFS(nil)},
		"nil passthrough":  {mesh.WithPassthrough(nil)},
		"foreign wrapper":  {mesh.WithPassthrough(roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("x") }))},
		"nil dialer":       {mesh.WithDialer(nil)},
		"nil logger":       {mesh.WithLogger(nil)},
		"option twice":     {mesh.WithSeed(1), mesh.WithSeed(2), mesh.WithStrictConfig(), mesh.WithStrictConfig()},
		"no ignored kinds": {mesh.WithIgnoredKinds()},
		"empty fs":         {mesh.WithConfigFS(fstest.MapFS{})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := mesh.New(t.Context(), append(opts, discard)...)
			if name == "nil logger" {
				m, err = mesh.New(t.Context(), opts...)
			}
			if err != nil {
				t.Fatal(err)
			}
			m.Close()
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestUseAfterClose(t *testing.T) {
	t.Parallel()
	addr, port := upstream(t, func(w http.ResponseWriter, r *http.Request) {})
	m := start(t, mesh.WithConfig(entry("a.default.svc.cluster.local", "HTTP", addr, port)))
	m.Close()
	m.Close()
	if _, err := get(t, m.Client(), "http://a:9080/"); !errors.Is(err, mesh.ReasonClosed) {
		t.Errorf("call: %v", err)
	}
	if err := m.Apply(t.Context()); err == nil {
		t.Error("Apply succeeded")
	}
	req, _ := http.NewRequest("GET", "http://a:9080/", nil)
	if _, err := m.Explain(req); err != nil {
		t.Error(err)
	}
	if _, err := m.Explain(nil); err == nil {
		t.Error("Explain(nil) succeeded")
	}
	if _, err := m.Explain(&http.Request{}); err == nil {
		t.Error("Explain without a URL succeeded")
	}
	_ = m.Status()
}

func TestRefusedConfiguration(t *testing.T) {
	t.Parallel()
	bad := []byte("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: [a]\n  http:\n  - retrise: {}\n")
	_, err := mesh.New(t.Context(), mesh.WithConfig(bad), discard)
	var refused *mesh.ConfigError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "<inline 1>:7:5") || !strings.Contains(err.Error(), `did you mean "retries"?`) {
		t.Errorf("%v", err)
	}
	if _, err := mesh.New(t.Context(), mesh.WithConfigPath("no/such/dir"), discard); !errors.As(err, &refused) {
		t.Errorf("missing path: %v", err)
	}
	addr, port := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	m := start(t, mesh.WithConfig(entry("a.default.svc.cluster.local", "HTTP", addr, port)))
	if err := m.Apply(t.Context(), bad); !errors.As(err, &refused) {
		t.Errorf("Apply: %v", err)
	}
	if got, err := get(t, m.Client(), "http://a:9080/"); got != "ok" {
		t.Errorf("after a refused Apply: %v", err)
	}
	if s := m.Status(); s.Refused == nil || s.Version != "1" || len(s.Clusters) != 1 || s.Clusters[0].Endpoints[0].Counts.Total != 1 {
		t.Errorf("%+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := mesh.New(ctx, discard); err == nil {
		// New may win the race against a context that has ended already; either is right.
		t.Log("New finished first")
	}
}

// TestNothingIsLeftBehind: E-020 in small — no goroutine outlives Close, and nothing goes to stdout.
func TestNothingIsLeftBehind(t *testing.T) {
	addr, port := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	before := runtime.NumGoroutine()
	var logged bytes.Buffer
	for range 10 {
		m, err := mesh.New(t.Context(), mesh.WithConfig(entry("a.default.svc.cluster.local", "HTTP", addr, port)),
			mesh.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := get(t, m.Client(), "http://a:9080/"); err != nil {
			t.Fatal(err)
		}
		m.Close()
	}
	if !strings.Contains(logged.String(), "configuration live") || strings.Contains(logged.String(), "a:9080") {
		t.Errorf("logged %q", logged.String())
	}
	settle(t, func() bool { return runtime.NumGoroutine() <= before+5 })
}

// TestTwoMeshes: any number in one process, each with its own view.
func TestTwoMeshes(t *testing.T) {
	t.Parallel()
	a, pa := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "a") })
	b, pb := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "b") })
	ma := start(t, mesh.WithConfig(entry("x.default.svc.cluster.local", "HTTP", a, pa)))
	mb := start(t, mesh.WithConfig(entry("x.default.svc.cluster.local", "HTTP", b, pb)))
	ga, _ := get(t, ma.Client(), "http://x:9080/")
	gb, _ := get(t, mb.Client(), "http://x:9080/")
	if ga != "a" || gb != "b" {
		t.Errorf("got %q and %q", ga, gb)
	}
}
