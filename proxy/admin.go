package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
)

// adminHandler serves the admin pages. They read, but for POST /logging and /quitquitquit, and they are for this machine: a
// Host that is no loopback name is a page of some web site whose name leads here (DNS rebinding), and a
// request of another origin one that a browser was talked into.
func (s *Sidecar) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.adminIndex)
	mux.HandleFunc("GET /ready", s.adminReady)
	mux.HandleFunc("GET /server_info", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.serverInfo()) })
	mux.HandleFunc("GET /listeners", s.adminListeners)
	pages := s.config.Mesh.AdminHandler()
	for _, path := range []string{"/config_dump", "/clusters", "/routes", "/certs", "/failures", "/stats"} {
		mux.Handle("GET "+path, pages)
	}
	mux.HandleFunc("GET /stats/prometheus", s.adminStats)
	if s.config.LogLevel != nil {
		mux.HandleFunc("GET /logging", s.adminLogging)
		mux.HandleFunc("POST /logging", s.adminLogging)
	}
	if s.config.Quit != nil {
		mux.HandleFunc("POST /quitquitquit", func(w http.ResponseWriter, _ *http.Request) {
			s.config.Quit()
			_, _ = io.WriteString(w, "OK\n")
		})
	}
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		if !adminHost(r.Host, s.config.AllowNonLoopback) || origin.Check(r) != nil {
			http.Error(w, "the admin pages answer to a loopback name only", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// adminHost reports whether a Host header names this machine itself. Where other machines are allowed in,
// any IP address does: what cannot be done to an address is to rebind it.
func adminHost(authority string, addresses bool) bool {
	host, _, err := call.SplitAuthority(authority)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host == "localhost" || strings.HasSuffix(host, ".localhost")
	}
	return addresses || ip.Unmap().IsLoopback()
}

func (s *Sidecar) adminIndex(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `heddle proxy

GET  /ready             200 while requests are taken
GET  /server_info       who this is
GET  /clusters          clusters and endpoints, with their counts; ?format=json
GET  /listeners         the listeners; ?format=json
GET  /routes            hosts and their rules
GET  /certs             the certificates that are held, as Envoy has them; never a key
GET  /config_dump       the configuration that serves, findings, and why the newest was refused
GET  /failures          the last 256 requests that failed, each with its attempts
GET  /stats             metrics, one in a line; ?filter=text
GET  /stats/prometheus  metrics for Prometheus
GET  /logging           the level of the log; POST ?level=debug sets it
POST /quitquitquit      drain and end
`)
}

func (s *Sidecar) adminReady(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() && !s.ceded.Load() { // what was ceded somebody else serves
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "DRAINING\n")
		return
	}
	_, _ = io.WriteString(w, "LIVE\n")
}

// A serverInfo is what /server_info says.
type serverInfo struct {
	Version   string       `json:"version"`
	Go        string       `json:"go"`
	State     string       `json:"state"` // "LIVE" or "DRAINING", as Envoy has it
	Uptime    string       `json:"uptime"`
	Node      nodeInfo     `json:"node"`
	Config    string       `json:"configVersion"`
	Listeners []listenInfo `json:"listeners"`
}

type nodeInfo struct {
	Name           string            `json:"name"`
	Namespace      string            `json:"namespace"`
	ServiceAccount string            `json:"serviceAccount"`
	Labels         map[string]string `json:"labels"`
}

type listenInfo struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	App     string `json:"app,omitempty"`
	Origin  string `json:"origin,omitempty"` // the document that asks for it
	Error   string `json:"error,omitempty"`  // why it is not open
}

func (s *Sidecar) serverInfo() serverInfo {
	n := s.config.Workload
	info := serverInfo{Version: s.config.Version, Go: runtime.Version(), State: "LIVE",
		Uptime: time.Since(s.started).Truncate(time.Second).String(), Config: s.config.Mesh.Status().Version,
		Node: nodeInfo{Name: n.Name, Namespace: n.Namespace, ServiceAccount: n.ServiceAccount, Labels: n.Labels}}
	if s.draining.Load() {
		info.State = "DRAINING"
	}
	for _, srv := range s.servers() {
		l := listenInfo{Name: srv.name, Address: srv.l.Addr().String(), Origin: srv.origin}
		if srv.app != nil {
			l.App = srv.app.address
		}
		info.Listeners = append(info.Listeners, l)
	}
	for _, b := range s.declared.unopened() {
		info.Listeners = append(info.Listeners, listenInfo{Name: b.direction, Address: b.address, Origin: b.origin, Error: b.why})
	}
	return info
}

// adminListeners lists the listeners in Envoy's text, or as JSON.
func (s *Sidecar) adminListeners(w http.ResponseWriter, r *http.Request) {
	all := s.serverInfo().Listeners
	if r.URL.Query().Get("format") == "json" {
		writeJSON(w, all)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, l := range all {
		state := ""
		if l.Error != "" {
			state = "::not open: " + call.Printable(l.Error)
		}
		_, _ = fmt.Fprintf(w, "%s::%s%s\n", l.Name, l.Address, state)
	}
}

// adminLogging says which level is logged, and sets it by POST ?level=debug where Config.LogLevel lets it.
func (s *Sidecar) adminLogging(w http.ResponseWriter, r *http.Request) {
	level := s.config.LogLevel
	if r.Method == http.MethodPost {
		if err := level.UnmarshalText([]byte(r.URL.Query().Get("level"))); err != nil {
			http.Error(w, "level is debug, info, warn or error", http.StatusBadRequest)
			return
		}
	}
	_, _ = fmt.Fprintf(w, "active loggers:\n  heddle: %s\n", strings.ToLower(level.Level().String()))
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // an error is the client's having gone
}
