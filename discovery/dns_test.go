package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/discovery"
)

// A nameServer answers from memory and notes when it was asked.
type nameServer struct {
	mu     sync.Mutex
	zone   map[string]any // addresses as text, an error, or a func(context.Context) ([]netip.Addr, error)
	asked  map[string][]time.Time
	flying map[string]int
	most   int // lookups of one name at once
}

func newNameServer() *nameServer {
	return &nameServer{zone: map[string]any{}, asked: map[string][]time.Time{}, flying: map[string]int{}}
}

func (s *nameServer) set(host string, answer any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone[host] = answer
}

func (s *nameServer) times(host string) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked[host])
}

func (s *nameServer) atOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// LookupNetIP implements discovery.Resolver.
func (s *nameServer) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	s.mu.Lock()
	s.asked[host] = append(s.asked[host], time.Now())
	s.flying[host]++
	s.most = max(s.most, s.flying[host])
	answer := s.zone[host]
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flying[host]--
	}()
	switch a := answer.(type) {
	case string:
		var list []netip.Addr
		for text := range strings.FieldsSeq(a) {
			list = append(list, netip.MustParseAddr(text))
		}
		return list, nil
	case error:
		return nil, a
	case func(context.Context) ([]netip.Addr, error):
		return a(ctx)
	}
	return nil, fmt.Errorf("lookup %s on %s: no such host", host, network)
}

func hang(ctx context.Context) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A log is a registry that notes what it was given.
type log struct {
	discovery.Registry
	mu    sync.Mutex
	lines []string
}

func (l *log) Publish(key discovery.Key, set *discovery.Set) {
	l.mu.Lock()
	l.lines = append(l.lines, key.Host+" "+show(set))
	l.mu.Unlock()
	l.Registry.Publish(key, set)
}

func show(s *discovery.Set) string {
	if s == nil {
		return "nil"
	}
	list := make([]string, s.Len())
	for i := range list {
		list[i] = s.At(i).Address.String()
		if s.At(i).Resolve {
			list[i] += "?"
		}
	}
	return fmt.Sprint(list)
}

func (l *log) want(t *testing.T, when string, lines ...string) {
	t.Helper()
	if got := l.take(); !slices.Equal(got, lines) {
		t.Errorf("%s: published %q, want %q", when, got, lines)
	}
}

// take gives what was published since the last time.
func (l *log) take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func byName(hosts ...string) *discovery.Set {
	var list []discovery.Endpoint
	for _, h := range hosts {
		_, err := netip.ParseAddr(h)
		list = append(list, discovery.Endpoint{Address: discovery.TCP(h, 80), Resolve: err != nil})
	}
	return discovery.NewSet(list...)
}

func keyOf(host string) discovery.Key { return discovery.Key{Host: host, Port: 80} }

// resolving gives a DNS that is closed when the test ends, for a bubble of synctest, which does not end while goroutines stay: all of these tests' sleeps
// are in fake time.
func resolving(t *testing.T, o discovery.DNSOptions) (*nameServer, *log, *discovery.DNS) {
	t.Helper()
	s, l := newNameServer(), new(log)
	d := discovery.NewDNS(l, s, o)
	t.Cleanup(func() {
		d.Close()
		d.Close()
	})
	return s, l, d
}

func TestDNSExpands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, l, d := resolving(t, discovery.DNSOptions{})
		s.set("db.example", "10.0.0.2 ::ffff:10.0.0.1 2001:db8::1 10.0.0.2 0.0.0.0 224.0.0.1")
		plain := byName("10.9.9.9")
		d.Publish(keyOf("plain"), plain)
		if l.Get(keyOf("plain")) != plain {
			t.Error("a set without names was changed")
		}
		l.want(t, "plain", "plain [10.9.9.9:80]")
		e := discovery.Endpoint{Address: discovery.TCP("DB.example", 5432), Resolve: true, Labels: map[string]string{"a": "b"},
			Weight: 3, Locality: "r/z", Network: "n", ServiceAccount: "sa", Workload: "ns/w"}
		e.Address.Via = "10.7.7.7:15443"
		d.Publish(keyOf("db"), discovery.NewSet(e, discovery.Endpoint{Address: discovery.TCP("10.0.0.1", 5432)}))
		l.want(t, "names",
			"db [10.0.0.1:5432 via 10.7.7.7:15443 10.0.0.2:5432 via 10.7.7.7:15443 [2001:db8::1]:5432 via 10.7.7.7:15443 10.0.0.1:5432]")
		want := e
		want.Resolve = false
		want.Address.Addr = "10.0.0.2:5432"
		got := l.Get(keyOf("db"))
		if !discovery.NewSet(*got.At(1)).Equal(discovery.NewSet(want)) {
			t.Errorf("got %+v, want %+v", got.At(1), want)
		}
		d.Publish(keyOf("db"), nil)
		d.Publish(keyOf("plain"), nil)
		l.want(t, "removed", "db nil", "plain nil")
		time.Sleep(time.Minute)
		if n := len(s.times("db.example")); n != 1 {
			t.Errorf("a name that nothing has any more was looked up %d times", n)
		}
	})
}

// TestDNSFirstAnswer: nothing is published before it; a first failure publishes what there is.
func TestDNSFirstAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, l, d := resolving(t, discovery.DNSOptions{})
		slow := func(ctx context.Context) ([]netip.Addr, error) {
			time.Sleep(2 * time.Second)
			return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
		}
		s.set("slow", slow)
		s.set("hangs", hang)
		d.Publish(keyOf("slow"), byName("slow"))
		d.Publish(keyOf("bad"), byName("nx"))
		d.Publish(keyOf("mixed"), byName("nx", "slow"))
		d.Publish(keyOf("hangs"), byName("hangs", "nx"))
		l.want(t, "at once", "bad []")
		if why := l.Get(keyOf("bad")).Missing(); why != "lookup nx on ip: no such host" {
			t.Errorf("missing: %q", why)
		}
		time.Sleep(2 * time.Second)
		if got := slices.Sorted(slices.Values(l.take())); !slices.Equal(got, []string{"mixed [10.0.0.1:80]", "slow [10.0.0.1:80]"}) {
			t.Errorf("after 2 s: published %q", got)
		}
		time.Sleep(3*time.Second - 1)
		l.want(t, "just before the time-out")
		time.Sleep(time.Nanosecond)
		l.want(t, "at the time-out", "hangs []")
		if why := l.Get(keyOf("hangs")).Missing(); !strings.Contains(why, "deadline exceeded; lookup nx") {
			t.Errorf("missing: %q", why)
		}
	})
}

// TestDNSKeepsLastGood: A-081 — NXDOMAIN, SERVFAIL, time-outs, empty and useless answers change nothing.
func TestDNSKeepsLastGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, l, d := resolving(t, discovery.DNSOptions{})
		s.set("h", "10.0.0.1 10.0.0.2")
		d.Publish(keyOf("h"), byName("h"))
		l.want(t, "first", "h [10.0.0.1:80 10.0.0.2:80]")
		for name, answer := range map[string]any{
			"SERVFAIL": errors.New("server misbehaving"), "NXDOMAIN": nil, "time-out": hang, "empty": "", "useless": "0.0.0.0 ::",
			"other order, twice": "10.0.0.2 10.0.0.1 ::ffff:10.0.0.2", "CNAME loop": errors.New("too many CNAMEs"),
		} {
			s.set("h", answer)
			time.Sleep(30 * time.Second)
			l.want(t, name)
		}
		s.set("h", "10.0.0.3")
		time.Sleep(12 * time.Second)
		l.want(t, "a new answer", "h [10.0.0.3:80]")
	})
}

func TestDNSFlapping(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, l, d := resolving(t, discovery.DNSOptions{})
		n := 0
		s.set("h", func(context.Context) ([]netip.Addr, error) { // by one goroutine only
			n++
			switch n % 3 {
			case 0:
				return nil, errors.New("server misbehaving")
			case 1:
				return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
			}
			return []netip.Addr{netip.MustParseAddr("10.0.0.2")}, nil
		})
		d.Publish(keyOf("h"), byName("h"))
		time.Sleep(6 * 6 * time.Second)
		lines := l.take()
		for i, line := range lines {
			if want := fmt.Sprintf("h [10.0.0.%d:80]", i%2+1); line != want {
				t.Errorf("publication %d is %s, want %s", i, line, want)
			}
		}
		if asked := len(s.times("h")); len(lines) < 4 || len(lines) > asked {
			t.Errorf("%d publications of %d answers", len(lines), asked)
		}
	})
}

// TestDNSInterval: every 5 s, give or take 20 %, with both ends reached and not passed.
func TestDNSInterval(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o        discovery.DNSOptions
		min, max time.Duration
	}{
		"default":  {discovery.DNSOptions{}, 4 * time.Second, 6 * time.Second},
		"shortest": {discovery.DNSOptions{Rand: func() uint64 { return 0 }}, 4 * time.Second, 4 * time.Second},
		"longest":  {discovery.DNSOptions{Rand: func() uint64 { return 2 << 20 }}, 6 * time.Second, 6 * time.Second},
		"middle":   {discovery.DNSOptions{Rand: func() uint64 { return 1 << 20 }, Every: time.Minute}, time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, _, d := resolving(t, c.o)
				s.set("h", "10.0.0.1")
				d.Publish(keyOf("h"), byName("h"))
				time.Sleep(2 * time.Hour)
				times := s.times("h")
				different := map[time.Duration]bool{}
				for i := range len(times) - 1 {
					gap := times[i+1].Sub(times[i])
					different[gap] = true
					if gap < c.min || gap > c.max {
						t.Fatalf("%v from one lookup to the next", gap)
					}
				}
				if c.min < c.max && len(different) < len(times)/2 {
					t.Errorf("%d different intervals among %d", len(different), len(times))
				}
			})
		})
	}
}

// TestDNSShared: one lookup at a time for all keys of a name, until the last of them is gone.
func TestDNSShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, l, d := resolving(t, discovery.DNSOptions{})
		s.set("h", func(ctx context.Context) ([]netip.Addr, error) {
			time.Sleep(time.Second)
			return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
		})
		for i := range 100 {
			d.Publish(keyOf(fmt.Sprintf("k%02d", i)), byName("h", "10.1.1.1"))
		}
		l.want(t, "at once")
		time.Sleep(time.Second)
		if n := len(l.take()); n != 100 || len(s.times("h")) != 1 || s.atOnce() != 1 {
			t.Errorf("%d publications after %d lookups, %d at once", n, len(s.times("h")), s.atOnce())
		}
		for i := range 99 {
			d.Publish(keyOf(fmt.Sprintf("k%02d", i)), byName("10.1.1.1"))
		}
		l.take()
		time.Sleep(time.Minute)
		before := len(s.times("h"))
		if before < 5 {
			t.Errorf("a name in use was looked up %d times in a minute", before)
		}
		d.Publish(keyOf("k99"), byName("10.1.1.1"))
		l.want(t, "no name any more", "k99 [10.1.1.1:80]")
		time.Sleep(time.Minute)
		if len(s.times("h")) != before {
			t.Error("the name is looked up still")
		}
		d.Publish(keyOf("k99"), byName("h"))
		l.want(t, "again: what was stays until the answer")
		time.Sleep(time.Second)
		l.want(t, "answered", "k99 [10.0.0.1:80]")
		d.Publish(keyOf("k99"), byName("h", "nx", "10.1.1.1"))
		l.want(t, "one name more: what is known goes on", "k99 [10.0.0.1:80 10.1.1.1:80]")
	})
}

func TestA081ThousandRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, l, d := resolving(t, discovery.DNSOptions{})
		var addrs []string
		for i := range 3000 {
			addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String())
		}
		slices.Reverse(addrs)
		s.set("thousand", strings.Join(addrs[2000:], " "))
		s.set("more", strings.Join(addrs, " "))
		d.Publish(keyOf("thousand"), byName("thousand"))
		d.Publish(keyOf("more"), byName("more"))
		synctest.Wait()
		if n := l.Get(keyOf("thousand")).Len(); n != 1000 {
			t.Errorf("%d endpoints of 1,000 records", n)
		}
		if s := l.Get(keyOf("more")); s.Len() != 1024 || s.At(1023).Address != discovery.TCP("10.0.3.255", 80) {
			t.Errorf("%d endpoints, the last is %s", s.Len(), s.At(s.Len()-1).Address)
		}
	})
}

// TestDNSClose: lookups under way end, and none begins any more.
func TestDNSClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, l, d := resolving(t, discovery.DNSOptions{})
		s.set("h", hang)
		d.Publish(keyOf("h"), byName("h"))
		synctest.Wait()
		begin := time.Now()
		d.Close()
		if took := time.Since(begin); took != 0 {
			t.Errorf("Close took %v", took)
		}
		d.Publish(keyOf("late"), byName("late"))
		d.Publish(keyOf("plain"), byName("10.0.0.1"))
		time.Sleep(time.Minute)
		l.want(t, "after Close", "plain [10.0.0.1:80]")
		if n := len(s.times("late")); n != 0 {
			t.Errorf("%d lookups after Close", n)
		}
	})
}

// TestDNSConcurrently: whatever comes together, the registry ends with the newest of each key.
func TestDNSConcurrently(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, l, d := resolving(t, discovery.DNSOptions{Every: time.Microsecond})
		var n atomic.Uint32
		s.set("h", func(context.Context) ([]netip.Addr, error) {
			return []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(n.Add(1)%5 + 1)})}, nil
		})
		s.set("g", "10.2.2.2")
		var wg sync.WaitGroup
		for k := range 4 {
			wg.Go(func() {
				key := keyOf(fmt.Sprint(k))
				for i := range 300 {
					d.Publish(key, byName([][]string{{"h"}, {"h", "g"}, {"10.1.1.1"}, {"g"}}[i%4]...))
					if i%7 == 0 {
						d.Publish(key, nil)
					}
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		for k := range 4 {
			if got := show(l.Get(keyOf(fmt.Sprint(k)))); got != "[10.2.2.2:80]" {
				t.Errorf("key %d ended with %s", k, got)
			}
		}
	})
}
