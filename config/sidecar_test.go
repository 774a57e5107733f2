package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/snapshot"
)

func TestValidateSidecar(t *testing.T) {
	t.Parallel()
	runValidate(t, "Sidecar", []validateCase{
		{"everything that is honoured", `
  workloadSelector: {labels: {app: web}}
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress:
  - port: {number: 9080, protocol: HTTP, name: http}
    hosts: [./reviews.shop.svc.cluster.local, "~shop-old/*"]
  - hosts: ["*/*.example.com", istio-system/*, "~/internal.example.com"]`, nil},
		{"nothing can be called", "  egress: [{hosts: [~/*]}]", nil},
		{"empty", "  workloadSelector: {labels: {app: web}}", []string{"IST0106! 4:1 spec ~ the Sidecar says nothing"}},
		{"selector without labels", "  workloadSelector: {}\n  outboundTrafficPolicy: {mode: ALLOW_ANY}", []string{
			"HDL0009? 5:3 spec.workloadSelector ~ for the whole namespace"}},
		{"labels", "  workloadSelector: {labels: {a b: c}}\n  outboundTrafficPolicy: {mode: ALLOW_ANY}", []string{
			"IST0106! 5:31 spec.workloadSelector.labels[\"a b\"] ~ is no key of a label"}},
		{"inbound", `
  ingress:
  - {port: {number: 80, protocol: HTTP, name: a}, defaultEndpoint: "127.0.0.1:8080"}
  - {port: {number: 81, protocol: TCP}, bind: "::1", captureMode: NONE, defaultEndpoint: "unix:///run/a.sock", connectionPool: {tcp: {maxConnections: 2}}}
  - {port: {number: 82}, captureMode: IPTABLES, defaultEndpoint: "[::]:8080"}
  inboundConnectionPool: {tcp: {maxConnections: 1, connectTimeout: 1s}}`, []string{
			"HDL0008? 9:3 spec.inboundConnectionPool ~ tcp.connectTimeout"}},
		{"inbound listeners that cannot be", `
  ingress:
  - defaultEndpoint: "127.0.0.1:8080"
  - {port: {number: 80, protocol: FTP, targetPort: 1}, bind: "unix:///a", defaultEndpoint: "10.0.0.1:80"}
  - {port: {number: 80}, defaultEndpoint: ":80", tls: {mode: SIMPLE}}
  - {port: {number: 0}, defaultEndpoint: "unix://a", connectionPool: {http: {maxRetries: 1}}}
  - {port: {number: 70000, protocol: HTTP_PROXY}, defaultEndpoint: "127.0.0.1:0"}`, []string{
			"IST0106! 6:5 spec.ingress[0] ~ port is missing",
			"IST0106! 7:35 spec.ingress[1].port.protocol ~ is no protocol",
			"HDL0009? 7:52 spec.ingress[1].port.targetPort ~ targetPort is ignored",
			`IST0106! 7:62 spec.ingress[1].bind ~ "unix:///a" is no IP address`,
			`IST0106! 7:92 spec.ingress[1].defaultEndpoint ~ "10.0.0.1:80" is no address of the program; write 127.0.0.1:PORT`,
			"IST0106! 8:21 spec.ingress[2].port.number ~ 80 repeats ingress[1]",
			`IST0106! 8:43 spec.ingress[2].defaultEndpoint ~ ":80" is no address of the program`,
			"HDL0008! 8:50 spec.ingress[2].tls ~ callers would be served without TLS",
			"IST0106! 9:21 spec.ingress[3].port.number ~ is no port",
			`IST0106! 9:42 spec.ingress[3].defaultEndpoint ~ "unix://a" is no address`,
			"HDL0008? 9:54 spec.ingress[3].connectionPool ~ http.maxRetries",
			"IST0106! 10:21 spec.ingress[4].port.number ~ is no port",
			"IST0106! 10:38 spec.ingress[4].port.protocol ~ is no protocol",
			`IST0106! 10:68 spec.ingress[4].defaultEndpoint ~ "127.0.0.1:0" is no address`,
		}},
		{"listeners", `
  egress:
  - hosts: ["*/*"]
    bind: 127.0.0.1
    captureMode: NONE
  - port: {number: 80}
    hosts: []
  - port: {number: 80, protocol: FTP, targetPort: 1}
    hosts: ["*/*"]
  - port: {number: 0}
    hosts: ["*/*"]
  - hosts: ["*/*"]`, []string{
			"IST0106! 6:5 spec.egress[0] ~ is for all ports and not the last",
			"IST0106! 7:11 spec.egress[0].bind ~ bind needs a port",
			"HDL0008? 8:18 spec.egress[0].captureMode ~ without effect",
			"IST0106! 10:5 spec.egress[1].hosts ~ hosts is missing",
			"IST0106! 11:20 spec.egress[2].port.number ~ repeats egress[1]",
			"IST0106! 11:34 spec.egress[2].port.protocol ~ is no protocol",
			"HDL0009? 11:51 spec.egress[2].port.targetPort ~ targetPort is ignored",
			"IST0106! 13:20 spec.egress[3].port.number ~ is no port",
			"IST0106! 15:5 spec.egress[4] ~ has no port, like egress[0]",
		}},
		{"listeners of proxies", `
  egress:
  - port: {number: 3128, protocol: HTTP_PROXY}
    hosts: ["*/*"]
  - port: {number: 0, protocol: HTTP}
    bind: unix:///tmp/a.sock
    hosts: ["*/*"]
  - port: {number: 0, protocol: TCP}
    bind: unix://@abstract
    captureMode: NONE
    hosts: ["*/*"]
  - port: {number: 9080, protocol: HTTP}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ["*/*"]`, nil},
		{"listeners of proxies that cannot be", `
  egress:
  - {port: {number: 80, protocol: HTTP}, bind: "unix:///a.sock", hosts: ["*/*"]}
  - {port: {number: 0, protocol: HTTP}, bind: "unix://a.sock", captureMode: IPTABLES, hosts: ["*/*"]}
  - {port: {number: 0}, bind: "unix://@", hosts: ["*/*"]}
  - {port: {number: 81, protocol: HTTP}, bind: localhost, captureMode: NONE, hosts: ["*/*"]}
  - {port: {number: 82, protocol: HTTP}, bind: 127.0.0.1, captureMode: IPTABLES, hosts: ["*/*"]}
  - {port: {number: 0, protocol: TCP}, bind: "unix:///a.sock", hosts: ["*/*"]}
  - {port: {number: 83, protocol: HTTP}, bind: 127.0.0.1, captureMode: NONE, hosts: ["*/*"]}`, []string{
			"IST0106! 6:21 spec.egress[0].port.number ~ 80 is a port, and bind a Unix socket; write 0",
			"IST0106! 7:47 spec.egress[1].bind ~ is no absolute path of a socket",
			"IST0106! 7:77 spec.egress[1].captureMode ~ nothing captures connections to a Unix socket",
			"IST0106! 8:6 spec.egress[2].port ~ a Unix socket needs a protocol",
			"IST0106! 8:31 spec.egress[2].bind ~ is no absolute path of a socket",
			"IST0106! 9:48 spec.egress[3].bind ~ is no IP address",
			"HDL0008? 10:48 spec.egress[4].bind ~ without effect",
			`IST0106! 11:46 spec.egress[5].bind ~ "unix:///a.sock" repeats egress[0]; make one listener of them`,
		}},
		{"hosts", `
  egress:
  - hosts: [reviews, /a, ./, a.b/x, ./a b, ~/x.com, "*/*", "*/*"]`, []string{
			`IST0106! 6:13 spec.egress[0].hosts[0] ~ "reviews" is no host of a Sidecar; write "namespace/dnsName"`,
			`IST0106! 6:22 spec.egress[0].hosts[1] ~ "/a" is no host`,
			`IST0106! 6:26 spec.egress[0].hosts[2] ~ "./" is no host`,
			`IST0106! 6:30 spec.egress[0].hosts[3] ~ "a.b/x" names no namespace`,
			`IST0106! 6:37 spec.egress[0].hosts[4] ~ has the label "a b"`,
			`HDL0009? 6:60 spec.egress[0].hosts[7] ~ repeats hosts[6]`,
		}},
		{"exclusions alone", "  egress: [{hosts: [~shop/*]}]", []string{"HDL0009? 5:13 spec.egress[0].hosts ~ nothing can be called"}},
		{"egress proxy", "  outboundTrafficPolicy: {egressProxy: {host: a b}}", []string{
			`IST0106! 5:27 spec.outboundTrafficPolicy.egressProxy ~ egressProxy needs mode ALLOW_ANY`,
			`HDL0008! 5:27 spec.outboundTrafficPolicy.egressProxy ~ past the proxy`,
			`IST0106! 5:47 spec.outboundTrafficPolicy.egressProxy.host ~ has the label "a b"`,
		}},
	})
}

// hostsOf lists the hosts and ports that can be called.
func (w *world) hosts() string {
	if w.live == nil {
		return "nothing live"
	}
	var list []string
	for _, v := range w.live.Tables[snapshot.Mesh].VirtualHosts() {
		list = append(list, strings.TrimSuffix(v.Host, ".svc.cluster.local"))
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " ")
}

func TestSidecarConflicts(t *testing.T) {
	t.Parallel()
	web := snapshot.Workload{Labels: map[string]string{"app": "web", "tier": "front"}}
	all := func(name string) string { return doc("Sidecar", name, `{egress: [{hosts: ["*/*"]}]}`) }
	selecting := func(name, labels string) string {
		return doc("Sidecar", name, `{workloadSelector: {labels: {`+labels+`}}, egress: [{hosts: ["*/*"]}]}`)
	}
	entry := doc("WorkloadEntry", "db", "{address: 10.0.0.9, labels: {app: db, kind: sql}}")
	for name, c := range map[string]struct {
		docs []string
		want []string
		text string
	}{
		"IST0111": {[]string{all("a"), all("b"), all("c")}, []string{
			"IST0111 Error <inline 2>:3:18 metadata.name", "IST0111 Error <inline 3>:3:18 metadata.name"},
			"Sidecar default/a (<inline 1>:3) is for the whole of namespace default already and is in effect, for it was read first"},
		"IST0111, older":            {[]string{all("b"), strings.Replace(all("a"), "name: a", `name: a, creationTimestamp: "2024-01-01T00:00:00Z"`, 1)}, []string{"IST0111 Error <inline 2>:3:18 metadata.name"}, "which counts as older"},
		"another namespace":         {[]string{all("a"), strings.Replace(all("b"), "name: b", "name: b, namespace: shop", 1)}, nil, ""},
		"IST0110, of the caller":    {[]string{selecting("a", "app: web"), selecting("b", "tier: front")}, []string{"IST0110 Error <inline 2>:4:8 spec.workloadSelector"}, "selects the calling workload, as does Sidecar default/a (<inline 1>:4), which is in effect for it"},
		"IST0110, of a document":    {[]string{selecting("a", "app: db"), selecting("b", "kind: sql"), entry}, []string{"IST0110 Error <inline 2>:4:8 spec.workloadSelector"}, "selects WorkloadEntry default/db"},
		"selectors that nobody has": {[]string{selecting("a", "app: x"), selecting("b", "kind: y"), entry}, nil, ""},
		"one with and one without":  {[]string{selecting("a", "app: web"), all("b")}, nil, ""},
		"brings nothing in": {[]string{doc("Sidecar", "a", `{egress: [{hosts: [./reviews, ./gone.example.com, "*/*.example.com", ~shop/x.example.com]}]}`)}, []string{
			"IST0101 Warning <inline 1>:4:26 spec.egress[0].hosts[0]", "IST0101 Warning <inline 1>:4:37 spec.egress[0].hosts[1]"},
			`"./reviews" brings nothing in: no service and no VirtualService that default sees has this host; write the full name, as reviews.default.svc.cluster.local`},
		"brings in a rule's host": {[]string{doc("Sidecar", "a", `{egress: [{hosts: [./shop.example.com]}]}`), doc("VirtualService", "v", `{hosts: ["*.example.com"], http: [{directResponse: {status: 200}}]}`)}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newWorld(t, Options{Workload: web}, c.docs...).Status()
			if s.Refused != nil {
				t.Fatal(s.Refused)
			}
			wantFindings(t, s.Findings, c.want...)
			if c.text != "" && (len(s.Findings) == 0 || !strings.Contains(s.Findings[0].Message+"; "+s.Findings[0].Hint, c.text)) {
				t.Errorf("%v, want %q", s.Findings, c.text)
			}
		})
	}
}

// TestSidecarScopesEndpoints: what cannot be called is not looked up either, but what rules lead to is.
func TestSidecarScopesEndpoints(t *testing.T) {
	t.Parallel()
	service := func(name string) string {
		return doc("ServiceEntry", name, `{hosts: [`+name+`.default.svc.cluster.local], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1}]}`)
	}
	docs := []string{service("front"), service("back"), service("shadow"), service("other"),
		doc("VirtualService", "front", `{hosts: [front], http: [{route: [{destination: {host: back}}], mirror: {host: shadow}}]}`),
		doc("DestinationRule", "other", `{host: other}`)}
	w := newWorld(t, Options{}, docs...)
	if got := w.hosts(); got != "back.default front.default other.default shadow.default" {
		t.Errorf("without a Sidecar: %s", got)
	}
	w = newWorld(t, Options{}, append(docs, doc("Sidecar", "s", `{egress: [{hosts: [./front.default.svc.cluster.local]}]}`))...)
	if got := w.hosts(); got != "front.default" {
		t.Errorf("with a Sidecar: %s", got)
	}
	var sets []string
	for key := range w.sets {
		sets = append(sets, strings.TrimSuffix(key.Host, ".default.svc.cluster.local"))
	}
	slices.Sort(sets)
	if got := strings.Join(sets, " "); got != "back front shadow" {
		t.Errorf("endpoints of %s", got)
	}
	wantFindings(t, slices.DeleteFunc(w.Status().Findings, func(f Finding) bool { return f.Level == Info }))
}

// TestOutboundPrecedence: Sidecar before MeshConfig before the program.
func TestOutboundPrecedence(t *testing.T) {
	t.Parallel()
	sidecar := func(policy string) string {
		return doc("Sidecar", "s", `{egress: [{hosts: ["*/*"]}]`+policy+`}`)
	}
	mesh := func(policy string) string { return meshDoc("m", "{"+policy+"}") }
	for name, c := range map[string]struct {
		docs []string
		want snapshot.Outbound
	}{
		"nobody says":                      {nil, snapshot.OutboundUnset},
		"a Sidecar without a word":         {[]string{sidecar("")}, snapshot.OutboundUnset},
		"a mesh without a word":            {[]string{mesh("")}, snapshot.OutboundUnset},
		"mesh":                             {[]string{mesh("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")}, snapshot.RegistryOnly},
		"mesh, zero":                       {[]string{mesh("outboundTrafficPolicy: {}")}, snapshot.RegistryOnly},
		"mesh, any":                        {[]string{mesh("outboundTrafficPolicy: {mode: ALLOW_ANY}")}, snapshot.AllowAny},
		"mesh, any by DNS":                 {[]string{mesh("outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}")}, snapshot.AllowAny},
		"Sidecar":                          {[]string{sidecar(", outboundTrafficPolicy: {mode: REGISTRY_ONLY}")}, snapshot.RegistryOnly},
		"Sidecar, zero":                    {[]string{sidecar(", outboundTrafficPolicy: {}")}, snapshot.RegistryOnly},
		"Sidecar stricter than the mesh":   {[]string{mesh("outboundTrafficPolicy: {mode: ALLOW_ANY}"), sidecar(", outboundTrafficPolicy: {}")}, snapshot.RegistryOnly},
		"Sidecar looser than the mesh":     {[]string{mesh("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"), sidecar(", outboundTrafficPolicy: {mode: ALLOW_ANY}")}, snapshot.AllowAny},
		"Sidecar without a word of itself": {[]string{mesh("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"), sidecar("")}, snapshot.RegistryOnly},
	} {
		if w := newWorld(t, Options{}, c.docs...); w.live == nil || w.live.Outbound != c.want {
			t.Errorf("%s: %+v, %v", name, w.live, w.Status().Refused)
		}
	}
}
