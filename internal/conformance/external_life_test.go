package conformance

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/identity/extauthz"
	"github.com/heddlemesh/mesh/identity/external"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// TestDeadAuthorizer: nobody listens, and that lets in only where it is written.
func TestDeadAuthorizer(t *testing.T) {
	t.Parallel()
	address := loopback.Dead(t)
	for _, kind := range []string{"envoyExtAuthzHttp", "envoyExtAuthzGrpc"} {
		for settings, status := range map[string]int{"": 403, `, statusOnError: "500"`: 500, ", failOpen: true": 200} {
			m := inboundMesh(t, provided(kind, settings, address)+asks("{}"), mesh.WithGRPCAuthorizers(extauthz.Dial))
			for _, f := range faces {
				if got := f.ask(t, f.serve(t, m, &keeper{next: served}), visit{method: "GET", target: "/", host: "web"}); got.status != status {
					t.Errorf("%s, %s%s: answered %d, want %d", f.name, kind, settings, got.status, status)
				}
			}
		}
	}
}

// TestCallerLeavesWhileSomebodyIsAsked: the question ends, whoever is asked and whatever failOpen says, and the program hears
// nothing of the request.
func TestCallerLeavesWhileSomebodyIsAsked(t *testing.T) {
	t.Parallel()
	for _, f := range faces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			asked, ended := make(chan struct{}), make(chan error, 1)
			slow := external.AuthorizerFunc(func(ctx context.Context, _ *external.Check) (external.Answer, error) {
				close(asked)
				<-ctx.Done()
				ended <- ctx.Err()
				return external.Answer{Allowed: true}, nil
			})
			app := &keeper{next: served}
			documents := provided("envoyExtAuthzHttp", ", failOpen: true", "127.0.0.1:1") + asks("{}")
			addr := f.serve(t, inboundMesh(t, documents, mesh.WithAuthorizer("opa", slow)), app)
			tr := &http.Transport{Protocols: new(http.Protocols)}
			tr.Protocols.SetHTTP1(!f.http2)
			tr.Protocols.SetUnencryptedHTTP2(f.http2)
			defer tr.CloseIdleConnections()
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-asked; cancel() }()
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
			if resp, err := tr.RoundTrip(req); err == nil {
				t.Errorf("answered %d", resp.StatusCode)
				_ = resp.Body.Close()
			}
			if err := <-ended; err == nil {
				t.Error("the question has not ended")
			}
			if app.lines() != "" {
				t.Errorf("the program is asked: %s", app.lines())
			}
		})
	}
}

// TestCallerLeavesWhileItsBodyIsRead: of a body that is to be asked about only a part has come.
func TestCallerLeavesWhileItsBodyIsRead(t *testing.T) {
	t.Parallel()
	for _, f := range faces {
		if f.http2 {
			continue
		}
		authorizer, app := &keeper{next: says(200, "")}, &keeper{next: served}
		srv := httptest.NewServer(authorizer)
		t.Cleanup(srv.Close)
		m := inboundMesh(t, provided("envoyExtAuthzHttp", ", failOpen: true, includeRequestBodyInCheck: {maxRequestBytes: 100}", srv.Listener.Addr().String())+asks("{}"))
		conn, err := net.Dial("tcp", f.serve(t, m, app))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 6\r\n\r\nsec")
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn) // until the other side has ended it
		_ = conn.Close()
		if authorizer.lines()+app.lines() != "" {
			t.Errorf("%s: asked %q, served %q", f.name, authorizer.lines(), app.lines())
		}
	}
}

// TestExternalStreams: a stream that is open is asked about again when the configuration has changed.
func TestExternalStreams(t *testing.T) {
	t.Parallel()
	open := true
	door := external.AuthorizerFunc(func(context.Context, *external.Check) (external.Answer, error) {
		return external.Answer{Allowed: open, Status: 401, Body: "closed"}, nil
	})
	m := inboundMesh(t, asks("{}"), mesh.WithAuthorizer("opa", door))
	f := newGRPCFace(t, m)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := f.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/pkg.Service/Stream")
	if err != nil {
		t.Fatal(err)
	}
	echo := func() error {
		if err := s.SendMsg(new(emptypb.Empty)); err != nil && !errors.Is(err, io.EOF) { // the status is RecvMsg's to give
			return err
		}
		return s.RecvMsg(new(emptypb.Empty))
	}
	if err := echo(); err != nil {
		t.Fatal(err)
	}
	open = false // between two messages: nobody asks at this moment
	if err := m.Apply(ctx, []byte(strings.Replace(asks("{}"), "name: ask", "name: again", 1))); err != nil {
		t.Fatal(err)
	}
	if err := echo(); grpcstatus.Code(err) != codes.Unauthenticated || grpcstatus.Convert(err).Message() != "closed" {
		t.Errorf("the stream goes on: %v", err)
	}
}

// TestExternalMessages: the body of a unary RPC is its message; of a stream there is none yet, which only
// allowPartialMessage takes.
func TestExternalMessages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		settings, method string
		want             codes.Code
		body, partial    string
	}{
		{"maxRequestBytes: 100, packAsBytes: true", "/pkg.Service/Method", codes.OK, "\x00\x00\x00\x00\x00", "false"},
		{"maxRequestBytes: 3, packAsBytes: true", "/pkg.Service/Method", codes.Unknown, "", ""},
		{"maxRequestBytes: 3, packAsBytes: true, allowPartialMessage: true", "/pkg.Service/Method", codes.OK, "\x00\x00\x00", "true"},
		{"maxRequestBytes: 3", "/pkg.Service/Stream", codes.Unknown, "", ""},
		{"maxRequestBytes: 3, allowPartialMessage: true", "/pkg.Service/Stream", codes.OK, "", "true"},
	} {
		authorizer := &authorizations{says: func(context.Context, *auth.CheckRequest) (*auth.CheckResponse, error) { return allows(nil), nil }}
		f := newGRPCFace(t, inboundMesh(t, provided("envoyExtAuthzGrpc", ", includeRequestBodyInCheck: {"+c.settings+"}", authorizer.serve(t))+asks("{}"),
			mesh.WithGRPCAuthorizers(extauthz.Dial)))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		t.Cleanup(cancel)
		var err error
		if c.method == "/pkg.Service/Method" {
			err = f.conn.Invoke(ctx, c.method, new(emptypb.Empty), new(emptypb.Empty))
		} else if s, opened := f.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, c.method); opened == nil {
			_ = s.SendMsg(new(emptypb.Empty))
			err = s.RecvMsg(new(emptypb.Empty))
		}
		if grpcstatus.Code(err) != c.want {
			t.Errorf("%s, %s: %v", c.settings, c.method, err)
		}
		h := authorizer.last.GetAttributes().GetRequest().GetHttp()
		if string(h.GetRawBody()) != c.body || h.GetHeaders()["x-envoy-auth-partial-body"] != c.partial {
			t.Errorf("%s, %s: asked about %v", c.settings, c.method, h)
		}
	}
}

// TestRPCAsksItself: an authorizer that serves in the workload itself, whose policy selects the question too.
func TestRPCAsksItself(t *testing.T) {
	t.Parallel()
	l := listenLocal(t)
	m := inboundMesh(t, provided("envoyExtAuthzGrpc", "", l.Addr().String())+asks("{}"), mesh.WithGRPCAuthorizers(extauthz.Dial))
	authorizer := &authorizations{says: func(context.Context, *auth.CheckRequest) (*auth.CheckResponse, error) { return allows(nil), nil }}
	srv := grpc.NewServer(grpcmesh.ServerOptions(m)...)
	auth.RegisterAuthorizationServer(srv, authorizer)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = auth.NewAuthorizationClient(conn).Check(metadata.AppendToOutgoingContext(t.Context(), "x-a", "1"), new(auth.CheckRequest))
	if grpcstatus.Code(err) != codes.PermissionDenied || authorizer.last != nil {
		t.Errorf("%v, asked %v", err, authorizer.last)
	}
	if p := m.Status().Policies; p.ExternalFailed != 2 { // the RPC, and the question about it
		t.Errorf("counted %+v", p)
	}
}

// TestAuthorizerBehindMutualTLS: the question is a call of the mesh, by its certificates, to an authorizer that takes nothing
// else; a provider whose certificate is another's is not asked.
func TestAuthorizerBehindMutualTLS(t *testing.T) {
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
	strict := "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: s}\nspec: {mtls: {mode: STRICT}}\n"
	asker := make(chan string, 8)
	authorizer := inboundMesh(t, strict, mesh.WithIdentity(a.Source(id("opa"))))
	address := serveByMesh(t, authorizer, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		peer, _ := mesh.PeerFromContext(r.Context())
		asker <- peer.ID.String()
	}))
	for account, status := range map[string]int{"opa": 200, "other": 403} {
		rule := "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: opa}\nspec: {host: opa.example, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}\n"
		documents := strings.Replace(provided("envoyExtAuthzHttp", "", address), "address: 127.0.0.1,", "address: 127.0.0.1, serviceAccount: "+account+",", 1)
		m := inboundMesh(t, documents+asks("{}")+rule, mesh.WithIdentity(a.Source(id("web"))))
		for _, f := range faces {
			if got := f.ask(t, f.serve(t, m, &keeper{next: served}), visit{method: "GET", target: "/", host: "web"}); got.status != status {
				t.Errorf("%s, %s: answered %d, want %d", f.name, account, got.status, status)
			} else if status == 200 {
				if who := <-asker; who != "spiffe://cluster.local/ns/default/sa/web" {
					t.Errorf("%s: asked by %s", f.name, who)
				}
			}
		}
	}
	if len(asker) != 0 {
		t.Errorf("asked by %s", <-asker)
	}
}

// TestAskedAboutForgedPeers: what a caller says of himself is not what somebody is asked about, in a mesh that knows its peers.
func TestAskedAboutForgedPeers(t *testing.T) {
	t.Parallel()
	a, err := ca.New("cluster.local", ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	web, err := identity.Workload("cluster.local", "default", "web")
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	door := external.AuthorizerFunc(func(_ context.Context, c *external.Check) (external.Answer, error) {
		said <- strings.Join(c.Header["X-Forwarded-Client-Cert"], ",") + strings.Join(c.Header["X_forwarded_client_cert"], ",") + c.Peer + " " + c.Self
		return external.Answer{Allowed: true, Request: []external.Edit{{Name: "x-forwarded-client-cert", Value: "URI=spiffe://a/b"}}}, nil
	})
	m := inboundMesh(t, asks("{}"), mesh.WithAuthorizer("opa", door), mesh.WithIdentity(a.Source(web)))
	for _, f := range faces {
		app := &keeper{next: served}
		got := f.ask(t, f.serve(t, m, app), visit{method: "GET", target: "/", host: "web", header: http.Header{"X-Forwarded-Client-Cert": {"URI=spiffe://cluster.local/ns/a/sa/admin"}}})
		if who := <-said; got.status != 200 || who != " "+web.String() {
			t.Errorf("%s: answered %d, asked about %q", f.name, got.status, who)
		}
		wantLines(t, f.name, app.lines(), "!X-Forwarded-Client-Cert")
	}
	rpc := newGRPCFace(t, m)
	if code, _, ran := rpc.call(t.Context(), "/pkg.Service/Method", "web", metadata.Pairs("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/a/sa/admin")); code != codes.OK || !ran {
		t.Errorf("gRPC: %v", code)
	}
	if who := <-said; who != " "+web.String() {
		t.Errorf("gRPC: asked about %q", who)
	}
}
