package conformance

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/telemetry"
)

// A sunk is one event of a sink.
type sunk struct {
	telemetry.Labels
	telemetry.Outcome
	telemetry.Measurement
}

type sink chan sunk

// A line is one entry of the access log, whose texts are its own.
type line struct {
	telemetry.Outcome
	telemetry.Measurement
	path, details, cluster, requestID string
	attributed                        bool
}

type logLines chan line

// Log implements mesh.AccessLogger.
func (l logLines) Log(e *mesh.AccessLogEntry) {
	if e.Reporter != telemetry.Destination {
		return
	}
	id := e.RequestID
	if e.Request != nil && id == "" {
		id, _ = e.Request.Value(call.NewName("x-request-id"), 0)
	}
	l <- line{e.Outcome, e.Measurement, strings.Clone(e.Path), strings.Clone(e.Details), e.Cluster, strings.Clone(id), !e.Start.IsZero() && e.Route == "default"}
}

func (l logLines) next(t testing.TB) line {
	t.Helper()
	select {
	case one := <-l:
		return one
	case <-time.After(recordedPatience):
		t.Fatal("nothing is logged")
		return line{}
	}
}

// Request implements mesh.MetricsSink.
func (s sink) Request(l *telemetry.Labels, o telemetry.Outcome, m telemetry.Measurement) {
	s <- sunk{*l, o, m}
}

func (s sink) next(t testing.TB) sunk {
	t.Helper()
	select {
	case one := <-s:
		return one
	case <-time.After(recordedPatience):
		t.Fatal("nothing is recorded")
		return sunk{}
	}
}

const inboundMetered = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec:
  hosts: [web.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/denied, /pkg.Service/Denied]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask}
spec: {action: CUSTOM, provider: {name: nobody}, rules: [{to: [{operation: {paths: [/asked]}}]}]}
---
apiVersion: heddle.dev/v1alpha1
kind: RateLimit
metadata: {name: few}
spec: {direction: INBOUND, limits: [{name: few, match: [{uri: {prefix: /few}}], requests: 1, unit: DAY}]}
`

// TestInboundMetrics: every request that comes in is recorded once, by whichever face it comes in, with its status, its flags, its
// bytes and its service; a Host that the mesh does not know is no label.
func TestInboundMetrics(t *testing.T) {
	t.Parallel()
	const web = "web.default.svc.cluster.local"
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			all, logged := make(sink, 64), make(logLines, 64)
			m := inboundMesh(t, inboundMetered, mesh.WithMetricsSink(all), mesh.WithAccessLog(logged), mesh.WithAuthorizer("nobody", external.AuthorizerFunc(
				func(context.Context, *external.Check) (external.Answer, error) { return external.Answer{}, nil })))
			addr := f.serve(t, m, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/missing":
					http.NotFound(w, r)
				case "/twice":
					text, _ := io.ReadAll(r.Body)
					_, _ = w.Write(append(text, text...))
				case "/break":
					panic(http.ErrAbortHandler)
				}
			}))
			for _, c := range []struct {
				visit
				code  uint16
				flags call.Flags
				in    uint64
				out   uint64 // 0 for any
				why   string // how the details begin
			}{
				{visit{method: "GET", target: "/", host: web}, 200, 0, 0, 0, "via_upstream"},
				{visit{method: "GET", target: "/missing", host: web}, 404, 0, 0, 19, "via_upstream"},
				{visit{method: "POST", target: "/twice", host: web, body: strings.Repeat("x", 5000)}, 200, 0, 5000, 10000, "via_upstream"},
				{visit{method: "GET", target: "/denied", host: web}, 403, 0, 0, 0, "rbac_access_denied_matched_policy"},
				{visit{method: "GET", target: "/asked", host: web}, 403, call.FlagUAEX, 0, 0, "ext_authz"},
				{visit{method: "GET", target: "/few", host: web}, 200, 0, 0, 0, "via_upstream"},
				{visit{method: "GET", target: "/few", host: web}, 429, call.FlagRL, 0, 0, "local_rate_limited"},
				{visit{method: "GET", target: "/break", host: web}, 503, call.FlagUC, 0, 0, ""},
				{visit{method: "GET", target: "/", host: "elsewhere.example"}, 200, 0, 0, 0, "via_upstream"},
			} {
				f.ask(t, addr, c.visit)
				got := all.next(t)
				what := c.method + " " + c.host + c.target
				if got.Code != c.code || got.Flags != c.flags || got.GRPC != 0 || got.RequestBytes != c.in || c.out != 0 && got.ResponseBytes != c.out {
					t.Errorf("%s: %+v %+v, want %d %v, %d and %d bytes", what, got.Outcome, got.Measurement, c.code, c.flags, c.in, c.out)
				}
				entry := logged.next(t)
				if entry.Outcome != got.Outcome || entry.Measurement != got.Measurement || entry.path != c.target || !strings.HasPrefix(entry.details, c.why) ||
					!strings.HasPrefix(entry.cluster, "inbound|") || !entry.attributed || c.code == 200 && len(entry.requestID) != 36 {
					t.Errorf("%s: the log has %+v of %+v", what, entry, got)
				}
				host := c.host
				if host != web {
					host = ""
				}
				if got.Reporter != telemetry.Destination || got.Service.Host != host || got.Labels.Destination.Name != "web-v1" || got.Security != telemetry.PlainText || got.Source != (telemetry.Workload{}) {
					t.Errorf("%s: labels %+v", what, got.Labels)
				}
			}
			if n := len(all) + len(logged); n > 0 {
				t.Errorf("%d requests are recorded that were not made", n)
			}
			if total := totalOf(m, "istio_requests_total"); total != 9 {
				t.Errorf("the store has %v requests", total)
			}
		})
	}
}

// totalOf adds up a metric of the mesh.
func totalOf(m *mesh.Mesh, name string) (sum float64) {
	for _, f := range m.Metrics().Gather() {
		if f.Name == name {
			for _, s := range f.Samples {
				sum += s.Value
			}
		}
	}
	return sum
}

// TestInboundRPCMetrics is TestInboundMetrics for a gRPC server.
func TestInboundRPCMetrics(t *testing.T) {
	t.Parallel()
	all := make(sink, 64)
	m := inboundMesh(t, inboundMetered, mesh.WithMetricsSink(all))
	f := newGRPCFace(t, m)
	for _, c := range []struct {
		method string
		grpc   uint8
		out    uint64
	}{{"/pkg.Service/Method", 0, 1}, {"/pkg.Service/Method", 0, 1}} {
		f.call(t.Context(), c.method, "web", metadata.MD{})
		got := all.next(t)
		if got.Code != 200 || got.GRPC != c.grpc+1 || got.RequestMessages != 1 || got.ResponseMessages != c.out || got.Service.Host != "web.default.svc.cluster.local" {
			t.Errorf("%s: %+v", c.method, got)
		}
	}
	if err := m.Apply(t.Context(), []byte(strings.ReplaceAll(inboundMetered, "Service/Denied", "Service/Method"))); err != nil {
		t.Fatal(err)
	}
	f.call(t.Context(), "/pkg.Service/Method", "web", metadata.MD{})
	if got := all.next(t); got.GRPC != 7+1 || got.ResponseMessages != 0 {
		t.Errorf("denied: %+v", got)
	}
	if n := totalOf(m, "grpc_server_call_started_total"); n != 3 {
		t.Errorf("%v RPCs have started", n)
	}
}

// TestEveryFlag: there is no flag without a test of what sets it. Those in the rows of the table are held against metrics, errors,
// call infos and the sidecar's answers by the drivers (recorded.check, Case.Check); the rest is here.
func TestEveryFlag(t *testing.T) {
	t.Parallel()
	seen := call.FlagUAEX | call.FlagOM // TestInboundFlagsAgree; TestOverload of proxy
	for _, c := range Cases() {
		for _, w := range []Result{c.Want, c.Then} {
			seen |= call.ParseFlags(w.Flag) | call.ParseFlags(w.Flags)
		}
	}
	for name := range rareFlags { // TestRareFlagsAgree
		seen |= call.ParseFlags(name)
	}
	if missing := call.ParseFlags(call.Flags(1<<32-1).String()) &^ seen; missing != 0 {
		t.Errorf("no row sets %v", missing)
	}
	for r := call.ReasonNone + 1; ; r++ {
		if r.String() == "unknown" {
			break
		}
		if f := r.Flags(); f == 0 || f.String() != r.Flag() || strings.Contains(r.Flag(), ",") {
			t.Errorf("%v has the flags %v", r, f)
		}
	}
}
