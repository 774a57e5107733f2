package proxy

import (
	"net/http"

	"github.com/heddlemesh/mesh/telemetry"
)

// adminStats writes the metrics of the mesh, and behind them those of the application.
func (s *Sidecar) adminStats(w http.ResponseWriter, r *http.Request) {
	if s.app == nil {
		s.config.Mesh.Metrics().ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Type", telemetry.ContentType)
	theirs, err := s.app.scrape(r.Context())
	if err != nil {
		s.app.failed.Add(1)
	}
	if s.config.Mesh.Metrics().WriteText(w) == nil {
		_, _ = w.Write(theirs)
	}
}

// families are the metrics of the sidecar itself.
func (s *Sidecar) families(yield func(telemetry.Family)) {
	info := telemetry.Family{Name: "heddle_info", Help: "What runs here.", Kind: telemetry.Gauge}
	info.Add(1, "version", s.config.Version, "workload", s.config.Workload.Name, "namespace", s.config.Workload.Namespace)
	yield(info)
	active := telemetry.Family{Name: "heddle_proxy_requests_active", Help: "Requests under way on a listener.", Kind: telemetry.Gauge}
	total := telemetry.Family{Name: "heddle_proxy_requests_total", Help: "Requests received by a listener.", Kind: telemetry.Counter}
	tunnels := telemetry.Family{Name: "heddle_proxy_tunnels_active", Help: "WebSockets under way on a listener.", Kind: telemetry.Gauge}
	for _, srv := range s.servers() {
		if f := srv.forward; f != nil {
			at := []string{"direction", srv.name, "listener", srv.l.Addr().String()}
			active.Add(float64(f.active.Load()), at...)
			total.Add(float64(f.total.Load()), at...)
			tunnels.Add(float64(f.tunnels.count()), at...)
		}
	}
	yield(active)
	yield(total)
	yield(tunnels)
	buffers := telemetry.Family{Name: "heddle_proxy_buffer_bytes", Help: "Buffers of HTTP/1 that connections hold.", Kind: telemetry.Gauge}
	buffers.Add(float64(s.BufferBytes()))
	yield(buffers)
	replies := telemetry.Family{Name: "heddle_proxy_local_replies_total", Help: "Answers of the proxy's own, by Envoy's response flag.", Kind: telemetry.Counter}
	for k, n := range s.replies.counted() {
		replies.Add(float64(n), "direction", k.direction, "flag", k.flag, "reason", k.reason)
	}
	yield(replies)
	if s.overload != nil {
		rejected := telemetry.Family{Name: "envoy_listener_downstream_cx_overload_reject", Help: "Connections that were closed because memory is scarce.", Kind: telemetry.Counter}
		for _, srv := range s.servers() {
			if srv.forward != nil {
				rejected.Add(float64(srv.l.rejected.Load()), "direction", srv.name, "listener", srv.l.Addr().String())
			}
		}
		yield(rejected)
		s.overload.families(yield)
	}
	s.queries(yield)
	if s.app != nil {
		failed := telemetry.Family{Name: "heddle_application_scrapes_failed_total", Help: "Scrapes of the application's own metrics that failed.", Kind: telemetry.Counter}
		failed.Add(float64(s.app.failed.Load()))
		yield(failed)
	}
}
