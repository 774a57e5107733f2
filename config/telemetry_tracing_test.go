package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/telemetry"
)

const collectors = `apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec:
  extensionProviders:
  - name: otel
    opentelemetry: {service: observe/otel.observe.svc.cluster.local, port: 4317, maxTagLength: 64, grpc: {timeout: 2s, initialMetadata: [{name: x-a, value: b}, {name: x-t, envName: TOKEN}]}}
  - name: otlp-http
    opentelemetry: {service: otel.observe.svc.cluster.local, port: 4318, http: {path: /v2, timeout: 1s, headers: [{name: x-a, value: b}]}, resourceDetectors: {environment: {}}}
  - name: plain-http
    opentelemetry: {service: otel.observe.svc.cluster.local, port: 4318, http: {path: ""}}
  - name: zip
    zipkin: {service: zipkin.observe.svc.cluster.local, port: 9411, enable64bitTraceId: true, path: /spans, traceContextOption: USE_B3_WITH_W3C_PROPAGATION, timeout: 3s, headers: [{name: x-a, value: b}]}
  - name: zip-b3
    zipkin: {service: zipkin.observe.svc.cluster.local, port: 9411}
  - name: opa
    envoyExtAuthzHttp: {service: opa.default.svc.cluster.local, port: 1}
`

// TestTelemetryTracing: each level goes over the one before, field by field, and a map of tags takes the place of another whole.
func TestTelemetryTracing(t *testing.T) {
	t.Parallel()
	mine := Options{Workload: snapshot.Workload{Namespace: "shop", Labels: map[string]string{"app": "web"}}, Collectors: true}
	w := newWorld(t, mine, meshDoc("mesh", "{defaultConfig: {tracing: {sampling: 50, customTags: {base: {literal: {value: x}}}}}}"),
		telemetryDoc("istio-system", "mesh", `{tracing: [{randomSamplingPercentage: 10, enableIstioTags: false, customTags: {b: {literal: {value: all}}, a: {environment: {name: HOME, defaultValue: none}}}}]}`),
		telemetryDoc("shop", "ns", `{tracing: [{match: {mode: CLIENT}, disableSpanReporting: true, disableContextPropagation: true},
  {match: {mode: SERVER}, randomSamplingPercentage: 0.25, useRequestIdForTraceSampling: false, customTags: {who: {header: {name: X-Who, defaultValue: nobody}}}}]}`),
		telemetryDoc("shop", "web", `{selector: {matchLabels: {app: web}}, tracing: [{match: {mode: SERVER}, enableIstioTags: true}]}`),
		telemetryDoc("shop", "other", `{selector: {matchLabels: {app: other}}, tracing: [{randomSamplingPercentage: 100}]}`))
	if w.live == nil {
		t.Fatal(w.Status().Refused)
	}
	want := [2]telemetry.TraceMode{
		telemetry.Source: {Sampling: new(10.0), Disabled: true, Silent: true, Plain: true, Tags: []telemetry.TraceTag{
			{Name: "a", Source: telemetry.TagEnvironment, Value: "HOME", Default: "none"}, {Name: "b", Value: "all"}}},
		telemetry.Destination: {Sampling: new(0.25), Apart: true, Tags: []telemetry.TraceTag{
			{Name: "who", Source: telemetry.TagHeader, Header: call.NewName("x-who"), Default: "nobody"}}},
	}
	if !reflect.DeepEqual(w.live.Tracing.Modes, want) {
		t.Errorf("modes are\n%+v\nwant\n%+v", w.live.Tracing.Modes, want)
	}
	if w := newWorld(t, mine, telemetryDoc("shop", "t", "{metrics: []}")); w.live.Tracing != nil {
		t.Errorf("where nothing is said there is %+v", w.live.Tracing)
	}
	w = newWorld(t, mine, meshDoc("mesh", "{defaultConfig: {tracing: {sampling: 50, customTags: {base: {literal: {value: x}}}}}}"))
	if m := w.live.Tracing.Modes[0]; *m.Sampling != 50 || m.Tags[0].Value != "x" {
		t.Errorf("MeshConfig's are %+v", m)
	}
}

// TestTraceProviders: a Telemetry names one, or the mesh's settings do; the fields are the document's.
func TestTraceProviders(t *testing.T) {
	t.Parallel()
	own := Options{Workload: snapshot.Workload{Namespace: "shop"}, Collectors: true}
	headers := map[string]string{"x-a": "b"}
	for name, want := range map[string]*telemetry.TraceProvider{
		"otel": {Name: "otel", Kind: telemetry.OTLPGRPC, Host: "otel.observe.svc.cluster.local", Port: 4317, MaxTag: 64, Timeout: 2 * time.Second, Headers: headers,
			Variables: map[string]string{"x-t": "TOKEN"}},
		"otlp-http":  {Name: "otlp-http", Kind: telemetry.OTLPHTTP, Host: "otel.observe.svc.cluster.local", Port: 4318, Path: "/v2", Timeout: time.Second, Headers: headers},
		"plain-http": {Name: "plain-http", Kind: telemetry.OTLPHTTP, Host: "otel.observe.svc.cluster.local", Port: 4318, Path: "/v1/traces"},
		"zip": {Name: "zip", Kind: telemetry.Zipkin, Host: "zipkin.observe.svc.cluster.local", Port: 9411, Path: "/spans", Timeout: 3 * time.Second, Headers: headers,
			Formats: telemetry.B3Fields | telemetry.W3C},
		"zip-b3": {Name: "zip-b3", Kind: telemetry.Zipkin, Host: "zipkin.observe.svc.cluster.local", Port: 9411, Path: "/api/v2/spans", Formats: telemetry.B3Fields},
	} {
		w := newWorld(t, own, collectors, telemetryDoc("shop", "t", "{tracing: [{providers: [{name: "+name+"}]}]}"))
		if w.live == nil {
			t.Fatal(w.Status().Refused)
		}
		if got := w.live.Tracing.Provider; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		w = newWorld(t, own, collectors+"  defaultProviders: {tracing: ["+name+"]}\n")
		if got := w.live.Tracing.Provider; !got.Same(want) {
			t.Errorf("by default %s: %+v, want %+v", name, got, want)
		}
	}
	for name, text := range map[string]string{"gone": "is not in the mesh's settings", "opa": "takes no spans"} {
		w := newWorld(t, own, collectors, telemetryDoc("shop", "t", "{tracing: [{providers: [{name: "+name+"}]}]}"))
		if all := fmt.Sprint(w.Status().Findings); w.live.Tracing.Provider != nil || !strings.Contains(all, "IST0157") || !strings.Contains(all, text) {
			t.Errorf("%s: %+v, %s", name, w.live.Tracing.Provider, all)
		}
	}
	alone := own
	alone.Collectors = false
	w := newWorld(t, alone, collectors, telemetryDoc("shop", "t", "{tracing: [{providers: [{name: otel}]}]}"))
	if all := fmt.Sprint(w.Status().Findings); w.live.Tracing.Provider != nil || !strings.Contains(all, "the program's own TracerProvider") {
		t.Errorf("without collectors: %+v, %s", w.live.Tracing.Provider, all)
	}
	w = newWorld(t, own, meshDoc("mesh", "{enableTracing: true, defaultConfig: {tracing: {zipkin: {address: 'zipkin.observe:9999'}, maxPathTagLength: 10}}}"))
	if p := w.live.Tracing.Provider; p.Kind != telemetry.Zipkin || p.Host != "zipkin.observe" || p.Port != 9999 || p.MaxTag != 10 {
		t.Errorf("enableTracing: %+v", p)
	}
	w = newWorld(t, own, meshDoc("mesh", "{enableTracing: true}"))
	if p := w.live.Tracing.Provider; p.Host != "zipkin.istio-system" || p.Port != 9411 {
		t.Errorf("enableTracing alone: %+v", p)
	}
}

// TestTracingRefused: what is no share, mode, tag, header or address, with its position.
func TestTracingRefused(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		telemetryDoc("a", "t", "{tracing: [{randomSamplingPercentage: 101}]}"):                                                   ":4:45)",
		telemetryDoc("a", "t", "{tracing: [{randomSamplingPercentage: .nan}]}"):                                                  "randomSamplingPercentage",
		telemetryDoc("a", "t", "{tracing: [{match: {mode: BOTH}}]}"):                                                             "BOTH",
		telemetryDoc("a", "t", "{tracing: [{providers: [{}]}]}"):                                                                 "has no name",
		telemetryDoc("a", "t", "{tracing: [{customTags: {x: {}}}]}"):                                                             "not one source",
		telemetryDoc("a", "t", "{tracing: [{customTags: {x: {literal: {value: a}, header: {name: b}}}}]}"):                       "not one source",
		telemetryDoc("a", "t", "{tracing: [{customTags: {x: {header: {name: 'a b'}}}}]}"):                                        "no name that there can be",
		telemetryDoc("a", "t", "{tracing: [{customTags: {x: {environment: {}}}}]}"):                                              "variable has no name",
		telemetryDoc("a", "t", "{tracing: [{sampling: 1}]}"):                                                                     "sampling",
		meshDoc("mesh", "{defaultConfig: {tracing: {sampling: -1}}}"):                                                            "no percentage",
		meshDoc("mesh", "{defaultConfig: {tracing: {zipkin: {address: '[::'}}}}"):                                                "no address",
		meshDoc("mesh", "{extensionProviders: [{name: o, opentelemetry: {service: a, port: 70000}}]}"):                           "no port",
		meshDoc("mesh", "{extensionProviders: [{name: o, opentelemetry: {service: a, port: 1, http: {path: x}}}]}"):              "no path",
		meshDoc("mesh", "{extensionProviders: [{name: o, zipkin: {service: a, port: 1, headers: [{name: 'a b', value: c}]}}]}"):  "no name that there can be",
		meshDoc("mesh", `{extensionProviders: [{name: o, zipkin: {service: a, port: 1, headers: [{name: a, value: "b\nc"}]}}]}`): "control character",
	} {
		w := newWorld(t, Options{}, doc)
		if w.live != nil || !strings.Contains(fmt.Sprint(w.Status().Refused), want) {
			t.Errorf("%s: want %q: %v", doc, want, w.Status().Refused)
		}
	}
}
