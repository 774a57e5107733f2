package discovery_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/discovery"
)

// A timedServer is a nameServer whose answers are good for as long as it is told to say.
type timedServer struct {
	*nameServer
	good chan time.Duration // of one answer after the other; the last one's goes on
	last time.Duration
}

func (s *timedServer) LookupFor(ctx context.Context, network, host string) ([]netip.Addr, time.Duration, error) {
	addrs, err := s.LookupNetIP(ctx, network, host)
	select {
	case s.last = <-s.good:
	default:
	}
	return addrs, s.last, err
}

// TestDNSTimeToLive: a name is asked for again when its answer is no longer good, not before and not after; never within a
// second; and every 5 s where that is not known or the answer was none.
func TestDNSTimeToLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &timedServer{nameServer: newNameServer(), good: make(chan time.Duration, 8)}
		for _, good := range []time.Duration{30 * time.Second, time.Hour, 200 * time.Millisecond, 0, 7 * time.Second} {
			s.good <- good
		}
		answers := 0
		s.set("h", func(context.Context) ([]netip.Addr, error) {
			if answers++; answers == 5 {
				return nil, errors.New("server misbehaving")
			}
			return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
		})
		begin := time.Now()
		d := discovery.NewDNS(new(discovery.Registry), s, discovery.DNSOptions{Rand: func() uint64 { return 1 << 20 }})
		d.Publish(keyOf("h"), byName("h"))
		time.Sleep(2 * time.Hour)
		d.Close()
		var got []time.Duration
		for _, at := range s.times("h")[:7] {
			got = append(got, at.Sub(begin))
		}
		want := []time.Duration{0, 30 * time.Second}
		for _, after := range []time.Duration{time.Hour, time.Second, 5 * time.Second, 5 * time.Second, 7 * time.Second} {
			want = append(want, want[len(want)-1]+after)
		}
		if !slices.Equal(got, want) {
			t.Errorf("asked at %v, want %v", got, want)
		}
	})
}
