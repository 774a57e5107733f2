package transport

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/heddlemesh/mesh/snapshot"
)

// tlsFiles is what the files of a policy came to. It is immutable.
type tlsFiles struct {
	own     []tls.Certificate
	roots   *x509.CertPool // nil for the system's
	revoked *revocations   // nil for none
}

// maxTLSFile bounds how much of a file is read.
const maxTLSFile = 16 << 20

// A stamp tells one state of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

type stamps [4]stamp

func stampsOf(t *snapshot.TLS) (all stamps) {
	for i, name := range [...]string{t.CertificateFile, t.KeyFile, t.CAFile, t.RevocationFile} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			all[i] = stamp{info.ModTime(), info.Size()}
		}
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
			f.revoked, err = parseRevocations(text)
		}
		if err != nil {
			return nil, fmt.Errorf("read caCrl %s: %w", t.RevocationFile, err)
		}
	}
	return f, nil
}

// readTLSFile reads a regular file: another one could block for ever.
func readTLSFile(field, name string) ([]byte, error) {
	wrong := func(err error) error { return fmt.Errorf("read %s: %w", field, err) }
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, wrong(err)
	case !info.Mode().IsRegular():
		return nil, wrong(fmt.Errorf("%s: not a regular file", name))
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, wrong(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxTLSFile+1))
	if err == nil && len(text) > maxTLSFile {
		err = fmt.Errorf("%s: larger than %d bytes", name, maxTLSFile)
	}
	if err != nil {
		return nil, wrong(err)
	}
	return text, nil
}

// revocations are the lists of one file.
type revocations struct{ lists []*x509.RevocationList }

func parseRevocations(text []byte) (*revocations, error) {
	r := new(revocations)
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

// check takes a certificate for which some chain has nothing revoked. For every certificate of it but the last there
// has to be a list of its issuer that is not out of date (Envoy, CertificateValidationContext.crl).
func (r *revocations) check(chains [][]*x509.Certificate) (err error) {
	for _, chain := range chains {
		if err = r.checkChain(chain); err == nil {
			return nil
		}
	}
	return err
}

func (r *revocations) checkChain(chain []*x509.Certificate) error {
	for i := range len(chain) - 1 {
		if err := r.checkOne(chain[i], chain[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (r *revocations) checkOne(c, issuer *x509.Certificate) error {
	found := false
	for _, list := range r.lists {
		if list.CheckSignatureFrom(issuer) != nil || !list.NextUpdate.IsZero() && time.Now().After(list.NextUpdate) {
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
		return fmt.Errorf("caCrl has no list of %s that is up to date", issuer.Subject)
	}
	return nil
}
