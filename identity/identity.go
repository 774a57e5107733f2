package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A Source knows the program's SVID and the bundles, and tells when they change. Run gives what it knows to the
// identity (Identity.Take), says what it fails at (Identity.Failed), and returns when ctx ends or nothing more will
// come. String says for people where it looks: "files svid.pem, key.pem and bundle.pem".
type Source interface {
	Run(ctx context.Context, to *Identity) error
	String() string
}

// Options is what an Identity is made of.
type Options struct {
	// Now gives the time that certificates are held against, without any allowance. Default: time.Now.
	Now func() time.Time
	// Report hears what happens to the identity, one event at a time. It must not ask the identity about it. Default:
	// nobody hears.
	Report func(Event)
}

// An Identity is who the program is and whom it believes. It keeps what it took last until something sound replaces
// it. It is safe for concurrent use.
type Identity struct {
	now    func() time.Time
	report func(Event)

	held atomic.Pointer[held]

	mu      sync.Mutex // guards what follows
	changed chan struct{}
	failure error // why the newest material was not taken, nil where it was
}

// New makes an identity that knows nothing yet: its configurations refuse every handshake.
func New(o Options) *Identity {
	i := &Identity{now: o.Now, report: o.Report, changed: make(chan struct{})}
	if i.now == nil {
		i.now = time.Now
	}
	if i.report == nil {
		i.report = func(Event) {}
	}
	return i
}

// Run has the source feed the identity, and tells when the SVID grows old (see EventAging). It returns when ctx has ended or the
// source fails for good, with the source's error.
func (i *Identity) Run(ctx context.Context, s Source) error {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		i.watch(ctx)
	}()
	err := s.Run(ctx, i)
	if err != nil && ctx.Err() == nil {
		i.Failed(err)
	} else if err == nil {
		<-ctx.Done() // nothing more comes, and what is there still grows old
	}
	cancel()
	<-watched
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// Take puts sound material in the place of what is held. Else it keeps what it has, and says what is wrong.
func (i *Identity) Take(m *Material) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	old := i.held.Load()
	h, err := hold(m, i.now())
	if err != nil {
		i.fail(err)
		return err
	}
	if old != nil {
		h.trust = old.trust
		if !old.from.sameTrust(m) {
			h.trust++
		}
	}
	i.held.Store(h)
	i.failure = nil
	close(i.changed)
	i.changed = make(chan struct{})
	i.report(Event{Kind: EventTaken, ID: h.id, Expires: h.own.Leaf.NotAfter})
	return nil
}

// Failed notes that a source could not get material. What is held stays.
func (i *Identity) Failed(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fail(err)
}

// fail reports a failure once, however often the source comes upon it. i.mu is held.
func (i *Identity) fail(err error) {
	if i.failure != nil && i.failure.Error() == err.Error() {
		return
	}
	i.failure = err
	e := Event{Kind: EventRefused, Err: err}
	if h := i.held.Load(); h != nil {
		e.ID, e.Expires = h.id, h.own.Leaf.NotAfter
	}
	i.report(e)
}

// WaitReady waits for the first SVID. Where ctx ends before, the error says what is missing and why.
func (i *Identity) WaitReady(ctx context.Context) error {
	for i.held.Load() == nil {
		i.mu.Lock()
		changed := i.changed
		i.mu.Unlock()
		if i.held.Load() != nil {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if failure := i.Status().Failure; failure != nil {
				return fmt.Errorf("%w: %w", ctx.Err(), failure)
			}
			return ctx.Err()
		}
	}
	return nil
}

// Changed gives a channel that is closed when other material is taken than what is held now.
func (i *Identity) Changed() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.changed
}

// ErrNoIdentity is why a handshake is not even begun: there is no SVID, not yet or not any more.
var ErrNoIdentity = errors.New("the program has no identity to show")

// usable gives what is held, where its SVID can be shown.
func (i *Identity) usable() (*held, error) {
	h := i.held.Load()
	switch {
	case h == nil:
		return nil, ErrNoIdentity
	case i.now().After(h.own.Leaf.NotAfter):
		return nil, fmt.Errorf("%w: the SVID of %s expired at %s", ErrNoIdentity, h.id, h.own.Leaf.NotAfter.Format(time.RFC3339))
	}
	return h, nil
}

// ID says who the program is, nobody before the first SVID.
func (i *Identity) ID() ID {
	if h := i.held.Load(); h != nil {
		return h.id
	}
	return ID{}
}

// Again proves a peer once more, with what is believed by now: an authority may be gone, a certificate revoked or
// expired. It is cheap where nothing has changed, and checks no signature of its chain anew while the authority at the
// end of that is believed. It gives the peer to ask about the next time.
func (i *Identity) Again(p Peer) (Peer, error) {
	h, now := i.held.Load(), i.now()
	switch {
	case h == nil:
		return Peer{}, ErrNoIdentity
	case !p.Expires.IsZero() && now.After(p.Expires):
		return Peer{}, fmt.Errorf("certificate of %s: expired at %s", p.ID, p.Expires.Format(time.RFC3339))
	case p.trust == h.trust && (p.vouched.IsZero() || !now.After(p.vouched)):
		return p, nil
	}
	return h.again(p, now)
}

// Status is what an identity is at one moment, for people and admin pages. It has nothing secret.
type Status struct {
	ID      ID                               `json:"id"`
	Chain   []*x509.Certificate              `json:"-"`
	Expires time.Time                        `json:"expires"`
	Bundles map[string]([]*x509.Certificate) `json:"-"`
	// Failure is why newer material was not taken; nil where it was.
	Failure error `json:"-"`
}

// Status says what is held. Its Chain is empty before the first SVID.
func (i *Identity) Status() Status {
	i.mu.Lock()
	failure := i.failure
	i.mu.Unlock()
	s := Status{Failure: failure}
	if h := i.held.Load(); h != nil {
		s.ID, s.Expires, s.Bundles = h.id, h.own.Leaf.NotAfter, h.from.Bundles
		s.Chain, _ = parseChain(h.own.Certificate)
	}
	return s
}
