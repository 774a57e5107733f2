package telemetry

import (
	"slices"
	"sync"
	"sync/atomic"
)

// DefaultMaxSeries bounds the series of a store, each a caller, a callee and an outcome.
const DefaultMaxSeries = 10_000

// A MetricsSink hears of every request that a store records, beside the store. It is called concurrently at the end of the
// request and must not wait; l must not be changed.
type MetricsSink interface {
	Request(l *Labels, o Outcome, m Measurement)
}

// Options are what a store is made of. The zero value has the defaults.
type Options struct {
	// MaxSeries bounds the series: what comes when there are as many is counted under labels that say "other". Default:
	// DefaultMaxSeries.
	MaxSeries int
	// Sink hears of every request. Default: nobody does.
	Sink MetricsSink
}

// A Store holds the metrics of one mesh. It is safe for concurrent use.
type Store struct {
	most  int
	sink  MetricsSink
	view  atomic.Pointer[View]
	conns connStore

	mu     sync.RWMutex // guards what follows
	groups map[Labels]*Group
	count  int       // series
	full   [2]*Group // by reporter: of everything else
	rpcs   map[rpcKey]*RPCs
	given  []*func(yield func(Family))
}

// NewStore makes an empty store.
func NewStore(o Options) *Store {
	if o.MaxSeries <= 0 {
		o.MaxSeries = DefaultMaxSeries
	}
	return &Store{most: o.MaxSeries, sink: o.Sink, groups: make(map[Labels]*Group), rpcs: make(map[rpcKey]*RPCs)}
}

// Group gives the metrics of the labels: the same each time. It does not allocate where they are there.
func (s *Store) Group(l Labels) *Group {
	s.mu.RLock()
	g := s.groups[l]
	s.mu.RUnlock()
	if g != nil {
		return g
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g = s.groups[l]; g != nil {
		return g
	}
	if len(s.groups) >= s.most || s.count >= s.most {
		return s.other(l.Reporter)
	}
	g = &Group{labels: l, store: s}
	s.groups[l] = g
	return g
}

// other gives the group of what is beyond the bound. s.mu is held.
func (s *Store) other(r Reporter) *Group {
	if s.full[r] == nil {
		s.full[r] = &Group{labels: everythingElse(r), store: s}
	}
	return s.full[r]
}

// series makes one, or gives the one of everything else where there are too many.
func (s *Store) series(g *Group, o Outcome) *Series {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.full[g.labels.Reporter]; g == other || s.count >= s.most {
		g, o = s.other(g.labels.Reporter), beyond
	}
	var list []*Series
	if had := g.all.Load(); had != nil {
		list = *had
	}
	if i := slices.IndexFunc(list, func(x *Series) bool { return x.outcome == o }); i >= 0 {
		return list[i]
	}
	x := &Series{group: g, outcome: o}
	if o.GRPC != 0 {
		x.messages = new([2]atomic.Uint64)
	}
	if o != beyond {
		s.count++
	}
	g.all.Store(new(append(slices.Clone(list), x)))
	return x
}

// Collect has f give its families whenever the store is read, until stop. f is called concurrently, gives each name
// once, and must not call the store.
func (s *Store) Collect(f func(yield func(Family))) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given = append(slices.Clone(s.given), &f)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.given = slices.DeleteFunc(slices.Clone(s.given), func(g *func(func(Family))) bool { return g == &f })
	}
}

// SetView says what becomes of Istio's metrics on their way out, from now on. nil is all of them, as they are.
func (s *Store) SetView(v *View) { s.view.Store(v) }

// read gives the series in no order, what else there is to ask, and how many series there are.
func (s *Store) read() (all []*Series, rpcs []*RPCs, given []*func(func(Family)), n int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all = make([]*Series, 0, s.count+len(s.full))
	add := func(g *Group) {
		if list := g.all.Load(); list != nil {
			all = append(all, *list...)
		}
	}
	for _, g := range s.groups {
		add(g)
	}
	for _, g := range s.full {
		if g != nil {
			add(g)
		}
	}
	for _, r := range s.rpcs {
		rpcs = append(rpcs, r)
	}
	return all, rpcs, s.given, s.count
}
