package workload

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"

	"github.com/heddlemesh/mesh/identity"
)

// material reads an answer: all of it is good, or nothing of it is taken. Nothing of a key gets into an error. What it has
// to be beyond its form is for identity.Identity.Take.
func (a API) material(r *workload.X509SVIDResponse) (*identity.Material, error) {
	svid, err := a.choose(r.GetSvids())
	if err != nil {
		return nil, err
	}
	id, err := identity.ParseID(svid.GetSpiffeId())
	if err != nil {
		return nil, err
	}
	m := &identity.Material{Bundles: make(map[string][]*x509.Certificate, 1+len(r.GetFederatedBundles()))}
	chain, err := x509.ParseCertificates(svid.GetX509Svid())
	if err != nil || len(chain) == 0 {
		return nil, fmt.Errorf("read SVID of %s: %w", id, orNone(err))
	}
	if len(chain[0].URIs) != 1 || chain[0].URIs[0].String() != id.String() {
		return nil, fmt.Errorf("read SVID of %s: its certificate is not that of this ID", id)
	}
	for _, c := range chain {
		m.SVID.Certificate = append(m.SVID.Certificate, c.Raw)
	}
	m.SVID.Leaf = chain[0]
	if m.SVID.PrivateKey, err = x509.ParsePKCS8PrivateKey(svid.GetX509SvidKey()); err != nil {
		return nil, fmt.Errorf("read SVID of %s: the key is not PKCS #8, or is broken", id)
	}
	if m.Bundles[id.TrustDomain()], err = parseBundle(id.TrustDomain(), svid.GetBundle()); err != nil {
		return nil, err
	}
	for name, der := range r.GetFederatedBundles() {
		domain := strings.TrimSuffix(strings.TrimPrefix(name, "spiffe://"), "/")
		if domain == id.TrustDomain() {
			return nil, fmt.Errorf("read bundle of %q: it is the own trust domain, and comes as another", domain)
		}
		if m.Bundles[domain], err = parseBundle(domain, der); err != nil {
			return nil, err
		}
	}
	if m.Revoked, err = parseRevocations(r.GetCrl()); err != nil {
		return nil, err
	}
	return m, nil
}

// choose gives the first SVID, or the first with the hint.
func (a API) choose(all []*workload.X509SVID) (*workload.X509SVID, error) {
	if len(all) == 0 {
		return nil, errors.New("an answer without an SVID")
	}
	if a.Hint == "" {
		return all[0], nil
	}
	var hints []string
	for _, s := range all {
		if s.GetHint() == a.Hint {
			return s, nil
		}
		hints = append(hints, fmt.Sprintf("%s %q", s.GetSpiffeId(), s.GetHint()))
	}
	return nil, fmt.Errorf("no SVID with hint %q among %s", a.Hint, strings.Join(hints, ", "))
}

func orNone(err error) error {
	if err == nil {
		return errors.New("there is no certificate")
	}
	return err
}

func parseBundle(domain string, der []byte) ([]*x509.Certificate, error) {
	list, err := x509.ParseCertificates(der)
	if err != nil || len(list) == 0 {
		return nil, fmt.Errorf("read bundle of %q: %w", domain, orNone(err))
	}
	return list, nil
}

// parseRevocations reads lists in DER, nil for none.
func parseRevocations(lists [][]byte) (*identity.Revocations, error) {
	if len(lists) == 0 {
		return nil, nil //nolint:nilnil // as Material has it
	}
	var text bytes.Buffer
	for _, der := range lists {
		_ = pem.Encode(&text, &pem.Block{Type: "X509 CRL", Bytes: der}) // a buffer takes everything
	}
	r, err := identity.ParseRevocations(text.Bytes())
	if err != nil {
		return nil, fmt.Errorf("read revocation lists: %w", err)
	}
	return r, nil
}

var _ identity.Source = API{}
