package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Files is a Source that reads PEM files, and reads them again when they change: all of them together are taken or
// none. Directories whose files are symbolic links, as Kubernetes mounts them, are fine.
type Files struct {
	Certificate string // the SVID: the leaf, then its intermediates
	Key         string // its private key, not encrypted; others than owner and group must not be able to read it
	Bundle      string // the authorities of the own trust domain
	// Federated are the bundles of other trust domains, by name. Default: none.
	Federated map[string]string
	// Revoked is a file of revocation lists. Default: none.
	Revoked string
	// Every is how often the files are looked at. Default: 500 ms.
	Every time.Duration
}

const (
	defaultEvery = 500 * time.Millisecond
	maxFile      = 16 << 20
)

// String names the files.
func (f Files) String() string { return "files " + strings.Join(f.all(), ", ") }

func (f Files) all() []string {
	names := []string{f.Certificate, f.Key, f.Bundle}
	for _, domain := range sortedKeys(f.Federated) {
		names = append(names, f.Federated[domain])
	}
	if f.Revoked != "" {
		names = append(names, f.Revoked)
	}
	return names
}

// Run implements Source. Files that cannot be used are looked at again until they can.
func (f Files) Run(ctx context.Context, to *Identity) error {
	every := f.Every
	if every <= 0 {
		every = defaultEvery
	}
	t := time.NewTicker(every)
	defer t.Stop()
	var seen []Stamp
	taken := false
	for {
		// What could not be used is tried again though nothing has changed: it may not be valid yet.
		if now := stamps(f.all()); !taken || !slices.Equal(now, seen) {
			m, err := f.read()
			if err != nil {
				to.Failed(err)
			} else {
				err = to.Take(m)
			}
			seen, taken = now, err == nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (f Files) read() (*Material, error) {
	chain, err := ReadFile(f.Certificate)
	if err != nil {
		return nil, fmt.Errorf("read SVID: %w", err)
	}
	key, err := readKey(f.Key)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	m := &Material{Bundles: make(map[string][]*x509.Certificate)}
	if m.SVID, err = parsePair(chain, key); err != nil {
		return nil, fmt.Errorf("read SVID %s and key %s: %w", f.Certificate, f.Key, err)
	}
	leaf, err := x509.ParseCertificate(m.SVID.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("read SVID %s: %w", f.Certificate, err)
	}
	id, err := IDOf(leaf)
	if err != nil {
		return nil, fmt.Errorf("read SVID %s: %w", f.Certificate, err)
	}
	for domain, name := range f.Federated {
		if domain == id.trustDomain {
			return nil, fmt.Errorf("read bundle %s: %s is the own trust domain", name, domain)
		}
		if m.Bundles[domain], err = ReadBundle(name); err != nil {
			return nil, err
		}
	}
	if m.Bundles[id.trustDomain], err = ReadBundle(f.Bundle); err != nil {
		return nil, err
	}
	if f.Revoked != "" {
		text, err := ReadFile(f.Revoked)
		if err == nil {
			m.Revoked, err = ParseRevocations(text)
		}
		if err != nil {
			return nil, fmt.Errorf("read revocation lists %s: %w", f.Revoked, err)
		}
	}
	return m, nil
}

// parsePair reads chain and key. crypto/tls would pass over what is not PEM.
func parsePair(chain, key []byte) (tls.Certificate, error) {
	if err := onlyBlocks(chain, "CERTIFICATE"); err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	if err := onlyBlocks(key, "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "EC PARAMETERS"); err != nil {
		return tls.Certificate{}, fmt.Errorf("key: %w", err)
	}
	return tls.X509KeyPair(chain, key)
}

// ReadBundle reads a file of certificates as ParseBundle does.
func ReadBundle(name string) ([]*x509.Certificate, error) {
	text, err := ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	list, err := ParseBundle(text)
	if err != nil {
		return nil, fmt.Errorf("read bundle %s: %w", name, err)
	}
	return list, nil
}

// ParseBundle reads certificates in PEM, at least one, and refuses text with anything else in it: of a bundle that was
// cut short, or has one bad certificate, nothing is taken.
func ParseBundle(text []byte) ([]*x509.Certificate, error) {
	if err := onlyBlocks(text, "CERTIFICATE"); err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(list), err)
		}
		list = append(list, c)
	}
	return list, nil
}

// onlyBlocks takes text that is PEM of these types, and explanations before each block (RFC 7468 §2). What is refused is
// not repeated: it may be a key.
func onlyBlocks(text []byte, types ...string) error {
	rest, blocks := text, 0
	for {
		block, more := pem.Decode(rest)
		if block == nil {
			break
		}
		blocks++
		known := false
		for _, t := range types {
			known = known || block.Type == t
		}
		switch {
		case block.Headers["Proc-Type"] != "" || block.Type == "ENCRYPTED PRIVATE KEY":
			return errors.New("the key is encrypted")
		case !known && strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return errors.New("a private key where there should be none")
		case !known:
			return fmt.Errorf("a PEM block of another type than %s", types[0])
		}
		rest = more
	}
	switch {
	case blocks == 0:
		return errors.New("no PEM in it")
	case strings.Contains(string(rest), "-----BEGIN"):
		return errors.New("a PEM block is broken or cut short")
	case strings.TrimSpace(string(rest)) != "":
		return errors.New("there is something after the last PEM block")
	case strings.Count(string(text), "-----BEGIN ") != blocks:
		return errors.New("a PEM block is broken")
	}
	return nil
}

// readKey refuses a key that everybody on the machine can read.
func readKey(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("%s: mode %04o gives it to everybody; 0600, or 0640 for a group, is right", name, info.Mode().Perm())
	}
	return ReadFile(name)
}

// ReadFile reads a regular file of at most 16 MiB: another one could block for ever.
func ReadFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: larger than %d bytes", name, maxFile)
	}
	if err != nil {
		return nil, err
	}
	return text, nil
}
