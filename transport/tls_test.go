package transport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/internal/conformance"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
	"github.com/heddlemesh/mesh/transport"
)

// A secureServer is a server with TLS on a real socket, which says what it saw of a connection.
type secureServer struct {
	addr string

	mu    sync.Mutex
	conns int
}

// serveTLS serves with the certificate that get gives for each handshake.
func serveTLS(t *testing.T, config *tls.Config) *secureServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &secureServer{addr: l.Addr().String()}
	if config.NextProtos == nil {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	server := &http.Server{
		ErrorLog: discardLog(),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				s.mu.Lock()
				s.conns++
				s.mu.Unlock()
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			client := ""
			if len(r.TLS.PeerCertificates) > 0 {
				client = r.TLS.PeerCertificates[0].Subject.CommonName
			}
			w.Header().Set("Seen", strings.Join([]string{r.Proto, r.Host, r.TLS.ServerName, client}, "|"))
			w.Header().Set("Alpn", r.TLS.NegotiatedProtocol)
			_, _ = io.Copy(w, r.Body)
		})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(tls.NewListener(l, config))
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return s
}

func (s *secureServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// meshTo is a mesh with one host, api.example.com:80, at the address, under the policy.
func meshTo(t *testing.T, addr string, p snapshot.Policy) (*transport.Engine, *http.Client, func(snapshot.Policy)) {
	t.Helper()
	key := discovery.Key{Host: "api.example.com", Port: 80}
	registry := new(discovery.Registry)
	registry.Publish(key, discovery.NewSet(discovery.Endpoint{Address: discovery.Address{Network: "tcp", Addr: addr}}))
	e := transport.NewEngine(transport.Config{Registry: registry, Pools: transport.NewLeaves(nil, nil)})
	publish := func(p snapshot.Policy) {
		route := &routing.Route{Name: "r", Split: []routing.Destination{{}}}
		err := e.Publish(t.Context(), &snapshot.Snapshot{Version: "1",
			Tables: map[string]*routing.Table{snapshot.Mesh: routing.NewTable([]*routing.VirtualHost{
				{Host: "api.example.com", Also: []string{"api", "10.0.0.1"}, Port: 80, HTTP: true, Routes: []*routing.Route{route}}})},
			Clusters: []snapshot.Cluster{{Name: "c", Set: key, Policy: p}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	publish(p)
	client := &http.Client{Transport: transport.NewRoundTripper(e, http.DefaultTransport)}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		e.Close()
	})
	return e, client, publish
}

func seen(t *testing.T, client *http.Client, url string) (string, error) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Header.Get("Seen"), nil
}

const apiURL = "http://api.example.com/x"

// TestOriginatesTLS: what is verified, what is sent as the server's name, and what is refused.
func TestOriginatesTLS(t *testing.T) {
	t.Parallel()
	ca, other := conformance.NewAuthority(t), conformance.NewAuthority(t)
	certificate := ca.Issue("api.example.com", "*.wild.example.com", "10.0.0.1", "spiffe://cluster.local/ns/a/sa/b")
	own := ca.Issue("client")
	certFile, keyFile := ca.Files("client", own)
	fresh, stale := time.Now().Add(time.Hour), time.Now().Add(-time.Minute)
	none, revoked := ca.Revoke("none.crl", fresh), ca.Revoke("revoked.crl", fresh, certificate)
	old, foreign := ca.Revoke("old.crl", stale), other.Revoke("foreign.crl", fresh)
	s := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.Pool()})
	for name, c := range map[string]struct {
		policy snapshot.TLS
		url    string
		host   string
		want   string
		fails  string
	}{
		"the request's host":             {snapshot.TLS{CAFile: ca.CAFile}, apiURL, "", "api.example.com|api.example.com|", ""},
		"a Host header":                  {snapshot.TLS{CAFile: ca.CAFile, Names: "api.example.com"}, apiURL, "api.example.com:8080", "api.example.com:8080|api.example.com|", ""},
		"a short name":                   {snapshot.TLS{CAFile: ca.CAFile}, "http://api/x", "", "", "certificate is valid for"},
		"a short name, and names":        {snapshot.TLS{CAFile: ca.CAFile, Names: "api.example.com"}, "http://api/x", "", "api|api|", ""},
		"an address has no server name":  {snapshot.TLS{CAFile: ca.CAFile}, "http://10.0.0.1/x", "", "10.0.0.1||", ""},
		"a server name of its own":       {snapshot.TLS{CAFile: ca.CAFile, ServerName: "a.wild.example.com"}, apiURL, "", "api.example.com|a.wild.example.com|", ""},
		"a server name that is not":      {snapshot.TLS{CAFile: ca.CAFile, ServerName: "a.example.com"}, apiURL, "", "", "certificate is valid for"},
		"names, a URI":                   {snapshot.TLS{CAFile: ca.CAFile, Names: "x.example.com\nspiffe://cluster.local/ns/a/sa/b"}, apiURL, "", "api.example.com|api.example.com|", ""},
		"names, a wildcard's":            {snapshot.TLS{CAFile: ca.CAFile, Names: "b.wild.example.com"}, apiURL, "", "api.example.com|api.example.com|", ""},
		"names, the wildcard itself":     {snapshot.TLS{CAFile: ca.CAFile, Names: "*.wild.example.com"}, apiURL, "", "api.example.com|api.example.com|", ""},
		"names, none of them":            {snapshot.TLS{CAFile: ca.CAFile, Names: "spiffe://cluster.local/ns/a/sa/c\nb.a.wild.example.com"}, apiURL, "", "", "is for none of"},
		"another authority":              {snapshot.TLS{CAFile: other.CAFile}, apiURL, "", "", "signed by unknown authority"},
		"the system's authorities":       {snapshot.TLS{}, apiURL, "", "", "signed by unknown authority"},
		"not verified":                   {snapshot.TLS{SkipVerify: true, ServerName: "x"}, apiURL, "", "api.example.com|x|", ""},
		"a certificate of our own":       {snapshot.TLS{CAFile: ca.CAFile, CertificateFile: certFile, KeyFile: keyFile}, apiURL, "", "api.example.com|api.example.com|client", ""},
		"no file":                        {snapshot.TLS{CAFile: filepath.Join(ca.Dir, "none")}, apiURL, "", "", "read caCertificates: stat "},
		"no certificate in the file":     {snapshot.TLS{CAFile: keyFile}, apiURL, "", "", "no certificate in PEM"},
		"a key of another certificate":   {snapshot.TLS{CAFile: ca.CAFile, CertificateFile: ca.CAFile, KeyFile: keyFile}, apiURL, "", "", "private key does not match"},
		"a directory":                    {snapshot.TLS{CAFile: ca.Dir}, apiURL, "", "", "not a regular file"},
		"nothing revoked":                {snapshot.TLS{CAFile: ca.CAFile, RevocationFile: none}, apiURL, "", "api.example.com|api.example.com|", ""},
		"revoked":                        {snapshot.TLS{CAFile: ca.CAFile, RevocationFile: revoked}, apiURL, "", "", "is revoked"},
		"a list that is out of date":     {snapshot.TLS{CAFile: ca.CAFile, RevocationFile: old}, apiURL, "", "", "no revocation list of"},
		"a list of another authority":    {snapshot.TLS{CAFile: ca.CAFile, RevocationFile: foreign}, apiURL, "", "", "no revocation list of"},
		"no list in the file":            {snapshot.TLS{CAFile: ca.CAFile, RevocationFile: ca.CAFile}, apiURL, "", "", "no revocation list"},
		"revocation is not skipped over": {snapshot.TLS{CAFile: ca.CAFile, RevocationFile: revoked, Names: "api.example.com"}, apiURL, "", "", "is revoked"},
	} {
		for _, proto := range []snapshot.Protocol{snapshot.HTTP1, snapshot.HTTP2} {
			t.Run(proto.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				_, client, _ := meshTo(t, s.addr, snapshot.Policy{TLS: &c.policy, Protocol: proto})
				req, _ := http.NewRequestWithContext(t.Context(), "GET", c.url, nil)
				req.Host = c.host
				resp, err := client.Do(req)
				if c.fails != "" {
					var e *call.Error
					if !errors.As(err, &e) || e.Reason != call.ReasonConnect || !strings.Contains(err.Error(), c.fails) {
						t.Fatalf("%v, want a failure to connect for %q", err, c.fails)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				version := map[snapshot.Protocol]string{snapshot.HTTP1: "HTTP/1.1", snapshot.HTTP2: "HTTP/2.0"}[proto]
				if got := resp.Header.Get("Seen"); got != version+"|"+c.want {
					t.Errorf("%s, want %s", got, version+"|"+c.want)
				}
				if resp.Request != req || req.URL.Scheme != "http" {
					t.Error("the answer is not one to the caller's request")
				}
			})
		}
	}
}

// TestTLSNeverFallsBack: a server without TLS, or without HTTP/2 where that is what is to be spoken, gets no request.
func TestTLSNeverFallsBack(t *testing.T) {
	t.Parallel()
	ca := conformance.NewAuthority(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plain := &http.Server{ErrorLog: discardLog(), Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a plaintext server got %s %s", r.Method, r.URL)
	})}
	go func() { _ = plain.Serve(l) }()
	t.Cleanup(func() { _ = plain.Close() })
	_, client, _ := meshTo(t, l.Addr().String(), snapshot.Policy{TLS: &snapshot.TLS{CAFile: ca.CAFile}})
	if _, err := seen(t, client, apiURL); call.ReasonOf(err) != call.ReasonConnect {
		t.Errorf("plaintext: %v", err)
	}
	for name, offers := range map[string][]string{"another protocol": {"http/1.1"}, "no protocol": {}} {
		s := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.Issue("api.example.com")}, NextProtos: offers})
		_, client, _ := meshTo(t, s.addr, snapshot.Policy{TLS: &snapshot.TLS{CAFile: ca.CAFile}, Protocol: snapshot.HTTP2})
		if _, err := seen(t, client, apiURL); call.ReasonOf(err) != call.ReasonConnect {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTLSVersions: nothing before TLS 1.2.
func TestTLSVersions(t *testing.T) {
	t.Parallel()
	ca := conformance.NewAuthority(t)
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		s := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.Issue("api.example.com")}, MinVersion: version, MaxVersion: version})
		_, client, _ := meshTo(t, s.addr, snapshot.Policy{TLS: &snapshot.TLS{CAFile: ca.CAFile}})
		if _, err := seen(t, client, apiURL); (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}

// TestTLSConnectionsByName: connections under one server name do not carry another host's requests.
func TestTLSConnectionsByName(t *testing.T) {
	t.Parallel()
	ca := conformance.NewAuthority(t)
	s := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.Issue("api.example.com", "b.example.com")}})
	for _, proto := range []snapshot.Protocol{snapshot.HTTP1, snapshot.HTTP2} {
		_, client, _ := meshTo(t, s.addr, snapshot.Policy{TLS: &snapshot.TLS{CAFile: ca.CAFile}, Protocol: proto})
		before := s.count()
		for range 3 {
			if _, err := seen(t, client, apiURL); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.count() - before; n != 1 {
			t.Errorf("%v: %d connections for three requests to one host", proto, n)
		}
		got, err := seen(t, client, "http://api.example.com:80/x")
		if err != nil || !strings.Contains(got, "|api.example.com|") {
			t.Errorf("%s, %v", got, err)
		}
	}
}

// TestTLSFilesChange: a certificate that is replaced is used by the next connection, one that is broken by none.
func TestTLSFilesChange(t *testing.T) {
	t.Parallel()
	ca := conformance.NewAuthority(t)
	certFile, keyFile := ca.Files("own", ca.Issue("first"))
	s := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.Issue("api.example.com")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()})
	_, client, _ := meshTo(t, s.addr, snapshot.Policy{Connections: snapshot.Connections{MaxRequests: 1},
		TLS: &snapshot.TLS{CAFile: ca.CAFile, CertificateFile: certFile, KeyFile: keyFile}})
	want := func(name string) {
		t.Helper()
		if got, err := seen(t, client, apiURL); err != nil || !strings.HasSuffix(got, "|"+name) {
			t.Errorf("%s, %v; want %s", got, err, name)
		}
	}
	later := time.Now()
	touch := func(files ...string) {
		t.Helper()
		later = later.Add(time.Second) // file systems keep time in steps
		for _, f := range files {
			if err := os.Chtimes(f, later, later); err != nil {
				t.Fatal(err)
			}
		}
	}
	want("first")
	ca.Files("own", ca.Issue("second"))
	touch(certFile, keyFile)
	want("second")
	if err := os.WriteFile(certFile, []byte("half a certi"), 0o600); err != nil {
		t.Fatal(err)
	}
	touch(certFile)
	want("second")
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	want("second")
	ca.Files("own", ca.Issue("third"))
	touch(certFile, keyFile)
	want("third")
}

// TestTLSPolicyChange: connections of one policy are not used under another.
func TestTLSPolicyChange(t *testing.T) {
	t.Parallel()
	ca := conformance.NewAuthority(t)
	s := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.Issue("api.example.com")}})
	_, client, publish := meshTo(t, s.addr, snapshot.Policy{TLS: &snapshot.TLS{SkipVerify: true}})
	if _, err := seen(t, client, apiURL); err != nil {
		t.Fatal(err)
	}
	publish(snapshot.Policy{TLS: &snapshot.TLS{CAFile: ca.CAFile, Names: "nobody"}})
	if _, err := seen(t, client, apiURL); call.ReasonOf(err) != call.ReasonConnect {
		t.Errorf("the connection that was not verified is still used: %v", err)
	}
	publish(snapshot.Policy{})
	if got, err := seen(t, client, apiURL); err == nil && got != "" {
		t.Errorf("plaintext over a connection with TLS: %s", got)
	}
}

// TestTLSHandshakeTimesOut: a server that says nothing holds a call no longer than the connect time-out.
func TestTLSHandshakeTimesOut(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, client, _ := meshTo(t, l.Addr().String(), snapshot.Policy{ConnectTimeout: 50 * time.Millisecond, TLS: &snapshot.TLS{SkipVerify: true}})
	_, err = seen(t, client, apiURL)
	if call.ReasonOf(err) != call.ReasonConnect || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestOwnTLSWithinTheMeshs: an https URL is the program's own TLS, within that of the policy and never in place of it.
func TestOwnTLSWithinTheMeshs(t *testing.T) {
	t.Parallel()
	ca := conformance.NewAuthority(t)
	outer := ca.Issue("api.example.com")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inner := tls.NewListener(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{outer}}),
		&tls.Config{Certificates: []tls.Certificate{ca.Issue("api.example.com")}})
	server := &http.Server{ErrorLog: discardLog(), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "twice")
	})}
	go func() { _ = server.Serve(inner) }()
	t.Cleanup(func() { _ = server.Close() })
	key := discovery.Key{Host: "api.example.com", Port: 443}
	registry := new(discovery.Registry)
	registry.Publish(key, discovery.NewSet(discovery.Endpoint{Address: discovery.Address{Network: "tcp", Addr: l.Addr().String()}}))
	e := transport.NewEngine(transport.Config{Registry: registry, Pools: transport.NewLeaves(nil, &tls.Config{RootCAs: ca.Pool()})})
	t.Cleanup(e.Close)
	route := &routing.Route{Name: "r", Split: []routing.Destination{{}}}
	err = e.Publish(t.Context(), &snapshot.Snapshot{Version: "1",
		Tables: map[string]*routing.Table{snapshot.Mesh: routing.NewTable([]*routing.VirtualHost{
			{Host: "api.example.com", Port: 443, Default: route}})},
		Clusters: []snapshot.Cluster{{Name: "c", Set: key, Policy: snapshot.Policy{Protocol: snapshot.Opaque, TLS: &snapshot.TLS{CAFile: ca.CAFile}}}}})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: transport.NewRoundTripper(e, http.DefaultTransport)}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://api.example.com/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "twice" {
		t.Errorf("%s", b)
	}
}

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
