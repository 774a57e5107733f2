package telemetry

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/heddlemesh/mesh/call"
)

// The metrics of connections that are not HTTP (istio.io, Istio standard metrics, "For TCP traffic").
const (
	ConnsOpened   = "istio_tcp_connections_opened_total"
	ConnsClosed   = "istio_tcp_connections_closed_total"
	BytesSent     = "istio_tcp_sent_bytes_total"
	BytesReceived = "istio_tcp_received_bytes_total"
)

// Conns are the metrics of the connections between one caller and one callee that have the same response flags. It is safe for
// concurrent use.
type Conns struct {
	key                            connsKey
	opened, closed, sent, received atomic.Uint64
}

type connsKey struct {
	Labels
	flags call.Flags
}

// Opened and Closed count a connection, Sent and Received bytes that its caller gets, and that have come from it. They do not
// wait: bytes are counted as they go, so that a long connection shows while it lasts.
func (c *Conns) Opened() { c.opened.Add(1) }

// Closed is described at Opened.
func (c *Conns) Closed() { c.closed.Add(1) }

// Sent is described at Opened.
func (c *Conns) Sent(n uint64) { c.sent.Add(n) }

// Received is described at Opened.
func (c *Conns) Received(n uint64) { c.received.Add(n) }

// connStore holds them. Its zero value is empty.
type connStore struct {
	told sync.Once    // that there are such metrics
	mu   sync.RWMutex // guards what follows
	all  map[connsKey]*Conns
	full [2]*Conns // by reporter: of everything else
}

// Conns gives the metrics of connections with the labels and flags: the same each time. Beyond the store's bound of series it
// gives that of everything else.
func (s *Store) Conns(l Labels, f call.Flags) *Conns {
	key := connsKey{l, f}
	c := &s.conns
	c.told.Do(func() {
		s.Collect(func(yield func(Family)) {
			for _, f := range c.families(s.view.Load()) {
				yield(f)
			}
		})
	})
	c.mu.RLock()
	had := c.all[key]
	c.mu.RUnlock()
	if had != nil {
		return had
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if had = c.all[key]; had != nil {
		return had
	}
	if len(c.all) >= s.most {
		if c.full[l.Reporter] == nil {
			c.full[l.Reporter] = &Conns{key: connsKey{Labels: everythingElse(l.Reporter)}}
		}
		return c.full[l.Reporter]
	}
	if c.all == nil {
		c.all = make(map[connsKey]*Conns)
	}
	made := &Conns{key: key}
	c.all[key] = made
	return made
}

var connFamilies = [...]struct {
	name, help string
	read       func(*Conns) uint64
}{
	{ConnsOpened, "Connections opened that are not HTTP.", func(c *Conns) uint64 { return c.opened.Load() }},
	{ConnsClosed, "Connections closed that are not HTTP.", func(c *Conns) uint64 { return c.closed.Load() }},
	{BytesSent, "Bytes that callers of connections got.", func(c *Conns) uint64 { return c.sent.Load() }},
	{BytesReceived, "Bytes that callers of connections sent.", func(c *Conns) uint64 { return c.received.Load() }},
}

// families reads everything, as view has it.
func (c *connStore) families(view *View) []Family {
	c.mu.RLock()
	defer c.mu.RUnlock()
	list := make([]*Conns, 0, len(c.all)+len(c.full))
	for _, one := range c.all {
		list = append(list, one)
	}
	for _, one := range c.full {
		if one != nil {
			list = append(list, one)
		}
	}
	families := make([]Family, len(connFamilies))
	for i, m := range &connFamilies {
		f := Family{Name: m.name, Help: m.help, Kind: Counter}
		for _, one := range list {
			f.Samples = append(f.Samples, Sample{Labels: one.key.list(), Value: float64(m.read(one))})
		}
		view.apply(&f)
		families[i] = f
	}
	return families
}

// list gives the labels of connections: those of requests without what only answers have.
func (k *connsKey) list() []Label {
	all := k.Labels.list(Outcome{Flags: k.flags})
	all = slices.DeleteFunc(all, func(l Label) bool { return l.Name == "response_code" })
	for i := range all {
		if all[i].Name == "request_protocol" {
			all[i].Value = "tcp"
		}
	}
	return all
}
