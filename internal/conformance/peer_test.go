package conformance

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
)

// TestPeerPolicies: "reviews may call, productpage may not", by the certificates of both, and neither may anybody without
// one (attacks.md C-013, C-015), in every face.
func TestPeerPolicies(t *testing.T) {
	t.Parallel()
	a, err := ca.New("cluster.local", ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := func(account string) identity.ID {
		id, err := identity.Workload("cluster.local", "default", account)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	client := func(account string, protocols ...string) *tls.Config {
		m, err := a.Issue(id(account))
		if err != nil {
			t.Fatal(err)
		}
		i := identity.New(identity.Options{})
		if err := i.Take(m); err != nil {
			t.Fatal(err)
		}
		c, err := i.ClientConfig(identity.ClientOptions{ServerName: "outbound_.80_._.web.default.svc.cluster.local",
			Protocols: append([]string{"istio"}, protocols...), Accounts: []string{"default/web"}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, config := range map[string]string{
		"principals":          policy("p", "{rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/reviews]}}]}]}"),
		"serviceAccounts":     policy("p", "{rules: [{from: [{source: {serviceAccounts: [reviews]}}]}]}"),
		"DENY notPrincipals":  policy("p", "{action: DENY, rules: [{from: [{source: {notPrincipals: ['*/sa/reviews']}}]}]}"),
		"DENY serviceAccount": policy("p", "{action: DENY, rules: [{from: [{source: {serviceAccounts: [productpage]}}]}]}"),
	} {
		for _, f := range faces {
			if f.http2 {
				continue
			}
			t.Run(f.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				addr := f.serve(t, inboundMesh(t, config, mesh.WithIdentity(a.Source(id("web")))), new(recorder))
				for account, want := range map[string]int{"reviews": 200, "productpage": 403, "": 403} {
					tr, url := &http.Transport{}, "http://"+addr
					if account != "" {
						secure := client(account, "istio-http/1.1", "http/1.1")
						tr.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
							return (&tls.Dialer{Config: secure}).DialContext(ctx, network, address)
						}
						url = "https://" + addr
					}
					resp, err := tr.RoundTrip(newRequest(t, url))
					if err != nil {
						t.Fatalf("%q: %v", account, err)
					}
					_ = resp.Body.Close()
					tr.CloseIdleConnections()
					if resp.StatusCode != want {
						t.Errorf("%q is answered %d, want %d", account, resp.StatusCode, want)
					}
				}
			})
		}
		t.Run("gRPC/"+name, func(t *testing.T) {
			t.Parallel()
			f := newGRPCFace(t, inboundMesh(t, config, mesh.WithIdentity(a.Source(id("web")))))
			if code, _, ran := f.call(t.Context(), "/pkg.Service/Method", "web", nil); code != codes.PermissionDenied || ran {
				t.Errorf("nobody: %v, ran %v", code, ran)
			}
			for account, want := range map[string]codes.Code{"reviews": codes.OK, "productpage": codes.PermissionDenied} {
				conn, err := grpc.NewClient(f.conn.Target(), grpc.WithTransportCredentials(credentials.NewTLS(client(account, "istio-h2", "h2"))))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				err = conn.Invoke(ctx, "/pkg.Service/Method", new(emptypb.Empty), new(emptypb.Empty))
				cancel()
				_ = conn.Close()
				if grpcstatus.Code(err) != want {
					t.Errorf("%s: %v, want %v", account, err, want)
				}
			}
		})
	}
}

func newRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/reviews/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}
