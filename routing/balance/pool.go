package balance

import (
	"math/bits"
	"time"
)

// A pool is what the pickers have in common that draw endpoints by weight: how to do so when some are ejected
// or still warming up. Where none is, they do it themselves.
type pool struct {
	list
	weights []uint32   // nil where all are equal
	table   aliasTable // nil where all are equal
	health
	warm warming
}

// health is how a picker takes the health of its endpoints.
type health struct {
	panics    bool // it does not count: too few are healthy
	desperate bool // where none is healthy it does not count
}

// usable reports whether the endpoint may be picked.
func (h health) usable(e *Endpoint) bool { return e.Healthy() || h.panics }

// maxDraws bounds how often a pick draws again before it looks at every endpoint.
const maxDraws = 16

// otherwise is the pick of who has drawn an endpoint that is ejected or warming up: another draw by weight.
// It is nil where no endpoint can be used.
func (p *pool) otherwise(rnd uint64, now time.Duration) *Endpoint {
	if i := p.draw(rnd, now); i >= 0 {
		return p.list[i]
	}
	return nil
}

// draw gives the index of an endpoint in proportion to what its weight is now: nothing while it is ejected,
// less than its own while it warms up. It draws by the weights of old and takes what it has drawn as often as
// that is still right (rejection sampling), and in the end reckons with all. It is -1 where none can be used.
func (p *pool) draw(rnd uint64, now time.Duration) int {
	most := p.warm.most(now)
	for range maxDraws {
		i := p.index(rnd)
		if p.keeps(p.list[i], rnd, now, most) {
			return i
		}
		rnd = mix(rnd)
	}
	if i := p.reckon(rnd, now); i >= 0 || !p.desperate {
		return i
	}
	return p.index(rnd)
}

// keeps decides whether an endpoint that was drawn by its whole weight has it now, where the warmest endpoint
// has that part of its own.
func (p *pool) keeps(e *Endpoint, rnd uint64, now time.Duration, most float64) bool {
	f := p.factor(e, now)
	return f >= most || f > 0 && unit(mix(^rnd))*most < f // other bits than those that drew it
}

// index draws by the weights alone.
func (p *pool) index(rnd uint64) int {
	if p.table == nil {
		i, _ := bits.Mul64(rnd, uint64(len(p.list)))
		return int(i)
	}
	return p.table.draw(rnd)
}

// factor is how much of its weight an endpoint has now, from 0 to 1.
func (p *pool) factor(e *Endpoint, now time.Duration) float64 {
	if !p.usable(e) {
		return 0
	}
	return p.warm.factor(e, now)
}

// reckon draws in one passage over the list: each endpoint takes the place of what was drawn so far with the
// probability that its weight has in the sum so far.
func (p *pool) reckon(rnd uint64, now time.Duration) int {
	drawn, sum := -1, 0.0
	for i, e := range p.list {
		w := p.factor(e, now)
		if p.weights != nil {
			w *= float64(p.weights[i])
		}
		if w == 0 {
			continue
		}
		sum += w
		rnd = mix(rnd)
		if unit(rnd)*sum < w {
			drawn = i
		}
	}
	return drawn
}

// mix makes other random bits of random bits (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// unit makes a number from 0 to less than 1 of random bits.
func unit(rnd uint64) float64 { return float64(rnd>>11) * 0x1p-53 }
