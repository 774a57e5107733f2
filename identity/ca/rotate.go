package ca

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/heddlemesh/mesh/identity"
)

// The rotation of a root in steps between which every workload can get its new bundle and SVID: AddRoot has a new one
// believed, RotateIssuing has it sign, and DropRoots has only it believed. Rotate takes them when they are due.

// AddRoot makes a new root and has it believed beside the others. It signs from the next RotateIssuing on.
func (a *Authority) AddRoot() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.newRoot(); err != nil {
		return err
	}
	a.tell()
	return nil
}

// RotateIssuing makes a new issuing authority under the newest root.
func (a *Authority) RotateIssuing() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.newIssuing(); err != nil {
		return err
	}
	a.tell()
	return nil
}

// DropRoots has none but the newest root believed any more.
func (a *Authority) DropRoots() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dropRoots()
}

func (a *Authority) dropRoots() error {
	left := []*x509.Certificate{a.root.cert}
	if a.keeper != nil {
		if err := a.keeper.dropRoots(left); err != nil {
			return err
		}
	}
	a.trusted = left
	a.tell()
	return nil
}

// Rotate takes the steps of a rotation that are due by now, so that nobody has to think of them:
//
//   - half the life of the root is over: a new one is believed beside it;
//   - it has been believed for as long as an SVID lasts, so that every workload has heard of it: it signs a new issuing
//     authority;
//   - half the life of the issuing authority is over: a new one takes its place;
//   - what an older root stood for has expired: it is no longer believed.
//
// An authority that was not asked for so long that it has expired begins anew, which is a rotation without overlap.
func (a *Authority) Rotate() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.o.Now()
	over := func(c *x509.Certificate) bool { return now.After(c.NotAfter) }
	if now.After(middle(a.root.cert)) {
		if err := a.newRoot(); err != nil {
			return fmt.Errorf("rotate root: %w", err)
		}
		a.tell()
	}
	moved := a.issuing.cert.CheckSignatureFrom(a.root.cert) == nil
	known := now.After(settled(a.root.cert, a.o.Life))
	if over(a.issuing.cert) || !moved && known || moved && now.After(middle(a.issuing.cert)) {
		if err := a.newIssuing(); err != nil {
			return fmt.Errorf("rotate issuing authority: %w", err)
		}
		moved = true
		a.tell()
	}
	if len(a.trusted) > 1 && moved && now.After(settled(a.issuing.cert, a.o.Life)) || slices.ContainsFunc(a.trusted, over) && moved {
		return a.dropRoots()
	}
	return nil
}

// middle is when half of a certificate's life is over.
func middle(c *x509.Certificate) time.Time { return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 2) }

// settled is when every SVID has ended that was signed before the certificate was made, and everybody has heard of it
// who had to renew his own in that time.
func settled(c *x509.Certificate, life time.Duration) time.Time {
	return c.NotBefore.Add(backdated + life)
}

// Federate has workloads believe these bundles for other trust domains too, in the place of those before.
func (a *Authority) Federate(bundles map[string][]*x509.Certificate) error {
	for domain, bundle := range bundles {
		if err := identity.CheckTrustDomain(domain); err != nil {
			return fmt.Errorf("federate with %q: the name %w", domain, err)
		}
		switch {
		case domain == a.domain:
			return fmt.Errorf("federate with %s: it is the own trust domain", domain)
		case len(bundle) == 0:
			return fmt.Errorf("federate with %s: its bundle is empty", domain)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if maps.EqualFunc(a.federated, bundles, func(x, y []*x509.Certificate) bool {
		return slices.EqualFunc(x, y, (*x509.Certificate).Equal)
	}) {
		return nil
	}
	a.federated = maps.Clone(bundles)
	a.tell()
	return nil
}

// bundles gives what a workload is to believe, by trust domain.
func (a *Authority) bundles() map[string][]*x509.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[string][]*x509.Certificate{a.domain: slices.Clone(a.trusted)}
	maps.Copy(all, a.federated)
	return all
}

// Issuing gives the certificate of the authority that signs SVIDs.
func (a *Authority) Issuing() *x509.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.issuing.cert
}

func (a *Authority) tell() {
	close(a.changed)
	a.changed = make(chan struct{})
}
