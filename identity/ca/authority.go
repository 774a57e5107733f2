package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/identity"
)

// Lifetimes where Options have none.
const (
	DefaultRootLife    = 365 * 24 * time.Hour
	DefaultIssuingLife = 30 * 24 * time.Hour
	DefaultLife        = time.Hour
)

// backdated is how far in the past certificates begin to be valid, but for a hundredth of their life at most: clocks of
// one machine agree, those of two need not.
const backdated = time.Minute

// Options is what an Authority is made of.
type Options struct {
	RootLife    time.Duration // of the root. Default: DefaultRootLife
	IssuingLife time.Duration // of the issuing authority. Default: DefaultIssuingLife
	Life        time.Duration // of SVIDs, the most as well. Default: DefaultLife
	// Now gives the time. Default: time.Now.
	Now func() time.Time
	// Issued hears of every certificate that is signed, before anybody gets it; where it fails nobody does. Default:
	// nobody hears.
	Issued func(Issuance) error
}

// An Issuance is a line of the log of what was signed.
type Issuance struct {
	Time     time.Time `json:"time"`
	What     string    `json:"what"` // "root", "issuing" or "svid"
	ID       string    `json:"id"`   // SPIFFE ID
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"notAfter"`
	To       string    `json:"to,omitempty"` // who asked, "" for the owner of the authority
}

// A keeper keeps the authorities beyond the life of the process. It is asked before a change takes effect.
type keeper interface {
	addRoot(s signer) error // which is the only one that signs from then on
	setIssuing(s signer) error
	dropRoots(but []*x509.Certificate) error
}

// A signer is a certificate of an authority with its key.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// An Authority signs for one trust domain. It is safe for concurrent use.
type Authority struct {
	domain string
	o      Options
	keeper keeper // nil for an authority that exists in memory only

	mu        sync.Mutex // guards what follows
	root      signer     // that signs issuing authorities
	issuing   signer     // that signs SVIDs
	trusted   []*x509.Certificate
	federated map[string][]*x509.Certificate // bundles of other trust domains
	changed   chan struct{}                  // closed at the next change of what is trusted or who signs
}

// New makes an authority with a new root and a new issuing authority, which exist in memory only.
func New(trustDomain string, o Options) (*Authority, error) {
	a, err := empty(trustDomain, o)
	if err != nil {
		return nil, err
	}
	if err := a.newRoot(); err != nil {
		return nil, err
	}
	return a, a.newIssuing()
}

func empty(trustDomain string, o Options) (*Authority, error) {
	if err := identity.CheckTrustDomain(trustDomain); err != nil {
		return nil, fmt.Errorf("trust domain %q: %w", trustDomain, err)
	}
	o.RootLife = or(o.RootLife, DefaultRootLife)
	o.IssuingLife = or(o.IssuingLife, DefaultIssuingLife)
	o.Life = or(o.Life, DefaultLife)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Issued == nil {
		o.Issued = func(Issuance) error { return nil }
	}
	return &Authority{domain: trustDomain, o: o, changed: make(chan struct{})}, nil
}

func or(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// TrustDomain gives the name of the trust domain.
func (a *Authority) TrustDomain() string { return a.domain }

// Life gives how long SVIDs last at the most.
func (a *Authority) Life() time.Duration { return a.o.Life }

// Bundle gives the roots that are to be believed, those before the newest too while they are valid.
func (a *Authority) Bundle() []*x509.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.trusted)
}

// Changed gives a channel that is closed when other roots are to be believed, or another authority issues.
func (a *Authority) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// newRoot makes a root. a.mu is held, or a is not in use yet.
func (a *Authority) newRoot() error {
	t := a.template(a.o.RootLife, nil)
	t.Subject = pkix.Name{CommonName: "development root of " + a.domain}
	authorityOf(t, a.domain, 1)
	s, err := a.makeAuthority("root", t, signer{})
	if err == nil && a.keeper != nil {
		err = a.keeper.addRoot(s)
	}
	if err == nil {
		a.root = s
		a.trusted = append(a.trusted, s.cert)
	}
	return err
}

// newIssuing makes an issuing authority. a.mu is held, or a is not in use yet.
func (a *Authority) newIssuing() error {
	t := a.template(a.o.IssuingLife, a.root.cert)
	t.Subject = pkix.Name{CommonName: "development issuing authority of " + a.domain}
	authorityOf(t, a.domain, 0)
	s, err := a.makeAuthority("issuing", t, a.root)
	if err == nil && a.keeper != nil {
		err = a.keeper.setIssuing(s)
	}
	if err == nil {
		a.issuing = s
	}
	return err
}

// authorityOf makes the template that of an authority which speaks for one trust domain (X509-SVID §2, §4).
func authorityOf(t *x509.Certificate, domain string, below int) {
	t.IsCA, t.BasicConstraintsValid = true, true
	t.MaxPathLen, t.MaxPathLenZero = below, below == 0
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	t.URIs = []*url.URL{{Scheme: "spiffe", Host: domain}}
}

func (a *Authority) makeAuthority(what string, t *x509.Certificate, by signer) (signer, error) {
	key, err := newKey()
	if err != nil {
		return signer{}, err
	}
	if by.cert == nil {
		by = signer{t, key}
	}
	cert, err := a.sign(what, t, by, key.Public(), "")
	return signer{cert, key}, err
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// template begins a certificate that ends with its issuer at the latest.
func (a *Authority) template(life time.Duration, issuer *x509.Certificate) *x509.Certificate {
	now := a.o.Now()
	t := &x509.Certificate{SerialNumber: serial(), NotBefore: now.Add(-min(backdated, life/100)), NotAfter: now.Add(life)}
	if issuer != nil && issuer.NotAfter.Before(t.NotAfter) {
		t.NotAfter = issuer.NotAfter
	}
	return t
}

// serial makes a serial number of 127 random bits (RFC 5280 §4.1.2.2: positive, at most 20 octets).
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] &= 0x7f
	b[15] |= 1
	return new(big.Int).SetBytes(b[:])
}

// sign makes the certificate and tells of it.
func (a *Authority) sign(what string, t *x509.Certificate, by signer, public crypto.PublicKey, to string) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, by.cert, public, by.key)
	if err != nil {
		return nil, fmt.Errorf("sign %s certificate: %w", what, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sign %s certificate: %w", what, err)
	}
	line := Issuance{Time: a.o.Now().UTC(), What: what, Serial: cert.SerialNumber.Text(16), NotAfter: cert.NotAfter, To: to}
	if len(cert.URIs) > 0 {
		line.ID = cert.URIs[0].String()
	}
	if err := a.o.Issued(line); err != nil {
		return nil, fmt.Errorf("log issuance: %w", err)
	}
	return cert, nil
}
