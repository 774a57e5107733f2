package proxy

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// adminStats writes a first set of metrics in Prometheus's text format, version 0.0.4. Endpoints that leave
// and come back begin at zero, which is what a counter may do.
func (s *Sidecar) adminStats(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	st := s.config.Mesh.Status()
	var e exposition
	e.family("heddle_info", "gauge", "What runs here.")
	e.sample("heddle_info", 1, "version", s.config.Version, "workload", s.config.Workload.Name, "namespace", s.config.Workload.Namespace)
	e.family("heddle_config_info", "gauge", "The version of the configuration that serves.")
	e.sample("heddle_config_info", 1, "version", st.Version)
	e.family("heddle_config_documents", "gauge", "Documents in the configuration that serves.")
	e.sample("heddle_config_documents", float64(st.Documents))
	e.family("heddle_config_refused", "gauge", "1 while the newest configuration is refused and an older one serves.")
	refused := 0.0
	if st.Refused != nil {
		refused = 1
	}
	e.sample("heddle_config_refused", refused)

	e.family("heddle_cluster_endpoints", "gauge", "Endpoints of a cluster.")
	for _, c := range st.Clusters {
		e.sample("heddle_cluster_endpoints", float64(len(c.Endpoints)), "cluster", c.Name)
	}
	e.family("heddle_cluster_endpoints_ejected", "gauge", "Endpoints that outlier detection keeps out.")
	for _, c := range st.Clusters {
		out := 0
		for _, ep := range c.Endpoints {
			if ep.Ejected != nil {
				out++
			}
		}
		e.sample("heddle_cluster_endpoints_ejected", float64(out), "cluster", c.Name)
	}
	for _, f := range []struct {
		name, kind, help string
		value            func(active int64, total, failed uint64) float64
	}{
		{"heddle_endpoint_attempts_active", "gauge", "Attempts under way on an endpoint.",
			func(active int64, _, _ uint64) float64 { return float64(active) }},
		{"heddle_endpoint_attempts_total", "counter", "Attempts begun on an endpoint.",
			func(_ int64, total, _ uint64) float64 { return float64(total) }},
		{"heddle_endpoint_attempts_failed_total", "counter", "Attempts that an endpoint failed.",
			func(_ int64, _, failed uint64) float64 { return float64(failed) }},
	} {
		e.family(f.name, f.kind, f.help)
		for _, c := range st.Clusters {
			for _, ep := range c.Endpoints {
				e.sample(f.name, f.value(ep.Counts.Active, ep.Counts.Total, ep.Counts.Failed), "cluster", c.Name, "endpoint", ep.Address)
			}
		}
	}

	e.family("heddle_proxy_requests_active", "gauge", "Requests under way on a listener.")
	for _, srv := range s.servers() {
		if srv.forward != nil {
			e.sample("heddle_proxy_requests_active", float64(srv.forward.active.Load()), "direction", srv.name, "listener", srv.l.Addr().String())
		}
	}
	e.family("heddle_proxy_requests_total", "counter", "Requests received by a listener.")
	for _, srv := range s.servers() {
		if srv.forward != nil {
			e.sample("heddle_proxy_requests_total", float64(srv.forward.total.Load()), "direction", srv.name, "listener", srv.l.Addr().String())
		}
	}
	e.family("heddle_proxy_tunnels_active", "gauge", "WebSockets under way on a listener.")
	for _, srv := range s.servers() {
		if srv.forward != nil {
			e.sample("heddle_proxy_tunnels_active", float64(srv.forward.tunnels.count()), "direction", srv.name, "listener", srv.l.Addr().String())
		}
	}
	e.family("heddle_proxy_buffer_bytes", "gauge", "Buffers of HTTP/1 that connections hold.")
	e.sample("heddle_proxy_buffer_bytes", float64(s.BufferBytes()))
	e.family("heddle_proxy_local_replies_total", "counter", "Answers of the proxy's own, by Envoy's response flag.")
	counts := s.replies.counted()
	for _, k := range slices.SortedFunc(maps.Keys(counts), func(a, b replyKey) int {
		return cmp.Or(strings.Compare(a.direction, b.direction), strings.Compare(a.flag, b.flag), strings.Compare(a.reason, b.reason))
	}) {
		e.sample("heddle_proxy_local_replies_total", float64(counts[k]), "direction", k.direction, "flag", k.flag, "reason", k.reason)
	}
	e.family("heddle_inbound_connections_closed_total", "counter", "Inbound connections closed before a request.")
	e.sample("heddle_inbound_connections_closed_total", float64(st.Inbound.Silent), "reason", "silent")
	e.sample("heddle_inbound_connections_closed_total", float64(st.Inbound.Crowded), "reason", "crowded")
	e.sample("heddle_inbound_connections_closed_total", float64(st.Inbound.TLS), "reason", "tls")
	_, _ = io.WriteString(w, e.String())
}

// An exposition is metrics in the text format.
type exposition struct{ strings.Builder }

func (e *exposition) family(name, kind, help string) {
	fmt.Fprintf(e, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// sample writes one value; labels are names and values in turn.
func (e *exposition) sample(name string, value float64, labels ...string) {
	e.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		e.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(e, `%s="%s"`, labels[i], escapeLabel(labels[i+1]))
	}
	if len(labels) > 0 {
		e.WriteByte('}')
	}
	fmt.Fprintf(e, " %v\n", value)
}

func escapeLabel(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "\uFFFD"))
}
