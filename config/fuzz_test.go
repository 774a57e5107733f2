package config

import (
	"bytes"
	"testing"
)

func seed(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte(minimal + "---\n" + list))
	f.Add([]byte(positioned))
	f.Add(meshText(1))
	f.Add([]byte("a:\n\tb: \"ü\xc3\n"))
	f.Add([]byte("--- {a: [b, c\n...\n%YAML 1.2\n---\n? x\n: &a [*a]\n"))
	f.Add([]byte(virtualServiceText("  http: &a [{match: *a, timeout: 5, retries: {attempts: '1', perTryTimeout: 1h}, retrise: 1}]\n  hosts: [1.0, on, null]\n")))
	f.Add([]byte(servedText("DestinationRule", "  trafficPolicy: {loadBalancer: {simple: RANDOM, consistentHash: {minimumRingSize: \"1\"}}}\n")))
	f.Add([]byte(servedText("ServiceEntry", "  <<: {}\n  ports: [{number: 080}]\n  location: mesh_internal\n  endpoints: [{labels: {1: a}}]\n")))
	f.Add([]byte(kubeText("Service", "  ports: [{port: 080, targetPort: a, prot: 1}, null]\n  selector: {1: a}\n  clusterIPs: None\n")))
	f.Add([]byte(kubeText("EndpointSlice", "endpoints: &e [{addresses: *e, conditions: {ready: yes}}]\nports: null\n")))
	f.Add([]byte(kubeText("Pod", "status: {podIP: 1, conditions: [{type: Ready, *a : b}]}\n")))
	f.Add([]byte(installed("    trustDomian: [ü]\n    outboundTrafficPolicy: {mode: x}\n")))
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata: &d\n  mesh: \"a: [\\n\"\n  meshNetworks: *d\n"))
	f.Add([]byte(meshDoc("m", "{defaultHttpRetryPolicy: {attempts: -1}, extensionProviders: [{envoyFileAccessLog: {logFormat: {labels: 1}}}]}")))
	f.Add([]byte(servedText("Sidecar", "  egress: [{hosts: [~, a/b/c]}]\n")))
	f.Add([]byte(doc("RateLimit", "a", "{direction: INBOUND, limits: &l [{requests: 1.5, by: *l, unit: [], maxKeys: '1', match: [{uri: 1}]}, null]}")))
	f.Add([]byte(doc("ResiliencePolicy", "a", "{hosts: [1], circuitBreaker: {interval: 5, openFor: {}, failurePercent: 0x10}}")))
	f.Add([]byte(`{"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "x"}}`))
}

// checkPositions fails for a finding that points at nothing in text.
func checkPositions(t *testing.T, text []byte, findings []Finding) {
	t.Helper()
	lines := bytes.Split(text, []byte("\n"))
	for _, f := range findings {
		if f.File != "f" || f.Line < 1 || f.Column < 1 || f.Line > len(lines) || f.Column > len(lines[f.Line-1])+1 {
			t.Errorf("outside of the text: %s", f)
		}
		if f.Message == "" || f.Code == "" || f.Refused != (f.Level == Error) {
			t.Errorf("incomplete: %+v", f)
		}
	}
}

func FuzzParse(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		resources, findings := Parse("f", text)
		checkPositions(t, text, findings)
		for _, r := range resources {
			if r.Key.Kind == "" || r.Key.Namespace == "" || r.Key.Name == "" || r.Version == "" || r.doc == nil || r.Origin.Line < 1 || r.Origin.Document < 1 {
				t.Errorf("incomplete: %+v", r)
			}
			again := Resource{Key: r.Key, Origin: r.Origin, Body: r.Body}
			if d, findings := again.parsed(); d == nil && len(findings) == 0 || d != nil && d.key != r.Key {
				t.Errorf("parsed again it is %+v, %v", d, findings)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		resources, _ := Parse("f", text)
		for _, r := range resources {
			if kinds[r.Key.Kind].state != kindServed {
				continue
			}
			findings := r.doc.decode()
			checkPositions(t, text, findings)
			if (r.doc.spec == nil) != (len(findings) > 0) {
				t.Errorf("spec %v with findings %v", r.doc.spec, findings)
			}
		}
	})
}
