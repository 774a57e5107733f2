package balance

import "time"

// leastRequest is LEAST_REQUEST over endpoints of equal weight: of two drawn at random, with replacement
// as in Envoy, the one with the smaller load; the first drawn where they are equal.
//
// It differs from Envoy in that failures weigh: see lighter. Of two endpoints in all both are looked at,
// where Envoy may draw the same one twice.
type leastRequest struct{ pool }

// Pick implements Picker.
func (p *leastRequest) Pick(d Draw) *Endpoint {
	n, rnd := uint64(len(p.list)), d.Random
	a, b := p.list[rnd>>32*n>>32], p.list[uint64(uint32(rnd))*n>>32]
	if n == 2 {
		first := rnd >> 63
		a, b = p.list[first], p.list[first^1]
	}
	switch {
	case !p.usable(a) || !p.usable(b) || !p.warm.over(d.Now):
		return p.lighterOfTwo(d)
	case a == b:
		return a
	}
	return lighter(a, b, 1, 1, rnd)
}

// weightedLeastRequest is LEAST_REQUEST over endpoints of different weight: of two drawn in proportion to
// weight, the one with the smaller load for its weight.
//
// It differs from Envoy, which then runs a weighted round robin over weight/(active+1) under a lock and
// in time that grows with the endpoints. Without load both split exactly by weight; with load both prefer
// the endpoint that is less busy for its size.
type weightedLeastRequest struct{ pool }

// Pick implements Picker.
func (p *weightedLeastRequest) Pick(d Draw) *Endpoint {
	i, j := p.table.draw(d.Random), p.table.draw(d.Random<<32)
	a, b := p.list[i], p.list[j]
	switch {
	case !p.usable(a) || !p.usable(b) || !p.warm.over(d.Now):
		return p.lighterOfTwo(d)
	case i == j:
		return a
	}
	return lighter(a, b, int64(p.weights[i]), int64(p.weights[j]), d.Random)
}

// lighterOfTwo is LEAST_REQUEST while endpoints are ejected or warm up: of two drawn by what their weights are
// now, the one with the smaller load for it.
func (p *pool) lighterOfTwo(d Draw) *Endpoint {
	i := p.draw(mix(d.Random), d.Now)
	if i < 0 {
		return nil
	}
	j := p.draw(mix(^d.Random), d.Now)
	if j < 0 || i == j { // the last one was ejected in between
		return p.list[i]
	}
	return lighter(p.list[i], p.list[j], p.present(i, d.Now), p.present(j, d.Now), d.Random)
}

// present is an endpoint's weight of now, in 1024ths.
func (p *pool) present(i int, now time.Duration) int64 {
	const unit = 1 << 10
	w := int64(unit)
	if p.weights != nil {
		w *= int64(p.weights[i])
	}
	return max(int64(float64(w)*p.warm.factor(p.list[i], now)), 1)
}

// probeMask selects the random bits that must be zero for a probe: one comparison in 32. They are the low
// ones, which have no part in which endpoints were drawn.
const probeMask = 1<<5 - 1

// lighter gives the endpoint with the smaller load for its weight, a where they are equal. One that has
// only failed of late is the heavier whatever its load. The loser wins now and then all the same where
// failures are all that it has, with nothing in flight: beside endpoints without load it would never be
// tried again, and only a try ends its streak.
func lighter(a, b *Endpoint, weightA, weightB int64, rnd uint64) *Endpoint {
	heavier := b.load()*weightA < a.load()*weightB
	if down := a.down(); down != b.down() {
		heavier = down
	}
	if heavier {
		a, b = b, a
	}
	if rnd&probeMask == 0 && b.onlyFailed() {
		return b
	}
	return a
}
