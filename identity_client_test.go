package mesh_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/internal/memory"
)

// serverEntry declares the service of a test, with one endpoint.
func serverEntry(addr, protocol, endpoint string) string {
	host, port, _ := net.SplitHostPort(addr)
	return "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: server}\nspec: {hosts: [server.default.svc.cluster.local], " +
		"location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: p, protocol: " + protocol + ", targetPort: " + port + "}], " +
		"endpoints: [{address: " + host + endpoint + "}]}\n"
}

func serverRule(policy string) string {
	return "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: server}\nspec: {host: server, trafficPolicy: " + policy + "}\n"
}

func fetch(t *testing.T, m *mesh.Mesh) (string, error) {
	t.Helper()
	resp, err := m.Client().Get("http://server/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// TestAutomaticMutualTLS is rows C-016 and C-017 on a client: what it takes to reach a server, and who has to be there.
func TestAutomaticMutualTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	strict, permissive := serveWho(t, a, "STRICT"), serveWho(t, a, "PERMISSIVE")
	const (
		known  = ", serviceAccount: server"
		label  = `, labels: {security.istio.io/tlsMode: istio}`
		proved = "peer=spiffe://cluster.local/ns/default/sa/client proto=HTTP/"
	)
	for name, row := range map[string]struct {
		server   *whoServer
		endpoint string
		rule     string
		protocol string
		nobody   bool   // the client has no identity
		want     string // of the answer or of the error
	}{
		"account":                    {server: strict, endpoint: known, protocol: "HTTP", want: proved + "1.1"},
		"account, HTTP/2":            {server: strict, endpoint: known, protocol: "HTTP2", want: proved + "2.0"},
		"label":                      {server: strict, endpoint: label, protocol: "HTTP", want: proved + "1.1"},
		"PERMISSIVE":                 {server: permissive, endpoint: known, protocol: "HTTP", want: proved + "1.1"},
		"ISTIO_MUTUAL":               {server: strict, rule: serverRule("{tls: {mode: ISTIO_MUTUAL}}"), protocol: "HTTP", want: proved + "1.1"},
		"no label":                   {server: permissive, protocol: "HTTP", want: "peer= proto=HTTP/1.1"},
		"DISABLE":                    {server: permissive, endpoint: known, rule: serverRule("{tls: {mode: DISABLE}}"), protocol: "HTTP", want: "peer= "},
		"no identity":                {server: permissive, endpoint: known, protocol: "HTTP", nobody: true, want: "peer= "},
		"no identity, ISTIO_MUTUAL":  {server: permissive, rule: serverRule("{tls: {mode: ISTIO_MUTUAL}}"), protocol: "HTTP", nobody: true, want: "no identity to show"},
		"another account":            {server: strict, endpoint: ", serviceAccount: other", protocol: "HTTP", want: "the server is spiffe://cluster.local/ns/default/sa/server, and not default/other"},
		"another account, HTTP/2":    {server: strict, endpoint: ", serviceAccount: other", protocol: "HTTP2", want: "and not default/other"},
		"STRICT, no label":           {server: strict, protocol: "HTTP", want: "mesh: call server"},
		"STRICT, rule says no":       {server: strict, endpoint: known, rule: serverRule("{tls: {mode: DISABLE}}"), protocol: "HTTP", want: "mesh: call server"},
		"MUTUAL with files for none": {server: strict, rule: serverRule("{tls: {mode: MUTUAL, clientCertificate: /no, privateKey: /no}}"), protocol: "HTTP", want: "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := []mesh.Option{mesh.WithConfig([]byte(serverEntry(row.server.addr, row.protocol, row.endpoint) + row.rule)),
				mesh.WithLogger(slog.New(slog.DiscardHandler))}
			if !row.nobody {
				opts = append(opts, mesh.WithIdentity(a.Source(workloadID(t, "client"))))
			}
			got, err := fetch(t, newMesh(t, opts...))
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, row.want) {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
}

// TestHello: what a server sees of a client is what Istio's servers and gateways go by (istio-semantics §2.3).
func TestHello(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	m, err := a.Issue(workloadID(t, "server"))
	if err != nil {
		t.Fatal(err)
	}
	for protocol, want := range map[string]string{"HTTP": "[istio-http/1.1 istio http/1.1]", "GRPC": "[istio-h2 istio h2]"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		hello := make(chan string, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{m.SVID}, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				hello <- fmt.Sprint(h.ServerName, h.SupportedProtos, h.SupportedVersions[0] == tls.VersionTLS13)
				return nil, nil
			}}).Handshake()
		}()
		client := newMesh(t, mesh.WithConfig([]byte(serverEntry(l.Addr().String(), protocol, ", serviceAccount: server"))),
			mesh.WithIdentity(a.Source(workloadID(t, "client"))), mesh.WithLogger(slog.New(slog.DiscardHandler)))
		_, _ = fetch(t, client)
		if got := <-hello; got != "outbound_.80_._.server.default.svc.cluster.local "+want+" true" && got != "outbound_.80_._.server.default.svc.cluster.local"+want+" true" {
			t.Errorf("%s: %s", protocol, got)
		}
		_ = l.Close()
	}
}

var errAnswer = errors.New("not the answer")

// meshes runs clients of the protocol against one server under STRICT, all with their own sources, and gives the clients.
func meshes(t *testing.T, protocol string, h http.HandlerFunc, server identity.Source, clients ...identity.Source) (all []*mesh.Mesh) {
	t.Helper()
	network := memory.Listen(memory.Addr("server"))
	quiet := mesh.WithLogger(slog.New(slog.DiscardHandler))
	s := newMesh(t, mesh.WithConfig([]byte(peerPolicy("STRICT"))), mesh.WithIdentity(server), quiet)
	srv := &http.Server{Handler: h}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(srv, network)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
	})
	for _, c := range clients {
		all = append(all, newMesh(t, mesh.WithConfig([]byte(serverEntry("10.0.0.1:80", protocol, ", serviceAccount: server"))),
			mesh.WithIdentity(c), mesh.WithDialer(network.Dial), quiet))
	}
	return all
}

// bubble runs such clients and gives what has each of them ask once.
func bubble(t *testing.T, protocol string, server identity.Source, clients ...identity.Source) (ask func() error) {
	t.Helper()
	all := meshes(t, protocol, who, server, clients...)
	return func() error {
		for i, m := range all {
			resp, err := m.Client().Get("http://server/")
			if err != nil {
				return fmt.Errorf("client %d: %w", i, err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "sa/client") {
				return fmt.Errorf("client %d: %d %s, %w", i, resp.StatusCode, body, errors.Join(err, errAnswer))
			}
		}
		return nil
	}
}

// TestRotation is rows C-022, C-030 and E-004: SVIDs of ten seconds, replaced again and again, and an authority that is
// replaced each minute in its three steps, fail no request within ten minutes.
func TestRotation(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"HTTP", "HTTP2"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, err := ca.New(trustDomain, ca.Options{Life: 10 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				ask := bubble(t, protocol, a.Source(workloadID(t, "server")), a.Source(workloadID(t, "client")), a.Source(workloadID(t, "client")))
				steps := []func() error{a.AddRoot, a.RotateIssuing, a.DropRoots}
				const apart = time.Second
				failed := 0
				for i := range int(10 * time.Minute / apart) {
					if i%20 == 19 { // every 20 s
						if err := steps[i/20%3](); err != nil {
							t.Fatal(err)
						}
						if i/20%3 == 1 { // what the old root signed is in use until it is replaced
							time.Sleep(11 * time.Second)
						}
					}
					if err := ask(); err != nil {
						failed++
						t.Logf("after %v: %v", time.Duration(i)*apart, err)
					}
					time.Sleep(apart)
				}
				if failed > 0 {
					t.Errorf("%d requests failed", failed)
				}
			})
		})
	}
}

// TestAuthorityInterleavings is row C-023: the three workloads hear of the new authority in any order, with overlap.
func TestAuthorityInterleavings(t *testing.T) {
	t.Parallel()
	for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAuthority(t)
				var hands [3]*handed
				for i, account := range []string{"server", "client", "client"} {
					hands[i] = &handed{news: make(chan *identity.Material, 1)}
					m, err := a.Issue(workloadID(t, account))
					if err != nil {
						t.Fatal(err)
					}
					hands[i].news <- m
				}
				ask := bubble(t, "HTTP", hands[0], hands[1], hands[2])
				for n, step := range []func() error{a.AddRoot, a.RotateIssuing, a.DropRoots} {
					if err := step(); err != nil {
						t.Fatal(err)
					}
					for _, i := range order {
						m, err := a.Issue(workloadID(t, []string{"server", "client", "client"}[i]))
						if err != nil {
							t.Fatal(err)
						}
						hands[i].news <- m
						synctest.Wait()
						for range 3 {
							if err := ask(); err != nil {
								t.Errorf("step %d, workload %d: %v", n, i, err)
							}
						}
					}
				}
			})
		})
	}
}

// handed is a source that a test feeds.
type handed struct{ news chan *identity.Material }

func (h *handed) String() string { return "the test" }

func (h *handed) Run(ctx context.Context, to *identity.Identity) error {
	for {
		select {
		case m := <-h.news:
			if err := to.Take(m); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// TestAuthorityReplaced is row C-024: without overlap handshakes fail, and say who issued what.
func TestAuthorityReplaced(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	s := serveWho(t, a, "STRICT")
	other := newAuthority(t)
	m := newMesh(t, mesh.WithConfig([]byte(serverEntry(s.addr, "HTTP", ", serviceAccount: server"))), mesh.WithLogger(slog.New(slog.DiscardHandler)),
		mesh.WithIdentity(other.Source(workloadID(t, "client"))))
	if _, err := fetch(t, m); err == nil || !strings.Contains(err.Error(), "development issuing authority of cluster.local") {
		t.Errorf("%v", err)
	}
}
