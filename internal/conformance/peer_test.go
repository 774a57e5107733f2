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
				addr := f.serve(t, inboundMesh(t, config, mesh.WithIdentity(a.Source(workloadID(t, "web")))), new(recorder))
				for account, want := range map[string]int{"reviews": 200, "productpage": 403, "": 403} {
					var secure *tls.Config
					if account != "" {
						secure = clientTLS(t, a, account, "istio-http/1.1", "http/1.1")
					}
					resp := askAs(t, addr, secure)
					if resp.StatusCode != want {
						t.Errorf("%q is answered %d, want %d", account, resp.StatusCode, want)
					}
				}
			})
		}
		t.Run("gRPC/"+name, func(t *testing.T) {
			t.Parallel()
			f := newGRPCFace(t, inboundMesh(t, config, mesh.WithIdentity(a.Source(workloadID(t, "web")))))
			if code, _, ran := f.call(t.Context(), "/pkg.Service/Method", "web", nil); code != codes.PermissionDenied || ran {
				t.Errorf("nobody: %v, ran %v", code, ran)
			}
			for account, want := range map[string]codes.Code{"reviews": codes.OK, "productpage": codes.PermissionDenied} {
				err := callAs(t, f, clientTLS(t, a, account, "istio-h2", "h2"))
				if grpcstatus.Code(err) != want {
					t.Errorf("%s: %v, want %v", account, err, want)
				}
			}
		})
	}
}

// workloadID is the identity of a service account of namespace default.
func workloadID(t *testing.T, account string) identity.ID {
	t.Helper()
	id, err := identity.Workload("cluster.local", "default", account)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// clientTLS speaks as a service account to the workload web.
func clientTLS(t *testing.T, a *ca.Authority, account string, protocols ...string) *tls.Config {
	t.Helper()
	m, err := a.Issue(workloadID(t, account))
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

// askAs sends a request on a connection of its own, in plain text where secure is nil. Of the answer only the head is to be read.
func askAs(t *testing.T, addr string, secure *tls.Config) *http.Response {
	t.Helper()
	tr, url := &http.Transport{}, "http://"+addr
	defer tr.CloseIdleConnections()
	if secure != nil {
		tr.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			return (&tls.Dialer{Config: secure}).DialContext(ctx, network, address)
		}
		url = "https://" + addr
	}
	resp, err := tr.RoundTrip(newRequest(t, url))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp
}

// callAs calls the method on a connection of its own.
func callAs(t *testing.T, f *grpcFace, secure *tls.Config) error {
	t.Helper()
	conn, err := grpc.NewClient(f.conn.Target(), grpc.WithTransportCredentials(credentials.NewTLS(secure)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return conn.Invoke(ctx, "/pkg.Service/Method", new(emptypb.Empty), new(emptypb.Empty))
}

func newRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/reviews/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}
