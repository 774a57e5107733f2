package discovery_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/heddlemesh/mesh/discovery"
)

var (
	reviews = discovery.Key{Host: "reviews.default.svc.cluster.local", Port: 9080}
	ratings = discovery.Key{Host: "ratings.default.svc.cluster.local", Port: 9080}
)

func set(n int) *discovery.Set {
	endpoints := make([]discovery.Endpoint, n)
	for i := range endpoints {
		endpoints[i].Address = discovery.TCP("10.0.0.1", uint16(i+1))
	}
	return discovery.NewSet(endpoints...)
}

func TestRegistryGet(t *testing.T) {
	t.Parallel()
	var r discovery.Registry
	if r.Get(reviews) != nil || len(r.Keys()) != 0 {
		t.Fatal("the zero value is not empty")
	}
	first, second := set(1), set(2)
	r.Publish(reviews, first)
	if r.Get(reviews) != first || r.Get(ratings) != nil {
		t.Error("not what was published")
	}
	r.Publish(reviews, second)
	if r.Get(reviews) != second {
		t.Error("the second set did not take the place of the first")
	}
	r.Publish(ratings, discovery.NewSet())
	if got := r.Get(ratings); got == nil || got.Len() != 0 {
		t.Error("an empty set is not the same as none")
	}
	r.Publish(reviews, nil)
	if r.Get(reviews) != nil {
		t.Error("a nil set did not remove the key")
	}
	r.Publish(discovery.Key{}, nil)
	var untouched discovery.Registry
	untouched.Publish(reviews, nil)
	if untouched.Get(reviews) != nil {
		t.Error("removing from an empty registry left something")
	}
}

func TestRegistryKeys(t *testing.T) {
	t.Parallel()
	var r discovery.Registry
	var want []discovery.Key
	for _, host := range []string{"a", "a.b", "b"} {
		for port := range uint16(10) {
			want = append(want, discovery.Key{Host: host, Port: port + 1})
		}
	}
	for i := range want {
		r.Publish(want[i*7%len(want)], set(1))
	}
	if got := r.Keys(); !slices.Equal(got, want) {
		t.Errorf("keys are %v, want %v", got, want)
	}
	if got := want[1].String(); got != "a:2" {
		t.Errorf("a key prints as %q", got)
	}
	r.Keys()[0].Host = "changed"
	if got := r.Keys(); got[0].Host != "a" {
		t.Error("the registry changed with the list it gave")
	}
}

func TestSubscribe(t *testing.T) {
	t.Parallel()
	var r discovery.Registry
	r.Publish(reviews, set(1))
	var heard []string
	listen := func(name string) func() {
		return r.Subscribe(func(k discovery.Key) {
			n := -1
			if s := r.Get(k); s != nil { // the set is there already, and no lock is held
				n = s.Len()
			}
			heard = append(heard, fmt.Sprintf("%s %s %d", name, k.Host[:7], n))
		})
	}
	expect := func(want ...string) {
		t.Helper()
		if !slices.Equal(heard, want) {
			t.Errorf("heard %q, want %q", heard, want)
		}
		heard = nil
	}
	cancelA := listen("A")
	expect() // nothing of what was before
	r.Publish(reviews, set(2))
	expect("A reviews 2")
	cancelB := listen("B")
	r.Publish(ratings, set(3))
	expect("A ratings 3", "B ratings 3")
	r.Publish(ratings, nil)
	expect("A ratings -1", "B ratings -1")
	cancelA()
	r.Publish(reviews, set(4))
	expect("B reviews 4")
	cancelA() // again is harmless
	r.Publish(reviews, set(5))
	expect("B reviews 5")
	cancelB()
	r.Publish(reviews, set(6))
	expect()
}

// TestSubscribersMayChangeSubscriptions: no lock is held while a subscriber is told.
func TestSubscribersMayChangeSubscriptions(t *testing.T) {
	t.Parallel()
	var r discovery.Registry
	var once, late, cascaded int
	var cancel func()
	cancel = r.Subscribe(func(k discovery.Key) {
		if k != reviews {
			cascaded++
			return
		}
		once++
		cancel()
		r.Subscribe(func(discovery.Key) { late++ })
		r.Publish(ratings, set(1))
	})
	r.Publish(reviews, set(1))
	if once != 1 || late != 1 || cascaded != 0 {
		t.Errorf("told %d times, its successor %d times, after cancelling %d times", once, late, cascaded)
	}
	r.Publish(reviews, set(2))
	if once != 1 || late != 2 {
		t.Errorf("then told %d times, its successor %d times", once, late)
	}
}

// TestRegistryConcurrently: whatever the order of notifications, who asks Get on each ends with the newest.
func TestRegistryConcurrently(t *testing.T) {
	t.Parallel()
	const publishers, rounds = 4, 200
	var r discovery.Registry
	var mu sync.Mutex
	latest := map[discovery.Key]*discovery.Set{}
	cancel := r.Subscribe(func(k discovery.Key) {
		mu.Lock()
		defer mu.Unlock()
		latest[k] = r.Get(k)
	})
	defer cancel()
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range rounds {
				r.Publish(discovery.Key{Host: "shared", Port: uint16(i % 3)}, set(i%5+1))
				r.Publish(discovery.Key{Host: "own", Port: uint16(p)}, set(i%5+1))
				if i%7 == 0 {
					r.Publish(discovery.Key{Host: "shared", Port: uint16(i % 3)}, nil)
				}
			}
		})
		wg.Go(func() {
			for range rounds {
				r.Subscribe(func(k discovery.Key) { r.Get(k) })()
				for _, k := range r.Keys() {
					if s := r.Get(k); s != nil && s.At(0).Address != discovery.TCP("10.0.0.1", 1) {
						t.Errorf("a set of %s changed", k)
					}
				}
			}
		})
	}
	wg.Wait()
	for p := range publishers {
		if k := (discovery.Key{Host: "own", Port: uint16(p)}); r.Get(k).Len() != (rounds-1)%5+1 {
			t.Errorf("%s does not have its last set", k)
		}
	}
	for k, s := range latest {
		if r.Get(k) != s {
			t.Errorf("the subscriber ended with an old set of %s", k)
		}
	}
}
