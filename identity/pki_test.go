package identity_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/identity"
)

// now is when the tests take place.
var now = time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)

// A maker is an authority that makes certificates of any shape.
type maker struct {
	cert *x509.Certificate
	key  crypto.Signer
	next atomic.Int64
}

func key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func authorityTemplate() *x509.Certificate {
	return &x509.Certificate{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, Subject: pkix.Name{CommonName: "authority"}}
}

func newMaker(t testing.TB, change func(*x509.Certificate)) *maker {
	t.Helper()
	tmpl := authorityTemplate()
	if change != nil {
		change(tmpl)
	}
	m := &maker{key: key(t), cert: tmpl}
	m.cert = m.sign(t, tmpl, m.key.Public())
	return m
}

func (m *maker) sign(t testing.TB, tmpl *x509.Certificate, public any) *x509.Certificate {
	t.Helper()
	if tmpl.SerialNumber == nil {
		tmpl.SerialNumber = big.NewInt(m.next.Add(1))
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, m.cert, public, m.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// below makes an authority that this one has signed.
func (m *maker) below(t testing.TB, change func(*x509.Certificate)) *maker {
	t.Helper()
	tmpl := authorityTemplate()
	if change != nil {
		change(tmpl)
	}
	k := key(t)
	return &maker{cert: m.sign(t, tmpl, k.Public()), key: k}
}

func leafTemplate(id string) *x509.Certificate {
	u, err := url.Parse(id)
	if err != nil {
		panic(err)
	}
	return &x509.Certificate{NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour), URIs: []*url.URL{u}, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
}

// svid makes the document of an ID, changed as the test has it, with the chain below it.
func (m *maker) svid(t testing.TB, id string, change func(*x509.Certificate), above ...*maker) tls.Certificate {
	t.Helper()
	tmpl := leafTemplate(id)
	if change != nil {
		change(tmpl)
	}
	k := key(t)
	c := tls.Certificate{PrivateKey: k, Certificate: [][]byte{m.sign(t, tmpl, k.Public()).Raw}}
	for _, a := range above {
		c.Certificate = append(c.Certificate, a.cert.Raw)
	}
	return c
}

// rawNames makes the names of a certificate of bytes that x509 would not write.
func rawNames(names ...asn1.RawValue) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		value, err := asn1.Marshal(names)
		if err != nil {
			panic(err)
		}
		c.URIs, c.DNSNames = nil, nil
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}
	}
}

func uri(s string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(s)}
}

const (
	domain = "cluster.local"
	webID  = "spiffe://cluster.local/ns/default/sa/web"
	restID = "spiffe://cluster.local/ns/default/sa/reviews"
)

// bundles is what is believed: one authority for a trust domain.
func bundles(pairs map[string]*maker) map[string][]*x509.Certificate {
	b := make(map[string][]*x509.Certificate)
	for name, m := range pairs {
		b[name] = []*x509.Certificate{m.cert}
	}
	return b
}

func newIdentity(t testing.TB, m *identity.Material) *identity.Identity {
	t.Helper()
	i := identity.New(identity.Options{Now: func() time.Time { return now }})
	if err := i.Take(m); err != nil {
		t.Fatal(err)
	}
	return i
}

// handshake lets two configurations meet and gives the error of each side.
func handshake(t testing.TB, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		s := tls.Server(conn, server)
		if err = s.Handshake(); err == nil { // with TLS 1.3 a client learns only now that it was refused
			_, err = s.Write([]byte("x"))
		}
		done <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := tls.Client(conn, client)
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	_ = conn.Close()
	return <-done, clientErr
}
