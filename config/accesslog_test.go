package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
)

// logged writes a plan down: for each side and log the file, the line of an entry without a path, and the filter.
func logged(p *accesslog.Plan) string {
	if p == nil {
		return "nothing"
	}
	e := &accesslog.Entry{Start: time.Unix(0, 0), Outcome: telemetry.Outcome{Code: 503, Flags: call.FlagUH}}
	var all []string
	for side, outputs := range p {
		for _, o := range outputs {
			s := [...]string{"client ", "server "}[side] + o.Path + " " + strings.TrimSpace(string(o.Format.Append(nil, e)))
			if o.Filter != nil {
				s += " if " + o.Filter.String()
			}
			all = append(all, s)
		}
	}
	return strings.Join(all, "; ")
}

const short = `accessLogFormat: "%RESPONSE_CODE%", `

// TestAccessLogging: who logs what, by MeshConfig and by Telemetry from the mesh down to the workload, as Istio merges them.
func TestAccessLogging(t *testing.T) {
	t.Parallel()
	const providers = `extensionProviders: [{name: mine, envoyFileAccessLog: {path: /tmp/mine, logFormat: {text: "%RESPONSE_FLAGS%"}}}, {name: plain, envoyFileAccessLog: {}}, {name: als, envoyHttpAls: {service: a.b, port: 1}}]`
	mesh := func(spec string) string { return meshDoc("m", "{"+short+spec+"}") }
	telemetry := func(namespace, name, spec string) string { return telemetryDoc(namespace, name, spec) }
	for _, c := range []struct {
		name string
		own  LogSettings
		docs []string
		want string
	}{
		{"nothing is said", LogSettings{}, []string{mesh("")}, "nothing"},
		{"a file for the mesh", LogSettings{}, []string{mesh("accessLogFile: /tmp/a")}, "client /tmp/a 503; server /tmp/a 503"},
		{"the program's file goes before", LogSettings{File: "/tmp/own"}, []string{mesh("accessLogFile: /tmp/a")}, "client /tmp/own 503; server /tmp/own 503"},
		{"default providers", LogSettings{}, []string{mesh(`defaultProviders: {accessLogging: [mine]}, ` + providers)}, "client /tmp/mine UH; server /tmp/mine UH"},
		{"the provider that needs no declaration", LogSettings{}, []string{mesh(""), telemetry("istio-system", "t", "{accessLogging: [{providers: [{name: envoy}]}]}")},
			"client /dev/stdout 503; server /dev/stdout 503"},
		{"a filter over the mesh's file", LogSettings{}, []string{mesh("accessLogFile: /tmp/a"),
			telemetry("istio-system", "t", `{accessLogging: [{filter: {expression: "response.code >= 400"}}]}`)},
			"client /tmp/a 503 if response.code >= 400; server /tmp/a 503 if response.code >= 400"},
		{"one side only", LogSettings{}, []string{mesh(providers), telemetry("shop", "t", "{accessLogging: [{match: {mode: SERVER}, providers: [{name: mine}]}]}")}, "server /tmp/mine UH"},
		{"switched off for the namespace", LogSettings{}, []string{mesh("accessLogFile: /tmp/a"), telemetry("shop", "t", "{accessLogging: [{disabled: true}]}")}, "nothing"},
		{"switched off for the mesh, on for the workload", LogSettings{}, []string{mesh("accessLogFile: /tmp/a"), telemetry("istio-system", "t", "{accessLogging: [{disabled: true}]}"),
			telemetry("shop", "w", "{selector: {matchLabels: {app: web}}, accessLogging: [{disabled: false}]}")}, "client /tmp/a 503; server /tmp/a 503"},
		{"the workload names others", LogSettings{}, []string{mesh("accessLogFile: /tmp/a, " + providers), telemetry("shop", "t", "{accessLogging: [{providers: [{name: envoy}]}]}"),
			telemetry("shop", "w", `{selector: {matchLabels: {app: web}}, accessLogging: [{providers: [{name: mine}], filter: {expression: "connection.mtls"}}]}`)},
			"client /tmp/mine UH if connection.mtls; server /tmp/mine UH if connection.mtls"},
		{"metrics alone say nothing of logs", LogSettings{}, []string{mesh("accessLogFile: /tmp/a"), telemetry("shop", "t", "{metrics: [{overrides: [{disabled: true}]}]}")},
			"client /tmp/a 503; server /tmp/a 503"},
		{"another namespace", LogSettings{}, []string{mesh("accessLogFile: /tmp/a"), telemetry("else", "t", "{accessLogging: [{disabled: true}]}")}, "client /tmp/a 503; server /tmp/a 503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Options{AccessLog: c.own, Workload: snapshot.Workload{Namespace: "shop", Labels: map[string]string{"app": "web"}}}, c.docs...)
			if w.live == nil {
				t.Fatal(w.Status().Refused)
			}
			if got := logged(w.live.AccessLog); got != c.want {
				t.Errorf("logged is %q, want %q; findings %v", got, c.want, w.Status().Findings)
			}
		})
	}
	for _, name := range []string{"als", "nobody"} {
		w := newWorld(t, Options{}, mesh(providers), telemetry("istio-system", "t", "{accessLogging: [{providers: [{name: "+name+"}]}]}"))
		if all := fmt.Sprint(w.Status().Findings); w.live == nil || w.live.AccessLog != nil || strings.Count(all, "[IST0157]") != 1 ||
			!strings.Contains(all, "spec.accessLogging[0].providers[0].name") {
			t.Errorf("provider %s: %v", name, all)
		}
	}
}

// TestAccessLogFormats: text and JSON, of the mesh and of a provider.
func TestAccessLogFormats(t *testing.T) {
	t.Parallel()
	const istioText = `[1970-01-01T00:00:00.000Z] "- - -" 503 UH - - "-" 0 0 0 - "-" "-" "-" "-" "-" - - - - - -`
	for _, c := range []struct {
		spec string
		own  LogSettings
		want string
	}{
		{"{accessLogFile: a}", LogSettings{}, istioText},
		{`{accessLogFile: a, accessLogEncoding: JSON, accessLogFormat: '{"c": "%RESPONSE_CODE%"}'}`, LogSettings{}, `{"c":503}`},
		{"{accessLogFile: a, accessLogEncoding: JSON}", LogSettings{}, `{"authority":null,"bytes_received":0`},
		{"{}", LogSettings{File: "a", JSON: true}, `{"authority":null,"bytes_received":0`},
		{"{}", LogSettings{File: "a"}, istioText},
		{`{defaultProviders: {accessLogging: [x]}, extensionProviders: [{name: x, envoyFileAccessLog: {path: a, logFormat: {labels: {f: "%RESPONSE_FLAGS%", n: 1}}}}]}`, LogSettings{}, `{"f":"UH","n":1}`},
		{`{defaultProviders: {accessLogging: [x]}, extensionProviders: [{name: x, envoyFileAccessLog: {path: a}}]}`, LogSettings{}, istioText},
		{`{defaultProviders: {accessLogging: [x]}, extensionProviders: [{name: x, envoyFileAccessLog: {path: a, omitEmptyValues: true, logFormat: {text: "%PROTOCOL%;%RESPONSE_CODE%"}}}]}`,
			LogSettings{}, ";503"},
		{`{defaultProviders: {accessLogging: [x]}, extensionProviders: [{name: x, envoyFileAccessLog: {path: a, omitEmptyValues: true, logFormat: {labels: {c: "%RESPONSE_CODE%", p: "%PROTOCOL%"}}}}]}`,
			LogSettings{}, `{"c":503}`},
	} {
		w := newWorld(t, Options{AccessLog: c.own}, meshDoc("m", c.spec))
		if w.live == nil {
			t.Errorf("%s: %v", c.spec, w.Status().Refused)
			continue
		}
		if got := logged(w.live.AccessLog); !strings.HasPrefix(got, "client a "+c.want) {
			t.Errorf("%s: logged is\n%s, want\n%s", c.spec, got, c.want)
		}
	}
}

// TestAccessLogRefused: expressions and formats that cannot be carried out, with where they stand and what there is.
func TestAccessLogRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ doc, want string }{
		{telemetryDoc("default", "t", `{accessLogging: [{filter: {expression: "response.code >= 400 ? true : false"}}]}`), `<inline 1>:4:46) spec.accessLogging[0].filter.expression: "?" is not supported here, at line 1, column 22`},
		{telemetryDoc("default", "t", `{accessLogging: [{filter: {expression: "response.nope"}}]}`), "attributes are connection.mtls"},
		{telemetryDoc("default", "t", `{accessLogging: [{filter: {}}]}`), "the filter has no expression"},
		{telemetryDoc("default", "t", `{accessLogging: [{match: {mode: BOTH}}]}`), "BOTH"},
		{telemetryDoc("default", "t", `{accessLogging: [{providers: [{}]}]}`), "has no name"},
		{telemetryDoc("default", "t", `{accessLogging: [{provider: x}]}`), "provider"},
		{meshDoc("m", `{accessLogFormat: "%NOPE%"}`), "spec.accessLogFormat: %NOPE% at byte 1 is no operator"},
		{meshDoc("m", `{accessLogEncoding: JSON, accessLogFormat: "[%START_TIME%]"}`), "object of JSON"},
		{meshDoc("m", `{accessLogFile: "a\nb"}`), "is no name of a file"},
		{meshDoc("m", `{extensionProviders: [{name: x, envoyFileAccessLog: {logFormat: {text: "%REQ%"}}}]}`), "logFormat.text: %REQ% at byte 1"},
		{meshDoc("m", `{extensionProviders: [{name: x, envoyFileAccessLog: {logFormat: {labels: {a: "%X%"}}}}]}`), "logFormat.labels: a: %X%"},
	} {
		w := newWorld(t, Options{}, c.doc)
		if w.live != nil || !strings.Contains(fmt.Sprint(w.Status().Refused), c.want) {
			t.Errorf("%s\n%v\nwant %s", c.doc, w.Status().Refused, c.want)
		}
	}
}
