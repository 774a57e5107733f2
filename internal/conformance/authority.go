package conformance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/identity"
)

// An Authority makes certificates for a test, and files of them, for its parallel subtests too.
type Authority struct {
	Dir    string // of the files
	CAFile string

	t      testing.TB
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial atomic.Int64
	above  [][]byte // what stands between it and the root, itself first; nil for a root
}

// NewAuthority makes one with its own key.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, Dir: t.TempDir()}
	a.key = a.newKey()
	template := authorityTemplate(t.Name())
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.CAFile = a.Write("ca.pem", "CERTIFICATE", der)
	return a
}

func authorityTemplate(name string) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of " + name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
}

// Below makes an authority that this one has signed, changed as the test has it. It shares its files.
func (a *Authority) Below(change func(*x509.Certificate)) *Authority {
	a.t.Helper()
	serial := a.serial.Add(1)
	b := &Authority{t: a.t, Dir: a.Dir, CAFile: a.CAFile, key: a.newKey(), above: append([][]byte{}, a.above...)}
	template := authorityTemplate("below " + a.cert.Subject.CommonName)
	template.SerialNumber = big.NewInt(1000 + serial)
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &b.key.PublicKey, a.key)
	if err == nil {
		b.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	b.above = append([][]byte{der}, b.above...)
	return b
}

// Material is what an identity holds that the authority has issued, for its own trust domain.
func (a *Authority) Material(domain, id string) *identity.Material {
	return &identity.Material{SVID: a.Issue(id), Bundles: map[string][]*x509.Certificate{domain: {a.cert}}}
}

func (a *Authority) newKey() *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

// Issue makes a certificate for servers and clients: names are DNS names, addresses or URIs.
func (a *Authority) Issue(names ...string) tls.Certificate { return a.IssueAs(nil, nil, names...) }

// IssueAs is Issue for a certificate of any shape; a nil key is made.
func (a *Authority) IssueAs(key crypto.Signer, change func(*x509.Certificate), names ...string) tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1000 + a.serial.Add(1)), Subject: pkix.Name{CommonName: strings.Join(names, "+")},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(12 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, name := range names {
		switch ip := net.ParseIP(name); {
		case ip != nil:
			template.IPAddresses = append(template.IPAddresses, ip)
		case strings.Contains(name, "://"):
			u, err := url.Parse(name)
			if err != nil {
				a.t.Fatal(err)
			}
			template.URIs = append(template.URIs, u)
		default:
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	if change != nil {
		change(template)
	}
	if key == nil {
		key = a.newKey()
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c := tls.Certificate{Certificate: append([][]byte{der}, a.above...), PrivateKey: key}
	if c.Leaf, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return c
}

// Files writes a certificate and its key.
func (a *Authority) Files(name string, c tls.Certificate) (certificate, key string) {
	a.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.Write(name+".pem", "CERTIFICATE", c.Certificate[0]), a.Write(name+".key", "PRIVATE KEY", der)
}

// Revoke writes a list of revoked certificates, which is up to date until then.
func (a *Authority) Revoke(name string, until time.Time, revoked ...tls.Certificate) (file string) {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: until}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.Write(name, "X509 CRL", der)
}

// Write writes a block of PEM to a file of its directory.
func (a *Authority) Write(name, kind string, der []byte) (file string) {
	a.t.Helper()
	file = filepath.Join(a.Dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// Pool gives the authority's own certificate, for who verifies by it.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}
