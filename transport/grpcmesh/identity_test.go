package grpcmesh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

func newAuthority(t testing.TB, o ca.Options) *ca.Authority {
	t.Helper()
	a, err := ca.New("cluster.local", o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func accountID(t testing.TB, account string) identity.ID {
	t.Helper()
	id, err := identity.Workload("cluster.local", "default", account)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func peerPolicy(mode string) string {
	return "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: " + mode + "}}\n"
}

// proving declares echo with one endpoint, which takes mutual TLS as the account.
func proving(addr, account string) string {
	host, port, _ := net.SplitHostPort(addr)
	return fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: echo}\nspec: {hosts: [echo.default.svc.cluster.local], "+
		"location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 9080, name: grpc, protocol: GRPC, targetPort: %s}], endpoints: [{address: %s, serviceAccount: %s}]}\n",
		port, host, account)
}

// TestMutualTLS: RPCs by the PeerAuthentication of the server and the endpoint's own word, and who the server sees, which no
// metadata of the caller can change (attacks.md B-036).
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	authority := newAuthority(t, ca.Options{})
	as := func(account string) mesh.Option { return mesh.WithIdentity(authority.Source(accountID(t, account))) }
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
			serving := newMesh(t, peerPolicy(row.mode), opts...)
			server := newEcho("echo", grpcmesh.ServerOptions(serving)...)
			server.answer = func(ctx context.Context, _ string) (string, error) {
				md, _ := metadata.FromIncomingContext(ctx)
				var told []string
				for name, v := range md {
					if strings.Contains(name, "client") {
						told = append(told, v...)
					}
				}
				p, ok := mesh.PeerFromContext(ctx)
				switch {
				case !ok && len(told) == 0:
					return "nobody", nil
				case ok && len(told) == 1 && strings.HasPrefix(told[0], "By=spiffe://cluster.local/ns/default/sa/server;Hash=") && strings.HasSuffix(told[0], ";URI="+p.ID.String()):
					return p.ID.String(), nil
				}
				return fmt.Sprint("told ", told), nil
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
				labels := ""
				if row.labels != "" {
					labels = ", labels: " + row.labels
				}
				cc = dial(t, newMesh(t, strings.Replace(proving(server.addr, "x"), ", serviceAccount: x", labels, 1), as("client")), "echo:9080")
			}
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-client-cert", "URI=spiffe://evil/x", "x_forwarded_client_cert", "URI=spiffe://evil/x",
				"x-forwarded_client-cert", "URI=spiffe://evil/x")
			got, err := ask(ctx, cc, who)
			if err != nil {
				got = err.Error()
			}
			if grpcstatus.Code(err) != row.code || !strings.Contains(got, row.want) {
				t.Errorf("%v: %q, want %v with %q", grpcstatus.Code(err), got, row.code, row.want)
			}
		})
	}
}

// TestRotation is rows C-022, C-030 and E-004 on RPCs: with SVIDs of ten seconds none fails in ten minutes, unary or streaming, and
// each connection rests before its certificates end.
func TestRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, ca.Options{Life: 10 * time.Second})
		l := bufconn.Listen(64 << 10)
		e := newEcho("e", grpcmesh.ServerOptions(newMesh(t, peerPolicy("STRICT"), mesh.WithIdentity(a.Source(accountID(t, "server")))))...)
		go e.srv.Serve(l)
		defer e.srv.Stop()
		var dials atomic.Int64
		m := newMesh(t, proving("10.0.0.1:1", "server"), mesh.WithIdentity(a.Source(accountID(t, "client"))),
			mesh.WithDialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
				dials.Add(1)
				return l.DialContext(ctx)
			}))
		cc := dial(t, m, "echo:9080")
		const n = 600
		for i := range n {
			if got, err := ask(t.Context(), cc, who); err != nil || got != "e" {
				t.Fatalf("after %d s: %q, %v", i, got, err)
			}
			s, err := cc.NewStream(t.Context(), bothDesc, both)
			if err == nil {
				err = s.SendMsg(wrapperspb.String(""))
			}
			time.Sleep(time.Second) // while it is open
			if err == nil {
				err = s.RecvMsg(new(wrapperspb.StringValue))
			}
			if err == nil {
				err = s.CloseSend()
			}
			if err == nil {
				err = s.RecvMsg(new(wrapperspb.StringValue))
			}
			if !errors.Is(err, io.EOF) {
				t.Fatalf("after %d s: %v", i, err)
			}
		}
		if d := dials.Load(); d < n/10 || d > n/2 {
			t.Errorf("%d connections in ten minutes, of certificates that live ten seconds", d)
		}
		cc.Close()
		m.Close()
	})
}
