package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Revocations are certificate revocation lists (RFC 5280 §5). They are immutable.
type Revocations struct{ lists []*x509.RevocationList }

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
		r.lists = append(r.lists, list)
	}
	if len(r.lists) == 0 {
		return nil, errors.New("no revocation list in PEM")
	}
	return r, nil
}

// Check takes a certificate for which some chain has nothing revoked at that time. For every certificate of it but the
// last there has to be a list of its issuer that is not out of date (Envoy, CertificateValidationContext.crl): a stale
// list refuses.
func (r *Revocations) Check(chains [][]*x509.Certificate, now time.Time) (err error) {
	for _, chain := range chains {
		if err = r.checkChain(chain, now); err == nil {
			return nil
		}
	}
	return err
}

func (r *Revocations) checkChain(chain []*x509.Certificate, now time.Time) error {
	for i := range len(chain) - 1 {
		if err := r.checkOne(chain[i], chain[i+1], now); err != nil {
			return err
		}
	}
	return nil
}

func (r *Revocations) checkOne(c, issuer *x509.Certificate, now time.Time) error {
	found := false
	for _, list := range r.lists {
		if list.CheckSignatureFrom(issuer) != nil || !list.NextUpdate.IsZero() && now.After(list.NextUpdate) {
			continue
		}
		found = true
		for i := range list.RevokedCertificateEntries {
			if list.RevokedCertificateEntries[i].SerialNumber.Cmp(c.SerialNumber) == 0 {
				return fmt.Errorf("the certificate of %s with serial number %s is revoked", c.Subject, c.SerialNumber)
			}
		}
	}
	if !found {
		return fmt.Errorf("no revocation list of %s is up to date", issuer.Subject)
	}
	return nil
}

func (r *Revocations) same(o *Revocations) bool {
	if r == nil || o == nil {
		return r == o
	}
	return slices.EqualFunc(r.lists, o.lists, func(a, b *x509.RevocationList) bool { return bytes.Equal(a.Raw, b.Raw) })
}
