package jwt

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/resilience"
)

const (
	refreshEvery = 5 * time.Minute  // Envoy's (remote_jwks.cache_duration), a tenth more or less
	askAgain     = 30 * time.Second // between fetches for tokens that are signed with a key that is not there
	maxStale     = time.Hour        // how long keys count that could not be fetched again
	afterFailure = time.Second      // and more: see fetchBackoff
)

// fetchBackoff comes on top of afterFailure.
var fetchBackoff = resilience.Backoff{Base: time.Second, Max: time.Minute}

// A FetchEvent is something that happened to a source.
type FetchEvent struct {
	Source Source
	Keys   int       // that there are now
	Until  time.Time // as long as they count without a further fetch; zero where there are none
	Err    error     // why they could not be fetched, nil where they were
}

// A SourceStatus says how one source fares.
type SourceStatus struct {
	URL     string    `json:"url"`
	Keys    int       `json:"keys"`              // that count
	Fetched time.Time `json:"fetched,omitzero"`  // the last time that they were
	Until   time.Time `json:"until,omitzero"`    // as long as they count without a further fetch
	Failure string    `json:"failure,omitempty"` // why the last fetch failed, "" where it did not
}

// A held is keys that were fetched, and how long they count.
type held struct {
	keys    *KeySet
	fetched time.Time
	until   time.Time
}

// A remote is one source with its keys.
type remote struct {
	source   Source
	held     atomic.Pointer[held] // nil before the first keys
	changes  atomic.Uint64        // of the keys
	missing  chan struct{}        // has one where a token is signed with a key that is not there
	answered chan struct{}        // closed by once after the first fetch, good or bad
	once     sync.Once

	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	failure error // of the last fetch; guarded by mu
}

func newRemote(s Source) *remote {
	return &remote{source: s, missing: make(chan struct{}, 1), answered: make(chan struct{}), done: make(chan struct{})}
}

// keys gives those that count at this time, nil for none.
func (r *remote) keys(now time.Time) *KeySet {
	if h := r.held.Load(); h != nil && now.Before(h.until) {
		return h.keys
	}
	return nil
}

// miss tells that a token is signed with a key that is not there. It does not wait.
func (r *remote) miss() {
	select {
	case r.missing <- struct{}{}:
	default:
	}
}

func (r *remote) start(f *Fetcher) {
	ctx, cancel := context.WithCancel(f.ctx)
	r.cancel = cancel
	go func() {
		defer close(r.done)
		r.run(ctx, f)
	}()
}

func (r *remote) stop() {
	r.cancel()
	<-r.done
}

// run fetches until ctx ends.
func (r *remote) run(ctx context.Context, f *Fetcher) {
	for failures := 0; ; {
		keys, err := fetch(ctx, f.client, r.source)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			r.failed(f, err)
			failures++
			if !pause(ctx, afterFailure+fetchBackoff.Wait(failures, f.rand()), nil) {
				return
			}
			continue
		}
		r.take(f, keys)
		failures = 0
		rest := refreshEvery - refreshEvery/10 + time.Duration(f.rand()%uint64(refreshEvery/5)) - askAgain
		if !pause(ctx, askAgain, nil) || !pause(ctx, rest, r.missing) {
			return
		}
	}
}

// take keeps what was fetched. Where it is what there was, tokens that are known stay so.
func (r *remote) take(f *Fetcher, keys *KeySet) {
	now := time.Now()
	h := &held{keys: keys, fetched: now, until: now.Add(maxStale)}
	old := r.held.Load()
	same := old != nil && old.keys.Same(keys)
	if same {
		h.keys = old.keys
	}
	r.held.Store(h)
	if !same {
		r.changes.Add(1)
	}
	if recovered := r.setFailure(nil); recovered || !same {
		f.report(FetchEvent{Source: r.source, Keys: keys.Len(), Until: h.until})
	}
	r.answer()
}

// failed keeps what there is as long as it counts.
func (r *remote) failed(f *Fetcher, err error) {
	e := FetchEvent{Source: r.source, Err: err}
	h := r.held.Load()
	ended := h != nil && !time.Now().Before(h.until)
	switch {
	case ended:
		r.held.Store(nil)
		r.changes.Add(1)
	case h != nil:
		e.Keys, e.Until = h.keys.Len(), h.until
	}
	if again := r.setFailure(err); !again || ended {
		f.report(e)
	}
	r.answer()
}

// setFailure notes how the last fetch ended, and reports whether the one before had failed.
func (r *remote) setFailure(err error) (before bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.failure != nil
	r.failure = err
	return before
}

// answer tells those that wait for the first fetch.
func (r *remote) answer() { r.once.Do(func() { close(r.answered) }) }

func (r *remote) status() SourceStatus {
	s := SourceStatus{URL: r.source.String()}
	if h := r.held.Load(); h != nil {
		s.Fetched, s.Until = h.fetched, h.until
		if time.Now().Before(h.until) {
			s.Keys = h.keys.Len()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure != nil {
		s.Failure = r.failure.Error()
	}
	return s
}

// pause waits, or until something is wanted; it reports false where ctx has ended.
func pause(ctx context.Context, d time.Duration, wanted <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-wanted:
	}
	return true
}
