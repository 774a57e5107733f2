package mesh

import (
	"runtime/debug"

	"github.com/heddlemesh/mesh/telemetry"
)

// Metrics gives the metrics of the mesh: Istio's of the calls made and the requests received, by its names and labels,
// gRPC's own, and the state of the clusters by Envoy's names. It is an http.Handler that answers in Prometheus's text format:
//
//	http.Handle("/metrics", m.Metrics())
//
// For programs that gather their metrics by other means, telemetry/prometheus makes a Collector of it and telemetry/otel a
// Producer. docs/observability.md lists them.
func (m *Mesh) Metrics() *telemetry.Store { return m.runtime.Engine.Metrics() }

// families are the metrics of the mesh as a whole.
func (m *Mesh) families(yield func(telemetry.Family)) {
	gauge := func(name, help string, value float64, labels ...string) {
		f := telemetry.Family{Name: name, Help: help, Kind: telemetry.Gauge}
		f.Add(value, labels...)
		yield(f)
	}
	st := m.runtime.Status()
	refused := 0.0
	if st.Refused != nil {
		refused = 1
	}
	gauge("istio_build", "The version of the mesh.", 1, "component", "proxy", "tag", version())
	gauge("heddle_config_info", "The version of the configuration that serves.", 1, "version", st.Version)
	gauge("heddle_config_documents", "Documents in the configuration that serves.", float64(st.Documents))
	gauge("heddle_config_refused", "1 while the newest configuration is refused and an older one serves.", refused)

	counts, decided := m.inbound.Counts(), m.runtime.Engine.Decided()
	closed := telemetry.Family{Name: "heddle_inbound_connections_closed_total", Help: "Inbound connections closed before a request.", Kind: telemetry.Counter}
	closed.Add(float64(counts.Silent), "reason", "silent")
	closed.Add(float64(counts.Crowded), "reason", "crowded")
	closed.Add(float64(counts.TLS), "reason", "tls")
	closed.Add(float64(counts.Plaintext), "reason", "plaintext")
	closed.Add(float64(counts.Handshake), "reason", "handshake")
	yield(closed)
	policies := telemetry.Family{Name: "heddle_inbound_decided_total", Help: "What policies have decided about requests that came in.", Kind: telemetry.Counter}
	policies.Add(float64(decided.Unauthenticated), "decision", "unauthenticated")
	policies.Add(float64(decided.Denied), "decision", "denied")
	policies.Add(float64(decided.Audited), "decision", "audited")
	policies.Add(float64(decided.Shadow), "decision", "shadow_denied")
	yield(policies)
	lines := telemetry.Family{Name: "heddle_access_log_lines_total", Help: "Lines of access logs, written to files or dropped.", Kind: telemetry.Counter}
	for _, f := range m.runtime.AccessLogs() {
		lines.Add(float64(f.Written), "file", f.Path, "outcome", "written")
		lines.Add(float64(f.Dropped), "file", f.Path, "outcome", "dropped")
	}
	yield(lines)
}

// version gives the version of this module in the program at hand.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return telemetry.Unknown
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == "github.com/heddlemesh/mesh" && m.Version != "" {
			return m.Version
		}
	}
	return "(devel)"
}
