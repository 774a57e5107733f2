package mesh

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/telemetry"
)

// AdminHandler gives pages that say what the mesh has, by the paths that Envoy's have: /server_info, /config_dump, /clusters, /routes, /certs,
// /failures, /stats and /stats/prometheus. They only read, and hold no key, path, query or header of a request; they name hosts,
// addresses and callers, so that they belong on a listener of this machine:
//
//	http.ListenAndServe("127.0.0.1:15000", m.AdminHandler())
//
// Behind a prefix it wants http.StripPrefix. A web site can lead a browser to it: who lets browsers in checks their Host.
func (m *Mesh) AdminHandler() http.Handler {
	mux := http.NewServeMux()
	page := func(path string, give func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, give()) })
	}
	page("/server_info", func() any {
		who := m.Engine().Workload()
		return serverInfo{Version: version(), Go: runtime.Version(), State: "LIVE", Node: nodeInfo{who.Name, who.Namespace}, Config: m.Status().Version}
	})
	page("/config_dump", func() any { return m.Status() })
	page("/failures", func() any { return m.Engine().Failures() })
	page("/routes", func() any { return m.Engine().Routes() })
	page("/certs", func() any {
		if held := m.runtime.Secrets(); held != nil {
			return held
		}
		return &identity.Secrets{Certificates: []identity.Secret{}}
	})
	mux.HandleFunc("GET /clusters", m.adminClusters)
	mux.HandleFunc("GET /stats", m.adminStats)
	mux.Handle("GET /stats/prometheus", m.Metrics())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

// A serverInfo is what /server_info says.
type serverInfo struct {
	Version string   `json:"version"`
	Go      string   `json:"go"`
	State   string   `json:"state"` // "LIVE", as Envoy has it
	Node    nodeInfo `json:"node"`
	Config  string   `json:"configVersion"`
}

type nodeInfo struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// adminClusters lists clusters in the text that Envoy has for them, as far as it applies.
func (m *Mesh) adminClusters(w http.ResponseWriter, r *http.Request) {
	clusters := m.Engine().Clusters()
	if r.URL.Query().Get("format") == "json" {
		writeAdmin(w, clusters)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	var b strings.Builder
	for _, c := range clusters {
		fmt.Fprintf(&b, "%s::lb_policy::%s\n%s::protocol::%s\n", c.Name, c.Balancer, c.Name, c.Protocol)
		for _, e := range c.Endpoints {
			health, ejections := "healthy", 0
			if e.Ejected != nil {
				health, ejections = "/failed_outlier_check", e.Ejected.Times
			}
			for _, v := range []struct {
				key   string
				value any
			}{
				{"rq_active", e.Counts.Active}, {"rq_total", e.Counts.Total}, {"rq_error", e.Counts.Failed},
				{"rq_success", e.Counts.Total - min(e.Counts.Total, e.Counts.Failed+uint64(max(e.Counts.Active, 0)))},
				{"mean_ms", fmt.Sprintf("%.3f", e.Counts.Latency.Seconds()*1000)}, {"weight", e.Weight}, {"locality", e.Locality},
				{"health_flags", health}, {"ejections", ejections},
			} {
				fmt.Fprintf(&b, "%s::%s::%s::%v\n", c.Name, e.Address, v.key, v.value)
			}
		}
	}
	_, _ = io.WriteString(w, b.String())
}

// adminStats lists the metrics one in a line, "name{labels}: value"; ?filter=text takes those whose line has the text.
func (m *Mesh) adminStats(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	filter := r.URL.Query().Get("filter")
	var b strings.Builder
	for _, f := range m.Metrics().Gather() {
		for _, s := range f.Samples {
			line := f.Name + labelText(s.Labels) + ": " + statValue(&s)
			if strings.Contains(line, filter) {
				b.WriteString(line + "\n")
			}
		}
	}
	_, _ = io.WriteString(w, b.String())
}

func labelText(labels []telemetry.Label) string {
	if len(labels) == 0 {
		return ""
	}
	parts := make([]string, len(labels))
	for i, l := range labels {
		parts[i] = l.Name + "=" + strconv.Quote(l.Value)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func statValue(s *telemetry.Sample) string {
	if d := s.Distribution; d != nil {
		return fmt.Sprintf("count %d, sum %v", d.Count, d.Sum)
	}
	return strconv.FormatFloat(s.Value, 'f', -1, 64)
}

func writeAdmin(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // an error is the client's having gone
}
