package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/snapshot"
)

// attackRows are the exact inputs of the catalogue's rows as far as they are
// documents: "!" is refused, "?" accepted with a warning or an error finding, "+" accepted. What a row asks for
// beyond that, the messages and the times, is in the tests that are named after it.
var attackRows = []struct {
	row, kind, outcome string
	specs              []string
}{
	{"A-005 wrong types", "VirtualService", "!", []string{`{hosts: a}`, `{hosts: [a], http: {}}`, `{hosts: [a], http: [{match: [{port: "eighty"}], route: [{destination: {host: a}}]}]}`}},
	{"A-009 YAML 1.1", "VirtualService", "!", each(`{hosts: [a], http: [{name: %s, route: [{destination: {host: a}}]}]}`, "0755", "1e3")},
	{"A-009 YAML 1.1, text in YAML 1.2", "VirtualService", "+", each(`{hosts: [a], http: [{name: %s, route: [{destination: {host: a}}]}]}`, "on", "no", "'12:34:56'")},
	{"A-011 unknown fields", "VirtualService", "!", []string{`{hosts: [a], http: [{retrise: {}}]}`, `{host: a}`}},
	{"A-013 enumerations", "DestinationRule", "!", each(`{host: a, trafficPolicy: {loadBalancer: {simple: %s}}}`, "round_robin", "FASTEST", "''", "1")},
	{"A-014 one of two", "VirtualService", "!", []string{`{hosts: [a], http: [{route: [{destination: {host: a}}], redirect: {uri: /}}]}`}},
	{"A-016 null", "VirtualService", "!", []string{`{hosts: [a, null]}`, `{hosts: [a], http: [null]}`, `null`}},
	{"A-018 weights", "VirtualService", "!", each(`{hosts: [a], http: [{route: [{destination: {host: a}, weight: %s}, {destination: {host: a, subset: b}, weight: 0}]}]}`,
		"0", "-1", "2147483648", "4294967296")},
	{"A-018 weights that do not sum to 100", "VirtualService", "?", each(`{hosts: [a], http: [{route: [{destination: {host: a}, weight: %s}, {destination: {host: a, subset: b}, weight: 1}]}]}`, "98", "100")},
	{"A-018 overflow of the sum", "VirtualService", "!", []string{`{hosts: [a], http: [{route: [` + strings.Repeat(`{destination: {host: a}, weight: 2147483647},`, 3) + `]}]}`}},
	{"A-019 no destination", "VirtualService", "!", append([]string{`{hosts: [a], http: [{match: [{port: 80}]}]}`, `{hosts: [a], http: [{route: [{weight: 1}]}]}`, `{hosts: [a], http: [{route: [{destination: {host: ""}}]}]}`},
		each(`{hosts: [a], http: [{route: [{destination: {host: a, port: {number: %s}}}]}]}`, "0", "65536", "-1")...)},
	{"A-022 one host twice", "VirtualService", "!", each(`{hosts: [%s], http: [{route: [{destination: {host: a}}]}]}`, "a, a", "a.b.c, A.B.C.", `"*.b.c", a.b.c`)},
	{"A-024 hosts", "VirtualService", "!", each(`{hosts: [%s], http: [{route: [{destination: {host: a}}]}]}`,
		`"*.*"`, `"a*b"`, `"*"`, "foo_bar", strings.Repeat("a", 64), strings.Repeat("a.", 127)+"a", `""`)},
	{"A-025 expressions", "VirtualService", "!", each(`{hosts: [a], http: [{match: [{uri: {regex: %s}}], route: [{destination: {host: a}}]}]}`,
		`"("`, `"(?=a)"`, `'(a)\1'`, `"(x{1000}){1000}"`, `"`+strings.Repeat("a", 1025)+`"`, `""`)},
	{"A-026 rules behind others", "VirtualService", "?", []string{
		`{hosts: [a], http: [{match: [{uri: {exact: /a}}], route: [{destination: {host: a}}]}, {match: [{uri: {exact: /a}}], route: [{destination: {host: a}}]}]}`,
		`{hosts: [a], http: [{route: [{destination: {host: a}}]}, {match: [{uri: {exact: /a}}], route: [{destination: {host: a}}]}]}`}},
	{"A-027 headers", "VirtualService", "!", each(`{hosts: [a], http: [{headers: {request: {set: {%s}}}, route: [{destination: {host: a}}]}]}`,
		`"": a`, `"a b": c`, `"a:b": c`, `"a\r": b`, `"a\n": b`, `a: "b\r\nc: d"`, `a: "b\u0000"`, `a: "100%"`, `a: "%NO_SUCH%"`)},
	{"A-028 headers of the framing", "VirtualService", "!", each(`{hosts: [a], http: [{headers: {request: {add: {%s: a}}}, route: [{destination: {host: a}}]}]}`,
		`":path"`, "Content-Length", "transfer-encoding", "Connection", "grpc-status", `":method"`)},
	{"A-028 Host of an answer", "VirtualService", "!", []string{`{hosts: [a], http: [{headers: {response: {set: {Host: a}}}, route: [{destination: {host: a}}]}]}`}},
	{"A-029 rewrites", "VirtualService", "!", append(each(`{hosts: [a], http: [{rewrite: {uri: %s}, route: [{destination: {host: a}}]}]}`, `"/a\r\nb"`, "a", "/../a", "/a/../b"),
		`{hosts: [a], http: [{rewrite: {uriRegexRewrite: {match: "/(a)", rewrite: '\2'}}, route: [{destination: {host: a}}]}]}`)},
	{"A-030 redirects", "VirtualService", "!", append(each(`{hosts: [a], http: [{redirect: {uri: /b, redirectCode: %s}}]}`, "200", "299", "400"),
		`{hosts: [a], http: [{match: [{uri: {exact: /a}}], redirect: {uri: /a}}]}`)},
	{"A-031 direct responses", "VirtualService", "!", append(each(`{hosts: [a], http: [{directResponse: {status: %s}}]}`, "99", "600"),
		`{hosts: [a], http: [{directResponse: {status: 200, body: {string: "`+strings.Repeat("a", 1<<20+1)+`"}}}]}`)},
	{"A-032 mirrors", "VirtualService", "!", each(`{hosts: [a], http: [{route: [{destination: {host: a}}], %s}]}`,
		"mirror: {host: a}, mirrorPercentage: {value: 101}", "mirror: {host: a}, mirrorPercentage: {value: -1}", "mirror: {host: a}, mirrors: [{destination: {host: a}}]", "mirrors: [{percentage: {value: 1}}]")},
	{"A-033 faults", "VirtualService", "!", each(`{hosts: [a], http: [{fault: %s, route: [{destination: {host: a}}]}]}`,
		"{delay: {fixedDelay: -1s, percentage: {value: 1}}}", "{abort: {httpStatus: 700, percentage: {value: 1}}}", "{abort: {httpStatus: 500, percentage: {value: 100.01}}}", "{abort: {grpcStatus: SAD, percentage: {value: 1}}}")},
	{"A-034 durations", "VirtualService", "!", each(`{hosts: [a], http: [{timeout: %s, route: [{destination: {host: a}}]}]}`, "-1s", "1e9h", "5", "5 s", "NaN")},
	{"A-034 no timeout", "VirtualService", "+", []string{`{hosts: [a], http: [{timeout: 0s, route: [{destination: {host: a}}]}]}`}},
	{"A-035 retries", "VirtualService", "!", each(`{hosts: [a], http: [{retries: {%s}, route: [{destination: {host: a}}]}]}`,
		"attempts: -1", "attempts: 2, retryOn: always", "attempts: 0, retryOn: 5xx", "attempts: 2, retryOn: '99'")},
	{"A-035 many retries, or long ones", "VirtualService", "?", each(`{hosts: [a], http: [{timeout: 1s, retries: {%s}, route: [{destination: {host: a}}]}]}`, "attempts: 1000", "attempts: 2, perTryTimeout: 2s")},
	{"A-036 POST", "VirtualService", "?", []string{`{hosts: [a], http: [{match: [{method: {exact: POST}}], retries: {attempts: 2, retryOn: 5xx}, route: [{destination: {host: a}}]}]}`}},
	{"A-037 balancers", "DestinationRule", "!", append(each(`{host: a, trafficPolicy: {loadBalancer: {consistentHash: {%s}}}}`, "", "maglev: {}", "httpHeaderName: a, useSourceIp: true", "httpCookie: {name: '', ttl: 0s}",
		"httpHeaderName: a, maglev: {tableSize: 65536}"), `{host: a, trafficPolicy: {loadBalancer: {simple: BEST}}}`)},
	{"A-038 localities", "DestinationRule", "!", each(`{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {%s}}}}`,
		`distribute: [{from: eu/a, to: {eu/a: 99}}]`, `distribute: [{from: eu/a, to: {eu/a: 100}}, {from: eu/a, to: {eu/b: 100}}]`,
		`distribute: [{from: "eu/*", to: {eu/a: 100}}, {from: eu/a, to: {eu/b: 100}}]`, `failover: [{from: eu, to: us}, {from: eu, to: asia}]`)},
	{"A-039 pools", "DestinationRule", "!", each(`{host: a, trafficPolicy: {connectionPool: {%s}}}`,
		"tcp: {maxConnections: -1}", "tcp: {maxConnections: 2147483648}", "http: {maxRequestsPerConnection: -1}", "http: {http2KeepAlive: {interval: 1s}}")},
	{"A-040 ejection", "DestinationRule", "!", each(`{host: a, trafficPolicy: {outlierDetection: {%s}}}`, "maxEjectionPercent: 101", "interval: 0s", "minHealthPercent: 101")},
	{"A-041 limits", "RateLimit", "!", each(`{direction: INBOUND, limits: [{name: a, %s}]}`,
		"requests: 5", "unit: SECOND", "requests: 0, unit: SECOND", "requests: -1, unit: SECOND", "requests: 18446744073709551616, unit: SECOND", "requests: 1.5, unit: SECOND",
		"requests: 5, unit: second", "requests: 5, unit: WEEK", "requests: 5, unit: SECOND, burst: 0",
		"requests: 5, unit: SECOND, by: [{}], maxKeys: 1", "requests: 5, unit: SECOND, by: [{header: ''}], maxKeys: 1", "requests: 5, unit: SECOND, by: [{header: ':path'}], maxKeys: 1",
		"requests: 5, unit: SECOND, by: [{header: a, sourceAddress: true}], maxKeys: 1", "requests: 5, unit: SECOND, by: [{header: a}]", "requests: 5, unit: SECOND, by: [{header: a}], maxKeys: 0",
		"requests: 5, unit: SECOND, by: [{header: a}], maxKeys: 100001", "requests: 5, unit: SECOND, maxKeys: 1", "requests: 5, unit: SECOND, by: [{jwtClaim: a..b}], maxKeys: 1",
		"requests: 5, unit: SECOND, by: [{jwtClaim: sub, peerIdentity: true}], maxKeys: 1", "requests: 5, unit: SECOND, by: [{route: true}], maxKeys: 1", "requests: 5, unit: SECOND, routes: [r]",
		"requests: 5, unit: SECOND, match: [{gateways: [mesh]}]", "requests: 5, unit: SECOND, match: [{uri: {regex: '('}}]", "requests: 5, unit: SECOND, per: 1s")},
	{"A-041 limits without a name, two of one name, none", "RateLimit", "!", each(`{direction: INBOUND, limits: [%s]}`,
		"{requests: 5, unit: SECOND}", "{name: 'a b', requests: 5, unit: SECOND}", "{name: a, requests: 5, unit: SECOND}, {name: a, requests: 6, unit: SECOND}", "", "null")},
	{"A-041 whose calls", "RateLimit", "!", each(`{%s, limits: [{name: a, requests: 5, unit: SECOND}]}`,
		"hosts: [a]", "direction: inbound", "direction: BOTH", "direction: OUTBOUND", "direction: OUTBOUND, hosts: []", "direction: OUTBOUND, hosts: ['a b']", "direction: INBOUND, hosts: [a]",
		"direction: INBOUND, workloadSelector: {labels: {'a b': c}}", "direction: INBOUND, selector: {}")},
	{"A-041 whose caller", "RateLimit", "!", each(`{direction: OUTBOUND, hosts: [a], limits: [{name: a, requests: 5, unit: SECOND, maxKeys: 1, by: [%s]}]}`,
		"{jwtClaim: sub}", "{peerIdentity: true}", "{sourceAddress: true}")},
	{"A-041 calls have no source", "RateLimit", "!", []string{`{direction: OUTBOUND, hosts: [a], limits: [{name: a, requests: 5, unit: SECOND, by: [{sourceAddress: true}], maxKeys: 1}]}`}},
	{"A-041 a selector that selects all", "RateLimit", "?", []string{`{direction: INBOUND, workloadSelector: {}, limits: [{name: a, requests: 5, unit: SECOND}]}`}},
	{"A-041 good ones", "RateLimit", "+", append(each(`{direction: INBOUND, limits: [{name: a, requests: 5, unit: SECOND, %s}]}`,
		"burst: 1", "by: [{header: end-user}, {sourceAddress: true}], maxKeys: 100000", "match: [{uri: {prefix: /a}, method: {exact: GET}, headers: {b: {exact: c}}}]"),
		`{direction: OUTBOUND, hosts: ["*.b"], rateLimitHeaders: true, rateLimitedAsResourceExhausted: true, limits: [{name: a, requests: 2147483647, unit: DAY}]}`)},
	{"A-041 circuit breakers", "ResiliencePolicy", "!", append(each(`{hosts: [a], circuitBreaker: {%s}}`,
		"", "consecutiveFailures: 0", "consecutiveFailures: -1", "consecutiveFailures: 4294967296", "failurePercent: 0", "failurePercent: 101", "failurePercent: 50, minimumRequests: 0",
		"consecutiveFailures: 5, openFor: 0s", "consecutiveFailures: 5, openFor: 25h", "consecutiveFailures: 5, openFor: 30", "consecutiveFailures: 5, halfOpenRequests: 0",
		"consecutiveFailures: 5, minimumRequests: 5", "consecutiveFailures: 5, interval: 5s", "failurePercent: 50, interval: -1s", "openFor: 1s"),
		`{hosts: [a]}`, `{circuitBreaker: {consecutiveFailures: 5}}`, `{hosts: [], circuitBreaker: {consecutiveFailures: 5}}`, `{hosts: [a], circuitBreaker: null}`)},
	{"A-041 good circuit breakers", "ResiliencePolicy", "+", each(`{hosts: ["*.b"], circuitBreaker: {%s}}`,
		"consecutiveFailures: 5", "failurePercent: 100, minimumRequests: 1, interval: 1ms, openFor: 24h, halfOpenRequests: 10")},
	{"A-062 services", "ServiceEntry", "!", []string{
		`{hosts: [""], ports: [{number: 80, name: http}], resolution: DNS}`,
		`{hosts: [10.0.0.1], ports: [{number: 80, name: http}], resolution: DNS}`,
		`{hosts: [a.b], addresses: [10.0.0.1, 10.0.0.1], ports: [{number: 80, name: http}], resolution: DNS}`,
		`{hosts: [a.b], addresses: [10.0.0.0/8], ports: [{number: 80, name: http}], resolution: DNS}`,
		`{hosts: [a.b], ports: [{number: 80, name: http}], resolution: STATIC}`,
		`{hosts: [a.b], ports: [{number: 80, name: http}], resolution: STATIC, endpoints: [{address: 10.0.0.1, ports: {grpc: 80}}]}`,
		`{hosts: [a.b], ports: [{number: 80, name: http}, {number: 80, name: web}], resolution: DNS}`,
		`{hosts: [a.b], ports: [{number: 80, name: http}, {number: 81, name: http}], resolution: DNS}`,
		`{hosts: [a.b], ports: [{number: 80, name: http}], resolution: STATIC, endpoints: [{address: "unix://run/a"}]}`,
	}},
	{"A-065 exportTo", "ServiceEntry", "!", each(`{hosts: [a.b], ports: [{number: 80, name: http}], resolution: DNS, exportTo: [%s]}`, `".", "*"`, `"~", a`, `a, a`, `"*", "*"`)},
}

func each(format string, values ...string) []string {
	specs := make([]string, len(values))
	for i, v := range values {
		specs[i] = fmt.Sprintf(format, v)
	}
	return specs
}

func TestAttackRows(t *testing.T) {
	t.Parallel()
	for _, c := range attackRows {
		t.Run(c.row, func(t *testing.T) {
			t.Parallel()
			for _, spec := range c.specs {
				found := allFindings(doc(c.kind, "x", spec))
				got := "+"
				for _, f := range found {
					switch {
					case f.Refused:
						got = "!"
					case f.Level >= Warning && got == "+" && f.Code != "IST0174" && !strings.HasPrefix(f.Code, "IST0101"): // the service that is not there
						got = "?"
					}
					if f.Line < 1 || f.Column < 1 || f.Message == "" {
						t.Errorf("%.200s\nwithout a position: %+v", spec, f)
					}
				}
				if got != c.outcome {
					t.Errorf("%.200s\ngot %s, want %s: %v", spec, got, c.outcome, found)
				}
			}
		})
	}
}

// allFindings is everything that is found about a text, of documents alone and together, as a mesh finds it.
func allFindings(text string) []Finding {
	resources, found := Parse("a.yaml", []byte(text))
	var docs []*document
	for i := range resources {
		d := resources[i].doc
		if kinds[d.kind()].state == kindServed {
			found = append(found, d.decode()...)
			if d.spec == nil {
				continue
			}
			found = append(found, d.validate()...)
		}
		docs = append(docs, d)
	}
	if !refusing(found) {
		found = append(found, compileSet(docs, &Options{Workload: snapshot.Workload{Namespace: "default"}}).findings...)
	}
	return found
}

// TestA015 is in TestTheRegisterIsTrue, field by field; here it is the kinds.
func TestA015KindsThatAreNotBuilt(t *testing.T) {
	t.Parallel()
	for kind, info := range kinds {
		if info.state == kindServed {
			continue
		}
		text := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: x}\nspec: {}\n", info.apiVersions()[0], kind)
		s := newWorld(t, Options{}, text).Status()
		found := slices.DeleteFunc(s.Findings, func(f Finding) bool { return f.Code == codeGateway })
		if s.Refused != nil {
			found = s.Refused.Findings
		}
		if (s.Refused != nil) != (info.state == kindRestricting) || len(found) != 1 || found[0].Line != 2 {
			t.Errorf("%s: refused %v, %v", kind, s.Refused, found)
		}
	}
}

// TestInstalledPolicyIsNotOverlooked: REGISTRY_ONLY in a document that is otherwise of no concern must not be passed over.
func TestInstalledPolicyIsNotOverlooked(t *testing.T) {
	t.Parallel()
	for mesh, refused := range map[string]bool{
		"{}":                            false,
		"{outboundTrafficPolicy: null}": false,
		"{outboundTrafficPolicy: {mode: ALLOW_ANY}}":     false,
		"{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}": true,
		"{outboundTrafficPolicy: {}}":                    true,
	} {
		text := "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: x}\nspec: {meshConfig: " + mesh + "}\n"
		s := newWorld(t, Options{}, text).Status()
		if (s.Refused != nil) != refused {
			t.Errorf("%s: %v %v", mesh, s.Refused, s.Findings)
		}
		if s.Refused != nil && (s.Refused.Findings[0].Line != 4 || s.Refused.Findings[0].Code != codeRestricts) {
			t.Errorf("%s: %v", mesh, s.Refused.Findings)
		}
		if s := newWorld(t, Options{IgnoredKinds: []string{"IstioOperator"}}, text).Status(); s.Refused != nil {
			t.Errorf("%s, ignored: %v", mesh, s.Refused)
		}
	}
}

// TestA084 takes an IPv4 address in the IPv6 spelling for itself, wherever documents have addresses today.
func TestA084MappedAddresses(t *testing.T) {
	t.Parallel()
	const entry = `{hosts: [a.b], addresses: [%s], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}`
	if found := allFindings(doc("ServiceEntry", "x", fmt.Sprintf(entry, `10.0.0.1, "::ffff:10.0.0.1"`))); !refusing(found) {
		t.Error("one address in two spellings is accepted as two")
	}
	w := newWorld(t, Options{}, doc("ServiceEntry", "x", fmt.Sprintf(entry, `"::ffff:10.0.0.1"`)))
	if v, _ := w.live.Tables[snapshot.Mesh].Lookup("10.0.0.1", 80); v == nil {
		t.Errorf("the service is not found by its address; findings %v", w.Status().Findings)
	}
}
