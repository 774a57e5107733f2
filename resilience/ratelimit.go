package resilience

import (
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/heddlemesh/mesh/call"
)

// A RateLimit is a token bucket: it holds Burst requests at most and is filled, evenly, with Requests in every
// Per (Envoy, local rate limit filter: max_tokens, tokens_per_fill, fill_interval; there it is filled in
// steps). With By there is a bucket for each value of what it lists. It is not changed once in use.
type RateLimit struct {
	Requests int
	Per      time.Duration
	Burst    int
	By       []LimitKey
	MaxKeys  int // buckets at most; with By it is at least 1
}

// A LimitKeyKind is a part of a request by which requests are told apart.
type LimitKeyKind uint8

const (
	LimitByHeader LimitKeyKind = iota // all values of a header field
	LimitBySource                     // the address of who sent it: an IPv4 address, the /64 of an IPv6 address
	LimitByRoute                      // the name of the rule that took it
	LimitByPeer                       // the identity of who sent it, which mutual TLS has proved
	LimitByClaim                      // the values of a claim of its token, and who has issued that
)

// A LimitKey is one part of what requests are told apart by.
type LimitKey struct {
	Kind   LimitKeyKind
	Header *call.Name // for LimitByHeader
	Claim  []string   // for LimitByClaim: its keys from the outermost
}

// Known is what is known of a request beside what it says itself.
type Known struct {
	Route string // the name of the rule that took it, "" for none
	Peer  string // the identity of who sent it, "" for nobody's
	Token Claims // that was verified, nil for none
}

// Claims are what a verified token says. Nothing in it changes.
type Claims interface {
	Issuer() string
	// Values gives a claim's values by its keys from the outermost: texts, whole numbers and truths, several of a list.
	Values(keys []string) []string
}

// String says for people what the requests are told apart by.
func (k LimitKey) String() string {
	switch k.Kind {
	case LimitByHeader:
		return "header " + k.Header.Lower()
	case LimitBySource:
		return "source address"
	case LimitByRoute:
		return "route"
	case LimitByPeer:
		return "peer identity"
	case LimitByClaim:
		return "claim " + strings.Join(k.Claim, ".")
	}
	return ""
}

// ByClaim reports a limit that tells requests apart by their tokens.
func (r *RateLimit) ByClaim() bool {
	return slices.ContainsFunc(r.By, func(k LimitKey) bool { return k.Kind == LimitByClaim })
}

// Same reports whether both are the same limit, so that what was counted for one counts for the other.
func (r *RateLimit) Same(o *RateLimit) bool {
	return r.Requests == o.Requests && r.Per == o.Per && r.Burst == o.Burst && r.MaxKeys == o.MaxKeys &&
		slices.EqualFunc(r.By, o.By, func(a, b LimitKey) bool {
			return a.Kind == b.Kind && (a.Header == b.Header || a.Header.Lower() == b.Header.Lower()) && slices.Equal(a.Claim, b.Claim)
		})
}

// A Limiter counts the requests of one RateLimit. It is safe for concurrent use, and needs no more memory than
// MaxKeys buckets, whatever requests say.
//
// Where there are MaxKeys buckets, a further key takes the place of one that is full again, which loses nothing:
// a new one would be as full. Where none is found, such keys share one bucket, of the same size, until
// there is. So no number of invented keys takes a known key's count away, its bucket or its memory.
type Limiter struct {
	def  RateLimit
	rate rate.Limit
	rest *rate.Limiter // of a limit without keys, and of the keys that have no bucket of their own
	seed maphash.Seed

	mu      sync.Mutex // guards what follows
	at      map[uint64]int
	buckets []keyBucket
	hand    int // where to look next for a bucket that is full
}

type keyBucket struct {
	key uint64 // a hash with a random seed: what requests say is not kept
	*rate.Limiter
}

// maxLook bounds how many buckets are looked at for a new key.
const maxLook = 16

// NewLimiter makes a limiter with full buckets.
func NewLimiter(r RateLimit) *Limiter {
	l := &Limiter{def: r, rate: rate.Limit(float64(r.Requests) / r.Per.Seconds())}
	l.rest = rate.NewLimiter(l.rate, r.Burst)
	if len(r.By) > 0 {
		l.seed = maphash.MakeSeed()
		l.at = make(map[uint64]int)
	}
	return l
}

// Limit gives what the limiter was made of. It must not be changed.
func (l *Limiter) Limit() *RateLimit { return &l.def }

// Keys says how many buckets there are.
func (l *Limiter) Keys() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.buckets)
}

// A Taken is the answer of a limiter about one request.
type Taken struct {
	OK     bool // there was a token
	Burst  int  // what the bucket holds
	bucket *rate.Limiter
	rate   rate.Limit
	now    time.Time
}

// Take takes a token for the request from its bucket. now is the time since some fixed moment, the same for all calls.
func (l *Limiter) Take(now time.Duration, q *call.Request, known Known) Taken {
	t := Taken{Burst: l.def.Burst, rate: l.rate, now: time.Unix(0, 0).Add(now), bucket: l.rest}
	if len(l.def.By) == 0 {
		t.OK = l.rest.AllowN(t.now, 1)
		return t
	}
	key := l.hash(q, &known)
	l.mu.Lock()
	t.bucket = l.bucketOf(key, t.now)
	t.OK = t.bucket.AllowN(t.now, 1)
	l.mu.Unlock()
	return t
}

// Remaining is how many requests the bucket would let through at once.
func (t *Taken) Remaining() int {
	return int(min(max(t.bucket.TokensAt(t.now), 0), float64(t.Burst)))
}

// Reset is the time until the bucket is full.
func (t *Taken) Reset() time.Duration { return t.until(float64(t.Burst)) }

// RetryAfter is the time until the bucket has a token.
func (t *Taken) RetryAfter() time.Duration { return t.until(1) }

func (t *Taken) until(tokens float64) time.Duration {
	missing := tokens - t.bucket.TokensAt(t.now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(min(math.Ceil(missing/float64(t.rate)*float64(time.Second)), math.MaxInt64/2))
}

// bucketOf finds the bucket of a key. l.mu is held.
func (l *Limiter) bucketOf(key uint64, now time.Time) *rate.Limiter {
	if i, ok := l.at[key]; ok {
		return l.buckets[i].Limiter
	}
	n := len(l.buckets)
	if n < l.def.MaxKeys {
		b := keyBucket{key, rate.NewLimiter(l.rate, l.def.Burst)}
		l.buckets = append(l.buckets, b)
		l.at[key] = n
		return b.Limiter
	}
	for range min(maxLook, n) {
		i := l.hand
		l.hand = (l.hand + 1) % n
		if b := &l.buckets[i]; b.TokensAt(now) >= float64(l.def.Burst) {
			delete(l.at, b.key)
			b.key, l.at[key] = key, i
			return b.Limiter
		}
	}
	return l.rest
}

// hash puts the parts of a key together. Where a request lacks one, it is told apart from those that have it: leaving
// a header away, or a token, leads to the bucket of all who do.
func (l *Limiter) hash(q *call.Request, known *Known) uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	for _, k := range l.def.By {
		switch k.Kind {
		case LimitByHeader:
			for i := 0; q.Headers != nil; i++ {
				v, ok := q.Headers.Value(k.Header, i)
				if !ok {
					break
				}
				write(&h, v)
			}
		case LimitBySource:
			from := source(q.Source)
			_, _ = h.Write(from[:])
		case LimitByRoute:
			write(&h, known.Route)
		case LimitByPeer:
			write(&h, known.Peer)
		case LimitByClaim:
			writeClaim(&h, known.Token, k.Claim)
		}
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

// writeClaim adds the values of a claim. What two issuers call the same is not (RFC 7519 §4.1.2).
func writeClaim(h *maphash.Hash, token Claims, keys []string) {
	if token == nil {
		return
	}
	values := token.Values(keys)
	if len(values) == 0 {
		return
	}
	write(h, token.Issuer())
	for _, v := range values {
		write(h, v)
	}
}

// write adds a value that ends where it ends, whatever is in it.
func write(h *maphash.Hash, v string) {
	_ = h.WriteByte(1)
	maphash.WriteComparable(h, len(v))
	_, _ = h.WriteString(v)
}

// source is what of an address tells one sender from another. Of IPv6 that is the /64, of which a single machine
// commonly has all addresses (RFC 4291 §2.5.4).
func source(a netip.Addr) [16]byte {
	b := a.Unmap().As16()
	if a.Is6() && !a.Is4In6() {
		clear(b[8:])
	}
	return b
}
