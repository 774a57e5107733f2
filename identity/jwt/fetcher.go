package jwt

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/heddlemesh/mesh/internal/guard"
)

// firstFetch is how long a configuration with new sources waits for their first answers.
const firstFetch = 5 * time.Second

// FetcherOptions is what a Fetcher is made of.
type FetcherOptions struct {
	// Dial opens connections. What it has connected to is looked at: metadata services and what is link-local are
	// refused. Default: a net.Dialer that sends such addresses nothing.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Loopback lets sources be on this machine. Default: they are refused.
	Loopback bool
	// TLS is the configuration of https; of its NextProtos nothing is used. Default: the system's authorities.
	TLS *tls.Config
	// Rand gives 64 random bits; it must be safe for concurrent use. Default: math/rand/v2's.
	Rand func() uint64
	// Report hears when keys change, when they cannot be fetched and when they are again. It is called concurrently.
	// Default: nobody hears.
	Report func(FetchEvent)
}

// A Fetcher fetches the keys of remote sources and keeps them fresh, each source in a goroutine of its own: every 5 minutes,
// after failures in 1 s to about a minute, and where a token is signed with a key that is not there, once in 30 s at most.
// What was fetched last counts for an hour; from then on there are no keys, and no token is taken. It asks no proxy. It is
// safe for concurrent use.
type Fetcher struct {
	client *http.Client
	rand   func() uint64
	report func(FetchEvent)

	ctx context.Context // ends with Close
	end context.CancelFunc

	mu   sync.Mutex // guards what follows
	live map[Source]*remote
}

// NewFetcher makes a fetcher that knows no source. Close ends it.
func NewFetcher(o FetcherOptions) *Fetcher {
	g := guard.New(o.Dial)
	if !o.Loopback {
		g.RefuseLocal()
	}
	secured := o.TLS.Clone()
	if secured != nil {
		secured.NextProtos = nil
	}
	f := &Fetcher{rand: o.Rand, report: o.Report, live: make(map[Source]*remote), client: &http.Client{CheckRedirect: redirect,
		Transport: &http.Transport{
			DialContext: g.DialContext, TLSClientConfig: secured, MaxResponseHeaderBytes: maxHeader,
			DisableKeepAlives: true, // an address is looked at each time
			// nothing that is small on the wire only
			DisableCompression: true,
		}}}
	if f.rand == nil {
		f.rand = rand.Uint64
	}
	if f.report == nil {
		f.report = func(FetchEvent) {}
	}
	f.ctx, f.end = context.WithCancel(context.Background())
	return f
}

// Follow begins to fetch the keys of the set's rules, and gives the set that has them. It waits for the first answer of each
// new source, good or bad, for 5 s at most and while ctx lasts: sources that fail hold nobody up, and until they have
// answered their tokens are refused. A set without sources it gives back. After Close it fetches nothing.
func (f *Fetcher) Follow(ctx context.Context, s *Set) *Set {
	if s == nil || !slices.ContainsFunc(s.rules, func(r Rule) bool { return r.Source != Source{} }) {
		return s
	}
	bound := New(s.rules)
	var fresh []*remote
	f.mu.Lock()
	for i := range bound.rules {
		r := &bound.rules[i]
		if r.Source == (Source{}) {
			continue
		}
		m := f.live[r.Source]
		if m == nil {
			m = newRemote(r.Source)
			if f.ctx.Err() == nil {
				f.live[r.Source] = m
				fresh = append(fresh, m)
				m.start(f)
			}
		}
		r.remote = m
	}
	f.mu.Unlock()
	wait := time.NewTimer(firstFetch)
	defer wait.Stop()
	for _, m := range fresh {
		select {
		case <-m.answered:
		case <-ctx.Done():
			return bound
		case <-wait.C:
			return bound
		}
	}
	return bound
}

// Keep ends what is fetched for other sets than s, which is live.
func (f *Fetcher) Keep(s *Set) {
	f.mu.Lock()
	var ended []*remote
	for source, m := range f.live {
		if s == nil || !slices.ContainsFunc(s.rules, func(r Rule) bool { return r.Source == source }) {
			ended = append(ended, m)
			delete(f.live, source)
		}
	}
	f.mu.Unlock()
	for _, m := range ended {
		m.stop()
	}
}

// Status says how the sources fare, in the order of their URLs.
func (f *Fetcher) Status() []SourceStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]SourceStatus, 0, len(f.live))
	for _, m := range f.live {
		all = append(all, m.status())
	}
	sort.Slice(all, func(i, j int) bool { return all[i].URL < all[j].URL }) // not slices.SortFunc: 8 KB more of every program
	return all
}

// Close ends all fetching and waits until it has ended. What was fetched stays where it is.
func (f *Fetcher) Close() {
	f.end()
	f.Keep(nil)
	f.client.CloseIdleConnections()
}
