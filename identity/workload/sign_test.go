package workload_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
)

// signing is an authority whose key the test has, for revocation lists.
type signing struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (s *signing) make(t *testing.T, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, by = template, key
	}
	template.NotBefore, template.NotAfter, template.BasicConstraintsValid = time.Now().Add(-time.Minute), time.Now().Add(time.Hour), true
	out, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(out)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (s *signing) authority(t *testing.T, domain string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	s.cert, s.key = s.make(t, &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, Subject: pkix.Name{CommonName: domain},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, nil, nil)
	return s.cert, s.key
}

func (s *signing) svid(t *testing.T, account string) *workload.X509SVID {
	t.Helper()
	id := &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/default/sa/" + account}
	leaf, key := s.make(t, &x509.Certificate{SerialNumber: big.NewInt(2), KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{id}}, s.cert, s.key)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &workload.X509SVID{SpiffeId: id.String(), X509Svid: leaf.Raw, X509SvidKey: raw, Bundle: s.cert.Raw}
}
