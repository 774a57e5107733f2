package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// suites are what TLS 1.2 may use, for peers that do not have TLS 1.3: forward secrecy and authenticated encryption.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// config is what both sides have in common. Tickets are off: a session that is resumed proves nothing again.
func (i *Identity) config(h *held, protocols []string, only13 bool) *tls.Config {
	least := uint16(tls.VersionTLS12) // both ends being this package's it is 1.3
	if only13 {
		least = tls.VersionTLS13
	}
	return &tls.Config{
		MinVersion:             least,
		CipherSuites:           suites,
		NextProtos:             protocols,
		Certificates:           []tls.Certificate{h.own},
		SessionTicketsDisabled: true,
		Time:                   i.now,
	}
}

// ServerOptions is what one server's handshakes are made by.
type ServerOptions struct {
	// Protocols are taken by ALPN, the preferred first. A client that offers others only is refused.
	Protocols []string
	// TLS13 refuses clients that have TLS 1.2 only. Default: they are taken, with suites that have forward secrecy.
	TLS13 bool
	// Optional takes clients that show no certificate, as nobody (PERMISSIVE). One that is shown must be good.
	Optional bool
	// Aliases are trust domains that the own authorities speak for as well (MeshConfig.trustDomainAliases).
	Aliases []string
	// Verified is told who the client is, before the handshake ends; nobody for a client without a certificate.
	Verified func(Peer)
}

// ServerConfig makes the configuration of one handshake with a client, which must prove an identity that is believed.
// It fails where there is no SVID to show.
func (i *Identity) ServerConfig(o ServerOptions) (*tls.Config, error) {
	h, err := i.usable()
	if err != nil {
		return nil, err
	}
	c := i.config(h, o.Protocols, o.TLS13)
	if c.ClientAuth = tls.RequireAnyClientCert; o.Optional {
		c.ClientAuth = tls.RequestClientCert
	}
	c.VerifyConnection = func(s tls.ConnectionState) error {
		var p Peer
		if len(s.PeerCertificates) > 0 || !o.Optional {
			var err error
			if p, err = i.prove(&s, x509.ExtKeyUsageClientAuth, o.Aliases); err != nil {
				return err
			}
		}
		if o.Verified != nil {
			o.Verified(p)
		}
		return nil
	}
	return c, nil
}

// ClientOptions is what the handshakes with one server are made by.
type ClientOptions struct {
	ServerName string   // sent as SNI; no certificate is held against it
	Protocols  []string // offered by ALPN
	TLS13      bool     // refuses servers that have TLS 1.2 only
	// Accounts and Names are who the server may be: service accounts as namespace/account, in the own trust domain or
	// an alias of it, and names as certificates have them, a URI or a DNS name. One of them is enough. Without any of
	// both every identity that is believed will do, as in Istio where a service has no service accounts.
	Accounts []string
	Names    []string
	Aliases  []string
	// Verified is told who the server is, before the handshake ends.
	Verified func(Peer)
}

// ClientConfig makes the configuration of one handshake with a server. It fails where there is no SVID to show.
func (i *Identity) ClientConfig(o ClientOptions) (*tls.Config, error) {
	h, err := i.usable()
	if err != nil {
		return nil, err
	}
	c := i.config(h, o.Protocols, o.TLS13)
	c.ServerName = o.ServerName
	c.InsecureSkipVerify = true // VerifyConnection does it, by SPIFFE's rules
	c.VerifyConnection = func(s tls.ConnectionState) error {
		p, err := i.prove(&s, x509.ExtKeyUsageServerAuth, o.Aliases)
		if err == nil && !o.takes(h.id, &p) {
			err = refused(&s, fmt.Errorf("the server is %s, and not %s", p.ID, o.wanted()))
		}
		if err == nil && o.Verified != nil {
			o.Verified(p)
		}
		return err
	}
	return c, nil
}

// prove verifies the peer of a handshake with what is believed at that moment.
func (i *Identity) prove(s *tls.ConnectionState, use x509.ExtKeyUsage, aliases []string) (Peer, error) {
	h := i.held.Load()
	if h == nil {
		return Peer{}, ErrNoIdentity
	}
	p, err := h.verify(s.PeerCertificates, use, aliases, i.now())
	if err != nil {
		return Peer{}, refused(s, err)
	}
	return p, nil
}

// takes is secure naming: whether the server is one that was meant.
func (o *ClientOptions) takes(self ID, p *Peer) bool {
	if len(o.Accounts)+len(o.Names) == 0 {
		return true
	}
	if p.ID.trustDomain == self.trustDomain || slices.Contains(o.Aliases, p.ID.trustDomain) {
		for _, account := range o.Accounts {
			namespace, name, _ := strings.Cut(account, "/")
			if p.ID.path == "/ns/"+namespace+"/sa/"+name {
				return true
			}
		}
	}
	return slices.ContainsFunc(o.Names, func(name string) bool {
		return name == p.ID.String() || slices.Contains(p.Certificate.DNSNames, name)
	})
}

// wanted says who the server may be, for people.
func (o *ClientOptions) wanted() string {
	all := slices.Concat(o.Accounts, o.Names)
	const most = 5
	if len(all) > most {
		all = append(all[:most:most], fmt.Sprintf("%d others", len(all)-most))
	}
	return strings.Join(all, " or ")
}
