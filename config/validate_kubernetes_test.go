package config

import (
	"strings"
	"testing"
)

// kubeText writes a document whose spec, or what stands in its place, begins on line 5.
func kubeText(kind, rest string) string {
	switch kind {
	case "Service":
		return "apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: shop}\nspec:\n" + strings.Trim(rest, "\n") + "\n"
	case "EndpointSlice":
		return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: reviews-1, namespace: shop, labels: {kubernetes.io/service-name: reviews}}\n" +
			"# endpoints:\n" + strings.Trim(rest, "\n") + "\n"
	}
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: reviews-1, namespace: shop}\n# as it runs:\n" + strings.Trim(rest, "\n") + "\n"
}

func runKubernetes(t *testing.T, kind string, cases []validateCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			expectFound(t, validateOne(t, kubeText(kind, c.spec)), c.want)
		})
	}
}

var serviceCases = []validateCase{
	{"as kubectl get writes it", `
  allocateLoadBalancerNodePorts: true
  clusterIP: 10.96.4.2
  clusterIPs: [10.96.4.2, "fd00::2"]
  externalIPs: [192.0.2.9]
  externalTrafficPolicy: Local
  healthCheckNodePort: 31999
  internalTrafficPolicy: Cluster
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: PreferDualStack
  loadBalancerClass: example.com/lb
  loadBalancerIP: 192.0.2.8
  loadBalancerSourceRanges: [192.0.2.0/24]
  ports:
  - {name: http, nodePort: 30000, port: 80, protocol: TCP, targetPort: 8080}
  - {name: https-x, port: 443, appProtocol: https, targetPort: web-tls}
  - {name: db, port: 3306}
  publishNotReadyAddresses: true
  selector: {app: reviews}
  sessionAffinity: None
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 10800}}
  type: LoadBalancer
status: {loadBalancer: {}}`, nil},
	{"headless", `
  clusterIP: None
  ports: [{port: 80, appProtocol: kubernetes.io/h2c}]`, nil},
	{"external name", `
  type: ExternalName
  externalName: db.example.com.
  ports: [{port: 80, name: http, targetPort: 80}]`, nil},
	{"external name without ports", `
  type: ExternalName
  externalName: db.example.com`, nil},

	{"type", `
  type: Clusterip
  ports: [{port: 80, name: http}]`, []string{`IST0106! 5:9 spec.type ~ unknown value "Clusterip"; did you mean "ClusterIP"? expected one of [ClusterIP ExternalName`}},
	{"cluster addresses", `
  clusterIP: 10.96.0.999
  clusterIPs: [10.96.0.1, None, x]
  ports: [{port: 80, name: http}]`, []string{
		`IST0106! 5:14 spec.clusterIP ~ "10.96.0.999" is no address; write an IP address, or "None"`,
		`IST0106! 6:3 spec.clusterIPs ~ there are 3 addresses`,
		`IST0106! 6:16 spec.clusterIPs[0] ~ is not clusterIP, "10.96.0.999"`,
		`IST0106! 6:27 spec.clusterIPs[1] ~ is not the only entry`,
		`IST0106! 6:33 spec.clusterIPs[2] ~ "x" is no address`,
	}},
	{"no ports", `
  clusterIP: 10.96.0.1`, []string{`IST0106! 4:1 spec.ports ~ ports is missing; only a headless`}},
	{"no ports, headless", `
  clusterIP: None`, []string{`HDL0009? 4:1 spec.ports ~ nothing can call it`}},
	{"A-062 ports", `
  ports:
  - {name: http}
  - {port: 65536, name: http}
  - {port: 80}
  - {port: 80, name: HTTP}
  - {port: 80, name: dns, protocol: UDP}
  - {port: -1, name: http-a}`, []string{
		`IST0106! 6:5 spec.ports[0].port ~ is no port`,
		`IST0106! 7:12 spec.ports[1].port ~ 65536 is no port; write a number from 1 to 65535`,
		`IST0106! 7:25 spec.ports[1].name ~ "http" repeats ports[0]`,
		`IST0106! 8:5 spec.ports[2].name ~ the name of the port is missing`,
		`IST0118? 8:5 spec.ports[2] ~ port 80 does not say what it speaks`,
		`IST0106! 9:12 spec.ports[3].port ~ 80 repeats ports[2]`,
		`IST0106! 9:22 spec.ports[3].name ~ "HTTP" is no name of a port`,
		`HDL0004? 10:5 spec.ports[4] ~ port dns (80/UDP) skipped: the mesh carries TCP`,
		`IST0106! 11:12 spec.ports[5].port ~ -1 is no port`,
	}},
	{"protocols", `
  ports:
  - {port: 1, name: http, protocol: tcp}
  - {port: 2, name: http-a, appProtocol: "a b"}
  - {port: 3, name: http-b, appProtocol: example.com/own}
  - {port: 4, name: web}
  - {port: 5, name: sctp, protocol: SCTP}
  - {port: 6, name: udp-syslog}`, []string{
		`IST0106! 6:37 spec.ports[0].protocol ~ unknown value "tcp"; did you mean "TCP"?`,
		`IST0118? 7:5 spec.ports[1] ~ does not say`,
		`IST0106! 7:42 spec.ports[1].appProtocol ~ "a b" is no protocol`,
		`IST0118? 8:5 spec.ports[2] ~ port http-b (3) does not say what it speaks`,
		`IST0118? 9:5 spec.ports[3] ~ as in "http-web"`,
		`HDL0004? 10:5 spec.ports[4] ~ port sctp (5/SCTP) skipped`,
		`HDL0004? 11:5 spec.ports[5] ~ port udp-syslog (6) skipped`,
	}},
	{"target ports", `
  ports:
  - {port: 1, name: http-1, targetPort: 0}
  - {port: 2, name: http-2, targetPort: 70000}
  - {port: 3, name: http-3, targetPort: "8080"}
  - {port: 4, name: http-4, targetPort: Web}
  - {port: 5, name: http-5, targetPort: ""}
  - {port: 6, name: http-6, nodePort: 70000}`, []string{
		`IST0106! 6:41 spec.ports[0].targetPort ~ 0 is no port`,
		`IST0106! 7:41 spec.ports[1].targetPort ~ 70000 is no port`,
		`IST0106! 8:41 spec.ports[2].targetPort ~ "8080" is no name of a port; write 8080 without quotes`,
		`IST0106! 9:41 spec.ports[3].targetPort ~ "Web" is no name of a port; write at most 15`,
		`IST0106! 11:39 spec.ports[5].nodePort ~ 70000 is out of range`,
	}},
	{"external names", `
  type: ExternalName
  ports: [{port: 80, name: http, targetPort: 8080}]
  clusterIP: None
  selector: {app: x}`, []string{
		`IST0106! 4:1 spec.externalName ~ externalName is missing`,
		`HDL0009? 6:46 spec.ports[0].targetPort ~ without effect: the name is called on port 80`,
		`IST0106! 7:14 spec.clusterIP ~ an ExternalName has no address of the cluster`,
		`HDL0009? 8:3 spec.selector ~ without effect`,
	}},
	{"external name is a URL", `
  type: ExternalName
  externalName: http://x`, []string{`IST0106! 6:17 spec.externalName ~ is a URL`}},
	{"external name is a wildcard", `
  type: ExternalName
  externalName: "*.x.com"`, []string{`IST0106! 6:17 spec.externalName ~ is a wildcard`}},
	{"external name is an address", `
  type: ExternalName
  externalName: 192.0.2.1`, []string{`HDL0009? 6:17 spec.externalName ~ Kubernetes takes it for a name`}},
	{"external name of another type", `
  externalName: x.example.com
  ports: [{port: 80, name: http}]`, []string{`HDL0009? 5:17 spec.externalName ~ type is not ExternalName`}},
	{"what no mesh carries out", `
  sessionAffinity: ClientIP
  internalTrafficPolicy: Local
  trafficDistribution: PreferClose
  ports: [{port: 80, name: http}]`, []string{
		`HDL0009? 5:20 spec.sessionAffinity ~ it is kube-proxy's`,
		`HDL0008! 6:26 spec.internalTrafficPolicy ~ calls would go to other nodes too`,
		`HDL0008? 7:24 spec.trafficDistribution ~ near or far`,
	}},
	{"A-013 values", `
  sessionAffinity: none
  internalTrafficPolicy: local
  trafficDistribution: Near
  externalTrafficPolicy: x
  ipFamilyPolicy: Dual
  ipFamilies: [IPv5]
  selector: {"a b": c, d: "e f"}
  ports: [{port: 80, name: http}]`, []string{
		`IST0106! 5:20 spec.sessionAffinity ~ did you mean "None"?`,
		`IST0106! 6:26 spec.internalTrafficPolicy ~ did you mean "Local"?`,
		`IST0106! 7:24 spec.trafficDistribution ~ expected one of [PreferClose`,
		`HDL0008? 7:24 spec.trafficDistribution ~ without effect`,
		`IST0106! 8:26 spec.externalTrafficPolicy ~ unknown value "x"`,
		`IST0106! 9:19 spec.ipFamilyPolicy ~ unknown value "Dual"`,
		`IST0106! 10:16 spec.ipFamilies[0] ~ did you mean "IPv4"?`,
		`IST0106! 11:14 spec.selector["a b"] ~ is no key of a label`,
		`IST0106! 11:27 spec.selector.d ~ is no value of a label`,
	}},
}

func TestServices(t *testing.T) {
	t.Parallel()
	runKubernetes(t, "Service", serviceCases)
}

func TestServiceMetadata(t *testing.T) {
	t.Parallel()
	text := func(metadata string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {" + metadata + "}\nspec: {ports: [{port: 80, name: http}]}\n"
	}
	annotated := func(exportTo string) string {
		return text("name: a, annotations: {networking.istio.io/exportTo: '" + exportTo + "'}")
	}
	const at = `IST0106! 3:65 metadata.annotations["networking.istio.io/exportTo"] ~ `
	for text, want := range map[string][]string{
		annotated(""):                    nil,
		annotated("*"):                   nil,
		annotated("., shop,web"):         nil,
		annotated("~"):                   nil,
		annotated(".,*"):                 {at + `"*" is not the only entry`},
		annotated(".,"):                  {at + `"" is no namespace`},
		annotated("A"):                   {at + `"A" is no namespace`},
		annotated("default,."):           {at + `"." repeats entry 0, "default"`},
		text("name: a.b"):                {`IST0106! 3:18 metadata.name ~ "a.b" is no name of a Service`},
		text("name: 4you"):               nil,
		text("name: " + manyLetters(64)): {`IST0106! 3:18 metadata.name ~ at most 63`},
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\n": {`IST0106! 1:1 spec ~ spec is missing`},
	} {
		expectFound(t, validateOne(t, text), want)
	}
}

func manyLetters(n int) string { return strings.Repeat("a", n) }

var sliceCases = []validateCase{
	{"as kubectl get writes it", `
addressType: IPv6
endpoints:
- addresses: ["fd00::1"]
  conditions: {ready: true, serving: true, terminating: false}
  deprecatedTopology: {topology.kubernetes.io/region: eu}
  hints: {forZones: [{name: eu-1a}]}
  hostname: reviews-0
  nodeName: node-1
  targetRef: {apiVersion: v1, kind: Pod, name: reviews-0, namespace: shop, uid: a, resourceVersion: "1", fieldPath: x}
  zone: eu-1a
ports:
- {name: http, port: 9080, protocol: TCP, appProtocol: http}
- {name: any}`, nil},
	{"nothing in it", `
addressType: IPv4
endpoints: null
ports: null`, nil},
	{"loopback", `
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}]
ports: [{port: 9080}]`, nil},
	{"A-078 endpoints", `
addressType: IPv4
endpoints:
- addresses: [10.0.0.1, "fd00::1", reviews, 0.0.0.0, "::ffff:10.0.0.1", 10.0.0.1:80]
- {}
- addresses: [10.0.0.2]
  conditions: {terminating: true}
ports:
- {name: http, port: 0}
- {name: http, port: 70000, protocol: http}
- {name: Http, port: 1}`, []string{
		`IST0106! 7:25 endpoints[0].addresses[1] ~ "fd00::1" is not of the slice's addressType, IPv4`,
		`IST0106! 7:36 endpoints[0].addresses[2] ~ "reviews" is no IP address`,
		`IST0106! 7:45 endpoints[0].addresses[3] ~ is no address of an endpoint`,
		`IST0106! 7:54 endpoints[0].addresses[4] ~ is no IP address`,
		`IST0106! 7:73 endpoints[0].addresses[5] ~ is no IP address`,
		`IST0106! 8:3 endpoints[1].addresses ~ addresses is missing`,
		`HDL0009? 10:3 endpoints[2].conditions ~ counts as ready`,
		`IST0106! 12:22 ports[0].port ~ 0 is no port`,
		`IST0106! 13:10 ports[1].name ~ "http" repeats ports[0]`,
		`IST0106! 13:22 ports[1].port ~ 70000 is no port`,
		`IST0106! 13:39 ports[1].protocol ~ unknown value "http"`,
		`IST0106! 14:10 ports[2].name ~ is no name of a port`,
	}},
	{"names", `
addressType: FQDN
endpoints: [{addresses: [db.example.com, "*.example.com", 10.0.0.1, a_b]}]
ports: [{name: http, port: 80}]`, []string{
		`IST0106! 6:42 endpoints[0].addresses[1] ~ is no address`,
		`IST0106! 6:59 endpoints[0].addresses[2] ~ is an IP address`,
		`IST0106! 6:69 endpoints[0].addresses[3] ~ has the label "a_b"`,
	}},
	{"no type", `
endpoints: []`, []string{`IST0106! 1:1 addressType ~ addressType is missing; expected one of [FQDN IPv4 IPv6]`}},
	{"another type", `
addressType: ipv4`, []string{`IST0106! 5:14 addressType ~ did you mean "IPv4"?`}},
	{"no ports", `
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]`, []string{`HDL0009? 6:1 endpoints ~ has no ports`}},
}

func TestEndpointSlices(t *testing.T) {
	t.Parallel()
	runKubernetes(t, "EndpointSlice", sliceCases)
	found := validateOne(t, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\naddressType: IPv4\n")
	expectFound(t, found, []string{`HDL0009? 3:1 metadata.labels ~ write its name in the label kubernetes.io/service-name`})
}

var podCases = []validateCase{
	{"as it runs", `
spec: {nodeName: a, volumes: [{name: x, emptyDir: {}}], whatever: 1, containers: [{name: c, image: x, ports: [{containerPort: 80, hostPort: 1}]}]}
status: {podIP: 10.0.0.1, hostIP: 10.1.1.1, conditions: [{type: Ready, status: "True", lastProbeTime: null}]}`, nil},
	{"labels only", ``, nil},
	{"address", `
status: {podIP: none}`, []string{`IST0106! 5:17 status.podIP ~ "none" is no IP address`}},
}

func TestPods(t *testing.T) {
	t.Parallel()
	runKubernetes(t, "Pod", podCases)
}

// TestKubernetesDecode: and the types, for the kinds that are read without a descriptor.
func TestKubernetesDecode(t *testing.T) {
	t.Parallel()
	runRefusals(t, []refusedText{
		{"top level", kubeText("Service", "  ports: []\nsepc: {}"), []want{{at: "6:1", path: "sepc", message: `unknown field "sepc"`, hint: `did you mean "spec"? expected one of [apiVersion kind metadata spec status]`}}},
		{"spec", kubeText("Service", "  slector: {}\n  loadBalancerIp: 1.2.3.4"), []want{
			{at: "5:3", path: "spec.slector", hint: `did you mean "selector"? expected one of [allocateLoadBalancerNodePorts`},
			{at: "6:3", path: "spec.loadBalancerIp", hint: `did you mean "loadBalancerIP"?`}}},
		{"port", kubeText("Service", "  ports:\n  - {prot: 80, targetport: 1}"), []want{
			{at: "6:6", path: "spec.ports[0].prot", hint: `did you mean "port"?`}, {at: "6:16", path: "spec.ports[0].targetport", hint: `did you mean "targetPort"?`}}},
		{"types", kubeText("Service", "  clusterIP: 10\n  ports:\n  - {port: \"80\", name: 1, targetPort: 1.5}\n  publishNotReadyAddresses: yes\n  selector: [a]\n  ipFamilies: IPv4\n  type:"), []want{
			{at: "5:14", path: "spec.clusterIP", message: "expected text, found 10"},
			{at: "7:12", path: "spec.ports[0].port", message: `expected a whole number, found "80"`, hint: "without quotes"},
			{at: "7:24", path: "spec.ports[0].name", message: "expected text, found 1"},
			{at: "7:39", path: "spec.ports[0].targetPort", message: "expected a port's number or name, found 1.5"},
			{at: "8:29", path: "spec.publishNotReadyAddresses", message: "expected true or false"},
			{at: "9:3", path: "spec.selector", message: "expected an object, found a list"},
			{at: "10:15", path: "spec.ipFamilies", message: `expected a list, found "IPv4"`},
			{at: "11:3", path: "spec.type", message: "expected text, found null"}}},
		{"nulls", kubeText("Service", "  ports: [null, {port: null}]"), []want{
			{at: "5:11", path: "spec.ports[0]", message: "element 0 of the list is null"}, {at: "5:18", path: "spec.ports[1].port", message: "found null"}}},
		{"spec null", kubeText("Service", ""), []want{{at: "4:1", path: "spec", message: "expected an object, found null"}}},
		{"out of range", kubeText("Service", "  ports: [{port: 99999999999}]"), []want{{at: "5:18", path: "spec.ports[0].port", message: "99999999999 is out of range"}}},
		{"slice", kubeText("EndpointSlice", "adressType: IPv4\nendpoints: [{address: a, conditions: {Ready: true}}]"), []want{
			{at: "5:1", path: "adressType", hint: `did you mean "addressType"? expected one of [addressType apiVersion endpoints kind metadata ports]`},
			{at: "6:14", path: "endpoints[0].address", hint: `did you mean "addresses"?`},
			{at: "6:39", path: "endpoints[0].conditions.Ready", hint: `did you mean "ready"?`}}},
		{"condition", kubeText("EndpointSlice", "endpoints: [{conditions: {ready: \"true\"}}]"), []want{
			{at: "5:34", path: "endpoints[0].conditions.ready", message: "expected true or false", hint: "without quotes"}}},
		{"Pod", kubeText("Pod", "status: {podIP: 1}"), []want{{at: "5:17", path: "status.podIP", message: "expected text, found 1"}}},
		{"merge key", kubeText("Service", "  <<: {type: x}"), []want{{at: "5:3", path: "spec", message: "merge key"}}},
	})
}
