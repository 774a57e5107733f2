package config

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

func kubeDoc(kind, metadata, rest string) string {
	apiVersion := "v1"
	if kind == "EndpointSlice" {
		apiVersion = "discovery.k8s.io/v1"
	}
	return "apiVersion: " + apiVersion + "\nkind: " + kind + "\nmetadata: {" + metadata + "}\n" + rest + "\n"
}

// kubeSliceOf is an EndpointSlice of a Service of namespace default.
func kubeSliceOf(name, service, rest string) string {
	return kubeDoc("EndpointSlice", "name: "+name+", labels: {kubernetes.io/service-name: "+service+"}", "addressType: IPv4\n"+rest)
}

const (
	kubeReviews = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews}\nspec: {selector: {app: reviews}, ports: [{port: 9080, name: http, targetPort: 8080}]}\n"
	reviewsFQDN = "reviews.default.svc.cluster.local"
)

// shown writes an endpoint as a line: address, labels, locality, account, workload.
func shown(e *discovery.Endpoint) string {
	s := e.Address.String()
	if e.Resolve {
		s += " resolve"
	}
	for _, k := range sortedKeys(e.Labels) {
		s += " " + k + "=" + e.Labels[k]
	}
	for _, part := range []string{e.Locality, e.ServiceAccount, e.Workload} {
		if part != "" {
			s += " " + part
		}
	}
	return s
}

// TestKubernetesEndpoints: where the endpoints of a Service come from, and on which port they are.
func TestKubernetesEndpoints(t *testing.T) {
	t.Parallel()
	slice := kubeSliceOf("s1", "reviews", `
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: true}, zone: eu-1a, targetRef: {kind: Pod, name: r1}, deprecatedTopology: {topology.kubernetes.io/region: eu}}
- {addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.3], zone: eu-1b}
ports: [{name: http, port: 8080}, {name: other, port: 1}]`)
	pod := func(name, status string) string {
		return kubeDoc("Pod", "name: "+name+", labels: {app: reviews, version: v1}",
			"spec: {serviceAccountName: reviews, containers: [{name: c}, {name: d, ports: [{name: web, containerPort: 7070}]}]}\nstatus: "+status)
	}
	workloadEntry := func(name, spec string) string { return doc("WorkloadEntry", name, spec) }
	named := strings.Replace(kubeReviews, "targetPort: 8080", "targetPort: web", 1)
	for _, c := range []struct {
		name string
		docs []string
		want string
	}{
		{"slice without Pods", []string{kubeReviews, slice},
			"10.0.0.1:8080 eu/eu-1a Pod default/r1 | 10.0.0.3:8080 /eu-1b"},
		{"labels of the Pod", []string{slice, pod("r1", "{}"), kubeReviews},
			"10.0.0.1:8080 app=reviews version=v1 eu/eu-1a reviews Pod default/r1 | 10.0.0.3:8080 /eu-1b"},
		{"locality of the Pod", []string{slice, strings.Replace(pod("r1", "{}"), "version: v1", "istio-locality: us.us-2.b", 1), kubeReviews},
			"10.0.0.1:8080 app=reviews istio-locality=us.us-2.b us/us-2/b reviews Pod default/r1 | 10.0.0.3:8080 /eu-1b"},
		{"not ready, but published", []string{slice, strings.Replace(kubeReviews, "spec: {", "spec: {publishNotReadyAddresses: true, ", 1)},
			"10.0.0.1:8080 eu/eu-1a Pod default/r1 | 10.0.0.2:8080 | 10.0.0.3:8080 /eu-1b"},
		{"several slices, one address twice", []string{slice, kubeReviews, kubeSliceOf("s2", "reviews", "endpoints: [{addresses: [10.0.0.3, 10.0.0.4]}]\nports: [{name: http, port: 8080}]")},
			"10.0.0.1:8080 eu/eu-1a Pod default/r1 | 10.0.0.3:8080 /eu-1b | 10.0.0.4:8080"},
		{"slice of another service", []string{kubeReviews, strings.ReplaceAll(slice, "service-name: reviews", "service-name: ratings")}, ""},
		{"slice of another namespace", []string{kubeReviews, strings.Replace(slice, "name: s1", "name: s1, namespace: shop", 1)}, ""},
		{"names", []string{kubeReviews, strings.Replace(kubeSliceOf("s2", "reviews", "endpoints: [{addresses: [db.example.com]}]\nports: [{name: http, port: 80}]"), "IPv4", "FQDN", 1)},
			"db.example.com:80 resolve"},
		{"port without number", []string{kubeReviews, kubeSliceOf("s2", "reviews", "endpoints: [{addresses: [10.0.0.1]}]\nports: [{name: http}]")}, "10.0.0.1:8080"},
		{"port without number, nor targetPort", []string{strings.Replace(kubeReviews, ", targetPort: 8080", "", 1), kubeSliceOf("s2", "reviews", "endpoints: [{addresses: [10.0.0.1]}]\nports: [{name: http}]")}, "10.0.0.1:9080"},
		{"port without a name", []string{strings.Replace(kubeReviews, "name: http, ", "", 1), kubeSliceOf("s2", "reviews", "endpoints: [{addresses: [10.0.0.1]}]\nports: [{port: 8081}]")}, "10.0.0.1:8081"},

		{"WorkloadEntry", []string{kubeReviews, workloadEntry("a", "{address: 10.1.0.1, labels: {app: reviews}, weight: 3}"), workloadEntry("b", "{address: 10.1.0.2, labels: {app: x}}")},
			"10.1.0.1:8080 app=reviews WorkloadEntry default/a"},
		{"WorkloadEntry's port", []string{kubeReviews, workloadEntry("a", "{address: 10.1.0.1, labels: {app: reviews}, ports: {http: 9}}")}, "10.1.0.1:9 app=reviews WorkloadEntry default/a"},
		{"WorkloadEntry's named port", []string{named, workloadEntry("a", "{address: 10.1.0.1, labels: {app: reviews}, ports: {web: 9, http: 8}}")}, "10.1.0.1:9 app=reviews WorkloadEntry default/a"},
		{"WorkloadEntry without the named port", []string{named, workloadEntry("a", "{address: 10.1.0.1, labels: {app: reviews}, ports: {http: 8}}")}, ""},
		{"WorkloadEntry beside a slice", []string{kubeReviews, workloadEntry("a", "{address: 10.1.0.1, labels: {app: reviews}}"), kubeSliceOf("s2", "reviews", "endpoints: [{addresses: [10.0.0.1]}]\nports: [{name: http, port: 8080}]")},
			"10.0.0.1:8080 | 10.1.0.1:8080 app=reviews WorkloadEntry default/a"},
		{"WorkloadEntry of another namespace", []string{kubeReviews, strings.Replace(workloadEntry("a", "{address: 10.1.0.1, labels: {app: reviews}}"), "name: a", "name: a, namespace: shop", 1)}, ""},
		{"no selector picks nobody", []string{strings.Replace(kubeReviews, "selector: {app: reviews}", "selector: {}", 1), workloadEntry("a", "{address: 10.1.0.1, labels: {app: reviews}}")}, ""},

		{"Pods without slices", []string{kubeReviews, pod("r1", "{podIP: 10.2.0.1}"), pod("r2", "{podIP: 10.2.0.2, conditions: [{type: Ready, status: 'True'}]}"),
			pod("r3", "{podIP: 10.2.0.3, conditions: [{type: Ready, status: 'False'}]}"), pod("r4", "{}"),
			strings.Replace(pod("r5", "{podIP: 10.2.0.5}"), "metadata: {", "metadata: {deletionTimestamp: '2026-01-02T03:04:05Z', ", 1)},
			"10.2.0.1:8080 app=reviews version=v1 reviews Pod default/r1 | 10.2.0.2:8080 app=reviews version=v1 reviews Pod default/r2"},
		{"Pods not ready, but published", []string{strings.Replace(kubeReviews, "spec: {", "spec: {publishNotReadyAddresses: true, ", 1), pod("r3", "{podIP: 10.2.0.3, conditions: [{type: Ready, status: 'False'}]}")},
			"10.2.0.3:8080 app=reviews version=v1 reviews Pod default/r3"},
		{"named port of a Pod", []string{named, pod("r1", "{podIP: 10.2.0.1}")}, "10.2.0.1:7070 app=reviews version=v1 reviews Pod default/r1"},
		{"Pod without the named port", []string{strings.Replace(named, "web", "www", 1), pod("r1", "{podIP: 10.2.0.1}")}, ""},
		{"Pods of a ServiceEntry", []string{doc("ServiceEntry", "r", "{hosts: ["+reviewsFQDN+"], resolution: STATIC, ports: [{number: 9080, name: web}], workloadSelector: {labels: {app: reviews}}}"),
			pod("r1", "{podIP: 10.2.0.1}")}, "10.2.0.1:9080 app=reviews version=v1 reviews Pod default/r1"},

		{"endpoints of a ServiceEntry", []string{doc("ServiceEntry", "r", strings.Replace(reviewsEntry, "ports: [", "addresses: [10.9.9.9], ports: [{number: 1, name: a}, ", 1)), kubeReviews},
			"10.0.0.1:9080 version=v1 | 10.0.0.2:9080 version=v2"},
		{"ServiceEntry that would resolve the host", []string{doc("ServiceEntry", "r", "{hosts: ["+reviewsFQDN+"], resolution: DNS, ports: [{number: 9080, name: http, protocol: HTTP}]}"), kubeReviews}, ""},
		{"ServiceEntry without resolution", []string{doc("ServiceEntry", "r", "{hosts: ["+reviewsFQDN+"], ports: [{number: 9080, name: http, protocol: HTTP}]}"), kubeReviews}, ""},
		{"ServiceEntry of another namespace", []string{strings.Replace(doc("ServiceEntry", "r", reviewsEntry), "name: r", "name: r, namespace: shop", 1), kubeReviews}, ""},
		{"external name", []string{kubeDoc("Service", "name: reviews, labels: {tier: out}", "spec: {type: ExternalName, externalName: x.example.com, ports: [{port: 9080, name: http, targetPort: 1}]}")},
			"x.example.com:9080 resolve tier=out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Options{}, c.docs...)
			if r := w.Status().Refused; r != nil {
				t.Fatal(r)
			}
			set := w.registry.Get(discovery.Key{Host: reviewsFQDN, Port: 9080})
			if set == nil {
				t.Fatal("no such service")
			}
			var got []string
			for i := range set.Len() {
				got = append(got, shown(set.At(i)))
			}
			if line := strings.Join(got, " | "); line != c.want {
				t.Errorf("endpoints %s\nwant      %s", line, c.want)
			}
		})
	}
}

// TestKubernetesReferences: documents that do not fit each other.
func TestKubernetesReferences(t *testing.T) {
	t.Parallel()
	slice := kubeSliceOf("s", "reviews", "endpoints: [{addresses: [10.0.0.1]}]\nports: [{name: http, port: 8080}]")
	entry := doc("ServiceEntry", "mine", reviewsEntry)
	rule := doc("DestinationRule", "reviews", reviewsRule)
	external := func(name, to, ports string) string {
		return kubeDoc("Service", "name: "+name, "spec: {type: ExternalName, externalName: "+to+ports+"}")
	}
	for _, c := range []struct {
		name string
		docs []string
		want []string
		text string // in the first finding
	}{
		{"nothing to say", []string{kubeReviews, slice}, nil, ""},
		{"slice of no Service", []string{slice}, []string{`IST0101 Error <inline 1>:3:58 metadata.labels["kubernetes.io/service-name"]`},
			`no Service "reviews" in namespace default: the endpoints belong to nothing; add the Service`},
		{"slice of a Service that is spelt otherwise", []string{kubeReviews, slice, strings.NewReplacer("name: s,", "name: t,", "service-name: reviews", "service-name: review").Replace(slice)},
			[]string{`IST0101 Error <inline 3>:3:58 metadata.labels["kubernetes.io/service-name"]`}, `did you mean "reviews"?`},
		{"slice's port is none of the Service", []string{kubeReviews, strings.Replace(slice, "name: http", "name: grpc", 1)},
			[]string{`HDL0009 Warning <inline 2>:6:16 ports[0].name`}, `Service default/reviews has no port named "grpc": the endpoints' port is not used; its ports are named "http"`},
		{"no endpoints", []string{kubeReviews}, []string{`IST0127 Warning <inline 1>:4:8 spec.selector`}, "add its EndpointSlices or Pods, or WorkloadEntries"},
		{"no selector, no endpoints", []string{strings.Replace(kubeReviews, "selector: {app: reviews}, ", "", 1)}, nil, ""},
		{"named port that nobody has", []string{strings.Replace(kubeReviews, "8080", "web", 1), doc("WorkloadEntry", "a", "{address: 10.0.0.1, labels: {app: reviews}}")},
			[]string{`IST0127 Warning <inline 1>:4:79 spec.ports[0].targetPort`}, `has a port "web": port http (9080) has no endpoints`},
		{"subset without labels", []string{kubeReviews, slice, doc("DestinationRule", "reviews", "{host: reviews, subsets: [{name: v1, labels: {version: v1}}]}")},
			[]string{`IST0173 Error <inline 3>:4:44 spec.subsets[0].labels`}, "those of the Pods that targetRef names"},
		{"a ServiceEntry adds endpoints", []string{entry, kubeReviews}, []string{`HDL0011 Info <inline 1>:4:16 spec.hosts[0]`},
			"host reviews.default.svc.cluster.local is that of Service default/reviews (<inline 2>:3): the ServiceEntry's endpoints are added"},
		{"a ServiceEntry with another port", []string{strings.Replace(entry, "9080", "9081", 1), kubeReviews, slice},
			[]string{`HDL0011 Info <inline 1>:4:16 spec.hosts[0]`, `HDL0011 Warning <inline 1>:4:89 spec.ports[0].number`}, ""},
		{"a ServiceEntry with another protocol", []string{strings.Replace(entry, "protocol: HTTP", "protocol: GRPC", 1), kubeReviews, slice},
			[]string{`HDL0011 Info <inline 1>:4:16 spec.hosts[0]`, `IST0177 Warning <inline 1>:4:117 spec.ports[0].protocol`}, ""},
		{"A-064 a ServiceEntry of another namespace claims the host", []string{strings.Replace(entry, "name: mine", "name: mine, namespace: shop", 1), kubeReviews, slice},
			[]string{`HDL0011 Warning <inline 1>:4:16 spec.hosts[0]`}, "the ServiceEntry is not used for it"},
		{"external name that nothing can call", []string{external("out", "x.example.com", "")}, []string{`HDL0009 Warning <inline 1>:4:42 spec.externalName`}, "the Service has no ports"},
		{"external name of a service", []string{external("out", reviewsFQDN, ""), kubeReviews, slice}, nil, ""},
		{"external names in a ring", []string{external("a", "b.default.svc.cluster.local", ""), external("b", "a.default.svc.cluster.local", "")},
			[]string{`HDL0009 Warning <inline 1>:4:42 spec.externalName`, `HDL0009 Warning <inline 2>:4:42 spec.externalName`}, "nothing can call it"},
		{"rule for an alias", []string{external("out", reviewsFQDN, ""), kubeReviews, slice, strings.Replace(rule, "{host: reviews", "{host: out", 1)},
			[]string{`HDL0009 Warning <inline 4>:4:14 spec.host`}, "is another name of reviews.default.svc.cluster.local (Service default/out)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newWorld(t, Options{}, c.docs...).Status()
			if s.Refused != nil {
				t.Fatal(s.Refused)
			}
			wantFindings(t, s.Findings, c.want...)
			if c.text != "" && !strings.Contains(s.Findings[0].String(), c.text) {
				t.Errorf("%s\ndoes not say %q", s.Findings[0], c.text)
			}
		})
	}
}

// TestKubernetesPorts: what a port of a Service speaks, and that those without TCP are nowhere.
func TestKubernetesPorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, kubeDoc("Service", "name: p", `spec:
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, "fd00::1"]
  ports:
  - {port: 1, name: http}
  - {port: 2, name: http2-a}
  - {port: 3, name: grpc-a, appProtocol: Grpc-x}
  - {port: 4, name: tcp, appProtocol: kubernetes.io/h2c}
  - {port: 5, name: a, appProtocol: kubernetes.io/ws}
  - {port: 6, name: b, appProtocol: kubernetes.io/wss}
  - {port: 7, name: grpc-web-x}
  - {port: 8, name: c}
  - {port: 9, name: grpc, appProtocol: example.com/own}
  - {port: 10, name: tls-x}
  - {port: 3306, name: d}
  - {port: 27017, name: http-mongo}
  - {port: 53, name: dns, protocol: UDP}
  - {port: 53, name: dns-tcp}
  - {port: 12, name: s, protocol: SCTP}`))
	if r := w.Status().Refused; r != nil {
		t.Fatal(r)
	}
	want := map[string]snapshot.Protocol{
		"1": snapshot.HTTP1, "2": snapshot.HTTP2, "3": snapshot.HTTP2, "4": snapshot.HTTP2, "5": snapshot.HTTP1, "6": snapshot.Opaque,
		"7": snapshot.HTTP1, "8": snapshot.HTTP1, "9": snapshot.HTTP1, "10": snapshot.Opaque, "3306": snapshot.Opaque, "27017": snapshot.HTTP1,
		"53": snapshot.Opaque,
	}
	for _, c := range w.live.Clusters {
		port := strings.Split(c.Name, "|")[1]
		if got, ok := want[port]; !ok || got != c.Policy.Protocol {
			t.Errorf("%s speaks %v, want %v (%v)", c.Name, c.Policy.Protocol, got, ok)
		}
		delete(want, port)
	}
	if len(want) > 0 {
		t.Errorf("not compiled: %v", want)
	}
	for _, v := range w.live.Tables[snapshot.Mesh].VirtualHosts() {
		if !slices.Contains(v.Also, "10.96.0.1") || !slices.Contains(v.Also, "fd00::1") || !slices.Contains(v.Also, "p") {
			t.Errorf("%s:%d is also %v", v.Host, v.Port, v.Also)
		}
	}
}

// TestAliases: an ExternalName of a service of the registry has its ports, rules and endpoints, under its own
// name, unless it has rules of its own.
func TestAliases(t *testing.T) {
	t.Parallel()
	alias := func(name, to string) string {
		return kubeDoc("Service", "name: "+name, "spec: {type: ExternalName, externalName: "+to+".default.svc.cluster.local}")
	}
	rule := func(name, host string) string {
		return doc("VirtualService", name, "{hosts: ["+host+"], http: [{name: "+name+", route: [{destination: {host: second}}]}]}")
	}
	w := newWorld(t, Options{}, alias("third", "second"), kubeReviews, alias("second", "reviews"), rule("of-reviews", "reviews"), rule("of-third", "third"))
	if s := w.Status(); s.Refused != nil {
		t.Fatal(s.Refused)
	}
	for host, want := range map[string]string{"reviews": "of-reviews", "second": "of-reviews", "third": "of-third"} {
		v, _ := w.live.Tables[snapshot.Mesh].Lookup(host, 9080)
		if v == nil {
			t.Errorf("%s is not known", host)
			continue
		}
		r, _ := v.Match(&call.Request{Method: "GET", Scheme: "http", Host: host, Port: 9080, Path: "/", Headers: call.HTTPHeaders(http.Header{})})
		if r == nil || r.Name != want || r.Split[0].Cluster != "outbound|9080||"+reviewsFQDN || r.Split[0].Index < 0 {
			t.Errorf("%s: %+v", host, r)
		}
	}
	if keys := w.registry.Keys(); len(keys) != 1 || keys[0].Host != reviewsFQDN {
		t.Errorf("endpoints of %v", keys)
	}
}

// TestKubernetesChurnCompilesNothing: EndpointSlices and Pods come and go without a compilation; a Service does not.
func TestKubernetesChurnCompilesNothing(t *testing.T) {
	t.Parallel()
	slice := func(i int) string {
		return kubeSliceOf(fmt.Sprintf("s%d", i), "reviews",
			fmt.Sprintf("endpoints: [{addresses: [10.0.0.%d], targetRef: {kind: Pod, name: p}}]\nports: [{name: http, port: %d}]", i, 8000+i))
	}
	pod := func(i int) string {
		return kubeDoc("Pod", fmt.Sprintf("name: p, labels: {version: v%d}", i), "")
	}
	w := newWorld(t, Options{}, kubeReviews, slice(1), pod(1))
	key := discovery.Key{Host: reviewsFQDN, Port: 9080}
	for i := 2; i < 6; i++ {
		if err := w.inline.Replace(t.Context(), []byte(kubeReviews), []byte(slice(i)), []byte(pod(i))); err != nil {
			t.Fatal(err)
		}
		set := w.registry.Get(key)
		if want := fmt.Sprintf("10.0.0.%d:%d version=v%d Pod default/p", i, 8000+i, i); set.Len() != 1 || shown(set.At(0)) != want {
			t.Fatalf("set %+v, want %s", set, want)
		}
	}
	if err := w.inline.Replace(t.Context(), []byte(kubeReviews)); err != nil || w.registry.Get(key).Len() != 0 {
		t.Errorf("endpoints of nothing: %+v, %v", w.registry.Get(key), err)
	}
	if w.Compiles() != 1 || w.count != 1 {
		t.Errorf("%d compilations, %d publications", w.Compiles(), w.count)
	}
	if err := w.inline.Replace(t.Context(), []byte(strings.Replace(kubeReviews, "9080", "9081", 1))); err != nil || w.Compiles() != 2 {
		t.Errorf("a Service that has changed: %d compilations, %v", w.Compiles(), err)
	}
}

// TestShopLoads: a manifest as people have it, with what kubectl get adds, is taken as it is.
func TestShopLoads(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var registry discovery.Registry
	var live *snapshot.Snapshot
	j := Join(Options{Workload: snapshot.Workload{Namespace: "shop"}}, &registry, FromPaths("testdata/shop.yaml"))
	if err := j.Run(t.Context(), func(_ context.Context, s *snapshot.Snapshot) error { live = s; return nil }); err != nil {
		t.Fatal(err)
	}
	s := j.Status()
	if s.Refused != nil {
		t.Fatal(s.Refused)
	}
	skipped := 0
	for _, f := range s.Findings {
		if f.Code != codeSkipped || f.Level != Info {
			t.Error(f)
		}
		skipped++
	}
	if want := strings.Count(string(text), "kind: Deployment") + strings.Count(string(text), "kind: ServiceAccount\n"); skipped != want {
		t.Errorf("%d documents skipped, want %d", skipped, want)
	}
	if len(live.Clusters) != 6 { // four services, and two subsets
		t.Errorf("%d clusters", len(live.Clusters))
	}
	set := registry.Get(discovery.Key{Host: "reviews.shop.svc.cluster.local", Port: 9080})
	if set.Len() != 2 || shown(set.At(1)) != "10.8.0.13:9080 app=reviews version=v2 /eu-1b shop-reviews Pod shop/reviews-v2-0" {
		t.Errorf("reviews: %+v", set)
	}
	strict := Join(Options{Strict: true, Workload: snapshot.Workload{Namespace: "shop"}}, &registry, FromPaths("testdata/shop.yaml"))
	_ = strict.Run(t.Context(), func(context.Context, *snapshot.Snapshot) error { return nil })
	if r := strict.Status().Refused; r != nil {
		t.Error(r)
	}
}
