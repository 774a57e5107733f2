package discovery

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A Resolver looks names up. *net.Resolver is one. LookupNetIP must return when ctx ends, and is called
// concurrently, for one name at a time.
type Resolver interface {
	// LookupNetIP gives the addresses of host; network is "ip", "ip4" or "ip6", as for net.Resolver.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// A TimedResolver is a Resolver that knows how long its answers are good.
type TimedResolver interface {
	Resolver
	// LookupFor is LookupNetIP that also says for how long the addresses are good: the shortest TTL of what was answered, 0
	// where that is not known.
	LookupFor(ctx context.Context, network, host string) ([]netip.Addr, time.Duration, error)
}

// The times and bounds of DNS.
const (
	resolveEvery   = 5 * time.Second
	resolveSoonest = time.Second     // whatever a TTL says, as with Envoy (dns_min_refresh_rate)
	resolveTimeout = 5 * time.Second // of one lookup
	mostAddresses  = 1024            // of one name
)

// DNSOptions changes how names are looked up.
type DNSOptions struct {
	// Every is the time from an answer whose TTL is 0 or not known, or from a failure, to the next question, give or take 20 %, so
	// that programs that were started together do not ask together. Default: 5 s.
	Every time.Duration
	// Network is handed to the resolver: "ip4" or "ip6" where only one of them gets anywhere. Default: "ip".
	Network string
	// Rand gives 64 random bits; it must be safe for concurrent use. Default: math/rand/v2's.
	Rand func() uint64
}

// A DNS stands before another Publisher and puts, in the sets it passes on, the addresses of a name in place
// of each endpoint that has Resolve set: every address an endpoint, with the labels, weight and all else of the
// one it stands for (Istio's ServiceEntry.resolution DNS, Envoy's STRICT_DNS). IPv4-mapped addresses count as
// IPv4; unspecified and multicast ones, which name no endpoint, and all beyond 1,024 are left out.
//
// A name is looked up at once and then whenever its addresses are no longer good, by one lookup at a time for all keys that have
// it, until no key has it: when the TTL is over, to the second, of a TimedResolver's answer, else every 5 s. An answer that fails, takes longer than 5 s or is empty changes nothing: the last good one goes
// on. A key is first published when each of its names has been answered or has failed once, as Envoy has it:
// without endpoints, where all failed. Until then it is not published, or keeps what it had. Only changes are
// published.
//
// It is safe for concurrent use, as long as Publish is called for one key at a time.
type DNS struct {
	next     Publisher
	resolver Resolver
	o        DNSOptions

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex // never held during a lookup or a publication
	idle  *sync.Cond // some key's deliver has ended
	keys  map[Key]*dnsKey
	names map[string]*dnsName
}

// NewDNS makes a DNS that publishes to next. Close ends it.
func NewDNS(next Publisher, r Resolver, o DNSOptions) *DNS {
	if o.Every <= 0 {
		o.Every = resolveEvery
	}
	if o.Network == "" {
		o.Network = "ip"
	}
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &DNS{next: next, resolver: r, o: o, ctx: ctx, cancel: cancel,
		keys: make(map[Key]*dnsKey), names: make(map[string]*dnsName)}
	d.idle = sync.NewCond(&d.mu)
	return d
}

// Publish implements Publisher. A set without names to resolve is passed on as it is.
func (d *DNS) Publish(key Key, set *Set) {
	hosts := hostsOf(set)
	d.mu.Lock()
	k := d.keys[key]
	if k == nil && len(hosts) == 0 {
		d.mu.Unlock()
		d.next.Publish(key, set)
		return
	}
	if k == nil {
		k = new(dnsKey)
		d.keys[key] = k
	}
	old := k.names
	k.set, k.names = set, nil
	for _, host := range hosts {
		k.names = append(k.names, d.use(host, key))
	}
	for _, n := range old {
		if !slices.Contains(k.names, n) {
			d.drop(n, key)
		}
	}
	d.mu.Unlock()
	d.deliver(key, k)
	// Where an answer is being delivered meanwhile, that goroutine publishes for us: wait until it has.
	d.mu.Lock()
	for k.busy {
		d.idle.Wait()
	}
	d.mu.Unlock()
}

// Close ends all lookups and waits for their goroutines. What was published stays; sets published after it
// are passed on if they have nothing to resolve.
func (d *DNS) Close() {
	d.mu.Lock()
	d.cancel()
	d.mu.Unlock()
	d.running.Wait()
}
