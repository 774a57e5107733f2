package proxy_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/proxy"
)

func portOf(t testing.TB, address string) uint16 {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

// healthy gives a function that asks the health listener of a sidecar with these probes.
func healthy(t *testing.T, probes proxy.Probes, change func(*proxy.Config)) (*rig, func(method, path string) (int, string)) {
	t.Helper()
	r := start(t, "", func(c *proxy.Config) {
		c.Health, c.Probes = "127.0.0.1:0", probes
		if change != nil {
			change(c)
		}
	})
	client := clientOf(t, &http.Transport{})
	return r, func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.sidecar.HealthAddr().String()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", "kube-probe/1.34")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
}

// TestHealthPaths: it says whether the sidecar is ready, and has nothing else to say to whoever can reach it.
func TestHealthPaths(t *testing.T) {
	t.Parallel()
	r, ask := healthy(t, nil, func(c *proxy.Config) { c.Quit = func() {} })
	if status, body := ask(http.MethodGet, "/healthz/ready"); status != http.StatusOK || body != "LIVE\n" {
		t.Errorf("ready: %d %q", status, body)
	}
	for _, path := range []string{"/", "/ready", "/server_info", "/stats/prometheus", "/config_dump", "/quitquitquit", "/app-health/x/livez", "/debug/pprof/"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			if status, _ := ask(method, path); status != http.StatusNotFound {
				t.Errorf("%s %s: %d", method, path, status)
			}
		}
	}
	if status, _ := ask(http.MethodPost, "/healthz/ready"); status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", status)
	}
	r.sidecar.Leaving()
	if status, body := ask(http.MethodGet, "/healthz/ready"); status != http.StatusServiceUnavailable || body != "DRAINING\n" {
		t.Errorf("draining: %d %q", status, body)
	}
}

// TestProbesHTTP: the sidecar asks as the kubelet would, and answers what that would have been told.
func TestProbesHTTP(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	other := upstream(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	app := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/asked":
			_, _ = io.WriteString(w, strings.Join([]string{r.Method, r.Host, r.URL.RawQuery, r.UserAgent(), r.Header.Get("X-Own"), r.Header.Get("Accept")}, " "))
		case "/sick":
			http.Error(w, "no database", http.StatusServiceUnavailable)
		case "/here":
			http.Redirect(w, r, "/sick", http.StatusFound)
		case "/there":
			http.Redirect(w, r, "http://"+other+"/", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/long":
			_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
		}
	}))
	get := func(path string, headers ...proxy.ProbeHeader) *proxy.Probe {
		return &proxy.Probe{HTTPGet: &proxy.HTTPProbe{Path: path, Port: portOf(t, app), Headers: headers}}
	}
	// On the inbound listener's port the application is what stands behind it.
	listen := loopback.Free(t)
	behind := get("asked")
	behind.HTTPGet.Port = portOf(t, listen)
	dead := get("/")
	dead.HTTPGet.Port = portOf(t, loopback.Dead(t))
	_, ask := healthy(t, proxy.Probes{
		"/app-health/a/livez":    get("/asked?a=b", proxy.ProbeHeader{Name: "X-Own", Value: "yes"}, proxy.ProbeHeader{Name: "host", Value: "ratings.example"}),
		"/app-health/a/readyz":   get("/sick"),
		"/app-health/a/startupz": get("/here"),
		"/app-health/b/livez":    get("/there"),
		"/app-health/b/readyz":   get("/round"),
		"/app-health/b/startupz": get("/long"),
		"/app-health/c/livez":    behind,
		"/app-health/c/readyz":   dead,
	}, func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: listen, App: app}} })
	for _, c := range []struct {
		path   string
		status int
		body   string
	}{
		{"/app-health/a/livez", 200, "GET ratings.example a=b kube-probe/1.34 yes */*"},
		{"/app-health/a/livez?port=1&path=/x", 200, "GET ratings.example a=b kube-probe/1.34 yes */*"},
		{"/app-health/a/readyz", 503, "no database\n"},
		{"/app-health/a/startupz", 503, "no database\n"},
		{"/app-health/b/livez", 200, ""},
		{"/app-health/b/readyz", 500, ""},
		{"/app-health/b/startupz", 200, strings.Repeat("x", 10<<10)},
		{"/app-health/c/livez", 200, "GET " + app + "  kube-probe/1.34  */*"},
		{"/app-health/c/readyz", 500, ""},
		{"/app-health/c/startupz", 404, "404 page not found\n"},
	} {
		status, body := ask(http.MethodGet, c.path)
		if status != c.status || c.body != "" && body != c.body {
			t.Errorf("%s: %d %.100q", c.path, status, body)
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("a redirect was followed to another server, %d times", n)
	}
	if status, _ := ask(http.MethodPost, "/app-health/a/livez"); status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", status)
	}
}

// TestProbesOnce: whoever asks while a probe is under way hears what that finds.
func TestProbesOnce(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int64
	release := make(chan struct{})
	app := upstream(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-release
		now.Add(-1)
	}))
	_, ask := healthy(t, proxy.Probes{"/app-health/a/livez": {HTTPGet: &proxy.HTTPProbe{Port: portOf(t, app)}, TimeoutSeconds: 600}}, nil)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if status, body := ask(http.MethodGet, "/app-health/a/livez"); status != http.StatusOK {
				t.Errorf("%d %q", status, body)
			}
		})
	}
	close(release)
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d probes at a time", most.Load())
	}
}

// TestProbesTimeout: an application that does not answer is not waited for longer than the probe says.
func TestProbesTimeout(t *testing.T) {
	t.Parallel()
	app := upstream(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	_, ask := healthy(t, proxy.Probes{"/app-health/a/livez": {HTTPGet: &proxy.HTTPProbe{Port: portOf(t, app)}}}, nil)
	if status, body := ask(http.MethodGet, "/app-health/a/livez"); status != http.StatusInternalServerError || !strings.Contains(body, "deadline exceeded") {
		t.Errorf("%d %q", status, body)
	}
}

func TestProbesTCP(t *testing.T) {
	t.Parallel()
	open := upstream(t, http.NotFoundHandler())
	_, ask := healthy(t, proxy.Probes{
		"/app-health/a/livez":  {TCPSocket: &proxy.TCPProbe{Port: portOf(t, open)}, TimeoutSeconds: 600},
		"/app-health/a/readyz": {TCPSocket: &proxy.TCPProbe{Port: portOf(t, loopback.Dead(t))}, TimeoutSeconds: 600},
	}, nil)
	if status, body := ask(http.MethodGet, "/app-health/a/livez"); status != http.StatusOK {
		t.Errorf("open: %d %q", status, body)
	}
	if status, _ := ask(http.MethodGet, "/app-health/a/readyz"); status != http.StatusInternalServerError {
		t.Errorf("closed: %d", status)
	}
}

// TestProbesGRPC: grpc-go's own health service is asked.
func TestProbesGRPC(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	said, srv := health.NewServer(), grpc.NewServer()
	said.SetServingStatus("well", grpc_health_v1.HealthCheckResponse_SERVING)
	said.SetServingStatus("ill", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(srv, said)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	of := func(service string, port uint16) *proxy.Probe {
		return &proxy.Probe{GRPC: &proxy.GRPCProbe{Port: port, Service: service}, TimeoutSeconds: 600}
	}
	port := portOf(t, l.Addr().String())
	_, ask := healthy(t, proxy.Probes{
		"/app-health/a/livez":    of("", port),
		"/app-health/a/readyz":   of("well", port),
		"/app-health/a/startupz": of("ill", port),
		"/app-health/b/livez":    of("nobody", port),
		"/app-health/b/readyz":   of("", portOf(t, upstream(t, http.NotFoundHandler()))),
	}, nil)
	for path, want := range map[string]int{"/app-health/a/livez": 200, "/app-health/a/readyz": 200, "/app-health/a/startupz": 500, "/app-health/b/livez": 500,
		"/app-health/b/readyz": 500} {
		if status, body := ask(http.MethodGet, path); status != want {
			t.Errorf("%s: %d %q, want %d", path, status, body, want)
		}
	}
}

// TestProbesOfOurselves: a probe cannot be used to ask the sidecar itself.
func TestProbesOfOurselves(t *testing.T) {
	t.Parallel()
	admin := loopback.Free(t)
	r := start(t, "", nil)
	_, err := proxy.Start(proxy.Config{Mesh: r.mesh, Outbound: "127.0.0.1:0", Admin: admin, Health: "127.0.0.1:0",
		Probes: proxy.Probes{"/app-health/a/livez": {HTTPGet: &proxy.HTTPProbe{Path: "/config_dump", Port: portOf(t, admin)}}}})
	if err == nil || !strings.Contains(err.Error(), "is the sidecar's own admin listener") {
		t.Error(err)
	}
}

func TestParseProbes(t *testing.T) {
	t.Parallel()
	p, err := proxy.ParseProbes(`{"/app-health/ratings/livez":{"httpGet":{"path":"/health","port":9080,"host":"10.0.0.1","scheme":"HTTP","httpHeaders":[{"name":"a","value":"b"}]},
		"timeoutSeconds":3,"periodSeconds":10},"/app-health/db/readyz":{"tcpSocket":{"port":3306}},"/app-health/g/startupz":{"grpc":{"port":50051,"service":"s"}}}`)
	if err != nil || len(p) != 3 || p["/app-health/ratings/livez"].HTTPGet.Headers[0].Value != "b" || p["/app-health/g/startupz"].GRPC.Service != "s" {
		t.Errorf("%v, %v", p, err)
	}
	if p, err := proxy.ParseProbes(""); p != nil || err != nil {
		t.Errorf("nothing: %v, %v", p, err)
	}
	for text, says := range map[string]string{
		`[]`: "read probes:",
		`{"/app-health/a/livez":{"tcpSocket":{"port":80}}`:                                       "unexpected end",
		`{"/healthz/ready":{"tcpSocket":{"port":80}}}`:                                           "expected /app-health/<container>/",
		`{"/app-health/../livez":{"tcpSocket":{"port":80}},"/app-health/a b/livez":{}}`:          "read probes:",
		`{"/app-health/a/livez":{}}`:                                                             "expected one of httpGet, tcpSocket, grpc",
		`{"/app-health/a/livez":null}`:                                                           "no probe",
		`{"/app-health/a/livez":{"tcpSocket":{"port":80},"grpc":{"port":80}}}`:                   "expected one of",
		`{"/app-health/a/livez":{"tcpSocket":{"port":0}}}`:                                       "expected a number from 1 to 65535",
		`{"/app-health/a/livez":{"tcpSocket":{"port":"http"}}}`:                                  "cannot unmarshal string",
		`{"/app-health/a/livez":{"httpGet":{"port":80,"scheme":"FTP"}}}`:                         `found "FTP"`,
		`{"/app-health/a/livez":{"httpGet":{"port":80,"path":"/\u0000"}}}`:                       "path:",
		`{"/app-health/a/livez":{"tcpSocket":{"port":80},"timeoutSeconds":-1}}`:                  "timeoutSeconds",
		`{"/app-health/a/livez":{"tcpSocket":{"port":80},"timeoutSeconds":99999}}`:               "timeoutSeconds",
		`{"/app-health/a/livez":{"httpGet":{"port":70000,"path":"/"}}}`:                          "cannot unmarshal number",
		`{"/app-health/a/livez":{"httpGet":{"port":80,"path":"@evil.example:1/"}},"/x":{}}`:      "read probes:",
		`{"/app-health/a/livez":{"tcpSocket":{"port":80}},"/app-health/a/livez/":{"grpc":null}}`: "read probes:",
	} {
		if _, err := proxy.ParseProbes(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

// FuzzParseProbes: whatever is taken can be probed on a port, under a path that is one of Istio's.
func FuzzParseProbes(f *testing.F) {
	f.Add(`{"/app-health/ratings/livez":{"httpGet":{"path":"/health","port":9080},"timeoutSeconds":3}}`)
	f.Add(`{"/app-health/db/readyz":{"tcpSocket":{"port":3306}},"/app-health/g/startupz":{"grpc":{"port":50051,"service":"s"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := proxy.ParseProbes(text)
		if err != nil {
			return
		}
		for path, probe := range p {
			if !strings.HasPrefix(path, "/app-health/") || strings.Count(path, "/") != 3 || probe == nil {
				t.Errorf("%q is taken", path)
			}
			if h := probe.HTTPGet; h != nil {
				if _, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:1/"+strings.TrimPrefix(h.Path, "/"), nil); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// TestHealthCap: whoever opens connections without end is closed, and the others are not.
func TestHealthCap(t *testing.T) {
	t.Parallel()
	r, ask := healthy(t, nil, nil)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for range 2 * 256 {
		c, err := net.Dial("tcp", r.sidecar.HealthAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	closed := 0
	for _, c := range open[256:] { // taken in order: these are beyond the number, unless the first have had their time
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a silent connection was answered")
		} else if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
			t.Error(err)
		}
		closed++
	}
	for _, c := range open {
		_ = c.Close()
	}
	open = nil
	for {
		c, err := net.Dial("tcp", r.sidecar.HealthAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET /healthz/ready HTTP/1.1\r\nHost: a\r\n\r\n")
		answer, _ := io.ReadAll(c)
		_ = c.Close()
		if strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			break // as soon as it has heard that the others have gone
		}
	}
	if status, _ := ask(http.MethodGet, "/healthz/ready"); status != http.StatusOK {
		t.Errorf("%d of those closed; then: %d", closed, status)
	}
}
