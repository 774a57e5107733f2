package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/snapshot"
)

func telemetryDoc(namespace, name, spec string) string {
	return fmt.Sprintf("apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: %s, namespace: %s}\nspec: %s\n", name, namespace, spec)
}

// TestTelemetry: what documents say of metrics, from the mesh down to the workload, and who is told what of the rest.
func TestTelemetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{Workload: snapshot.Workload{Namespace: "shop", Labels: map[string]string{"app": "web"}}},
		telemetryDoc("istio-system", "mesh", `{metrics: [{overrides: [{tagOverrides: {source_version: {operation: REMOVE}, team: {value: "'all'"}}}]}]}`),
		telemetryDoc("shop", "ns", `{metrics: [{providers: [{name: prometheus}], overrides: [{match: {metric: REQUEST_SIZE, mode: CLIENT}, disabled: true},
  {match: {metric: REQUEST_COUNT}, tagOverrides: {source_version: {operation: UPSERT, value: '"fixed"'}}}]}]}`),
		telemetryDoc("shop", "web", `{selector: {matchLabels: {app: web}}, metrics: [{overrides: [{match: {metric: REQUEST_SIZE}, disabled: false},
  {match: {metric: RESPONSE_SIZE, mode: SERVER}, disabled: true}]}]}`),
		telemetryDoc("shop", "other", `{selector: {matchLabels: {app: other}}, metrics: [{overrides: [{disabled: true}]}]}`),
		telemetryDoc("else", "where", `{metrics: [{overrides: [{disabled: true}]}]}`),
		telemetryDoc("shop", "later", `{metrics: [{overrides: [{disabled: true}]}]}`),
		telemetryDoc("shop", "gateway", `{targetRef: {kind: Gateway, name: g}, accessLogging: [{disabled: true}],
  metrics: [{providers: [{name: stackdriver}], overrides: [{match: {customMetric: mine}, disabled: true}]}]}`),
	)
	if w.live == nil {
		t.Fatal(w.Status().Refused)
	}
	var got []string
	for reporter, all := range w.live.Metrics.Overrides {
		for _, name := range sortedKeys(all) {
			got = append(got, fmt.Sprintf("%d %s %v %v %v", reporter, strings.TrimPrefix(name, "istio_"), all[name].Disabled, all[name].Remove, all[name].Set))
		}
	}
	const everywhere = "false [source_version] map[team:all]"
	want := []string{
		"0 request_bytes " + everywhere, "0 request_duration_milliseconds " + everywhere, "0 request_messages_total " + everywhere,
		"0 requests_total false [] map[source_version:fixed team:all]", "0 response_bytes " + everywhere, "0 response_messages_total " + everywhere,
		"0 tcp_connections_closed_total " + everywhere, "0 tcp_connections_opened_total " + everywhere, "0 tcp_received_bytes_total " + everywhere, "0 tcp_sent_bytes_total " + everywhere,
		"1 request_bytes " + everywhere, "1 request_duration_milliseconds " + everywhere, "1 request_messages_total " + everywhere,
		"1 requests_total false [] map[source_version:fixed team:all]", "1 response_bytes true [source_version] map[team:all]", "1 response_messages_total " + everywhere,
		"1 tcp_connections_closed_total " + everywhere, "1 tcp_connections_opened_total " + everywhere, "1 tcp_received_bytes_total " + everywhere, "1 tcp_sent_bytes_total " + everywhere,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("overrides are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	all := fmt.Sprint(w.Status().Findings)
	for _, text := range []string{"spec.targetRef: without effect",
		"spec.metrics[0].providers[0].name: without effect", "spec.metrics[0].overrides[0].match.customMetric: without effect",
		"Telemetry shop/later", "Telemetry shop/ns"} {
		if !strings.Contains(all, text) {
			t.Errorf("no finding %q in %s", text, all)
		}
	}
}

// TestTelemetryRefused: what makes labels of requests, and what is no metric, mode, label or operation (attacks.md A-066).
func TestTelemetryRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ override, want string }{
		{`{tagOverrides: {path: {value: "request.url_path"}}}`, "makes a label of what a caller is free to write"},
		{`{tagOverrides: {user: {value: "request.headers['user']"}}}`, "makes a label of what a caller is free to write"},
		{`{tagOverrides: {"a-b": {value: "'x'"}}}`, "is no name of a label"},
		{`{tagOverrides: {le: {operation: REMOVE}}}`, "is no name of a label"},
		{`{tagOverrides: {a: {operation: REMOVE, value: x}}}`, "a label that is removed has no value"},
		{`{tagOverrides: {a: {}}}`, "the label has no value"},
		{`{tagOverrides: {a: {operation: DROP}}}`, "DROP"},
		{`{match: {metric: REQUESTS}}`, "REQUESTS"},
		{`{match: {mode: BOTH}}`, "BOTH"},
		{`{mode: CLIENT}`, "mode"},
	} {
		w := newWorld(t, Options{}, telemetryDoc("default", "t", "{metrics: [{overrides: ["+c.override+"]}]}"))
		if w.live != nil || !strings.Contains(fmt.Sprint(w.Status().Refused), c.want) {
			t.Errorf("%s: %v", c.override, w.Status().Refused)
		}
	}
	w := newWorld(t, Options{}, telemetryDoc("default", "t", `{metrics: [{overrides: [{tagOverrides: {a: {value: "node.metadata['X']"}}}]}]}`))
	if w.live == nil || !strings.Contains(fmt.Sprint(w.Status().Findings), "other expressions are not evaluated") {
		t.Errorf("another expression: %v", w.Status())
	}
}
