package identity

import (
	"crypto/x509"
	"maps"
	"slices"
	"time"
)

// Secrets are the certificates that an identity holds, in the form of Envoy's admin page /certs (admin.v3.Certificates), for
// people. They have nothing secret: no key, and nothing made of one.
type Secrets struct {
	Certificates []Secret `json:"certificates"`
	// Failure is why newer material was not taken, "" where it was.
	Failure string `json:"failure,omitempty"`
}

// A Secret is a bundle and, for the own trust domain, the chain that proves the identity.
type Secret struct {
	TrustDomain string        `json:"trust_domain"`
	CACert      []Certificate `json:"ca_cert"`
	CertChain   []Certificate `json:"cert_chain,omitempty"`
}

// A Certificate is one as people see it.
type Certificate struct {
	Serial    string    `json:"serial_number"` // hexadecimal
	Names     []SAN     `json:"subject_alt_names,omitempty"`
	Issuer    string    `json:"issuer"`
	Days      uint64    `json:"days_until_expiration,string"` // whole days, 0 for one that has expired
	NotBefore time.Time `json:"valid_from"`
	NotAfter  time.Time `json:"expiration_time"`
	State     string    `json:"state"` // "valid", "expired" or "not yet valid"
}

// A SAN is a name of a certificate.
type SAN struct {
	URI string `json:"uri,omitempty"`
	DNS string `json:"dns,omitempty"`
	IP  string `json:"ip_address,omitempty"`
}

// Show gives a certificate for people, as it is at that time.
func Show(c *x509.Certificate, now time.Time) Certificate {
	v := Certificate{Serial: c.SerialNumber.Text(16), Issuer: c.Issuer.String(), NotBefore: c.NotBefore, NotAfter: c.NotAfter, State: "valid"}
	for _, u := range c.URIs {
		v.Names = append(v.Names, SAN{URI: u.String()})
	}
	for _, name := range c.DNSNames {
		v.Names = append(v.Names, SAN{DNS: name})
	}
	for _, ip := range c.IPAddresses {
		v.Names = append(v.Names, SAN{IP: ip.String()})
	}
	switch {
	case now.After(c.NotAfter):
		v.State = "expired"
	case now.Before(c.NotBefore):
		v.State = "not yet valid"
	}
	v.Days = uint64(max(0, c.NotAfter.Sub(now)) / (24 * time.Hour))
	return v
}

func showAll(list []*x509.Certificate, now time.Time) []Certificate {
	shown := make([]Certificate, len(list))
	for i, c := range list {
		shown[i] = Show(c, now)
	}
	return shown
}

// Secrets says which certificates are held: those of the own trust domain first, none before the first SVID.
func (i *Identity) Secrets() *Secrets {
	s, now := i.Status(), i.now()
	v := &Secrets{Certificates: []Secret{}}
	if s.Failure != nil {
		v.Failure = s.Failure.Error()
	}
	if len(s.Chain) == 0 {
		return v
	}
	own := s.ID.TrustDomain()
	v.Certificates = append(v.Certificates, Secret{own, showAll(s.Bundles[own], now), showAll(s.Chain, now)})
	for _, domain := range slices.Sorted(maps.Keys(s.Bundles)) {
		if domain != own {
			v.Certificates = append(v.Certificates, Secret{TrustDomain: domain, CACert: showAll(s.Bundles[domain], now)})
		}
	}
	return v
}
