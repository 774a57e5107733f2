package grpcmesh_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/internal/loopback"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// certificates gives a server's credentials for example.com and 127.0.0.1, and a client's that trust them.
func certificates(t *testing.T) (server, client credentials.TransportCredentials) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return credentials.NewServerTLSFromCert(&s.TLS.Certificates[0]), credentials.NewTLS(&tls.Config{RootCAs: pool})
}

func TestUnknownHostWithCredentials(t *testing.T) {
	t.Parallel()
	server, client := certificates(t)
	out := start(t, "outside", grpc.Creds(server))
	var dialled string
	m := newMesh(t, service(loopback.Dead(t)), mesh.WithDialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled = addr
		return (&net.Dialer{}).DialContext(ctx, network, out.addr)
	}))
	cc := dial(t, m, "example.com:443", grpcmesh.WithCredentials(client))
	ctx, info := capture(t.Context())
	var p peer.Peer
	got, err := ask(ctx, cc, who, grpc.Peer(&p))
	if err != nil || got != "outside" || dialled != "example.com:443" {
		t.Fatalf("%q from %q, %v", got, dialled, err)
	}
	if info.Cluster != "PassthroughCluster" || info.Attempts != 0 {
		t.Errorf("info %+v", info)
	}
	if p.AuthInfo.AuthType() != "tls" {
		t.Errorf("the connection is %s", p.AuthInfo.AuthType())
	}
	s, err := cc.NewStream(t.Context(), downDesc, down)
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, "xx")
	if got, _ := receive(s); len(got) != 2 {
		t.Errorf("stream: %q", got)
	}
}

func TestUnknownHostWithoutCredentials(t *testing.T) {
	t.Parallel()
	out := start(t, "outside")
	m := newMesh(t, service(loopback.Dead(t)), mesh.WithDialer(func(context.Context, string, string) (net.Conn, error) {
		t.Error("dialled in plaintext")
		return nil, errors.ErrUnsupported
	}))
	for _, wait := range []bool{false, true} {
		_, err := ask(t.Context(), dial(t, m, out.addr), who, grpc.WaitForReady(wait))
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "WithCredentials") || !errors.Is(err, call.ReasonConnect) {
			t.Errorf("got %v", err)
		}
	}
	if out.calls.Load() != 0 {
		t.Error("it was called all the same")
	}
}

// TestUnknownHostFails: no retries, no wrapping: as without a mesh.
func TestUnknownHostFails(t *testing.T) {
	t.Parallel()
	m := newMesh(t, service(loopback.Dead(t)))
	_, err := ask(t.Context(), dial(t, m, loopback.Dead(t), grpcmesh.WithCredentials(insecure.NewCredentials())), who)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

// TestRegistryOnly: an RPC to a host that the registry does not have is answered by the mesh, and the host is not
// dialled, not even by a channel that is told to connect.
func TestRegistryOnly(t *testing.T) {
	t.Parallel()
	out := start(t, "outside")
	m := newMesh(t, service(loopback.Dead(t)), mesh.WithOutboundTrafficPolicy(mesh.RegistryOnly),
		mesh.WithDialer(func(_ context.Context, _, addr string) (net.Conn, error) {
			if addr == out.addr {
				t.Error("dialled")
			}
			return nil, errors.ErrUnsupported
		}))
	for _, wait := range []bool{false, true} {
		cc := dial(t, m, out.addr, grpcmesh.WithCredentials(insecure.NewCredentials()))
		cc.Connect()
		_, err := ask(t.Context(), cc, who, grpc.WaitForReady(wait))
		var e *mesh.Error
		if status.Code(err) != codes.Unavailable || !errors.As(err, &e) || e.Reason != mesh.ReasonUnknownHost || e.Cluster != "BlackHoleCluster" {
			t.Errorf("got %v", err)
		}
		if _, err := cc.NewStream(t.Context(), downDesc, down); !errors.Is(err, mesh.ReasonUnknownHost) {
			t.Errorf("stream: %v", err)
		}
	}
	// A host that a document names is let out, and no longer when it does not.
	m = newMesh(t, serviceOf("NONE"), mesh.WithOutboundTrafficPolicy(mesh.RegistryOnly),
		mesh.WithDialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, out.addr)
		}))
	cc := dial(t, m, "echo:9080", grpcmesh.WithCredentials(insecure.NewCredentials()))
	if got := must(t, cc, who); got != "outside" {
		t.Errorf("resolution NONE: %s", got)
	}
	apply(t, m, "")
	if _, err := ask(t.Context(), cc, who); !errors.Is(err, mesh.ReasonUnknownHost) {
		t.Errorf("after the document has gone: %v", err)
	}
}

// TestHostBecomesKnown: the same channel, outside the mesh and then inside.
func TestHostBecomesKnown(t *testing.T) {
	t.Parallel()
	outside, inside := start(t, "outside"), start(t, "inside")
	m := newMesh(t, "", mesh.WithDialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, "echo") {
			addr = outside.addr
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}))
	cc := dial(t, m, "echo:9080", grpcmesh.WithCredentials(insecure.NewCredentials()))
	for range 3 {
		if got := must(t, cc, who); got != "outside" {
			t.Fatalf("unknown host: %s", got)
		}
		apply(t, m, service(inside.addr))
		if got := must(t, cc, who); got != "inside" {
			t.Fatalf("known host: %s", got)
		}
		apply(t, m, serviceOf("NONE"))
		if got := must(t, cc, who); got != "outside" {
			t.Fatalf("resolution NONE: %s", got)
		}
		apply(t, m, "")
	}
}

func TestPlaintextSaysSo(t *testing.T) {
	t.Parallel()
	e := start(t, "e")
	m := newMesh(t, service(e.addr))
	var p peer.Peer
	if _, err := ask(t.Context(), dial(t, m, "echo:9080"), who, grpc.Peer(&p)); err != nil {
		t.Fatal(err)
	}
	level, ok := p.AuthInfo.(interface {
		GetCommonAuthInfo() credentials.CommonAuthInfo
	})
	if !ok || level.GetCommonAuthInfo().SecurityLevel != credentials.NoSecurity {
		t.Errorf("AuthInfo %+v", p.AuthInfo)
	}
}

// TestCredentialsSecureEndpoints: endpoints without a TLS setting of the mesh get the program's credentials.
func TestCredentialsSecureEndpoints(t *testing.T) {
	t.Parallel()
	server, client := certificates(t)
	e := start(t, "e", grpc.Creds(server))
	config := strings.ReplaceAll(service(e.addr), "echo.default.svc.cluster.local", "example.com")
	cc := dial(t, newMesh(t, config), "example.com:9080", grpcmesh.WithCredentials(client))
	if got := must(t, cc, who); got != "e" {
		t.Errorf("got %q", got)
	}
}
