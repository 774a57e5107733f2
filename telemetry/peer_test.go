package telemetry

import (
	"encoding/base64"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// TestPeerMetadata: what we say is a google.protobuf.Struct as Istio's proxies say it, and what they say is understood.
func TestPeerMetadata(t *testing.T) {
	w := Workload{Name: "reviews-v3", Namespace: "default", Principal: "spiffe://x", App: "reviews", Version: "v3", Cluster: "east", CanonicalService: "pages", CanonicalRev: "latest"}
	said, id := TellPeer(w)
	raw, err := base64.StdEncoding.DecodeString(said)
	if err != nil {
		t.Fatal(err)
	}
	var s structpb.Struct
	if err := proto.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	want, _ := structpb.NewStruct(map[string]any{"NAME": "reviews-v3", "NAMESPACE": "default", "WORKLOAD_NAME": "reviews-v3", "CLUSTER_ID": "east",
		"OWNER": "kubernetes://apis/apps/v1/namespaces/default/deployments/reviews-v3", "LABELS": map[string]any{"app": "reviews", "version": "v3",
			"service.istio.io/canonical-name": "pages", "service.istio.io/canonical-revision": "latest"}})
	if !proto.Equal(&s, want) || !strings.HasPrefix(id, "sidecar~") || strings.Count(id, "~") != 3 {
		t.Errorf("%v, %s", &s, id)
	}
	w.Namespace, w.Principal = "", ""
	if got, ok := PeerWorkload(said); !ok || got != w {
		t.Errorf("%+v, %v", got, ok)
	}

	// As a sidecar of Istio says it, with what is not for us.
	istio, _ := structpb.NewStruct(map[string]any{"APP_CONTAINERS": "a,b", "CLUSTER_ID": "Kubernetes", "INSTANCE_IPS": "10.0.0.1", "ISTIO_VERSION": "1.27.0",
		"LABELS": map[string]any{"app": "ratings", "pod-template-hash": "5c8f", "security.istio.io/tlsMode": "istio", "service.istio.io/canonical-name": "ratings",
			"service.istio.io/canonical-revision": "v1", "version": "v1", "number": 1.5, "no": nil, "list": []any{"x"}}, "MESH_ID": "cluster.local",
		"NAME": "ratings-v1-5c8f-abcde", "NAMESPACE": "shop", "OWNER": "kubernetes://apis/apps/v1/namespaces/shop/deployments/ratings-v1", "WORKLOAD_NAME": "ratings-v1"})
	raw, err = proto.Marshal(istio)
	if err != nil {
		t.Fatal(err)
	}
	ratings := Workload{Name: "ratings-v1", App: "ratings", Version: "v1", Cluster: "Kubernetes", CanonicalService: "ratings", CanonicalRev: "v1"}
	if got, ok := PeerWorkload(base64.StdEncoding.EncodeToString(raw)); !ok || got != ratings {
		t.Errorf("%+v, %v", got, ok)
	}
	if said, id := TellPeer(Workload{Namespace: "default"}); said != "" || id != "" {
		t.Errorf("who knows nothing of himself says %q, %q", said, id)
	}
}

// FuzzPeerWorkload: whatever a peer says is read within bounds, and what comes of it are names.
func FuzzPeerWorkload(f *testing.F) {
	said, _ := TellPeer(Workload{Name: "a", App: "b", Version: "c", Cluster: "d", CanonicalService: "e", CanonicalRev: "f"})
	raw, _ := base64.StdEncoding.DecodeString(said)
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add([]byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		w, ok := PeerWorkload(base64.RawStdEncoding.EncodeToString(raw))
		if !ok && w != (Workload{}) {
			t.Errorf("%+v of what cannot be read", w)
		}
		for _, text := range []string{w.Name, w.App, w.Version, w.Cluster, w.CanonicalService, w.CanonicalRev} {
			if text != label([]byte(text)) {
				t.Errorf("%q is no label", text)
			}
		}
		if w.Namespace != "" || w.Principal != "" {
			t.Errorf("%+v says whose it is", w)
		}
	})
}
