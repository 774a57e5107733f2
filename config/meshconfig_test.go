package config

import (
	"strings"
	"testing"
	"time"

	meshapi "istio.io/api/mesh/v1alpha1"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/snapshot"
)

func meshDoc(name, spec string) string {
	return "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
}

// installed is istiod's ConfigMap as istioctl leaves it, with the given lines more.
func installed(lines string) string {
	return `apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system, labels: {istio.io/rev: default}}
data:
  mesh: |-
    defaultConfig:
      discoveryAddress: istiod.istio-system.svc:15012
    defaultProviders:
      metrics:
      - prometheus
    enablePrometheusMerge: true
    rootNamespace: istio-system
    trustDomain: cluster.local
` + lines + `  meshNetworks: 'networks: {}'
`
}

// TestEveryMeshConfigFieldHasAnOutcome: a field that a new release of Istio brings is not passed over.
func TestEveryMeshConfigFieldHasAnOutcome(t *testing.T) {
	t.Parallel()
	fields := new(meshapi.MeshConfig).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		name := fields.Get(i).Name()
		if meshFields[name] == 0 {
			t.Errorf("%s has no outcome", name)
		}
		if (meshFields[name] == meshRefused) != (meshRefusals[name] != "") {
			t.Errorf("%s is refused without a reason, or not refused with one", name)
		}
	}
	if fields.Len() != len(meshFields) {
		t.Errorf("%d fields, %d outcomes", fields.Len(), len(meshFields))
	}
}

func TestValidateMeshConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []validateCase{
		{"everything that is honoured", `
  connectTimeout: 3s
  defaultHttpRetryPolicy: {attempts: 1, retryOn: 5xx}
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  rootNamespace: istio-control
  trustDomain: prod.example.com
  defaultServiceExportTo: [.]
  defaultVirtualServiceExportTo: [., shop]
  defaultDestinationRuleExportTo: ["*"]
  pathNormalization: {normalization: BASE}
  localityLbSetting: {enabled: true}
  enableAutoMtls: false
  defaultConfig: {gatewayTopology: {numTrustedProxies: 2}}
  inboundTrafficPolicy: {mode: PASSTHROUGH}
  h2UpgradePolicy: DO_NOT_UPGRADE
  meshMTLS: {minProtocolVersion: TLS_AUTO}
  accessLogFile: ""`, nil},
		{"empty", "{}", nil},
		{"values", `
  connectTimeout: 1us
  trustDomain: https://a
  rootNamespace: A
  defaultServiceExportTo: [., .]
  defaultVirtualServiceExportTo: ["*", a]
  defaultHttpRetryPolicy: {attempts: -1}
  localityLbSetting: {failover: [{from: a, to: a}]}`, []string{
			`IST0106! 5:19 spec.connectTimeout ~ is shorter than 1ms`,
			`IST0106! 6:16 spec.trustDomain ~ is no trust domain`,
			`IST0106! 7:18 spec.rootNamespace ~ is no namespace`,
			`IST0106! 8:31 spec.defaultServiceExportTo[1] ~ repeats entry 0`,
			`IST0106! 9:35 spec.defaultVirtualServiceExportTo[0] ~ is not the only entry`,
			`IST0106! 10:38 spec.defaultHttpRetryPolicy.attempts ~ is negative`,
			`IST0106! 11:48 spec.localityLbSetting.failover[0].to ~ is where the failover comes from`,
		}},
		{"refused", `
  discoverySelectors: [{matchLabels: {a: b}}]
  serviceEntryVisibility: {defaultVisibility: NONE}
  defaultConfig: {gatewayTopology: {numTrustedProxies: 1001}}
  outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tls: {mode: SIMPLE}}`, []string{
			`HDL0008! 5:3 spec.discoverySelectors ~ namespaces that it leaves out`,
			`HDL0008! 6:3 spec.serviceEntryVisibility ~ those that it hides them from`,
			`IST0106! 7:56 spec.defaultConfig.gatewayTopology.numTrustedProxies ~ more than there can be`,
			`HDL0008! 8:56 spec.outboundTrafficPolicy.tls ~ in plain text`,
		}},
		{"warned about", `
  enableEnvoyAccessLogService: true
  meshMTLS: {minProtocolVersion: TLSV1_3, cipherSuites: [a], ecdhCurves: [b]}
  enableAutoMtls: true
  inboundTrafficPolicy: {mode: LOCALHOST}
  defaultHttpRetryPolicy: {attempts: 1, perTryTimeout: 1s}
  outboundTrafficPolicy: {}
  defaultConfig: {concurrency: 2}`, []string{
			`HDL0008? 5:32 spec.enableEnvoyAccessLogService ~ without effect`,
			`HDL0008? 6:43 spec.meshMTLS.cipherSuites ~ are Go's own`,
			`HDL0008? 6:62 spec.meshMTLS.ecdhCurves ~ are Go's own`,
			`HDL0008? 8:3 spec.inboundTrafficPolicy ~ without effect`,
			`HDL0009? 9:56 spec.defaultHttpRetryPolicy.perTryTimeout ~ limits nothing here`,
			`HDL0123? 10:3 spec.outboundTrafficPolicy ~ is REGISTRY_ONLY`,
			`HDL0003? 11:3 spec.defaultConfig ~ not read`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := strings.TrimSuffix(meshDoc("m", strings.Trim(c.spec, "\n")), "\n")
			if c.spec != "{}" {
				text = strings.Replace(text, "spec: ", "spec:\n", 1)
			}
			expectFound(t, validateOne(t, text), c.want)
		})
	}
}

// TestInstalledMeshConfig: what an installation leaves loads, strictly too.
func TestInstalledMeshConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{Strict: true}, installed("    outboundTrafficPolicy:\n      mode: REGISTRY_ONLY\n    connectTimeout: 2s\n    defaultHttpRetryPolicy:\n      attempts: 0\n"),
		doc("ServiceEntry", "reviews", reviewsEntry))
	s := w.Status()
	if s.Refused != nil {
		t.Fatal(s.Refused)
	}
	wantFindings(t, s.Findings,
		"HDL0003 Info <inline 1>:6:5 data.mesh.defaultConfig",
		"HDL0003 Info <inline 1>:11:28 data.mesh.enablePrometheusMerge")
	v, _ := w.live.Tables[snapshot.Mesh].Lookup("reviews", 9080)
	if w.live.Outbound != snapshot.RegistryOnly || w.live.Clusters[0].Policy.ConnectTimeout != 2*time.Second || v.Routes[0].Retry != nil {
		t.Errorf("%+v, %+v", w.live, v.Routes[0])
	}
}

// TestMeshConfigPositions: what is wrong within the ConfigMap's text is said where it stands in the file.
func TestMeshConfigPositions(t *testing.T) {
	t.Parallel()
	head := "# comment\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n"
	one := func(at, path, message string) []want { return []want{{at: at, path: path, message: message}} }
	rows := []refusedText{
		{"block", head + "  mesh: |\n    connectTimeout: 3s\n    trustDomian: x\n", one("9:5", "data.mesh.trustDomian", `unknown field "trustDomian"`)},
		{"block, stripped, indented by eight", head + "  mesh: |-   # here\n\n\n          trustDomain: 5\n", one("10:24", "data.mesh.trustDomain", "expected text, found 5")},
		{"block with its own indentation", head + "  mesh: |2\n      trustDomain: 5\n", one("8:20", "data.mesh.trustDomain", "expected text, found 5")},
		{"block, nested", head + "  mesh: |\n    outboundTrafficPolicy:\n      mode: REGISTRYONLY\n", one("9:13", "data.mesh.outboundTrafficPolicy.mode", "unknown value")},
		{"block, behind other letters", head + "  mesh: |\n    # ü\n    {trustDomain: \"ü\", rootNamespace: 1}\n", one("9:40", "data.mesh.rootNamespace", "expected text, found 1")},
		{"block, CRLF", strings.ReplaceAll(head+"  mesh: |\n    connectTimeout: 3s\n    trustDomian: x\n", "\n", "\r\n"), one("9:5", "data.mesh.trustDomian", "unknown field")},
		{"block, twice", head + "  mesh: |\n    trustDomain: x\n    trustDomain: y\n", one("9:5", "data.mesh.trustDomain", "written twice, on lines 8 and 9")},
		{"block, syntax", head + "  mesh: |\n    connectTimeout: 3s\n    trustDomain: [x\n", one("9:18", "data.mesh", "cannot parse YAML")},
		{"block, not an object", head + "  mesh: |\n    - a\n", one("7:3", "data.mesh", "expected an object, found a list")},
		{"quotes", head + `  mesh: "connectTimeout: 3s\ntrustDomian: x"` + "\n", one("7:9", "data.mesh.trustDomian", "unknown field")},
		{"quotes, syntax", head + `  mesh: "a: [b"` + "\n", one("7:9", "data.mesh", "cannot parse YAML")},
		{"folded", head + "  mesh: >\n    trustDomian: x\n", one("7:9", "data.mesh.trustDomian", "unknown field")},
		{"no text", head + "  mesh:\n    trustDomain: x\n", one("7:3", "data.mesh", "expected text, found an object")},
		{"besides", head + "  mesh: |\n    trustDomain: x\nspec: {}\n", one("9:1", "spec", `unknown field "spec"`)},
		{"in a List", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: istio, namespace: istio-system}\n  data:\n    mesh: |\n      trustDomian: x\n",
			one("9:7", "data.mesh.trustDomian", "unknown field")},
		{"as a document", "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: x}\nspec: {trustDomian: x}\n", one("4:8", "spec.trustDomian", "unknown field")},
		{"removed fields", meshDoc("x", "{mixerCheckServer: a}"), one("4:8", "spec.mixerCheckServer", "unknown field")},
	}
	runRefusals(t, rows)
}

func TestWhichMeshConfig(t *testing.T) {
	t.Parallel()
	cm := func(namespace, mesh string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: " + namespace + "}\ndata:\n  mesh: |\n    " + mesh + "\n  meshNetworks: '" + "{}'\n"
	}
	for name, c := range map[string]struct {
		docs     []string
		outbound snapshot.Outbound
		want     []string
	}{
		"a document":           {[]string{meshDoc("m", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}")}, snapshot.RegistryOnly, nil},
		"of the root":          {[]string{cm("istio-system", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}")}, snapshot.RegistryOnly, nil},
		"of another root":      {[]string{cm("control", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, rootNamespace: control}")}, snapshot.RegistryOnly, nil},
		"of no root":           {[]string{cm("default", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}")}, snapshot.OutboundUnset, []string{"HDL0003 Warning <inline 1>:3:36 metadata.namespace"}},
		"of a root that moved": {[]string{cm("istio-system", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, rootNamespace: control}")}, snapshot.OutboundUnset, []string{"HDL0003 Warning <inline 1>:3:36 metadata.namespace"}},
		"another name":         {[]string{strings.Replace(cm("istio-system", "a: [b"), "name: istio", "name: istio-ca", 1)}, snapshot.OutboundUnset, []string{"HDL0004 Info <inline 1>:2:7 kind"}},
		"without mesh":         {[]string{strings.Replace(cm("istio-system", "a: [b"), "mesh:", "values:", 1)}, snapshot.OutboundUnset, []string{"HDL0004 Info <inline 1>:2:7 kind"}},
		"empty":                {[]string{cm("istio-system", "")}, snapshot.OutboundUnset, nil},
		"other networks":       {[]string{strings.Replace(cm("istio-system", ""), "'{}'", "'networks: {a: {}}'\n  more: x", 1)}, snapshot.OutboundUnset, []string{"HDL0003 Warning <inline 1>:7:17 data.meshNetworks", "HDL0004 Info <inline 1>:8:9 data.more"}},
	} {
		w := newWorld(t, Options{}, c.docs...)
		if w.live == nil || w.live.Outbound != c.outbound {
			t.Errorf("%s: %+v, %v", name, w.live, w.Status().Refused)
		}
		wantFindings(t, w.Status().Findings, c.want...)
	}
	w := newWorld(t, Options{}, meshDoc("a", "{}"), installed(""))
	if r := w.Status().Refused; r == nil || len(r.Findings) != 1 || r.Findings[0].Code != codeDuplicate ||
		!strings.Contains(r.Error(), "the mesh's settings are in MeshConfig default/a (<inline 1>:3) already") {
		t.Errorf("two of them: %v", r)
	}
	for _, bad := range []string{meshDoc("a", "{a: b}"), cm("istio-system", "a: b")} {
		w := newWorld(t, Options{IgnoredKinds: []string{"MeshConfig"}}, bad)
		if s := w.Status(); s.Refused != nil || len(s.Findings) != 1 || s.Findings[0].Code != codeSkipped {
			t.Errorf("ignored: %+v", s)
		}
	}
}

// TestMeshDefaults: what the mesh says for all goes for those that say nothing themselves.
func TestMeshDefaults(t *testing.T) {
	t.Parallel()
	other := func(kind, name, spec string) string {
		return strings.Replace(doc(kind, name, spec), "name: "+name, "name: "+name+", namespace: shop", 1)
	}
	entry := other("ServiceEntry", "api", `{hosts: [api.example.com], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1}]}`)
	shown := other("ServiceEntry", "open", `{hosts: [open.example.com], exportTo: ["*"], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1}]}`)
	rule := other("VirtualService", "open", `{hosts: [open.example.com], http: [{name: r, timeout: 9s, directResponse: {status: 200}}]}`)
	policy := other("DestinationRule", "open", `{host: open.example.com, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 7s}}}}`)
	root := strings.ReplaceAll(strings.Replace(policy, "7s", "8s", 1), "namespace: shop", "namespace: control")
	look := func(w *world) (hosts, route string, timeout time.Duration) {
		v, _ := w.live.Tables[snapshot.Mesh].Lookup("open.example.com", 80)
		if v == nil {
			return w.hosts(), "", 0
		}
		for _, c := range w.live.Clusters {
			if strings.HasSuffix(c.Name, "|open.example.com") {
				timeout = c.Policy.ConnectTimeout
			}
		}
		return w.hosts(), v.Routes[0].Name, timeout
	}
	for name, c := range map[string]struct {
		mesh    string
		hosts   string
		route   string
		timeout time.Duration
	}{
		"nothing said":               {"{}", "api.example.com open.example.com", "r", 7 * time.Second},
		"services":                   {"{defaultServiceExportTo: [.]}", "open.example.com", "r", 7 * time.Second},
		"rules":                      {"{defaultVirtualServiceExportTo: [.]}", "api.example.com open.example.com", "default", 7 * time.Second},
		"rules for the caller":       {"{defaultVirtualServiceExportTo: [default]}", "api.example.com open.example.com", "r", 7 * time.Second},
		"policies":                   {"{defaultDestinationRuleExportTo: [.]}", "api.example.com open.example.com", "r", 0},
		"policies, and a default":    {"{defaultDestinationRuleExportTo: [.], connectTimeout: 3s}", "api.example.com open.example.com", "r", 3 * time.Second},
		"policies of the root":       {"{defaultDestinationRuleExportTo: ['~'], rootNamespace: control}", "api.example.com open.example.com", "r", 0},
		"policies of the root, seen": {"{rootNamespace: control}", "api.example.com open.example.com", "r", 7 * time.Second},
	} {
		w := newWorld(t, Options{}, meshDoc("m", c.mesh), entry, shown, rule, policy, root)
		if w.live == nil {
			t.Errorf("%s: %v", name, w.Status().Refused)
			continue
		}
		if hosts, route, timeout := look(w); hosts != c.hosts || route != c.route || timeout != c.timeout {
			t.Errorf("%s: %s, %s, %v", name, hosts, route, timeout)
		}
	}
	w := newWorld(t, Options{}, meshDoc("m", "{rootNamespace: control}"), shown, root)
	if _, _, timeout := look(w); timeout != 8*time.Second {
		t.Errorf("the root's policy: %v", timeout)
	}
}

// TestMeshInbound: what the mesh says of requests that come in.
func TestMeshInbound(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]snapshot.Inbound{
		"{}": {},
		"{pathNormalization: {normalization: BASE}}":                                 {},
		"{pathNormalization: {normalization: NONE}}":                                 {Paths: call.PathNone},
		"{pathNormalization: {normalization: MERGE_SLASHES}}":                        {Paths: call.PathMerge},
		"{pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}}":             {Paths: call.PathDecodeAndMerge},
		"{defaultConfig: {gatewayTopology: {}}}":                                     {Hops: 1},
		"{defaultConfig: {gatewayTopology: {numTrustedProxies: 2}}}":                 {Hops: 3},
		"{defaultConfig: {gatewayTopology: {numTrustedProxies: 0}}}":                 {Hops: 1},
		"{defaultConfig: {concurrency: 2, gatewayTopology: {numTrustedProxies: 1}}}": {Hops: 2},
	} {
		w := newWorld(t, Options{}, meshDoc("m", spec))
		if w.live == nil || w.live.Inbound.Paths != want.Paths || w.live.Inbound.Hops != want.Hops {
			t.Errorf("%s: %+v", spec, w.Status())
		}
	}
}
