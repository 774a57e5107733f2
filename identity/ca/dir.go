package ca

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
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
	const tries = 3 // a file that its owner takes away meanwhile is one that is not needed any more
	var a *Authority
	err := fs.ErrNotExist
	for n := 0; n < tries && errors.Is(err, fs.ErrNotExist); n++ {
		a, err = (&directory{path: dir}).open(o)
	}
	return a, err
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

// private refuses a directory that others than this process's user can enter.
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
	case !owned(info):
		return fmt.Errorf("%s is somebody else's directory", path)
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
