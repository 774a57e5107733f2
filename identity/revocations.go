package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"
)

// Revocations are certificate revocation lists (RFC 5280 §5). They are immutable and safe for concurrent use.
type Revocations struct {
	lists []revocationList

	mu sync.Mutex // guards what follows
	// signed says whether an authority has signed a list: that is asked for each certificate again.
	signed map[signature]bool
}

type revocationList struct {
	*x509.RevocationList
	revoked map[string]struct{} // serial numbers, as the bytes of big.Int
}

type signature struct {
	list   int
	issuer [sha256.Size]byte // of its certificate
}

// maxSigned bounds what is remembered of signatures.
const maxSigned = 1024

// ParseRevocations reads lists in PEM, at least one. Blocks of other types are passed over.
func ParseRevocations(text []byte) (*Revocations, error) {
	r := new(Revocations)
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "X509 CRL" {
			continue
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, err
		}
		revoked := make(map[string]struct{}, len(list.RevokedCertificateEntries))
		for i := range list.RevokedCertificateEntries {
			revoked[serialOf(list.RevokedCertificateEntries[i].SerialNumber)] = struct{}{}
		}
		r.lists = append(r.lists, revocationList{list, revoked})
	}
	if len(r.lists) == 0 {
		return nil, errors.New("no revocation list in PEM")
	}
	r.signed = make(map[signature]bool)
	return r, nil
}

func serialOf(n *big.Int) string { return string(n.Bytes()) }

// Check takes a certificate for which some chain has nothing revoked at that time. For every certificate of it but the
// last there has to be a list of its issuer that is not out of date (Envoy, CertificateValidationContext.crl): a stale
// list refuses.
func (r *Revocations) Check(chains [][]*x509.Certificate, now time.Time) (err error) {
	for _, chain := range chains {
		if _, err = r.vouch(chain, now); err == nil {
			return nil
		}
	}
	return err
}

// vouch gives the moment until when lists say that nothing of a chain is revoked, zero for always. nil lists say so of
// everything.
func (r *Revocations) vouch(chain []*x509.Certificate, now time.Time) (until time.Time, err error) {
	if r == nil {
		return time.Time{}, nil
	}
	for i := range len(chain) - 1 {
		end, err := r.vouchOne(chain[i], chain[i+1], now)
		switch {
		case err != nil:
			return time.Time{}, err
		case until.IsZero() || !end.IsZero() && end.Before(until):
			until = end
		}
	}
	return until, nil
}

// vouchOne looks into all up-to-date lists of the issuer; the one that lasts longest counts.
func (r *Revocations) vouchOne(c, issuer *x509.Certificate, now time.Time) (until time.Time, err error) {
	found := false
	for i, list := range r.lists {
		if !list.NextUpdate.IsZero() && now.After(list.NextUpdate) || !r.signedBy(i, issuer) {
			continue
		}
		if _, revoked := list.revoked[serialOf(c.SerialNumber)]; revoked {
			return time.Time{}, fmt.Errorf("the certificate of %s with serial number %s is revoked", c.Subject, c.SerialNumber)
		}
		switch {
		case !found, list.NextUpdate.IsZero():
			until = list.NextUpdate
		case !until.IsZero() && list.NextUpdate.After(until):
			until = list.NextUpdate
		}
		found = true
	}
	if !found {
		return time.Time{}, fmt.Errorf("no revocation list of %s is up to date", issuer.Subject)
	}
	return until, nil
}

// signedBy reports whether a list is the issuer's (RFC 5280 §6.3.3).
func (r *Revocations) signedBy(list int, issuer *x509.Certificate) bool {
	if !bytes.Equal(r.lists[list].RawIssuer, issuer.RawSubject) {
		return false
	}
	key := signature{list, sha256.Sum256(issuer.Raw)}
	r.mu.Lock()
	defer r.mu.Unlock()
	good, known := r.signed[key]
	if !known {
		good = r.lists[list].CheckSignatureFrom(issuer) == nil
		if len(r.signed) >= maxSigned {
			clear(r.signed)
		}
		r.signed[key] = good
	}
	return good
}

func (r *Revocations) same(o *Revocations) bool {
	if r == nil || o == nil {
		return r == o
	}
	return slices.EqualFunc(r.lists, o.lists, func(a, b revocationList) bool { return bytes.Equal(a.Raw, b.Raw) })
}
