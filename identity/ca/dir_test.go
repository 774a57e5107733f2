package ca_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
)

func newDir(t *testing.T, o ca.Options) (string, *ca.Authority) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca.d")
	a, err := ca.Init(dir, "cluster.local", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return dir, a
}

// reopen is what a restart does.
func reopen(t *testing.T, dir string, a *ca.Authority, o ca.Options) *ca.Authority {
	t.Helper()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := ca.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	return again
}

// keysIn counts the private keys in the authority's files.
func keysIn(t *testing.T, dir, pattern string) (certificates, keys int) {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, pattern))
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		certificates += bytes.Count(text, []byte("BEGIN CERTIFICATE"))
		keys += bytes.Count(text, []byte("PRIVATE KEY-----\n"))
	}
	return certificates, keys / 2
}

// TestDirectory: what a directory keeps is the authority, with every step of a rotation, for its owner alone.
func TestDirectory(t *testing.T) {
	t.Parallel()
	dir, a := newDir(t, ca.Options{Life: 10 * time.Minute})
	err := filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Open(dir, ca.Options{}); !errors.Is(err, ca.ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if shared, err := ca.OpenShared(dir, ca.Options{}); err != nil || !shared.Issuing().Equal(a.Issuing()) {
		t.Errorf("shared: %v", err)
	}
	first := a.Bundle()[0]
	a = reopen(t, dir, a, ca.Options{})
	if len(a.Bundle()) != 1 || !a.Bundle()[0].Equal(first) || a.Life() != 10*time.Minute || a.TrustDomain() != "cluster.local" {
		t.Errorf("%d roots, SVIDs of %v, %s", len(a.Bundle()), a.Life(), a.TrustDomain())
	}
	old := issue(t, a)
	if err := a.AddRoot(); err != nil {
		t.Fatal(err)
	}
	a = reopen(t, dir, a, ca.Options{})
	if c, k := keysIn(t, dir, "root-*.pem"); len(a.Bundle()) != 2 || c != 2 || k != 1 {
		t.Errorf("%d roots believed; %d certificates and %d keys kept: that of the old one signs nothing any more", len(a.Bundle()), c, k)
	}
	proves(t, a, old)
	if err := a.RotateIssuing(); err != nil {
		t.Fatal(err)
	}
	a = reopen(t, dir, a, ca.Options{})
	if a.Issuing().CheckSignatureFrom(a.Bundle()[1]) != nil {
		t.Error("the new root does not sign")
	}
	proves(t, a, old)
	if err := a.DropRoots(); err != nil {
		t.Fatal(err)
	}
	a = reopen(t, dir, a, ca.Options{})
	if c, k := keysIn(t, dir, "*-*.pem"); len(a.Bundle()) != 1 || a.Bundle()[0].Equal(first) || c != 2 || k != 2 {
		t.Errorf("%d roots believed; %d certificates and %d keys", len(a.Bundle()), c, k)
	}
	if bundle, err := identity.ReadBundle(filepath.Join(dir, "bundle.pem")); err != nil || len(bundle) != 1 || !bundle[0].Equal(a.Bundle()[0]) {
		t.Errorf("bundle.pem: %d certificates, %v", len(bundle), err)
	}
	proves(t, a, issue(t, a))
	text, err := os.ReadFile(filepath.Join(dir, "issued.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var what []string
	for line := range strings.Lines(string(text)) {
		var i ca.Issuance
		if err := json.Unmarshal([]byte(line), &i); err != nil {
			t.Fatal(err)
		}
		what = append(what, i.What)
	}
	if got := strings.Join(what, " "); got != "root issuing svid root issuing svid" {
		t.Errorf("the log has %s", got)
	}
}

func issue(t *testing.T, a *ca.Authority) *identity.Material {
	t.Helper()
	m, err := a.Issue(id(t, "cluster.local"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// proves checks that somebody who has the authority's bundle now believes the SVID.
func proves(t *testing.T, a *ca.Authority, m *identity.Material) {
	t.Helper()
	if err := believed(a.Bundle(), m, time.Now()); err != nil {
		t.Error(err)
	}
}

func believed(bundle []*x509.Certificate, m *identity.Material, now time.Time) error {
	return identity.New(identity.Options{Now: func() time.Time { return now }}).Take(
		&identity.Material{SVID: m.SVID, Bundles: map[string][]*x509.Certificate{"cluster.local": bundle}})
}

// TestDirectoryRefused is row C-036: an authority is not replaced, and not taken up where others can read it.
func TestDirectoryRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		says  string
	}{
		{"directory for all", func(_ *testing.T, dir string) { _ = os.Chmod(dir, 0o755) }, "0700 is right"},
		{"root for all", func(_ *testing.T, dir string) { _ = os.Chmod(filepath.Join(dir, "root-1.pem"), 0o644) }, "0600 is right"},
		{"issuing for the group", func(_ *testing.T, dir string) { _ = os.Chmod(filepath.Join(dir, "issuing-1.pem"), 0o640) }, "0600 is right"},
		{"no issuing authority", func(_ *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "issuing-1.pem")) }, "interrupted"},
		{"no settings", func(_ *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "settings.json")) }, "settings.json"},
		{"settings cut short", func(_ *testing.T, dir string) { _ = os.Truncate(filepath.Join(dir, "settings.json"), 20) }, "read authority"},
		{"root without key", func(t *testing.T, dir string) { cut(t, filepath.Join(dir, "root-1.pem"), "PRIVATE KEY") }, "root-1.pem"},
		{"key without root", func(t *testing.T, dir string) { cut(t, filepath.Join(dir, "root-1.pem"), "CERTIFICATE") }, "root-1.pem"},
		{"a strange root", func(_ *testing.T, dir string) {
			_ = os.Rename(filepath.Join(dir, "root-1.pem"), filepath.Join(dir, "root-old.pem"))
		}, "root-old.pem"},
		{"not there", func(_ *testing.T, dir string) { _ = os.RemoveAll(dir) }, "there is no authority"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir, a := newDir(t, ca.Options{})
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			row.spoil(t, dir)
			for name, open := range map[string]func(string, ca.Options) (*ca.Authority, error){"alone": ca.Open, "shared": ca.OpenShared} {
				if _, err := open(dir, ca.Options{}); err == nil || !strings.Contains(err.Error(), row.says) {
					t.Errorf("%s: %v, want %q", name, err, row.says)
				} else if strings.Contains(err.Error(), "PRIVATE") {
					t.Errorf("a key in %v", err)
				}
			}
		})
	}
	t.Run("replaced", func(t *testing.T) {
		t.Parallel()
		dir, a := newDir(t, ca.Options{})
		root := a.Bundle()[0]
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := ca.Init(dir, "cluster.local", ca.Options{}); err == nil || !strings.Contains(err.Error(), "not replaced") {
			t.Errorf("%v", err)
		}
		if a, err := ca.Open(dir, ca.Options{}); err != nil || !a.Bundle()[0].Equal(root) {
			t.Errorf("it is another: %v", err)
		}
	})
	t.Run("trust domain", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "ca.d")
		if _, err := ca.Init(dir, "Cluster.Local", ca.Options{}); err == nil {
			t.Error("made")
		}
		if _, err := os.Stat(dir); err == nil {
			t.Error("and the directory is there")
		}
	})
}

// cut leaves the blocks of a type out.
func cut(t *testing.T, name, kind string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var left bytes.Buffer
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != kind {
			_ = pem.Encode(&left, block)
		}
	}
	if err := os.WriteFile(name, left.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRotate: over many rotations, whoever has the bundle of one SVID's life ago, and whoever shows an SVID that was issued then,
// are understood by those who have the newest; and after a pause that is too long it begins anew.
func TestRotate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const life, day = 10 * time.Hour, 24 * time.Hour
		a, err := ca.New("cluster.local", ca.Options{Life: life, IssuingLife: 4 * day, RootLife: 16 * day})
		if err != nil {
			t.Fatal(err)
		}
		type moment struct {
			bundle []*x509.Certificate
			svid   *identity.Material
		}
		var past []moment
		roots, issuers := map[string]bool{}, map[string]bool{}
		for range 30 * 24 {
			time.Sleep(time.Hour)
			if err := a.Rotate(); err != nil {
				t.Fatal(err)
			}
			past = append(past, moment{a.Bundle(), issue(t, a)})
			past = past[max(0, len(past)-int(life/time.Hour)):]
			for _, x := range []struct {
				bundle []*x509.Certificate
				svid   *identity.Material
			}{{past[0].bundle, past[len(past)-1].svid}, {past[len(past)-1].bundle, past[0].svid}} {
				if err := believed(x.bundle, x.svid, time.Now()); err != nil {
					t.Fatalf("%v: %v", time.Now(), err)
				}
			}
			if len(a.Bundle()) > 2 {
				t.Fatalf("%d roots at a time", len(a.Bundle()))
			}
			for _, c := range a.Bundle() {
				roots[c.SerialNumber.String()] = true
			}
			issuers[a.Issuing().SerialNumber.String()] = true
		}
		// A root every 8 days, an issuing authority every 2.
		if len(roots) < 4 || len(roots) > 5 || len(issuers) < 14 || len(issuers) > 17 {
			t.Errorf("%d roots, %d issuing authorities in 30 days", len(roots), len(issuers))
		}
		time.Sleep(20 * day)
		if _, err := a.Issue(id(t, "cluster.local")); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("signed by an authority that has expired: %v", err)
		}
		if err := a.Rotate(); err != nil {
			t.Fatal(err)
		}
		if len(a.Bundle()) != 1 {
			t.Errorf("%d roots", len(a.Bundle()))
		}
		proves(t, a, issue(t, a))
	})
}
