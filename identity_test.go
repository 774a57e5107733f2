package mesh_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
)

const trustDomain = "cluster.local"

func newAuthority(t *testing.T) *ca.Authority {
	t.Helper()
	a, err := ca.New(trustDomain, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func workloadID(t *testing.T, account string) identity.ID {
	t.Helper()
	id, err := identity.Workload(trustDomain, "default", account)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// holding gives an identity that has one SVID of the authority.
func holding(t *testing.T, a *ca.Authority, account string) *identity.Identity {
	t.Helper()
	m, err := a.Issue(workloadID(t, account))
	if err != nil {
		t.Fatal(err)
	}
	i := identity.New(identity.Options{})
	if err := i.Take(m); err != nil {
		t.Fatal(err)
	}
	return i
}

func peerPolicy(mode string) string {
	return "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: default}\nspec: {mtls: {mode: " + mode + "}}\n"
}

// A whoServer is a server of a mesh that says who calls.
type whoServer struct {
	mesh *mesh.Mesh
	addr string
}

func serveWho(t *testing.T, a *ca.Authority, mode string, opts ...mesh.InboundOption) *whoServer {
	t.Helper()
	m := newMesh(t, mesh.WithConfig([]byte(peerPolicy(mode))), mesh.WithIdentity(a.Source(workloadID(t, "server"))),
		mesh.WithLogger(slog.New(slog.DiscardHandler)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(who), ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = m.Serve(srv, l, opts...)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
	})
	return &whoServer{m, l.Addr().String()}
}

func who(w http.ResponseWriter, r *http.Request) {
	p, _ := mesh.PeerFromContext(r.Context())
	fmt.Fprintf(w, "peer=%s proto=%s xfcc=%q", p.ID, r.Proto, r.Header["X-Forwarded-Client-Cert"])
}

func newMesh(t *testing.T, opts ...mesh.Option) *mesh.Mesh {
	t.Helper()
	m, err := mesh.New(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// ask makes one request over TLS of the configuration, plain without one, and gives the answer's body.
func (s *whoServer) ask(t *testing.T, config *tls.Config, proto string) (string, error) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, Protocols: new(http.Protocols)}
	url := "https://"
	switch config {
	case nil:
		url = "http://"
		tr.Protocols.SetHTTP1(proto == "")
		tr.Protocols.SetUnencryptedHTTP2(proto == "h2")
	default:
		tr.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := net.Dial(network, addr)
			if err != nil {
				return nil, err
			}
			c := tls.Client(conn, config)
			return c, c.HandshakeContext(ctx)
		}
		tr.Protocols.SetHTTP1(true)
		tr.Protocols.SetHTTP2(true)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, url+s.addr+"/", nil)
	req.Header.Set("X-Forwarded-Client-Cert", "By=spiffe://evil/x;URI=spiffe://evil/y")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return string(body), err
}

// meshConfig is how Istio's clients begin (istio-semantics §2.3).
func meshConfig(t *testing.T, i *identity.Identity, h2 bool) *tls.Config {
	t.Helper()
	protocols := []string{"istio-http/1.1", "istio", "http/1.1"}
	if h2 {
		protocols = []string{"istio-h2", "istio", "h2"}
	}
	c, err := i.ClientConfig(identity.ClientOptions{ServerName: "outbound_.80_._.server.default.svc.cluster.local", Protocols: protocols,
		Accounts: []string{"default/server"}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eachServer runs a test with both ways in which Serve reads HTTP/1.1.
func eachServer(t *testing.T, test func(*testing.T, ...mesh.InboundOption)) {
	t.Parallel()
	t.Run("net/http", func(t *testing.T) { t.Parallel(); test(t) })
	t.Run("server codec", func(t *testing.T) { t.Parallel(); test(t, mesh.WithServerCodec()) })
}

// TestInboundIdentity is rows C-013, C-014, B-036 and C-016 on a server of either kind: who gets in by which policy, and as whom.
func TestInboundIdentity(t *testing.T) { eachServer(t, testInboundIdentity) }

func testInboundIdentity(t *testing.T, opts ...mesh.InboundOption) {
	a, foreign := newAuthority(t), newAuthority(t)
	client := holding(t, a, "client")
	const id = "spiffe://cluster.local/ns/default/sa/client"
	mtls := func(t *testing.T) *tls.Config { return meshConfig(t, client, false) }
	mtls2 := func(t *testing.T) *tls.Config { return meshConfig(t, client, true) }
	without := func(c func(*testing.T) *tls.Config) func(*testing.T) *tls.Config {
		return func(t *testing.T) *tls.Config {
			config := c(t)
			config.Certificates = nil
			return config
		}
	}
	other := func(t *testing.T) *tls.Config { // not the mesh's: no "istio" by ALPN
		return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	}
	stranger := func(t *testing.T) *tls.Config {
		c := meshConfig(t, holding(t, foreign, "client"), false)
		c.VerifyConnection = nil // else he would refuse us
		return c
	}
	strict, permissive, disabled := serveWho(t, a, "STRICT", opts...), serveWho(t, a, "PERMISSIVE", opts...), serveWho(t, a, "DISABLE", opts...)
	m, err := a.Issue(workloadID(t, "app"))
	if err != nil {
		t.Fatal(err)
	}
	app := mesh.WithAppTLS(&tls.Config{Certificates: []tls.Certificate{m.SVID}, NextProtos: []string{"http/1.1"}})
	opts = append(opts, app)
	withApp, disabledApp, strictApp := serveWho(t, a, "PERMISSIVE", opts...), serveWho(t, a, "DISABLE", opts...), serveWho(t, a, "STRICT", opts...)
	const refused = "refused"
	for name, row := range map[string]struct {
		server *whoServer
		config func(*testing.T) *tls.Config
		proto  string
		want   string // of the answer's beginning
	}{
		"STRICT, mTLS":                    {strict, mtls, "", "peer=" + id + " proto=HTTP/1.1"},
		"STRICT, mTLS, HTTP/2":            {strict, mtls2, "", "peer=" + id + " proto=HTTP/2.0"},
		"STRICT, plain":                   {strict, nil, "", refused},
		"STRICT, plain HTTP/2":            {strict, nil, "h2", refused},
		"STRICT, no certificate":          {strict, without(mtls), "", refused},
		"STRICT, another authority":       {strict, stranger, "", refused},
		"STRICT, other TLS":               {strict, other, "", refused},
		"STRICT, program's TLS":           {strictApp, other, "", refused},
		"PERMISSIVE, mTLS":                {permissive, mtls, "", "peer=" + id + " proto=HTTP/1.1"},
		"PERMISSIVE, mTLS, HTTP/2":        {permissive, mtls2, "", "peer=" + id + " proto=HTTP/2.0"},
		"PERMISSIVE, plain":               {permissive, nil, "", `peer= proto=HTTP/1.1 xfcc=[]`},
		"PERMISSIVE, plain HTTP/2":        {permissive, nil, "h2", `peer= proto=HTTP/2.0 xfcc=[]`},
		"PERMISSIVE, no certificate":      {permissive, without(mtls), "", `peer= proto=HTTP/1.1 xfcc=[]`},
		"PERMISSIVE, another authority":   {permissive, stranger, "", refused},
		"PERMISSIVE, other TLS":           {permissive, other, "", refused},
		"PERMISSIVE, program's TLS":       {withApp, other, "", `peer= proto=HTTP/1.1 xfcc=[]`},
		"PERMISSIVE, mTLS beside own TLS": {withApp, mtls, "", "peer=" + id},
		"DISABLE, plain":                  {disabled, nil, "", `peer= proto=HTTP/1.1 xfcc=[]`},
		"DISABLE, mTLS":                   {disabled, mtls, "", refused},
		"DISABLE, program's TLS":          {disabledApp, other, "", `peer= proto=HTTP/1.1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var config *tls.Config
			if row.config != nil {
				config = row.config(t)
			}
			got, err := row.server.ask(t, config, row.proto)
			switch {
			case row.want == refused && err == nil:
				t.Errorf("got in: %s", got)
			case row.want != refused && !strings.HasPrefix(got, row.want):
				t.Errorf("%q, %v, want %q", got, err, row.want)
			case strings.Contains(got, "evil"):
				t.Errorf("a forged header got through: %s", got)
			case strings.HasPrefix(got, "peer="+id) && !strings.Contains(got, "URI="+id+`"]`):
				t.Errorf("no word of the peer to the program: %s", got)
			}
		})
	}
}

// TestHandlerWithoutListener: a program that forgets the Listener does not open a STRICT port.
func TestHandlerWithoutListener(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for _, identified := range []bool{true, false} {
		opts := []mesh.Option{mesh.WithConfig([]byte(peerPolicy("STRICT"))), mesh.WithLogger(slog.New(slog.DiscardHandler))}
		if identified {
			opts = append(opts, mesh.WithIdentity(a.Source(workloadID(t, "server"))))
		}
		m := newMesh(t, opts...)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("served") }))}
		go func() { _ = srv.Serve(l) }()
		resp, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden || !resp.Close {
			t.Errorf("identified %v: %d, close %v", identified, resp.StatusCode, resp.Close)
		}
		_ = srv.Close()
	}
}

// TestPolicyTightens is rows A-074 and C-025: a policy that becomes STRICT, and an authority that is removed, end open
// connections too.
func TestPolicyTightens(t *testing.T) { eachServer(t, testPolicyTightens) }

func testPolicyTightens(t *testing.T, opts ...mesh.InboundOption) {
	open := func(t *testing.T, s *whoServer, config *tls.Config) net.Conn {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		if config != nil {
			conn = tls.Client(conn, config)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return conn
	}
	ends := func(t *testing.T, conn net.Conn) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); err == nil || n > 0 || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("%d bytes, %v: still open", n, err)
		}
	}
	a := newAuthority(t)
	t.Run("STRICT", func(t *testing.T) {
		t.Parallel()
		s := serveWho(t, a, "PERMISSIVE", opts...)
		client := meshConfig(t, holding(t, a, "client"), false)
		plain, proved := open(t, s, nil), open(t, s, client)
		client.Certificates = nil
		unproved := open(t, s, client)
		if err := s.mesh.Apply(t.Context(), []byte(peerPolicy("STRICT"))); err != nil {
			t.Fatal(err)
		}
		ends(t, plain)
		ends(t, unproved)
		if _, err := io.WriteString(proved, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if resp, err := http.ReadResponse(bufio.NewReader(proved), nil); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("mutual TLS: %v, %v", resp, err)
		}
	})
	t.Run("removed authority", func(t *testing.T) {
		t.Parallel()
		a := newAuthority(t)
		s := serveWho(t, a, "STRICT", opts...)
		conn := open(t, s, meshConfig(t, holding(t, a, "client"), false))
		for _, step := range []func() error{a.AddRoot, a.RotateIssuing} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		a.DropRoots()
		ends(t, conn)
	})
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// TestNoIdentityYet is row E-011: a mesh does not start before its identity is there, and says what it waits for.
func TestNoIdentityYet(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	f := identity.Files{Certificate: "/nowhere/svid.pem", Key: "/nowhere/key.pem", Bundle: "/nowhere/bundle.pem"}
	m, err := mesh.New(ctx, mesh.WithIdentity(f), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	if m != nil || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "/nowhere/bundle.pem") ||
		!strings.Contains(err.Error(), "no such file") {
		t.Errorf("%v", err)
	}
}
