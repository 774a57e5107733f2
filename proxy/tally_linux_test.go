package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/proxy"
)

// connMetrics gives Istio's metrics of connections by name and the labels that are asked for.
func connMetrics(m *mesh.Mesh, labels ...string) map[string]float64 {
	got := make(map[string]float64)
	for _, f := range m.Metrics().Gather() {
		if !strings.HasPrefix(f.Name, "istio_tcp_") {
			continue
		}
		for _, s := range f.Samples {
			key := strings.TrimSuffix(strings.TrimPrefix(f.Name, "istio_tcp_"), "_total")
			for _, name := range labels {
				for _, l := range s.Labels {
					if l.Name == name {
						key += " " + l.Value
					}
				}
			}
			got[key] += s.Value
		}
	}
	return got
}

// awaitMetrics waits until the metrics are those, which are counted a moment after the bytes.
func awaitMetrics(t *testing.T, m *mesh.Mesh, want map[string]float64, labels ...string) {
	t.Helper()
	for {
		got := connMetrics(m, labels...)
		same := true
		for key, v := range want {
			same = same && got[key] == v
		}
		if same {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("metrics are %v, want %v", got, want)
		default:
			runtime.Gosched()
		}
	}
}

// TestTally: connections that are not HTTP are in the metrics while they last, on both sides, and are lines of the log when they end.
func TestTally(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, ca.Options{})
	db := speaking(t, "db")
	logs := map[string]*written{"callee": {more: make(chan struct{}, 1)}, "caller": {more: make(chan struct{}, 1)}}
	callee, _, _, in := capturing(t, logEverything+strict, func(c *proxy.Config) {
		c.Capture.Destination = func(*net.TCPConn) (netip.AddrPort, error) { return netip.MustParseAddrPort(db), nil }
	}, as(t, a, "db"), mesh.WithAccessLogStream("/dev/stdout", logs["callee"]))
	doc := strings.Replace(entry("db.example.com", "10.1.1.1", "TCP", 3306, in.String()), "endpoints: [{", "endpoints: [{serviceAccount: db, ", 1)
	caller, kernel, out, _ := capturing(t, logEverything+doc, nil, as(t, a, "shop"), mesh.WithAccessLogStream("/dev/stdout", logs["caller"]))

	conn := kernel.dial(t, out, "10.1.1.1:3306")
	data := bytes.Repeat([]byte("x"), 300<<10)
	go func() { _, _ = conn.Write(data) }()
	got := make([]byte, len("db\n")+len(data))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	const there = "db.example.com"
	sent, received := float64(len(got)), float64(len(data))
	awaitMetrics(t, caller.mesh, map[string]float64{
		"connections_opened source " + there + " tcp - unknown": 1, "connections_closed source " + there + " tcp - unknown": 0,
		"sent_bytes source " + there + " tcp - unknown": sent, "received_bytes source " + there + " tcp - unknown": received,
	}, "reporter", "destination_service", "request_protocol", "response_flags", "connection_security_policy")
	awaitMetrics(t, callee.mesh, map[string]float64{
		"connections_opened destination spiffe://cluster.local/ns/default/sa/shop mutual_tls": 1,
		"sent_bytes destination spiffe://cluster.local/ns/default/sa/shop mutual_tls":         sent,
		"received_bytes destination spiffe://cluster.local/ns/default/sa/shop mutual_tls":     received,
	}, "reporter", "source_principal", "connection_security_policy")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	const start = `^\[[-0-9T:.]+Z\] "- - -" 0 - - - "-" `
	_, port, _ := net.SplitHostPort(db)
	for side, want := range map[string]string{
		"caller": start + fmt.Sprintf(`%d %d \d+ - "-" "-" "-" "-" "%s" outbound\|3306\|\|db\.example\.com 127\.0\.0\.1:\d+ 10\.1\.1\.1:3306 %s - default`+"\n$",
			len(data), len(got), regexp.QuoteMeta(in.String()), regexp.QuoteMeta(conn.LocalAddr().String())),
		"callee": start + fmt.Sprintf(`%d %d \d+ - "-" "-" "-" "-" "%s" inbound\|%s\|\| 127\.0\.0\.6:\d+ %s 127\.0\.0\.1:\d+ outbound_\.3306_\._\.db\.example\.com -`+"\n$",
			len(data), len(got), regexp.QuoteMeta(db), port, regexp.QuoteMeta(db)),
	} {
		if line := logs[side].lines(t, 1)[0]; !regexp.MustCompile(want).MatchString(line) {
			t.Errorf("%s: the line is\n%s, want\n%s", side, line, want)
		}
	}
	awaitMetrics(t, caller.mesh, map[string]float64{"connections_closed": 1})
	awaitMetrics(t, callee.mesh, map[string]float64{"connections_closed": 1})
	if f := caller.mesh.Status().Failures; len(f) > 0 {
		t.Errorf("failures: %+v", f)
	}
}

// TestTallyFailed: connections that came to nothing, and why.
func TestTallyFailed(t *testing.T) {
	t.Parallel()
	w := &written{more: make(chan struct{}, 1)}
	db, dead := speaking(t, "db"), loopback.Dead(t)
	_, port, _ := net.SplitHostPort(db)
	config := logEverything + entry("dead.example.com", "10.1.1.1", "TCP", 3306, dead) + entry("gone.example.com", "10.1.1.2", "TCP", 3306, dead) + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: gone}
spec: {hosts: [gone.example.com], tcp: [{route: [{destination: {host: gone.example.com, subset: none}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: denied}
spec: {action: DENY, rules: [{to: [{operation: {ports: ["` + port + `"]}}]}]}
`
	r, kernel, out, in := capturing(t, config, func(c *proxy.Config) { c.Capture.Opaque = []uint16{uint16(atoi(port))} },
		mesh.WithAccessLogStream("/dev/stdout", w), mesh.WithOutboundTrafficPolicy(mesh.RegistryOnly))
	for i, c := range []struct {
		name     string
		listener net.Addr
		to, want string
	}{
		{"nobody listens", out, "10.1.1.1:3306", ` 0 UF - - "[^"]*refused[^"]*" 0 0 \d+ - "-" "-" "-" "-" "` + regexp.QuoteMeta(dead) + `" outbound\|3306\|\|dead\.example\.com - 10\.1\.1\.1:3306 `},
		{"no such subset", out, "10.1.1.2:3306", ` 0 NC - - "-" 0 0 \d+ - "-" "-" "-" "-" "-" [^ ]+ - 10\.1\.1\.2:3306 `},
		{"nobody's address", out, "10.1.1.3:3306", ` 0 [A-Z]+ - - "-" 0 0 \d+ - "-" "-" "-" "-" "-" BlackHoleCluster - 10\.1\.1\.3:3306 `},
		{"denied", in, db, ` 0 - - rbac_access_denied_matched_policy\[ns\[default\]-policy\[denied\]-rule\[0\]\] "-" 0 0 \d+ - "-" "-" "-" "-" "-" inbound\|` + port + `\|\| - `},
	} {
		if got := greeting(kernel.dial(t, c.listener, c.to)); got != "reset" {
			t.Errorf("%s: %q", c.name, got)
		}
		if line := w.lines(t, i+1)[i]; !regexp.MustCompile(c.want).MatchString(line) {
			t.Errorf("%s: the line is\n%s, want\n%s", c.name, line, c.want)
		}
	}
	awaitMetrics(t, r.mesh, map[string]float64{"connections_opened source UF": 1, "connections_closed source UF": 1, "connections_closed source NC": 1}, "reporter", "response_flags")
	if f := r.mesh.Status().Failures; len(f) != 4 {
		t.Errorf("failures: %+v", f)
	}
}
