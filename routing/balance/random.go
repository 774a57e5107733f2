package balance

import "math/bits"

// random is RANDOM over endpoints of equal weight.
type random struct{ pool }

// Pick implements Picker.
func (p *random) Pick(d Draw) *Endpoint {
	i, _ := bits.Mul64(d.Random, uint64(len(p.list)))
	if e := p.list[i]; p.usable(e) {
		return e
	}
	return p.otherwise(mix(d.Random), d.Now)
}

// weightedRandom is RANDOM with each endpoint's share in proportion to its weight.
type weightedRandom struct{ pool }

// Pick implements Picker.
func (p *weightedRandom) Pick(d Draw) *Endpoint {
	if e := p.list[p.table.draw(d.Random)]; p.usable(e) {
		return e
	}
	return p.otherwise(mix(d.Random), d.Now)
}
