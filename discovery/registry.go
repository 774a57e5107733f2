package discovery

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"sync"
)

// A Key names one port of one service.
type Key struct {
	Host string // FQDN
	Port uint16 // the service's port, not the endpoint's
}

func (k Key) String() string { return fmt.Sprintf("%s:%d", k.Host, k.Port) }

// A Publisher takes what somebody knows of service ports: a [Registry], or what stands before one. Of one key
// sets are published one after the other.
type Publisher interface {
	// Publish makes the set the current one of the key; a nil set removes the key.
	Publish(key Key, set *Set)
}

// Compare orders keys by host, then port.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Host, o.Host), cmp.Compare(k.Port, o.Port))
}

// A Registry holds the current set of every service port. The zero value is empty and ready. It is safe
// for concurrent use.
type Registry struct {
	mu       sync.Mutex
	sets     map[Key]*Set
	watchers []*watcher // replaced, never changed in place
}

type watcher struct{ notify func(Key) }

// Publish makes the set the current one of the key and tells every subscriber before it returns. A nil
// set removes the key.
func (r *Registry) Publish(key Key, set *Set) {
	r.mu.Lock()
	if set == nil {
		delete(r.sets, key)
	} else {
		if r.sets == nil {
			r.sets = make(map[Key]*Set)
		}
		r.sets[key] = set
	}
	watchers := r.watchers
	r.mu.Unlock()
	for _, w := range watchers {
		w.notify(key)
	}
}

// Get gives the current set, nil where nothing was published.
func (r *Registry) Get(key Key) *Set {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sets[key]
}

// Keys lists what has a set, sorted by host and port.
func (r *Registry) Keys() []Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return SortedKeys(r.sets)
}

// SortedKeys lists the keys of m, sorted by host and port. It is by sort, since slices.SortFunc would be 9 KB more of every program.
func SortedKeys[V any](m map[Key]V) []Key {
	keys := make([]Key, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i].Compare(keys[j]) < 0 })
	return keys
}

// Subscribe calls notify with the key of every change from now on, until cancel is called; a call under
// way may still arrive then. Calls may be concurrent and carry no set: the subscriber asks Get, and so
// ends with the newest whatever the order. No lock is held meanwhile.
func (r *Registry) Subscribe(notify func(Key)) (cancel func()) {
	w := &watcher{notify: notify}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers = append(slices.Clone(r.watchers), w)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.watchers = slices.DeleteFunc(slices.Clone(r.watchers), func(o *watcher) bool { return o == w })
	}
}
