package ca_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	security "istio.io/api/security/v1alpha1"

	"github.com/heddlemesh/mesh/identity/ca"
)

// A csrServer is Istio's CSR protocol with the workload shop/web.
type csrServer struct {
	authority *ca.Authority
	log       *issuanceLog
	addr      string
	token     string
	client    security.IstioCertificateServiceClient
}

func serveCSR(t *testing.T) *csrServer {
	t.Helper()
	c := &csrServer{log: new(issuanceLog)}
	var err error
	if c.authority, err = ca.New("cluster.local", ca.Options{Issued: c.log.add}); err != nil {
		t.Fatal(err)
	}
	w := workloadOf(t, "shop/web")
	s, _ := run(t, c.authority, ca.ServerOptions{Workloads: []ca.Workload{w}, Istio: "127.0.0.1:0"})
	name := strings.TrimSuffix(s.Socket(w), ".sock") + ".token"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v", filepath.Base(name), info.Mode(), err)
	}
	c.token, c.addr = strings.TrimSpace(string(text)), s.IstioAddr().String()
	roots := x509.NewCertPool()
	roots.AddCert(c.authority.Bundle()[0])
	conn, err := grpc.NewClient(c.addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: "istiod.istio-system.svc"})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c.client = security.NewIstioCertificateServiceClient(conn)
	return c
}

func bearing(ctx context.Context, values ...string) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.MD{"authorization": values})
}

func csr(t *testing.T, template *x509.CertificateRequest, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func uri(t *testing.T, s string) []*url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return []*url.URL{u}
}

// TestIstioCSR is row C-035: a token is needed, from this machine too; its workload's ID is signed and nothing else that a
// request asks for; the life is bounded.
func TestIstioCSR(t *testing.T) {
	t.Parallel()
	c := serveCSR(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weakRSA, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weakCurve, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const own = "spiffe://cluster.local/ns/shop/sa/web"
	isCA, err := asn1.Marshal(struct{ IsCA bool }{true})
	if err != nil {
		t.Fatal(err)
	}
	authority := []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: isCA}}
	plain := csr(t, &x509.CertificateRequest{}, key)
	block, _ := pem.Decode([]byte(plain))
	block.Bytes[len(block.Bytes)-1] ^= 1
	badSignature := string(pem.EncodeToMemory(block))
	good := []string{"Bearer " + c.token}
	// The server's own certificate is made when it is first asked for, whenever that is.
	signedFor := func() []ca.Issuance {
		return slices.DeleteFunc(c.log.of("svid"), func(i ca.Issuance) bool { return i.To == "the server of the authority" })
	}
	for _, row := range []struct {
		name     string
		tokens   []string
		csr      string
		validity int64
		want     codes.Code
	}{
		{"Istio's own", good, csr(t, &x509.CertificateRequest{URIs: uri(t, own)}, key), 24 * 3600, codes.OK},
		{"no names", good, plain, 60, codes.OK},
		{"lower case", []string{"bearer " + c.token}, plain, 0, codes.OK},
		{"again", good, plain, 0, codes.OK},
		{"an authority, other names, ten years", good, csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "admin"},
			DNSNames: []string{"other.example"}, IPAddresses: []net.IP{{10, 0, 0, 1}}, ExtraExtensions: authority}, key), 10 * 365 * 24 * 3600, codes.OK},
		{"longer than a clock", good, plain, 1 << 62, codes.OK},
		{"negative", good, plain, -1, codes.OK},
		{"no token", nil, plain, 60, codes.Unauthenticated},
		{"empty token", []string{"Bearer "}, plain, 60, codes.Unauthenticated},
		{"another's token", []string{"Bearer " + strings.Repeat("A", len(c.token))}, plain, 60, codes.Unauthenticated},
		{"token and more", []string{"Bearer " + c.token + "x"}, plain, 60, codes.Unauthenticated},
		{"another scheme", []string{"Basic " + c.token}, plain, 60, codes.Unauthenticated},
		{"two tokens", []string{"Bearer x", "Bearer " + c.token}, plain, 60, codes.Unauthenticated},
		{"foreign account", good, csr(t, &x509.CertificateRequest{URIs: uri(t, "spiffe://cluster.local/ns/shop/sa/admin")}, key), 60, codes.PermissionDenied},
		{"foreign trust domain", good, csr(t, &x509.CertificateRequest{URIs: uri(t, "spiffe://other.example/ns/shop/sa/web")}, key), 60, codes.PermissionDenied},
		{"own and foreign", good, csr(t, &x509.CertificateRequest{URIs: append(uri(t, own), uri(t, "spiffe://cluster.local/ns/shop/sa/admin")...)}, key), 60, codes.PermissionDenied},
		{"RSA of 1024 bits", good, csr(t, &x509.CertificateRequest{}, weakRSA), 60, codes.InvalidArgument},
		{"P-224", good, csr(t, &x509.CertificateRequest{}, weakCurve), 60, codes.InvalidArgument},
		{"bad signature", good, badSignature, 60, codes.InvalidArgument},
		{"no CSR", good, "", 60, codes.InvalidArgument},
		{"two CSRs", good, plain + plain, 60, codes.InvalidArgument},
		{"a certificate", good, string(ca.EncodeCertificates(c.authority.Bundle()...)), 60, codes.InvalidArgument},
		{"large", good, plain + strings.Repeat(" ", 1<<20), 60, codes.ResourceExhausted},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := len(signedFor())
			answer, err := c.client.CreateCertificate(bearing(t.Context(), row.tokens...),
				&security.IstioCertificateRequest{Csr: row.csr, ValidityDuration: row.validity})
			if status.Code(err) != row.want {
				t.Fatalf("%v, want %v", err, row.want)
			}
			signed := signedFor()[before:]
			if row.want != codes.OK {
				if len(signed) != 0 {
					t.Errorf("signed %+v", signed)
				}
				if strings.Contains(err.Error(), c.token) {
					t.Error("the token is in the error")
				}
				return
			}
			leaf := judgeChain(t, c.authority, answer.GetCertChain(), key)
			if len(signed) != 1 || signed[0].ID != own || signed[0].Serial != leaf.SerialNumber.Text(16) {
				t.Errorf("the log has %+v", signed)
			}
			if limit := time.Now().Add(c.authority.Life()); leaf.NotAfter.After(limit) {
				t.Errorf("until %v, %v is the limit", leaf.NotAfter, limit)
			}
			if row.validity == 60 && leaf.NotAfter.After(time.Now().Add(time.Minute)) {
				t.Errorf("until %v", leaf.NotAfter)
			}
		})
	}
}

// judgeChain checks what came back: leaf, issuing authority, roots; of the request only the key.
func judgeChain(t *testing.T, a *ca.Authority, chain []string, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	var all []*x509.Certificate
	for _, text := range chain {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			t.Fatalf("no PEM: %q", text)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, cert)
	}
	if len(all) != 3 || !all[1].Equal(a.Issuing()) || !all[2].Equal(a.Bundle()[0]) {
		t.Fatalf("%d certificates", len(all))
	}
	leaf := all[0]
	if err := leaf.CheckSignatureFrom(all[1]); err != nil {
		t.Error(err)
	}
	if leaf.IsCA || leaf.Subject.CommonName != "" || len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) != 0 ||
		len(leaf.URIs) != 1 || leaf.URIs[0].String() != "spiffe://cluster.local/ns/shop/sa/web" || !key.PublicKey.Equal(leaf.PublicKey) {
		t.Errorf("authority %v, subject %s, names %v %v %v", leaf.IsCA, leaf.Subject, leaf.URIs, leaf.DNSNames, leaf.IPAddresses)
	}
	return leaf
}

// TestIstioCSRNeedsTLS: the token never travels in plain text.
func TestIstioCSRNeedsTLS(t *testing.T) {
	t.Parallel()
	c := serveCSR(t)
	conn, err := grpc.NewClient(c.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = security.NewIstioCertificateServiceClient(conn).CreateCertificate(bearing(t.Context(), "Bearer "+c.token), &security.IstioCertificateRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
}

// TestTokens: a token is long, and one workload's.
func TestTokens(t *testing.T) {
	t.Parallel()
	var tokens ca.Tokens
	if err := tokens.Add("short", id(t, "cluster.local")); err == nil {
		t.Error("a short token is taken")
	}
	if err := tokens.Add(strings.Repeat("x", 16), id(t, "cluster.local")); err != nil {
		t.Error(err)
	}
	if err := tokens.Add(strings.Repeat("x", 16), id(t, "cluster.local")); err == nil {
		t.Error("a token is taken twice")
	}
}
