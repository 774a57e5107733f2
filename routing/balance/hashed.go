package balance

import (
	"math"
	"slices"
	"sort"
)

// hashed is RING_HASH or MAGLEV: calls with the same hash go to the same endpoint, and most of them still do
// when endpoints come and go. Its list is sorted by address, so that the order of the endpoints does not
// matter; of several with the same address one counts.
//
// The table is made of all endpoints, ejected or not, in which it differs from Envoy, which makes another
// one of the healthy: so an ejection moves the calls of that endpoint and of no other, and they come back when
// it does. They go where Draw.Step leads.
type hashed struct {
	list
	health
	table  hashTable
	ranked []rank // for the list's endpoints
}

// A rank is what an endpoint brings along where all are compared for a hash.
type rank struct {
	id    uint64 // the hash of its address
	share float64
}

// A hashTable orders endpoints by a hash: owner gives the index of the first of them for try 0, and of others,
// any of them again and again, for the tries that follow.
type hashTable interface {
	owner(hash uint64, try int) uint32
}

// A seat is what an endpoint has of a table.
type seat struct {
	key      string // by which the endpoint is hashed: its address, as in Envoy
	share    float64
	endpoint *Endpoint
}

func newHashed(c *Config, l *Level, h health) *hashed {
	seats := seatsOf(l)
	p := &hashed{list: make(list, len(seats)), health: h, ranked: make([]rank, len(seats))}
	for i := range seats {
		p.list[i] = seats[i].endpoint
		p.ranked[i] = rank{xxHash64([]byte(seats[i].key), 0), seats[i].share}
	}
	if c.Algorithm == Maglev {
		p.table = newMaglev(seats, c.TableSize)
	} else {
		p.table = newRing(seats, c.RingSize, maxRing)
	}
	return p
}

// seatsOf gives each endpoint its share: its locality's by weight, and of that by its own (Envoy's
// normalizeWeights, in the same order of operations).
func seatsOf(l *Level) []seat {
	var seats []seat
	var all float64
	for _, g := range l.Groups {
		all += g.Weight
	}
	for _, g := range l.Groups {
		sum := float64(weightOf(g.Endpoints))
		for _, e := range g.Endpoints {
			seats = append(seats, seat{e.Def.Address.String(), float64(e.weight()) * (g.Weight / all) / sum, e})
		}
	}
	sort.Slice(seats, func(i, j int) bool { // not slices.SortFunc: 9 KB more of every program
		a, b := &seats[i], &seats[j]
		return a.key < b.key || a.key == b.key && a.share > b.share
	})
	return slices.CompactFunc(seats, func(a, b seat) bool { return a.key == b.key })
}

// Pick implements Picker.
func (p *hashed) Pick(d Draw) *Endpoint {
	if !d.Hashed {
		d.Hash, d.Step = d.Random, 0
	}
	if e := p.list[p.table.owner(d.Hash, 0)]; d.Step == 0 && p.usable(e) {
		return e
	}
	return p.other(d.Hash, int(d.Step))
}

const (
	maxSteps = 16 // that are told apart
	maxTries = 32 // of the table, before the list is gone through
)

// other finds the step-th endpoint, from 0, of those that can be used, in the order of the hash. It asks the
// table a few times, and then compares all.
func (p *hashed) other(hash uint64, step int) *Endpoint {
	step = min(step, maxSteps-1)
	var places [maxSteps]uint32
	seen := places[:0]
	for try := 0; try < maxTries && len(seen) <= step; try++ {
		if i := p.table.owner(hash, try); p.usable(p.list[i]) && !slices.Contains(seen, i) {
			seen = append(seen, i)
		}
	}
	for len(seen) <= step {
		i, ok := p.first(hash, seen)
		if !ok {
			break
		}
		seen = append(seen, i)
	}
	switch {
	case len(seen) > 0:
		return p.list[seen[step%len(seen)]]
	case p.desperate:
		return p.list[p.table.owner(hash, 0)]
	}
	return nil
}

// first compares all that can be used and are not seen yet, and takes the one that has the smallest number by
// the hash, exponentially distributed with its share: weighted rendezvous.
func (p *hashed) first(hash uint64, seen []uint32) (at uint32, ok bool) {
	least := math.Inf(1)
	for i, r := range p.ranked {
		if !p.usable(p.list[i]) || slices.Contains(seen, uint32(i)) {
			continue
		}
		if x := -math.Log(1-unit(mix(hash^r.id))) / r.share; x < least || !ok {
			at, least, ok = uint32(i), x, true
		}
	}
	return at, ok
}
