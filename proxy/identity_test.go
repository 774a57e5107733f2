package proxy_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
	spiffe "github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/proxy"
)

// TestSidecarIdentity: programs behind sidecars talk by mutual TLS, and a STRICT one is reached in no other way.
func TestSidecarIdentity(t *testing.T) {
	t.Parallel()
	authority, err := ca.New("cluster.local", ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	as := func(account string) mesh.Option {
		id, err := spiffe.Workload("cluster.local", "default", account)
		if err != nil {
			t.Fatal(err)
		}
		return mesh.WithIdentity(authority.Source(id))
	}
	app := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "xfcc=%q", r.Header["X-Forwarded-Client-Cert"])
	}))
	const strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: STRICT}}\n"
	server := startMesh(t, strict, func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: app}} }, as("server"))
	addr := server.sidecar.InboundAddrs()[0].String()
	host, port, _ := net.SplitHostPort(addr)
	for _, protocol := range []string{"HTTP", "HTTP2"} {
		entry := fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: svc}\nspec: {hosts: [svc.default.svc.cluster.local], "+
			"location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: p, protocol: %s, targetPort: %s}], "+
			"endpoints: [{address: %s, serviceAccount: server}]}\n", protocol, port, host)
		client := startMesh(t, entry, nil, as("client"))
		library, err := mesh.New(t.Context(), mesh.WithConfig([]byte(entry)), as("client"), mesh.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = library.Close() })
		for name, c := range map[string]*http.Client{"sidecar": client.client, "library": library.Client()} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://svc/", nil)
			req.Header.Set("X-Forwarded-Client-Cert", "URI=spiffe://evil/x")
			resp, err := c.Do(req)
			if err != nil {
				t.Errorf("%s, %s: %v", protocol, name, err)
				continue
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "xfcc=") || strings.Contains(string(body), "evil") {
				t.Errorf("%s, %s: %d %s", protocol, name, resp.StatusCode, body)
			}
		}
		nobody := startMesh(t, entry, nil)
		resp, err := nobody.client.Get("http://svc/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s, without an identity: %d", protocol, resp.StatusCode)
		}
	}
}
