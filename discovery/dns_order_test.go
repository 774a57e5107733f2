package discovery_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/heddlemesh/mesh/discovery"
)

// slowPublisher holds up its first publication until released.
type slowPublisher struct {
	discovery.Registry
	entered chan struct{}
	release chan struct{}
	first   bool
}

func (p *slowPublisher) Publish(key discovery.Key, set *discovery.Set) {
	if !p.first {
		p.first = true
		close(p.entered)
		<-p.release
	}
	p.Registry.Publish(key, set)
}

type fixedResolver struct{}

func (fixedResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
}

// TestPublishReturnsWhenLive: a set that replaces one whose answer is being published at that moment is
// the current one when Publish returns, and not only soon after.
func TestPublishReturnsWhenLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := &slowPublisher{entered: make(chan struct{}), release: make(chan struct{})}
		d := discovery.NewDNS(next, fixedResolver{}, discovery.DNSOptions{})
		defer d.Close()
		key := discovery.Key{Host: "a.example.com", Port: 80}
		d.Publish(key, discovery.NewSet(discovery.Endpoint{Address: discovery.TCP("a.example.com", 80), Resolve: true}))
		<-next.entered
		want := discovery.NewSet(discovery.Endpoint{Address: discovery.TCP("198.51.100.1", 80)})
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.Publish(key, want)
			if got := next.Get(key); !got.Equal(want) {
				t.Errorf("Publish returned before its set was live: %v", got)
			}
		}()
		synctest.Wait()
		close(next.release)
		<-done
	})
}
