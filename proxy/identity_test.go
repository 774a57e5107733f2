package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh"
	spiffe "github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/proxy"
)

const strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: STRICT}}\n---\n"

func newAuthority(t testing.TB, o ca.Options) *ca.Authority {
	t.Helper()
	a, err := ca.New("cluster.local", o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func accountID(t testing.TB, account string) spiffe.ID {
	t.Helper()
	id, err := spiffe.Workload("cluster.local", "default", account)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func as(t testing.TB, a *ca.Authority, account string) mesh.Option {
	return mesh.WithIdentity(a.Source(accountID(t, account)))
}

// proving is service with an endpoint that takes mutual TLS of the mesh, as the account.
func proving(name, protocol, address, account string) string {
	return strings.Replace(service(name, protocol, address), "labels: {", "serviceAccount: "+account+", labels: {", 1)
}

// startMeshPair is startPair with the mesh's own TLS between, under STRICT.
func startMeshPair(t testing.TB, app string) *securedPair {
	t.Helper()
	p, a := new(securedPair), newAuthority(t, ca.Options{})
	p.callee = startMesh(t, strict, func(c *proxy.Config) {
		c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: app}}
		c.Listen = func(network, address string) (net.Listener, error) {
			l, err := net.Listen(network, address)
			return countingListener{l, &p.between}, err
		}
	}, as(t, a, "reviews"))
	p.inbound = p.callee.sidecar.InboundAddrs()[0].String()
	p.callers = startMesh(t, proving("reviews", "HTTP", p.inbound, "reviews"), nil, as(t, a, "caller"))
	p.outbound = p.callers.sidecar.OutboundAddr().String()
	return p
}

// TestSidecarIdentity is rows B-035 and B-036 on a sidecar: programs behind two of them talk by mutual TLS, a STRICT one is reached in
// no other way, and it is told by the sidecar, and by nobody else, who calls.
func TestSidecarIdentity(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, ca.Options{})
	app := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, v := range r.Header {
			if strings.Contains(strings.ToLower(name), "client") || name == "Authorization" || name == "Cookie" || name == "X-Forwarded-For" {
				fmt.Fprintf(w, "%s=%q\n", name, v)
			}
		}
		fmt.Fprintf(w, "%s %s", r.Host, r.Header["X-Hop"])
	}))
	server := startMesh(t, strict, func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: app}} }, as(t, a, "server"))
	addr := server.sidecar.InboundAddrs()[0].String()
	want := regexp.MustCompile(`X-Forwarded-Client-Cert=\["By=spiffe://cluster.local/ns/default/sa/server;Hash=[0-9a-f]{64};Subject=\\"[^;,]*\\";URI=spiffe://cluster.local/ns/default/sa/client"\]`)
	for _, protocol := range []string{"HTTP", "HTTP2"} {
		entry := proving("svc", protocol, addr, "server")
		client := startMesh(t, entry, nil, as(t, a, "client"))
		library, err := mesh.New(t.Context(), mesh.WithConfig([]byte(entry)), as(t, a, "client"), mesh.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = library.Close() })
		for name, c := range map[string]*http.Client{"sidecar": client.client, "library": library.Client()} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://svc/", nil)
			for _, forged := range []string{"X-Forwarded-Client-Cert", "x-forwarded-client-cert", "X_Forwarded_Client_Cert", "X-Forwarded_client-Cert"} {
				req.Header[forged] = []string{"URI=spiffe://evil/x", "URI=spiffe://evil/y"}
			}
			req.Header["Authorization"], req.Header["Cookie"] = []string{"me"}, []string{"a=b"}
			req.Header["X-Forwarded-For"] = []string{"1.1.1.1"}
			if protocol == "HTTP" {
				req.Header["X-Hop"] = []string{"1"}
				req.Header["Connection"] = []string{"X-Forwarded-Client-Cert, X-Forwarded-For, Authorization, Cookie, Host, Content-Length, x-hop"}
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Errorf("%s, %s: %v", protocol, name, err)
				continue
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			got := string(body)
			if resp.StatusCode != http.StatusOK || !want.MatchString(got) || strings.Contains(got, "evil") || strings.Count(strings.ToLower(got), "client") != 2 {
				t.Errorf("%s, %s: %d %s", protocol, name, resp.StatusCode, got)
			}
			for _, kept := range []string{`Authorization=["me"]`, `Cookie=["a=b"]`, `X-Forwarded-For=["1.1.1.1`, "svc []"} {
				if !strings.Contains(got, kept) {
					t.Errorf("%s, %s: no %s in %s", protocol, name, kept, got)
				}
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

// TestPlainCallerIsNobody (B-036): under PERMISSIVE a caller in plain text cannot say who he is, on the wire and in HTTP/2, with an
// identity of the sidecar or without one.
func TestPlainCallerIsNobody(t *testing.T) {
	t.Parallel()
	app := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.Contains(strings.ToLower(name), "client") {
				fmt.Fprint(w, name)
			}
		}
	}))
	inbound := func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: app}} }
	for name, r := range map[string]*rig{"identity": startMesh(t, "", inbound, as(t, newAuthority(t, ca.Options{}), "web")), "none": start(t, "", inbound)} {
		for _, http2 := range []bool{false, true} {
			tr := &http.Transport{Protocols: new(http.Protocols)}
			tr.Protocols.SetHTTP1(!http2)
			tr.Protocols.SetUnencryptedHTTP2(http2)
			req := r.request(http.MethodGet, "http://"+r.sidecar.InboundAddrs()[0].String()+"/", nil)
			for _, forged := range []string{"X-Forwarded-Client-Cert", "x_forwarded_client_cert", "x-forwarded_client-cert"} {
				req.Header[forged] = []string{"URI=spiffe://evil/x"}
			}
			resp, err := clientOf(t, tr).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK || len(got) > 0 {
				t.Errorf("%s, HTTP/2 %t: %d, %s", name, http2, resp.StatusCode, got)
			}
		}
	}
}

// TestCallerInPolicies: what policies see of x-forwarded-client-cert is what the program will see.
func TestCallerInPolicies(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, ca.Options{})
	app := upstream(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	const policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {rules: [{when: [{key: 'request.headers[x-forwarded-client-cert]', values: ['*URI=spiffe://cluster.local/ns/default/sa/client']}]}]}\n"
	server := startMesh(t, strict+policy, func(c *proxy.Config) { c.Inbound = []proxy.Inbound{{Listen: "127.0.0.1:0", App: app}} }, as(t, a, "server"))
	for _, protocol := range []string{"HTTP", "HTTP2"} {
		entry := proving("svc", protocol, server.sidecar.InboundAddrs()[0].String(), "server")
		for account, want := range map[string]int{"client": http.StatusOK, "mallory": http.StatusForbidden} {
			r := startMesh(t, entry, nil, as(t, a, account))
			req := r.request(http.MethodGet, "http://svc/", nil)
			req.Header.Set("X-Forwarded-Client-Cert", "URI=spiffe://cluster.local/ns/default/sa/client")
			if resp, _ := r.do(req); resp.StatusCode != want {
				t.Errorf("%s, %s: %d, want %d", protocol, account, resp.StatusCode, want)
			}
		}
	}
}

// TestMeshAllocs: what mutual TLS between two sidecars allocates for a request is crypto/tls's own, at both together: a reader for
// each record that is waited for, and with the look for what is decrypted and nobody asked for one more and an error.
func TestMeshAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	p := startMeshPair(t, answering(t))
	if each := allocsOf(t, p.outbound); each >= 4.1 {
		t.Errorf("%.2f allocations a request, the budget is 4", each)
	}
	if n := p.between.Load(); n != 1 {
		t.Errorf("%d connections, want one and one handshake", n)
	}
}

// TestSidecarRotation is rows C-022, C-030 and E-004 on the wire: with SVIDs of ten seconds no request fails in ten minutes, and each
// connection rests before its certificates end.
func TestSidecarRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, ca.Options{Life: 10 * time.Second})
		endpoint, out := newMemoryListener("10.0.0.1:80"), newMemoryListener("127.0.0.1:15001")
		quiet := mesh.WithLogger(slog.New(slog.DiscardHandler))
		newMesh := func(opts ...mesh.Option) *mesh.Mesh {
			m, err := mesh.New(t.Context(), append(opts, quiet)...)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		callee := newMesh(mesh.WithConfig([]byte(strict)), as(t, a, "reviews"))
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p, _ := mesh.PeerFromContext(r.Context())
			_, _ = io.WriteString(w, p.ID.String())
		})}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = callee.Serve(srv, endpoint)
		}()
		dials := 0
		caller := newMesh(mesh.WithConfig([]byte(proving("reviews", "HTTP", "10.0.0.1:80", "reviews"))), as(t, a, "caller"),
			mesh.WithDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
				dials++
				return endpoint.dial(ctx, network, address)
			}))
		sidecar, err := proxy.Start(proxy.Config{Mesh: caller, Outbound: "127.0.0.1:15001",
			Listen: func(string, string) (net.Listener, error) { return out, nil }})
		if err != nil {
			t.Fatal(err)
		}
		c, err := out.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		br := bufio.NewReader(c)
		const n = 600
		for i := range n {
			send(t, c, "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
			if resp, body := read(t, br, http.MethodGet); resp.StatusCode != http.StatusOK || body != "spiffe://cluster.local/ns/default/sa/caller" {
				t.Fatalf("after %d s: %d %s", i, resp.StatusCode, body)
			}
			time.Sleep(time.Second)
		}
		if dials < n/10 || dials > n/2 {
			t.Errorf("%d connections in ten minutes, of certificates that live ten seconds", dials)
		}
		_ = c.Close()
		if err := sidecar.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		_ = srv.Close()
		<-served
		_, _ = caller.Close(), callee.Close()
	})
}
