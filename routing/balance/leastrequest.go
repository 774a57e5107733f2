package balance

// leastRequest is LEAST_REQUEST over endpoints of equal weight: of two drawn at random, with replacement
// as in Envoy, the one with the smaller load; the first drawn where they are equal.
//
// It differs from Envoy in that failures weigh: see lighter. Of two endpoints in all both are looked at,
// where Envoy may draw the same one twice.
type leastRequest struct{ list }

// Pick implements Picker.
func (p *leastRequest) Pick(rnd uint64) *Endpoint {
	n := uint64(len(p.list))
	if n == 2 {
		first := rnd >> 63
		return lighter(p.list[first], p.list[first^1], 1, 1, rnd)
	}
	a, b := p.list[rnd>>32*n>>32], p.list[uint64(uint32(rnd))*n>>32]
	if a == b {
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
type weightedLeastRequest struct {
	list
	table   aliasTable
	weights []uint32
}

// Pick implements Picker.
func (p *weightedLeastRequest) Pick(rnd uint64) *Endpoint {
	i, j := p.table.draw(rnd), p.table.draw(rnd<<32)
	if i == j {
		return p.list[i]
	}
	return lighter(p.list[i], p.list[j], int64(p.weights[i]), int64(p.weights[j]), rnd)
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
