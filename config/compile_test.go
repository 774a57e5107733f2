package config

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/snapshot"
)

// world is a Joined over inline documents, with what it published.
type world struct {
	*Joined
	registry discovery.Registry
	inline   *Inline
	live     *snapshot.Snapshot
	count    int
}

func newWorld(t *testing.T, o Options, docs ...string) *world {
	t.Helper()
	w := &world{inline: NewInline(texts(docs)...)}
	w.Joined = Join(o, &w.registry, w.inline)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.Run(ctx, func(_ context.Context, s *snapshot.Snapshot) error {
			w.live, w.count = s, w.count+1
			return nil
		})
	}()
	<-w.Ready()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func texts(docs []string) [][]byte {
	var list [][]byte
	for _, d := range docs {
		list = append(list, []byte(d))
	}
	return list
}

func doc(kind, name, spec string) string {
	apiVersion := "networking.istio.io/v1"
	if k := kinds[kind]; k.group == heddleGroup {
		apiVersion = k.apiVersions()[0]
	}
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", apiVersion, kind, name, spec)
}

const (
	reviewsEntry = `{hosts: [reviews.default.svc.cluster.local], resolution: STATIC, ports: [{number: 9080, name: http, protocol: HTTP}],
  endpoints: [{address: 10.0.0.1, labels: {version: v1}}, {address: 10.0.0.2, labels: {version: v2}}]}`
	reviewsRule = `{host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}`
)

// wantFindings compares the findings' codes and positions with "CODE Level file:line:col path" lines.
func wantFindings(t *testing.T, got []Finding, want ...string) {
	t.Helper()
	var lines []string
	for _, f := range got {
		lines = append(lines, fmt.Sprintf("%s %s %s %s", f.Code, f.Level, f.Position(), f.Path))
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("findings:\n%s\nwant:\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
		for _, f := range got {
			t.Log(f)
		}
	}
}

// TestReferences: what points at nothing is an error finding, and is served as Istio serves it.
func TestReferences(t *testing.T) {
	t.Parallel()
	entry, rule := doc("ServiceEntry", "reviews", reviewsEntry), doc("DestinationRule", "reviews", reviewsRule)
	vs := func(spec string) string { return doc("VirtualService", "reviews", spec) }
	cases := []struct {
		name string
		docs []string
		want []string
		text string // in the first finding
	}{
		{"nothing to say", []string{entry, rule, vs(`{hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}`)}, nil, ""},
		{"A-020 dangling subset", []string{entry, rule, vs(`{hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v3}}]}]}`)},
			[]string{"IST0101 Error <inline 3>:4:80 spec.http[0].route[0].destination.subset"}, `has v1, v2`},
		{"A-020 no rule for the subset", []string{entry, vs(`{hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v3}}]}]}`)},
			[]string{"IST0101 Error <inline 2>:4:80 spec.http[0].route[0].destination.subset"}, `no DestinationRule applies`},
		{"A-021 subset selects nothing", []string{entry, doc("DestinationRule", "reviews", `{host: reviews, subsets: [{name: v9, labels: {version: v9}}]}`)},
			[]string{"IST0173 Error <inline 2>:4:44 spec.subsets[0].labels"}, "flag UH"},
		{"destination host unknown, a near one exists", []string{entry, vs(`{hosts: [reviews], http: [{route: [{destination: {host: review}}]}]}`)},
			[]string{"IST0101 Error <inline 2>:4:63 spec.http[0].route[0].destination.host"}, `did you mean "reviews.default.svc.cluster.local"?`},
		{"dotless entry stays literal", []string{strings.Replace(entry, "reviews.default.svc.cluster.local", "reviews", 1), vs(`{hosts: [reviews], http: [{route: [{destination: {host: reviews}}]}]}`)},
			[]string{"IST0101 Error <inline 2>:4:63 spec.http[0].route[0].destination.host"}, `write the ServiceEntry's host that way`},
		{"destination port unknown", []string{entry, vs(`{hosts: [reviews], http: [{route: [{destination: {host: reviews, port: {number: 80}}}]}]}`)},
			[]string{"IST0101 Error <inline 2>:4:87 spec.http[0].route[0].destination.port.number"}, "its ports are 9080"},
		{"A-022 two VirtualServices, one host", []string{entry, vs(`{hosts: [reviews], http: [{route: [{destination: {host: reviews}}]}]}`),
			doc("VirtualService", "other", `{hosts: [reviews.default.svc.cluster.local], http: [{route: [{destination: {host: reviews}}]}]}`)},
			[]string{"IST0109 Error <inline 3>:4:16 spec.hosts[0]"}, "VirtualService default/reviews (<inline 2>:4), which is in effect, for it was read first"},
		{"several ports, none named", []string{
			strings.Replace(entry, "ports: [", "ports: [{number: 9081, name: http-b, protocol: HTTP}, ", 1),
			vs(`{hosts: [reviews], http: [{route: [{destination: {host: reviews}}]}]}`)},
			[]string{"IST0112 Error <inline 2>:4:43 spec.http[0].route[0].destination"}, "several ports (9081, 9080)"},
		{"A-063 one host, two protocols", []string{entry,
			strings.NewReplacer("name: reviews}", "name: again}", "protocol: HTTP}", "protocol: GRPC}").Replace(entry)},
			[]string{"IST0177 Warning <inline 2>:4:117 spec.ports[0].protocol"}, "the first is used"},
		{"rule for nothing", []string{doc("DestinationRule", "ratings", `{host: ratings}`)},
			[]string{"IST0174 Warning <inline 1>:4:14 spec.host"}, "not in the registry"},
		{"selector selects nothing", []string{doc("ServiceEntry", "x", `{hosts: [x.default.svc.cluster.local], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], workloadSelector: {labels: {app: x}}, location: MESH_INTERNAL}`)},
			[]string{"IST0127 Warning <inline 1>:4:117 spec.workloadSelector"}, "no WorkloadEntry"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Options{}, c.docs...)
			s := w.Status()
			if s.Refused != nil {
				t.Fatal(s.Refused)
			}
			wantFindings(t, s.Findings, c.want...)
			if c.text != "" && !strings.Contains(s.Findings[0].String(), c.text) {
				t.Errorf("%s\ndoes not say %q", s.Findings[0], c.text)
			}
			strict := newWorld(t, Options{Strict: true}, c.docs...)
			if refused := strict.Status().Refused != nil; refused != (len(c.want) > 0) {
				t.Errorf("strict refused: %v", refused)
			}
		})
	}
}

// TestRefusedKinds: a kind that restricts is refused unless the user says otherwise; one that adds is
// warned about; one that is not the mesh's passes with a line.
func TestRefusedKinds(t *testing.T) {
	t.Parallel()
	policy := "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: deny}\nspec: {}\n"
	gateway := doc("Gateway", "g", "{servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a]}]}")
	deployment := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 1}\n"
	w := newWorld(t, Options{}, policy)
	if r := w.Status().Refused; r == nil || !strings.Contains(r.Error(), "--ignore-kind") {
		t.Errorf("EnvoyFilter: %v", r)
	} else {
		wantFindings(t, r.Findings, "HDL0002 Error <inline 1>:2:7 kind")
	}
	w = newWorld(t, Options{IgnoredKinds: []string{"EnvoyFilter"}}, policy, gateway, deployment)
	if s := w.Status(); s.Refused != nil {
		t.Error(s.Refused)
	} else {
		wantFindings(t, s.Findings, "HDL0004 Info <inline 3>:2:7 kind", "HDL0004 Info <inline 1>:2:7 kind", "HDL0003 Warning <inline 2>:2:7 kind")
	}
}

// TestGatewayRulesLoad: what is not built yet refuses a set only where the mesh's own calls would need it.
func TestGatewayRulesLoad(t *testing.T) {
	t.Parallel()
	vs := func(gateways string) string {
		return doc("VirtualService", "edge", `{hosts: ["shop.example.com"], gateways: `+gateways+`, http: [{match: [{headers: {"@request.auth.claims.sub": {exact: a}}}], route: [{destination: {host: a}}]}]}`)
	}
	w := newWorld(t, Options{}, vs("[edge]"))
	if s := w.Status(); s.Refused != nil || len(s.Findings) != 1 || s.Findings[0].Code != codeUnbuilt || s.Findings[0].Level != Warning {
		t.Errorf("%+v", s)
	}
	if w := newWorld(t, Options{}, vs("[edge, mesh]")); w.Status().Refused == nil {
		t.Error("a rule for the mesh that is not built was taken")
	}
}

// TestLastGoodKeeps: — all or nothing, and the good set after a bad one goes live.
func TestLastGoodKeeps(t *testing.T) {
	t.Parallel()
	entry := doc("ServiceEntry", "reviews", reviewsEntry)
	w := newWorld(t, Options{}, entry)
	good := w.live
	if good == nil || w.Status().Version != "1" {
		t.Fatal("nothing live")
	}
	bad := entry + "---\n" + doc("VirtualService", "v", "{hosts: [a], htp: []}")
	err := w.inline.Replace(t.Context(), []byte(bad))
	var refused *ConfigError
	if !asConfigError(err, &refused) || w.live != good || w.Status().Version != "1" || w.Status().Refused == nil {
		t.Fatalf("a bad set was taken: %v", err)
	}
	if f := refused.Findings[0]; f.Document != 2 || f.Line != 10 {
		t.Errorf("the finding is at document %d, line %d", f.Document, f.Line)
	}
	if w.registry.Get(discovery.Key{Host: "reviews.default.svc.cluster.local", Port: 9080}).Len() != 2 {
		t.Error("the endpoints were disturbed")
	}
	if err := w.inline.Replace(t.Context(), []byte(entry), []byte(doc("DestinationRule", "r", reviewsRule))); err != nil {
		t.Fatal(err)
	}
	if w.Status().Refused != nil || w.Status().Version != "2" || w.Status().Documents != 2 {
		t.Errorf("status %+v", w.Status())
	}
	if err := w.inline.Replace(t.Context()); err != nil || w.Status().Documents != 0 || len(w.registry.Keys()) != 0 {
		t.Errorf("empty set: %v, keys %v", err, w.registry.Keys())
	}
}

func asConfigError(err error, to **ConfigError) bool {
	return errors.As(err, to)
}

// TestChurnCompilesNothing: WorkloadEntries come and go without a compilation.
func TestChurnCompilesNothing(t *testing.T) {
	t.Parallel()
	entry := doc("ServiceEntry", "x", `{hosts: [x.default.svc.cluster.local], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], workloadSelector: {labels: {app: x}}}`)
	workload := func(i int) string {
		return doc("WorkloadEntry", fmt.Sprintf("x-%d", i), fmt.Sprintf(`{address: 10.0.0.%d, labels: {app: x}, weight: %d, ports: {http: 8080}}`, i, i))
	}
	w := newWorld(t, Options{}, entry, workload(1))
	key := discovery.Key{Host: "x.default.svc.cluster.local", Port: 80}
	for i := 2; i < 6; i++ {
		if err := w.inline.Replace(t.Context(), []byte(entry), []byte(workload(1)), []byte(workload(i))); err != nil {
			t.Fatal(err)
		}
		set := w.registry.Get(key)
		if set.Len() != 2 || set.At(1).Address != discovery.TCP(fmt.Sprintf("10.0.0.%d", i), 8080) || set.At(1).Weight != uint32(i) ||
			set.At(1).Workload != fmt.Sprintf("WorkloadEntry default/x-%d", i) {
			t.Fatalf("set %+v", set)
		}
	}
	if w.Compiles() != 1 || w.count != 1 {
		t.Errorf("%d compilations, %d publications", w.Compiles(), w.count)
	}
}

// TestPartialUpdate: a source that sends changes loses only the document that is bad, and keeps its last
// good version.
func TestPartialUpdate(t *testing.T) {
	t.Parallel()
	parse := func(text string) Resource {
		rs, f := Parse("k8s", []byte(text))
		if len(rs) != 1 {
			t.Fatal(f)
		}
		return rs[0]
	}
	updates := make(chan Update)
	verdicts := make(chan []Verdict)
	src := sourceFunc(func(ctx context.Context, apply func(Update) []Verdict) error {
		for u := range updates {
			verdicts <- apply(u)
		}
		return nil
	})
	var registry discovery.Registry
	j := Join(Options{}, &registry, src)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = j.Run(t.Context(), func(context.Context, *snapshot.Snapshot) error { return nil })
	}()
	send := func(u Update) []Verdict {
		updates <- u
		return <-verdicts
	}
	entry := doc("ServiceEntry", "reviews", reviewsEntry)
	v := send(Update{Upsert: []Resource{parse(entry), parse(doc("VirtualService", "v", "{hosts: [a.example.com], http: [{route: [{destination: {host: reviews}}]}]}"))}, Full: true})
	if len(v) != 2 || !v[0].Accepted || !v[1].Accepted {
		t.Fatalf("%+v", v)
	}
	v = send(Update{Upsert: []Resource{
		parse(doc("VirtualService", "v", "{hosts: [a.example.com], htp: []}")),
		parse(doc("DestinationRule", "r", reviewsRule))}})
	if len(v) != 2 || v[0].Accepted || len(v[0].Findings) == 0 || !v[1].Accepted {
		t.Errorf("%+v", v)
	}
	if s := j.Status(); s.Documents != 3 || s.Refused != nil {
		t.Errorf("status %+v", s)
	}
	send(Update{Remove: []Key{{"VirtualService", "default", "v"}}})
	if s := j.Status(); s.Documents != 2 {
		t.Errorf("%d documents after a removal", s.Documents)
	}
	close(updates)
	<-done
}

type sourceFunc func(context.Context, func(Update) []Verdict) error

func (f sourceFunc) Run(ctx context.Context, apply func(Update) []Verdict) error {
	return f(ctx, apply)
}

// TestTwoSources: what one brings the other may refer to; the same document in both is refused.
func TestTwoSources(t *testing.T) {
	t.Parallel()
	run := func(a, b string) Status {
		var registry discovery.Registry
		once := func(text string) Source {
			return sourceFunc(func(_ context.Context, apply func(Update) []Verdict) error {
				apply(inlineUpdate([][]byte{[]byte(text)}))
				return nil
			})
		}
		silent := sourceFunc(func(context.Context, func(Update) []Verdict) error { return nil })
		j := Join(Options{}, &registry, once(a), silent, once(b))
		if err := j.Run(t.Context(), func(context.Context, *snapshot.Snapshot) error { return nil }); err != nil {
			t.Fatal(err)
		}
		<-j.Ready()
		return j.Status()
	}
	entry, rule := doc("ServiceEntry", "reviews", reviewsEntry), doc("DestinationRule", "r", reviewsRule)
	if s := run(entry, rule); s.Refused != nil || len(s.Findings) != 0 || s.Documents != 2 {
		t.Errorf("%+v", s)
	}
	if s := run(entry, entry); s.Refused == nil || s.Refused.Findings[0].Code != codeDuplicate ||
		!strings.Contains(s.Refused.Error(), "<inline 1>:3") {
		t.Errorf("%+v", s.Refused)
	}
}

func TestPolicyPrecedence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, doc("ServiceEntry", "reviews", strings.Replace(reviewsEntry, "ports: [", "ports: [{number: 9081, name: grpc, protocol: GRPC}, ", 1)),
		doc("DestinationRule", "reviews", `
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    connectionPool: {tcp: {connectTimeout: 3s}}
    portLevelSettings: [{port: {number: 9081}, loadBalancer: {simple: ROUND_ROBIN}}]
  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
  - {name: v2, labels: {version: v2}, trafficPolicy: {portLevelSettings: [{port: {number: 9080}}]}}`),
		doc("VirtualService", "reviews", `{hosts: [reviews], http: [{route: [
  {destination: {host: reviews, subset: v1, port: {number: 9080}}, weight: 1}, {destination: {host: reviews, subset: v2, port: {number: 9080}}, weight: 1},
  {destination: {host: reviews, subset: v1, port: {number: 9081}}, weight: 1}]}]}`))
	want := map[string]snapshot.Policy{
		"outbound|9080||reviews.default.svc.cluster.local":   {Config: balance.Config{Algorithm: balance.Random}, ConnectTimeout: 3e9},
		"outbound|9081||reviews.default.svc.cluster.local":   {Config: balance.Config{Algorithm: balance.RoundRobin}, Protocol: snapshot.HTTP2},
		"outbound|9080|v1|reviews.default.svc.cluster.local": {Config: balance.Config{Algorithm: balance.RoundRobin}, ConnectTimeout: 3e9},
		"outbound|9080|v2|reviews.default.svc.cluster.local": {},
		"outbound|9081|v1|reviews.default.svc.cluster.local": {Config: balance.Config{Algorithm: balance.RoundRobin}, Protocol: snapshot.HTTP2},
	}
	for _, c := range w.live.Clusters {
		p, ok := want[c.Name]
		if !ok || !c.Policy.Same(&p) {
			t.Errorf("%s: %+v, want %+v", c.Name, c.Policy, p)
		}
		delete(want, c.Name)
	}
	if len(want) > 0 {
		t.Errorf("not compiled: %v", want)
	}
}

// FuzzCompile: whatever decodes and validates compiles, and what it compiled to answers without a panic.
func FuzzCompile(f *testing.F) {
	entry := doc("ServiceEntry", "reviews", reviewsEntry)
	rule := doc("DestinationRule", "reviews", reviewsRule)
	f.Add(entry+"---\n"+rule+"---\n"+doc("VirtualService", "v", `{hosts: [reviews], http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: reviews, subset: v1}}]}]}`), "/a")
	f.Add(doc("VirtualService", "v", `{hosts: ["*.example.com", x], http: [{match: [{headers: {a: {regex: "*"}}, withoutHeaders: {b: {}}}], retries: {attempts: 2, retryOn: "5xx"}, route: [{destination: {host: "y"}}]}]}`), "/")
	f.Add(kubeReviews+"---\n"+kubeSliceOf("s", "reviews", "endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: p}}]\nports: [{name: http, port: 8080}]")+
		"---\n"+kubeDoc("Pod", "name: p, labels: {app: reviews}", "status: {podIP: 10.0.0.1}")+
		"---\n"+kubeDoc("Service", "name: out", "spec: {type: ExternalName, externalName: "+reviewsFQDN+"}")+
		"---\n"+entry+"---\n"+doc("VirtualService", "v", `{hosts: [out], http: [{route: [{destination: {host: out}}]}]}`), "/")
	f.Add(entry+"---\n"+doc("VirtualService", "v", `{hosts: [reviews], http: [{match: [{uri: {prefix: /a}}], mirror: {host: reviews}, delegate: {name: w}}, {delegate: {name: v}}]}`)+
		"---\n"+doc("VirtualService", "w", `{http: [{match: [{uri: {exact: /a/b}}, {headers: {x: {}}}], route: [{destination: {host: reviews}}]}, {redirect: {uri: /}}]}`)+
		"---\n"+doc("Sidecar", "s", `{egress: [{port: {number: 9080}, hosts: ["./*", "~shop/*"]}, {hosts: ["*/reviews.default.svc.cluster.local"]}], outboundTrafficPolicy: {}}`)+
		"---\n"+meshDoc("m", "{defaultServiceExportTo: [.], rootNamespace: x, defaultHttpRetryPolicy: {attempts: 0}}"), "/a/b")
	f.Add(entry+"---\n"+doc("RateLimit", "a", outboundLimit)+"---\n"+doc("RateLimit", "b", `{direction: INBOUND, workloadSelector: {labels: {a: b}}, limits: [{name: a, requests: 1, unit: DAY, match: [{uri: {regex: "/a.*"}}], by: [{sourceAddress: true}], maxKeys: 3}]}`)+
		"---\n"+doc("ResiliencePolicy", "a", `{hosts: ["*", reviews], circuitBreaker: {failurePercent: 50, interval: 1h}}`), "/a")
	f.Fuzz(func(t *testing.T, text, path string) {
		resources, findings := Parse("f", []byte(text))
		if refusing(findings) {
			return
		}
		var docs []*document
		for i := range resources {
			d, fs := resources[i].parsed()
			if d == nil || refusing(fs) || kinds[d.key.Kind].state != kindServed {
				continue
			}
			if refusing(d.decode()) || refusing(d.validate()) {
				continue
			}
			docs = append(docs, d)
		}
		w := snapshot.Workload{Namespace: "default"}
		c := compileSet(docs, &Options{Workload: w})
		endpointSets(docs, w)
		path, ok := call.CanonicalPath(path)
		if !ok {
			return
		}
		for _, f := range c.findings {
			if f.Line < 1 || f.Column < 1 || f.Message == "" {
				t.Fatalf("finding without a position: %+v", f)
			}
		}
		for _, v := range c.snapshot.Tables[snapshot.Mesh].VirtualHosts() {
			q := &call.Request{Method: "GET", Scheme: "http", Host: v.Host, Port: v.Port, Path: path, Headers: call.HTTPHeaders(http.Header{"A": {"1"}})}
			r, _ := v.Match(q)
			if want, _, _ := v.Explain(q); r != want {
				t.Fatalf("Match and Explain differ on %s", v.Host)
			}
			if r == nil {
				continue
			}
			if d := r.Pick(1 << 63); d != nil && d.Index >= len(c.snapshot.Clusters) {
				t.Fatalf("destination %+v beyond the clusters", d)
			} else if d != nil && d.Index < 0 && d.Missing == "" {
				t.Fatalf("destination %+v is missing without a reason", d)
			}
		}
	})
}
