package ca

import (
	"context"
	"crypto/x509"
	"math/rand/v2"
	"time"

	"github.com/heddlemesh/mesh/identity"
)

// Source gives an identity.Source that has the authority issue SVIDs of the ID to this very process, for tests and
// programs that are their own authority: a new one at about half the life of the last, and with each change of the
// authority.
func (a *Authority) Source(id identity.ID) identity.Source { return &source{a, id} }

type source struct {
	authority *Authority
	id        identity.ID
}

func (s *source) String() string { return "the development CA in this process, for " + s.id.String() }

// Run implements identity.Source.
func (s *source) Run(ctx context.Context, to *identity.Identity) error {
	pause := minRetry
	for {
		changed := s.authority.Changed()
		wait := pause
		m, err := s.authority.Issue(s.id)
		if err != nil {
			to.Failed(err)
		} else if err = to.Take(m); err == nil {
			wait = s.authority.renewal(m.SVID.Leaf)
		}
		if pause = minRetry; err != nil {
			pause = min(2*wait, maxRetry)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-changed:
			t.Stop()
		case <-t.C:
		}
	}
}

// What fails is tried again after these waits, doubling.
const (
	minRetry = time.Second
	maxRetry = time.Minute
)

// minRenewal bounds how often SVIDs are renewed, be their lives ever so short.
const minRenewal = 10 * time.Millisecond

// renewal is how long it is until an SVID that was just issued is to be replaced: 40 to 50 % of its life, so that
// workloads which started together do not come back together.
func (a *Authority) renewal(leaf *x509.Certificate) time.Duration {
	life := leaf.NotAfter.Sub(a.o.Now())
	return max(life*2/5+time.Duration(float64(life)/10*rand.Float64()), minRenewal)
}
