package grpcmesh_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// TestMutualTLS: RPCs by the PeerAuthentication of the server and the endpoint's own word, and who the server sees.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	authority, err := ca.New("cluster.local", ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	as := func(account string) mesh.Option {
		id, err := identity.Workload("cluster.local", "default", account)
		if err != nil {
			t.Fatal(err)
		}
		return mesh.WithIdentity(authority.Source(id))
	}
	for name, row := range map[string]struct {
		mode   string
		nobody bool   // the server has no identity
		labels string // of the endpoint
		plain  bool   // the client is bare gRPC
		want   string // the peer, or a part of the error
		code   codes.Code
	}{
		"STRICT":                {mode: "STRICT", labels: "{security.istio.io/tlsMode: istio}", want: "spiffe://cluster.local/ns/default/sa/client"},
		"PERMISSIVE":            {mode: "PERMISSIVE", labels: "{security.istio.io/tlsMode: istio}", want: "spiffe://cluster.local/ns/default/sa/client"},
		"PERMISSIVE, no label":  {mode: "PERMISSIVE", want: "nobody"},
		"PERMISSIVE, bare":      {mode: "PERMISSIVE", plain: true, want: "nobody"},
		"STRICT, bare":          {mode: "STRICT", plain: true, code: codes.Unavailable},
		"STRICT, no identity":   {mode: "STRICT", nobody: true, plain: true, code: codes.PermissionDenied, want: "mutual TLS required"},
		"STRICT, another":       {mode: "STRICT", labels: "{security.istio.io/tlsMode: istio}, serviceAccount: other", code: codes.Unavailable, want: "not default/other"},
		"STRICT, its account":   {mode: "STRICT", labels: "{}, serviceAccount: server", want: "spiffe://cluster.local/ns/default/sa/client"},
		"DISABLE, but labelled": {mode: "DISABLE", labels: "{security.istio.io/tlsMode: istio}", code: codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := []mesh.Option{as("server")}
			if row.nobody {
				opts = nil
			}
			serving := newMesh(t, "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: "+row.mode+"}}\n", opts...)
			server := newEcho("echo", grpcmesh.ServerOptions(serving)...)
			server.answer = func(ctx context.Context, _ string) (string, error) {
				if p, ok := mesh.PeerFromContext(ctx); ok {
					return p.ID.String(), nil
				}
				return "nobody", nil
			}
			startAt(t, "127.0.0.1:0", server)
			var cc *grpc.ClientConn
			if row.plain {
				var err error
				if cc, err = grpc.NewClient("passthrough:///"+server.addr, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { cc.Close() })
			} else {
				host, port, _ := net.SplitHostPort(server.addr)
				labels := ""
				if row.labels != "" {
					labels = ", labels: " + row.labels
				}
				cc = dial(t, newMesh(t, fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: echo}\nspec: {hosts: [echo.default.svc.cluster.local], "+
					"location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 9080, name: grpc, protocol: GRPC, targetPort: %s}], endpoints: [{address: %s%s}]}\n",
					port, host, labels), as("client")), "echo:9080")
			}
			got, err := ask(t.Context(), cc, who)
			if err != nil {
				got = err.Error()
			}
			if grpcstatus.Code(err) != row.code || !strings.Contains(got, row.want) {
				t.Errorf("%v: %q, want %v with %q", grpcstatus.Code(err), got, row.code, row.want)
			}
		})
	}
}
