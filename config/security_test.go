package config

import (
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/snapshot"
)

func peerPolicy(name, namespace, spec string) string {
	return "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " + name + ", namespace: " + namespace + "}\nspec: " + spec + "\n---\n"
}

// TestPeerAuthentication: which policy is a workload's (istio-semantics §2.10), and row A-058.
func TestPeerAuthentication(t *testing.T) {
	t.Parallel()
	const root = "istio-system"
	mesh := func(mode string) string { return peerPolicy("mesh", root, "{mtls: {mode: "+mode+"}}") }
	namespace := func(mode string) string { return peerPolicy("ns", "shop", "{mtls: {mode: "+mode+"}}") }
	workload := func(mode, ports string) string {
		return peerPolicy("w", "shop", "{selector: {matchLabels: {app: web}}, mtls: {mode: "+mode+"}"+ports+"}")
	}
	for name, c := range map[string]struct {
		docs  string
		mode  snapshot.MTLS
		ports map[uint16]snapshot.MTLS
	}{
		"nothing":                       {"", snapshot.Permissive, nil},
		"mesh":                          {mesh("STRICT"), snapshot.Strict, nil},
		"mesh, unset":                   {mesh("UNSET"), snapshot.Permissive, nil},
		"mesh, empty":                   {peerPolicy("mesh", root, "{}"), snapshot.Permissive, nil},
		"namespace over mesh":           {mesh("STRICT") + namespace("PERMISSIVE"), snapshot.Permissive, nil},
		"namespace unset":               {mesh("STRICT") + namespace("UNSET"), snapshot.Strict, nil},
		"another namespace":             {peerPolicy("ns", "prod", "{mtls: {mode: STRICT}}"), snapshot.Permissive, nil},
		"workload over namespace":       {namespace("STRICT") + workload("DISABLE", ""), snapshot.Disabled, nil},
		"workload unset":                {namespace("STRICT") + workload("UNSET", ""), snapshot.Strict, nil},
		"another workload":              {peerPolicy("w", "shop", "{selector: {matchLabels: {app: db}}, mtls: {mode: STRICT}}"), snapshot.Permissive, nil},
		"empty selector":                {peerPolicy("w", "shop", "{selector: {}, mtls: {mode: STRICT}}"), snapshot.Strict, nil},
		"selector in the root":          {peerPolicy("w", root, "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}"), snapshot.Permissive, nil},
		"port":                          {workload("STRICT", ", portLevelMtls: {8080: {mode: DISABLE}}"), snapshot.Strict, map[uint16]snapshot.MTLS{8080: snapshot.Disabled}},
		"port unset":                    {workload("STRICT", ", portLevelMtls: {8080: {mode: UNSET}}"), snapshot.Strict, map[uint16]snapshot.MTLS{8080: snapshot.Strict}},
		"port unset over namespace":     {namespace("STRICT") + workload("UNSET", ", portLevelMtls: {8080: {}}"), snapshot.Strict, map[uint16]snapshot.MTLS{8080: snapshot.Strict}},
		"first of two of the namespace": {namespace("STRICT") + peerPolicy("ns2", "shop", "{mtls: {mode: DISABLE}}"), snapshot.Strict, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Options{Workload: snapshot.Workload{Namespace: "shop", Labels: map[string]string{"app": "web"}}}, c.docs)
			if w.live == nil {
				t.Fatal(w.Status().Refused)
			}
			got := w.live.Inbound
			if got.MTLS != c.mode || len(got.Ports) != len(c.ports) || got.Ports[8080] != c.ports[8080] {
				t.Errorf("%v %v, want %v %v", got.MTLS, got.Ports, c.mode, c.ports)
			}
			if got.Origin == "" && got.MTLS != snapshot.Permissive {
				t.Error("nothing says where that is written")
			}
		})
	}
}

func TestValidatePeerAuthentication(t *testing.T) {
	t.Parallel()
	for _, c := range []validateCase{
		{"unknown mode", `{mtls: {mode: MANDATORY}}`, []string{`IST0106! 4:21 spec.mtls.mode ~ unknown value "MANDATORY"`}},
		{"unknown mode of a port", `{selector: {matchLabels: {a: b}}, portLevelMtls: {80: {mode: x}}}`, []string{`IST0106! 4:68 spec.portLevelMtls.80.mode ~ unknown value "x"`}},
		{"ports without a selector", `{portLevelMtls: {80: {mode: STRICT}}}`, []string{`IST0106! 4:8 spec.portLevelMtls ~ needs a selector`}},
		{"no ports", `{selector: {matchLabels: {a: b}}, portLevelMtls: {}}`, []string{`IST0106! 4:41 spec.portLevelMtls ~ has no port`}},
		{"no port", `{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {mode: STRICT}}}`, []string{`IST0106! 4:57 spec.portLevelMtls.0 ~ is no port`}},
		{"all of it", `{selector: {matchLabels: {a: b}}, mtls: {mode: STRICT}, portLevelMtls: {80: {mode: DISABLE}, 81: {}}}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			expectFound(t, validateOne(t, strings.TrimSuffix(peerPolicy("a", "shop", c.spec), "\n---\n")), c.want)
		})
	}
}

// TestTwoForTheMesh is row A-058: of two policies for the whole mesh neither is plainly meant.
func TestTwoForTheMesh(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, peerPolicy("a", "istio-system", "{mtls: {mode: STRICT}}")+peerPolicy("b", "istio-system", "{mtls: {mode: PERMISSIVE}}"))
	refused := w.Status().Refused
	if refused == nil || !strings.Contains(refused.Error(), "for the whole mesh") {
		t.Errorf("%v", refused)
	}
}

// TestTrustDomainAliases: MeshConfig's are the workload's.
func TestTrustDomainAliases(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, meshDoc("m", "{trustDomainAliases: [old.local, older.local]}"))
	if got := w.live.Inbound.Aliases; len(got) != 2 || got[1] != "older.local" {
		t.Errorf("%v", got)
	}
}

// TestLeastTLS: MeshConfig.meshMTLS holds for both ends.
func TestLeastTLS(t *testing.T) {
	t.Parallel()
	const service = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a], location: MESH_INTERNAL, " +
		"resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1, serviceAccount: a}]}\n---\n"
	for version, want := range map[string]bool{"TLS_AUTO": false, "TLSV1_2": false, "TLSV1_3": true} {
		w := newWorld(t, Options{}, service+meshDoc("m", "{meshMTLS: {minProtocolVersion: "+version+"}}"))
		if w.live.Inbound.TLS13 != want || w.live.Clusters[0].Policy.Automatic.TLS13 != want {
			t.Errorf("%s: %+v", version, w.live.Inbound)
		}
	}
}

// TestCompilesMutualTLS: which endpoints are called with mutual TLS, by which name, and who they may be
// (istio-semantics §2.3).
func TestCompilesMutualTLS(t *testing.T) {
	t.Parallel()
	const service = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: reviews, namespace: shop}\nspec: " +
		"{hosts: [reviews.shop.svc.cluster.local], location: MESH_INTERNAL, resolution: STATIC, subjectAltNames: [\"spiffe://a/b\"], " +
		"ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}], endpoints: [{address: 10.0.0.1, serviceAccount: reviews}, " +
		"{address: 10.0.0.2, labels: {security.istio.io/tlsMode: istio}}, {address: 10.0.0.3, serviceAccount: reviews, " +
		"labels: {security.istio.io/tlsMode: disabled}}, {address: 10.0.0.4}]}\n---\n"
	rule := func(policy string) string {
		return "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews, namespace: shop}\n" +
			"spec: {host: reviews, trafficPolicy: " + policy + "}\n---\n"
	}
	const auto, all = "automatic", "1100"
	for name, c := range map[string]struct {
		docs    string
		want    string // automatic, mutual or none
		proving string // of the four endpoints
	}{
		"automatic":             {service, auto, all},
		"ISTIO_MUTUAL":          {service + rule("{tls: {mode: ISTIO_MUTUAL}}"), "mutual", all},
		"DISABLE":               {service + rule("{tls: {mode: DISABLE}}"), "none", all},
		"switched off":          {service + meshDoc("m", "{enableAutoMtls: false}") + "---\n", "none", all},
		"another policy":        {service + rule("{connectionPool: {tcp: {connectTimeout: 1s}}}"), auto, all},
		"external":              {strings.Replace(service, "location: MESH_INTERNAL, ", "", 1), "none", all},
		"disabled at the other": {service + peerPolicy("a", "shop", "{mtls: {mode: DISABLE}}"), auto, "0000"},
		"disabled at its port": {service + peerPolicy("a", "shop", "{selector: {matchLabels: {security.istio.io/tlsMode: istio}}, portLevelMtls: {8080: {mode: DISABLE}}}"),
			auto, "1000"},
		"another port disabled": {service + peerPolicy("a", "shop", "{selector: {matchLabels: {security.istio.io/tlsMode: istio}}, portLevelMtls: {80: {mode: DISABLE}}}"),
			auto, all},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Options{Workload: snapshot.Workload{Namespace: "shop"}}, c.docs)
			if w.live == nil {
				t.Fatal(w.Status().Refused)
			}
			p := w.live.Clusters[0].Policy
			got := "none"
			used := p.TLS
			switch {
			case p.TLS != nil:
				got = "mutual"
			case p.Automatic != nil:
				got, used = auto, p.Automatic
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if want := (snapshot.TLS{Mesh: true, ServerName: "outbound_.80_._.reviews.shop.svc.cluster.local", Names: "spiffe://a/b"}); used != nil && *used != want {
				t.Errorf("%+v, want %+v", *used, want)
			}
			proving := ""
			set := w.registry.Get(w.live.Clusters[0].Set)
			for i := range set.Len() {
				e := set.At(i)
				if e.Namespace != "shop" {
					t.Errorf("namespace %q", e.Namespace)
				}
				proving += map[bool]string{true: "1", false: "0"}[e.MTLS]
			}
			if proving != c.proving {
				t.Errorf("%s take it, want %s", proving, c.proving)
			}
		})
	}
}
