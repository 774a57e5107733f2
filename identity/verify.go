package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// maxChain and maxNames bound what a peer can have us look at. An X509-SVID has one URI; the rest are names that
	// Istio and SPIRE add for clients that know of no SPIFFE.
	maxChain = 8
	maxNames = 64
)

// A Peer is who was proved to be at the other end of a connection. It is immutable; the zero Peer is nobody.
type Peer struct {
	ID ID
	// Certificate is the leaf that was shown; it must not be changed.
	Certificate *x509.Certificate
	// Expires is when the first certificate of the chain ends: the connection ends with it.
	Expires time.Time

	chain   []*x509.Certificate // as it was shown
	proved  []*x509.Certificate // as it was believed, from the leaf to an authority of the bundle
	use     x509.ExtKeyUsage
	aliases []string
	trust   uint64    // by which it was verified
	vouched time.Time // until when revocation lists say that it is good, zero for always
}

// verify proves who showed the chain, for that use, at that time: X509-SVID §4 and §5, with the bundle chosen by the
// trust domain of the leaf's ID and no other. aliases are trust domains that the own authorities speak for as well.
func (h *held) verify(chain []*x509.Certificate, use x509.ExtKeyUsage, aliases []string, now time.Time) (Peer, error) {
	p := Peer{chain: chain, use: use, aliases: aliases, trust: h.trust}
	switch {
	case len(chain) == 0:
		return Peer{}, errors.New("the peer has no certificate")
	case len(chain) > maxChain:
		return Peer{}, fmt.Errorf("the peer shows %d certificates: %d are taken", len(chain), maxChain)
	}
	leaf := chain[0]
	id, err := IDOf(leaf)
	if err != nil {
		return Peer{}, err
	}
	p.ID, p.Certificate = id, leaf
	if err := checkUse(leaf, use); err != nil {
		return Peer{}, fmt.Errorf("certificate of %s: %w", id, err)
	}
	for _, c := range chain {
		if err := StrongKey(c.PublicKey); err != nil {
			return Peer{}, fmt.Errorf("certificate of %s: %w", id, err)
		}
	}
	roots := h.roots[h.bundleOf(id, aliases)]
	if roots == nil {
		return Peer{}, fmt.Errorf("%s: nobody is believed for trust domain %s", id, id.trustDomain)
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	found, err := leaf.Verify(opts)
	if err != nil {
		return Peer{}, fmt.Errorf("certificate of %s, issued by %q: %w", id, leaf.Issuer.String(), err)
	}
	if err := p.choose(found, h.from.Revoked, now); err != nil {
		return Peer{}, fmt.Errorf("certificate of %s: %w", id, err)
	}
	return p, nil
}

// bundleOf names the bundle that speaks for an ID: that of its own trust domain, or ours for an alias of it.
func (h *held) bundleOf(id ID, aliases []string) string {
	if h.roots[id.trustDomain] == nil && slices.Contains(aliases, id.trustDomain) {
		return h.id.trustDomain
	}
	return id.trustDomain
}

// choose takes the chain that lasts longest of those in which nothing is revoked. Without any it gives why the last
// was not taken.
func (p *Peer) choose(chains [][]*x509.Certificate, revoked *Revocations, now time.Time) (why error) {
	for _, chain := range chains {
		vouched, err := revoked.vouch(chain, now)
		if err != nil {
			why = err
			continue
		}
		if end := endOf(chain); p.proved == nil || end.After(p.Expires) {
			p.proved, p.Expires, p.vouched = chain, end, vouched
		}
	}
	if p.proved == nil {
		return why
	}
	return nil
}

// endOf is when the first certificate of a chain expires.
func endOf(chain []*x509.Certificate) time.Time {
	end := chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// again verifies a peer whose certificates have not expired. Signatures that were good are: what counts is whether the
// authority at the end of its chain is still believed, and whether anything was revoked. Where it is not, there may be
// another way, which is looked for once for all peers that show the same authorities.
func (h *held) again(p Peer, now time.Time) (Peer, error) {
	bundle := h.from.Bundles[h.bundleOf(p.ID, p.aliases)]
	if slices.ContainsFunc(bundle, p.proved[len(p.proved)-1].Equal) {
		if vouched, err := h.from.Revoked.vouch(p.proved, now); err == nil {
			p.trust, p.vouched = h.trust, vouched
			return p, nil
		}
	} else if h.lost(&p, bundle, now) {
		return Peer{}, fmt.Errorf("certificate of %s, issued by %q: %w", p.ID, p.Certificate.Issuer.String(), x509.UnknownAuthorityError{Cert: p.Certificate})
	}
	return h.verify(p.chain, p.use, p.aliases, now)
}

// lost reports that nothing which the peer shows beside its certificate leads to an authority of the bundle, and that none
// of these is its issuer.
func (h *held) lost(p *Peer, bundle []*x509.Certificate, now time.Time) bool {
	shown := p.chain[1:]
	if len(shown) == 0 || slices.ContainsFunc(bundle, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, p.Certificate.RawIssuer) }) {
		return false
	}
	hash := sha256.New()
	for _, c := range append(shown[:len(shown):len(shown)], bundle[0]) { // whose bundle it is
		hash.Write(c.Raw)
	}
	key := [sha256.Size]byte(hash.Sum(nil))
	h.mu.Lock()
	defer h.mu.Unlock()
	lost, known := h.dead[key]
	if !known {
		opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
		for _, c := range bundle {
			opts.Roots.AddCert(c)
		}
		for _, c := range shown {
			opts.Intermediates.AddCert(c)
		}
		lost = !slices.ContainsFunc(shown, func(c *x509.Certificate) bool {
			_, err := c.Verify(opts)
			return err == nil
		})
		if h.dead == nil || len(h.dead) >= maxDead {
			h.dead = make(map[[sha256.Size]byte]bool)
		}
		h.dead[key] = lost
	}
	return lost
}

// maxDead bounds what is remembered of authorities that lead nowhere.
const maxDead = 1024

// IDOf checks that a certificate, which somebody has verified, has the form of a workload's X509-SVID (X509-SVID §2, §4.1, §4.3), and gives its ID.
func IDOf(c *x509.Certificate) (ID, error) {
	uris, err := uriNames(c)
	if err != nil {
		return ID{}, err
	}
	if len(uris) != 1 {
		return ID{}, fmt.Errorf("a certificate with %d URIs: an X509-SVID has one", len(uris))
	}
	id, err := ParseID(uris[0])
	switch {
	case err != nil:
		return ID{}, err
	case c.IsCA:
		return ID{}, fmt.Errorf("certificate of %s: it is an authority's, not a workload's", id)
	case c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return ID{}, fmt.Errorf("certificate of %s: its key usage has no digitalSignature", id)
	case c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return ID{}, fmt.Errorf("certificate of %s: its key may sign certificates", id)
	}
	return id, nil
}

// subjectAltName is its object identifier (RFC 5280 §4.2.1.6).
var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// uriNames gives the URIs of a certificate byte for byte, which x509 has parsed only, and refuses names of other types
// than mail, DNS, URI and IP address.
func uriNames(c *x509.Certificate) (uris []string, err error) {
	for _, e := range c.Extensions {
		if !e.Id.Equal(subjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &names); err != nil || len(rest) > 0 {
			return nil, errors.New("a certificate whose names cannot be read")
		}
		if len(names) > maxNames {
			return nil, fmt.Errorf("a certificate with %d names: %d are taken", len(names), maxNames)
		}
		for _, n := range names {
			switch n.Tag {
			case 1, 2: // rfc822Name, dNSName
				if !only(string(n.Bytes), isPrintable) {
					return nil, errors.New("a certificate with a name that no header can have")
				}
			case 7: // iPAddress
			case 6: // uniformResourceIdentifier
				uris = append(uris, string(n.Bytes))
			default:
				return nil, fmt.Errorf("a certificate with a name of type %d", n.Tag)
			}
		}
	}
	return uris, nil
}

// checkUse takes a leaf for a use that it names, or that names none (X509-SVID §4.4); "any" names none.
func checkUse(c *x509.Certificate, use x509.ExtKeyUsage) error {
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 || slices.Contains(c.ExtKeyUsage, use) {
		return nil
	}
	if use == x509.ExtKeyUsageClientAuth {
		return errors.New("it is not for clients (extended key usage)")
	}
	return errors.New("it is not for servers (extended key usage)")
}

// refused makes the error of a handshake that the checks have refused.
func refused(s *tls.ConnectionState, err error) error {
	return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
}
