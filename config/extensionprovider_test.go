package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/snapshot"
)

func TestValidateExtensionProviders(t *testing.T) {
	t.Parallel()
	http := func(settings string) string {
		return "  extensionProviders:\n  - name: opa\n    envoyExtAuthzHttp: {" + settings + "}"
	}
	sound := "service: a.b, port: 1, "
	for _, c := range []validateCase{
		{"everything", http(sound + `timeout: 1s, pathPrefix: /check, failOpen: true, statusOnError: "503", includeRequestHeadersInCheck: [x-a, 'x-*', '*-a'],
      includeHeadersInCheck: [a], includeAdditionalHeadersInCheck: {x-a: b}, includeRequestBodyInCheck: {maxRequestBytes: 1, allowPartialMessage: true, packAsBytes: true},
      headersToUpstreamOnAllow: [a], headersToDownstreamOnDeny: [a], headersToDownstreamOnAllow: [a]`), nil},
		{"without a namespace, with one", http("service: opa, port: 1") + "\n  - {name: b, envoyExtAuthzGrpc: {service: shop/opa.shop.svc.cluster.local, port: 65535}}", nil},
		{"names", "  extensionProviders: [{envoyExtAuthzHttp: {service: a, port: 1}}, {name: a, envoyExtAuthzHttp: {service: a, port: 1}}, {name: a, envoyExtAuthzHttp: {service: a, port: 1}}, {name: b}]", []string{
			"IST0106! 5:24 spec.extensionProviders[0] ~ has no name",
			"IST0106! 5:128 spec.extensionProviders[2].name ~ a second time",
			"IST0106! 5:174 spec.extensionProviders[3] ~ of no kind",
		}},
		{"service and port", http("service: '', port: 0"), []string{
			"IST0106! 7:5 spec.extensionProviders[0].envoyExtAuthzHttp ~ service is missing",
			"IST0106! 7:5 spec.extensionProviders[0].envoyExtAuthzHttp ~ port is missing",
		}},
		{"service, port and status", http(`service: "a/b/c", port: 65536, statusOnError: "99", timeout: 0s, pathPrefix: check`), []string{
			"IST0106! 7:34 spec.extensionProviders[0].envoyExtAuthzHttp.service ~ is no service",
			"IST0106! 7:49 spec.extensionProviders[0].envoyExtAuthzHttp.port ~ is no port",
			"IST0106! 7:71 spec.extensionProviders[0].envoyExtAuthzHttp.statusOnError ~ no status",
			"IST0106! 7:86 spec.extensionProviders[0].envoyExtAuthzHttp.timeout ~ shorter than 1ms",
			"IST0106! 7:102 spec.extensionProviders[0].envoyExtAuthzHttp.pathPrefix ~ is no path",
		}},
		{"header names", http(sound + `includeRequestHeadersInCheck: ["*", "a*b", "a b", ""], headersToUpstreamOnAllow: ["**"]`), []string{
			"IST0106! 7:79 spec.extensionProviders[0].envoyExtAuthzHttp.includeRequestHeadersInCheck[0] ~ no pattern",
			"IST0106! 7:84 spec.extensionProviders[0].envoyExtAuthzHttp.includeRequestHeadersInCheck[1] ~ no pattern",
			"IST0106! 7:91 spec.extensionProviders[0].envoyExtAuthzHttp.includeRequestHeadersInCheck[2] ~ no pattern",
			"IST0106! 7:98 spec.extensionProviders[0].envoyExtAuthzHttp.includeRequestHeadersInCheck[3] ~ no pattern",
			"IST0106! 7:130 spec.extensionProviders[0].envoyExtAuthzHttp.headersToUpstreamOnAllow[0] ~ no pattern",
		}},
		{"additional headers", http(sound + `includeAdditionalHeadersInCheck: {"x-forwarded-client-cert": x, "a b": c, x-a: "b\nc"}`), []string{
			"IST0106! 7:82 spec.extensionProviders[0].envoyExtAuthzHttp.includeAdditionalHeadersInCheck.x-forwarded-client-cert ~ cannot be changed",
			`IST0106! 7:112 spec.extensionProviders[0].envoyExtAuthzHttp.includeAdditionalHeadersInCheck["a b"] ~ no name of a header`,
			"IST0106! 7:127 spec.extensionProviders[0].envoyExtAuthzHttp.includeAdditionalHeadersInCheck.x-a ~ control character",
		}},
		{"body", http(sound + "includeRequestBodyInCheck: {allowPartialMessage: true}"), []string{
			"IST0106! 7:48 spec.extensionProviders[0].envoyExtAuthzHttp.includeRequestBodyInCheck ~ maxRequestBytes is missing",
		}},
		{"no effect", "  extensionProviders:\n  - {name: opa, envoyExtAuthzGrpc: {service: a, port: 1, clearRouteCache: true}}\n  - {name: datadog, datadog: {service: a, port: 1}}", []string{
			"HDL0003? 6:75 spec.extensionProviders[0].envoyExtAuthzGrpc.clearRouteCache ~ no effect",
			"HDL0003? 7:21 spec.extensionProviders[1].datadog ~ not read",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(meshDoc("m", c.spec), "spec: ", "spec:\n", 1)
			expectFound(t, validateOne(t, text), c.want)
		})
	}
}

// TestCompilesProviders: whom the CUSTOM policies of the workload ask, with all that is written of him, and what is found where
// nobody can be asked.
func TestCompilesProviders(t *testing.T) {
	t.Parallel()
	service := doc("ServiceEntry", "opa", "{hosts: [opa.example], resolution: STATIC, ports: [{number: 9191, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1}]}")
	ask := policyDoc("", "{action: CUSTOM, provider: {name: opa}, rules: [{}]}")
	settings := func(kind, more string) string {
		return meshDoc("m", "{extensionProviders: [{name: opa, "+kind+": {service: default/opa.example, port: 9191"+more+"}}]}")
	}
	for _, c := range []struct {
		name    string
		options Options
		docs    []string
		want    *external.Provider
		found   string // the piece of a finding at spec.provider.name
	}{
		{"HTTP", Options{}, []string{service, ask, settings("envoyExtAuthzHttp", `, timeout: 1s, failOpen: true, statusOnError: "503", pathPrefix: /c, includeHeadersInCheck: [X-A],
  includeAdditionalHeadersInCheck: {x-b: c}, includeRequestBodyInCheck: {maxRequestBytes: 7, allowPartialMessage: true}, headersToUpstreamOnAllow: [X-U],
  headersToDownstreamOnDeny: [X-D], headersToDownstreamOnAllow: [X-O*]`)}, &external.Provider{Name: "opa", Kind: external.HTTP, Host: "opa.example", Port: 9191,
			Timeout: time.Second, FailOpen: true, StatusOnError: 503, PathPrefix: "/c", Include: []string{"x-a"}, Additional: []external.Edit{{Name: "x-b", Value: "c"}},
			Body: &external.Body{Max: 7, Partial: true}, ToUpstream: []string{"x-u"}, OnDeny: []string{"x-d"}, ToDownstream: []string{"x-o*"}}, ""},
		{"gRPC", Options{GRPCAuthorizers: true}, []string{service, ask, settings("envoyExtAuthzGrpc", `, includeRequestBodyInCheck: {maxRequestBytes: 7, packAsBytes: true}`)},
			&external.Provider{Name: "opa", Kind: external.GRPC, Host: "opa.example", Port: 9191, Body: &external.Body{Max: 7, Raw: true}}, ""},
		{"gRPC that nobody speaks", Options{}, []string{service, ask, settings("envoyExtAuthzGrpc", "")},
			&external.Provider{Name: "opa", Kind: external.GRPC, Host: "opa.example", Port: 9191}, "nobody to ask it by"},
		{"the program's own", Options{Authorizers: []string{"opa"}}, []string{ask}, &external.Provider{Name: "opa"}, ""},
		{"the program's own, with settings", Options{Authorizers: []string{"opa"}}, []string{ask, settings("envoyExtAuthzHttp", ", failOpen: true")},
			&external.Provider{Name: "opa", Kind: external.HTTP, Host: "opa.example", Port: 9191, FailOpen: true}, ""},
		{"unknown", Options{Authorizers: []string{"other"}}, []string{ask}, nil, "is not in the mesh's settings"},
		{"unknown service", Options{}, []string{ask, settings("envoyExtAuthzHttp", "")}, nil, "none that the workload sees"},
		{"unknown port", Options{}, []string{strings.Replace(service, "9191", "80", 1), ask, settings("envoyExtAuthzHttp", "")}, nil, "has no port 9191"},
		{"of another kind", Options{}, []string{ask, meshDoc("m", "{extensionProviders: [{name: opa, prometheus: {}}]}")}, nil, "nobody to ask"},
		{"no CUSTOM policy", Options{}, []string{service, settings("envoyExtAuthzHttp", ""), policyDoc("", "{rules: [{}]}")}, nil, ""},
		{"a policy of another workload", Options{Workload: snapshot.Workload{Namespace: "shop"}}, []string{ask}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.options, c.docs...)
			if r := w.Status().Refused; r != nil {
				t.Fatal(r)
			}
			if got := w.live.Provider; !reflect.DeepEqual(got, c.want) {
				t.Errorf("asks %+v, want %+v", got, c.want)
			}
			found := ""
			for _, f := range w.Status().Findings {
				if f.Path == "spec.provider.name" {
					found = f.Message
					if f.Code != "IST0101" || f.Level != Error || f.Line == 0 || f.Column == 0 {
						t.Errorf("%+v", f)
					}
				}
			}
			if (found == "") != (c.found == "") || !strings.Contains(found, c.found) {
				t.Errorf("found %q, want %q", found, c.found)
			}
		})
	}
	two := newWorld(t, Options{}, ask, strings.NewReplacer("{name: p}", "{name: q}", "opa", "opal").Replace(ask))
	if r := two.Status().Refused; r == nil || !strings.Contains(r.Error(), "only one can be asked") {
		t.Errorf("two providers: %v", r)
	}
}
