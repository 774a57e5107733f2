package inject_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/heddlemesh/mesh/internal/inject"
)

// app is a Deployment with some annotations of its pod, lines of YAML, and some fields of the pod.
func app(annotations, spec string) string {
	const text = `apiVersion: apps/v1
kind: Deployment
metadata: {name: ratings-v1, namespace: shop}
spec:
  template:
    metadata:
      labels: {app: ratings, version: v1}
      annotations:
        note: ""
%s    spec:
%s      containers:
      - name: ratings
        image: ratings
        ports:
        - {name: http, containerPort: 9080}
`
	return fmt.Sprintf(text, indent(annotations, 8), indent(spec, 6))
}

func indent(lines string, by int) string {
	var b strings.Builder
	for line := range strings.Lines(lines) {
		b.WriteString(strings.Repeat(" ", by) + strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}

func annotation(name, value string) string {
	text, _ := json.Marshal(value)
	return name + ": " + string(text)
}

// injected gives the output, which there has to be, and what was said.
func injected(t *testing.T, in string, o inject.Options) (out string, said []inject.Finding) {
	t.Helper()
	text, said, err := inject.YAML([]byte(in), o)
	if err != nil {
		t.Fatal(err)
	}
	if text == nil {
		t.Fatalf("refused: %+v", said)
	}
	again, _, err := inject.YAML(text, o)
	if err != nil || !bytes.Equal(again, text) {
		t.Errorf("a second time: %v\n%s", err, again)
	}
	return string(text), said
}

// A container is what of one is looked at here.
type container struct {
	Name, Image   string
	RestartPolicy string `yaml:"restartPolicy"`
	Args          []string
	Env           []struct{ Name, Value string }
	Security      map[string]any `yaml:"securityContext"`
	Resources     map[string]map[string]string
	Readiness     map[string]any `yaml:"readinessProbe"`
	Lifecycle     map[string]any
	Mounts        []map[string]any `yaml:"volumeMounts"`
}

type podSpec struct {
	Init       []container `yaml:"initContainers"`
	Containers []container
	Volumes    []map[string]any
	Security   map[string]any `yaml:"securityContext"`
}

// podAt decodes the pod at a path.
func podAt(t *testing.T, text string, path ...any) podSpec {
	t.Helper()
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	n := root.Content[0]
	for _, step := range append(path, "spec") {
		if i, ok := step.(int); ok {
			n = n.Content[i]
			continue
		}
		at := slices.IndexFunc(n.Content, func(k *yaml.Node) bool { return k.Value == step })
		n = n.Content[at+1]
	}
	var p podSpec
	if err := n.Decode(&p); err != nil {
		t.Fatal(err)
	}
	return p
}

func deployment(t *testing.T, text string) podSpec { return podAt(t, text, "spec", "template") }

func names(all []container) (names []string) {
	for _, c := range all {
		names = append(names, c.Name)
	}
	return names
}

// TestKinds: whatever has a pod gets a sidecar, and nothing else does.
func TestKinds(t *testing.T) {
	t.Parallel()
	const pod = "spec: {containers: [{name: app, image: app}]}"
	template := "spec: {template: {" + pod + "}}"
	for _, c := range []struct {
		api, kind, body string
		path            []any
	}{
		{"v1", "Pod", pod, nil},
		{"v1", "ReplicationController", template, []any{"spec", "template"}},
		{"apps/v1", "Deployment", template, []any{"spec", "template"}},
		{"apps/v1", "StatefulSet", template, []any{"spec", "template"}},
		{"apps/v1", "DaemonSet", template, []any{"spec", "template"}},
		{"apps/v1", "ReplicaSet", template, []any{"spec", "template"}},
		{"batch/v1", "Job", template, []any{"spec", "template"}},
		{"batch/v1", "CronJob", "spec: {jobTemplate: {" + template + "}}", []any{"spec", "jobTemplate", "spec", "template"}},
	} {
		one := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: x}\n%s\n", c.api, c.kind, c.body)
		for how, in := range map[string]struct {
			text string
			path []any
		}{
			"alone":   {one, c.path},
			"in List": {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service}\n- " + strings.TrimSpace(strings.ReplaceAll(one, "\n", "\n  ")) + "\n", append([]any{"items", 1}, c.path...)},
		} {
			out, _ := injected(t, in.text, inject.Options{})
			p := podAt(t, out, in.path...)
			if got := names(p.Init); !slices.Equal(got, []string{"heddle-capture", "heddle-proxy"}) {
				t.Errorf("%s %s: init containers %v", c.kind, how, got)
			}
		}
	}
	for _, other := range []string{"apiVersion: v1\nkind: Service\nmetadata: {name: x}\n", "apiVersion: example.org/v1\nkind: Deployment\nspec: {}\n", "", "# nothing\n", "just text\n", "[1, 2]\n", "null\n"} {
		if out, _ := injected(t, other, inject.Options{}); out != other {
			t.Errorf("%q became %q", other, out)
		}
	}
}

// TestKeeps: what is not ours to say stays: documents, comments, order, unknown fields; and the result is always the same.
func TestKeeps(t *testing.T) {
	t.Parallel()
	const before = "%YAML 1.1\n---\n# A service,   oddly   written\nkind: Service\napiVersion: v1\nspec: {ports: [ {port: 9080} ]}   # odd\n"
	workload := app("", "# the account\nserviceAccountName: a # of ratings\nfuture: {x: [1, 2]}\n")
	workload = strings.Replace(workload, "kind: Deployment", "kind: Deployment # of ours", 1)
	const after = "---   # last\nkind:   ConfigMap\napiVersion: v1\n...\n"
	out, said := injected(t, before+"---\n"+workload+after, inject.Options{})
	if len(said) > 0 {
		t.Errorf("said %+v", said)
	}
	if !strings.HasPrefix(out, before) || !strings.HasSuffix(out, after) {
		t.Errorf("other documents have changed:\n%s", out)
	}
	for line := range strings.Lines(workload) {
		if !strings.Contains(out, line) {
			t.Errorf("lost %q in\n%s", line, out)
		}
	}
	for range 5 {
		if again, _ := injected(t, before+"---\n"+workload+after, inject.Options{}); again != out {
			t.Error("another result")
		}
	}
}

// TestPrivileges is attacks.md G-008 for the manifest: a fixed user, no capability, no way to one, a root that cannot be written; and
// one capability in the container that ends.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	for _, inContainers := range []bool{false, true} {
		out, _ := injected(t, app("", ""), inject.Options{InContainers: inContainers})
		p := deployment(t, out)
		found := map[string]map[string]any{}
		for _, c := range append(p.Init, p.Containers...) {
			found[c.Name] = c.Security
		}
		profile := map[string]any{"type": "RuntimeDefault"}
		want := map[string]map[string]any{
			"ratings": nil,
			"heddle-proxy": {"runAsUser": 1337, "runAsGroup": 1337, "runAsNonRoot": true, "privileged": false, "allowPrivilegeEscalation": false,
				"readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []any{"ALL"}}, "seccompProfile": profile},
			"heddle-capture": {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false, "privileged": false, "allowPrivilegeEscalation": false,
				"readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []any{"ALL"}, "add": []any{"NET_ADMIN"}}, "seccompProfile": profile},
		}
		if !reflect.DeepEqual(found, want) {
			t.Errorf("in containers %v: %v", inContainers, found)
		}
	}
}

// TestPlaces: where the containers go, natively and not.
func TestPlaces(t *testing.T) {
	t.Parallel()
	const first = "initContainers: [{name: first, image: x}]"
	hold := annotation("proxy.istio.io/config", "holdApplicationUntilProxyStarts: true")
	for name, c := range map[string]struct {
		annotations, spec string
		o                 inject.Options
		init, containers  []string
	}{
		"native":                 {"", first, inject.Options{}, []string{"heddle-capture", "heddle-proxy", "first"}, []string{"ratings"}},
		"beside":                 {"", first, inject.Options{InContainers: true}, []string{"first", "heddle-capture"}, []string{"ratings", "heddle-proxy"}},
		"held":                   {hold, "", inject.Options{InContainers: true}, []string{"heddle-capture"}, []string{"heddle-proxy", "ratings"}},
		"annotated native":       {annotation("sidecar.istio.io/nativeSidecar", "true"), "", inject.Options{InContainers: true}, []string{"heddle-capture", "heddle-proxy"}, []string{"ratings"}},
		"annotated not native":   {annotation("sidecar.istio.io/nativeSidecar", "false"), "", inject.Options{}, []string{"heddle-capture"}, []string{"ratings", "heddle-proxy"}},
		"null for a list":        {"", "initContainers:\nvolumes: null", inject.Options{}, []string{"heddle-capture", "heddle-proxy"}, []string{"ratings"}},
		"an empty list in a row": {"", "initContainers: []\nvolumes: []", inject.Options{}, []string{"heddle-capture", "heddle-proxy"}, []string{"ratings"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, _ := injected(t, app(c.annotations, c.spec), c.o)
			p := deployment(t, out)
			if !slices.Equal(names(p.Init), c.init) || !slices.Equal(names(p.Containers), c.containers) {
				t.Errorf("%v, %v", names(p.Init), names(p.Containers))
			}
			if len(p.Volumes) != 1 || p.Volumes[0]["name"] != "heddle-config" {
				t.Errorf("volumes %v", p.Volumes)
			}
			if held := strings.Contains(out, "postStart"); held != (name == "held") {
				t.Errorf("held: %v", held)
			}
		})
	}
}

// of gives a container's arguments, joined.
func of(t *testing.T, p podSpec, name string) (container, string) {
	t.Helper()
	for _, c := range append(p.Init, p.Containers...) {
		if c.Name == name {
			return c, strings.Join(c.Args, " ")
		}
	}
	t.Fatalf("no container %s", name)
	return container{}, ""
}

// TestAnnotations: what Istio's annotations do.
func TestAnnotations(t *testing.T) {
	t.Parallel()
	const traffic, sidecar = "traffic.sidecar.istio.io/", "sidecar.istio.io/"
	for _, c := range []struct{ annotations, capture, proxy string }{
		{"", "capture install --exclude-inbound-ports 15021", "--transparent --health :15021"},
		{annotation(traffic+"includeOutboundIPRanges", "*"), "capture install --exclude-inbound-ports 15021", ""},
		{annotation(traffic+"includeOutboundIPRanges", "10.0.0.0/8, fd00::/8"), "--include-cidrs 10.0.0.0/8,fd00::/8", ""},
		{annotation(traffic+"includeOutboundIPRanges", ""), "--exclude-cidrs 0.0.0.0/0,::/0", ""},
		{annotation(traffic+"includeOutboundIPRanges", "") + "\n" + annotation(traffic+"includeOutboundPorts", "80,443"), "--include-outbound-ports 80,443", ""},
		{annotation(traffic+"includeOutboundPorts", "80"), "capture install --exclude-inbound-ports 15021", ""},
		{annotation(traffic+"excludeOutboundIPRanges", "169.254.169.254/32"), "--exclude-cidrs 169.254.169.254/32", ""},
		{annotation(traffic+"excludeOutboundPorts", "3306"), "--exclude-outbound-ports 3306", ""},
		{annotation(traffic+"includeInboundPorts", "9080"), "--include-inbound-ports 9080", ""},
		{annotation(traffic+"includeInboundPorts", "*"), "capture install --exclude-inbound-ports 15021", ""},
		{annotation(traffic+"includeInboundPorts", ""), "--exclude-inbound-ports 1-65535,15021", ""},
		{annotation(traffic+"excludeInboundPorts", "22, 23"), "--exclude-inbound-ports 15021,22,23", ""},
		{annotation(traffic+"excludeInterfaces", "eth1"), "--exclude-outbound-interfaces eth1 --exclude-inbound-interfaces eth1", ""},
		{annotation(sidecar+"interceptionMode", "REDIRECT"), "capture install", ""},
		{annotation("status.sidecar.istio.io/port", "16021"), "--exclude-inbound-ports 16021", "--health :16021"},
		{annotation("proxy.istio.io/config", "proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\", ISTIO_META_DNS_AUTO_ALLOCATE: \"false\"}"), "--exclude-inbound-ports 15021 --dns", "--dns-auto-allocate=false"},
		{annotation("proxy.istio.io/config", "terminationDrainDuration: 20s\ninterceptionMode: REDIRECT\nstatusPort: 16021"), "", "--health :16021 --drain-delay 20s"},
	} {
		out, said := injected(t, app(c.annotations, ""), inject.Options{})
		p := deployment(t, out)
		if _, args := of(t, p, "heddle-capture"); !strings.Contains(args, c.capture) {
			t.Errorf("%s: %s", c.annotations, args)
		}
		if _, args := of(t, p, "heddle-proxy"); !strings.Contains(args, c.proxy) {
			t.Errorf("%s: %s", c.annotations, args)
		}
		if len(said) > 0 {
			t.Errorf("%s: %+v", c.annotations, said)
		}
	}
}

// TestContainer: image, resources, volumes, readiness, threads and labels of the sidecar.
func TestContainer(t *testing.T) {
	t.Parallel()
	const sidecar = "sidecar.istio.io/"
	out, said := injected(t, app(strings.Join([]string{
		annotation(sidecar+"proxyImage", "registry.example/heddle:1.0"), annotation(sidecar+"proxyCPU", "100m"), annotation(sidecar+"proxyMemory", "64Mi"),
		annotation(sidecar+"proxyCPULimit", "2"), annotation(sidecar+"proxyMemoryLimit", "1Gi"),
		annotation(sidecar+"userVolume", `[{"name":"more","emptyDir":{}}]`), annotation(sidecar+"userVolumeMount", `{"more":{"mountPath":"/more"}}`),
		annotation("readiness.status.sidecar.istio.io/periodSeconds", "3"), annotation("proxy.istio.io/config", "concurrency: 2"),
	}, "\n"), ""), inject.Options{IdentitySecret: "{account}-identity", ConfigMap: "rules"})
	if len(said) > 0 {
		t.Errorf("%+v", said)
	}
	p := deployment(t, out)
	c, args := of(t, p, "heddle-proxy")
	if c.Image != "registry.example/heddle:1.0" || c.RestartPolicy != "Always" || c.Readiness["periodSeconds"] != 3 {
		t.Errorf("%+v", c)
	}
	if want := map[string]map[string]string{"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}}; !reflect.DeepEqual(c.Resources, want) {
		t.Errorf("resources %v", c.Resources)
	}
	for _, want := range []string{"--workload ratings-v1 --namespace $(POD_NAMESPACE) --service-account $(SERVICE_ACCOUNT) --labels app=ratings,version=v1",
		"--svid /etc/heddle/identity/tls.crt --svid-key /etc/heddle/identity/tls.key --svid-bundle /etc/heddle/identity/ca.crt"} {
		if !strings.Contains(args, want) {
			t.Errorf("no %s in %s", want, args)
		}
	}
	if text := fmt.Sprint(p.Volumes, p.Security, c.Mounts, c.Env); text != "[map[configMap:map[name:rules] name:heddle-config] map[name:heddle-identity secret:map[defaultMode:288 secretName:default-identity]] "+
		"map[emptyDir:map[] name:more]] map[fsGroup:1338] [map[mountPath:/etc/heddle/mesh.d name:heddle-config readOnly:true] "+
		"map[mountPath:/etc/heddle/identity name:heddle-identity readOnly:true] map[mountPath:/more name:more]] [{POD_NAMESPACE } {SERVICE_ACCOUNT } {GOMAXPROCS 2}]" {
		t.Error(text)
	}

	out, _ = injected(t, app("", "securityContext: {fsGroup: 7}\n"), inject.Options{IdentityCSI: "csi.spiffe.io"})
	p = deployment(t, out)
	if _, args = of(t, p, "heddle-proxy"); !strings.Contains(args, "--workload-api unix:///run/spiffe/") || p.Security["fsGroup"] != 7 {
		t.Errorf("%s, %v", args, p.Security)
	}
}

// TestProbes: probes by the network are the sidecar's to make, by the JSON of Istio's injector; commands stay.
func TestProbes(t *testing.T) {
	t.Parallel()
	const probed = `        livenessProbe: {httpGet: {path: "/live?a=1&b=$(POD_NAMESPACE)", port: http, scheme: HTTPS, httpHeaders: [{name: x, value: "y"}]}, timeoutSeconds: 3, periodSeconds: 7}
        readinessProbe: {tcpSocket: {port: 9081}}
        startupProbe: {grpc: {port: 9082, service: s}, failureThreshold: 9}
      - name: other
        livenessProbe: {exec: {command: [true]}}
        readinessProbe: {httpGet: {port: 1, host: example.org}}
        lifecycle: {preStop: {httpGet: {port: 1}}}
`
	in := app("", "") + probed
	out, said := injected(t, in, inject.Options{})
	c, _ := of(t, deployment(t, out), "heddle-proxy")
	const want = `{"/app-health/ratings/livez":{"httpGet":{"path":"/live?a=1&b=$$(POD_NAMESPACE)","port":9080,"scheme":"HTTPS","httpHeaders":[{"name":"x","value":"y"}]},"timeoutSeconds":3},` +
		`"/app-health/ratings/readyz":{"tcpSocket":{"port":9081}},"/app-health/ratings/startupz":{"grpc":{"port":9082,"service":"s"}}}`
	if last := c.Env[len(c.Env)-1]; last.Name != "ISTIO_KUBE_APP_PROBERS" || last.Value != want {
		t.Errorf("%+v", last)
	}
	for _, line := range []string{"livenessProbe: {httpGet: {path: /app-health/ratings/livez, port: 15021}, timeoutSeconds: 3, periodSeconds: 7}",
		"readinessProbe: {httpGet: {path: /app-health/ratings/readyz, port: 15021}}",
		"startupProbe: {httpGet: {path: /app-health/ratings/startupz, port: 15021}, failureThreshold: 9}", "{exec: {command: [true]}}", "host: example.org"} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in\n%s", line, out)
		}
	}
	if len(said) != 2 || !strings.Contains(said[0].Message, "asks the host example.org") && !strings.Contains(said[1].Message, "asks the host example.org") {
		t.Errorf("%+v", said)
	}
	out, _ = injected(t, strings.Replace(in, "note: \"\"", "sidecar.istio.io/rewriteAppHTTPProbers: \"false\"", 1), inject.Options{})
	if strings.Contains(out, "app-health") {
		t.Errorf("rewritten all the same:\n%s", out)
	}
}

// TestRefuses: what cannot be guarded is refused, with its place and the reason.
func TestRefuses(t *testing.T) {
	t.Parallel()
	const line = 10 // of the first annotation
	for _, c := range []struct {
		in   string
		line int
		want string
	}{
		{app("", "hostNetwork: true"), 11, "hostNetwork: the rules would capture the connections of the whole node"},
		{app("", "os: {name: windows}"), 11, "Linux only"},
		{app("", "nodeSelector: {kubernetes.io/os: windows}"), 11, "Linux only"},
		{app("", "securityContext: {runAsUser: 1337}"), 11, "securityContext.runAsUser: 1337 is the sidecar's"},
		{app("", "") + "        securityContext: {runAsGroup: 1337}\n", 16, "containers[ratings].securityContext.runAsGroup: 1337"},
		{app("", "securityContext: {runAsUser: 0x539}"), 11, "securityContext.runAsUser: 1337 is the sidecar's"},
		{app("", "securityContext: {runAsUser: 1_337}"), 11, "securityContext.runAsUser: 1337 is the sidecar's"},
		{app("", "securityContext: {runAsGroup: 02471}"), 11, "securityContext.runAsGroup: 1337 is the sidecar's"},
		{app("", "securityContext: {runAsGroup: 1.337e+3}"), 11, "securityContext.runAsGroup: 1337 is the sidecar's"},
		{app("", "securityContext: {fsGroup: 1337}"), 11, "securityContext.fsGroup: 1337 is the sidecar's group"},
		{app("", "securityContext: {supplementalGroups: [7, 0x539]}"), 11, "securityContext.supplementalGroups: 1337 is the sidecar's group"},
		{app("", "securityContext: {runAsUser: 7, runAsUser: 1337}"), 11, "runAsUser: the key is there twice"},
		{app("", "hostNetwork: yes"), 11, "hostNetwork: the rules would capture"},
		{app("", "hostNetwork: True"), 11, "hostNetwork: the rules would capture"},
		{app("", "") + "x: &s {}\nspec: {}\n", 17, "spec: the key is there twice"},
		{strings.Replace(app("", ""), "  template:", "  x: &t {}\n  <<: *t\n  template:", 1), 5, "an alias or a merge key above the pod"},
		{strings.Replace(strings.Replace(app("", ""), "kind: Deployment", "x: &k {kind: Deployment}", 1), "metadata: {", "<<: *k\nmetadata: {", 1), 1, "an alias or a merge key above the pod"},
		{app("", "volumes: [{name: heddle-config}]"), 11, "the name is one of the sidecar's"},
		{app("", "initContainers: [{name: istio-init}]"), 11, "Istio's sidecar is there already"},
		{app("", "x: &a {}\ny: *a"), 12, "an alias or a merge key"},
		{app("", "") + "        readinessProbe: {httpGet: {port: nowhere}}\n", 16, `expected a port, by number or by a name of the container's ports, found "nowhere"`},
		{app(annotation("sidecar.istio.io/status", "{}"), ""), line, "Istio has put its sidecar in already"},
		{app(annotation("sidecar.istio.io/inject", "perhaps"), ""), line, `expected true or false, found "perhaps"`},
		{app(annotation("sidecar.istio.io/interceptionMode", "TPROXY"), ""), line, "TPROXY needs a capability"},
		{app(annotation("sidecar.istio.io/interceptionMode", "NONE"), ""), line, "without capture nothing would come"},
		{app(annotation("sidecar.istio.io/proxyCPU", "much"), ""), line, "expected a quantity"},
		{app(annotation("sidecar.istio.io/proxyImage", "a b"), ""), line, "expected the reference of an image"},
		{app(annotation("sidecar.istio.io/userVolume", "no"), ""), line, "expected JSON"},
		{app(annotation("sidecar.istio.io/userVolume", `[{"name":"heddle-config"}]`), ""), line, "not the sidecar's"},
		{app(annotation("status.sidecar.istio.io/port", "0"), ""), line, "expected a port"},
		{app(annotation("traffic.sidecar.istio.io/excludeOutboundPorts", "http"), ""), line, `"http" is not what is expected`},
		{app(annotation("traffic.sidecar.istio.io/excludeInboundPorts", "-1"), ""), line, `"-1" is not what is expected`},
		{app(annotation("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.1"), ""), line, `"10.0.0.1" is not what is expected`},
		{app(annotation("traffic.sidecar.istio.io/includeOutboundPorts", "80")+"\n"+annotation("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/8"), ""), line, "would be captured in addition"},
		{app(annotation("traffic.sidecar.istio.io/kubevirtInterfaces", "tap0"), ""), line, "virtual machines"},
		{app(annotation("proxy.istio.io/config", "concurrency: many"), ""), line, "concurrency: expected a number"},
		{app(annotation("proxy.istio.io/config", "terminationDrainDuration: soon"), ""), line, "expected a duration"},
		{app(annotation("proxy.istio.io/config", "proxyMetadata: {ISTIO_META_DNS_CAPTURE: perhaps}"), ""), line, "ISTIO_META_DNS_CAPTURE: expected true or false"},
		{app(annotation("proxy.istio.io/config", "nothing"), ""), line, "expected a ProxyConfig"},
		{strings.Replace(app("", ""), "app: ratings", "app: 'a,b=c'", 1), 7, "is no label of Kubernetes"},
		{strings.Replace(app("", ""), "name: ratings-v1", "name: $(X)", 1), 1, "expected the name of a workload"},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n", 1, "a pod with containers is expected"},
	} {
		const before = "kind: Service\n---\n"
		out, said, err := inject.YAML([]byte(before+c.in), inject.Options{})
		if err != nil || out != nil || len(said) == 0 || said[0].Level != inject.Error || said[0].Line != c.line+2 || !strings.Contains(said[0].Message, c.want) {
			t.Errorf("%s\n%s, %v, %+v, want line %d", c.in, out, err, said, c.line+2)
		}
	}
	if _, said, err := inject.YAML([]byte("apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\nspec: {template: {spec: {containers: [{name: x}]}}}\n"), inject.Options{InContainers: true}); err != nil ||
		len(said) != 1 || !strings.Contains(said[0].Message, "the pod never ends") {
		t.Errorf("%+v, %v", said, err)
	}
}

// TestSays: what has no effect, or takes the guard away, is named.
func TestSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		annotations, spec string
		level             inject.Level
		want              string
		same              bool
	}{
		{annotation("sidecar.istio.io/extraStatTags", "x"), "", inject.Warning, "annotations[sidecar.istio.io/extraStatTags]: it has no effect", false},
		{annotation("traffic.sidecar.istio.io/excludeOutboundPort", "x"), "", inject.Warning, "it has no effect", false},
		{annotation("proxy.istio.io/config", "tracing: {}"), "", inject.Warning, ".tracing: it has no effect", false},
		{annotation("proxy.istio.io/config", "proxyMetadata: {BOOTSTRAP_XDS_AGENT: x}"), "", inject.Warning, ".proxyMetadata.BOOTSTRAP_XDS_AGENT: it has no effect", false},
		{annotation("sidecar.istio.io/inject", "false"), "", inject.Info, "left as it is", true},
		{"", "initContainers: [{name: a, securityContext: {privileged: true}}]", inject.Warning, "can take away the rules", false},
		{"", "initContainers: [{name: a, securityContext: {capabilities: {add: [NET_ADMIN]}}}]", inject.Warning, "can take away the rules", false},
		{"", "initContainers: [{name: a, securityContext: {capabilities: {add: [CAP_SETUID]}}}]", inject.Warning, "can become the sidecar's user", false},
		{annotation("galley.istio.io/analyze-suppress", "x"), "", "", "", false},
	} {
		in := app(c.annotations, c.spec)
		out, said := injected(t, in, inject.Options{})
		if c.level == "" && len(said) > 0 || c.level != "" && (len(said) != 1 || said[0].Level != c.level || !strings.Contains(said[0].Message, c.want)) {
			t.Errorf("%s%s: %+v", c.annotations, c.spec, said)
		}
		if (out == in) != c.same {
			t.Errorf("%s%s: the same: %v", c.annotations, c.spec, out == in)
		}
	}
	labelled := strings.Replace(app(annotation("sidecar.istio.io/inject", "true"), ""), "app: ratings,", `app: ratings, sidecar.istio.io/inject: "false",`, 1)
	if out, _ := injected(t, labelled, inject.Options{}); out != labelled {
		t.Error("the label does not count before the annotation")
	}
}

// TestBroken: what is no YAML is an error with its place in the whole stream, and so are options that make no sense.
func TestBroken(t *testing.T) {
	t.Parallel()
	if _, _, err := inject.YAML([]byte("a: 1\n---\nb: [\n"), inject.Options{}); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Error(err)
	}
	for _, o := range []inject.Options{{Image: "-x"}, {CaptureImage: "a b"}, {ConfigMap: "A"}, {IdentitySecret: "{name}"}, {IdentityCSI: "x/y"}, {IdentitySecret: "a", IdentityCSI: "b"}} {
		if _, _, err := inject.YAML(nil, o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// TestJSON: JSON is taken as YAML, and given where it is asked for.
func TestJSON(t *testing.T) {
	t.Parallel()
	out, _ := injected(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"a"}]}}`+"\n---\nkind: Service\n", inject.Options{})
	text, err := inject.JSON([]byte(out))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	var pod struct {
		Spec struct {
			InitContainers []struct{ Name string }
		}
	}
	var service struct{ Kind string }
	if err := d.Decode(&pod); err != nil || len(pod.Spec.InitContainers) != 2 {
		t.Errorf("%v, %+v", err, pod)
	}
	if err := d.Decode(&service); err != nil || service.Kind != "Service" || d.More() {
		t.Errorf("%v, %+v", err, service)
	}
}

// FuzzYAML: whatever comes in, what goes out can be read, has at most one sidecar a pod, and is the same when it goes in again.
func FuzzYAML(f *testing.F) {
	f.Add(app("", ""))
	f.Add("---\n" + app(annotation("sidecar.istio.io/inject", "false"), "initContainers:\n") + "---\nkind: Service\n")
	f.Add("apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: a, livenessProbe: {httpGet: {port: 1}}}]}}]\n")
	f.Add(app(annotation("sidecar.istio.io/userVolume", `{"a":{"emptyDir":{}}}`), "x: &a 1\n"))
	f.Fuzz(func(t *testing.T, in string) {
		out, _, err := inject.YAML([]byte(in), inject.Options{})
		if err != nil || out == nil {
			return
		}
		again, said, err := inject.YAML(out, inject.Options{})
		if err != nil || !bytes.Equal(again, out) {
			t.Errorf("in:\n%s\nout:\n%s\nagain: %v, %+v\n%s", in, out, err, said, again)
		}
	})
}
