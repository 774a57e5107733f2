package proxy_test

import (
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/proxy"
	"github.com/heddlemesh/mesh/telemetry"
)

// TestOverload: near the limit of memory requests are shed by every face, with 503 and flag OM, and then connections are closed; admin pages and
// health answer; and with the memory back all is as before (E-016).
func TestOverload(t *testing.T) {
	t.Parallel()
	var used atomic.Uint64
	log := &written{more: make(chan struct{}, 1)}
	app := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	told := &shedCount{logged: map[telemetry.Outcome]int{}, metered: map[telemetry.Outcome]int{}}
	r := startMesh(t, service("reviews", "HTTP", app), func(c *proxy.Config) {
		c.MaxHeap, c.Admin, c.Health, c.Logger = 1000, "127.0.0.1:0", "127.0.0.1:0", slog.New(slog.NewTextHandler(log, nil))
		c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: app}}
		c.WithMemory(used.Load)
	}, mesh.WithAccessLog(told), mesh.WithMetricsSink(told))
	two := &http.Transport{Protocols: new(http.Protocols)}
	two.Protocols.SetUnencryptedHTTP2(true)
	in := "http://" + r.sidecar.InboundAddrs()[0].String()
	faces := []struct {
		name, url string
		client    *http.Client
	}{
		{"inbound", in, clientOf(t, &http.Transport{})},
		{"inbound, HTTP/2", in, clientOf(t, two)},
		{"outbound", "http://reviews/", r.client},
	}
	ask := func(client *http.Client, url, contentType string) (*http.Response, string) {
		t.Helper()
		resp, err := client.Post(url, contentType, strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(text)
	}
	stats := func() string {
		t.Helper()
		resp, err := clientOf(t, &http.Transport{}).Get("http://" + r.sidecar.AdminAddr().String() + "/stats/prometheus")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return string(text)
	}
	until := func(line string) {
		t.Helper()
		for !strings.Contains(stats(), line+"\n") {
			<-time.After(time.Millisecond)
		}
	}
	all := func(status int) {
		t.Helper()
		for _, f := range faces {
			resp, text := ask(f.client, f.url, "text/plain")
			if resp.StatusCode != status || status == http.StatusOK && text != "hello" {
				t.Errorf("%s: %d %q, want %d", f.name, resp.StatusCode, text, status)
			}
			if shed := status != http.StatusOK; shed && (!strings.Contains(text, "overloaded") || r.last().Flag != "OM" || resp.ProtoMajor == 1 && !resp.Close) {
				t.Errorf("%s: %q, closing %t, %+v", f.name, text, resp.Close, r.last())
			}
		}
	}
	all(http.StatusOK)
	used.Store(860)
	until("envoy_overload_envoy_overload_actions_stop_accepting_requests_active 1")
	all(http.StatusServiceUnavailable)
	if resp, _ := ask(faces[1].client, in, "application/grpc"); resp.Header.Get("Grpc-Status") != "14" {
		t.Errorf("gRPC: %v", resp.Header)
	}
	until(`heddle_proxy_local_replies_total{direction="inbound",flag="OM",reason="overload"} 3`)
	told.check(t)
	until("envoy_overload_envoy_resource_monitors_fixed_heap_pressure 86")
	until("envoy_overload_envoy_overload_actions_reject_incoming_connections_active 0")

	used.Store(950)
	until("envoy_overload_envoy_overload_actions_reject_incoming_connections_active 1")
	c, err := net.Dial("tcp", r.sidecar.InboundAddrs()[0].String())
	if err == nil {
		defer c.Close()
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Error("it was let in")
		}
	}
	until(`envoy_listener_downstream_cx_overload_reject{direction="inbound",listener="` + r.sidecar.InboundAddrs()[0].String() + `"} 1`)
	if resp, err := clientOf(t, &http.Transport{}).Get("http://" + r.sidecar.HealthAddr().String() + "/healthz/ready"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("health: %v, %v", resp, err)
	}

	used.Store(100)
	until("envoy_overload_envoy_overload_actions_stop_accepting_requests_active 0")
	all(http.StatusOK)
	said := ""
	for n := 1; !strings.Contains(said, "there is memory again"); n++ { // it is told of once a second at the most
		said = strings.Join(log.lines(t, n), "")
	}
	if !strings.Contains(said, "level=WARN msg=\"little is left of the memory limit: requests are answered with 503") || !strings.Contains(said, "limit=1000 percent=") {
		t.Errorf("it said:\n%s", said)
	}
}

// A shedCount counts the requests that were shed, as the access log and metrics tell of them.
type shedCount struct {
	mu              sync.Mutex
	logged, metered map[telemetry.Outcome]int
}

func (c *shedCount) note(in map[telemetry.Outcome]int, o telemetry.Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.Flags&call.FlagOM != 0 {
		in[o]++
	}
}

func (c *shedCount) Log(e *mesh.AccessLogEntry) { c.note(c.logged, e.Outcome) }

func (c *shedCount) Request(_ *telemetry.Labels, o telemetry.Outcome, _ telemetry.Measurement) {
	c.note(c.metered, o)
}

// check waits until both have told of three of HTTP and one of gRPC.
func (c *shedCount) check(t *testing.T) {
	t.Helper()
	for {
		c.mu.Lock()
		logged, metered := maps.Clone(c.logged), maps.Clone(c.metered)
		c.mu.Unlock()
		sum := func(all map[telemetry.Outcome]int) (n int) {
			for _, one := range all {
				n += one
			}
			return n
		}
		if sum(logged) == 4 && sum(metered) == 4 {
			if !maps.Equal(logged, metered) {
				t.Errorf("the access log has %v, metrics have %v", logged, metered)
			}
			return
		}
		<-time.After(time.Millisecond)
	}
}

// TestMemoryLimit: without a limit nobody looks at the memory; what it looks at is what a program holds.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	if limit := debug.SetMemoryLimit(-1); limit < 1<<60 {
		t.Skipf("GOMEMLIMIT is set, to %d", limit)
	}
	for _, limit := range []int64{0, -1} {
		r := start(t, "", func(c *proxy.Config) { c.MaxHeap, c.Admin = limit, "127.0.0.1:0" })
		resp, err := clientOf(t, &http.Transport{}).Get("http://" + r.sidecar.AdminAddr().String() + "/stats/prometheus")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || strings.Contains(string(text), "overload") {
			t.Errorf("limit %d: %v\n%s", limit, err, text)
		}
	}
	r := start(t, "", func(c *proxy.Config) { c.MaxHeap = 1 << 20 }) // less than any program has
	for {
		c, err := net.Dial("tcp", r.sidecar.OutboundAddr().String())
		if err != nil {
			break
		}
		n, err := c.Read(make([]byte, 1))
		_ = c.Close()
		if n == 0 && err != nil {
			break
		}
	}
}
