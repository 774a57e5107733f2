package ca

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/identity"
)

// What lies in the directory of an authority. A root and an issuing authority are a file each, certificate and key, named
// by a number that grows: the newest counts, so that every step of a rotation is one file that comes or goes.
const (
	settingsFile  = "settings.json"
	bundleFile    = "bundle.pem"
	issuancesFile = "issued.jsonl"
	lockFile      = "lock"
	rootPrefix    = "root-"
	issuingPrefix = "issuing-"
)

// settings are what an authority was made with.
type settings struct {
	TrustDomain string `json:"trustDomain"`
	RootLife    string `json:"rootLife"`
	IssuingLife string `json:"issuingLife"`
	Life        string `json:"life"`
}

// Init makes an authority as New does, in a directory, of mode 0700, that is new or empty: it never replaces one. The
// Issued of the options is told after the log in the directory.
func Init(dir, trustDomain string, o Options) (*Authority, error) {
	a, err := empty(trustDomain, o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // what is above is the user's own matter
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	d, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	if others, err := d.others(); err != nil {
		return nil, errors.Join(err, d.close())
	} else if len(others) > 0 {
		return nil, errors.Join(fmt.Errorf("%s is not empty (%s): an authority is not replaced; take another directory, or move this one", dir, others[0]), d.close())
	}
	s := settings{a.domain, a.o.RootLife.String(), a.o.IssuingLife.String(), a.o.Life.String()}
	text, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = WriteFile(filepath.Join(dir, settingsFile), append(text, '\n'))
	}
	a.keeper, a.o.Issued = d, d.log(a.o.Issued)
	if err == nil {
		err = a.newRoot()
	}
	if err == nil {
		err = a.newIssuing()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make authority in %s: %w", dir, err), d.close())
	}
	return a, nil
}

// ErrInUse is why an authority cannot be opened: another process has it.
var ErrInUse = errors.New("another process uses the authority")

// Open takes up an authority that Init has made. Options that are zero are those that it was made with; the rest are for
// what is signed from now on. The directory and the keys must be nobody else's to read. Until Close no other process can
// open it: then Open fails with ErrInUse, and OpenShared does not.
func Open(dir string, o Options) (*Authority, error) {
	d, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	a, err := d.open(o)
	if err == nil {
		err = d.writeBundle(a.trusted) // a crash may have come between
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	a.keeper = d
	return a, nil
}

// OpenShared takes up an authority that another process may have open: to sign by it, not to rotate it. What it rotates
// is not kept.
func OpenShared(dir string, o Options) (*Authority, error) {
	if err := private(dir); err != nil {
		return nil, err
	}
	return (&directory{path: dir}).open(o)
}

// Close gives the directory free for others. An authority that has none is not concerned.
func (a *Authority) Close() error {
	if d, ok := a.keeper.(*directory); ok {
		return d.close()
	}
	return nil
}

// hasModes is whether the modes of files say who can read them.
const hasModes = runtime.GOOS != "windows"

// A directory keeps an authority in files.
type directory struct {
	path string
	lock *os.File
}

// lockDir checks that nobody else can look into the directory, and takes its lock.
func lockDir(path string) (*directory, error) {
	if err := private(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("%w in %s", ErrInUse, path), f.Close())
	}
	return &directory{path, f}, nil
}

func (d *directory) close() error { return d.lock.Close() }

// private refuses a directory that others than the owner can enter.
func private(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no authority in %s: %w", path, err)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", path)
	case hasModes && info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s: mode %04o lets others in; 0700 is right (chmod 700 %[1]s)", path, info.Mode().Perm())
	}
	return nil
}

// others are the names of what is in the directory but the lock.
func (d *directory) others() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	var names []string
	for _, e := range entries {
		if e.Name() != lockFile {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// open reads the authority.
func (d *directory) open(o Options) (*Authority, error) {
	var s settings
	text, err := identity.ReadFile(filepath.Join(d.path, settingsFile))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	for _, life := range []struct {
		to   *time.Duration
		text string
	}{{&o.RootLife, s.RootLife}, {&o.IssuingLife, s.IssuingLife}, {&o.Life, s.Life}} {
		kept, err := time.ParseDuration(life.text)
		if err != nil {
			return nil, fmt.Errorf("read authority: %s: %w", settingsFile, err)
		}
		*life.to = or(*life.to, kept)
	}
	a, err := empty(s.TrustDomain, o)
	if err != nil {
		return nil, fmt.Errorf("read authority: %s: %w", settingsFile, err)
	}
	roots, err := d.numbered(rootPrefix)
	if err != nil {
		return nil, err
	}
	for i, name := range roots {
		a.root, err = d.read(name, i == len(roots)-1)
		if err != nil {
			return nil, err
		}
		a.trusted = append(a.trusted, a.root.cert)
	}
	issuing, err := d.numbered(issuingPrefix)
	if err != nil {
		return nil, err
	}
	if len(roots) == 0 || len(issuing) == 0 {
		return nil, fmt.Errorf("read authority: %s has no root or no issuing authority: its making was interrupted; begin with another directory", d.path)
	}
	if a.issuing, err = d.read(issuing[len(issuing)-1], true); err != nil {
		return nil, err
	}
	a.o.Issued = d.log(a.o.Issued)
	return a, nil
}

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
