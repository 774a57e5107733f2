package grpcmesh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

// A shared port is one on which a mesh's HTTP server passes RPCs on to a gRPC server of the same mesh.
type shared struct {
	*echo
	mesh *mesh.Mesh
}

func startShared(t *testing.T, config string, opts ...mesh.Option) *shared {
	t.Helper()
	m := newMesh(t, config, opts...)
	s := &shared{newEcho("shared", grpcmesh.ServerOptions(m)...), m}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			s.srv.ServeHTTP(w, r)
			return
		}
		_, _ = io.WriteString(w, "not an RPC")
	})}
	go m.Serve(srv, l)
	t.Cleanup(func() { _ = srv.Close() })
	return s
}

func policyOf(name, spec string) string {
	return "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
}

// TestSharedPort: what a mesh decides about RPCs it decides once, and as on a port of their own, where they share one with HTTP.
func TestSharedPort(t *testing.T) {
	t.Parallel()
	t.Run("both protocols", func(t *testing.T) {
		t.Parallel()
		s := startShared(t, "")
		cc := dial(t, newMesh(t, service(s.addr)), "echo:9080")
		if got := must(t, cc, who); got != "shared" {
			t.Errorf("an RPC: %q", got)
		}
		k := beginTalk(t, cc)
		if err := errors.Join(k.say(), k.end()); err != nil {
			t.Errorf("a stream: %v", err)
		}
		resp, err := http.Get("http://" + s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "not an RPC" {
			t.Errorf("a request: %q, %v", body, err)
		}
	})
	t.Run("methods", func(t *testing.T) {
		t.Parallel()
		s := startShared(t, policyOf("deny", "{action: DENY, rules: [{to: [{operation: {paths: ["+other+"]}}]}]}"))
		cc := dial(t, newMesh(t, service(s.addr)), "echo:9080")
		must(t, cc, who)
		if _, err := ask(t.Context(), cc, other); status.Code(err) != codes.PermissionDenied {
			t.Errorf("a method that is denied: %v", err)
		}
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d calls came through", n)
		}
	})
	t.Run("sources, without Serve", func(t *testing.T) { // whose listener would have decided before
		t.Parallel()
		for address, want := range map[string]codes.Code{"127.0.0.1": codes.PermissionDenied, "127.0.0.9": codes.OK} {
			m := newMesh(t, policyOf("deny", "{action: DENY, rules: [{from: [{source: {ipBlocks: ["+address+"]}}]}]}"))
			e := newEcho("e", grpcmesh.ServerOptions(m)...)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{Handler: e.srv, Protocols: new(http.Protocols)}
			srv.Protocols.SetUnencryptedHTTP2(true)
			go srv.Serve(l)
			t.Cleanup(func() { _ = srv.Close() })
			if _, err := ask(t.Context(), dial(t, newMesh(t, service(l.Addr().String())), "echo:9080"), who); status.Code(err) != want {
				t.Errorf("without %s: %v", address, err)
			}
		}
	})
	t.Run("limits", func(t *testing.T) {
		t.Parallel()
		s := startShared(t, limitOf("INBOUND", ""))
		cc := dial(t, newMesh(t, service(s.addr)), "echo:9080")
		for i, want := range []codes.Code{codes.OK, codes.OK, codes.Unavailable} {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "user", "lisa")
			if _, err := ask(ctx, cc, who); status.Code(err) != want {
				t.Errorf("RPC %d of 2: %v", i+1, err)
			}
		}
	})
	t.Run("a policy that changes", func(t *testing.T) {
		t.Parallel()
		s := startShared(t, policyOf("allow", "{rules: [{}]}"))
		k := beginTalk(t, dial(t, newMesh(t, service(s.addr)), "echo:9080"))
		apply(t, s.mesh, policyOf("allow", "{rules: [{}]}")+policyOf("other", "{action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}"))
		if err := k.say(); err != nil {
			t.Errorf("still allowed: %v", err)
		}
		apply(t, s.mesh, policyOf("deny", "{action: DENY, rules: [{}]}"))
		if err := k.say(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("denied: %v", err)
		}
	})
	t.Run("mutual TLS", func(t *testing.T) {
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
		strict := "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: STRICT}}\n"
		s := startShared(t, strict+policyOf("allow", "{rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]}]}"), as("server"))
		s.answer = func(ctx context.Context, _ string) (string, error) {
			p, _ := mesh.PeerFromContext(ctx)
			return p.ID.String(), nil
		}
		secured := strings.Replace(service(s.addr), "labels: {version: \"\"}", "labels: {security.istio.io/tlsMode: istio}", 1)
		for account, want := range map[string]codes.Code{"client": codes.OK, "stranger": codes.PermissionDenied} {
			cc := dial(t, newMesh(t, secured, as(account)), "echo:9080")
			got, err := ask(t.Context(), cc, who)
			if status.Code(err) != want || err == nil && got != "spiffe://cluster.local/ns/default/sa/client" {
				t.Errorf("%s: %q, %v", account, got, err)
			}
		}
		if _, err := ask(t.Context(), dial(t, newMesh(t, service(s.addr)), "echo:9080"), who); err == nil {
			t.Error("plain text is served")
		}
	})
}

// TestDrain: servers that leave in good order, one after the other under load, fail no RPC and end no stream.
func TestDrain(t *testing.T) {
	t.Parallel()
	names, m := [4]*echo{}, newMesh(t, "")
	for i := range names {
		names[i] = start(t, fmt.Sprint(i), grpcmesh.ServerOptions(m)...)
	}
	client := newMesh(t, service(names[0].addr, names[1].addr, names[2].addr, names[3].addr))
	cc := dial(t, client, "echo:9080")
	var talks []*talk
	for range 8 {
		talks = append(talks, beginTalk(t, cc))
	}
	calls, stop := load(t, cc)
	drained := make(chan struct{})
	for _, e := range names[:3] {
		before := calls.Load()
		go func() {
			e.srv.GracefulStop()
			drained <- struct{}{}
		}()
		until(t, "RPCs go on", func() bool { return t.Failed() || calls.Load() > before+20 })
	}
	stop()
	for _, k := range talks {
		if err := errors.Join(k.say(), k.end()); err != nil {
			t.Errorf("at %s: %v", k.at, err)
		}
	}
	for range 3 {
		<-drained
	}
	if err := m.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
