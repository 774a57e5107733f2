package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/snapshot"
)

// An originator secures connections as one policy says. It is safe for concurrent use.
type originator struct {
	policy snapshot.TLS
	names  []string // of which the endpoint's certificate needs one; nil for the host
	offers []string // by ALPN, last what is to be spoken
	live   *live    // of the mesh's identity, nil where it has none

	mu    sync.Mutex // guards what follows
	files *tlsFiles  // as they were when they could last be used, nil before that
	seen  stamps     // the files' state that was last looked into
}

func newOriginator(t snapshot.TLS, p snapshot.Protocol, l *live) *originator {
	o := &originator{policy: t, names: lines(t.Names), live: l}
	if t.Mesh {
		o.offers = meshOffers(p)
		return o
	}
	switch p {
	case snapshot.HTTP1:
		o.offers = []string{"http/1.1"}
	case snapshot.HTTP2:
		o.offers = []string{"h2"}
	}
	return o
}

// secure makes the handshake. host is the request's: the server's name where the policy has none. It closes the
// connection where it fails.
func (o *originator) secure(ctx context.Context, conn net.Conn, host string) (*tls.Conn, error) {
	if o.policy.ServerName != "" {
		host = o.policy.ServerName
	}
	var peer identity.Peer
	config, err := o.config(host, &peer)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c := tls.Client(conn, config)
	if err = c.HandshakeContext(ctx); err == nil && len(o.offers) > 0 {
		// Without an answer HTTP/1.1 is what is spoken; HTTP/2 has to be agreed on (RFC 9113 §3.2).
		want := o.offers[len(o.offers)-1]
		if got := c.ConnectionState().NegotiatedProtocol; got != want && (got != "" || want == "h2") && got != PeerExchange {
			err = fmt.Errorf("the endpoint does not speak %s by TLS (ALPN)", want)
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS handshake as %s: %w", nameOf(host), err)
	}
	if o.policy.Mesh {
		o.live.add(c, peer, config.Certificates[0].Leaf.NotAfter, nil)
	}
	return c, nil
}

// config is what one handshake is made by; a peer that is verified by its identity is put into peer.
func (o *originator) config(host string, peer *identity.Peer) (*tls.Config, error) {
	if o.policy.Mesh {
		if !o.live.identified() {
			return nil, identity.ErrNoIdentity
		}
		return o.live.identity.ClientConfig(identity.ClientOptions{ServerName: host, Protocols: o.offers, TLS13: o.policy.TLS13, Names: o.names,
			Accounts: lines(o.policy.Accounts), Aliases: lines(o.policy.Aliases), Verified: func(p identity.Peer) { *peer = p }})
	}
	files, err := o.current()
	if err != nil {
		return nil, err
	}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         host,
		NextProtos:         o.offers,
		Certificates:       files.own,
		InsecureSkipVerify: true, //nolint:gosec // G402: verify does it, against the policy's names
	}
	if !o.policy.SkipVerify {
		config.VerifyConnection = func(s tls.ConnectionState) error { return o.verify(files, &s, host) }
	}
	return config, nil
}

// meshOffers is what Istio's clients offer by ALPN, so that a sidecar knows the mesh's TLS by it (istio.io,
// pilot/pkg/networking/util ALPNInMesh, and the alpn filter's upstream protocols).
func meshOffers(p snapshot.Protocol) []string {
	switch p {
	case snapshot.HTTP1:
		return []string{"istio-http/1.1", meshProtocol, "http/1.1"}
	case snapshot.HTTP2:
		return []string{"istio-h2", meshProtocol, "h2"}
	}
	if p == opaqueBytes {
		return []string{PeerExchange, meshProtocol}
	}
	return []string{meshProtocol}
}

// opaqueBytes is what is not HTTP, whatever the port speaks.
const opaqueBytes snapshot.Protocol = 255

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

func nameOf(host string) string {
	if host == "" {
		return "nobody"
	}
	return host
}

// verify is the check of the endpoint's certificates, of resumed sessions too.
func (o *originator) verify(files *tlsFiles, s *tls.ConnectionState, host string) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the endpoint has no certificate")
	}
	opts := x509.VerifyOptions{Roots: files.roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	if len(o.names) == 0 {
		if opts.DNSName = host; host == "" {
			return errors.New("there is no name that the endpoint's certificate could be for")
		}
	}
	leaf := s.PeerCertificates[0]
	chains, err := leaf.Verify(opts)
	if err == nil && len(o.names) > 0 && !named(leaf, o.names) {
		err = fmt.Errorf("the endpoint's certificate is for none of %s, but for %s", call.Printable(strings.Join(o.names, ", ")), call.Printable(namesOf(leaf)))
	}
	if err == nil && files.revoked != nil {
		if err = files.revoked.Check(chains, time.Now()); err != nil {
			err = fmt.Errorf("caCrl: %w", err)
		}
	}
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
	}
	return nil
}

// named reports whether the certificate is for one of the names: a DNS name, which a wildcard of the certificate takes
// too, an address, a URI or a mail address (Envoy, match_typed_subject_alt_names with exact matchers).
func named(c *x509.Certificate, names []string) bool {
	for _, name := range names {
		if c.VerifyHostname(name) == nil {
			return true
		}
		for _, u := range c.URIs {
			if u.String() == name {
				return true
			}
		}
		for _, list := range [][]string{c.DNSNames, c.EmailAddresses} {
			for _, have := range list {
				if have == name {
					return true
				}
			}
		}
	}
	return false
}

// namesOf lists what a certificate is for, for people.
func namesOf(c *x509.Certificate) string {
	all := append(append([]string(nil), c.DNSNames...), c.EmailAddresses...)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	for _, u := range c.URIs {
		all = append(all, u.String())
	}
	if len(all) == 0 {
		return "nothing"
	}
	const most = 10
	if len(all) > most {
		all = append(all[:most], fmt.Sprintf("%d more", len(all)-most))
	}
	return strings.Join(all, ", ")
}
