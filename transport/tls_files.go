package transport

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/snapshot"
)

// tlsFiles is what the files of a policy came to. It is immutable.
type tlsFiles struct {
	own     []tls.Certificate
	roots   *x509.CertPool        // nil for the system's
	revoked *identity.Revocations // nil for none
}

type stamps [4]identity.Stamp

func stampsOf(t *snapshot.TLS) (all stamps) {
	for i, name := range [...]string{t.CertificateFile, t.KeyFile, t.CAFile, t.RevocationFile} {
		all[i] = identity.StampOf(name)
	}
	return all
}

// current gives the files as they are. Where they have changed and cannot be used, it gives what they were: a
// certificate that is being replaced stops nobody.
func (o *originator) current() (*tlsFiles, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := stampsOf(&o.policy)
	if o.files != nil && now == o.seen {
		return o.files, nil
	}
	files, err := readTLSFiles(&o.policy)
	if err == nil {
		o.files = files
	}
	if o.seen = now; o.files != nil {
		return o.files, nil
	}
	return nil, err
}

func readTLSFiles(t *snapshot.TLS) (*tlsFiles, error) {
	f := new(tlsFiles)
	if t.CertificateFile != "" {
		chain, err := readTLSFile("clientCertificate", t.CertificateFile)
		if err != nil {
			return nil, err
		}
		key, err := readTLSFile("privateKey", t.KeyFile)
		if err != nil {
			return nil, err
		}
		own, err := tls.X509KeyPair(chain, key)
		if err != nil {
			return nil, fmt.Errorf("read clientCertificate %s and privateKey %s: %w", t.CertificateFile, t.KeyFile, err)
		}
		f.own = []tls.Certificate{own}
	}
	if t.CAFile != "" {
		text, err := readTLSFile("caCertificates", t.CAFile)
		if err != nil {
			return nil, err
		}
		if f.roots = x509.NewCertPool(); !f.roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read caCertificates %s: no certificate in PEM", t.CAFile)
		}
	}
	if t.RevocationFile != "" {
		text, err := readTLSFile("caCrl", t.RevocationFile)
		if err == nil {
			f.revoked, err = identity.ParseRevocations(text)
		}
		if err != nil {
			return nil, fmt.Errorf("read caCrl %s: %w", t.RevocationFile, err)
		}
	}
	return f, nil
}

func readTLSFile(field, name string) ([]byte, error) {
	text, err := identity.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", field, err)
	}
	return text, nil
}
