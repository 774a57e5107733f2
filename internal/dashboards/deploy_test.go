package dashboards_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/dashboards"
	"github.com/heddlemesh/mesh/proxy"
	"github.com/heddlemesh/mesh/telemetry"
)

const deploy = "../../deploy/"

// known gives the metrics of a sidecar, in which all that the mesh has are, and the labels of each. It has a host, and refuses a request for another.
func known(t *testing.T) map[string][]string {
	t.Helper()
	m, err := mesh.New(t.Context(), mesh.WithLogger(slog.New(slog.DiscardHandler)), mesh.WithAccessLogFile("log", false), mesh.WithAccessLogStream("log", io.Discard), mesh.WithConfig([]byte(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
`)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	s, err := proxy.Start(proxy.Config{Mesh: m, Outbound: "127.0.0.1:0", AppMetrics: "http://127.0.0.1:1/metrics"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Shutdown(context.WithoutCancel(t.Context())) })
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: s.OutboundAddr().String()})}}
	resp, err := client.Get("http://nowhere/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	m.Metrics().RPC(telemetry.ClientCall, "a/b", "mesh:///a").Start()
	m.Metrics().Conns(telemetry.Labels{}, 0).Opened()

	var families []telemetry.Family
	has := func(name string) bool {
		return slices.ContainsFunc(families, func(f telemetry.Family) bool { return f.Name == name })
	}
	for !has(telemetry.RequestCount) || !has("heddle_proxy_local_replies_total") { // they may come after the answer
		<-time.After(time.Millisecond)
		families = m.Metrics().Gather()
	}
	all := make(map[string][]string)
	for _, f := range families {
		var labels []string
		for _, one := range f.Samples {
			for _, l := range one.Labels {
				labels = append(labels, l.Name)
			}
		}
		if strings.HasPrefix(f.Name, "istio_") && f.Name != "istio_build" {
			labels = telemetry.LabelNames()
		}
		labels = append(labels, "job", "instance") // Prometheus's own
		all[f.Name] = labels
		if f.Kind == telemetry.Histogram {
			all[f.Name+"_sum"], all[f.Name+"_count"], all[f.Name+"_bucket"] = labels, labels, append(slices.Clone(labels), "le")
			delete(all, f.Name)
		}
	}
	all["up"] = []string{"job", "instance"}
	return all
}

// asks holds a query against the metrics that there are, and gives the labels of its result's making.
func asks(expr string, metrics map[string][]string) (grouping []string, wrong []string) {
	q, err := dashboards.Parse(expr)
	if err != nil {
		return nil, []string{err.Error()}
	}
	var labels []string
	for _, s := range q.Selectors {
		has, ok := metrics[s.Metric]
		if !ok {
			wrong = append(wrong, "there is no metric "+s.Metric)
		}
		for _, l := range s.Labels {
			if ok && !slices.Contains(has, l) {
				wrong = append(wrong, s.Metric+" has no label "+l)
			}
		}
		labels = append(labels, has...)
	}
	for _, l := range q.Grouping {
		if !slices.Contains(labels, l) {
			wrong = append(wrong, "no metric has the label "+l)
		}
	}
	return q.Grouping, wrong
}

var legendLabel = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

// TestGrafana: every query of every dashboard asks for metrics and labels that there are, by variables that there are; no panel stands on
// another; titles and identifiers are there once.
func TestGrafana(t *testing.T) {
	t.Parallel()
	metrics := known(t)
	uids := make(map[string]bool)
	for _, file := range boards(t) {
		b := board(t, file)
		if b.UID+".json" != filepath.Base(file) || uids[b.UID] || b.Title == "" {
			t.Errorf("%s: uid %q, title %q", file, b.UID, b.Title)
		}
		uids[b.UID] = true
		values := map[string][]string{"__rate_interval": {"1m"}}
		for _, v := range b.Templating.List {
			values[v.Name] = []string{"x", "y"}
			if v.Type != "query" {
				continue
			}
			selector, label, err := v.Values()
			if err == nil {
				selector, err = dashboards.Expand(selector, values)
			}
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			grouping, wrong := asks("count by ("+label+") ("+selector+")", metrics)
			for _, of := range []string{"istio_requests_total", "istio_tcp_connections_opened_total"} {
				if !strings.Contains(selector, of) {
					t.Errorf("%s: variable %s does not list what %s alone knows", file, v.Name, of)
				}
			}
			if len(wrong) > 0 || len(grouping) != 1 {
				t.Errorf("%s: variable %s: %v", file, v.Name, wrong)
			}
		}
		panels(t, file, b, values, metrics)
	}
	if len(uids) != 3 {
		t.Errorf("dashboards %v", uids)
	}
}

func panels(t *testing.T, file string, b *dashboards.Board, values map[string][]string, metrics map[string][]string) {
	t.Helper()
	ids := make(map[int]bool)
	taken := make(map[[2]int]int)
	for _, p := range b.Panels {
		if ids[p.ID] || p.Title == "" || (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("%s: panel %d %q of type %s with %d queries", file, p.ID, p.Title, p.Type, len(p.Targets))
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok || x >= 24 {
					t.Errorf("%s: panel %d stands on panel %d", file, p.ID, other)
				}
				taken[[2]int{x, y}] = p.ID
			}
		}
		for _, q := range p.Targets {
			expr, err := dashboards.Expand(q.Expr, values)
			if err != nil || q.Datasource.UID != "${datasource}" {
				t.Errorf("%s: %q: %v, data source %s", file, p.Title, err, q.Datasource.UID)
				continue
			}
			grouping, wrong := asks(expr, metrics)
			for _, l := range legendLabel.FindAllStringSubmatch(q.LegendFormat, -1) {
				if !slices.Contains(grouping, l[1]) {
					wrong = append(wrong, "its legend has "+l[1]+", which it does not keep")
				}
			}
			if len(wrong) > 0 {
				t.Errorf("%s: %q: %s: %s", file, p.Title, expr, strings.Join(wrong, ", "))
			}
		}
	}
}

func boards(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(deploy + "grafana/*.json")
	if err != nil || len(all) == 0 {
		t.Fatal("no dashboards", err)
	}
	return all
}

func board(t *testing.T, file string) *dashboards.Board {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := dashboards.Read(text)
	if err != nil {
		t.Fatal(file, err)
	}
	return b
}

// A ruleFile is Prometheus's rules.
type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Record, Alert, Expr, For string
			Labels, Annotations      map[string]string
		}
	}
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(file, err)
	}
}

// TestRules: recording and alert rules ask for metrics and labels that there are, or that rules before them record; what an alert says
// names labels that it has. Each alert has a test for promtool.
func TestRules(t *testing.T) {
	t.Parallel()
	metrics := known(t)
	var rules ruleFile
	readYAML(t, deploy+"prometheus/rules.yml", &rules)
	tests, err := os.ReadFile(deploy + "prometheus/rules_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			name := r.Record + r.Alert
			grouping, wrong := asks(r.Expr, metrics)
			if names[name] || len(wrong) > 0 {
				t.Errorf("%s: %s", name, strings.Join(wrong, ", "))
			}
			names[name] = true
			if r.Record != "" {
				metrics[r.Record] = append(grouping, "le", "reporter", "destination_service", "destination_service_namespace")
				continue
			}
			if !strings.Contains(string(tests), "alertname: "+r.Alert+"\n") || r.Annotations["summary"] == "" || !slices.Contains([]string{"warning", "critical"}, r.Labels["severity"]) {
				t.Errorf("%s: no test, no summary or no severity: %v", r.Alert, r)
			}
			if _, err := time.ParseDuration(r.For); r.For != "" && err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
		}
	}
	if len(names) < 15 {
		t.Errorf("%d rules", len(names))
	}
}

// TestScrape: the targets of the example are what Prometheus's relabelling expects.
func TestScrape(t *testing.T) {
	t.Parallel()
	var c struct {
		Rules   []string `yaml:"rule_files"`
		Scrapes []struct {
			Job     string                     `yaml:"job_name"`
			Path    string                     `yaml:"metrics_path"`
			Files   []struct{ Files []string } `yaml:"file_sd_configs"`
			Relabel []struct {
				From   []string `yaml:"source_labels"`
				To     string   `yaml:"target_label"`
				Regex  string
				Action string
			} `yaml:"relabel_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, deploy+"prometheus/prometheus.yml", &c)
	if len(c.Scrapes) != 1 || c.Scrapes[0].Job != "heddle" || c.Scrapes[0].Path != "/stats/prometheus" || !slices.Equal(c.Rules, []string{"rules.yml"}) {
		t.Fatalf("%+v", c)
	}
	read := make(map[string]bool)
	for _, r := range c.Scrapes[0].Relabel {
		if _, err := regexp.Compile(r.Regex); err != nil {
			t.Error(err)
		}
		for _, l := range r.From {
			read[l] = true
		}
	}
	files, err := filepath.Glob(deploy + "prometheus/" + c.Scrapes[0].Files[0].Files[0] + ".off")
	if err != nil || len(files) == 0 {
		t.Fatalf("no targets: %v", err)
	}
	var groups []struct {
		Targets []string
		Labels  map[string]string
	}
	readYAML(t, files[0], &groups)
	for _, g := range groups {
		if len(g.Targets) == 0 {
			t.Errorf("no targets: %v", g)
		}
		for l := range g.Labels {
			if !read[l] {
				t.Errorf("nothing looks at the label %s of a target", l)
			}
		}
	}
}

// TestDeployPromtool has Prometheus's own tool read all of it, where it is installed, the dashboards' queries among it.
func TestDeployPromtool(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed; the parser of this package has read the same queries")
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboards\n  rules:\n")
	for _, file := range boards(t) {
		b := board(t, file)
		values := map[string][]string{"__rate_interval": {"1m"}}
		for _, v := range b.Templating.List {
			values[v.Name] = []string{"x", dashboards.Escape("y.z")}
		}
		for _, p := range b.Panels {
			for _, q := range p.Targets {
				expr, err := dashboards.Expand(q.Expr, values)
				if err != nil {
					t.Fatal(err)
				}
				rules.WriteString("  - record: x\n    expr: '" + strings.ReplaceAll(expr, "'", "''") + "'\n    labels: {at: '" + b.UID + ": " + p.Title + "'}\n")
			}
		}
	}
	queries := filepath.Join(t.TempDir(), "queries.yml")
	if err := os.WriteFile(queries, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"check", "config", "prometheus.yml"},
		{"check", "rules", "--lint=none", queries},
		{"test", "rules", "rules_test.yml"},
	} {
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Dir = deploy + "prometheus"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
