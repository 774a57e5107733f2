package conformance

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/transport/grpcmesh"
)

const (
	meshDomain = "cluster.local"
	webID      = "spiffe://cluster.local/ns/default/sa/web"
	reviewsID  = "spiffe://cluster.local/ns/default/sa/reviews"
)

// A held identity is one that does not change.
type held struct{ *identity.Material }

func (h held) String() string { return "the test" }

func (h held) Run(_ context.Context, to *identity.Identity) error { return to.Take(h.Material) }

// An exhibit is a certificate that a peer of ours shows, and what has to come of it.
type exhibit struct {
	name  string
	cert  func(a *Authority) tls.Certificate
	taken bool // by servers and clients alike
	// asClient and asServer are where it is taken, where that is not the same.
	asClient, asServer bool
}

func peerOf(change func(*x509.Certificate), names ...string) func(*Authority) tls.Certificate {
	if names == nil {
		names = []string{reviewsID}
	}
	return func(a *Authority) tls.Certificate { return a.IssueAs(nil, change, names...) }
}

func below(change func(*x509.Certificate)) func(*Authority) tls.Certificate {
	return func(a *Authority) tls.Certificate { return a.Below(change).Issue(reviewsID) }
}

// spelled puts a name into a certificate that net/url would not.
func spelled(tag int, name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		list := []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(name)}}
		if tag != 6 {
			list = append(list, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(reviewsID)})
		}
		value, err := asn1.Marshal(list)
		if err != nil {
			panic(err)
		}
		c.URIs, c.DNSNames = nil, nil
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value})
	}
}

func usages(list ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = list }
}

// exhibits are rows C-001 to C-012, C-018 and C-019 of attacks.md, as far as a driver could get them wrong. Package
// identity has all of them.
func exhibits(t *testing.T) []exhibit {
	foreign := NewAuthority(t)
	rsa1024 := func(bits int) func(*Authority) tls.Certificate {
		return func(a *Authority) tls.Certificate {
			key, err := rsa.GenerateKey(rand.Reader, bits)
			if err != nil {
				t.Fatal(err)
			}
			return a.IssueAs(key, nil, reviewsID)
		}
	}
	return []exhibit{
		{name: "sound", cert: peerOf(nil), taken: true},
		{name: "sound, through an issuing authority", cert: below(nil), taken: true},
		{name: "C-001 expired", cert: peerOf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })},
		{name: "C-002 not yet valid", cert: peerOf(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })},
		{name: "C-003 expired issuing authority", cert: below(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })},
		{name: "C-004 another trust domain", cert: peerOf(nil, "spiffe://other.local/ns/default/sa/reviews")},
		{name: "C-005 signed by another domain's authority", cert: func(*Authority) tls.Certificate { return foreign.Issue(reviewsID) }},
		{name: "C-006 no name", cert: peerOf(func(c *x509.Certificate) { c.URIs = nil })},
		{name: "C-006 DNS name only", cert: peerOf(nil, "reviews.default.svc.cluster.local")},
		{name: "C-007 two URIs", cert: peerOf(nil, reviewsID, webID)},
		{name: "C-007 a URI of HTTP", cert: peerOf(nil, reviewsID, "http://a/")},
		{name: "C-008 capital letters", cert: peerOf(spelled(6, "spiffe://Cluster.local/ns/default/sa/reviews"))},
		{name: "C-008 percent", cert: peerOf(spelled(6, "spiffe://cluster.local/ns/default/sa/%72eviews"))},
		{name: "C-008 dots", cert: peerOf(spelled(6, "spiffe://cluster.local/ns/default/sa/x/../reviews"))},
		{name: "C-009 lines in a DNS name", cert: peerOf(spelled(2, "a\r\nX-Evil: 1"))},
		{name: "C-009 another kind of name", cert: peerOf(spelled(4, "0"))},
		{name: "C-010 for servers only", cert: peerOf(usages(x509.ExtKeyUsageServerAuth)), asServer: true},
		{name: "C-010 for clients only", cert: peerOf(usages(x509.ExtKeyUsageClientAuth)), asClient: true},
		{name: "C-010 for nothing said", cert: peerOf(usages()), taken: true},
		{name: "C-010 for any use", cert: peerOf(usages(x509.ExtKeyUsageAny))},
		{name: "C-010 for code", cert: peerOf(usages(x509.ExtKeyUsageCodeSigning))},
		{name: "C-011 an authority's", cert: peerOf(func(c *x509.Certificate) {
			c.IsCA, c.BasicConstraintsValid = true, true
			c.KeyUsage |= x509.KeyUsageCertSign
		})},
		{name: "C-011 no signatures", cert: peerOf(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })},
		{name: "C-011 below what is no authority", cert: below(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })},
		{name: "C-018 excluded", cert: below(func(c *x509.Certificate) { c.ExcludedURIDomains = []string{meshDomain} })},
		{name: "C-019 a chain of 100", cert: func(a *Authority) tls.Certificate {
			for range 100 {
				a = a.Below(nil)
			}
			return a.Issue(reviewsID)
		}},
		{name: "C-019 10,000 names", cert: peerOf(func(c *x509.Certificate) {
			for i := range 10_000 {
				c.DNSNames = append(c.DNSNames, fmt.Sprint("n", i))
			}
		})},
		{name: "C-019 a certificate of 1 MB", cert: peerOf(func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{strings.Repeat("x", 1<<20)} })},
		{name: "C-019 RSA of 1024 bits", cert: rsa1024(1024)},
		{name: "C-019 RSA of 2048 bits", cert: rsa1024(2048), taken: true},
	}
}

// A door is one way in to a program of the mesh that a caller with a certificate can take.
type door struct {
	name string
	// open stands the program behind it, which says who calls, and gives its address.
	open   func(t testing.TB, m *mesh.Mesh) string
	offers []string // by ALPN
}

var doors = []door{
	{"Serve", func(t testing.TB, m *mesh.Mesh) string { return serveByMesh(t, m, http.HandlerFunc(whoCalls)) }, []string{"istio-http/1.1", "istio", "http/1.1"}},
	{"server codec", func(t testing.TB, m *mesh.Mesh) string {
		return serveByMesh(t, m, http.HandlerFunc(whoCalls), mesh.WithServerCodec())
	}, []string{"istio-http/1.1", "istio", "http/1.1"}},
	{"proxy", func(t testing.TB, m *mesh.Mesh) string { return serveByProxy(t, m, http.HandlerFunc(whoCalls)) }, []string{"istio-http/1.1", "istio", "http/1.1"}},
	{"gRPC", serveRPC, []string{"istio-h2", "istio", "h2"}},
}

// whoCalls answers with the ID of who calls, as the program is told of him.
func whoCalls(w http.ResponseWriter, r *http.Request) {
	_, id, _ := strings.Cut(strings.Join(r.Header.Values("X-Forwarded-Client-Cert"), ","), ";URI=")
	w.Header().Set("X-Caller", id)
}

func serveRPC(t testing.TB, m *mesh.Mesh) string {
	unary := func(_ any, ctx context.Context, dec func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		in := new(emptypb.Empty)
		if err := dec(in); err != nil {
			return nil, err
		}
		return intercept(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/pkg.Service/Method"}, func(ctx context.Context, in any) (any, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			_, id, _ := strings.Cut(strings.Join(md["x-forwarded-client-cert"], ","), ";URI=")
			return in, grpc.SetHeader(ctx, metadata.Pairs("x-caller", id))
		})
	}
	srv := grpc.NewServer(grpcmesh.ServerOptions(m)...)
	srv.RegisterService(&grpc.ServiceDesc{ServiceName: "pkg.Service", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Method", Handler: unary}}}, struct{}{})
	l := listenLocal(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() { srv.Stop(); <-done })
	return l.Addr().String()
}

// knock makes one request at a door, by TLS where config is not nil. It says to be another, and has Connection nominate what says who it
// is (attacks.md B-035, B-036). status is 0 where the connection ended without an answer, and
// that of HTTP for an RPC.
func (d *door) knock(t testing.TB, addr string, config *tls.Config) (status int, caller string) {
	t.Helper()
	if d.name == "gRPC" {
		return knockRPC(t, addr, config)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if config != nil {
		c = tls.Client(c, config)
	}
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\nX-Forwarded-Client-Cert: By=a;URI=spiffe://evil/x\r\n"+
		"Connection: close, x-forwarded-client-cert, host, content-length\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, ""
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("X-Caller")
}

func knockRPC(t testing.TB, addr string, config *tls.Config) (status int, caller string) {
	t.Helper()
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "x-forwarded-client-cert", "By=a;URI=spiffe://evil/x"), time.Minute)
	defer cancel()
	var md metadata.MD
	switch err := conn.Invoke(ctx, "/pkg.Service/Method", new(emptypb.Empty), new(emptypb.Empty), grpc.Header(&md)); grpcstatus.Code(err) {
	case codes.OK:
		return http.StatusOK, strings.Join(md["x-caller"], "")
	case codes.PermissionDenied:
		return http.StatusForbidden, ""
	case codes.Unavailable:
		return 0, ""
	default:
		t.Fatal(err)
		return 0, ""
	}
}

// TestCertificatesOfClients: who shows a certificate that proves nothing is closed at every door, and the program sees nothing
// of him.
func TestCertificatesOfClients(t *testing.T) {
	t.Parallel()
	a := NewAuthority(t)
	type way struct {
		door
		addr string
	}
	var ways []way
	for _, d := range doors {
		ways = append(ways, way{d, d.open(t, inboundMesh(t, peerAuthentication("STRICT"), mesh.WithIdentity(held{a.Material(meshDomain, webID)})))})
	}
	for _, row := range exhibits(t) {
		certificate := row.cert(a)
		for _, w := range ways {
			t.Run(w.name+"/"+row.name, func(t *testing.T) {
				status, caller := w.knock(t, w.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: w.offers,
					GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }})
				want, who := 0, ""
				if row.taken || row.asClient {
					want, who = http.StatusOK, reviewsID
				}
				if status != want || caller != who {
					t.Errorf("status %d as %q, want %d as %q", status, caller, want, who)
				}
			})
		}
	}
}

func peerAuthentication(mode string) string {
	return "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: " + mode + "}}\n---\n"
}

// A caller is one way in which calls go out.
type caller struct {
	name, protocol string
	// start gives what calls a host. It gives the status of HTTP, 0 for the library's own error of a connection that was not made.
	start func(t *testing.T, config string, source identity.Source) (call func(host string) int)
}

var callers = []caller{
	{"RoundTripper", "HTTP", libraryCalls},
	{"RoundTripper, HTTP/2", "HTTP2", libraryCalls},
	{"proxy", "HTTP", sidecarCalls},
	{"proxy, HTTP/2", "HTTP2", sidecarCalls},
	{"gRPC", "GRPC", rpcCalls},
}

func callingMesh(t *testing.T, config string, source identity.Source) *mesh.Mesh {
	t.Helper()
	m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(config)), mesh.WithIdentity(source), mesh.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func libraryCalls(t *testing.T, config string, source identity.Source) func(string) int {
	client := callingMesh(t, config, source).Client()
	return func(host string) int {
		resp, err := client.Post("http://"+host+"/secret", "text/plain", strings.NewReader("secret"))
		if err != nil {
			if mesh.ReasonOf(err) != mesh.ReasonConnect && mesh.ReasonOf(err) != mesh.ReasonReset {
				t.Errorf("%s: %v", host, err)
			}
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
}

func sidecarCalls(t *testing.T, config string, source identity.Source) func(string) int {
	s := newProxyServer(t, callingMesh(t, config, source))
	transport := s.client(false, false)
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	return func(host string) int {
		resp, err := client.Post("http://"+host+"/secret", "text/plain", strings.NewReader("secret"))
		if err != nil {
			t.Error(err)
			return -1
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			return 0
		}
		return resp.StatusCode
	}
}

func rpcCalls(t *testing.T, config string, source identity.Source) func(string) int {
	m := callingMesh(t, config, source)
	return func(host string) int {
		conn, err := grpc.NewClient(grpcmesh.Target(host), grpcmesh.DialOptions(m)...)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		switch err := conn.Invoke(t.Context(), "/secret.Service/Method", new(emptypb.Empty), new(emptypb.Empty)); grpcstatus.Code(err) {
		case codes.OK:
			return http.StatusOK
		case codes.Unavailable:
			return 0
		default:
			t.Errorf("%s: %v", host, err)
			return -1
		}
	}
}

// serviceAt declares host as a service of the mesh with one endpoint, which takes mutual TLS as reviews.
func serviceAt(host, protocol, addr string) string {
	ip, port, _ := net.SplitHostPort(addr)
	return "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " + host + "}\nspec: {hosts: [" + host + ".default.svc.cluster.local], " +
		"location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: p, protocol: " + protocol + ", targetPort: " + port + "}], " +
		"endpoints: [{address: " + ip + ", serviceAccount: reviews}]}\n---\n"
}

// overhears serves connections with meet, which gives what is to be read of each, and tells of each what was heard.
func overhears(t testing.TB, meet func(net.Conn) io.Reader) (addr string, heard <-chan string) {
	t.Helper()
	l := listenLocal(t)
	told, done := make(chan string, 64), make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			first := make([]byte, 256)
			n, _ := meet(c).Read(first)
			_ = c.Close()
			select {
			case told <- string(first[:n]):
			default:
			}
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String(), told
}

// handshakes meets a client as a server of TLS; what it reads is none where the handshake fails.
func handshakes(config *tls.Config) func(net.Conn) io.Reader {
	return func(c net.Conn) io.Reader {
		s := tls.Server(c, config)
		if s.Handshake() != nil {
			return strings.NewReader("")
		}
		return s
	}
}

// TestCertificatesOfServers: of a call to who shows a certificate that proves nothing, or that he is another, no byte is sent.
// Rows C-016, C-017 and the hanging handshake of D-034 are here too: no handshake, no call.
func TestCertificatesOfServers(t *testing.T) {
	t.Parallel()
	a := NewAuthority(t)
	type endpoint struct {
		name  string
		meet  func(net.Conn) io.Reader
		taken bool
		rule  string // DestinationRule trafficPolicy, "" for none
	}
	var endpoints []endpoint
	add := func(name string, certificate tls.Certificate, taken bool, protocols ...string) {
		if protocols == nil {
			protocols = []string{"h2", "http/1.1"}
		}
		endpoints = append(endpoints, endpoint{name, handshakes(&tls.Config{NextProtos: protocols, ClientAuth: tls.RequestClientCert,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil }}), taken, ""})
	}
	for _, row := range exhibits(t) {
		add(row.name, row.cert(a), row.taken || row.asServer)
	}
	add("C-016 of another service", a.Issue("spiffe://cluster.local/ns/default/sa/ratings"), false)
	add("C-016 of another namespace", a.Issue("spiffe://cluster.local/ns/prod/sa/reviews"), false)
	add("C-016 a wildcard for the host", a.Issue("*.default.svc.cluster.local"), false)
	add("C-016 the address", a.Issue("127.0.0.1"), false)
	add("C-017 another protocol", a.Issue(reviewsID), false, "smtp")
	for name, meet := range map[string]func(net.Conn) io.Reader{
		"C-017 reset": func(c net.Conn) io.Reader {
			_, _ = c.Read(make([]byte, 1))
			_ = c.(*net.TCPConn).SetLinger(0)
			return strings.NewReader("")
		},
		"C-017 ends": func(net.Conn) io.Reader { return strings.NewReader("") },
		"C-017 answers in plain text": func(c net.Conn) io.Reader {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			_, _ = c.Read(make([]byte, 1<<10)) // the hello
			return c
		},
	} {
		endpoints = append(endpoints, endpoint{name, meet, false, ""})
	}
	endpoints = append(endpoints, endpoint{"D-034 a handshake that hangs", func(c net.Conn) io.Reader {
		_, _ = io.Copy(io.Discard, c) // until the caller gives up
		return c
	}, false, "{connectionPool: {tcp: {connectTimeout: 100ms}}}"})
	for _, caller := range callers {
		t.Run(caller.name, func(t *testing.T) {
			t.Parallel()
			var config strings.Builder
			heard := make([]<-chan string, len(endpoints))
			for i, e := range endpoints {
				addr, h := overhears(t, e.meet)
				heard[i] = h
				config.WriteString(serviceAt(fmt.Sprint("s", i), caller.protocol, addr))
				if e.rule != "" {
					fmt.Fprintf(&config, "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: s%d}\nspec: {host: s%d, trafficPolicy: %s}\n---\n", i, i, e.rule)
				}
			}
			call := caller.start(t, config.String(), held{a.Material(meshDomain, webID)})
			for i, e := range endpoints {
				status := call(fmt.Sprint("s", i))
				got := <-heard[i]
				asked := strings.HasPrefix(got, "POST /secret") || strings.HasPrefix(got, "PRI * HTTP/2.0")
				if status != 0 || asked != e.taken || !e.taken && (strings.Contains(got, "POST") || strings.Contains(got, "PRI")) {
					t.Errorf("%s: status %d, the endpoint heard %q, want it asked: %t", e.name, status, got, e.taken)
				}
			}
		})
	}
}
