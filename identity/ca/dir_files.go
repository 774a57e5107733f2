package ca

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/heddlemesh/mesh/identity"
)

// numbered gives the files with the prefix in the order of their numbers.
func (d *directory) numbered(prefix string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(d.path, prefix+"*.pem"))
	for i, name := range names {
		names[i] = filepath.Base(name)
		if number(name, prefix) == 0 {
			return nil, fmt.Errorf("read authority: %s: expected %s1.pem, %s2.pem and so on", name, prefix, prefix)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return number(a, prefix) - number(b, prefix) })
	return names, err
}

// number gives that of a file, 0 where it has none.
func number(name, prefix string) int {
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), prefix), ".pem"))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// read reads a certificate and, where it has to sign, its key, which must be nobody else's to read.
func (d *directory) read(name string, signs bool) (signer, error) {
	name = filepath.Join(d.path, name)
	text, err := identity.ReadFile(name)
	if err != nil {
		return signer{}, fmt.Errorf("read authority: %w", err)
	}
	if info, err := os.Stat(name); err != nil || hasModes && info.Mode().Perm()&0o077 != 0 {
		return signer{}, errors.Join(fmt.Errorf("read authority: %s: others can read the key; mode 0600 is right (chmod 600 %[1]s)", name), err)
	}
	if !signs {
		block, _ := pem.Decode(text)
		if block == nil {
			return signer{}, fmt.Errorf("read authority: %s: no PEM in it", name)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return signer{}, fmt.Errorf("read authority: %s: %w", name, err)
		}
		return signer{cert: cert}, nil
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return signer{}, fmt.Errorf("read authority: %s: %w", name, err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return signer{}, fmt.Errorf("read authority: %s: not an authority's certificate and key", name)
	}
	return signer{pair.Leaf, key}, nil
}

// log writes a line for everything that is signed, before then hears of it.
func (d *directory) log(then func(Issuance) error) func(Issuance) error {
	return func(i Issuance) error {
		line, err := json.Marshal(i)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(filepath.Join(d.path, issuancesFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(append(line, '\n')) // in one step: others may write too
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		return then(i)
	}
}

// addRoot implements keeper. The keys of older roots are thrown away: they sign nothing any more.
func (d *directory) addRoot(s signer) error {
	names, err := d.numbered(rootPrefix)
	if err != nil {
		return err
	}
	if err := d.write(rootPrefix, names, s); err != nil {
		return err
	}
	var bundle []*x509.Certificate
	for _, name := range names {
		old, err := d.read(name, false)
		if err == nil {
			err = WriteFile(filepath.Join(d.path, name), EncodeCertificates(old.cert))
		}
		if err != nil {
			return err
		}
		bundle = append(bundle, old.cert)
	}
	return d.writeBundle(append(bundle, s.cert))
}

// writeBundle writes the roots that are believed, for whoever has to be given them as a file.
func (d *directory) writeBundle(roots []*x509.Certificate) error {
	return WriteFile(filepath.Join(d.path, bundleFile), EncodeCertificates(roots...))
}

// setIssuing implements keeper.
func (d *directory) setIssuing(s signer) error {
	names, err := d.numbered(issuingPrefix)
	if err != nil {
		return err
	}
	if err := d.write(issuingPrefix, names, s); err != nil {
		return err
	}
	return d.remove(names)
}

// dropRoots implements keeper.
func (d *directory) dropRoots(but []*x509.Certificate) error {
	names, err := d.numbered(rootPrefix)
	if err != nil {
		return err
	}
	if err := d.writeBundle(but); err != nil {
		return err
	}
	return d.remove(names[:max(0, len(names)-len(but))])
}

func (d *directory) remove(names []string) error {
	var all error
	for _, name := range names {
		all = errors.Join(all, os.Remove(filepath.Join(d.path, name)))
	}
	return all
}

// write writes the next file with the prefix.
func (d *directory) write(prefix string, names []string, s signer) error {
	next := 1
	if len(names) > 0 {
		next = number(names[len(names)-1], prefix) + 1
	}
	key, err := EncodeKey(s.key)
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(d.path, prefix+strconv.Itoa(next)+".pem"), append(EncodeCertificates(s.cert), key...))
}
