package ca

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/heddlemesh/mesh/identity"
)

// Issue makes a new key and an SVID for the ID, for which the caller vouches, and gives them with the bundles.
func (a *Authority) Issue(id identity.ID) (*identity.Material, error) { return a.issue(id, "") }

// issue does it for somebody, who stands in the log.
func (a *Authority) issue(id identity.ID, to string) (*identity.Material, error) {
	chain, key, err := a.SignNew(id, 0, to)
	if err != nil {
		return nil, err
	}
	m := &identity.Material{SVID: tls.Certificate{PrivateKey: key, Leaf: chain[0]}, Bundles: a.bundles()}
	for _, c := range chain {
		m.SVID.Certificate = append(m.SVID.Certificate, c.Raw)
	}
	return m, nil
}

// SignNew makes a new key, and signs it as Sign does.
func (a *Authority) SignNew(id identity.ID, life time.Duration, to string) ([]*x509.Certificate, crypto.Signer, error) {
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	chain, err := a.Sign(id, key.Public(), life, to)
	return chain, key, err
}

// Sign makes an SVID of the ID, for which the caller vouches, for the key. life is bounded by Options.Life, which 0
// stands for. to says in the log who asked. It gives the leaf and the certificates below the root.
func (a *Authority) Sign(id identity.ID, public crypto.PublicKey, life time.Duration, to string) ([]*x509.Certificate, error) {
	return a.signLeaf(id, public, life, to, func(*x509.Certificate) {})
}

// issueServer makes a certificate for a server of the authority's own, which has names of other kinds too.
func (a *Authority) issueServer(id identity.ID, names []string, ip net.IP) (*tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	chain, err := a.signLeaf(id, key.Public(), 0, "the server of the authority", func(t *x509.Certificate) {
		t.DNSNames = names
		if len(ip) > 0 {
			t.IPAddresses = []net.IP{ip}
		}
	})
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, one := range chain {
		c.Certificate = append(c.Certificate, one.Raw)
	}
	return c, nil
}

func (a *Authority) signLeaf(id identity.ID, public crypto.PublicKey, life time.Duration, to string, more func(*x509.Certificate)) ([]*x509.Certificate, error) {
	if id.TrustDomain() != a.domain {
		return nil, fmt.Errorf("sign for %s: the authority is that of trust domain %s", id, a.domain)
	}
	if err := identity.StrongKey(public); err != nil {
		return nil, fmt.Errorf("sign for %s: %w", id, err)
	}
	if life <= 0 || life > a.o.Life {
		life = a.o.Life
	}
	a.mu.Lock()
	by := a.issuing
	a.mu.Unlock()
	t := a.template(life, by.cert)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	t.BasicConstraintsValid = true
	t.URIs = []*url.URL{{Scheme: "spiffe", Host: id.TrustDomain(), Path: id.Path()}}
	more(t)
	if !t.NotAfter.After(a.o.Now()) {
		return nil, fmt.Errorf("sign for %s: the issuing authority expired at %s", id, by.cert.NotAfter.Format(time.RFC3339))
	}
	leaf, err := a.sign("svid", t, by, public, to)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{leaf, by.cert}, nil
}
