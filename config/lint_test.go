package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/snapshot"
)

// lintCodes are those of findings that lint makes.
func isLint(f Finding) bool {
	return strings.HasPrefix(f.Code, "HDL01") ||
		slices.Contains([]string{codeUnverified, codeUnverifiedPort, codeGatewayHost, codeNeedsAddresses, codeSameGatewayHost, codeUnreachable}, f.Code) ||
		f.Code == "IST0101" && strings.Contains(f.Message, gatewayKind) || f.Code == codeNoWorkload && strings.HasPrefix(f.Message, "selects none")
}

// lintSet gives what lint finds in documents that need not pass validation: a lint must not wait for the field that
// it is about to be built.
func lintSet(t *testing.T, text string) []Finding {
	t.Helper()
	resources, findings := Parse("a.yaml", []byte(text))
	if slices.ContainsFunc(findings, func(f Finding) bool { return f.Level > Info }) {
		t.Fatal(findings)
	}
	var docs []*document
	for _, r := range resources {
		if kinds[r.Key.Kind].state == kindServed {
			if findings := r.doc.decode(); len(findings) > 0 {
				t.Fatal(findings)
			}
		}
		docs = append(docs, r.doc)
	}
	found := compileSet(docs, &Options{Workload: snapshot.Workload{Namespace: "default"}}).findings
	return slices.DeleteFunc(found, func(f Finding) bool { return !isLint(f) })
}

// The services of the lints' cases, behind the document that a case is about.
const lintRegistry = `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints:
  - {address: 10.0.0.1, labels: {version: v1}, locality: eu/a}
  - {address: 10.0.0.2, labels: {version: v1}, locality: eu/a}
  - {address: 10.0.0.3, labels: {version: v2}, locality: us/a}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [api.example.com]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{number: 443, name: tls, protocol: TLS}]
`

// A lintCase is one document, whose spec begins on line 5, and what lint says of it: "CODE Level line:column path".
type lintCase struct {
	name string
	spec string
	want []string
	text string // in the first finding
}

func runLints(t *testing.T, kind string, cases []lintCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			found := lintSet(t, servedText(kind, strings.Trim(c.spec, "\n")+"\n")+lintRegistry)
			var got []string
			for _, f := range found {
				got = append(got, fmt.Sprintf("%s %s %d:%d %s", f.Code, f.Level, f.Line, f.Column, f.Path))
				if f.Refused || f.Message == "" || f.File != "a.yaml" {
					t.Errorf("%+v", f)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got:\n%v\nwant:\n%s", found, strings.Join(c.want, "\n"))
			}
			if c.text != "" && (len(found) == 0 || !strings.Contains(found[0].String(), c.text)) {
				t.Errorf("%v\ndoes not say %q", found, c.text)
			}
		})
	}
}

// rule writes a VirtualService with one rule, whose fields stand from line 7 on.
func lintRule(fields string) string {
	return "  hosts: [reviews]\n  http:\n  - " + strings.ReplaceAll(strings.TrimSpace(fields), "\n", "\n    ") + "\n"
}

func TestLintRoutes(t *testing.T) {
	t.Parallel()
	const to = "route: [{destination: {host: reviews}}]\n"
	runLints(t, "VirtualService", []lintCase{
		{"plain", lintRule(to), nil, ""},
		{"HDL0101 default retryOn", lintRule(to + "retries: {attempts: 3, perTryTimeout: 2s}"),
			[]string{"HDL0101 Warning 8:43 spec.http[0].retries.perTryTimeout"}, "the default retryOn has none of 5xx, gateway-error and reset"},
		{"HDL0101 own retryOn", lintRule(to + "retries: {attempts: 3, perTryTimeout: 2s, retryOn: 'connect-failure,refused-stream'}"),
			[]string{"HDL0101 Warning 8:43 spec.http[0].retries.perTryTimeout"}, "longer than 2s ends the call: retryOn has none"},
		{"per-try timeout that is retried", lintRule("match: [{method: {exact: GET}}]\n" + to + "timeout: 10s\nretries: {attempts: 3, perTryTimeout: 2s, retryOn: 'connect-failure,reset'}"), nil, ""},
		{"no retries, no per-try timeout", lintRule(to + "retries: {attempts: 0}"), nil, ""},
		{"retries without a per-try timeout", lintRule(to + "retries: {attempts: 3}"), nil, ""},
		{"HDL0102", lintRule("match: [{method: {exact: GET}}]\n" + to + "timeout: 6s\nretries: {attempts: 3, perTryTimeout: 2s, retryOn: reset}"),
			[]string{"HDL0102 Info 10:5 spec.http[0].retries"}, "4 tries of 2s and the pauses between them take 8.1"},
		{"HDL0102 not where tries fit", lintRule("match: [{method: {exact: GET}}]\n" + to + "timeout: 9s\nretries: {attempts: 3, perTryTimeout: 2s, retryOn: reset}"), nil, ""},
		{"HDL0102 not without a timeout", lintRule("match: [{method: {exact: GET}}]\n" + to + "retries: {attempts: 3, perTryTimeout: 2s, retryOn: reset}"), nil, ""},
		{"A-036 HDL0103 POST among others", lintRule("match: [{method: {regex: 'GET|POST'}}]\n" + to + "retries: {attempts: 3, retryOn: '5xx,connect-failure'}"),
			[]string{"HDL0103 Info 9:37 spec.http[0].retries.retryOn"}, "5xx: requests of POST are not repeated for these, as Istio would"},
		{"HDL0103 not where no method is named", lintRule(to + "retries: {attempts: 3, retryOn: '5xx,connect-failure'}"), nil, ""},
		{"A-036 HDL0103 POST alone", lintRule("match: [{method: {exact: POST}}]\n" + to + "retries: {attempts: 3, retryOn: 'gateway-error'}"),
			[]string{"HDL0103 Warning 9:37 spec.http[0].retries.retryOn"}, "requests of POST are not repeated"},
		{"HDL0103 not for GET", lintRule("match: [{method: {regex: 'GET|HEAD'}}]\n" + to + "retries: {attempts: 3, retryOn: '5xx'}"), nil, ""},
		{"HDL0103 not for what is safe", lintRule(to + "retries: {attempts: 3, retryOn: 'connect-failure,refused-stream,unavailable'}"), nil, ""},
		{"HDL0104", lintRule(to + "retries: {attempts: 3, retryOn: 'retriable-status-codes'}"),
			[]string{"HDL0104 Warning 8:37 spec.http[0].retries.retryOn"}, "repeats nothing"},
		{"HDL0104 not with codes", lintRule("match: [{method: {exact: GET}}]\n" + to + "retries: {attempts: 3, retryOn: 'retriable-status-codes,503'}"), nil, ""},
		{"HDL0105", lintRule(to + "timeout: 0s"), []string{"HDL0105 Info 8:14 spec.http[0].timeout"}, "no timeout at all"},
		{"HDL0105 not for a timeout", lintRule(to + "timeout: 1s"), nil, ""},
		{"HDL0106 abort and delay", lintRule(to + "fault:\n  delay: {fixedDelay: 7s}\n  abort: {httpStatus: 500, percentage: {}}"),
			[]string{"HDL0106 Warning 9:7 spec.http[0].fault.delay", "HDL0106 Warning 10:32 spec.http[0].fault.abort.percentage"}, "0 % of the requests"},
		{"HDL0106 not with a share", lintRule(to + "fault:\n  delay: {fixedDelay: 7s, percent: 10}\n  abort: {httpStatus: 500, percentage: {value: 0}}"), nil, ""},
		{"HDL0107 any method", lintRule(to + "mirror: {host: reviews}"), []string{"HDL0107 Info 8:5 spec.http[0].mirror"}, "POST, PATCH"},
		{"HDL0107 writing alone", lintRule("match: [{method: {regex: 'POST|PATCH'}}]\n" + to + "mirrors: [{destination: {host: reviews}}]"),
			[]string{"HDL0107 Warning 9:5 spec.http[0].mirrors"}, "carried out twice"},
		{"HDL0107 not for GET", lintRule("match: [{method: {exact: GET}}]\n" + to + "mirror: {host: reviews}"), nil, ""},
		{"HDL0107 not where nothing is mirrored", lintRule(to + "mirror: {host: reviews}\nmirrorPercentage: {value: 0}"), nil, ""},
		{"HDL0108", lintRule("route: [{destination: {host: reviews}, weight: 10}]"),
			[]string{"HDL0108 Warning 7:52 spec.http[0].route[0].weight"}, "weight 10 has no effect"},
		{"HDL0108 zero", lintRule("route: [{destination: {host: reviews}, weight: 0}]"),
			[]string{"HDL0108 Warning 7:52 spec.http[0].route[0].weight"}, "a lone destination gets every request"},
		{"HDL0108 not for all", lintRule("route: [{destination: {host: reviews}, weight: 100}]"), nil, ""},
		{"HDL0108 not among several", lintRule("route: [{destination: {host: reviews}, weight: 10}, {destination: {host: reviews}, weight: 90}]"), nil, ""},
	})
}

func TestLintShadowedRules(t *testing.T) {
	t.Parallel()
	rules := func(matches ...string) string {
		spec := "  hosts: [reviews]\n  http:\n"
		for _, m := range matches {
			spec += "  - {match: [" + m + "], route: [{destination: {host: reviews}}]}\n"
		}
		return spec
	}
	shadowed := func(line int) []string {
		return []string{fmt.Sprintf("IST0130 Warning %d:5 spec.http[%d]", line, line-7)}
	}
	runLints(t, "VirtualService", []lintCase{
		{"longer prefix behind a shorter", rules("{uri: {prefix: /api}}", "{uri: {prefix: /api/v2}}"), shadowed(8), "taken before, at the latest by http[0] (a.yaml:7)"},
		{"path behind its prefix", rules("{uri: {prefix: /api}}", "{uri: {exact: /api/v2}, headers: {a: {exact: b}}}"), shadowed(8), ""},
		{"more headers behind fewer", rules("{headers: {a: {}}}", "{headers: {a: {exact: x}, b: {exact: y}}}"), shadowed(8), ""},
		{"each of two matches by another rule", rules("{uri: {prefix: /a}}", "{uri: {prefix: /b}}", "{uri: {prefix: /a/1}}, {uri: {prefix: /b/1}}"), shadowed(9), "http[1]"},
		{"query and labels", rules("{queryParams: {a: {prefix: x}}}", "{queryParams: {a: {exact: xy}}, sourceLabels: {app: web}}"), shadowed(8), ""},
		{"one of two matches", rules("{uri: {prefix: /a}}", "{uri: {prefix: /a/1}}, {uri: {prefix: /b}}"), nil, ""},
		{"shorter behind longer", rules("{uri: {prefix: /api/v2}}", "{uri: {prefix: /api}}"), nil, ""},
		{"other case", rules("{uri: {prefix: /api}, ignoreUriCase: true}", "{uri: {prefix: /api/v2}}"), nil, ""},
		{"narrower first", rules("{uri: {prefix: /api}, method: {exact: GET}}", "{uri: {prefix: /api}}"), nil, ""},
		{"other header", rules("{headers: {a: {exact: x}}}", "{headers: {a: {exact: y}}}"), nil, ""},
		{"without a header", rules("{uri: {prefix: /}, withoutHeaders: {a: {}}}", "{uri: {prefix: /b}}"), nil, ""},
		{"expressions", rules("{uri: {regex: /api.*}}", "{uri: {prefix: /api/v2}}"), nil, ""},
		{"for other callers", rules("{uri: {prefix: /api}, sourceNamespace: shop}", "{uri: {prefix: /api/v2}}"), nil, ""},
		{"validate says so", rules("{uri: {prefix: /api}}", "{uri: {prefix: /api}}", "{uri: {prefix: /}}", "{uri: {exact: /b}}"), nil, ""},
	})
}

func TestLintPolicies(t *testing.T) {
	t.Parallel()
	policy := func(fields string) string {
		return "  host: reviews\n  trafficPolicy:\n    " + strings.ReplaceAll(strings.TrimSpace(fields), "\n", "\n    ") + "\n"
	}
	const local = "loadBalancer: {localityLbSetting: {enabled: false}}\n"
	runLints(t, "DestinationRule", []lintCase{
		{"plain", policy("loadBalancer: {simple: ROUND_ROBIN}\nconnectionPool: {tcp: {maxConnections: 10}, http: {maxRequestsPerConnection: 0}}\n" + local[:0]), nil, ""},
		{"HDL0111", policy("connectionPool: {tcp: {maxConnections: 10}}\ntls: {mode: ISTIO_MUTUAL}\nportLevelSettings:\n- {port: {number: 9080}, loadBalancer: {simple: RANDOM}}"),
			[]string{"HDL0111 Warning 10:7 spec.trafficPolicy.portLevelSettings[0]"}, "port 9080 has no connectionPool, tls"},
		{"HDL0111 not where nothing is dropped", policy("loadBalancer: {simple: ROUND_ROBIN}\nportLevelSettings:\n- {port: {number: 9080}, loadBalancer: {simple: RANDOM}}"), nil, ""},
		{"HDL0111 in a subset", policy("loadBalancer: {simple: ROUND_ROBIN}") +
			"  subsets:\n  - name: v1\n    labels: {version: v1}\n    trafficPolicy:\n      portLevelSettings: [{port: {number: 9080}, connectionPool: {tcp: {maxConnections: 1}}}]\n",
			[]string{"HDL0111 Warning 12:27 spec.subsets[0].trafficPolicy.portLevelSettings[0]", "HDL0119 Info 11:5 spec.subsets[0].trafficPolicy"}, "has no loadBalancer"},
		{"HDL0112", policy("portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]"),
			[]string{"HDL0112 Warning 7:41 spec.trafficPolicy.portLevelSettings[0].port.number"}, "its ports are 9080"},
		{"HDL0113 default", policy(local + "outlierDetection: {consecutive5xxErrors: 3}"),
			[]string{"HDL0113 Warning 8:5 spec.trafficPolicy.outlierDetection"}, "one of 3 endpoints is 33 % of the pool, more than the default of maxEjectionPercent, 10 %; write maxEjectionPercent: 34 or more"},
		{"HDL0113 written", policy(local + "outlierDetection: {maxEjectionPercent: 33}"),
			[]string{"HDL0113 Warning 8:44 spec.trafficPolicy.outlierDetection.maxEjectionPercent"}, "33 %"},
		{"HDL0113 not where one may go", policy(local + "outlierDetection: {maxEjectionPercent: 34}"), nil, ""},
		{"HDL0113 of a subset", policy("loadBalancer: {simple: RANDOM}") +
			"  subsets:\n  - name: v2\n    labels: {version: v2}\n    trafficPolicy: {outlierDetection: {maxEjectionPercent: 50}}\n",
			[]string{"HDL0113 Warning 11:60 spec.subsets[0].trafficPolicy.outlierDetection.maxEjectionPercent", "HDL0119 Info 11:5 spec.subsets[0].trafficPolicy"}, "the only endpoint is 100 % of the pool"},
		{"HDL0113 not for names", "  host: api.example.com\n  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}", nil, ""},
		{"HDL0114", policy("outlierDetection: {maxEjectionPercent: 50}"),
			[]string{"HDL0114 Info 7:5 spec.trafficPolicy.outlierDetection"}, "are in eu/a, us/a"},
		{"HDL0114 not in one locality", "  host: reviews\n  subsets:\n  - name: v1\n    labels: {version: v1}\n    trafficPolicy: {outlierDetection: {maxEjectionPercent: 50}}\n",
			[]string{"HDL0119 Info 9:5 spec.subsets[0].trafficPolicy"}, ""},
		{"HDL0115", policy(local + "outlierDetection: {maxEjectionPercent: 50, consecutive5xxErrors: 3, consecutiveGatewayErrors: 3}"),
			[]string{"HDL0115 Warning 8:99 spec.trafficPolicy.outlierDetection.consecutiveGatewayErrors"}, "ejects after 3"},
		{"HDL0115 by default", policy(local + "outlierDetection: {maxEjectionPercent: 50, consecutiveGatewayErrors: 5}"),
			[]string{"HDL0115 Info 8:74 spec.trafficPolicy.outlierDetection.consecutiveGatewayErrors"}, "ejects after 5"},
		{"HDL0115 not where 5xx are off", policy(local + "outlierDetection: {maxEjectionPercent: 50, consecutive5xxErrors: 0, consecutiveGatewayErrors: 7}"), nil, ""},
		{"HDL0115 not below", policy(local + "outlierDetection: {maxEjectionPercent: 50, consecutive5xxErrors: 7, consecutiveGatewayErrors: 3}"), nil, ""},
		{"HDL0116", policy("connectionPool: {tcp: {maxConnections: 0}, http: {http2MaxRequests: 0}}"),
			[]string{"HDL0116 Info 7:44 spec.trafficPolicy.connectionPool.tcp.maxConnections", "HDL0116 Info 7:73 spec.trafficPolicy.connectionPool.http.http2MaxRequests"}, "no limit"},
		{"HDL0116 ejections", "  host: api.example.com\n  trafficPolicy: {outlierDetection: {maxEjectionPercent: 0}}",
			[]string{"HDL0116 Warning 6:58 spec.trafficPolicy.outlierDetection.maxEjectionPercent"}, "is the default, 10, and not off"},
		{"HDL0117 without a mode", policy("tls: {sni: a}"), []string{"HDL0117 Warning 7:5 spec.trafficPolicy.tls"}, "DISABLE"},
		{"HDL0117 of the mesh", policy("tls: {mode: DISABLE}"), []string{"HDL0117 Info 7:5 spec.trafficPolicy.tls"}, "for a service of the mesh"},
		{"HDL0117 broad", "  host: '*.local'\n  trafficPolicy: {tls: {mode: DISABLE}}", []string{"HDL0117 Warning 6:19 spec.trafficPolicy.tls"}, `every service that "*.local" covers`},
		{"HDL0117 not for the world outside", "  host: api.example.com\n  trafficPolicy: {tls: {mode: SIMPLE}}", nil, ""},
		{"HDL0117 not for a domain outside", "  host: '*.example.com'\n  trafficPolicy: {tls: {mode: SIMPLE}}", nil, ""},
		{"HDL0117 not for mTLS", policy("tls: {mode: ISTIO_MUTUAL}"), nil, ""},
		{"IST0128", "  host: api.example.com\n  trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}",
			[]string{"IST0128 Warning 6:59 spec.trafficPolicy.tls.insecureSkipVerify"}, "anybody can answer in its place"},
		{"IST0129", "  host: api.example.com\n  trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE, insecureSkipVerify: true}}]}",
			[]string{"IST0129 Warning 6:101 spec.trafficPolicy.portLevelSettings[0].tls.insecureSkipVerify"}, ""},
		{"HDL0118", policy("loadBalancer: {}"), []string{"HDL0118 Info 7:5 spec.trafficPolicy.loadBalancer"}, "LEAST_REQUEST"},
		{"HDL0118 not with something to say", policy("loadBalancer: {localityLbSetting: {enabled: true}}"), nil, ""},
	})
}

func TestLintServices(t *testing.T) {
	t.Parallel()
	runLints(t, "ServiceEntry", []lintCase{
		{"HDL0121", "  hosts: [a.example.com]\n  ports: [{number: 80, name: http, protocol: HTTP}]", []string{"HDL0121 Info 5:3 spec.hosts"}, "NONE"},
		{"HDL0121 not where it is written", "  hosts: [a.example.com]\n  resolution: NONE\n  ports: [{number: 80, name: http, protocol: HTTP}]", nil, ""},
		{"HDL0121 not for a domain", "  hosts: ['*.example.org']\n  ports: [{number: 80, name: http, protocol: HTTP}]", nil, ""},
		{"HDL0121 selector", "  hosts: [a.example.com]\n  location: MESH_INTERNAL\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  workloadSelector: {labels: {app: a}}",
			[]string{"HDL0121 Warning 8:3 spec.workloadSelector"}, "write resolution: STATIC"},
		{"HDL0122", "  hosts: [a.example.com]\n  resolution: STATIC\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  workloadSelector: {labels: {app: a}}",
			[]string{"HDL0122 Info 8:3 spec.workloadSelector"}, "MESH_EXTERNAL"},
		{"IST0134", "  hosts: [a.example.com]\n  resolution: NONE\n  ports: [{number: 5432, name: tcp, protocol: TCP}]", []string{"IST0134 Info 7:11 spec.ports[0]"}, "addresses"},
		{"IST0134 not with addresses", "  hosts: [a.example.com]\n  addresses: [192.0.2.1]\n  resolution: NONE\n  ports: [{number: 5432, name: tcp, protocol: TCP}]", nil, ""},
		{"IST0134 not for TLS", "  hosts: [a.example.com]\n  resolution: NONE\n  ports: [{number: 443, name: tls, protocol: TLS}]", nil, ""},
	})
	runLints(t, "Sidecar", []lintCase{
		{"HDL0123", "  outboundTrafficPolicy: {}", []string{"HDL0123 Warning 5:3 spec.outboundTrafficPolicy"}, "REGISTRY_ONLY"},
		{"HDL0123 not where it is written", "  outboundTrafficPolicy: {mode: REGISTRY_ONLY}", nil, ""},
	})
}

// TestLintListeners: listeners for calls on ports that none of their hosts has.
func TestLintListeners(t *testing.T) {
	t.Parallel()
	sidecar := func(egress string) string {
		return doc("ServiceEntry", "reviews", reviewsEntry) + "---\n" + doc("Sidecar", "default", "{egress: ["+egress+", {hosts: ['*/*']}]}")
	}
	const port, of = "{port: {number: %d, name: a, protocol: HTTP}, hosts: ['%s']%s}", "bind: 'unix:///a', "
	for name, c := range map[string]struct {
		text, want string
	}{
		"its port":        {sidecar(fmt.Sprintf(port, 9080, "./*", "")), ""},
		"another":         {sidecar(fmt.Sprintf(port, 1, "./*", ", bind: 127.0.0.1")), "none of the listener's hosts has the port 1: the ports of reviews.default.svc.cluster.local are 9080"},
		"hosts elsewhere": {sidecar(fmt.Sprintf(port, 1, "shop/*", "")), ""},
		"a socket":        {sidecar("{" + of + strings.TrimPrefix(fmt.Sprintf(port, 0, "./*", ""), "{")), ""},
		"a rule's host":   {sidecar(fmt.Sprintf(port, 1, "./*", "")) + "---\n" + doc("VirtualService", "v", "{hosts: [other], http: [{route: [{destination: {host: reviews}}]}]}"), ""},
	} {
		found := lintSet(t, c.text)
		switch {
		case c.want == "" && len(found) > 0:
			t.Errorf("%s: %v", name, found)
		case c.want != "" && (len(found) != 1 || found[0].Code != codeEmptyListener || found[0].Level != Info || !strings.Contains(found[0].Message, c.want) || found[0].Path != "spec.egress[0].port.number"):
			t.Errorf("%s: %v, want %s", name, found, c.want)
		}
	}
}

func TestLintRulesBehindOthers(t *testing.T) {
	t.Parallel()
	text := doc("DestinationRule", "mine", "{host: reviews.shop.svc.cluster.local}") +
		"---\n" + strings.Replace(doc("DestinationRule", "theirs", "{host: reviews}"), "name: theirs", "name: theirs, namespace: shop", 1) +
		"---\n" + strings.NewReplacer("name: reviews}", "name: reviews, namespace: shop}", ".default.", ".shop.").Replace(doc("ServiceEntry", "reviews", reviewsEntry))
	found := lintSet(t, text)
	if len(found) != 1 || found[0].Code != codeOvershadowed || found[0].Level != Info || found[0].Name != "theirs" ||
		!strings.Contains(found[0].Message, "follow DestinationRule default/mine (a.yaml:4) and not this rule") {
		t.Error(found)
	}
	second := doc("DestinationRule", "first", "{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {version: v1}}]}") + "---\n" +
		doc("DestinationRule", "second", "{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {version: v2}}, {name: v2, labels: {version: v2}}]}") + lintRegistry
	found = lintSet(t, second)
	if len(found) != 2 || found[0].Path != "spec.trafficPolicy" || found[1].Path != "spec.subsets[0].name" || found[0].Name != "second" || found[0].Level != Warning ||
		!strings.Contains(found[0].Message, "is that of DestinationRule default/first (a.yaml:4), which goes before it, for it was read first") {
		t.Error(found)
	}
	selecting := doc("DestinationRule", "first", "{host: reviews, workloadSelector: {matchLabels: {app: x}}}") + "---\n" +
		doc("DestinationRule", "second", "{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}}}") + lintRegistry
	if found := lintSet(t, selecting); len(found) > 0 {
		t.Errorf("a rule for some callers and one for the others: %v", found)
	}
	used := doc("DestinationRule", "reviews", `{host: reviews, subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]}`) + "---\n" +
		doc("VirtualService", "reviews", `{hosts: [reviews], http: [{route: [{destination: {host: reviews.default, subset: v1}}, {destination: {host: reviews, subset: v1}, weight: 1}]}]}`) + lintRegistry
	if found := lintSet(t, used); len(found) > 0 {
		t.Errorf("a subset that is used: %v", found)
	}
}

func TestLintGateways(t *testing.T) {
	t.Parallel()
	gateway := func(name, spec string) string { return doc("Gateway", name, spec) + "---\n" }
	const http = "{selector: {istio: ingress}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [%s]}]}"
	vs := func(gateways, host string) string {
		return doc("VirtualService", "web", "{hosts: ["+host+"], gateways: ["+gateways+"], http: [{route: [{destination: {host: reviews}}]}]}") + lintRegistry
	}
	for _, c := range []struct {
		name, text, want string
	}{
		{"served", gateway("edge", fmt.Sprintf(http, "shop.example.com")) + vs("edge", "shop.example.com"), ""},
		{"served by namespace", gateway("edge", fmt.Sprintf(http, "default/*.example.com")) + vs("default/edge", "shop.example.com"), ""},
		{"for the mesh too", gateway("edge", fmt.Sprintf(http, "'*'")) + vs("./edge, mesh", "reviews"), ""},
		{"no gateways here", vs("edge", "shop.example.com"), ""},
		{"A-047 missing gateway", gateway("edge", fmt.Sprintf(http, "'*'")) + vs("edgy", "shop.example.com"), "IST0101 Error spec.gateways[0] there is no Gateway default/edgy"},
		{"host of no gateway", gateway("edge", fmt.Sprintf(http, "shop.example.com")) + vs("edge", "store.example.com"), `IST0132 Warning spec.hosts[0] "store.example.com" is no host of edge`},
		{"host for another namespace", gateway("edge", fmt.Sprintf(http, "shop/*")) + vs("edge", "store.example.com"), `IST0132 Warning spec.hosts[0]`},
		{"two gateways, one host", gateway("edge", fmt.Sprintf(http, "a.example.com")) + gateway("other", fmt.Sprintf(http, "b.example.com, a.example.com")) + vs("mesh", "reviews"),
			`IST0145 Warning spec.servers[0].hosts[1] Gateway default/edge has "a.example.com" on port 80`},
		{"two gateways, two hosts", gateway("edge", fmt.Sprintf(http, "a.example.com")) + gateway("other", fmt.Sprintf(http, "b.example.com")) + vs("mesh", "reviews"), ""},
		{"a gateway that cannot be read", gateway("edge", "{server: []}") + vs("edge", "shop.example.com"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			found := lintSet(t, c.text)
			got := ""
			for _, f := range found {
				got += fmt.Sprintf("%s %s %s %s", f.Code, f.Level, f.Path, f.Message)
				if f.Line == 0 || f.Column == 0 {
					t.Errorf("without a position: %v", f)
				}
			}
			if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestLintGatewayDocuments: what istiod refuses of a Gateway (attacks.md A-046).
func TestLintGatewayDocuments(t *testing.T) {
	t.Parallel()
	const port = "{number: 80, name: http, protocol: HTTP}"
	servers := func(s string) string { return "  selector: {istio: ingress}\n  servers: [" + s + "]" }
	server := func(hosts string) string { return servers("{port: " + port + ", hosts: [" + hosts + "]}") }
	runLints(t, "Gateway", []lintCase{
		{"good", server("'*', a.example.com, '*.example.com', ./a.example.com, '*/a.example.com', shop/*"), nil, ""},
		{"A-046 no servers", "  selector: {istio: ingress}", []string{"HDL0125 Error 4:1 spec"}, "serves nothing"},
		{"A-046 port without a name", servers("{port: {number: 80, protocol: HTTP}, hosts: [a]}"), []string{"HDL0125 Error 6:14 spec.servers[0].port"}, "name"},
		{"A-046 no port", servers("{hosts: [a]}"), []string{"HDL0125 Error 6:13 spec.servers[0].port"}, "needs number"},
		{"A-046 port reused", servers("{port: " + port + ", hosts: [a]}, {port: {number: 80, name: tls, protocol: HTTPS}, hosts: [b]}"),
			[]string{"HDL0125 Error 6:116 spec.servers[1].port.protocol"}, "port 80 is HTTP in one server and HTTPS in another"},
		{"A-046 name reused", servers("{port: " + port + ", hosts: [a]}, {port: {number: 81, name: http, protocol: HTTP}, hosts: [b]}"),
			[]string{"HDL0125 Error 6:101 spec.servers[1].port.name"}, "two servers"},
		{"A-046 no hosts", servers("{port: " + port + "}"), []string{"HDL0125 Error 6:13 spec.servers[0].hosts"}, "no host"},
		{"A-046 form of a host", server("a/b/c"), []string{"HDL0125 Error 6:70 spec.servers[0].hosts[0]"}, "namespace/host"},
		{"A-046 namespace of a host", server("'A_/b'"), []string{"HDL0125 Error 6:70 spec.servers[0].hosts[0]"}, "namespace/host"},
		{"A-046 star in a host", server("a.*.b"), []string{"HDL0125 Error 6:70 spec.servers[0].hosts[0]"}, "namespace/host"},
	})
}

// TestLintAuthorizationPolicies: rules of HTTP for ports of another protocol (attacks.md A-052), and policies for nobody.
func TestLintAuthorizationPolicies(t *testing.T) {
	t.Parallel()
	const registry = `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [db.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  addresses: [10.1.0.1]
  ports: [{number: 3306, name: tcp-mysql, protocol: TCP, targetPort: 3307}, {number: 80, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: db}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: db}
spec: {address: 10.0.0.1, labels: {app: db}}
`
	const db = "selector: {matchLabels: {app: db}}, "
	for _, c := range []struct{ name, spec, want, text string }{
		{"ALLOW a method of a TCP port", db + "rules: [{to: [{operation: {methods: [GET], ports: ['80', '3307']}}]}]",
			"HDL0124 Warning spec.rules[0].to[0].operation.ports[1]", "lets in no connection to port 3307 of db.default.svc.cluster.local"},
		{"ALLOW a claim of a TCP port", db + "rules: [{to: [{operation: {ports: ['3307']}}], when: [{key: 'request.auth.claims[a]', values: [b]}]}]",
			"HDL0124 Warning spec.rules[0].to[0].operation.ports[0]", ""},
		{"ALLOW by connection", db + "rules: [{to: [{operation: {ports: ['3307']}}], from: [{source: {principals: [cluster.local/ns/default/sa/web]}}]}]", "", ""},
		{"ALLOW a method", db + "rules: [{to: [{operation: {methods: [GET]}}]}]", "", ""},
		{"ALLOW a method of the port of the service", db + "rules: [{to: [{operation: {methods: [GET], ports: ['3306']}}]}]", "", ""},
		{"DENY a method of a TCP port", db + "action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['3307']}}]}]",
			"HDL0124 Warning spec.rules[0].to[0].operation.ports[0]", "denies every connection to port 3307"},
		{"DENY a path", db + "action: DENY, rules: [{}, {to: [{operation: {paths: [/admin]}}]}]",
			"HDL0124 Warning spec.rules[1]", "denies every connection to port 3307 of db.default.svc.cluster.local, which speaks another protocol"},
		{"DENY a path of the port of HTTP", db + "action: DENY, rules: [{to: [{operation: {paths: [/admin], ports: ['80']}}]}]", "", ""},
		{"DENY a path of other workloads", "selector: {matchLabels: {app: web}}, action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]", "", ""},
		{"DENY a path of all workloads", "action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]", "HDL0124 Warning spec.rules[0]", ""},
		{"for nobody", "selector: {matchLabels: {app: dbs}}, rules: [{}]", "IST0127 Warning spec.selector", "is for nobody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(doc("AuthorizationPolicy", "p", "{"+c.spec+"}"), "networking.istio.io", "security.istio.io", 1) + registry
			resources, _ := Parse("a.yaml", []byte(text))
			var docs []*document
			for _, r := range resources {
				if findings := r.doc.decode(); len(findings) > 0 {
					t.Fatal(findings)
				}
				docs = append(docs, r.doc)
			}
			found := compileSet(docs, &Options{Workload: snapshot.Workload{Namespace: "default", Labels: map[string]string{"app": "web"}}}).findings
			found = slices.DeleteFunc(found, func(f Finding) bool { return f.Code != codeNotHTTP && f.Code != codeNoWorkload })
			got := ""
			for _, f := range found {
				got += fmt.Sprintf("%s %s %s", f.Code, f.Level, f.Path)
				if f.Line == 0 || f.Refused || !strings.Contains(f.Message, c.text) {
					t.Errorf("%v", f)
				}
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestLintsHaveNothingToSayOfSamples: no document of the examples, of the command's tests or of the fixtures, which
// are written as samples and clusters have them, is warned about.
func TestLintsHaveNothingToSayOfSamples(t *testing.T) {
	t.Parallel()
	var files []string
	for _, pattern := range []string{"../examples/*/mesh.d/*.yaml", "../internal/cli/testdata/*/*.yaml", "testdata/*.yaml", "testdata/lint/*.yaml",
		"../examples/bookinfo/scenarios/*/*.yaml"} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, matches...)
	}
	if len(files) < 7 {
		t.Fatalf("only %v", files)
	}
	sets := make(map[string]string)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sets[filepath.Dir(f)] += "---\n" + string(text)
	}
	for dir, text := range sets {
		for _, f := range lintSet(t, text) {
			// Nobody can tell from a rule whether a mirror's service has data of its own.
			if f.Level > Info || f.Code != codeMirrorsWrites {
				t.Errorf("%s: %s", dir, f)
			}
		}
	}
}
