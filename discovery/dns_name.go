package discovery

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sort"
	"time"
)

// A dnsName is one name that is being resolved. Guarded by DNS.mu.
type dnsName struct {
	host   string
	keys   map[Key]bool // what has it
	cancel context.CancelFunc

	tried  bool // some lookup has ended
	addrs  []netip.Addr
	failed string // why the last lookup gave no addresses
}

// use notes that key has the name, and starts to resolve it where it is new. d.mu is held.
func (d *DNS) use(host string, key Key) *dnsName {
	n := d.names[host]
	if n == nil {
		n = &dnsName{host: host, keys: make(map[Key]bool)}
		d.names[host] = n
		var ctx context.Context
		ctx, n.cancel = context.WithCancel(d.ctx)
		if ctx.Err() == nil { // not closed
			d.running.Go(func() { d.resolve(ctx, n) })
		}
	}
	n.keys[key] = true
	return n
}

// drop notes that key no longer has the name. d.mu is held.
func (d *DNS) drop(n *dnsName, key Key) {
	delete(n.keys, key)
	if len(n.keys) == 0 {
		n.cancel()
		delete(d.names, n.host)
	}
}

// resolve looks the name up again and again until ctx ends.
func (d *DNS) resolve(ctx context.Context, n *dnsName) {
	for {
		addrs, good, err := d.lookup(ctx, n.host)
		if ctx.Err() != nil {
			return
		}
		d.answered(n, addrs, err)
		t := time.NewTimer(d.pause(good))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// lookup gives the addresses of a name, and how long they are good, 0 where that is not known.
func (d *DNS) lookup(ctx context.Context, host string) (addrs []netip.Addr, good time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	if timed, ok := d.resolver.(TimedResolver); ok {
		addrs, good, err = timed.LookupFor(ctx, d.o.Network, host)
	} else {
		addrs, err = d.resolver.LookupNetIP(ctx, d.o.Network, host)
	}
	if err != nil {
		return nil, 0, err
	}
	if addrs = endpointAddresses(addrs); len(addrs) == 0 {
		return nil, 0, errors.New("lookup " + host + ": no addresses")
	}
	return addrs, good, nil
}

// endpointAddresses gives what endpoints can be made of: sorted, each once, so that the order in which a
// server rotates its answer is no change.
func endpointAddresses(answer []netip.Addr) []netip.Addr {
	addrs := make([]netip.Addr, 0, len(answer))
	for _, a := range answer {
		a = a.Unmap()
		if a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() {
			addrs = append(addrs, a)
		}
	}
	sort.Slice(addrs, func(i, j int) bool { return addrs[i].Less(addrs[j]) }) // not slices.SortFunc: 8 KB more of every program
	addrs = slices.Compact(addrs)
	return addrs[:min(len(addrs), mostAddresses)]
}

// answered takes in the end of a lookup and publishes what that changes.
func (d *DNS) answered(n *dnsName, addrs []netip.Addr, err error) {
	d.mu.Lock()
	changed := !n.tried
	n.tried = true
	n.failed = ""
	switch {
	case err != nil:
		n.failed = err.Error()
	case !slices.Equal(n.addrs, addrs):
		n.addrs, changed = addrs, true
	}
	keys := make(map[Key]*dnsKey)
	if changed {
		for key := range n.keys {
			keys[key] = d.keys[key]
		}
	}
	d.mu.Unlock()
	for key, k := range keys {
		d.deliver(key, k)
	}
}

// pause is the time to the next lookup: as long as the answer is good, else the interval, give or take 20 %.
func (d *DNS) pause(good time.Duration) time.Duration {
	if good > 0 {
		return max(good, resolveSoonest)
	}
	const spread = 1 << 20
	unit := float64(d.o.Rand()%(2*spread+1))/spread - 1 // from -1 to 1
	return time.Duration(float64(d.o.Every) * (1 + unit/5))
}
