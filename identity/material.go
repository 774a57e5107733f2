package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Material is what a Source knows at one moment. It is not changed once it is handed over.
type Material struct {
	// SVID is the program's own document: the leaf first, each certificate signed by the next, and the key.
	SVID tls.Certificate
	// Bundles are the authorities that are believed, by trust domain: the own one's, and of those that the own one is
	// federated with.
	Bundles map[string][]*x509.Certificate
	// Revoked are revocation lists. With them every certificate below an authority needs an up-to-date list of its
	// issuer. nil for none.
	Revoked *Revocations
}

// held is material that was found to be sound, made ready for handshakes.
type held struct {
	id    ID
	own   tls.Certificate // Leaf is set
	roots map[string]*x509.CertPool
	from  *Material
	trust uint64 // changes with what is believed

	mu   sync.Mutex                 // guards what follows
	dead map[[sha256.Size]byte]bool // whether authorities that peers have shown lead nowhere, see lost
}

// hold checks the material: the SVID's key is its own, its chain is in order and leads to the bundle of its own trust
// domain, and it is valid at that time. Nothing of the key gets into an error.
func hold(m *Material, now time.Time) (*held, error) {
	h := &held{from: m, own: m.SVID, roots: make(map[string]*x509.CertPool, len(m.Bundles))}
	chain, err := parseChain(m.SVID.Certificate)
	if err != nil {
		return nil, fmt.Errorf("read SVID: %w", err)
	}
	h.own.Leaf = chain[0]
	if err = checkKey(&h.own); err != nil {
		return nil, fmt.Errorf("read SVID: %w", err)
	}
	for i := range len(chain) - 1 {
		if err := chain[i].CheckSignatureFrom(chain[i+1]); err != nil {
			return nil, fmt.Errorf("read SVID: certificate %d of the chain is not signed by the next: %w", i, err)
		}
	}
	for domain, bundle := range m.Bundles {
		if h.roots[domain], err = poolOf(domain, bundle); err != nil {
			return nil, err
		}
	}
	if h.id, err = IDOf(chain[0]); err != nil {
		return nil, fmt.Errorf("read SVID: %w", err)
	}
	if h.roots[h.id.trustDomain] == nil {
		return nil, fmt.Errorf("read bundle: there is none of the SVID's own trust domain, %s", h.id.trustDomain)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err = h.verify(chain, use, nil, now); err != nil {
			return nil, fmt.Errorf("read SVID of %s: %w", h.id, err)
		}
	}
	return h, nil
}

func parseChain(der [][]byte) ([]*x509.Certificate, error) {
	if len(der) == 0 {
		return nil, errors.New("there is no certificate")
	}
	chain := make([]*x509.Certificate, len(der))
	for i, b := range der {
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i, err)
		}
		chain[i] = c
	}
	return chain, nil
}

// checkKey compares the public halves of certificate and key.
func checkKey(c *tls.Certificate) error {
	key, ok := c.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("there is no key that can sign")
	}
	public, ok := c.Leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return errors.New("the key is not that of the certificate")
	}
	return nil
}

func poolOf(domain string, bundle []*x509.Certificate) (*x509.CertPool, error) {
	wrong := func(what string) (*x509.CertPool, error) {
		return nil, fmt.Errorf("read bundle of %q: %s", domain, what)
	}
	if err := CheckTrustDomain(domain); err != nil {
		return wrong("the name " + err.Error())
	}
	if len(bundle) == 0 {
		return wrong("it is empty: nobody could be believed")
	}
	pool := x509.NewCertPool()
	for i, c := range bundle {
		switch {
		case !c.BasicConstraintsValid || !c.IsCA:
			return wrong(fmt.Sprintf("certificate %d is not an authority's", i))
		case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
			return wrong(fmt.Sprintf("certificate %d may not sign certificates", i))
		}
		if err := StrongKey(c.PublicKey); err != nil {
			return wrong(fmt.Sprintf("certificate %d: %v", i, err))
		}
		pool.AddCert(c)
	}
	return pool, nil
}

// StrongKey refuses public keys that are too weak, and those that cost too much to use: RSA of 2048 to 8192 bits, ECDSA
// from P-256 on and Ed25519 are taken.
func StrongKey(key any) error {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSA || n > maxRSA {
			return fmt.Errorf("an RSA key of %d bits: %d to %d are taken", n, minRSA, maxRSA)
		}
	case *ecdsa.PublicKey:
		if n := key.Curve.Params().BitSize; n < minCurve {
			return fmt.Errorf("a key on a curve of %d bits: %d is the least", n, minCurve)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("a key of type %T", key)
	}
	return nil
}

const (
	minRSA   = 2048
	maxRSA   = 8192
	minCurve = 256
)

// sameTrust reports whether both believe the same authorities and revoke the same certificates.
func (m *Material) sameTrust(o *Material) bool {
	return maps.EqualFunc(m.Bundles, o.Bundles, func(a, b []*x509.Certificate) bool {
		return slices.EqualFunc(a, b, (*x509.Certificate).Equal)
	}) && m.Revoked.same(o.Revoked)
}
