package balance

import "math/bits"

// random is RANDOM over endpoints of equal weight.
type random struct{ list }

// Pick implements Picker.
func (p *random) Pick(rnd uint64) *Endpoint {
	i, _ := bits.Mul64(rnd, uint64(len(p.list)))
	return p.list[i]
}

// weightedRandom is RANDOM with each endpoint's share in proportion to its weight.
type weightedRandom struct {
	list
	table aliasTable
}

// Pick implements Picker.
func (p *weightedRandom) Pick(rnd uint64) *Endpoint { return p.list[p.table.draw(rnd)] }
