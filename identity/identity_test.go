package identity_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
)

func pemOf(t *testing.T, c tls.Certificate) (chain, private []byte) {
	t.Helper()
	for _, der := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// A journal keeps the events of an identity.
type journal struct {
	mu   sync.Mutex
	list []identity.Event
}

func (j *journal) add(e identity.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.list = append(j.list, e)
}

func (j *journal) take() []identity.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := j.list
	j.list = nil
	return list
}

func (j *journal) kinds() string {
	var names []string
	for _, e := range j.take() {
		names = append(names, e.Kind.String())
	}
	return strings.Join(names, " ")
}

// TestFiles is rows, C-021, C-026 and C-036: what is unsound is refused, the last good is kept, no key is told.
func TestFiles(t *testing.T) {
	t.Parallel()
	root := newMaker(t, nil)
	issuing := root.below(t, nil)
	good := issuing.svid(t, webID, nil, issuing)
	chain, private := pemOf(t, good)
	_, otherKey := pemOf(t, root.svid(t, webID, nil))
	bundle := certPEM(root.cert)
	leafOnly, leafKey := pemOf(t, root.svid(t, webID, nil))
	expired, expiredKey := pemOf(t, root.svid(t, webID, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }))
	future, futureKey := pemOf(t, root.svid(t, webID, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }))
	authority, authorityKey := pemOf(t, root.svid(t, webID, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, 0 }))
	disordered, disorderedKey := pemOf(t, tls.Certificate{PrivateKey: good.PrivateKey,
		Certificate: [][]byte{good.Certificate[0], root.cert.Raw, issuing.cert.Raw}})
	rows := map[string]struct {
		chain, key, bundle []byte
		want               string
	}{
		"good":               {chain, private, bundle, ""},
		"leaf alone":         {leafOnly, leafKey, bundle, ""},
		"no key":             {chain, nil, bundle, "no PEM in it"},
		"no certificate":     {nil, private, bundle, "no PEM in it"},
		"another key":        {chain, otherKey, bundle, "private key does not match"},
		"key as certificate": {private, private, bundle, "a private key where"},
		"encrypted key":      {chain, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}), bundle, "encrypted"},
		"DER":                {good.Certificate[0], private, bundle, "no PEM in it"},
		"trailing junk":      {append(bytes.Clone(chain), "junk"...), private, bundle, "after the last PEM block"},
		"cut short":          {chain[:len(chain)-40], private, bundle, "cut short"},
		"disorder":           {disordered, disorderedKey, bundle, "not signed by the next"},
		"leaf is authority":  {authority, authorityKey, bundle, "authority's"},
		"expired":            {expired, expiredKey, bundle, "expired"},
		"not yet valid":      {future, futureKey, bundle, "not yet valid"},
		"empty bundle":       {chain, private, nil, "no PEM in it"},
		"bundle cut short":   {chain, private, append(bytes.Clone(bundle), bundle[:80]...), "cut short"},
		"one bad of three": {chain, private, bytes.Join([][]byte{bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), bundle}, nil),
			"certificate 1"},
		"key in the bundle":  {chain, private, append(bytes.Clone(bundle), private...), "a private key where"},
		"leaf in the bundle": {chain, private, append(bytes.Clone(bundle), leafOnly...), "not an authority's"},
		"another authority":  {chain, private, certPEM(newMaker(t, nil).cert), "unknown authority"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := files(t, row.chain, row.key, row.bundle)
			for _, first := range []bool{true, false} {
				var j journal
				i := identity.New(identity.Options{Now: func() time.Time { return now }, Report: j.add})
				if !first {
					if err := i.Take(&identity.Material{SVID: root.svid(t, restID, nil), Bundles: bundles(map[string]*maker{domain: root})}); err != nil {
						t.Fatal(err)
					}
				}
				once(t, i, f)
				failure := i.Status().Failure
				switch {
				case row.want == "" && (failure != nil || i.ID().String() != webID):
					t.Errorf("first %v: %v, is %v", first, failure, i.ID())
				case row.want != "" && (failure == nil || !strings.Contains(failure.Error(), row.want)):
					t.Errorf("first %v: %v, want %q", first, failure, row.want)
				case row.want != "" && !first && i.ID().String() != restID:
					t.Errorf("the last good one was not kept: %v", i.ID())
				}
				if failure != nil && bytes.Contains([]byte(failure.Error()), private[40:60]) {
					t.Errorf("%v tells the key", failure)
				}
				if _, err := i.ClientConfig(identity.ClientOptions{}); first && row.want != "" && !errors.Is(err, identity.ErrNoIdentity) {
					t.Errorf("without an identity: %v", err)
				}
			}
		})
	}
	t.Run("key for everybody", func(t *testing.T) {
		t.Parallel()
		f := files(t, chain, private, bundle)
		if err := os.Chmod(f.Key, 0o644); err != nil {
			t.Fatal(err)
		}
		i := identity.New(identity.Options{Now: func() time.Time { return now }})
		once(t, i, f)
		if err := i.Status().Failure; err == nil || !strings.Contains(err.Error(), "mode 0644") {
			t.Errorf("%v", err)
		}
	})
	t.Run("directory and loop", func(t *testing.T) {
		t.Parallel()
		f := files(t, chain, private, bundle)
		f.Certificate = t.TempDir()
		i := identity.New(identity.Options{Now: func() time.Time { return now }})
		once(t, i, f)
		if err := i.Status().Failure; err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%v", err)
		}
		f.Certificate = filepath.Join(t.TempDir(), "loop")
		if err := os.Symlink(f.Certificate, f.Certificate); err != nil {
			t.Fatal(err)
		}
		once(t, i, f)
		if err := i.Status().Failure; err == nil || !strings.Contains(err.Error(), "too many") {
			t.Errorf("%v", err)
		}
	})
}

func files(t *testing.T, chain, private, bundle []byte) identity.Files {
	t.Helper()
	dir := t.TempDir()
	f := identity.Files{Certificate: filepath.Join(dir, "svid.pem"), Key: filepath.Join(dir, "key.pem"), Bundle: filepath.Join(dir, "bundle.pem")}
	for name, text := range map[string][]byte{f.Certificate: chain, f.Key: private, f.Bundle: bundle} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// once has the files read one time.
func once(t *testing.T, i *identity.Identity, f identity.Files) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Run(ctx, i); err != nil {
		t.Error(err)
	}
}

// TestFilesReload: new files are taken within the time that they are looked at, broken ones are not (C-021, C-022, C-026).
func TestFilesReload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		authority, err := ca.New(domain, ca.Options{})
		if err != nil {
			t.Fatal(err)
		}
		issue := func(id string) (chain, private, bundle []byte) {
			parsed, _ := identity.ParseID(id)
			m, err := authority.Issue(parsed)
			if err != nil {
				t.Fatal(err)
			}
			chain, private = pemOf(t, m.SVID)
			for _, c := range m.Bundles[domain] {
				bundle = append(bundle, certPEM(c)...)
			}
			return chain, private, bundle
		}
		write := func(name string, text []byte) {
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
			// The file system's clock is not the test's.
			if err := os.Chtimes(name, time.Time{}, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		chain, private, bundle := issue(webID)
		f := files(t, chain, private, bundle)
		var j journal
		i := identity.New(identity.Options{Report: j.add})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- i.Run(ctx, f) }()
		if err := i.WaitReady(ctx); err != nil || i.ID().String() != webID {
			t.Fatal(err, i.ID())
		}
		tick := func(want string) {
			t.Helper()
			time.Sleep(501 * time.Millisecond)
			synctest.Wait()
			if got := j.kinds(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		tick("taken")
		tick("")
		chain2, private2, _ := issue(restID)
		write(f.Certificate, chain2) // half of a rotation
		tick("refused")
		tick("") // told once
		if i.ID().String() != webID {
			t.Errorf("is %v by half a rotation", i.ID())
		}
		write(f.Key, private2)
		tick("taken")
		if i.ID().String() != restID {
			t.Errorf("is %v", i.ID())
		}
		write(f.Bundle, nil)
		tick("refused")
		if _, err := i.ServerConfig(identity.ServerOptions{}); err != nil {
			t.Errorf("the last good one is gone: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestAging is row C-028: an SVID that nobody renews is told of at 50, 80 and 95 % of its life, and refused after it.
func TestAging(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		authority, err := ca.New(domain, ca.Options{Life: 100 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		id, _ := identity.ParseID(webID)
		m, err := authority.Issue(id)
		if err != nil {
			t.Fatal(err)
		}
		var j journal
		i := identity.New(identity.Options{Report: j.add})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- i.Run(ctx, still{m}) }()
		start := time.Now()
		at := func(after time.Duration, want ...int) {
			t.Helper()
			time.Sleep(time.Until(start.Add(after)))
			synctest.Wait()
			var got []int
			for _, e := range j.take() {
				got = append(got, e.Percent)
			}
			if len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
				t.Errorf("after %v: %v, want %v", after, got, want)
			}
		}
		at(0, 0)
		at(48 * time.Minute)
		at(51*time.Minute, 50)
		at(79 * time.Minute)
		at(81*time.Minute, 80)
		at(96*time.Minute, 95)
		if _, err := i.ClientConfig(identity.ClientOptions{}); err != nil {
			t.Errorf("before its end: %v", err)
		}
		at(101*time.Minute, 100)
		at(300 * time.Minute)
		if _, err := i.ClientConfig(identity.ClientOptions{}); !errors.Is(err, identity.ErrNoIdentity) || !strings.Contains(err.Error(), "expired") {
			t.Errorf("after its end: %v", err)
		}
		if _, err := i.ServerConfig(identity.ServerOptions{}); !errors.Is(err, identity.ErrNoIdentity) {
			t.Errorf("after its end: %v", err)
		}
		cancel()
		<-done
	})
}

// still is a source that knows one thing.
type still struct{ m *identity.Material }

func (s still) String() string                                     { return "the test" }
func (s still) Run(_ context.Context, to *identity.Identity) error { return to.Take(s.m) }

// TestClockJumps is row C-029: whatever the clock does, nothing panics, and nothing runs in circles.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var off time.Duration
		clock := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(off)
		}
		authority, err := ca.New(domain, ca.Options{Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		var j journal
		i := identity.New(identity.Options{Now: clock, Report: j.add})
		id, _ := identity.ParseID(webID)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- i.Run(ctx, authority.Source(id)) }()
		const year = 365 * 24 * time.Hour
		for _, jump := range []time.Duration{time.Hour, -time.Hour, 10 * year, -10 * year} {
			mu.Lock()
			off = jump
			mu.Unlock()
			time.Sleep(time.Hour)
			if n := len(j.take()); n > 70 { // one a minute, and what was due
				t.Errorf("%v: %d events within an hour", jump, n)
			}
		}
		cancel()
		<-done
	})
}

// TestAgain is rows C-024 and C-025: who was proved once is not proved for ever.
func TestAgain(t *testing.T) {
	t.Parallel()
	root, next := newMaker(t, nil), newMaker(t, nil)
	clock := now
	i := identity.New(identity.Options{Now: func() time.Time { return clock }})
	take := func(m *maker, believed ...*x509.Certificate) {
		t.Helper()
		err := i.Take(&identity.Material{SVID: m.svid(t, webID, nil), Bundles: map[string][]*x509.Certificate{domain: believed}})
		if err != nil {
			t.Fatal(err)
		}
	}
	take(root, root.cert)
	var p identity.Peer
	config, err := i.ServerConfig(identity.ServerOptions{Verified: func(q identity.Peer) { p = q }})
	if err != nil {
		t.Fatal(err)
	}
	if err, _ := handshake(t, config, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{root.svid(t, restID, nil)}}); err != nil {
		t.Fatal(err)
	}
	if !p.Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("expires %v", p.Expires)
	}
	again := func(want string) {
		t.Helper()
		q, err := i.Again(p)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if err == nil {
			p = q
		}
	}
	again("")
	good := p.Certificate.Signature
	p.Certificate.Signature = nil    // which nobody looks at while its authority is believed
	take(root, root.cert, next.cert) // overlap
	again("")
	take(next, root.cert, next.cert)
	again("")
	p.Certificate.Signature = good
	take(next, next.cert)
	again("unknown authority")
	take(next, root.cert, next.cert)
	again("")
	clock = now.Add(time.Hour + time.Second)
	again("expired")
}

// TestRevocation is row C-027: what is revoked is refused, and so is everything below an issuer without an up-to-date list.
func TestRevocation(t *testing.T) {
	t.Parallel()
	root := newMaker(t, nil)
	issuing := root.below(t, nil)
	own, bad, good := root.svid(t, webID, nil), root.svid(t, restID, nil), root.svid(t, restID, nil)
	below := issuing.svid(t, restID, nil, issuing)
	serial := func(c tls.Certificate) *big.Int {
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber
	}
	list := func(by *maker, next time.Time, serials ...*big.Int) []byte {
		tmpl := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: next}
		for _, s := range serials {
			tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: now})
		}
		der, err := x509.CreateRevocationList(rand.Reader, tmpl, by.cert, by.key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	}
	later := now.Add(time.Hour)
	for name, row := range map[string]struct {
		lists [][]byte
		peer  tls.Certificate
		want  string
	}{
		"sound":                 {[][]byte{list(root, later, serial(bad))}, good, ""},
		"revoked leaf":          {[][]byte{list(root, later, serial(bad))}, bad, "revoked"},
		"revoked issuing":       {[][]byte{list(root, later, issuing.cert.SerialNumber), list(issuing, later)}, below, "revoked"},
		"both lists":            {[][]byte{list(root, later), list(issuing, later)}, below, ""},
		"no list of the issuer": {[][]byte{list(root, later)}, below, "no revocation list of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			revoked, err := identity.ParseRevocations(bytes.Join(row.lists, nil))
			if err != nil {
				t.Fatal(err)
			}
			self := newIdentity(t, &identity.Material{SVID: own, Bundles: bundles(map[string]*maker{domain: root}), Revoked: revoked})
			meet(t, self, row.peer, map[string]string{"": row.want})
		})
	}
	t.Run("while connected", func(t *testing.T) {
		t.Parallel()
		clock := now
		i := identity.New(identity.Options{Now: func() time.Time { return clock }})
		take := func(lists ...[]byte) {
			t.Helper()
			revoked, err := identity.ParseRevocations(bytes.Join(lists, nil))
			if err == nil {
				err = i.Take(&identity.Material{SVID: own, Bundles: bundles(map[string]*maker{domain: root}), Revoked: revoked})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		take(list(root, now.Add(time.Minute)), list(root, now.Add(10*time.Minute)))
		var p identity.Peer
		config, err := i.ServerConfig(identity.ServerOptions{Verified: func(q identity.Peer) { p = q }})
		if err != nil {
			t.Fatal(err)
		}
		if err, _ := handshake(t, config, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{bad}}); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			at   time.Duration
			want string
		}{{0, ""}, {2 * time.Minute, ""}, {11 * time.Minute, "up to date"}, {0, ""}} {
			clock = now.Add(step.at)
			if _, err := i.Again(p); (err == nil) != (step.want == "") || err != nil && !strings.Contains(err.Error(), step.want) {
				t.Errorf("after %v: %v, want %q", step.at, err, step.want)
			}
		}
		take(list(root, later, serial(bad)))
		if _, err := i.Again(p); err == nil || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("%v", err)
		}
	})
	t.Run("of another's name", func(t *testing.T) {
		t.Parallel()
		named := newMaker(t, func(c *x509.Certificate) { c.Subject.CommonName = "another" })
		lists, err := identity.ParseRevocations(list(named, later))
		if err != nil {
			t.Fatal(err)
		}
		i := identity.New(identity.Options{Now: func() time.Time { return now }})
		err = i.Take(&identity.Material{SVID: own, Bundles: bundles(map[string]*maker{domain: root}), Revoked: lists})
		if err == nil || !strings.Contains(err.Error(), "no revocation list of") {
			t.Errorf("%v", err)
		}
	})
	t.Run("out of date", func(t *testing.T) {
		t.Parallel()
		stale, err := identity.ParseRevocations(list(root, now.Add(-time.Second)))
		if err != nil {
			t.Fatal(err)
		}
		i := identity.New(identity.Options{Now: func() time.Time { return now }})
		err = i.Take(&identity.Material{SVID: own, Bundles: bundles(map[string]*maker{domain: root}), Revoked: stale})
		if err == nil || !strings.Contains(err.Error(), "up to date") {
			t.Errorf("%v", err)
		}
	})
}
